//! `cargo xtask update`: pins the digests of base images.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;

use super::Outcome;
use super::image::read_definition;
use crate::image::definition::base::{BaseReference, RegistryReference};
use crate::image::lock::lock;
use crate::image::pins::Pins;
use crate::pulled;
use crate::workspace::Workspace;
use tare_oci::blob::Staging;
use tare_tool::document::nearest;
use tare_tool::environment::Environment;
use tare_tool::exit::Hinted;
use tare_tool::ui::Ui;

#[derive(Debug, Args)]
#[command(after_help = "\
Prints each base image with its old and its new digest. A base that image.toml itself names by a digest is left alone.")]
pub(super) struct UpdateArguments {
    /// Images whose bases are pinned [default: all images of the workspace]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Print what would change, and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(arguments: &UpdateArguments, env: &Environment, ui: Ui) -> anyhow::Result<Outcome> {
    let workspace = Workspace::find(env)?;
    let known = workspace.image_names()?;
    if let Some(name) = arguments.names.iter().find(|name| !known.contains(name)) {
        let meant = nearest(name, &known).map(|name| format!("did you mean `{name}`? ")).unwrap_or_default();
        let message = format!("there is no images/{name}/image.toml, and so no base");
        return Err(Hinted::new(message, format!("{meant}there are: {}", known.join(", "))).into());
    }
    let names = if arguments.names.is_empty() { &known } else { &arguments.names };
    let mut bases: BTreeMap<String, RegistryReference> = BTreeMap::new();
    for name in names {
        let base = read_definition(&workspace, name)?.base.map(|base| base.reference);
        if let Some(BaseReference::Registry(reference)) = base {
            match reference.digest {
                None => drop(bases.insert(reference.name.clone(), reference)),
                Some(_) => ui.status("Pinned", &format!("{} in images/{name}/image.toml", reference.name)),
            }
        }
    }
    if !bases.is_empty() && env.offline().is_some() {
        return Err(Hinted::new("registries cannot be asked offline", "leave out --offline").into());
    }
    let references: Vec<String> = bases.keys().cloned().collect();
    let digests = match references.as_slice() {
        [] => Vec::new(),
        references => pulled::digests(references, &workspace, env, ui)?,
    };

    // Two runs at once would lose the digests of one.
    let _lock = lock(&workspace.cache("locks")?, "lock.toml", || {
        ui.status("Blocking", "until another run has written images/lock.toml");
    })?;
    let before = Pins::read(&workspace.root)?;
    let mut after = before.clone();
    if arguments.names.is_empty() {
        let used: BTreeSet<&String> = references.iter().collect();
        after.bases.retain(|name, _| used.contains(name));
    }
    for (name, digest) in references.iter().zip(digests) {
        let line = match after.bases.insert(name.clone(), digest) {
            None => format!("{name} {digest} (new)"),
            Some(old) if old == digest => format!("{name} {digest} (unchanged)"),
            Some(old) => format!("{name} {old} -> {digest}"),
        };
        ui.result(&line)?;
    }
    for name in before.bases.keys().filter(|name| !after.bases.contains_key(*name)) {
        ui.status("Removed", &format!("{name}, which no image has as its base"));
    }
    if after == before {
        ui.status("Unchanged", "images/lock.toml");
    } else if !arguments.dry_run {
        let staging = Staging::create(workspace.images_dir().join(".update"))?;
        staging.write(&Pins::path(&workspace.root), after.to_toml().as_bytes())?;
    }
    Ok(Outcome::Done)
}
