//! Commands that other programs of the toolkit (parts) execute. The parts parse the arguments. A part that needs images of
//! the workspace or the embedded runtime plans first, and xtask builds them.

use std::ffi::OsString;
use std::panic::resume_unwind;
use std::thread;

use super::image::Missing;
use super::{Outcome, PassedOn, image};
use crate::image::outputs::Summary;
use crate::pulled;
use crate::workspace::Workspace;
use tare_oci::platform::host_architecture;
use tare_tool::cache;
use tare_tool::environment::{self, Environment};
use tare_tool::plan::{
    self, BASELINE, Folders, Plan, Planned, PlannedImage, PlannedPlatform, Wanted, WantedImages,
};
use tare_tool::private;
use tare_tool::process::{Execute as _, Shell, cmd};
use tare_tool::signals;
use tare_tool::toolkit::Part;
use tare_tool::ui::Ui;

/// Becomes a part with its command `verb`, which needs nothing built, or on Windows waits for it.
pub(super) fn direct(
    part: Part,
    verb: &str,
    PassedOn { arguments }: &PassedOn,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<Outcome> {
    let program = Workspace::find(env)?.toolkit(env).build(part, env, ui)?;
    let sh = Shell::new()?;
    let command = cmd!(sh, "{program} {verb} {arguments...}").envs(env.offline());
    Ok(Outcome::Exit(command.env(environment::COMMAND_VARIABLE, environment::command()).replace()?))
}

/// Builds all parts at once, and prints where they are.
pub(super) fn toolkit(env: &Environment, ui: Ui) -> anyhow::Result<Outcome> {
    let workspace = Workspace::find(env)?;
    let toolkit = workspace.toolkit(env);
    for path in toolkit.build_all(&toolkit.parts(), env, ui)? {
        ui.result(&path.display().to_string())?;
    }
    Ok(Outcome::Done)
}

/// Lets a part plan its command `verb`, builds the images that it asks for, and becomes the part; on Windows it waits.
pub(super) fn planned(
    part: Part,
    verb: &str,
    arguments: &PassedOn,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<Outcome> {
    let workspace = Workspace::find(env)?;
    let program = workspace.toolkit(env).build(part, env, ui)?;
    let words: Vec<OsString> =
        std::iter::once(verb.into()).chain(arguments.arguments.iter().cloned()).collect();
    let caches = workspace.cache_dir();
    private::real_folder(&caches)?;
    cache::sweep(&caches.join("temporary"), cache::UNUSED);
    let plans = caches.join("plans");
    let (wanted, file) = match plan::ask(&program, &workspace.root, &words, &plans)? {
        Planned::Wanted(wanted, file) => (wanted, file),
        Planned::Ended(code) => return Ok(Outcome::Exit(code)),
    };
    plan::write(&file, &build(&wanted, &workspace, env, ui)?)?;
    let sh = Shell::new()?;
    let command = cmd!(sh, "{program} run --plan {file} -- {words...}").envs(env.offline());
    Ok(Outcome::Exit(command.env(environment::COMMAND_VARIABLE, environment::command()).replace()?))
}

/// Builds the images and programs that a part asks for.
fn build(wanted: &Wanted, workspace: &Workspace, env: &Environment, ui: Ui) -> anyhow::Result<Plan> {
    let toolkit = workspace.toolkit(env);
    let keeper = || toolkit.build(Part::Keeper, env, ui);
    let (images, keeper) = if wanted.keeper && !toolkit.has(Part::Keeper) {
        // The first build of each takes minutes, and they share no crate: both run at once, and the sizes of the images are
        // printed as soon as those are there. Not later, because cargo says when it waits for another cargo.
        thread::scope(|scope| {
            let keeper = scope.spawn(keeper);
            let images = images(wanted, workspace, env, ui);
            if images.is_err() {
                signals::end_programs();
            }
            let keeper = keeper.join().unwrap_or_else(|panic| resume_unwind(panic));
            anyhow::Ok((images?, Some(keeper?)))
        })?
    } else {
        (images(wanted, workspace, env, ui)?, wanted.keeper.then(keeper).transpose()?)
    };
    let folders = Folders { root: workspace.root.clone(), target_dir: workspace.target_dir.clone() };
    Ok(Plan { workspace: folders, keeper, images, user: None })
}

/// The images that a part asks for: built here, or pulled.
fn images(
    wanted: &Wanted,
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<Vec<PlannedImage>> {
    let built = match &wanted.images {
        WantedImages::None => vec![],
        WantedImages::Default => image::built(&[], workspace, env, wanted.quiet, Missing::Fail)?,
        WantedImages::Named(names) => image::built(names, workspace, env, wanted.quiet, Missing::Fail)?,
        WantedImages::Available(names) => {
            image::built(names, workspace, env, wanted.quiet, Missing::LeaveOut)?
        }
        WantedImages::Buildable(names) => image::built(names, workspace, env, wanted.quiet, Missing::Any)?,
    };
    let mut images: Vec<PlannedImage> = built.into_iter().map(planned_image).collect();
    let here = format!("linux/{}", host_architecture());
    for reference in &wanted.pulled {
        let layout = pulled::fetch(reference, Some(&here), workspace, env, ui)?;
        let location = layout.to_string_lossy().into_owned();
        images.push(PlannedImage { name: reference.clone(), location, platforms: vec![] });
    }
    if let Some(reference) = &wanted.baseline {
        let layout = pulled::fetch_with_reports(reference, &here, workspace, env, ui)?;
        let location = layout.to_string_lossy().into_owned();
        images.push(PlannedImage { name: format!("{BASELINE}{reference}"), location, platforms: vec![] });
    }
    Ok(images)
}

fn planned_image(image: Summary) -> PlannedImage {
    let platforms = image
        .platforms
        .into_iter()
        .map(|it| PlannedPlatform { platform: it.platform, unstripped_binary: it.unstripped_binary });
    PlannedImage {
        name: image.name,
        location: image.layout.to_string_lossy().into_owned(),
        platforms: platforms.collect(),
    }
}
