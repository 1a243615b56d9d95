//! Images of registries in the cache `pulled`. The part `tare-publish`, which is built on first use, fetches them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tare_oci::digest::Digest;
use tare_oci::reader::{Source, images};
use tare_tool::cache;
use tare_tool::environment::Environment;
use tare_tool::exit::Hinted;
use tare_tool::process::{Execute as _, Shell, cmd};
use tare_tool::toolkit::Part;
use tare_tool::ui::Ui;

use crate::image::lock::lock;
use crate::workspace::Workspace;

/// The age at which an image of a registry is removed from the cache. Each use of it changes its folder.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Fetches an image from a registry into the cache. Returns its layout.
///
/// # Errors
/// When the part cannot be built, or the image cannot be fetched.
pub fn fetch(
    reference: &str,
    platform: Option<&str>,
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<PathBuf> {
    let platform = platform.map(|platform| ["--platform", platform]);
    let words = platform.as_ref().map_or(&[][..], |words| words);
    pull(reference, words, workspace, env, ui)
}

/// The same for one platform, with the reports that are attached to the image ([`tare_tool::plan::reports`]).
///
/// # Errors
/// As [`fetch`].
pub fn fetch_with_reports(
    reference: &str,
    platform: &str,
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<PathBuf> {
    pull(reference, &["--platform", platform, "--reports"], workspace, env, ui)
}

fn pull(
    reference: &str,
    words: &[&str],
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<PathBuf> {
    let program = workspace.toolkit(env).build(Part::Publish, env, ui)?;
    let cache = cache::folder(&workspace.cache_dir(), "pulled")?;
    cache::sweep(&cache, UNUSED);
    cache::prune(&[&cache], cache::LIMIT);
    let reference = reference.strip_prefix("docker://").unwrap_or(reference);
    let sh = Shell::new()?;
    let mut layout = None;
    let pulled = cmd!(sh, "{program} pull {reference} --cache {cache} {words...}")
        .for_each_line(|line| layout = Some(PathBuf::from(line)))?;
    match layout {
        Some(layout) if pulled => Ok(layout),
        _ => Err(Hinted::new(
            format!("{reference} cannot be fetched"),
            "what begins with a host is an image in a registry; a path begins with ./ or /",
        )
        .into()),
    }
}

/// The layout of one platform of an image that is known by its digest: from the cache, which needs no network, or else
/// fetched. Runs of the same workspace wait for each other.
///
/// # Errors
/// When it has to be fetched, and cannot be.
pub fn image(
    (reference, digest): (&str, Digest),
    platform: &str,
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<PathBuf> {
    let _lock = lock(&workspace.cache("locks")?, "pulled", || {
        ui.status("Blocking", "until another run has fetched its base image");
    })?;
    let name = cache::pulled_name(&digest.to_string(), Some(platform));
    let layout = workspace.cache("pulled")?.join(name);
    if is_whole(&layout) {
        // What was used longest ago is removed first. A read-only cache still works.
        let _ = File::open(&layout).and_then(|folder| folder.set_modified(SystemTime::now()));
        return Ok(layout);
    }
    if env.offline().is_some() {
        let message = format!("{reference} is not in the cache, and this run may not use the network");
        return Err(Hinted::new(message, "run it once without --offline and CARGO_NET_OFFLINE").into());
    }
    fetch(reference, Some(platform), workspace, env, ui)
}

/// Whether a layout has every blob in its length. Digests are checked when the blobs are read.
fn is_whole(layout: &Path) -> bool {
    let Ok(source) = Source::open(layout) else { return false };
    let blobs = |source: &Source| {
        let found = images(source).ok()?;
        let mut layers = found.iter().flat_map(|image| &image.layers);
        Some(layers.all(|layer| layer.descriptor.map(|blob| blob.size) == source.size(&layer.file)))
    };
    blobs(&source).unwrap_or(false)
}

/// What refers to an image in a registry, a line each: digest, type and size, then the figures of a report.
///
/// # Errors
/// When the part cannot be built, or the registry does not answer.
pub fn referrers(
    reference: &str,
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<Vec<String>> {
    let program = workspace.toolkit(env).build(Part::Publish, env, ui)?;
    let reference = reference.strip_prefix("docker://").unwrap_or(reference);
    let sh = Shell::new()?;
    let listed = cmd!(sh, "{program} referrers {reference}").capture_text()?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// The digests to which references in registries lead now, in their order.
///
/// # Errors
/// When the part cannot be built, or a reference leads to nothing.
pub fn digests(
    references: &[String],
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<Vec<Digest>> {
    let program = workspace.toolkit(env).build(Part::Publish, env, ui)?;
    let sh = Shell::new()?;
    let mut found = Vec::new();
    let answered = cmd!(sh, "{program} digest --quiet {references...}")
        .for_each_line(|line| found.extend(line.trim().parse::<Digest>().ok()))?;
    if !answered || found.len() != references.len() {
        let hint =
            "check the references with `base =` in images/*/image.toml, and the login to their registries";
        return Err(Hinted::new("not every base image was found in its registry", hint).into());
    }
    Ok(found)
}
