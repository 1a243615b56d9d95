//! What speaks against the figures of the start-up pass.

use crate::profile::measurement::Measurement;
use crate::profile::stats;
use crate::profile::validity::{self, MachineFacts};

/// Adds to the figures what speaks against them.
pub fn add(measurements: &mut [Measurement], machine: &MachineFacts) {
    let doubts = validity::machine(machine);
    for measurement in measurements {
        measurement.doubts.extend(doubts.iter().cloned());
        if !measurement.samples.is_empty() {
            measurement.doubts.extend(validity::runs(measurement.samples.len()));
            // One disturbed start of twenty does not move a median.
            let middle = middle_half(&measurement.samples);
            measurement.doubts.extend(validity::scattered(&middle, validity::STARTUP_VARIATION));
        }
    }
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
    use crate::profile::measurement::Doubt;

    #[test]
    fn one_slow_start_of_twenty_is_no_doubt() {
        let metric = "startup.warm.ready";
        let of = |samples: Vec<f64>| {
            let mut rows = [Measurement { samples, ..Measurement::exact(metric, 1.0) }];
            add(&mut rows, &MachineFacts::default());
            rows[0].doubts.iter().map(Doubt::kind).collect::<Vec<_>>()
        };
        let mut samples: Vec<f64> = (0..20).map(|at| 1_000.0 + f64::from(at)).collect();
        samples[7] = 50_000.0;
        assert_eq!(of(samples), Vec::<&str>::new());
        assert_eq!(of(vec![1.0, 1.0]), ["too-few-samples"]);
        assert_eq!(of((0..20).map(|at| 1.5_f64.powi(at)).collect()), ["scattered"]);
    }
}
