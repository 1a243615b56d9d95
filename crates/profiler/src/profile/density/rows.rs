//! From the states of the density pass to its figures.

use tare_oci::units::{ByteSize, Nanoseconds};
use tare_report::Subject;
use tare_report::bias::bias;

use super::{Density, State};
use crate::profile::measurement::Measurement;
use crate::profile::metric::Pass;
use crate::profile::render::units;
use crate::profile::report::{Section, Table};
use crate::profile::stats;
use crate::profile::validity::{self, MachineFacts};
use tare_report::metric::Unit;

/// Of the resampling: the same states give the same interval.
const SEED: u64 = 1;
/// Numbers of copies that the table in the report shows, beside the last.
const SHOWN: [usize; 9] = [1, 2, 5, 10, 20, 50, 100, 200, 500];

/// The figures with what speaks against them.
#[must_use]
pub fn figures(density: &Density, machine: &MachineFacts) -> Vec<Measurement> {
    let mut rows = measurements(density);
    let doubts = validity::machine(machine);
    for row in &mut rows {
        let subject = Subject::of(row.metric);
        row.doubts.extend(doubts.iter().filter(|doubt| bias(doubt, subject).is_some()).cloned());
        if row.metric == "density.start.median" {
            row.doubts.extend(validity::runs(row.samples.len()));
            row.doubts.extend(validity::scattered(&row.samples, validity::STARTUP_VARIATION));
        }
    }
    rows
}

/// The figures without doubts.
#[must_use]
pub fn measurements(density: &Density) -> Vec<Measurement> {
    let exact = Measurement::exact;
    let Some((first, last)) = density.states.first().zip(density.states.last()) else { return Vec::new() };
    let count = density.states.len() as f64;
    let mean = |of: fn(&State) -> u64| of(last) as f64 / count;
    let starts: Vec<f64> = density.states.iter().map(|state| state.ready as f64).collect();
    let growth: Vec<f64> =
        density.states.windows(2).map(|pair| pair[1].cgroup as f64 - pair[0].cgroup as f64).collect();
    let mut rows = vec![
        exact("density.copies", f64::from(density.fit)),
        exact("density.memory.pss", mean(|state| state.proportional)),
        exact("density.memory.cgroup", mean(|state| state.cgroup)),
        exact("density.memory.shared", mean(|state| state.shared)),
        exact("density.idle-cpu", last.idle_cpus / count),
        exact("density.start.first", first.ready as f64),
        exact("density.start.last", last.ready as f64),
    ];
    rows.extend(stats::median(&starts).map(|value| Measurement {
        interval: stats::median_interval(&starts, SEED),
        samples: starts,
        ..exact("density.start.median", value)
    }));
    let added = stats::mean(&growth);
    rows.extend(added.map(|value| {
        let pairs: Vec<(f64, f64)> = growth.iter().map(|bytes| (*bytes, 1.0)).collect();
        let interval = stats::ratio_interval(&pairs, SEED);
        Measurement { interval, samples: growth, ..exact("density.memory.added", value) }
    }));
    // Another copy takes a page at least.
    let memory = added.unwrap_or_else(|| mean(|state| state.cgroup)).max(4096.0);
    let by_memory = density.host_memory.map(|bytes| bytes as f64 / memory);
    let by_cpu = density.host_cpus as f64 * count / last.idle_cpus.max(f64::MIN_POSITIVE);
    rows.extend(by_memory.map(|copies| exact("density.copies-per-host", copies.min(by_cpu).floor())));
    rows
}

