//! What speaks against the figures of the start-up pass.

use crate::profile::measurement::{Doubt, Measurement};
use crate::profile::stats;
use crate::profile::validity::{self, MachineFacts};

use tare_report::Subject;
use tare_report::bias::bias;

use super::rows::Cache;

/// Adds to the figures what speaks against them.
/// `in_memory` is the type of the file system that holds the image's files, if that is memory.
pub fn add(measurements: &mut [Measurement], machine: &MachineFacts, in_memory: Option<&str>) {
    let doubts = validity::machine(machine);
    let not_cold = in_memory.map(|name| Doubt::NotCold { file_system: name.to_owned() });
    for cache in [Cache::Warm, Cache::Cold] {
        let unresolved = unresolved(cache, measurements);
        let difference =
            measurements.iter_mut().find(|row| row.metric == cache.metric("ready-minus-baseline"));
        if let Some(difference) = difference {
            difference.doubts.extend(unresolved);
        }
    }
    for measurement in measurements {
        let subject = Subject::of(measurement.metric);
        let cold = not_cold.iter().filter(|_| measurement.metric.starts_with("startup.cold."));
        let doubts = doubts.iter().chain(cold).filter(|doubt| bias(doubt, subject).is_some());
        measurement.doubts.extend(doubts.cloned());
        if !measurement.samples.is_empty() {
            measurement.doubts.extend(validity::runs(measurement.samples.len()));
            // One disturbed start of twenty does not move a median.
            let middle = middle_half(&measurement.samples);
            measurement.doubts.extend(validity::scattered(&middle, validity::STARTUP_VARIATION));
        }
    }
}

/// Whether a container for the server may take no longer than one for the program that only exits, as far as the
/// intervals of both say. On a host where what they have in common varies much, it does.
fn unresolved(cache: Cache, measurements: &[Measurement]) -> Option<Doubt> {
    let interval = |point| measurements.iter().find(|row| row.metric == cache.metric(point))?.interval;
    let (ready, baseline) = (interval("ready")?, interval("runtime-baseline")?);
    let (lowest, highest) = (ready.0 - baseline.1, ready.1 - baseline.0);
    (lowest <= 0.0).then_some(Doubt::Unresolved { lowest, highest })
}

/// The samples between the quartiles.
fn middle_half(samples: &[f64]) -> Vec<f64> {
    let (Some(low), Some(high)) = (stats::percentile(samples, 25.0), stats::percentile(samples, 75.0)) else {
        return Vec::new();
    };
    samples.iter().copied().filter(|sample| (low..=high).contains(sample)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_may_be_nothing_is_doubted() {
        let row = |point, interval| Measurement { interval, ..Measurement::exact(point, 1.0) };
        let of = |baseline: (f64, f64)| {
            let mut rows = [
                row("startup.warm.ready", Some((12.0, 14.0))),
                row("startup.warm.runtime-baseline", Some(baseline)),
                row("startup.warm.ready-minus-baseline", None),
                row("startup.cold.ready-minus-baseline", None),
            ];
            add(&mut rows, &MachineFacts::default(), None);
            rows.map(|row| row.doubts)
        };
        assert_eq!(of((8.0, 11.9)), [vec![], vec![], vec![], vec![]]);
        let doubt = Doubt::Unresolved { lowest: -12.0, highest: 0.0 };
        assert_eq!(of((14.0, 24.0)), [vec![], vec![], vec![doubt], vec![]]);
        assert_eq!(of((11.0, 12.0))[2].len(), 1);
    }

    #[test]
    fn starts_out_of_memory_are_not_cold_and_unknown_is_not_fine() {
        let kinds = |machine: &MachineFacts, in_memory| {
            let mut rows = ["startup.warm.ready", "startup.cold.ready", "startup.cold.cpu-to-ready"]
                .map(|metric| Measurement::exact(metric, 1.0));
            add(&mut rows, machine, in_memory);
            rows.map(|row| row.doubts.iter().map(Doubt::kind).collect::<Vec<_>>())
        };
        assert_eq!(kinds(&MachineFacts::default(), Some("tmpfs")), [vec![], vec!["not-cold"], vec![]]);
        let unknown = MachineFacts { steal: None, ..MachineFacts::default() };
        assert_eq!(kinds(&unknown, None), [vec!["unmeasured"], vec!["unmeasured"], vec![]]);
    }

    #[test]
    fn one_slow_start_of_twenty_is_no_doubt() {
        let metric = "startup.warm.ready";
        let of = |samples: Vec<f64>| {
            let mut rows = [Measurement { samples, ..Measurement::exact(metric, 1.0) }];
            add(&mut rows, &MachineFacts::default(), None);
            rows[0].doubts.iter().map(Doubt::kind).collect::<Vec<_>>()
        };
        let mut samples: Vec<f64> = (0..20).map(|at| 1_000.0 + f64::from(at)).collect();
        samples[7] = 50_000.0;
        assert_eq!(of(samples), Vec::<&str>::new());
        assert_eq!(of(vec![1.0, 1.0]), ["too-few-samples"]);
        assert_eq!(of((0..20).map(|at| 1.5_f64.powi(at)).collect()), ["scattered"]);
    }
}
