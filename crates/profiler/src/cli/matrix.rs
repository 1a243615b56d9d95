//! `cargo xtask profile matrix`

use std::path::{Path, PathBuf};

use clap::Args;
use tare_tool::environment::Environment;
use tare_tool::exit::Hinted;
use tare_tool::plan::{Wanted, WantedImages};

use super::Outcome;
use super::arguments::CommonArguments;
use super::images::{self, hand_over, subjects, wanted};
use super::progress::{Left, Progress};
use super::stage::{self, AtSignal, Session, Way};
use super::sudo;
use crate::profile::definition::values::Load;
use crate::profile::definition::{Overrides, Profile};
use crate::profile::matrix::Matrix;
use crate::profile::metric::Pass;
use crate::profile::profiling;
use crate::profile::render::{self, matrix as shown};
use crate::profile::request::{Image, Options};

#[derive(Debug, Args)]
pub(super) struct MatrixArguments {
    /// The variants: images as in `profile` [default: the images of the profile]
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    common: CommonArguments,
    /// How often all variants are measured, in turn
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    rounds: u32,
    /// Write the files here instead of target/profiles/matrix
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Print the matrix as JSON
    #[arg(long)]
    json: bool,
}

impl MatrixArguments {
    pub(super) fn quiet(&self) -> bool {
        self.common.container.quiet
    }

    /// The profile, with what variants are compared by.
    fn profile(&self, root: &Path) -> anyhow::Result<Profile> {
        let rounds = Overrides { rounds: Some(self.rounds), ..Overrides::default() };
        let mut profile = self.common.profile(root)?.with(&rounds)?;
        profile.passes = vec![Pass::Size, Pass::Startup, Pass::Throughput];
        profile.throughput.loads = vec![Load::Closed];
        profile.limits.truncate(1);
        profile.gates.clear();
        let named = if self.images.is_empty() { &profile.images } else { &self.images };
        if named.len() < 2 {
            let message = format!("a matrix takes two variants or more, and there are {}", named.len());
            let hint = "name images, such as images/app-small/image.toml with `package = \"app\"` and another `profile` \
                        or `features`; or list them as `images` in the profile";
            return Err(Hinted::new(message, hint).into());
        }
        Ok(profile)
    }

    pub(super) fn plan(&self, root: &Path, env: &Environment) -> anyhow::Result<Wanted> {
        let profile = self.profile(root)?;
        let keeper = stage::check(&self.common.container, &profile, env)?;
        let (images, pulled) = match self.images.as_slice() {
            [] => (WantedImages::Named(profile.images), vec![]),
            names => wanted(names)?,
        };
        let images = match images {
            WantedImages::Named(names) => WantedImages::Buildable(names),
            other => other,
        };
        Ok(Wanted { images, pulled, baseline: None, keeper, quiet: self.quiet() })
    }

    pub(super) fn run(&self, session: &Session) -> anyhow::Result<Outcome> {
        let profile = self.profile(&session.plan.workspace.root)?;
        let container = &self.common.container;
        let way = stage::choose(container, session)?;
        let watch = stage::watch(Some(way), session, &AtSignal::Leave)?;
        let names = if self.images.is_empty() { &profile.images } else { &self.images };
        let (there, left_out) = images::built(names, session);
        if there.is_empty() {
            anyhow::bail!("none of the variants was built");
        }
        let subjects = subjects(&there, session)?;
        let kind = match way {
            Way::Here(kind) => kind,
            Way::Sudo => return hand_over(container, &subjects, session),
        };
        let runtime = stage::open(kind, session, watch, &AtSignal::Leave)?;
        let options = Options { runtime: Some(&runtime), cache: session.cache(), ..Options::default() };
        let images: Vec<&Image> = subjects.iter().map(|subject| &subject.image).collect();
        let mut later = profile.rounds as usize * images.len();
        let mut line: Option<(String, Progress)> = None;
        let reports = profiling::in_rounds(&images, &profile, &options, |image, round, step| {
            let title = format!("{} (round {round} of {})", image.name, profile.rounds);
            if line.as_ref().is_none_or(|(before, _)| *before != title) {
                // The line of the one before goes first.
                line = None;
                later = later.saturating_sub(1);
                let left = Left::of(&profile, later);
                line = Some((title.clone(), Progress::new(session.ui, title, Some(kind), Some(left))));
            }
            if let Some((_, progress)) = &mut line {
                progress.show(&step);
            }
        })?;
        drop(line);
        let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
        let named: Vec<_> = titles(&names, &there).into_iter().zip(&reports).collect();
        let Some(mut matrix) = Matrix::of(&named) else { anyhow::bail!("there is no variant") };
        left_out.iter().for_each(|name| matrix.was_not_built(name));
        let folder = match &self.output {
            Some(folder) => session.env.current_dir.join(folder),
            None => session.plan.workspace.target_dir.join("profiles/matrix"),
        };
        sudo::as_user(session.user(), || render::write_matrix(&matrix, &folder))??;
        let text = if self.json { shown::json(&matrix)? } else { shown::terminal(&matrix, super::columns()) };
        session.ui.result(text.trim_end())?;
        session.ui.status("Wrote", &session.plan.workspace.show(&folder.join("matrix.md")));
        let has_failed = matrix.variants.iter().any(|variant| variant.failed.is_some());
        Ok(if has_failed { Outcome::GateFailed } else { Outcome::Done })
    }
}

/// The names of the images; as they were given where several are called the same, such as `a/app/layout` and `b/app/layout`.
fn titles<'a>(names: &[&'a str], given: &'a [String]) -> Vec<&'a str> {
    let is_twice = |name: &&str| names.iter().filter(|other| *other == name).count() > 1;
    let title = |(at, name): (usize, &&'a str)| match given.get(at) {
        Some(given) if is_twice(name) => given.as_str(),
        _ => *name,
    };
    names.iter().enumerate().map(title).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_the_same_name_have_the_one_they_were_given() {
        let given = ["v3/app/layout", "small", "app"].map(str::to_owned);
        assert_eq!(titles(&["app", "small", "app"], &given), ["v3/app/layout", "small", "app"]);
        assert_eq!(titles(&["app", "small"], &given), ["app", "small"]);
    }
}
