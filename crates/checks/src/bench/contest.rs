//! Contestants that do the same work in turn: every round runs each of them once, so that what disturbs
//! the machine for a while disturbs all.

use std::time::{Duration, Instant};

use super::stats::Series;

type Step<'a> = Box<dyn FnMut(u32) -> anyhow::Result<()> + 'a>;

/// One way to do the work.
pub(super) struct Contestant<'a> {
    pub(super) name: String,
    prepare: Step<'a>,
    timed: Step<'a>,
}

impl<'a> Contestant<'a> {
    /// What is done before the clock starts, and what it measures; both are told the round.
    pub(super) fn new(
        name: impl Into<String>,
        prepare: impl FnMut(u32) -> anyhow::Result<()> + 'a,
        timed: impl FnMut(u32) -> anyhow::Result<()> + 'a,
    ) -> Self {
        Self { name: name.into(), prepare: Box::new(prepare), timed: Box::new(timed) }
    }
}

/// A warm-up round that does not count, and then the rounds. One series for each contestant.
pub(super) fn run(rounds: u32, contestants: &mut [Contestant<'_>]) -> anyhow::Result<Vec<Series>> {
    let mut times: Vec<Vec<Duration>> = contestants.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        for (contestant, times) in contestants.iter_mut().zip(&mut times) {
            (contestant.prepare)(round)?;
            let started = Instant::now();
            (contestant.timed)(round)?;
            let time = started.elapsed();
            if round > 0 {
                times.push(time);
            }
        }
    }
    Ok(times.into_iter().map(Series::times).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn all_are_run_in_turn_and_the_first_round_does_not_count() {
        let log = RefCell::new(Vec::new());
        let contestant = |name: &'static str| {
            let log = &log;
            Contestant::new(
                name,
                |_| Ok(()),
                move |round| {
                    log.borrow_mut().push((name, round));
                    Ok(())
                },
            )
        };
        let mut contestants = [contestant("a"), contestant("b")];
        let series = run(1, &mut contestants).unwrap();
        drop(contestants);
        assert_eq!(series.len(), 2);
        assert_eq!(log.into_inner(), [("a", 0), ("b", 0), ("a", 1), ("b", 1)]);
    }
}
