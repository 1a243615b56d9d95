//! skopeo copies images to every format that it supports, and back.

use std::path::Path;

use anyhow::Context as _;

use crate::lab::context::{Context, SAMPLE};
use crate::lab::expect::{at, json, same};
use tare_oci::digest::Digest;
use tare_oci::reader::{ReadImage, Source, images};
use tare_tool::process::{Execute as _, ProcessError, cmd};

/// What skopeo prints, without the host's policy on signatures.
fn skopeo(context: &Context<'_>, arguments: &[&str]) -> Result<Vec<u8>, ProcessError> {
    let sh = &context.sh;
    cmd!(sh, "skopeo --insecure-policy {arguments...}").capture()
}

fn read_one(path: &Path) -> anyhow::Result<(Source, ReadImage)> {
    let source = Source::open(path)?;
    let found = images(&source)?;
    anyhow::ensure!(found.len() == 1, "{} holds {} images", path.display(), found.len());
    let image = found.into_iter().next().context("no image")?;
    Ok((source, image))
}

fn manifest_digest(image: &ReadImage) -> Option<Digest> {
    image.manifest.as_ref().map(|(descriptor, _)| descriptor.digest)
}

/// An image comes through every form with its digest, or where the form has none with its layers.
pub(super) fn copies(context: &Context<'_>) -> anyhow::Result<()> {
    let sample = context.sample()?;
    let expected = sample.first()?;
    let folder = context.new_folder("skopeo")?;
    let path = |name: &str| folder.join(name);
    let place =
        |transport: &str, name: &str, rest: &str| format!("{transport}:{}{rest}", path(name).display());

    let layers: Vec<String> = expected.layers.iter().map(|layer| layer.digest.to_string()).collect();
    for from in [sample.layout_as("oci", ":latest"), sample.archive_as("oci-archive", ":latest")] {
        let output = json("skopeo", &skopeo(context, &["inspect", &from])?)?;
        same(&format!("digest of {from}"), at(&output, "/Digest"), &sample.digest.to_string().into())?;
        same(&format!("layers of {from}"), at(&output, "/Layers"), &layers.clone().into())?;
    }

    // OCI to OCI: not a byte of the manifest changes. The last two go through others' files.
    for (name, from, to) in [
        ("one", sample.layout_as("oci", ":latest"), place("oci", "one", ":x")),
        ("two", sample.archive_as("oci-archive", ":latest"), place("oci", "two", ":x")),
        ("three.tar", sample.archive_as("oci-archive", ""), place("oci-archive", "three.tar", ":x")),
        ("four", place("oci-archive", "three.tar", ":x"), place("oci", "four", ":x")),
    ] {
        skopeo(context, &["copy", "--quiet", &from, &to])?;
        let (source, image) = read_one(&path(name))?;
        same(&format!("digest of {from} as {to}"), &manifest_digest(&image), &Some(sample.digest))?;
        let config = Digest::of(&source.read(&image.config_file)?);
        same(&format!("image id of {from} as {to}"), &config, &expected.image_id)?;
    }

    // Docker's archives have no manifest and hold the layers uncompressed; the config stays as it is.
    for (name, from) in [
        ("docker-1.tar", sample.archive_as("docker-archive", &format!(":{SAMPLE}:latest"))),
        ("docker-2.tar", sample.archive_as("docker-archive", "")),
        ("docker-3.tar", place("docker-archive", "docker-2.tar", "")),
        ("docker-4.tar", sample.archive_as("oci-archive", ":latest")),
    ] {
        let to = place("docker-archive", name, &format!(":{SAMPLE}:again"));
        skopeo(context, &["copy", "--quiet", &from, &to])?;
        let (source, image) = read_one(&path(name))?;
        let diff_ids: Vec<String> = image.config.diff_ids.iter().map(ToString::to_string).collect();
        same(&format!("diff ids of {from} as {name}"), &diff_ids, &sample.diff_ids()?)?;
        let names = vec![format!("docker.io/library/{SAMPLE}:again")];
        let short = vec![format!("{SAMPLE}:again")];
        anyhow::ensure!(image.names == names || image.names == short, "{name} is called {:?}", image.names);
        for (layer, diff_id) in image.layers.iter().zip(sample.diff_ids()?) {
            let tar = Digest::of_reader(source.stream(&layer.file)?)?.0.to_string();
            same(&format!("layer {} of {name}", layer.file), &tar, &diff_id)?;
        }
        if from.starts_with("docker-archive") {
            let config = Digest::of(&source.read(&image.config_file)?);
            same(&format!("image id of {from} as {name}"), &config, &expected.image_id)?;
        }
    }

    // And from docker's form back to OCI, which makes a new config but no new layers.
    let (from, to) = (place("docker-archive", "docker-1.tar", ""), place("oci", "back", ":x"));
    skopeo(context, &["copy", "--quiet", &from, &to])?;
    let (_, image) = read_one(&path("back"))?;
    let diff_ids: Vec<String> = image.config.diff_ids.iter().map(ToString::to_string).collect();
    same("diff ids after docker-archive and back", &diff_ids, &sample.diff_ids()?)?;

    // All platforms at once: the index keeps its digest.
    let both = context.both()?;
    for (name, from) in
        [("both-1", both.layout_as("oci", ":latest")), ("both-2", both.archive_as("oci-archive", ":latest"))]
    {
        skopeo(context, &["copy", "--quiet", "--all", &from, &place("oci", name, ":x")])?;
        let index = json("index.json", &Source::open(&path(name))?.read("index.json")?)?;
        same(
            &format!("digest of {from}"),
            at(&index, "/manifests/0/digest"),
            &both.digest.to_string().into(),
        )?;
        let found: Vec<Option<Digest>> =
            images(&Source::open(&path(name))?)?.iter().map(manifest_digest).collect();
        let expected: Vec<Option<Digest>> =
            both.platforms.iter().map(|platform| Some(platform.digest)).collect();
        same(&format!("platforms of {from}"), &found, &expected)?;
    }
    Ok(())
}

/// Every `--tag` finds the image.
pub(super) fn tags(context: &Context<'_>) -> anyhow::Result<()> {
    let tags = ["registry.example/team/app:1.0", "registry.example:5000/app:latest", "other:2"];
    let arguments: Vec<&str> = tags.iter().flat_map(|tag| ["--tag", tag]).collect();
    let tagged = context.build(SAMPLE, "tagged", &arguments)?;
    same("digest with other tags", &tagged.digest, &context.sample()?.digest)?;
    let id = &tagged.first()?.image_id;
    for (tag, full) in tags.iter().zip(["", "", "docker.io/library/"]) {
        let (_, short) = tag.rsplit_once(':').context("no tag")?;
        // The reference names of a layout are tags alone.
        for from in [
            tagged.layout_as("oci", &format!(":{short}")),
            tagged.archive_as("oci-archive", &format!(":{short}")),
        ] {
            let output = json("skopeo", &skopeo(context, &["inspect", &from])?)?;
            same(&format!("digest of {from}"), at(&output, "/Digest"), &tagged.digest.to_string().into())?;
        }
        let from = tagged.archive_as("docker-archive", &format!(":{full}{tag}"));
        let config = skopeo(context, &["inspect", "--config", "--raw", &from])?;
        same(&format!("image id of {from}"), &Digest::of(&config), id)?;
    }
    Ok(())
}
