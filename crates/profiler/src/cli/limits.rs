//! `cargo xtask profile sweep` and `cargo xtask profile capacity`

use std::path::{Path, PathBuf};

use clap::Args;
use tare_oci::units::Nanoseconds;
use tare_tool::environment::Environment;
use tare_tool::exit::Hinted;
use tare_tool::plan::Wanted;

use super::Outcome;
use super::arguments::ContainerArguments;
use super::images::{Subject, hand_over, subjects, wanted};
use super::stage::{self, AtSignal, Session, Way};
use super::sudo;
use crate::profile::capacity::{self, Capacity};
use crate::profile::definition::{Overrides, Profile};
use crate::profile::metric::{Pass, Unit};
use crate::profile::render::units;
use crate::profile::render::{self, limits as shown};
use crate::profile::request::Options;
use crate::profile::sweep::{self, found::Sweep};
use crate::profile::trial::{Goal, Trial};
use tare_container::{Runtime, RuntimeKind};

#[derive(Debug, Args)]
pub(super) struct SweepArguments {
    #[command(flatten)]
    search: SearchArguments,
    /// Requests per second that the server is to answer
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Starts under the limits that must succeed
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    starts: u32,
    /// Duration of the load that the limits must pass at last
    #[arg(long, value_name = "TIME", default_value = "30s")]
    proof: Nanoseconds,
    /// What is added to the limits for use, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
    margin: u32,
}

#[derive(Debug, Args)]
pub(super) struct CapacityArguments {
    #[command(flatten)]
    search: SearchArguments,
    /// How often the rate is searched, each time with a new server
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=100))]
    rounds: u32,
}

/// What both have.
#[derive(Debug, Args)]
struct SearchArguments {
    /// The image: of the workspace by its name, an OCI layout or archive, a docker archive, `docker-daemon:REF` or
    /// `containers-storage:REF`
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The time within which 99 % of the requests are to be answered, such as 20ms
    #[arg(long, value_name = "TIME")]
    p99: Nanoseconds,
    /// Duration of the load of each trial
    #[arg(long, value_name = "TIME", default_value = "2s")]
    duration: Nanoseconds,
    /// Connections instead of the profile's
    #[arg(long, value_name = "NUMBER")]
    connections: Option<u32>,
    /// Write the files here instead of target/profiles/IMAGE
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    container: ContainerArguments,
}

impl SearchArguments {
    fn profile(&self, root: &Path) -> anyhow::Result<Profile> {
        for (name, time) in [("--p99", self.p99), ("--duration", self.duration)] {
            if time.0 == 0 {
                let hint = format!("write a time such as `{name} 20ms`");
                return Err(Hinted::new(format!("{name} is 0"), hint).into());
            }
        }
        let profile = self.container.profile(root)?;
        let over = Overrides {
            passes: vec![Pass::Startup, Pass::Throughput],
            connections: self.connections,
            duration: Some(self.duration),
            ..Overrides::default()
        };
        Ok(profile.with(&over)?)
    }

    fn names(&self) -> &[String] {
        std::slice::from_ref(&self.image)
    }

    fn plan(&self, root: &Path, env: &Environment) -> anyhow::Result<Wanted> {
        let profile = self.profile(root)?;
        let keeper = stage::check(&self.container, &profile, env)?;
        let (images, pulled) = wanted(self.names())?;
        Ok(Wanted { images, pulled, baseline: None, keeper, quiet: self.container.quiet })
    }

    /// Does something with the image and the runtime, unless root's process does it.
    fn with_image(
        &self,
        session: &Session,
        work: impl FnOnce(&Subject, &Runtime, RuntimeKind) -> anyhow::Result<Outcome>,
    ) -> anyhow::Result<Outcome> {
        let way = stage::choose(&self.container, session)?;
        let watch = stage::watch(Some(way), session, &AtSignal::Leave)?;
        let subjects = subjects(self.names(), session)?;
        let kind = match way {
            Way::Here(kind) => kind,
            Way::Sudo => return hand_over(&self.container, &subjects, session),
        };
        let Some(subject) = subjects.first() else { anyhow::bail!("no image is named") };
        let runtime = stage::open(kind, session, watch, &AtSignal::Leave)?;
        work(subject, &runtime, kind)
    }

    fn folder(&self, name: &str, session: &Session) -> PathBuf {
        match &self.output {
            Some(folder) => session.env.current_dir.join(folder),
            None => session.plan.workspace.target_dir.join("profiles").join(name),
        }
    }
}

