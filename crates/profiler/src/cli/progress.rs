//! The steps of a measurement, while they are done: on a terminal one line that is replaced, with what is measured and the time
//! left. Elsewhere, and with NO_COLOR or TERM=dumb, one line for each load and each other pass when it is done.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tare_container::kind::RuntimeKind;
use tare_tool::ui::Ui;

use crate::profile::definition::Profile;
use crate::profile::measure::Step;
use crate::profile::metric::{Pass, Unit};
use crate::profile::render::{figure, units};
use crate::profile::report::Run;
use crate::profile::throughput::Seen;

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);
/// The share of a pass after which its own speed says how long the rest takes.
const KNOWN: f64 = 0.1;

/// Shows steps; its line is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    ui: Ui,
    /// What is measured.
    name: String,
    runtime: Option<RuntimeKind>,
    bar: ProgressBar,
    left: Option<Left>,
    pass: Option<Pass>,
}

impl Progress {
    /// `left` estimates the time, if that can be done.
    pub(super) fn new(ui: Ui, name: String, runtime: Option<RuntimeKind>, left: Option<Left>) -> Self {
        Self { ui, name, runtime, bar: ProgressBar::hidden(), left, pass: None }
    }

    pub(super) fn show(&mut self, step: &Step<'_>) {
        let nanoseconds = |time: f64| units::shown(time, Unit::Nanoseconds);
        let (verb, text, share) = match step {
            Step::Reading => return self.ui.status("Reading", &self.name),
            Step::Running(limits) => {
                self.bar.finish_and_clear();
                let runtime = self.runtime.unwrap_or_default();
                self.ui.status("Running", &format!("{} with {limits} ({runtime})", self.name));
                return self.spin();
            }
            Step::Begun(pass) => {
                self.pass = Some(*pass);
                self.left.iter_mut().for_each(|left| left.begin(*pass));
                (verb(*pass), format!("{} of {}", pass.name(), self.name), 0.0)
            }
            Step::Passed(run) => {
                if let Some(pass) = self.pass.take() {
                    self.line(pass, run);
                }
                return;
            }
            Step::Started { done, of, ready } => {
                let text = format!("start {done} of {of}, ready after {}", nanoseconds(*ready as f64));
                ("Starting", text, f64::from(*done) / f64::from((*of).max(1)))
            }
            Step::Loading(load, seen) => {
                let (rate, p99) = match seen {
                    Seen::Running { rate, p99, .. } | Seen::Done { rate, p99 } => (rate, p99),
                };
                let rate = units::shown(rate.round(), Unit::PerSecond);
                let p99 = p99.map(|p99| format!(", p99 {}", nanoseconds(p99 as f64))).unwrap_or_default();
                let text = format!("{}: {rate}{p99}", load.case());
                match seen {
                    Seen::Running { number, of, elapsed, duration, .. } => {
                        let part = (*elapsed as f64 / (*duration).max(1) as f64).min(1.0);
                        let share = ((*number - 1) as f64 + part) / (*of).max(1) as f64;
                        ("Loading", format!("{text} (load {number} of {of})"), share)
                    }
                    Seen::Done { .. } => return self.plain("Loaded", &text),
                }
            }
            Step::Copied { copies, most, ready } => {
                let text =
                    format!("copy {copies} of at most {most}, ready after {}", nanoseconds(*ready as f64));
                ("Copying", text, f64::from(*copies) / f64::from((*most).max(1)))
            }
            Step::Disturbed { round, of, p99: [alone, beside] } => {
                let (alone, beside) = (nanoseconds(*alone), nanoseconds(*beside));
                let text = format!("round {round} of {of}, p99 {alone} alone, {beside} beside a neighbour");
                ("Disturbing", text, f64::from(*round) / f64::from((*of).max(1)))
            }
            Step::Counting { done, of } => {
                let text = format!("instructions, run {done} of {of} under valgrind");
                ("Counting", text, f64::from(*done) / f64::from((*of).max(1)))
            }
            Step::Counted(counting) => return self.ui.status("Counted", &counting.to_string()),
            Step::Comparing { pair, sides: [first, second], metrics } => {
                if *pair == 1 {
                    self.spin();
                }
                let text = format!("pair {pair}: {first:?} and {second:?}, {metrics} metrics open");
                ("Comparing", text, 0.0)
            }
        };
        let left = self.left.as_ref().and_then(|left| left.text(share)).unwrap_or_default();
        self.bar.set_prefix(verb);
        self.bar.set_message(format!("{text}{left}"));
    }

    /// The line of a pass that is done.
    fn line(&self, pass: Pass, run: &Run) {
        let ready = run.measurements.iter().find(|it| it.metric == "startup.warm.ready");
        match (pass, ready) {
            // They have lines of their own.
            (Pass::Throughput | Pass::Instructions, _) => {}
            (Pass::Startup, Some(ready)) => {
                let text = format!("{} times, ready after {}", ready.samples.len(), figure(ready));
                self.plain("Started", &text);
            }
            _ => self.plain("Measured", pass.name()),
        }
    }

