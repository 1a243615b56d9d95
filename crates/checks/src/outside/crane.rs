//! crane and its library go-containerregistry validate archives, and a registry checks the images pushed to it.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::fixtures::{ODD, fixture, folder_name};
use crate::lab::context::{Context, SAMPLE};
use crate::lab::expect::{poll, same};
use crate::lab::namespace::Isolated;
use crate::lab::tools::Tool;
use tare_oci::blob::blob_path;
use tare_tool::process::{Execute as _, cmd};

/// Archives of every kind are valid.
pub(super) fn tarballs(context: &Context<'_>) -> anyhow::Result<()> {
    let mut archives = vec![context.sample()?.archive.clone(), context.both()?.archive.clone()];
    // crane reads no zstd in archives (0.22.1).
    for compression in ["none", "gzip", "gzip:6"] {
        let folder = folder_name(&format!("crane-{compression}"));
        archives.push(fixture(context, ODD, &folder, &["--compression", compression])?.archive.clone());
    }
    let sh = &context.sh;
    for archive in archives {
        let verdict = cmd!(sh, "crane validate --tarball {archive}").capture_text()?;
        same("crane's verdict", &verdict, &format!("PASS: {}", archive.display()))?;
    }
    Ok(())
}

/// Starts a registry with an address of its own network namespace, whose log is in `folder`, and waits until it answers.
pub(super) fn serve(context: &Context<'_>, address: &str, folder: &Path) -> anyhow::Result<Isolated> {
    let crane = context.found.path(Tool::Program("crane"));
    let arguments = ["registry", "serve", "--address", address];
    let mut registry = Isolated::start(&crane, &arguments, &[], &folder.join("log"))?;
    poll("the registry's readiness", || {
        registry.check_running()?;
        Ok(registry.inside("crane").args(["catalog", address]).capture().ok())
    })?;
    Ok(registry)
}

/// Images that other tools push into a registry keep their digests and are valid there.
pub(super) fn registry(context: &Context<'_>) -> anyhow::Result<()> {
    const ADDRESS: &str = "127.0.0.1:5000";
    let folder = context.new_folder("registry")?;
    let registry = serve(context, ADDRESS, &folder)?;
    let crane = |arguments: &[&str]| registry.inside("crane").args(arguments).capture();
    let line = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();

    // A layout of one image, pushed by crane itself.
    let sample = context.sample()?;
    let one = format!("{ADDRESS}/one:latest");
    crane(&["push", &sample.layout.display().to_string(), &one])?;
    same("digest of the layout", &line(crane(&["digest", &one])?), &sample.digest.to_string())?;
    same("verdict", &line(crane(&["validate", "--remote", &one])?), &format!("PASS: {one}"))?;
    let blob = |digest| {
        let path = sample.layout.join(blob_path(digest));
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    same("manifest", &crane(&["manifest", &one])?, &blob(&sample.digest)?)?;
    same("config", &crane(&["config", &one])?, &blob(&sample.first()?.image_id)?)?;

    // crane pushes the index.json of a layout as an index; skopeo pushes the image that it names.
    let both = context.both()?;
    let name = format!("{ADDRESS}/both:latest");
    registry
        .inside("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", "--all", "--dest-tls-verify=false"])
        .args([both.layout_as("oci", ":latest"), format!("docker://{name}")])
        .capture()?;
    same("digest of the index", &line(crane(&["digest", &name])?), &both.digest.to_string())?;
    same("verdict", &line(crane(&["validate", "--remote", &name])?), &format!("PASS: {name}"))?;
    for platform in &both.platforms {
        let digest = line(crane(&["digest", "--platform", &platform.platform, &name])?);
        same(&format!("digest for {}", platform.platform), &digest, &platform.digest.to_string())?;
    }

    // crane does not look into layers with zstd (0.22.1), but carries them.
    let zstd = fixture(context, ODD, "crane-zstd", &["--compression", "zstd"])?;
    let name = format!("{ADDRESS}/zstd:latest");
    crane(&["push", &zstd.layout.display().to_string(), &name])?;
    same("digest with zstd", &line(crane(&["digest", &name])?), &zstd.digest.to_string())?;
    let verdict = crane(&["validate", "--fast", "--remote", &name])?;
    same("verdict", &line(verdict), &format!("PASS: {name}"))?;

    // The files, as crane flattens them.
    let tar = folder.join("files.tar");
    crane(&["export", &one, &tar.display().to_string()])?;
    let sh = &context.sh;
    let names = cmd!(sh, "tar --list --file {tar}").capture_text()?;
    anyhow::ensure!(names.lines().any(|name| name == format!("app/{SAMPLE}")), "no server in: {names}");
    // It is ended by SIGTERM, which it does not handle.
    drop(registry);
    Ok(())
}