impl SweepArguments {
    pub(super) fn quiet(&self) -> bool {
        self.search.container.quiet
    }

    pub(super) fn plan(&self, root: &Path, env: &Environment) -> anyhow::Result<Wanted> {
        self.search.plan(root, env)
    }

    pub(super) fn run(&self, session: &Session) -> anyhow::Result<Outcome> {
        let Self { search, rate, starts, proof, margin } = self;
        let profile = search.profile(&session.plan.workspace.root)?;
        let question = sweep::Question {
            goal: Goal { rate: f64::from(*rate), p99: search.p99.0 as f64 },
            cpus: search.container.cpus(),
            memory: search.container.memory(),
            duration: search.duration,
            starts: *starts,
            proof: *proof,
            margin: f64::from(*margin) / 100.0,
        };
        search.with_image(session, |subject, runtime, kind| {
            let image = &subject.image;
            let ui = session.ui;
            ui.status("Sweeping", &format!("{} at {rate} requests/s ({kind})", image.name));
            let options = Options { runtime: Some(runtime), cache: session.cache(), ..Options::default() };
            let found = sweep::sweep(image, &profile, &question, &options, |purpose, trial| {
                ui.status("Tried", &format!("{}: {}", purpose.name(), line(trial)));
            })?;
            let folder = search.folder(&image.name, session);
            sudo::as_user(session.user(), || render::write_sweep(&found, &folder))??;
            for note in &found.notes {
                ui.warning(note);
            }
            let text = if search.json { shown::json(&found)? } else { shown::terminal(&found) };
            ui.result(text.trim_end())?;
            ui.status("Wrote", &session.plan.workspace.show(&folder.join("sweep.html")));
            Ok(outcome(&found))
        })
    }
}

fn outcome(found: &Sweep) -> Outcome {
    if found.smallest.is_some() { Outcome::Done } else { Outcome::GateFailed }
}

impl CapacityArguments {
    pub(super) fn quiet(&self) -> bool {
        self.search.container.quiet
    }

    pub(super) fn plan(&self, root: &Path, env: &Environment) -> anyhow::Result<Wanted> {
        self.search.plan(root, env)
    }

    pub(super) fn run(&self, session: &Session) -> anyhow::Result<Outcome> {
        let Self { search, rounds } = self;
        let profile = search.profile(&session.plan.workspace.root)?;
        let question =
            capacity::Question { p99: search.p99.0 as f64, duration: search.duration, rounds: *rounds };
        search.with_image(session, |subject, runtime, kind| {
            let image = &subject.image;
            let ui = session.ui;
            let limits = profile.limits.first().map(ToString::to_string).unwrap_or_default();
            ui.status("Loading", &format!("{} with {limits} ({kind})", image.name));
            let options = Options { runtime: Some(runtime), cache: session.cache(), ..Options::default() };
            let found: Capacity = capacity::capacity(image, &profile, &question, &options, |trial| {
                ui.status("Tried", &line(trial));
            })?;
            let folder = search.folder(&image.name, session);
            sudo::as_user(session.user(), || render::write_capacity(&found, &folder))??;
            for note in &found.notes {
                ui.warning(note);
            }
            let text = if search.json {
                shown::json(&found)?
            } else {
                format!("{}\n{}", shown::capacity_conclusion(&found), shown::rounds(&found))
            };
            ui.result(text.trim_end())?;
            ui.status("Wrote", &session.plan.workspace.show(&folder.join("capacity.html")));
            Ok(if found.rate.is_some() { Outcome::Done } else { Outcome::GateFailed })
        })
    }
}

/// A trial in a line.
fn line(trial: &Trial) -> String {
    let memory = trial.memory.map(|bytes| format!(", {}", tare_oci::units::ByteSize(bytes).exact()));
    let limits = format!("{} CPU{}", trial.cpus, memory.unwrap_or_default());
    let rate = units::shown(trial.rate.round(), Unit::PerSecond);
    let p99 = trial.p99.map(|p99| format!(", p99 {}", units::shown(p99, Unit::Nanoseconds)));
    let result = match trial.failed {
        None => "holds".to_owned(),
        Some(reason) => format!("fails ({})", reason.name()),
    };
    format!("{limits} at {rate}{}: {result}", p99.unwrap_or_default())
}
