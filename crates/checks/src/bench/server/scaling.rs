//! What a second worker brings: twice the CPU time can answer twice the requests, unless the workers get in
//! each other's way and each request costs more.

use super::generator::{Generator, Load};
use super::requests::{Sample, sample};
use super::subject::Place;
use super::{BOTH_CPUS, CONNECTIONS, Contest, SERVER_CPU, series};
use crate::bench::SAMPLE;
use crate::bench::report::{Bound, Goal, Part, Row, Table, thousandths};
use crate::bench::stats::{Series, ratio};

pub(super) fn measure(contest: &Contest<'_>) -> anyhow::Result<Part> {
    let mut part = Part::new("scaling");
    let mut on_both = Generator::start(&contest.tare_profiler, BOTH_CPUS)?;
    let found = contest.rounds(&mut part, |server| {
        let one = Place { cpus: SERVER_CPU, ..Place::default() };
        let one = sample(contest, &mut contest.generator(), server, &one, |load| load)?;
        let two = Place { cpus: BOTH_CPUS, ..Place::default() };
        let two = sample(contest, &mut on_both, server, &two, |load| Load { threads: 2, ..load })?;
        Ok((one, two))
    });
    let mut rows = Vec::new();
    for (server, rounds) in &found {
        let scale = |(one, two): &(Sample, Sample)| 2 * ratio(one.cpu, two.cpu);
        let scale = series(Series::ratios, rounds, scale);
        let cells = vec![
            series(Series::short_times, rounds, |(one, _)| one.cpu).into(),
            series(Series::short_times, rounds, |(_, two)| two.cpu).into(),
            scale.clone().into(),
        ];
        rows.push(Row { name: server.name.clone(), cells });
        if server.name == SAMPLE {
            let what = format!("requests for the CPU time of two workers, {SAMPLE}, as multiples of one's");
            part.goals.push(Goal::new(what, Bound::AtLeast(thousandths(1800)), scale));
        }
    }
    part.tables.push(Table {
        columns: vec!["server", "CPU for a request, one worker", "two workers", "scale"],
        rows,
    });
    part.note(format!(
        "{CONNECTIONS} connections; one worker on one CPU with the generator on the other, then two workers and two threads of the generator on both, which take the caches from each other"
    ));
    part.note("the number of workers is what each server makes of the CPUs that it may use");
    Ok(part)
}
