//! The steps of a measurement, while they are done: a line that is replaced on a terminal, and nothing elsewhere but
//! what is worth a line in a log.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tare_container::kind::RuntimeKind;
use tare_tool::ui::Ui;

use crate::profile::measure::Step;

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Shows steps; its line is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    ui: Ui,
    /// What is measured.
    name: String,
    runtime: Option<RuntimeKind>,
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(ui: Ui, name: String, runtime: Option<RuntimeKind>) -> Self {
        Self { ui, name, runtime, bar: ProgressBar::hidden() }
    }

    pub(super) fn show(&mut self, step: &Step<'_>) {
        let (verb, text) = match step {
            Step::Reading => return self.ui.status("Reading", &self.name),
            Step::Running(limits) => {
                self.bar.finish_and_clear();
                let runtime = self.runtime.unwrap_or_default();
                self.ui.status("Running", &format!("{} with {limits} ({runtime})", self.name));
                return self.spin();
            }
            Step::Started { done, of, ready } => {
                ("Starting", format!("{done}/{of}: ready after {:.1} ms", *ready as f64 / 1e6))
            }
            Step::Loaded { load, rate } => {
                let text = format!("{}: {rate:.0} requests/s", load.case());
                if self.bar.is_hidden() {
                    self.ui.status("Loaded", &text);
                }
                ("Loaded", text)
            }
            Step::Copied { copies, most, ready } => {
                ("Copying", format!("{copies} of at most {most}: ready after {:.1} ms", *ready as f64 / 1e6))
            }
            Step::Disturbed { round, of, p99: [alone, beside] } => {
                let [alone, beside] = [alone, beside].map(|p99| p99 / 1e6);
                (
                    "Disturbing",
                    format!("{round}/{of}: p99 {alone:.2} ms alone, {beside:.2} ms beside a neighbour"),
                )
            }
            Step::Counted(counting) => {
                self.ui.status("Counted", &counting.to_string());
                ("Counted", String::new())
            }
            Step::Comparing { pair, sides: [first, second], metrics } => {
                if *pair == 1 {
                    self.spin();
                }
                ("Comparing", format!("pair {pair}: {first:?} and {second:?}, {metrics} metrics open"))
            }
        };
        self.bar.set_prefix(verb);
        self.bar.set_message(text);
    }

    /// indicatif draws on stderr, and only if that is a terminal.
    fn spin(&mut self) {
        self.bar = if self.ui.is_quiet() { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        if let Ok(style) = ProgressStyle::with_template("{prefix:>12.green.bold} {msg} {spinner}") {
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
