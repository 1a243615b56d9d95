//! Which way a doubt may have moved a figure: the table of docs/doubts.md.
//!
//! A figure that can only look worse than the server is still good for a bound that it keeps. On the side of a baseline
//! every direction turns round: what makes the baseline look worse hides a regression.

use crate::doubt::{Doubt, Reading};

/// Which way a figure may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// It can only look worse than it is.
    Understates,
    /// It can only look better than it is.
    Flatters,
    /// It may look better or worse.
    Unknown,
}

impl Bias {
    /// What two doubts come to.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::Unknown }
    }

    /// The same on the side of the baseline, seen from the candidate.
    #[must_use]
    pub fn turned(self) -> Self {
        match self {
            Self::Understates => Self::Flatters,
            Self::Flatters => Self::Understates,
            Self::Unknown => Self::Unknown,
        }
    }

    /// As the documentation has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Understates => "understates",
            Self::Flatters => "flatters",
            Self::Unknown => "unknown",
        }
    }
}

/// What a figure is about: the columns of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Requests in a second, and copies that fit.
    Rate,
    /// Latency and service time of requests.
    Latency,
    /// Times of a start.
    Start,
    /// CPU time and what goes with it.
    Cost,
    /// Memory.
    Memory,
    /// Bytes, requests, errors: as they were counted.
    Count,
}

impl Subject {
    /// Every subject that a doubt may concern, in the order of the table.
    pub const ALL: [Self; 5] = [Self::Rate, Self::Latency, Self::Start, Self::Cost, Self::Memory];

    /// Of a metric.
    #[must_use]
    pub fn of(metric: &str) -> Self {
        let (pass, name) = metric.split_once('.').unwrap_or_default();
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        match pass {
            "throughput" if begins(&["rate"]) => Self::Rate,
            "throughput" if begins(&["latency.", "service."]) => Self::Latency,
            "throughput" if begins(&["cpu-", "throttled-", "context-switches-"]) => Self::Cost,
            "throughput" if begins(&["memory."]) => Self::Memory,
            "startup" if name.contains(".cpu-") => Self::Cost,
            "startup" if name.contains(".memory-") => Self::Memory,
            "startup" if name.ends_with(".killed") => Self::Count,
            "startup" => Self::Start,
            "density" if begins(&["copies"]) => Self::Rate,
            "density" if begins(&["memory."]) => Self::Memory,
            "density" if begins(&["start."]) => Self::Start,
            "density" => Self::Cost,
            "isolation" if begins(&["p99", "ratio"]) => Self::Latency,
            "edge" if begins(&["p50"]) => Self::Latency,
            "network" if begins(&["p50", "p99", "added"]) => Self::Latency,
            _ => Self::Count,
        }
    }

    /// As the documentation has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Latency => "latency",
            Self::Start => "start-up time",
            Self::Cost => "CPU time",
            Self::Memory => "memory",
            Self::Count => "counts",
        }
    }
}

