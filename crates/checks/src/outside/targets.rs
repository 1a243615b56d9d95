//! One image, found under every kind of name.

use std::collections::BTreeMap;
use std::path::Path;

use super::podman::Podman;
use crate::lab::context::{Context, SAMPLE};
use crate::lab::docker::{Docker, Store};
use crate::lab::expect::same;
use crate::lab::profile::{Profiler, figures};
use tare_profiler::profile::report::Report;
use tare_tool::process::cmd;

/// Of every origin the image holds the same. (How it is compressed a store may change.)
pub(super) fn targets(context: &Context<'_>) -> anyhow::Result<()> {
    let sample = context.sample()?;
    let profiler = Profiler::new(context, "targets")?;
    let docker = Docker::start(context, Store::Classic)?;
    docker.load(&sample.archive)?;
    let podman = Podman::new(context)?;
    podman.load(&sample.archive)?;
    let (sh, env) = (&context.sh, Path::new("env"));
    let plain = || cmd!(sh, "{env}");
    let size = ["--pass", "size"];
    let layout = sample.layout.display().to_string();
    let expected = held(&profiler.report(plain(), &layout, &size)?);
    anyhow::ensure!(expected.len() == KEPT.len(), "the layout has but {expected:?}");
    let named = [
        (plain(), sample.layout_as("oci", "")),
        (plain(), sample.layout_as("oci", ":latest")),
        (plain(), sample.archive_as("oci-archive", "")),
        (plain(), sample.archive_as("docker-archive", "")),
        (plain(), sample.archive.display().to_string()),
        (docker.client(plain()), format!("docker-daemon:{SAMPLE}:latest")),
        (podman.client(env), format!("containers-storage:{SAMPLE}:latest")),
    ];
    for (prefix, name) in named {
        let report = profiler.report(prefix, &name, &size)?;
        same(&name, &held(&report), &expected)?;
    }
    Ok(())
}

/// What does not depend on how layers are compressed.
const KEPT: [&str; 5] =
    ["size.image.uncompressed", "size.image.files", "size.image.layers", "size.binary.file", "size.packages"];

fn held(report: &Report) -> BTreeMap<String, f64> {
    figures(report).into_iter().filter(|(key, _)| KEPT.contains(&key.as_str())).collect()
}
