//! Which package and binary a definition means, as cargo would choose them.

use std::collections::BTreeSet;

use cargo_metadata::{Package, Target, TargetKind};

use crate::image::definition::CargoBuild;
use crate::workspace::Workspace;
use tare_tool::document::suggestion;
use tare_tool::exit::Hinted;

/// The package and binary that a definition means.
#[derive(Debug, Clone)]
pub struct Selected<'a> {
    /// The package.
    pub package: &'a Package,
    /// Its binary.
    pub bin: String,
}

/// Finds the package and binary.
///
/// # Errors
/// When there is no such package, binary or feature, or none can be chosen.
pub fn select<'a>(workspace: &'a Workspace, image: &str, build: &CargoBuild) -> Result<Selected<'a>, Hinted> {
    let Some(package) = workspace.package(&build.package) else {
        let with_bins = workspace.packages.iter().filter(|package| !bins(package).is_empty());
        let names: Vec<String> = with_bins.map(|package| package.name.to_string()).collect();
        return Err(Hinted::new(
            format!("image {image}: the workspace has no package `{}`", build.package),
            suggestion(&build.package, &names),
        ));
    };
    let name = package.name.as_str();
    for feature in &build.features {
        let known: Vec<&str> = package.features.keys().map(String::as_str).collect();
        // `dependency/feature` is cargo's to check.
        if !feature.contains('/') && !known.contains(&feature.as_str()) {
            let hint = match known.is_empty() {
                true => "the package has no features".to_owned(),
                false => format!("its features: {}", known.join(", ")),
            };
            let message = format!("image {image}: package `{name}` has no feature `{feature}`");
            return Err(Hinted::new(message, hint));
        }
    }
    let enabled = enabled_features(package, build);
    let missing = |bin: &str| -> Vec<&str> {
        let target = package.targets.iter().find(|target| is_bin(target) && target.name == bin);
        let required = target.map_or(&[][..], |target| &target.required_features);
        // Whether a feature of a dependency is on is known to cargo alone.
        let off = |feature: &&String| !feature.contains('/') && !enabled.contains(*feature);
        required.iter().filter(off).map(String::as_str).collect()
    };
    let all = bins(package);
    let needs_features = |bin: &str| {
        let missing = missing(bin);
        let plural = if missing.len() == 1 { "" } else { "s" };
        let features: Vec<String> =
            build.features.iter().map(String::as_str).chain(missing.iter().copied()).map(quoted).collect();
        Hinted::new(
            format!(
                "image {image}: binary `{bin}` of package `{name}` needs the feature{plural} `{}`",
                missing.join("`, `")
            ),
            format!("`features = [{}]` under [build] in image.toml", features.join(", ")),
        )
    };
    let bins: Vec<&String> = all.iter().filter(|bin| missing(bin).is_empty()).collect();
    let bin = match (&build.bin, bins.as_slice(), &package.default_run) {
        (Some(bin), bins, _) if bins.contains(&bin) => bin.clone(),
        (Some(bin), _, _) if all.contains(bin) => return Err(needs_features(bin)),
        (Some(bin), _, _) => {
            let message = format!("image {image}: package `{name}` has no binary `{bin}`");
            return Err(Hinted::new(message, format!("its binaries: {}", all.join(", "))));
        }
        (None, [], default) => {
            let default = default.as_ref().filter(|default| all.contains(default));
            if let Some(bin) = default.or(all.first()) {
                return Err(needs_features(bin));
            }
            let hint = "a library cannot run in a container; name a package with a src/main.rs";
            return Err(Hinted::new(format!("image {image}: package `{name}` has no binary"), hint));
        }
        (None, [bin], _) => (*bin).clone(),
        (None, bins, Some(default)) if bins.contains(&default) => default.clone(),
        (None, bins, _) if bins.iter().any(|bin| *bin == name) => name.to_owned(),
        (None, bins, _) => {
            let bins: Vec<&str> = bins.iter().map(|bin| bin.as_str()).collect();
            let message =
                format!("image {image}: package `{name}` has several binaries: {}", bins.join(", "));
            return Err(Hinted::new(message, "name one: `bin = \"…\"` under [build] in image.toml"));
        }
    };
    Ok(Selected { package, bin })
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn is_bin(target: &Target) -> bool {
    target.kind.contains(&TargetKind::Bin)
}

/// The names of a package's binaries, sorted.
#[must_use]
pub fn bins(package: &Package) -> Vec<String> {
    let bins = package.targets.iter().filter(|target| is_bin(target));
    let mut bins: Vec<String> = bins.map(|target| target.name.clone()).collect();
    bins.sort();
    bins
}

/// The package's own features that a build turns on, with those that they turn on.
fn enabled_features(package: &Package, build: &CargoBuild) -> BTreeSet<String> {
    let mut waiting: Vec<String> = build.features.clone();
    waiting.extend(build.default_features.then(|| "default".to_owned()));
    let mut enabled = BTreeSet::new();
    while let Some(feature) = waiting.pop() {
        // `dependency/feature` turns on an optional dependency, whose feature has its name.
        if let Some((dependency, _)) = feature.split_once('/').filter(|(name, _)| !name.ends_with('?')) {
            waiting.push(dependency.to_owned());
        }
        if enabled.insert(feature.clone()) {
            waiting.extend(package.features.get(&feature).into_iter().flatten().cloned());
        }
    }
    enabled
}

/// What cargo is told to build: the package's id, because a dependency may have the same name.
pub(super) fn package_spec(package: &Package) -> String {
    let id = &package.id.repr;
    // cargo takes these for a pattern of names; ids from before Rust 1.77 have spaces and are not accepted.
    if id.contains(['*', '?', '[', ']', ' ']) {
        format!("{}@{}", package.name, package.version)
    } else {
        id.clone()
    }
}