/// Which way a doubt may have moved a figure of this subject; none where it does not concern it. What was counted is
/// never in doubt.
#[must_use]
pub fn bias(doubt: &Doubt, subject: Subject) -> Option<Bias> {
    use Bias::{Flatters, Understates, Unknown};
    use Subject::{Cost, Latency, Memory, Rate, Start};

    if subject == Subject::Count {
        return None;
    }
    match (doubt, subject) {
        // Fewer requests reach the server than it could answer: its queues stay short and its buffers small, while the
        // generator's own delay is part of every latency.
        (Doubt::GeneratorBound { .. } | Doubt::Unmeasured { what: Reading::GeneratorCpu }, _) => {
            match subject {
                Rate => Some(Understates),
                Latency => Some(Unknown),
                Memory => Some(Flatters),
                _ => None,
            }
        }
        // A share of a capacity that is too low is less load than it says.
        (Doubt::Capacity { low: true, .. }, _) => match subject {
            Rate => Some(Understates),
            Latency | Memory => Some(Flatters),
            _ => None,
        },
        (Doubt::Capacity { low: false, .. } | Doubt::LittlesLaw { .. }, _) => {
            matches!(subject, Rate | Latency).then_some(Unknown)
        }
        // The kernel leaves stolen time out of the CPU time of a process (CONFIG_PARAVIRT_TIME_ACCOUNTING).
        (Doubt::Steal { .. } | Doubt::Unmeasured { what: Reading::HostCpu }, _) => match subject {
            Rate | Latency | Start => Some(Understates),
            _ => None,
        },
        // Others evict its caches too.
        (Doubt::BusyHost { .. }, _) => (subject != Memory).then_some(Understates),
        (Doubt::ThrottledOutsideLimit { .. } | Doubt::Unmeasured { what: Reading::Throttling }, _) => {
            match subject {
                Rate | Latency | Cost => Some(Understates),
                _ => None,
            }
        }
        // What the generator takes is missing to the server, but neither has to wait for another CPU to wake.
        (Doubt::SharedCpus { .. }, _) => match subject {
            Rate => Some(Understates),
            Latency | Start | Cost => Some(Unknown),
            _ => None,
        },
        // Two threads of a core slow each other down, and each is charged for its whole time.
        (Doubt::SharedCore { .. }, _) => match subject {
            Rate | Latency | Start | Cost => Some(Understates),
            _ => None,
        },
        // Reclaim costs time, and the limit is all that memory can reach.
        (Doubt::NearMemoryLimit { .. } | Doubt::Unmeasured { what: Reading::Memory }, _) => match subject {
            Memory => Some(Flatters),
            Start => None,
            _ => Some(Understates),
        },
        (Doubt::NotCold { .. }, _) => (subject == Start).then_some(Flatters),
        (
            Doubt::Errors { .. }
            | Doubt::WrongAnswers { .. }
            | Doubt::Unsent { .. }
            | Doubt::FewerConnections { .. }
            | Doubt::TooFewSamples { .. }
            | Doubt::Scattered { .. }
            | Doubt::Unresolved { .. }
            | Doubt::NoSteadyState { .. }
            | Doubt::OutOfMemory { .. },
            _,
        ) => Some(Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doubt::samples::every_doubt;

    /// The rows of docs/doubts.md, `TARE_UPDATE=1` writes them anew.
    fn table() -> String {
        let mut text = String::from("| doubt |");
        for subject in Subject::ALL {
            text += &format!(" {} |", subject.name());
        }
        text += "\n|---|---|---|---|---|---|\n";
        let mut rows = Vec::new();
        for doubt in every_doubt() {
            let detail = match &doubt {
                Doubt::Unmeasured { what } => format!(": {what}"),
                Doubt::Capacity { low: true, .. } => ": too low".to_owned(),
                Doubt::Capacity { low: false, .. } => ": wrong".to_owned(),
                _ => String::new(),
            };
            let mut row = format!("| `{}`{detail} |", doubt.kind());
            for subject in Subject::ALL {
                row += &format!(" {} |", bias(&doubt, subject).map_or("", Bias::name));
            }
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        text + &rows.join("\n") + "\n"
    }

    #[test]
    fn the_documentation_has_the_table() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/doubts.md");
        let written = std::fs::read_to_string(&path).unwrap();
        let (begin, end) = ("<!-- table -->\n", "<!-- /table -->");
        let (before, rest) = written.split_once(begin).unwrap();
        let (_, after) = rest.split_once(end).unwrap();
        let expected = format!("{before}{begin}{}{end}{after}", table());
        if std::env::var_os("TARE_UPDATE").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        assert!(written == expected, "docs/doubts.md has another table: run with TARE_UPDATE=1");
    }

    #[test]
    fn a_metric_belongs_to_a_subject() {
        for (metric, subject) in [
            ("throughput.rate", Subject::Rate),
            ("throughput.service.p99", Subject::Latency),
            ("throughput.cpu-per-request.user", Subject::Cost),
            ("throughput.memory.peak", Subject::Memory),
            ("throughput.errors.timeout", Subject::Count),
            ("throughput.generator-cpu", Subject::Count),
            ("startup.warm.ready.p95", Subject::Start),
            ("startup.cold.cpu-to-ready", Subject::Cost),
            ("startup.warm.memory-at-ready", Subject::Memory),
            ("startup.warm.killed", Subject::Count),
            ("size.image.compressed", Subject::Count),
            ("density.copies", Subject::Rate),
            ("density.memory.added", Subject::Memory),
            ("density.start.last", Subject::Start),
            ("density.idle-cpu", Subject::Cost),
            ("isolation.ratio", Subject::Latency),
            ("isolation.rate", Subject::Count),
            ("network.p50", Subject::Latency),
            ("edge.p50", Subject::Latency),
            ("edge.hit-rate", Subject::Count),
            ("unknown", Subject::Count),
        ] {
            assert_eq!(Subject::of(metric), subject, "{metric}");
        }
    }

    #[test]
    fn two_ways_come_to_none_that_is_known_and_the_other_side_turns_each_round() {
        assert_eq!(Bias::Understates.and(Bias::Understates), Bias::Understates);
        assert_eq!(Bias::Understates.and(Bias::Flatters), Bias::Unknown);
        assert_eq!(Bias::Flatters.turned(), Bias::Understates);
        assert_eq!(Bias::Unknown.turned(), Bias::Unknown);
    }
}
