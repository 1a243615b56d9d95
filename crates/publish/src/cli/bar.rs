//! How far a transfer is: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tare_oci::units::ByteSize;
use tare_tool::ui::Ui;

use crate::push::Progress;

/// A line is printed no more often: logs of CI keep every line.
const PAUSE: Duration = Duration::from_secs(10);

pub(super) enum Bar {
    Terminal(indicatif::ProgressBar),
    Lines { verb: &'static str, state: Mutex<State>, ui: Ui },
}

pub(super) struct State {
    total: u64,
    done: u64,
    next: Instant,
}

impl Bar {
    /// For a transfer that `verb` names, as in `Sending`.
    pub(super) fn new(verb: &'static str, ui: Ui) -> Self {
        if !std::io::stderr().is_terminal() {
            let state = Mutex::new(State { total: 0, done: 0, next: Instant::now() + PAUSE });
            return Self::Lines { verb, state, ui };
        }
        if ui.is_quiet() {
            return Self::Terminal(indicatif::ProgressBar::hidden());
        }
        let bar = indicatif::ProgressBar::new(0);
        let template = format!("{verb:>12} {{bar:40}} {{bytes}}/{{total_bytes}} {{bytes_per_sec}} {{eta}}");
        let style = indicatif::ProgressStyle::with_template(&template);
        Self::Terminal(style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style)))
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        if let Self::Terminal(bar) = self {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bar {
    fn start(&self, bytes: u64) {
        match self {
            Self::Terminal(bar) => bar.set_length(bytes),
            Self::Lines { state, .. } => state.lock().unwrap_or_else(PoisonError::into_inner).total = bytes,
        }
    }

    fn advance(&self, bytes: i64) {
        match self {
            Self::Terminal(bar) => match u64::try_from(bytes) {
                Ok(bytes) => bar.inc(bytes),
                Err(_) => bar.dec(bytes.unsigned_abs()),
            },
            Self::Lines { verb, state, ui } => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(line) = state.advance(bytes, Instant::now()) {
                    ui.status(verb, &line);
                }
            }
        }
    }
}

impl State {
    /// The line to print, if it is time for one.
    fn advance(&mut self, bytes: i64, now: Instant) -> Option<String> {
        self.done = self.done.saturating_add_signed(bytes);
        if now < self.next {
            return None;
        }
        self.next = now + PAUSE;
        Some(format!("{} of {}", ByteSize(self.done), ByteSize(self.total)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_printed_after_each_pause() {
        let begin = Instant::now();
        let mut state = State { total: 3_000_000, done: 0, next: begin + PAUSE };
        let after = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(state.advance(1_000_000, after(9)), None);
        assert_eq!(state.advance(500_000, after(11)), Some("1.50 MB of 3.00 MB".to_owned()));
        assert_eq!(state.advance(-1_000_000, after(12)), None);
        assert_eq!(state.advance(0, after(21)), Some("500.0 kB of 3.00 MB".to_owned()));
    }
}
