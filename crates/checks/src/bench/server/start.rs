//! From starting the program to its first answer.

use std::time::Duration;

use super::subject::Subject;
use super::{Contest, Server, series};
use crate::bench::SAMPLE;
use crate::bench::report::{Bound, Goal, Part, Row, Table};
use crate::bench::stats::Series;

/// Starts of each server in a round, whose median counts: a start is short, and one in ten is disturbed.
const STARTS: usize = 11;
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_micros(20);
/// No server takes as long.
const PATIENCE: Duration = Duration::from_secs(10);
const GOAL: u64 = 2_000_000;

pub(super) fn measure(contest: &Contest<'_>) -> anyhow::Result<Part> {
    let mut part = Part::new("start");
    let found = contest.rounds(&mut part, |server| {
        let starts: Vec<Duration> =
            (0..STARTS).map(|_| start(contest, server)).collect::<anyhow::Result<_>>()?;
        Ok(Series::times(starts).median())
    });
    let times = |rounds: &[u64]| series(Series::short_times, rounds, |time| *time);
    let row = |(server, rounds): &(&Server, Vec<u64>)| Row {
        name: server.name.clone(),
        cells: vec![times(rounds).into()],
    };
    let rows = found.iter().map(row).collect();
    part.tables.push(Table { columns: vec!["server", "exec to first answer"], rows });
    part.note(format!("no container; the median of {STARTS} starts in each round; all CPUs"));
    if let Some((_, rounds)) = found.iter().find(|(server, _)| server.name == SAMPLE) {
        part.goals.push(Goal::new(
            format!("{SAMPLE}, exec to first answer"),
            Bound::AtMost(GOAL),
            times(rounds),
        ));
    }
    Ok(part)
}

fn start(contest: &Contest<'_>, server: &Server) -> anyhow::Result<Duration> {
    let mut subject = Subject::exec(contest, server)?;
    loop {
        match subject.ask() {
            Ok(_) => return Ok(subject.age()),
            Err(error) if subject.age() > PATIENCE || !subject.is_running() => {
                return Err(error.context(format!("it said: {}", subject.output())));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
