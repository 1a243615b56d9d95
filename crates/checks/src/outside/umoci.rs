//! umoci unpacks an image into a bundle, and runc runs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use super::binaries::healthy;
use super::fixtures::{Node, ODD, ODD_TOML, fixture, folder_name, odd_tree};
use super::rootfs::{Allowed, Facts, Tree, compare, of_folder, of_image};
use crate::lab::context::{Context, SAMPLE, SAMPLE_PORT};
use crate::lab::expect::same;
use crate::lab::namespace::{Cgroup, Isolated};
use crate::lab::tools::Tool;
use tare_oci::digest::Digest;
use tare_tool::process::{Execute as _, cmd};

fn unpack_to(context: &Context<'_>, layout: &Path, bundle: &Path) -> anyhow::Result<()> {
    let (sh, image) = (&context.sh, format!("{}:latest", layout.display()));
    cmd!(sh, "umoci unpack --image {image} {bundle}").capture()?;
    Ok(())
}

/// umoci unpacks the tree that the layers describe. (0.4.7 does not support zstd.)
pub(super) fn unpack(context: &Context<'_>) -> anyhow::Result<()> {
    for compression in ["none", "gzip", "gzip:6"] {
        let name = folder_name(&format!("umoci-{compression}"));
        let built = fixture(context, ODD, &format!("{name}-image"), &["--compression", compression])?;
        let (sh, layout) = (&context.sh, &built.layout);
        let tags = cmd!(sh, "umoci list --layout {layout}").capture_text()?;
        same("tags", &tags.as_str(), &"latest")?;
        let bundle = context.folder().join(&name);
        unpack_to(context, &built.layout, &bundle)?;
        let (source, image) = built.read()?;
        let expected = of_image(&source, &image)?;
        let found = of_folder(&bundle.join("rootfs"))?;
        compare(&format!("umoci, {compression}"), &found, &expected, &Allowed::default())?;
        as_defined(&found)?;
    }
    Ok(())
}

/// The layers describe the tree of the definition.
fn as_defined(found: &Tree) -> anyhow::Result<()> {
    let facts = |kind: char, mode: u32, owner: (u64, u64)| Facts {
        kind,
        mode,
        owner,
        mtime: 1,
        content: None,
        link: None,
        attributes: BTreeMap::new(),
    };
    let file = |mode: u32, owner: (u64, u64), content: &[u8]| Facts {
        content: Some((Digest::of(content), content.len() as u64)),
        ..facts('-', mode, owner)
    };
    const DATA: (u64, u64) = (1000, 1001);
    let mut expected = Tree::from([
        (b"data/more".to_vec(), file(0o400, (65534, 65534), ODD_TOML.as_bytes())),
        (b"set-user-id".to_vec(), file(0o4711, (0, 0), ODD_TOML.as_bytes())),
        (b"var/lib/odd".to_vec(), facts('d', 0o2750, (65532, 65534))),
        // Written by two layers.
        (b"data".to_vec(), facts('d', 0o755, DATA)),
        (b"owner".to_vec(), facts('d', 0o755, (3_000_000, 4_294_967_294))),
        (b"tmp".to_vec(), facts('d', 0o1777, (0, 0))),
    ]);
    for (name, node) in odd_tree() {
        let facts = match node {
            Node::Folder => facts('d', 0o755, DATA),
            Node::File(content) => file(0o644, DATA, &content),
            Node::Program(content) => file(0o755, DATA, &content),
            Node::Link(target) => Facts { link: Some(target), ..facts('l', 0o777, DATA) },
        };
        expected.insert([b"data/", &name[..]].concat(), facts);
    }
    let in_data = |tree: &Tree| tree.keys().filter(|path| path.starts_with(b"data/")).count();
    same("the number of files in /data", &in_data(found), &in_data(&expected))?;
    for (path, expected) in &expected {
        same(&path.escape_ascii().to_string(), &found.get(path), &Some(expected))?;
    }
    let server = found.get(&b"app/server"[..]).context("/app/server is missing")?;
    // cap_net_bind_service is number 10 (capabilities(7)).
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    same("its capabilities", &server.attributes, &[(b"security.capability".to_vec(), capability)].into())
}

/// The sample serves as `nobody`, from a file system that cannot be written, with no capability at all.
pub(super) fn run(context: &Context<'_>) -> anyhow::Result<()> {
    let bundle = context.folder().join("runc");
    unpack_to(context, &context.sample()?.layout, &bundle)?;
    let cgroup = Cgroup::new(context.unique());
    edit_config(&bundle.join("config.json"), &cgroup)?;

    let bundle_path = bundle.display().to_string();
    let state = bundle.join("state").display().to_string();
    let runc = context.found.path(Tool::Program("runc"));
    let arguments = ["--root", &state, "run", "--bundle", &bundle_path, "sample"];
    let mut container = Isolated::start(&runc, &arguments, &[], &bundle.join("log"))?;
    same("the answer", &container.wait_for(SAMPLE_PORT, "/health")?, &healthy())?;
    let id = container.process_of(&format!("/app/{SAMPLE}")).context("the server's process is not there")?;
    same("its identity", &Identity::of(id)?, &Identity::nobody())?;
    container.end()
}

/// As whom and with what rights a process runs: lines of `/proc/ID/status`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Real, effective, saved, file system.
    pub(super) users: String,
    pub(super) groups: String,
    pub(super) capabilities: String,
    pub(super) no_new_privileges: String,
}

impl Identity {
    pub(super) fn new(user: u32, group: u32) -> Self {
        let four = |id: u32| format!("{id}\t{id}\t{id}\t{id}");
        Self {
            users: four(user),
            groups: four(group),
            capabilities: "0".repeat(16),
            no_new_privileges: "1".to_owned(),
        }
    }

    fn nobody() -> Self {
        Self::new(65534, 65534)
    }

    pub(super) fn of(id: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{id}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
            line.map(str::to_owned).with_context(|| format!("{path} has no {name}"))
        };
        Ok(Self {
            users: field("Uid")?,
            groups: field("Gid")?,
            capabilities: field("CapEff")?,
            no_new_privileges: field("NoNewPrivs")?,
        })
    }
}

/// Makes umoci's bundle as strict as it can be, and puts it where nothing else is. The network is that
/// of the namespace which it is started in.
fn edit_config(path: &Path, cgroup: &Cgroup) -> anyhow::Result<()> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut config: serde_json::Value = serde_json::from_slice(&text)?;
    // From the image.
    let process = &config["process"];
    same("user", &process["user"], &json!({"uid": 65534, "gid": 65534}))?;
    same("arguments", &process["args"], &json!([format!("/app/{SAMPLE}")]))?;
    same("current directory", &process["cwd"], &json!("/"))?;
    config["process"]["terminal"] = json!(false);
    config["process"]["capabilities"] = json!({});
    config["root"]["readonly"] = json!(true);
    config["linux"]["cgroupsPath"] = json!(format!("/{}/runc", cgroup.name()));
    let namespaces = config["linux"]["namespaces"].as_array_mut().context("config.json has no namespaces")?;
    namespaces.retain(|namespace| namespace["type"] != "network");
    fs::write(path, config.to_string()).with_context(|| format!("cannot write {}", path.display()))
}
