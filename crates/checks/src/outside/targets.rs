//! One image, found by every name that it can have.

use std::collections::BTreeMap;

use serde_json::Value;

use super::context::{Context, SAMPLE};
use super::docker::{Docker, Store};
use super::expect::same;
use super::podman::Podman;
use super::weighing::{Scale, bare, bare_program, figures};

/// Of every origin the image holds the same. (How it is compressed a store may change.)
pub(super) fn targets(context: &Context<'_>) -> anyhow::Result<()> {
    let sample = context.sample()?;
    let scale = Scale::new(context, "targets")?;
    let docker = Docker::start(context, Store::Classic)?;
    docker.load(&sample.archive)?;
    let podman = Podman::new(context)?;
    podman.load(&sample.archive)?;
    let size = ["--pass", "size"];
    let layout = sample.layout.display().to_string();
    let expected = held(&scale.profile(context, bare(), &layout, &size)?);
    anyhow::ensure!(expected.len() == KEPT.len(), "the layout has but {expected:?}");
    let named = [
        (bare(), sample.layout_as("oci", "")),
        (bare(), sample.layout_as("oci", ":latest")),
        (bare(), sample.archive_as("oci-archive", "")),
        (bare(), sample.archive_as("docker-archive", "")),
        (bare(), sample.archive.display().to_string()),
        (docker.client(bare()), format!("docker-daemon:{SAMPLE}:latest")),
        (podman.client(bare_program()), format!("containers-storage:{SAMPLE}:latest")),
    ];
    for (around, name) in named {
        let report = scale.profile(context, around, &name, &size)?;
        same(&name, &held(&report), &expected)?;
    }
    Ok(())
}

/// What does not depend on how layers are compressed.
const KEPT: [&str; 5] =
    ["size.image.uncompressed", "size.image.files", "size.image.layers", "size.binary.file", "size.packages"];

fn held(report: &Value) -> BTreeMap<String, f64> {
    figures(report).into_iter().filter(|(key, _)| KEPT.contains(&key.as_str())).collect()
}
