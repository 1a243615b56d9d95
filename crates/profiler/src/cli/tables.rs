//! The tables that a profile defines over all its images: printed, and written to a page.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tare_oci::input;
use tare_tool::private;
use tare_tool::ui::Ui;

use super::arguments::CommonArguments;
use super::profile::quoted;
use super::stage::Session;
use super::sudo;
use crate::profile::definition::Profile;
use crate::profile::render::table::{self, Row};
use crate::profile::render::table_page;
use crate::profile::report::Report;
use crate::profile::request::Image;

/// The label of an image that the tables name it by.
const TITLE: &str = "tare.system";

/// Says which limits are joined by others, because they leave the load generator no CPU.
pub(super) fn say_room(profile: &Profile, ui: Ui) {
    let limits: Vec<String> = profile.limits.iter().map(ToString::to_string).collect();
    ui.status("Measuring", &format!(
        "under {}: limits that leave the load generator no CPU of its own on this host are joined by the largest that do, and their figures are in doubt",
        limits.join(" and under ")
    ));
}

/// The title of an image: its label, or its name.
fn title(image: &Image) -> String {
    let labels = image.target.config.execution.labels().as_ref();
    labels.and_then(|labels| labels.get(TITLE)).unwrap_or(&image.name).clone()
}

/// Prints the tables, and writes the page where one is asked for.
pub(super) fn publish(
    profile: &Profile,
    images: &[(&Image, &Report)],
    left_out: &[String],
    arguments: &CommonArguments,
    (write, print): (Option<&Path>, bool),
    session: &Session,
) -> anyhow::Result<()> {
    let Session { env, plan, ui, words, .. } = session;
    let titles: Vec<String> = images.iter().map(|(image, _)| title(image)).collect();
    let rows = images.iter().zip(&titles);
    let rows: Vec<Row<'_>> =
        rows.map(|((image, report), title)| Row { name: &image.name, title, report }).collect();
    if print {
        ui.result(&table::terminal(&profile.table, &rows, super::columns()))?;
    }
    for name in left_out {
        ui.warning(&format!("the tables have no row of {name}: what builds it is not installed"));
    }
    let Some(write) = write else { return Ok(()) };
    let template = template(&arguments.container.profile, &plan.workspace.root)?;
    let command: Vec<String> = words.iter().map(|word| quoted(&word.to_string_lossy())).collect();
    let command = format!("{} {}", tare_tool::environment::command(), command.join(" "));
    let text = template.as_ref().map(|(_, text)| text.as_str());
    let call = table_page::Call { command: &command, left_out, template: text };
    let page = table_page::render(profile, &rows, &call);
    let named = || template.as_ref().map_or_else(String::new, |(path, _)| path.display().to_string());
    let page = page.with_context(named)?;
    let file = env.current_dir.join(write);
    let wrote = || format!("cannot write {}", file.display());
    sudo::as_user(session.user(), || {
        file.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        private::replace_file(&file, page.as_bytes())
    })?
    .with_context(wrote)?;
    ui.status("Wrote", &plan.workspace.show(&file));
    Ok(())
}

/// The template beside the profile: NAME.md, where there is one.
fn template(profile: &str, root: &Path) -> anyhow::Result<Option<(PathBuf, String)>> {
    let path = if profile.ends_with(".toml") {
        PathBuf::from(profile).with_extension("md")
    } else {
        root.join("profiles").join(format!("{profile}.md"))
    };
    match input::read_definition(root, &path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
