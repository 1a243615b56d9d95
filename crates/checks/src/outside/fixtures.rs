//! A workspace of artificial images with extreme content and parameters.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::lab::context::{Built, Context, MadeUp};

/// An image with every kind of content.
pub(super) const ODD: &str = "odd";
/// An image with every parameter.
pub(super) const FULL: &str = "full";
/// A name with a compression in it as that of a folder: some tools take a colon in a path for that of a tag.
pub(super) fn folder_name(name: &str) -> String {
    name.replace(':', "-")
}

/// The time of both: not 0, which readers may take for an absent one.
const TIME: u64 = 1_700_000_000;

/// The content that goes wrong most often: names that are long, that are not ASCII, not UTF-8, or look
/// like something else; links; modes and owners beyond the usual; a file of several gzip members.
pub(super) const ODD_TOML: &str = r#"
[build]
output = "server"

[[layers]]
name = "base"
entries = [{ skeleton = true }, { ca-certificates = true }, { zoneinfo = true }]

[[layers]]
name = "application"
entries = [
  { binary = "/app/server", mode = "0755", capabilities = "cap_net_bind_service=ep" },
  { tree = "/data", from = "tree", owner = "1000:1001" },
  { dir = "/var/lib/odd", mode = "2750", owner = "65532:65534" },
  { dir = "/owner", owner = "3000000:4294967294" },
  { symlink = "/current", to = "/data/link" },
  { file = "/set-user-id", from = "image.toml", mode = "4711" },
]

[[layers]]
name = "more"
entries = [{ file = "/data/more", from = "image.toml", mode = "0400", owner = "nobody" }]
"#;

/// Every parameter that a container can start with.
const FULL_TOML: &str = r#"
[build]
output = "server"

[config]
entrypoint = ["/srv/server"]
env = { FIRST = "1", SECOND = "two words, ü and = and \"quotes\"" }
user = "65532:65533"
working-dir = "/var/lib/full"
exposed-ports = [60000, "53/udp"]
volumes = ["/var/lib/full"]
labels = { "org.example.label" = "ü, \"quoted\"", empty = "" }
stop-signal = "SIGINT"

[config.healthcheck]
test = ["CMD", "/srv/server", "--health"]
interval = "1s"
timeout = "20s"
start-period = "1m30s"
start-interval = "500ms"
retries = 7

[[layers]]
name = "application"
entries = [{ binary = "/srv/server" }]
"#;

/// The parameters of `full` as its definition says them, in the words of the image spec's config; of
/// environment and labels those that it names.
pub(super) fn full_config() -> Value {
    let second = |seconds: u64| seconds * 1_000_000_000;
    json!({
        "User": "65532:65533",
        "ExposedPorts": {"53/udp": {}, "60000/tcp": {}},
        "Env": ["FIRST=1", "SECOND=two words, ü and = and \"quotes\""],
        "Entrypoint": ["/srv/server"],
        "Volumes": {"/var/lib/full": {}},
        "WorkingDir": "/var/lib/full",
        "Labels": {"org.example.label": "ü, \"quoted\"", "empty": ""},
        "StopSignal": "SIGINT",
        "Healthcheck": {
            "Test": ["CMD", "/srv/server", "--health"],
            "Interval": second(1),
            "Timeout": second(20),
            "StartPeriod": second(90),
            "StartInterval": second(1) / 2,
            "Retries": 7,
        },
    })
}

/// What lies in the folder that `odd` takes over as `/data`.
#[derive(Debug)]
pub(super) enum Node {
    Folder,
    File(Vec<u8>),
    Program(Vec<u8>),
    Link(Vec<u8>),
}

/// All of it by path; folders come before what is in them.
pub(super) fn odd_tree() -> BTreeMap<Vec<u8>, Node> {
    // Longer than ustar's name and prefix together.
    let outer = "long-".repeat(40);
    let inner = format!("{outer}/{}", "folder-".repeat(20));
    let deep = format!("{inner}/file");
    // More than twice what one gzip member holds.
    let large: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 65_521 % 251) as u8).collect();
    let file = |name: &[u8]| (name.to_vec(), Node::File(name.to_vec()));
    let link = |name: &[u8], target: &[u8]| (name.to_vec(), Node::Link(target.to_vec()));
    BTreeMap::from([
        file(b"na\xc3\xafve \xe6\x97\xa5.txt"),
        file(b"latin-\xe9-\xff"),
        file(b"new\nline"),
        file(b"-dash and space "),
        file(b"back\\slash"),
        file(b"100%=1"),
        link(b"link", b"na\xc3\xafve \xe6\x97\xa5.txt"),
        link(b"link-\xe9", b"latin-\xe9-\xff"),
        link(b"dangling", b"nowhere"),
        link(b"long-link", deep.as_bytes()),
        (outer.into_bytes(), Node::Folder),
        (inner.into_bytes(), Node::Folder),
        file(deep.as_bytes()),
        (b"empty folder".to_vec(), Node::Folder),
        (b"empty".to_vec(), Node::File(Vec::new())),
        (b"program".to_vec(), Node::Program(b"#!\n".to_vec())),
        (b"large".to_vec(), Node::File(large)),
    ])
}

/// Builds one of the two images into a folder of its own.
pub(super) fn fixture(
    context: &Context<'_>,
    name: &str,
    folder: &str,
    arguments: &[&str],
) -> anyhow::Result<Built> {
    let root = context.folder().join("fixtures");
    if !root.exists() {
        write(&context.made_up("fixtures")?, &fs::read(&context.sample()?.first()?.binary)?)
            .with_context(|| format!("cannot write {}", root.display()))?;
    }
    let command = context.xtask(&root).env("SOURCE_DATE_EPOCH", TIME.to_string());
    context.build_with(command, name, folder, arguments)
}

/// Writes both; `server` is their program.
fn write(workspace: &MadeUp, server: &[u8]) -> anyhow::Result<()> {
    workspace.image(ODD, ODD_TOML, server)?;
    workspace.image(FULL, FULL_TOML, server)?;
    let tree = workspace.folder(ODD).join("tree");
    fs::create_dir(&tree)?;
    for (name, node) in odd_tree() {
        let path = tree.join(OsStr::from_bytes(&name));
        match node {
            Node::Folder => fs::create_dir(path)?,
            Node::File(content) => fs::write(path, content)?,
            Node::Program(content) => {
                fs::write(&path, content)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
            }
            Node::Link(target) => symlink(OsStr::from_bytes(&target), path)?,
        }
    }
    Ok(())
}
