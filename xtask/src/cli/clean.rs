//! `cargo xtask clean`

use anyhow::Context as _;
use clap::Args;

use super::Outcome;
use crate::workspace::Workspace;
use tare_oci::units::ByteSize;
use tare_tool::cache::{self, ClearError, Cleared};
use tare_tool::environment::Environment;
use tare_tool::exit::Hinted;
use tare_tool::ui::{Ui, table};

#[derive(Debug, Args)]
#[command(after_help = "\
Built images (target/images/NAME), reports and cargo's own files stay. Without caches, the next build takes longer and \
gives the same digest.")]
pub(super) struct CleanArguments {
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(arguments: &CleanArguments, env: &Environment, ui: Ui) -> anyhow::Result<Outcome> {
    let workspace = Workspace::find(env)?;
    let folder = workspace.cache_dir();
    let cleared = cache::clear(&folder, arguments.dry_run).map_err(|error| match error {
        ClearError::InUse(_) => {
            anyhow::Error::from(Hinted::new(error.to_string(), "wait until it has finished, and try again"))
        }
        error => error.into(),
    })?;
    let found = |it: &&Cleared| it.entries > 0;
    let row = |it: &Cleared| vec![it.name.to_owned(), it.entries.to_string(), ByteSize(it.bytes).to_string()];
    let rows: Vec<Vec<String>> = cleared.iter().filter(found).map(row).collect();
    if !rows.is_empty() {
        ui.block(&table(&["cache", "entries", "size"], &rows, &[1, 2]));
    }
    let in_use: usize = cleared.iter().map(|it| it.in_use).sum();
    if in_use > 0 {
        ui.warning(&format!("{in_use} unpacked images are in use by containers and stay"));
    }
    let verb = if arguments.dry_run { "would free" } else { "freed" };
    let bytes = ByteSize(cleared.iter().map(|it| it.bytes).sum());
    ui.result(&format!("{verb} {bytes} in {}", workspace.show(&folder))).context("cannot print")?;
    Ok(Outcome::Done)
}
