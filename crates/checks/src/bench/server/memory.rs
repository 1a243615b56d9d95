//! Under load with little memory: does it stay?

use super::cgroup::Cgroup;
use super::generator::Load;
use super::subject::{Place, Subject};
use super::{CONNECTIONS, Contest, SERVER_CPU, Server, series};
use crate::bench::SAMPLE;
use crate::bench::report::{Bound, Goal, Part, Row, Table};
use crate::bench::stats::Series;
use tare_oci::units::ByteSize;

/// Of the whole control group: the process, the pages of its program, and what the kernel keeps for it.
const LIMIT: u64 = 16 << 20;

/// One server in one round.
struct Sample {
    /// Bytes, the kernel's with them.
    peak: u64,
    killed: u64,
}

pub(super) fn measure(contest: &Contest<'_>) -> anyhow::Result<Part> {
    let mut part = Part::new("memory");
    if let Err(error) = Cgroup::with_memory(LIMIT) {
        part.left_out.push(format!("all: {error:#}"));
        return Ok(part);
    }
    let found = contest.rounds(&mut part, |server| {
        let cgroup = Cgroup::with_memory(LIMIT)?;
        let place = Place { cpus: SERVER_CPU, cgroup: Some(&cgroup), env: &[] };
        let mut subject = Subject::start(contest, server, &place)?;
        let outcome = contest.generator().run(Load::new(subject.address(), contest.duration), || Ok(()));
        let killed = cgroup.killed()?;
        if killed == 0 {
            outcome?;
            anyhow::ensure!(subject.is_running(), "it ended and said: {}", subject.output());
        }
        Ok(Sample { peak: cgroup.peak()?, killed })
    });
    let killed = |rounds: &[Sample]| series(Series::counts, rounds, |sample| sample.killed);
    let row = |(server, rounds): &(&Server, Vec<Sample>)| Row {
        name: server.name.clone(),
        cells: vec![series(Series::all_bytes, rounds, |sample| sample.peak).into(), killed(rounds).into()],
    };
    let rows = found.iter().map(row).collect();
    part.tables.push(Table { columns: vec!["server", "most memory", "killed"], rows });
    part.note(format!(
        "{CONNECTIONS} connections under load with a limit of {}, which sockets and the program's pages count towards; a failed request leaves a server out",
        ByteSize(LIMIT)
    ));
    if let Some((_, rounds)) = found.iter().find(|(server, _)| server.name == SAMPLE) {
        part.goals.push(Goal::new(
            format!("{SAMPLE}, killed for want of memory"),
            Bound::Exactly(0),
            killed(rounds),
        ));
    }
    Ok(part)
}