    /// A line where there is none that is replaced.
    fn plain(&self, verb: &str, text: &str) {
        if self.bar.is_hidden() {
            self.ui.status(verb, text);
        }
    }

    /// indicatif draws on stderr, and only if that is a terminal.
    fn spin(&mut self) {
        let is_live = self.ui.is_coloured() && !self.ui.is_quiet();
        self.bar = if is_live { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{prefix:>12.green.bold} {wide_msg}") {
            self.bar.set_style(style);
        }
        self.bar.enable_steady_tick(TICK);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn verb(pass: Pass) -> &'static str {
    match pass {
        Pass::Size => "Reading",
        Pass::Startup => "Starting",
        Pass::Throughput => "Loading",
        Pass::Density => "Copying",
        Pass::Isolation => "Disturbing",
        Pass::Instructions => "Counting",
        Pass::Network | Pass::Edge => "Asking",
    }
}

/// The time that is left: by what the profile asks for, and by the speed of the pass that runs.
#[derive(Debug)]
pub(super) struct Left {
    /// Seconds of each pass that is not begun, the next one first.
    passes: Vec<(Pass, f64)>,
    /// Seconds of the pass that runs, and when it began.
    now: Option<(f64, Instant)>,
}

impl Left {
    /// `later`: how often all of it is done again.
    pub(super) fn of(profile: &Profile, later: usize) -> Self {
        let passes = profile.passes.iter().filter(|pass| **pass != Pass::Size);
        let passes: Vec<(Pass, f64)> = passes.map(|pass| (*pass, seconds(profile, *pass))).collect();
        let times = profile.limits.len() * (later + 1);
        Self { passes: std::iter::repeat_n(passes, times).flatten().collect(), now: None }
    }

    fn begin(&mut self, pass: Pass) {
        // Those before it are left out under these limits.
        let at = self.passes.iter().position(|(known, _)| *known == pass);
        self.now =
            at.and_then(|at| self.passes.drain(..=at).next_back()).map(|(_, all)| (all, Instant::now()));
    }

    /// `; 12 s left` after this share of the pass.
    fn text(&self, share: f64) -> Option<String> {
        let (expected, begun) = self.now?;
        Some(format!("; {} left", shown(self.seconds(expected, begun.elapsed().as_secs_f64(), share))))
    }

    fn seconds(&self, expected: f64, elapsed: f64, share: f64) -> f64 {
        let of_pass =
            if share > KNOWN { elapsed / share * (1.0 - share) } else { (expected - elapsed).max(0.0) };
        of_pass + self.passes.iter().map(|(_, seconds)| seconds).sum::<f64>()
    }
}

fn shown(seconds: f64) -> String {
    let seconds = seconds.ceil();
    if seconds < 100.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", (seconds / 60.0).ceil()) }
}

/// Seconds that a pass takes about.
fn seconds(profile: &Profile, pass: Pass) -> f64 {
    let of = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    let starts = |number: u32| f64::from(number) * 0.2;
    match pass {
        Pass::Size => 0.0,
        Pass::Startup => starts(profile.startup.runs + profile.startup.cold_runs),
        // Warm-up, start and end.
        Pass::Throughput => profile.throughput.loads.len() as f64 * (of(profile.throughput.duration.0) + 2.0),
        Pass::Density => starts(profile.density.most),
        Pass::Isolation => f64::from(profile.isolation.rounds) * 2.0 * of(profile.isolation.duration.0) + 5.0,
        Pass::Instructions => (2.0 * f64::from(profile.instructions.runs) + 1.0) * 2.0,
        Pass::Network | Pass::Edge => 10.0,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::profile::definition::{self, CpuLimit};

    fn left() -> Left {
        let text = "passes = [\"size\", \"startup\", \"throughput\"]\nlimits = { cpus = 0.5 }\n\
            startup = { runs = 20, cold-runs = 5 }\nthroughput = { loads = [\"closed\", \"70%\"], duration = \"5s\" }";
        let profile = definition::parse("ci", Path::new("ci.toml"), text, CpuLimit::cpus(0.5).unwrap());
        Left::of(&profile.unwrap(), 1)
    }

    #[test]
    fn the_time_left_is_that_of_all_passes_and_of_the_rest_of_this_one() {
        let mut left = left();
        let passes = [(Pass::Startup, 5.0), (Pass::Throughput, 14.0)];
        assert_eq!(left.passes, [passes, passes].concat());
        left.begin(Pass::Startup);
        // By the profile, and then by the speed so far: 2 s for 4 of 20.
        assert_eq!((left.seconds(5.0, 1.0, 0.05), left.seconds(5.0, 2.0, 0.2)), (4.0 + 33.0, 8.0 + 33.0));
        // What is left out is not waited for.
        left.begin(Pass::Throughput);
        left.begin(Pass::Throughput);
        assert_eq!((left.passes.len(), left.seconds(14.0, 20.0, 0.0)), (0, 0.0));
        left.begin(Pass::Throughput);
        assert_eq!(left.text(0.0), None);
    }

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!([0.0, 0.2, 99.0, 99.5, 601.0].map(shown), ["0 s", "1 s", "99 s", "2 min", "11 min"]);
    }
}
