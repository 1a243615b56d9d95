//! A page with the tables of a run, and in which circumstances they were measured. A template has the words around them;
//! figures never come from it.

use std::fmt::Write as _;

use super::markdown::{escaped, render_table};
use super::table::{self, Doubts, Row};
use crate::profile::definition::Profile;
use tare_oci::units::ByteSize;

/// The template of a profile without one of its own.
const TEMPLATE: &str = "# {{title}}\n\n{{circumstances}}\n\n{{tables}}\n\n{{standing}}\n";

/// A template that cannot be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{{{{{found}}}}}` is not a part of the page: {known}", known = NAMES.join(", "))]
pub struct UnknownPart {
    found: String,
}

const NAMES: [&str; 4] = ["title", "circumstances", "tables", "standing"];

/// What a page says besides its figures.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The command that wrote it.
    pub command: &'a str,
    /// Images of the profile that could not be built here.
    pub left_out: &'a [String],
    /// The template; none for the usual one.
    pub template: Option<&'a str>,
}

/// The page in Markdown.
///
/// # Errors
/// When the template names a part that there is not.
pub fn render(profile: &Profile, rows: &[Row<'_>], call: &Call<'_>) -> Result<String, UnknownPart> {
    let mut rest = call.template.unwrap_or(TEMPLATE);
    let command = call.command.replace("--", "- -");
    let mut page = format!("<!-- Written by `{command}`. -->\n\n");
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let Some((name, after)) = after.split_once("}}") else {
            return Err(UnknownPart { found: after.lines().next().unwrap_or_default().to_owned() });
        };
        let part = match name {
            "title" => profile.description.as_ref().unwrap_or(&profile.name).clone(),
            "circumstances" => circumstances(profile, rows, call),
            "tables" => tables(profile, rows, call),
            "standing" => standing(profile, rows),
            _ => return Err(UnknownPart { found: name.to_owned() }),
        };
        page.push_str(part.trim_end());
        rest = after;
    }
    page.push_str(rest);
    Ok(page)
}

fn circumstances(profile: &Profile, rows: &[Row<'_>], call: &Call<'_>) -> String {
    let Some(first) = rows.first().map(|row| row.report) else { return String::new() };
    let host = &first.host;
    let setting = |key: &str| first.profile.settings.get(key).map_or("-", String::as_str);
    let runtime = first.runtime.as_ref().map_or("none".to_owned(), ToString::to_string);
    let rounds = profile.rounds;
    let rounds = if rounds == 1 {
        "one round".to_owned()
    } else {
        format!("{rounds} rounds over all systems, every other one backwards")
    };
    let mut text = String::new();
    for (name, value) in [
        ("Command", format!("`{}`", call.command.replace('`', "'"))),
        ("Date", escaped(&first.taken)),
        (
            "Host",
            escaped(&format!(
                "{}, {} CPUs, {} of memory, kernel {}, cgroup {}",
                host.cpu,
                host.cpus,
                ByteSize(host.memory),
                host.kernel,
                host.cgroup
            )),
        ),
        ("Tools", escaped(&format!("tare {}, runtime {runtime}", first.tool))),
        ("Order", rounds),
        ("Limits", escaped(setting("limits"))),
        (
            "Load",
            escaped(&format!(
                "{} connections, {} per load, requests {}",
                setting("connections"),
                setting("duration"),
                setting("requests")
            )),
        ),
        ("Starts", escaped(&format!("{} in each round", setting("runs")))),
    ] {
        let _ = writeln!(text, "- {name}: {value}");
    }
    text.push_str("\n| system | image | digest |\n|---|---|---|\n");
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | `{}` |",
            escaped(row.title),
            escaped(row.name),
            row.report.target.digest
        );
    }
    text
}

fn tables(profile: &Profile, rows: &[Row<'_>], call: &Call<'_>) -> String {
    let mut doubts = Doubts::default();
    let mut text = String::new();
    for list in table::tables(&profile.table, rows, &mut doubts) {
        render_table(&mut text, &list);
    }
    for image in call.left_out {
        let _ = writeln!(text, "Without {}: what builds it is not installed on this host.\n", escaped(image));
    }
    for row in rows {
        for event in row.report.runs.iter().flat_map(|run| &run.events) {
            let (title, message) = (escaped(row.title), escaped(&event.message));
            let _ = writeln!(text, "{title}: {}: {message}\n", event.kind.name());
        }
    }
    text.push_str("Brackets hold the 95 % interval of the median. ");
    text.push_str("≥ and ≤ mark a figure that can only look worse than it is, ? one that may also look better; letters name the doubts:\n\n");
    for line in doubts.legend() {
        let _ = writeln!(text, "- {}", escaped(&line));
    }
    text
}

fn standing(profile: &Profile, rows: &[Row<'_>]) -> String {
    let subject = profile.subject.as_deref().unwrap_or_default();
    let lines = table::standing(&profile.table, rows, subject);
    lines.iter().map(|line| format!("- {}\n", escaped(line))).collect()
}
