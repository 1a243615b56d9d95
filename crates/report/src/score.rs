//! The isolation of a container in one word.

use std::fmt;

/// How far a neighbour raises the 99th percentile of a server's latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Score {
    /// To at most 1.1 times of it.
    Excellent,
    /// To at most 1.5 times of it.
    Good,
    /// To at most 3 times of it.
    Fair,
    /// Further.
    Poor,
}

impl Score {
    /// The score of a value of the metric `isolation.ratio`.
    #[must_use]
    pub fn of(ratio: f64) -> Self {
        match ratio {
            ratio if ratio <= 1.1 => Self::Excellent,
            ratio if ratio <= 1.5 => Self::Good,
            ratio if ratio <= 3.0 => Self::Fair,
            _ => Self::Poor,
        }
    }

    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Excellent => "excellent",
            Self::Good => "good",
            Self::Fair => "fair",
            Self::Poor => "poor",
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_the_better_score_and_what_is_no_number_to_the_worst() {
        for (ratio, name) in [
            (0.9, "excellent"),
            (1.1, "excellent"),
            (1.101, "good"),
            (1.5, "good"),
            (1.6, "fair"),
            (3.0, "fair"),
            (3.1, "poor"),
            (f64::NAN, "poor"),
        ] {
            assert_eq!(Score::of(ratio).to_string(), name, "{ratio}");
        }
    }
}
