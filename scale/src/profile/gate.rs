//! Gates: bounds on figures, and the verdict on each.

/// A bound on one metric, in the metric's unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// An id of the metric table.
    pub metric: &'static str,
    /// One case of it; every case there is if none is named.
    pub case: Option<String>,
    /// The most that passes.
    pub max: Option<f64>,
    /// The least that passes.
    pub min: Option<f64>,
    /// By which part of the baseline's value it may be worse.
    pub max_regression: Option<f64>,
    /// Whether a doubtful figure may pass.
    pub allow_unreliable: bool,
}

impl Gate {
    /// As it stands in the profile: `ID` or `ID@CASE`.
    #[must_use]
    pub fn key(&self) -> String {
        match &self.case {
            None => self.metric.to_owned(),
            Some(case) => format!("{}@{case}", self.metric),
        }
    }
}
