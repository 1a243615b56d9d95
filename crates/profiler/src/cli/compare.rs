//! `cargo xtask profile compare A B`

use std::path::Path;

use anyhow::bail;
use clap::Args;
use tare_tool::environment::Environment;
use tare_tool::plan::Wanted;

use crate::profile::compare::{self, Comparison};
use crate::profile::comparison::{self, CompareError, Question};
use crate::profile::definition::Profile;
use crate::profile::request::Options;

use super::Outcome;
use super::arguments::CommonArguments;
use super::images::{hand_over, subjects, wanted};
use super::progress::Progress;
use super::stage::{self, AtSignal, Session, Way};

#[derive(Debug, Args)]
pub(super) struct CompareArguments {
    /// The image that is compared with
    a: String,
    /// The image that is judged
    b: String,
    /// Only these metrics (`--list-metrics`) [default: all sizes and what users notice]
    #[arg(long, value_name = "METRIC", value_delimiter = ',')]
    metric: Vec<String>,
    /// The difference that is to be found, in percent of A
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = resolution)]
    resolution: f64,
    /// Print the comparison as JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print the comparison as Markdown
    #[arg(long)]
    markdown: bool,
    #[command(flatten)]
    common: CommonArguments,
}

impl CompareArguments {
    pub(super) fn quiet(&self) -> bool {
        self.common.container.quiet
    }

    fn images(&self) -> [String; 2] {
        [self.a.clone(), self.b.clone()]
    }

    fn question(&self) -> anyhow::Result<Question> {
        if self.common.has_rate() {
            bail!("`--rate` has no meaning here: images are compared by a closed loop");
        }
        let mut question = Question::new(&self.metric, self.common.passes())?;
        question.rules.resolution = self.resolution / 100.0;
        question.starts = self.common.runs.unwrap_or(question.starts);
        question.duration = self.common.duration.unwrap_or(question.duration);
        Ok(question)
    }

    fn profile(&self, root: &Path) -> anyhow::Result<Profile> {
        // A quota would interrupt the turns in which both are loaded.
        let profile = self.common.profile_with(root, WHOLE_CPU)?;
        comparison::limits(&profile)?;
        Ok(profile)
    }
}

/// What `cpus = "auto"` stands for in a comparison.
const WHOLE_CPU: f64 = 1.0;

/// A percentage that can be found at all.
fn resolution(text: &str) -> Result<f64, String> {
    let percent: f64 =
        text.strip_suffix('%').unwrap_or(text).trim_end().parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=100.0).contains(&percent) { Ok(percent) } else { Err("not from 0.1 to 100".to_owned()) }
}

/// What a comparison needs before it can run.
pub(super) fn plan(arguments: &CompareArguments, root: &Path, env: &Environment) -> anyhow::Result<Wanted> {
    arguments.question()?;
    let profile = arguments.profile(root)?;
    let keeper = stage::check(&arguments.common.container, &profile, env)?;
    let (images, pulled) = wanted(&arguments.images())?;
    Ok(Wanted { images, pulled, baseline: None, keeper, quiet: arguments.common.container.quiet })
}

pub(super) fn run(arguments: &CompareArguments, session: &Session) -> anyhow::Result<Outcome> {
    let ui = session.ui;
    let question = arguments.question()?;
    let profile = arguments.profile(&session.plan.workspace.root)?;
    let way = stage::choose(&arguments.common.container, session)?;
    let watch = stage::watch(Some(way), session, &AtSignal::Leave)?;
    let both = subjects(&arguments.images(), session)?;
    let kind = match way {
        Way::Here(kind) => kind,
        Way::Sudo => return hand_over(&arguments.common.container, &both, session),
    };
    let [a, b] = both.as_slice() else { bail!("two images are needed") };
    let (a, b) = (&a.image, &b.image);
    let runtime = stage::open(kind, session, watch, &AtSignal::Leave)?;
    let options = Options { runtime: Some(&runtime), ..Options::default() };
    let both = format!("{} and {}", a.name, b.name);
    ui.status("Comparing", &both);
    let mut progress = Progress::new(ui, both, Some(kind), None);
    let result = comparison::compare(a, b, &profile, &question, &options, |step| progress.show(&step));
    drop(progress);
    let comparison = match result {
        Ok(comparison) => comparison,
        // What a server did wrong ends the comparison.
        Err(CompareError::Server(failure)) if failure.is_worse() => {
            ui.error(&failure.to_string(), None);
            return Ok(Outcome::GateFailed);
        }
        Err(error) => return Err(error.into()),
    };
    for note in &comparison.notes {
        ui.warning(note);
    }
    ui.result(&match (arguments.json, arguments.markdown) {
        (true, _) => compare::json(&comparison)?,
        (_, true) => compare::markdown(&comparison),
        _ => compare::terminal(&comparison),
    })?;
    outcome(&comparison)
}

fn outcome(comparison: &Comparison) -> anyhow::Result<Outcome> {
    match comparison.outcome() {
        compare::Outcome::NotWorse => Ok(Outcome::Done),
        compare::Outcome::Worse => Ok(Outcome::GateFailed),
        compare::Outcome::CannotTell => bail!("{}", comparison.conclusion()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolution_is_a_percentage() {
        assert_eq!((resolution("5"), resolution("2.5%")), (Ok(5.0), Ok(2.5)));
        assert!(resolution("0").is_err() && resolution("x").is_err() && resolution("NaN").is_err());
    }
}
