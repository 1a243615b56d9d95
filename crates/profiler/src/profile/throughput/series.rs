//! What the kernel counted of the server, sampled beside the load, so that it can be asked for any span of
//! it: the warm-up is cut off only after it is known how long it took.

/// The counters at one moment; all but the memory only ever grow.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// Nanoseconds of [`tare_load::clock::now`].
    pub at: u64,
    /// CPU time in nanoseconds, of the whole cgroup.
    pub cpu: u64,
    /// In user mode, by ticks; more or less than its part of `cpu`.
    pub user: u64,
    /// In the kernel, by ticks.
    pub system: u64,
    /// Enforcement periods in which it ran (`nr_periods`).
    pub periods: u64,
    /// Those in which its quota was used up (`nr_throttled`).
    pub throttled_periods: u64,
    /// Nanoseconds for which it was held back.
    pub throttled: u64,
    /// Context switches of its processes, of both kinds.
    pub switches: u64,
    /// Bytes in use.
    pub memory: u64,
}

/// What happened in a span. Between two samples the counters are taken to grow evenly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// How long it was.
    pub nanoseconds: f64,
    /// As in [`Sample`].
    pub cpu: f64,
    /// The part of `cpu` in user mode. The kernel counts how many ticks fell there, and only the sum exactly.
    pub user: f64,
    /// The part of `cpu` in the kernel.
    pub system: f64,
    /// As in [`Sample`].
    pub periods: f64,
    /// As in [`Sample`].
    pub throttled_periods: f64,
    /// As in [`Sample`].
    pub throttled: f64,
    /// As in [`Sample`].
    pub switches: f64,
    /// The most that any sample in the span saw, and the last before it, in bytes.
    pub memory_highest: u64,
}

/// Samples in the order in which they were taken.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<Sample>);

impl Series {
    /// Adds a later sample.
    pub fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// Adds a turn of so many nanoseconds, between two samples at rest: what lay between the turns is left out
    /// (and none of it counted).
    pub fn push_turn(&mut self, nanoseconds: u64, before: &Sample, after: &Sample) {
        let last = *self.0.last().unwrap_or(&Sample { memory: before.memory, ..Sample::default() });
        if self.0.is_empty() {
            self.0.push(last);
        }
        let grown = |of: fn(&Sample) -> u64| of(&last) + of(after).saturating_sub(of(before));
        self.0.push(Sample {
            at: last.at + nanoseconds,
            cpu: grown(|it| it.cpu),
            user: grown(|it| it.user),
            system: grown(|it| it.system),
            periods: grown(|it| it.periods),
            throttled_periods: grown(|it| it.throttled_periods),
            throttled: grown(|it| it.throttled),
            switches: grown(|it| it.switches),
            memory: after.memory,
        });
    }

    /// The last sample.
    #[must_use]
    pub fn last(&self) -> Option<&Sample> {
        self.0.last()
    }

    /// The most memory that any sample saw, in bytes.
    #[must_use]
    pub fn memory_highest(&self) -> Option<u64> {
        self.0.iter().map(|sample| sample.memory).max()
    }

    /// What happened between two moments. None where the samples do not reach over the whole span.
    #[must_use]
    pub fn between(&self, from: u64, to: u64) -> Option<Span> {
        let first = self.0.first()?;
        let last = self.0.last()?;
        if from >= to || from < first.at || to > last.at {
            return None;
        }
        let grown = |of: fn(&Sample) -> u64| self.value_at(to, of) - self.value_at(from, of);
        let cpu = grown(|it| it.cpu);
        let (user, system) = divided(cpu, grown(|it| it.user), grown(|it| it.system));
        let inside = self.0.iter().filter(|sample| (from..=to).contains(&sample.at));
        // What was in use when the span began.
        let before = self.0.iter().rfind(|sample| sample.at <= from);
        Some(Span {
            nanoseconds: difference(to, from),
            cpu,
            user,
            system,
            periods: grown(|it| it.periods),
            throttled_periods: grown(|it| it.throttled_periods),
            throttled: grown(|it| it.throttled),
            switches: grown(|it| it.switches),
            memory_highest: inside.chain(before).map(|it| it.memory).max()?,
        })
    }

