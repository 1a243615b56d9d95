//! `inspect --validate` finds valid what other tools write, and `inspect` shows the image in it.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::crane;
use super::podman::Podman;
use crate::lab::context::{Built, Context, SAMPLE};
use crate::lab::docker::{Docker, Store};
use crate::lab::expect::same;
use tare_tool::process::{Execute as _, cmd};

/// The notes of `inspect --validate`, which must find no problem.
fn notes(context: &Context<'_>, image: &Path) -> anyhow::Result<Vec<String>> {
    let (sh, program) = (&context.sh, &context.program);
    let shown = image.display();
    let (code, output) = cmd!(sh, "{program} inspect --validate --json {image}").capture_with_code()?;
    let report: Value = serde_json::from_slice(&output).with_context(|| format!("{shown}: no report"))?;
    anyhow::ensure!(code == Some(0), "{shown} is not valid: {}", report["problems"]);
    let notes = report["notes"].as_array().with_context(|| format!("{shown}: no notes"))?;
    Ok(notes.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// An image is valid, without anything beside it, and is the one that was to be written.
fn valid(context: &Context<'_>, image: &Path, diff_ids: &[String]) -> anyhow::Result<()> {
    let (sh, program) = (&context.sh, &context.program);
    same(&format!("notes about {}", image.display()), &notes(context, image)?, &Vec::new())?;
    let inspected: Value = serde_json::from_slice(&cmd!(sh, "{program} inspect --json {image}").capture()?)?;
    let layers = inspected[0]["layers"].as_array().into_iter().flatten();
    let found: Vec<String> = layers.filter_map(|layer| layer["diffId"].as_str()).map(str::to_owned).collect();
    same(&format!("diff ids of {}", image.display()), &found, &diff_ids.to_vec())
}

/// skopeo, of one platform and of all.
pub(super) fn skopeo(context: &Context<'_>) -> anyhow::Result<()> {
    let (folder, sh) = (context.new_folder("written-skopeo")?, &context.sh);
    let both = context.both()?;
    let from = both.layout_as("oci", ":latest");
    for (name, transport, all) in [
        ("one", "oci", None),
        ("one.tar", "oci-archive", None),
        ("docker.tar", "docker-archive", None),
        ("all", "oci", Some("--all")),
        ("all.tar", "oci-archive", Some("--all")),
    ] {
        let place = folder.join(name);
        let to = format!("{transport}:{}:written:1", place.display());
        cmd!(sh, "skopeo --insecure-policy copy --quiet {all...} {from} {to}").capture()?;
        valid(context, &place, &both.diff_ids()?)?;
    }
    // An index of two platforms where the blobs of one platform are absent.
    let sparse = folder.join("all");
    let other = both.platforms.get(1).context("there is one platform")?;
    fs::remove_file(sparse.join(tare_oci::blob::blob_path(&other.digest)))?;
    let note = format!("{} is listed, but not carried: {}", other.platform, other.digest);
    same("the platform that is not there", &notes(context, &sparse)?, &vec![note])
}

/// umoci makes an image anew.
pub(super) fn umoci(context: &Context<'_>) -> anyhow::Result<()> {
    let (folder, sh) = (context.new_folder("written-umoci")?, &context.sh);
    let layout = folder.join("layout");
    let image = format!("{}:new", layout.display());
    cmd!(sh, "umoci init --layout {layout}").capture()?;
    cmd!(sh, "umoci new --image {image}").capture()?;
    valid(context, &layout, &[])?;
    let file = folder.join("file");
    fs::write(&file, "content")?;
    cmd!(sh, "umoci insert --image {image} {file} /etc/file").capture()?;
    cmd!(sh, "umoci config --image {image} --config.user 65534:65534 --config.volume /data").capture()?;
    same("notes", &notes(context, &layout)?, &Vec::new())
}

/// crane appends a layer to nothing.
pub(super) fn crane(context: &Context<'_>) -> anyhow::Result<()> {
    let (folder, sh) = (context.new_folder("written-crane")?, &context.sh);
    let (layer, archive) = (folder.join("layer.tar"), folder.join("image.tar"));
    let file = folder.join("file");
    fs::write(&file, "content")?;
    cmd!(sh, "tar --create --file {layer} --directory {folder} file").capture()?;
    cmd!(sh, "crane append --new_layer {layer} --new_tag written:1 --output {archive}").capture()?;
    // It has no platform: nothing is its base.
    let about: Vec<bool> = notes(context, &archive)?.iter().map(|note| note.ends_with(" is empty")).collect();
    same("notes", &about, &vec![true, true])
}

/// ko builds a program in Go onto a base in a registry: a layout and an archive.
pub(super) fn ko(context: &Context<'_>) -> anyhow::Result<()> {
    const ADDRESS: &str = "127.0.0.1:5000";
    let folder = context.new_folder("written-ko")?;
    fs::write(folder.join("go.mod"), "module example.org/hello\n\ngo 1.21\n")?;
    fs::write(folder.join("main.go"), "package main\n\nfunc main() {}\n")?;
    let registry = crane::serve(context, ADDRESS, &folder)?;
    let sample = context.sample()?;
    let base = format!("{ADDRESS}/base:1");
    registry.inside("crane").args(["push", &sample.layout.display().to_string(), &base]).capture()?;
    registry
        .inside("env")
        .args(["-C".as_ref(), folder.as_os_str()])
        .args(["GOPROXY=off", "GOFLAGS=-mod=mod"])
        .args([format!("KO_DEFAULTBASEIMAGE={base}"), format!("KO_DOCKER_REPO={ADDRESS}/out")])
        .args(["ko", "build", "--oci-layout-path", "layout", "--tarball", "image.tar", "."])
        .capture()?;
    for name in ["layout", "image.tar"] {
        same(&format!("notes about {name}"), &notes(context, &folder.join(name))?, &Vec::new())?;
    }
    drop(registry);
    Ok(())
}

/// podman saves in its three forms.
pub(super) fn podman(context: &Context<'_>) -> anyhow::Result<()> {
    let (folder, sample) = (context.new_folder("written-podman")?, context.sample()?);
    let podman = Podman::new(context)?;
    podman.load(&sample.archive)?;
    for (name, format) in [("docker.tar", "docker-archive"), ("oci.tar", "oci-archive"), ("oci", "oci-dir")] {
        let place = folder.join(name);
        podman.save(format, &place, "app:latest")?;
        valid(context, &place, &sample.diff_ids()?)?;
    }
    Ok(())
}

/// `docker save` of docker 20.10.
pub(super) fn docker_classic(context: &Context<'_>) -> anyhow::Result<()> {
    let docker = Docker::start(context, Store::Classic)?;
    save(context, &docker, context.sample()?, "one")?;
    docker.daemon.end()
}

/// `docker save` of docker 29, of one platform and several, and what BuildKit in it writes with attestations.
pub(super) fn docker_containerd(context: &Context<'_>) -> anyhow::Result<()> {
    let docker = Docker::start(context, Store::Containerd)?;
    save(context, &docker, context.sample()?, "one")?;
    docker.read(&["image", "rm", "app:latest"])?;
    save(context, &docker, context.both()?, "both")?;
    docker.daemon.end()
}

fn save(context: &Context<'_>, docker: &Docker, built: &Built, name: &str) -> anyhow::Result<()> {
    let folder = context.new_folder(&format!("written-docker-{name}"))?;
    docker.load(&built.archive)?;
    let archive = folder.join("saved.tar");
    docker.read(&["save", "--output", &archive.display().to_string(), &format!("{SAMPLE}:latest")])?;
    valid(context, &archive, &built.diff_ids()?)
}

/// buildx, with and without attestations, as an archive of each kind.
pub(super) fn buildx(context: &Context<'_>) -> anyhow::Result<()> {
    let docker = Docker::start(context, Store::Containerd)?;
    let folder = context.new_folder("written-buildx")?;
    fs::write(folder.join("Dockerfile"), "FROM scratch\nCOPY file /file\nUSER 65534:65534\nVOLUME /data\n")?;
    fs::write(folder.join("file"), "content")?;
    let sh = &context.sh;
    for (name, kind, provenance, attestations) in [
        ("plain.tar", "oci", "false", 0),
        ("attested.tar", "oci", "mode=max", 1),
        ("docker.tar", "docker", "false", 0),
    ] {
        let place = folder.join(name);
        let output = format!("type={kind},dest={}", place.display());
        let build = cmd!(
            sh,
            "buildx build --quiet --provenance={provenance} --output {output} --tag written:1 {folder}"
        );
        docker.client(build).capture()?;
        let notes = notes(context, &place)?;
        same(&format!("attestations of {name}"), &notes.len(), &attestations)?;
        let are_attestations = notes.iter().all(|note| note.starts_with("attestation sha256:"));
        anyhow::ensure!(are_attestations, "{name}: {notes:?}");
    }
    docker.daemon.end()
}
