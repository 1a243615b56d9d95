//! From the clock points of all runs to the figures of the start-up pass.

use crate::profile::measurement::Measurement;
use crate::profile::metric;
use crate::profile::stats;

use super::Series;
use super::probe::Observed;

/// Of the resampling: the same runs give the same interval.
const SEED: u64 = 1;

/// Whether the image's files were in memory before the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// They were, from the run before.
    Warm,
    /// They were dropped from the page cache.
    Cold,
}

impl Cache {
    /// As metric ids have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }

    /// The id of a metric of the start-up pass.
    pub(super) fn metric(self, point: &str) -> String {
        format!("startup.{}.{point}", self.name())
    }
}

/// One start of the server, in nanoseconds of [`tare_load::clock::now`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Before the container is created.
    pub begun: u64,
    /// Namespaces, mounts, cgroup and limits are there.
    pub created: u64,
    /// The runtime was asked to start it.
    pub started: u64,
    /// The image's program has replaced the runtime's; none where the runtime does not let it be seen.
    pub executed: Option<u64>,
    /// What the prober saw.
    pub observed: Observed,
    /// CPU time of its cgroup until it was ready, in nanoseconds.
    pub cpu: Option<u64>,
    /// Bytes of memory of its cgroup when it was ready.
    pub memory: Option<u64>,
    /// From SIGTERM to its end, in nanoseconds; none if it had to be killed.
    pub stop: Option<u64>,
    /// Processes of it that the kernel killed for want of memory.
    pub oom_kills: u64,
    /// Bytes of files in its memory when it was ready.
    pub files: u64,
}

/// The figures of the runs with one state of the cache, without doubts.
#[must_use]
pub fn measurements(cache: Cache, series: &Series) -> Vec<Measurement> {
    // Every point is a median over the same starts: medians of different ones could stand in another order than the points
    // of any start. Where most starts have no time of the exec, none has.
    let executed = series.runs.iter().filter(|run| run.executed.is_some());
    let has_exec = 2 * executed.clone().count() >= series.runs.len();
    let runs: Vec<&Run> = if has_exec { executed.collect() } else { series.runs.iter().collect() };
    let since = |of: fn(&Run) -> u64| -> Vec<f64> {
        runs.iter().map(|run| of(run).saturating_sub(run.begun) as f64).collect()
    };
    let known = |of: fn(&Run) -> Option<u64>| -> Vec<f64> {
        runs.iter().filter_map(|run| of(run)).map(|value| value as f64).collect()
    };
    let ready = since(|run| run.observed.ready);
    let baseline_cpu: Vec<f64> = series.baseline_cpu.iter().map(|time| *time as f64).collect();
    let baseline: Vec<f64> = series.baseline.iter().map(|time| *time as f64).collect();
    let mut rows: Vec<Option<Measurement>> = vec![
        median(cache, "create", since(|run| run.created)),
        median(cache, "start", since(|run| run.started)),
        has_exec
            .then(|| known(|run| Some(run.executed?.saturating_sub(run.begun))))
            .and_then(|times| median(cache, "exec", times)),
        median(cache, "listening", since(|run| run.observed.listening)),
        median(cache, "first-byte", since(|run| run.observed.first_byte)),
        median(cache, "ready", ready.clone()),
        stats::percentile(&ready, 95.0).and_then(|value| of(cache, "ready.p95", value)),
        ready.iter().copied().reduce(f64::min).and_then(|value| of(cache, "ready.min", value)),
        median(cache, "cpu-to-ready", known(|run| run.cpu)),
        median(cache, "runtime-cpu", baseline_cpu),
        median(cache, "memory-at-ready", known(|run| run.memory)),
        median(cache, "stop", known(|run| run.stop)),
        (!series.runs.is_empty())
            .then(|| series.runs.iter().filter(|run| run.stop.is_none()).count() as f64)
            .and_then(|killed| of(cache, "killed", killed)),
    ];
    if let (Some(ours), Some(lowest)) = (stats::median(&ready), stats::median(&baseline)) {
        rows.push(of(cache, "ready-minus-baseline", ours - lowest));
    }
    rows.push(median(cache, "runtime-baseline", baseline));
    let mut rows: Vec<Measurement> = rows.into_iter().flatten().collect();
    rows.sort_by_key(|row| metric::position(row.metric));
    rows
}