    /// A counter at a moment, relative to the first sample, so that no precision is lost.
    fn value_at(&self, at: u64, of: fn(&Sample) -> u64) -> f64 {
        let Some(first) = self.0.first() else { return 0.0 };
        let next = self.0.partition_point(|sample| sample.at < at);
        let Some(after) = self.0.get(next).or(self.0.last()) else { return 0.0 };
        let before = self.0.get(next.saturating_sub(1)).unwrap_or(after);
        let start = difference(of(before), of(first));
        if after.at <= before.at {
            return difference(of(after), of(first));
        }
        let part = difference(at, before.at) / difference(after.at, before.at);
        start + part.clamp(0.0, 1.0) * difference(of(after), of(before))
    }
}

/// Divides CPU time as the ticks fell, in user mode and in the kernel, as the kernel does for version 2
/// (kernel/sched/cputime.c, `cputime_adjust`). Without a tick all is the kernel's: that is where a program
/// begins.
fn divided(cpu: f64, user: f64, system: f64) -> (f64, f64) {
    let ticks = user + system;
    let user = if ticks > 0.0 { cpu * user / ticks } else { 0.0 };
    (user, cpu - user)
}

/// `a - b`; a counter that goes backwards, as when a process has ended, has not grown.
#[expect(clippy::cast_precision_loss, reason = "differences within a run are far below 2^53")]
fn difference(a: u64, b: u64) -> f64 {
    a.saturating_sub(b) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(samples: &[(u64, u64, u64)]) -> Series {
        let mut series = Series::default();
        for (at, cpu, memory) in samples {
            series.push(Sample { at: *at, cpu: *cpu, memory: *memory, ..Sample::default() });
        }
        series
    }

    #[test]
    fn a_span_between_samples_has_its_share() {
        let series = series(&[(1_000, 500, 7), (2_000, 700, 9), (3_000, 1_700, 8)]);
        let cpu = |from, to| series.between(from, to).map(|span| (span.cpu, span.memory_highest));
        assert_eq!(cpu(1_000, 3_000), Some((1_200.0, 9)));
        assert_eq!(cpu(2_000, 3_000), Some((1_000.0, 9)));
        assert_eq!(cpu(2_500, 3_000), Some((500.0, 9)));
        assert_eq!(cpu(1_500, 2_250), Some((350.0, 9)));
        assert_eq!(cpu(1_100, 1_200), Some((20.0, 7)));
    }

    #[test]
    fn user_and_kernel_time_add_up_to_the_span_and_neither_is_negative() {
        let sample = |at, cpu, user, system| Sample { at, cpu, user, system, ..Sample::default() };
        let mut series = Series::default();
        // In the second span no tick fell in user mode: its part of all ticks becomes less.
        series.push(sample(0, 1_000, 30, 10));
        series.push(sample(10, 1_400, 60, 20));
        series.push(sample(20, 2_000, 60, 40));
        series.push(sample(30, 2_500, 60, 40));
        let parts = |from, to| series.between(from, to).map(|span| (span.cpu, span.user, span.system));
        assert_eq!(parts(0, 10), Some((400.0, 300.0, 100.0)));
        assert_eq!(parts(10, 20), Some((600.0, 0.0, 600.0)));
        assert_eq!(parts(0, 20), Some((1_000.0, 500.0, 500.0)));
        assert_eq!(parts(20, 30), Some((500.0, 0.0, 500.0)));
    }

    #[test]
    fn turns_are_joined_without_what_lay_between_them() {
        let sample = |at, cpu, memory| Sample { at, cpu, memory, ..Sample::default() };
        let mut series = Series::default();
        series.push_turn(100, &sample(1_000, 500, 7), &sample(1_200, 560, 9));
        series.push_turn(50, &sample(9_000, 990, 8), &sample(9_060, 1_030, 8));
        let span = series.between(0, 150).unwrap();
        assert_eq!((span.cpu, span.nanoseconds, span.memory_highest), (100.0, 150.0, 9));
        assert_eq!(series.between(100, 150).unwrap().cpu, 40.0);
        assert_eq!(series.between(0, 151), None);
    }

    #[test]
    fn a_span_outside_the_samples_is_not_guessed() {
        let series = series(&[(1_000, 500, 7), (2_000, 700, 9)]);
        for (from, to) in [(999, 1_500), (1_500, 2_001), (1_500, 1_500), (1_700, 1_600)] {
            assert_eq!(series.between(from, to), None, "{from} {to}");
        }
        assert_eq!(Series::default().between(1, 2), None);
    }

    #[test]
    fn a_counter_that_goes_backwards_does_not_become_negative() {
        let span = series(&[(0, 900, 1), (10, 400, 1)]).between(0, 10).unwrap();
        assert_eq!(span.cpu, 0.0);
    }
}
