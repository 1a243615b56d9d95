//! What is being done, while it is done: a line that is replaced on a terminal, and nothing elsewhere but
//! what is worth a line in a log.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tare_tool::ui::Ui;

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// A line of progress; it is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    ui: Ui,
}

impl Progress {
    /// Begins with an empty line. On a terminal alone is there anything to see.
    pub(super) fn start(ui: Ui) -> Self {
        let bar = if ui.is_quiet() { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        // indicatif draws on stderr, and only if that is a terminal.
        if let Ok(style) = ProgressStyle::with_template("{prefix:>12.green.bold} {msg} {spinner}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self { bar, ui }
    }

    /// Replaces the line.
    pub(super) fn tell(&self, (verb, what): &(&'static str, String)) {
        if self.bar.is_hidden() && *verb == "Loaded" {
            self.ui.status(verb, what);
        }
        self.bar.set_prefix(*verb);
        self.bar.set_message(what.clone());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
