//! One figure, and why it may not be believed.
//!
//! A pass hands out measurements; gates, baselines, comparisons and reports read them. Whether there is a
//! doubt is decided by the validity rules, not here.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::bias::{self, Bias, Subject};
use crate::metric;

pub use crate::doubt::Doubt;

/// One figure of one pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// An id of the [metric table](metric::TABLE).
    pub metric: &'static str,
    /// What is measured where the metric has several: a load case, a layer, a section.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// The statistic that the metric table defines, in the metric's unit.
    pub value: f64,
    /// Lowest and highest value that 95 of 100 such series would give; none for exact metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
    /// What the value was computed from, in the order it was measured; empty for exact metrics.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<f64>,
    /// Why it may not be believed; empty if nothing speaks against it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<Doubt>,
}

impl Measurement {
    /// A figure without samples, as the exact metrics are.
    ///
    /// # Panics
    /// In debug builds, when the metric table has no such id: that is a mistake in the pass.
    #[must_use]
    pub fn exact(metric: &'static str, value: f64) -> Self {
        debug_assert!(metric::find(metric).is_some(), "{metric} is not in the metric table");
        Self { metric, case: None, value, interval: None, samples: vec![], doubts: vec![] }
    }

    /// The same figure of one case.
    #[must_use]
    pub fn of_case(self, case: impl Into<String>) -> Self {
        Self { case: Some(case.into()), ..self }
    }

    /// Its entry in the metric table.
    #[must_use]
    pub fn definition(&self) -> &'static metric::Metric {
        metric::find(self.metric).unwrap_or(&metric::UNKNOWN)
    }

    /// Metric and case in one, as gates name them: `throughput.latency.p99@open-90`.
    #[must_use]
    pub fn key(&self) -> String {
        match &self.case {
            None => self.metric.to_owned(),
            Some(case) => format!("{}@{case}", self.metric),
        }
    }

    /// Whether something speaks against it.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        !self.doubts.is_empty()
    }

    /// Which way all of its doubts together may have moved it; none without a doubt.
    #[must_use]
    pub fn bias(&self) -> Option<Bias> {
        let subject = Subject::of(self.metric);
        // A doubt that the table has nothing of was raised by hand.
        let of = |doubt: &Doubt| bias::bias(doubt, subject).unwrap_or(Bias::Unknown);
        self.doubts.iter().map(of).reduce(Bias::and)
    }
}

/// A measurement as it lies in a file, its metric not yet looked up.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMeasurement {
    metric: String,
    case: Option<String>,
    value: f64,
    interval: Option<(f64, f64)>,
    #[serde(default)]
    samples: Vec<f64>,
    #[serde(default)]
    doubts: Vec<Doubt>,
}

// By hand: serde would borrow the id from the text that is read.
impl<'de> Deserialize<'de> for Measurement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawMeasurement::deserialize(deserializer)?;
        let known = metric::find(&raw.metric)
            .ok_or_else(|| D::Error::custom(format!("`{}` is not a metric of this version", raw.metric)))?;
        let RawMeasurement { metric: _, case, value, interval, samples, doubts } = raw;
        Ok(Self { metric: known.id, case, value, interval, samples, doubts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_round_trips_and_an_unknown_metric_is_refused() {
        let measurement = Measurement {
            interval: Some((1.0, 3.0)),
            samples: vec![1.0, 2.0, 3.0],
            doubts: vec![Doubt::TooFewSamples { samples: 3, needed: 10 }],
            ..Measurement::exact("throughput.latency.p99", 2.0).of_case("open-90")
        };
        assert_eq!(measurement.key(), "throughput.latency.p99@open-90");
        let text = serde_json::to_string(&measurement).unwrap();
        assert_eq!(serde_json::from_str::<Measurement>(&text).unwrap(), measurement);
        let error = serde_json::from_str::<Measurement>(&text.replace("p99", "p98")).unwrap_err();
        assert!(error.to_string().starts_with("`throughput.latency.p98` is not a metric of this version"));
    }
}
