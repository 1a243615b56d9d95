//! The reports of a run so far, which are written where a signal ends it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::profile::report::{Overall, Report, Run};
use crate::profile::several;

/// Reports of images that are being measured.
#[derive(Debug, Default)]
pub(super) struct Unfinished(Mutex<Vec<Begun>>);

#[derive(Debug)]
struct Begun {
    /// Without runs.
    report: Report,
    folder: PathBuf,
    /// The runs of each round.
    rounds: Vec<Vec<Run>>,
}

impl Unfinished {
    fn lock(&self) -> MutexGuard<'_, Vec<Begun>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A round of an image begins, whose report goes to this folder.
    pub(super) fn begin(&self, folder: &Path, report: impl FnOnce() -> Report) {
        let mut all = self.lock();
        if let Some(known) = all.iter_mut().find(|it| it.folder == folder) {
            known.rounds.push(vec![]);
        } else {
            all.push(Begun { report: report(), folder: folder.to_owned(), rounds: vec![vec![]] });
        }
    }

    /// A pass of an image is done: this is what was measured in the round under these limits so far.
    pub(super) fn passed(&self, folder: &Path, run: &Run) {
        let mut all = self.lock();
        let begun = all.iter_mut().find(|it| it.folder == folder);
        let Some(round) = begun.and_then(|begun| begun.rounds.last_mut()) else { return };
        match round.iter_mut().find(|it| it.limits == run.limits) {
            Some(known) => known.clone_from(run),
            None => round.push(run.clone()),
        }
    }

    /// The reports are whole, and written as such.
    pub(super) fn finish(&self) {
        self.lock().clear();
    }

    /// What there is, without a verdict, with the folder of each report.
    pub(super) fn reports(&self) -> Vec<(Report, PathBuf)> {
        let begun = std::mem::take(&mut *self.lock()).into_iter();
        let reports = begun.map(|Begun { report, folder, mut rounds }| {
            rounds.retain(|runs| !runs.is_empty());
            (Report { runs: several::merge(rounds), overall: Overall::Interrupted, ..report }, folder)
        });
        reports.filter(|(report, _)| !report.runs.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::report::sample;

    #[test]
    fn a_report_has_the_passes_that_were_done_and_no_verdict() {
        let unfinished = Unfinished::default();
        let whole = sample();
        let folder = Path::new("app/ci");
        let begin = || unfinished.begin(folder, || Report { runs: vec![], ..whole.clone() });
        begin();
        unfinished.begin(Path::new("other"), || Report { runs: vec![], ..whole.clone() });
        assert_eq!(unfinished.reports(), []);
        begin();
        unfinished.passed(folder, &whole.runs[0]);
        let started = Run { measurements: vec![], ..whole.runs[1].clone() };
        unfinished.passed(folder, &started);
        unfinished.passed(folder, &whole.runs[1]);
        // A second round that has measured nothing yet.
        begin();
        let expected = Report { overall: Overall::Interrupted, ..whole.clone() };
        assert_eq!(unfinished.reports(), [(expected, folder.to_owned())]);
        begin();
        unfinished.passed(folder, &whole.runs[0]);
        unfinished.finish();
        assert_eq!(unfinished.reports(), []);
    }
}