/// How the copies were measured, and what they used one after another.
#[must_use]
pub fn section(density: &Density, place: String) -> Section {
    let Density { states, fit, stop, budget, .. } = density;
    let mut notes = vec![place];
    let copies = if *fit == 1 { "1 copy fits".to_owned() } else { format!("{fit} copies fit") };
    notes.push(format!("{copies}: {stop}."));
    notes.push(format!(
        "The budget of all copies together: {} of memory, {} CPUs at rest, {} copies; each ready within {}.",
        ByteSize(budget.memory),
        budget.idle_cpus,
        budget.most,
        Nanoseconds(budget.start)
    ));
    notes.extend(budget.wanted_memory.map(|wanted| {
        format!(
            "The profile's budget of {} is more than half of the memory that was available.",
            ByteSize(wanted)
        )
    }));
    notes.push(
        "copies-per-host is computed for all memory and CPUs of this host, with nothing else on it and no requests."
            .to_owned(),
    );
    let shown = |at: usize| SHOWN.contains(&at) || at == states.len();
    let row = |(at, state): (usize, &State)| {
        vec![
            at.to_string(),
            units::shown(state.ready as f64, Unit::Nanoseconds),
            units::shown(state.proportional as f64, Unit::Bytes),
            units::shown(state.cgroup as f64, Unit::Bytes),
            format!("{:.3}", state.idle_cpus),
        ]
    };
    let rows = (1..).zip(states).filter(|(at, _)| shown(*at)).map(row).collect();
    let columns = ["copies", "the newest ready", "PSS of all", "cgroups of all", "CPUs at rest"];
    let columns = columns.map(str::to_owned).to_vec();
    let title = "Copies at once".to_owned();
    Section {
        pass: Pass::Density,
        notes,
        tables: vec![Table { title, columns, numeric: vec![0, 1, 2, 3, 4], rows }],
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::{Budget, Stop};
    use super::*;

    const MIB: u64 = 1 << 20;

    /// The image's files are in the first copy's cgroup; of 3 MiB of pages that all map each has its part.
    fn density(copies: u64) -> Density {
        let state = |number: u64| State {
            ready: 10_000_000 + number * 1_000_000,
            proportional: 3 * MIB + number * MIB,
            shared: 3 * MIB * number,
            cgroup: 4 * MIB + 2 * MIB * number,
            idle_cpus: 0.001 * number as f64,
        };
        let budget =
            Budget { most: 50, memory: 1 << 30, wanted_memory: None, idle_cpus: 0.5, start: 5_000_000_000 };
        Density {
            states: (1..=copies).map(state).collect(),
            fit: u32::try_from(copies).unwrap(),
            stop: Stop::CgroupMemory(1 << 30),
            budget,
            host_memory: Some(8 << 30),
            host_cpus: 2,
        }
    }

    #[test]
    fn figures_are_per_copy_and_the_host_holds_what_another_copy_adds() {
        let figures = |density: &Density| -> Vec<(&str, f64)> {
            measurements(density).iter().map(|row| (row.metric, (row.value * 1e9).round() / 1e9)).collect()
        };
        let mib = MIB as f64;
        assert_eq!(
            figures(&density(10)),
            [
                ("density.copies", 10.0),
                ("density.memory.pss", 1.3 * mib),
                ("density.memory.cgroup", 2.4 * mib),
                ("density.memory.shared", 3.0 * mib),
                ("density.idle-cpu", 0.001),
                ("density.start.first", 11e6),
                ("density.start.last", 20e6),
                ("density.start.median", 15.5e6),
                ("density.memory.added", 2.0 * mib),
                // 8 GiB at 2 MiB each would be 4096; two CPUs at 0.001 each are 2000.
                ("density.copies-per-host", 2000.0),
            ]
        );
        let one = figures(&density(1));
        assert_eq!(one.iter().find(|(metric, _)| *metric == "density.memory.added"), None);
        assert!(one.contains(&("density.copies-per-host", 1365.0)), "{one:?}");
        let none = Density { fit: 0, stop: Stop::Start(9_000_000_000), ..density(1) };
        assert!(figures(&none).contains(&("density.copies", 0.0)));
        assert!(
            section(&none, String::new()).notes[1].starts_with("0 copies fit: another copy was ready after")
        );
    }

    #[test]
    fn ten_mib_more_in_every_copy_are_ten_mib_more_in_every_figure_per_copy() {
        let (small, mut large) = (density(6), density(6));
        for (number, state) in (1..).zip(&mut large.states) {
            state.proportional += 10 * MIB * number;
            state.cgroup += 10 * MIB * number;
        }
        for metric in ["density.memory.pss", "density.memory.cgroup", "density.memory.added"] {
            let of = |density: &Density| {
                measurements(density).iter().find(|row| row.metric == metric).unwrap().value
            };
            assert!((of(&large) - of(&small) - 10.0 * MIB as f64).abs() < 1.0, "{metric}");
        }
    }

    #[test]
    fn doubts_about_the_machine_concern_times_and_copies_and_few_copies_the_median() {
        let machine = MachineFacts { steal: Some(0.5), ..MachineFacts::default() };
        let kinds = |rows: &[Measurement], metric: &str| -> Vec<&str> {
            let row = rows.iter().find(|row| row.metric == metric).unwrap();
            row.doubts.iter().map(tare_report::Doubt::kind).collect()
        };
        let rows = figures(&density(3), &machine);
        assert_eq!(kinds(&rows, "density.copies"), ["steal"]);
        assert_eq!(kinds(&rows, "density.start.last"), ["steal"]);
        assert_eq!(kinds(&rows, "density.start.median"), ["steal", "too-few-samples"]);
        assert_eq!(kinds(&rows, "density.memory.pss"), Vec::<&str>::new());
    }

    #[test]
    fn the_table_shows_some_of_the_copies_and_the_last() {
        let of = |copies| {
            let rows = section(&density(copies), String::new()).tables.remove(0).rows;
            rows.into_iter().map(|row| row[0].clone()).collect::<Vec<_>>()
        };
        assert_eq!(of(1), ["1"]);
        assert_eq!(of(13), ["1", "2", "5", "10", "13"]);
    }
}
