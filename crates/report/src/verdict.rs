//! The judgement of gates.

use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// What became of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The bound holds.
    Pass,
    /// It does not, or the figure is missing.
    Fail,
    /// The figure cannot be believed.
    Unreliable,
    /// It was not asked for: its pass did not run, or there is no baseline.
    Skipped,
}

impl Outcome {
    /// As reports have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unreliable => "unreliable",
            Self::Skipped => "skipped",
        }
    }
}

/// The judgement of one gate on one figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The figure, as `ID` or `ID@CASE`.
    pub gate: String,
    /// The limits it was measured under; none for what does not run the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// What became of it.
    pub outcome: Outcome,
    /// The figure in its metric's unit, if it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// One line for a person: the figure, the bound, and what is wrong.
    pub reason: String,
}

/// All verdicts in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overall {
    /// Every gate that was judged passed.
    Pass,
    /// One failed, or the image did.
    Fail,
    /// None failed, but a figure cannot be believed.
    Unreliable,
    /// The measurement was interrupted, and nothing was judged.
    Interrupted,
}

impl Overall {
    /// The worst of the verdicts.
    #[must_use]
    pub fn of(verdicts: &[Verdict]) -> Self {
        let has = |outcome| verdicts.iter().any(|verdict| verdict.outcome == outcome);
        if has(Outcome::Fail) {
            Self::Fail
        } else if has(Outcome::Unreliable) {
            Self::Unreliable
        } else {
            Self::Pass
        }
    }

    /// Whether it is a success: only [`Self::Pass`] is.
    #[must_use]
    pub fn passed(self) -> bool {
        self == Self::Pass
    }

    /// As reports have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unreliable => "unreliable",
            Self::Interrupted => "interrupted",
        }
    }
}