fn of(cache: Cache, point: &str, value: f64) -> Option<Measurement> {
    let metric = metric::find(&cache.metric(point))?;
    Some(Measurement::exact(metric.id, value))
}

fn median(cache: Cache, point: &str, samples: Vec<f64>) -> Option<Measurement> {
    let row = of(cache, point, stats::median(&samples)?)?;
    Some(Measurement { interval: stats::median_interval(&samples, SEED), samples, ..row })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(at: u64, offset: u64) -> Run {
        Run {
            begun: at,
            created: at + 10,
            started: at + 20,
            executed: Some(at + 30),
            observed: Observed { listening: at + 40, first_byte: at + 50, ready: at + 60 + offset },
            cpu: Some(5),
            memory: Some(4096),
            stop: None,
            oom_kills: 0,
            files: 0,
        }
    }

    #[test]
    fn every_point_counts_from_the_begin_of_create() {
        let runs = vec![run(1_000, 0), run(9_000, 40), run(5_000, 10)];
        let rows = measurements(
            Cache::Warm,
            &Series { runs, baseline: vec![15, 25, 20], baseline_cpu: vec![3, 4, 3] },
        );
        let values: Vec<(&str, f64)> = rows.iter().map(|row| (row.metric, row.value)).collect();
        assert_eq!(
            values,
            [
                ("startup.warm.create", 10.0),
                ("startup.warm.start", 20.0),
                ("startup.warm.exec", 30.0),
                ("startup.warm.listening", 40.0),
                ("startup.warm.first-byte", 50.0),
                ("startup.warm.ready", 70.0),
                ("startup.warm.ready.p95", 100.0),
                ("startup.warm.ready.min", 60.0),
                ("startup.warm.runtime-baseline", 20.0),
                ("startup.warm.ready-minus-baseline", 50.0),
                ("startup.warm.cpu-to-ready", 5.0),
                ("startup.warm.runtime-cpu", 3.0),
                ("startup.warm.memory-at-ready", 4096.0),
                ("startup.warm.killed", 3.0),
            ]
        );
        let ready = rows.iter().find(|row| row.metric == "startup.warm.ready").unwrap();
        assert_eq!(ready.samples, [60.0, 100.0, 70.0]);
    }

    #[test]
    fn exec_is_of_the_same_starts_as_listening_or_of_none() {
        let runs = [100, 200, 300].map(|at| Run { executed: Some(at + 39), ..run(at, 0) });
        // Faster ones, in which the exec was not seen.
        let missed = |at| {
            let observed = Observed { listening: at + 12, first_byte: at + 13, ready: at + 14 };
            Run { created: at + 1, started: at + 2, executed: None, observed, ..run(at, 0) }
        };
        let points = |runs: Vec<Run>| {
            let rows = measurements(Cache::Warm, &Series { runs, ..Series::default() });
            let of = |metric: &str| rows.iter().find(|row| row.metric == metric).map(|row| row.value);
            (of("startup.warm.exec"), of("startup.warm.listening"))
        };
        assert_eq!(points(runs.to_vec()), (Some(39.0), Some(40.0)));
        let with = |count: u64| [runs.to_vec(), (0..count).map(|at| missed(1_000 * at)).collect()].concat();
        assert_eq!(points(with(3)), (Some(39.0), Some(40.0)));
        assert_eq!(points(with(4)), (None, Some(12.0)));
    }

    #[test]
    fn without_runs_there_are_no_figures() {
        assert_eq!(measurements(Cache::Cold, &Series::default()), []);
        let rows =
            measurements(Cache::Cold, &Series { runs: vec![], baseline: vec![3], baseline_cpu: vec![] });
        assert_eq!(rows.iter().map(|row| row.metric).collect::<Vec<_>>(), ["startup.cold.runtime-baseline"]);
    }
}
