//! `cargo xtask clean`

use std::io::ErrorKind;

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
    let cleared = cache::clear(&folder, arguments.dry_run).map_err(refused)?;
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

/// The error with what to do about it.
fn refused(error: ClearError) -> anyhow::Error {
    let hint = match &error {
        ClearError::InUse(_) => "wait until it has finished, and try again",
        ClearError::File { source, .. } if source.kind() == ErrorKind::ReadOnlyFilesystem => {
            "the file system is mounted read-only: nothing in it can be removed"
        }
        ClearError::File { operation, source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            match *operation {
                "remove" => "remove it as the user that it belongs to: `ls -l` shows the owner",
                _ => "let this user read it: `ls -l` shows owner and mode, `chmod` changes the mode",
            }
        }
        ClearError::File { .. } => return error.into(),
    };
    Hinted::new(error.to_string(), hint).because(error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_is_about_what_could_not_be_done() {
        let hint = |operation, kind: ErrorKind| {
            let error = ClearError::File { operation, path: "/t/.cache/layers".into(), source: kind.into() };
            refused(error).chain().find_map(crate::cli::hints::hint)
        };
        for (operation, kind, starts) in [
            ("remove", ErrorKind::PermissionDenied, Some("remove it as the user")),
            ("read", ErrorKind::PermissionDenied, Some("let this user read it")),
            ("lock", ErrorKind::PermissionDenied, Some("let this user read it")),
            ("remove", ErrorKind::ReadOnlyFilesystem, Some("the file system is mounted read-only")),
            ("remove", ErrorKind::DirectoryNotEmpty, None),
        ] {
            let found = hint(operation, kind);
            assert_eq!(found.is_some(), starts.is_some(), "{operation} {kind}");
            assert!(found.unwrap_or_default().starts_with(starts.unwrap_or_default()), "{operation} {kind}");
        }
    }
}
