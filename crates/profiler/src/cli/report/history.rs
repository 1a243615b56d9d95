//! `cargo xtask report history`: figures over commits, from a folder of reports.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tare_tool::exit::{Hinted, chain};
use tare_tool::ui::Ui;

use super::super::Outcome;
use super::super::stage::Session;
use super::{FILE, read, write};
use crate::profile::history::{Entry, histories};
use crate::profile::render::{history, page};

/// Folders in folders: `COMMIT/IMAGE/PROFILE/report.json`.
const DEEPEST: usize = 3;

#[derive(Debug, Args)]
pub(super) struct HistoryArguments {
    /// A folder with COMMIT.json or COMMIT/report.json for each commit
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Write history.html and history.md here instead of DIR
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &HistoryArguments, session: &Session) -> anyhow::Result<Outcome> {
    let HistoryArguments { folder, output } = arguments;
    let histories = histories(entries(folder, session.ui)?);
    let output = output.as_ref().unwrap_or(folder);
    std::fs::create_dir_all(output).with_context(|| format!("cannot create {}", output.display()))?;
    let [html, text] = ["history.html", "history.md"].map(|name| output.join(name));
    write(&html, &page::trend(&histories)?)?;
    write(&text, &history::markdown(&histories))?;
    let shown = history::terminal(&histories, super::super::columns(), &html.display().to_string());
    session.ui.result(shown.trim_end())?;
    session.ui.status("Wrote", &html.display().to_string());
    Ok(Outcome::Done)
}

/// The reports of a folder. A file that cannot be read is left out with a warning, so that one of hundreds does not hide the
/// others.
fn entries(folder: &Path, ui: Ui) -> anyhow::Result<Vec<Entry>> {
    let mut files = Vec::new();
    find(folder, None, 0, &mut files).with_context(|| format!("cannot read {}", folder.display()))?;
    files.sort();
    let mut entries = Vec::new();
    for (name, file) in &files {
        match read(file) {
            Ok(report) => entries.push(Entry::of(name.clone(), &report)),
            Err(error) => ui.warning(&format!("left out: {}", chain(&error))),
        }
    }
    if entries.is_empty() {
        let command = tare_tool::environment::command();
        let hint = format!(
            "`{command} profile IMAGE --output {}/COMMIT` writes a report where it is looked for",
            folder.display()
        );
        let found = if files.is_empty() { "no report" } else { "no report that can be read" };
        return Err(Hinted::new(format!("{} has {found}", folder.display()), hint).into());
    }
    Ok(entries)
}

/// Every `*.json` of the folder itself, named by its stem, and every `report.json` below, named by the folder of the first level.
fn find(
    folder: &Path,
    name: Option<&str>,
    depth: usize,
    files: &mut Vec<(String, PathBuf)>,
) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let own = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if depth < DEEPEST {
                let below = name.map_or_else(|| own(path.file_name()), str::to_owned);
                find(&path, Some(&below), depth + 1, files)?;
            }
        } else if let Some(name) = name {
            if path.file_name().is_some_and(|file| file == FILE) {
                files.push((name.to_owned(), path));
            }
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push((own(path.file_stem()), path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::report::sample;

    #[test]
    fn reports_are_found_by_commit_and_others_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        let report = sample().to_json().unwrap();
        for name in ["a.json", "b/report.json", "c/app/ci/report.json"] {
            put(name, &report);
        }
        put("other.json", "{}");
        put("old.json", &report.replacen("\"schema\": 4", "\"schema\": 1", 1));
        put("b/other.json", &report);
        put("too/deep/to/be/report.json", &report);
        put("README.md", "# Reports");
        let mut files = Vec::new();
        find(folder.path(), None, 0, &mut files).unwrap();
        files.sort();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "old", "other"]);
        let all = histories(entries(folder.path(), Ui::new(true, true)).unwrap());
        let reports: Vec<&str> = all[0].reports.iter().map(|it| it.name.as_str()).collect();
        assert_eq!((all.len(), reports), (1, vec!["a", "b", "c"]));
    }

    #[test]
    fn a_folder_without_a_report_is_an_error_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let error = || entries(folder.path(), Ui::new(true, true)).unwrap_err();
        assert_eq!(error().to_string(), format!("{} has no report", folder.path().display()));
        assert!(tare_tool::exit::hint(error().as_ref()).is_some());
        std::fs::write(folder.path().join("a.json"), "[]").unwrap();
        let unread = format!("{} has no report that can be read", folder.path().display());
        assert_eq!(error().to_string(), unread);
        let gone = folder.path().join("gone");
        let error = entries(&gone, Ui::new(true, true)).unwrap_err();
        assert!(error.to_string().starts_with("cannot read "), "{error}");
    }
}
