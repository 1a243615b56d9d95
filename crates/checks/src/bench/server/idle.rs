//! Memory of a server that has nothing to do: after one answer, and with many connections that stay.

use std::net::TcpStream;
use std::time::Duration;

use super::subject::{Place, Subject};
use super::{Contest, SERVER_CPU, Server, series};
use crate::bench::SAMPLE;
use crate::bench::report::{Bound, Goal, Part, Row, Table};
use crate::bench::stats::Series;

const MEBIBYTE: u64 = 1 << 20;
const CONNECTIONS: u64 = 10_000;
/// Beside the connections, here and there.
const OTHER_FILES: u64 = 100;
/// For what a server does after an answer.
const SETTLE: Duration = Duration::from_millis(200);

pub(super) fn measure(contest: &Contest<'_>) -> anyhow::Result<Part> {
    let mut part = Part::new("idle");
    let found = contest.rounds(&mut part, |server| {
        let subject = start(contest, server)?;
        std::thread::sleep(SETTLE);
        subject.resident()
    });
    part.note(
        "resident memory (VmRSS), which the pages of the program belong to, after one answer; one worker",
    );
    table(&mut part, &found, "resident", 3 * MEBIBYTE / 2, "resident memory of the idle sample");
    Ok(part)
}

pub(super) fn connections(contest: &Contest<'_>) -> anyhow::Result<Part> {
    let mut part = Part::new("connections");
    let files = open_files();
    if files < CONNECTIONS + OTHER_FILES {
        part.left_out.push(format!(
            "all: {files} files may be open, and {CONNECTIONS} connections need more (ulimit -n)"
        ));
        return Ok(part);
    }
    let found = contest.rounds(&mut part, |server| {
        let subject = start(contest, server)?;
        let connections: Vec<TcpStream> =
            (0..CONNECTIONS).map(|_| subject.ask()).collect::<anyhow::Result<_>>()?;
        std::thread::sleep(SETTLE);
        let resident = subject.resident();
        drop(connections);
        resident
    });
    part.note(format!(
        "resident memory with {CONNECTIONS} connections, each of which had one answer; one worker"
    ));
    table(&mut part, &found, "resident", 60 * MEBIBYTE, "resident memory of the sample under them");
    Ok(part)
}

fn start(contest: &Contest<'_>, server: &Server) -> anyhow::Result<Subject> {
    Subject::start(contest, server, &Place { cpus: SERVER_CPU, ..Place::default() })
}

fn table(part: &mut Part, found: &[(&Server, Vec<u64>)], column: &'static str, limit: u64, goal: &str) {
    let bytes = |rounds: &[u64]| series(Series::all_bytes, rounds, |bytes| *bytes);
    let row = |(server, rounds): &(&Server, Vec<u64>)| Row {
        name: server.name.clone(),
        cells: vec![bytes(rounds).into()],
    };
    part.tables.push(Table { columns: vec!["server", column], rows: found.iter().map(row).collect() });
    if let Some((_, rounds)) = found.iter().find(|(server, _)| server.name == SAMPLE) {
        part.goals.push(Goal::new(goal, Bound::AtMost(limit), bytes(rounds)));
    }
}

/// How many files we and what we start may have open.
fn open_files() -> u64 {
    parse_open_files(&std::fs::read_to_string("/proc/self/limits").unwrap_or_default()).unwrap_or_default()
}

/// The soft limit in `/proc/PID/limits`.
fn parse_open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_ascii_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_counts() {
        let limits = "Limit      Soft Limit  Hard Limit  Units\n\
            Max processes   7 8 processes\nMax open files  1024  20000  files\n";
        assert_eq!(parse_open_files(limits), Some(1024));
        assert_eq!(parse_open_files("Max open files unlimited unlimited files\n"), Some(u64::MAX));
        assert_eq!(parse_open_files(""), None);
    }
}
