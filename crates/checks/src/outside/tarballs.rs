//! GNU tar and Python's tarfile read the layers, with every kind of file name.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::fixtures::{ODD, fixture, folder_name};
use super::rootfs::{Allowed, Facts, Tree, compare, of_folder, of_image, of_layer, unhex};
use crate::lab::context::Context;
use crate::lab::expect::{json, same};
use tare_oci::digest::Digest;
use tare_tool::process::{Execute as _, cmd};

/// GNU tar unpacks the layers, one over the other, to the expected tree.
pub(super) fn gnu_tar(context: &Context<'_>) -> anyhow::Result<()> {
    for compression in ["none", "gzip", "gzip:1"] {
        let name = folder_name(&format!("tar-{compression}"));
        let built = fixture(context, ODD, &format!("{name}-image"), &["--compression", compression])?;
        let (source, image) = built.read()?;
        let root = context.new_folder(&name)?;
        for layer in &image.layers {
            let gzip: &[&str] = if compression == "none" { &[] } else { &["--gzip"] };
            let (sh, file) = (&context.sh, source.path().join(&layer.file));
            cmd!(sh, "tar --extract {gzip...} --file {file} --directory {root} --numeric-owner --same-owner")
                .args([
                    "--preserve-permissions",
                    "--xattrs",
                    "--xattrs-include=*",
                    "--delay-directory-restore",
                ])
                .capture()?;
        }
        compare(
            &format!("GNU tar, {compression}"),
            &of_folder(&root)?,
            &of_image(&source, &image)?,
            &Allowed::default(),
        )?;
    }
    Ok(())
}

/// One member, as Python reads it.
#[derive(Debug, Deserialize)]
struct Member {
    name: String,
    kind: char,
    mode: u32,
    uid: u64,
    gid: u64,
    mtime: i64,
    size: u64,
    sha256: Option<String>,
    link: Option<String>,
    attributes: BTreeMap<String, String>,
}

const SCRIPT: &str = r#"
import hashlib, json, os, sys, tarfile
members = []
with tarfile.open(sys.argv[1], encoding="utf-8", errors="surrogateescape") as tar:
    for m in tar:
        content = tar.extractfile(m).read() if m.isreg() else None
        prefix = "SCHILY.xattr."
        members.append({
            "name": os.fsencode(m.name).hex(),
            "kind": "d" if m.isdir() else "l" if m.issym() else "-" if m.isreg() else "?",
            "mode": m.mode, "uid": m.uid, "gid": m.gid, "mtime": int(m.mtime), "size": m.size,
            "sha256": None if content is None else "sha256:" + hashlib.sha256(content).hexdigest(),
            "link": os.fsencode(m.linkname).hex() if m.issym() else None,
            "attributes": {k[len(prefix):]: os.fsencode(v).hex() for k, v in m.pax_headers.items() if k.startswith(prefix)},
        })
json.dump(members, sys.stdout)
"#;

/// Python's tarfile lists what our reader lists, in the same order.
pub(super) fn python(context: &Context<'_>) -> anyhow::Result<()> {
    let built = fixture(context, ODD, "python-image", &[])?;
    let (source, image) = built.read()?;
    for layer in &image.layers {
        let path = source.path().join(&layer.file);
        let sh = &context.sh;
        let output = cmd!(sh, "python3 -c {SCRIPT} {path}").env("PYTHONUTF8", "1").capture()?;
        let members: Vec<Member> = serde_json::from_value(json("python3", &output)?)?;
        let names: Vec<Vec<u8>> = members.iter().map(|m| unhex(&m.name)).collect::<Result<_, _>>()?;
        anyhow::ensure!(names.is_sorted(), "{} is not sorted", path.display());
        let found = members.iter().map(facts).collect::<anyhow::Result<Tree>>()?;
        same("number of members", &members.len(), &found.len())?;
        compare("Python's tarfile", &found, &of_layer(&source, layer)?, &Allowed::default())?;
    }
    Ok(())
}

fn facts(member: &Member) -> anyhow::Result<(Vec<u8>, Facts)> {
    let name = unhex(&member.name)?;
    let name = if name == b"." { Vec::new() } else { name };
    let attributes = member.attributes.iter();
    let attributes = attributes.map(|(name, value)| Ok((name.clone().into_bytes(), unhex(value)?)));
    let content = match &member.sha256 {
        Some(digest) => Some((digest.parse::<Digest>()?, member.size)),
        None => None,
    };
    let facts = Facts {
        kind: member.kind,
        mode: member.mode,
        owner: (member.uid, member.gid),
        mtime: member.mtime,
        content,
        link: member.link.as_deref().map(unhex).transpose()?,
        attributes: attributes.collect::<anyhow::Result<_>>()?,
    };
    Ok((name, facts))
}
