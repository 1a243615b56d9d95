//! Computes when requests start, and which ones.

use super::plan::{Pace, Request};

/// The planned starts of one thread: of all requests, numbered from 0, it has every `threads`-th.
///
/// In an open loop request `n` is planned for exactly `n / rate` after the start: the sum of rounded gaps
/// would drift.
#[derive(Debug, Clone)]
pub(crate) struct Pacer {
    pace: Pace,
    next: u64,
    step: u64,
}

impl Pacer {
    pub(crate) fn new(pace: Pace, thread: u32, threads: u32) -> Self {
        Self { pace, next: u64::from(thread), step: u64::from(threads) }
    }

    /// Nanoseconds after the start at which the next request is planned; none in a closed loop, where it
    /// is whenever there is room.
    pub(crate) fn next(&self) -> Option<u64> {
        match self.pace {
            Pace::Closed => None,
            Pace::Open { rate } => Some(planned(self.next, rate)),
        }
    }

    /// Leaves out what was planned earlier than so many nanoseconds after the start: what a warm-up could
    /// not send is no debt of the measurement.
    pub(crate) fn skip_before(&mut self, offset: u64) {
        if let Pace::Open { rate } = self.pace {
            let first = planned_before(offset, rate);
            self.next += first.saturating_sub(self.next).div_ceil(self.step) * self.step;
        }
    }

    /// The next request is the one after.
    pub(crate) fn advance(&mut self) {
        self.next += self.step;
    }
}

/// Exact to the nanosecond for the first 2^53 ns (104 days).
fn planned(number: u64, rate: f64) -> u64 {
    (number as f64 * 1e9 / rate) as u64
}

/// How many requests are planned earlier than so many nanoseconds after the start.
pub(crate) fn planned_before(end: u64, rate: f64) -> u64 {
    let (mut low, mut high) = (0, (end as f64 * rate / 1e9) as u64 + 2);
    while low < high {
        let middle = low.midpoint(high);
        if planned(middle, rate) < end { low = middle + 1 } else { high = middle }
    }
    low
}

/// Chooses between weighted requests.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// Sums of the weights up to each request.
    sums: Vec<u64>,
    state: u64,
}

impl Choice {
    pub(crate) fn new(requests: &[Request], seed: u64) -> Self {
        let mut sum = 0;
        let sums = requests.iter().map(|request| {
            sum += u64::from(request.weight);
            sum
        });
        Self { sums: sums.collect(), state: seed }
    }

    /// The index of the next request.
    pub(crate) fn next(&mut self) -> usize {
        if self.sums.len() == 1 {
            return 0;
        }
        let total = self.sums.last().copied().unwrap_or_default();
        // Multiply and shift: no division, and a bias below 2^-32 (Lemire 2019).
        let at = ((u128::from(self.random()) * u128::from(total)) >> 64) as u64;
        self.sums.partition_point(|sum| *sum <= at)
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_one_schedule_that_does_not_drift() {
        let pace = Pace::Open { rate: 3.0 };
        let mut pacers = [Pacer::new(pace, 0, 2), Pacer::new(pace, 1, 2)];
        let mut planned = Vec::new();
        for number in 0..6 {
            planned.push(pacers[number % 2].next().unwrap());
            pacers[number % 2].advance();
        }
        assert_eq!(planned, [0, 333_333_333, 666_666_666, 1_000_000_000, 1_333_333_333, 1_666_666_666]);
        assert_eq!(Pacer::new(Pace::Closed, 0, 1).next(), None);
        // Requests 6 and 7 are next. Number 8, at 2 666 666 666, is the first not before this.
        for (pacer, number) in pacers.iter_mut().zip([8_u64, 9]) {
            pacer.skip_before(2_500_000_000);
            assert_eq!(pacer.next, number);
            pacer.skip_before(1);
            assert_eq!(pacer.next, number);
        }
    }

    #[test]
    fn what_is_planned_in_a_span_is_counted_exactly() {
        for (end, rate, expected) in [
            (0, 3.0, 0),
            (1, 3.0, 1),
            (333_333_333, 3.0, 1),
            (333_333_334, 3.0, 2),
            (1_000_000_000, 3.0, 3),
            (1_000_000_000, 50_000.0, 50_000),
            (10_000_000_000, 0.25, 3),
        ] {
            assert_eq!(planned_before(end, rate), expected, "{end} ns at {rate}");
        }
    }

    #[test]
    fn requests_are_chosen_by_weight_and_alike_for_a_seed() {
        let request = |weight| Request { weight, ..Request::get("/") };
        let requests = [request(70), request(0), request(20), request(10)];
        let count = |seed| {
            let mut choice = Choice::new(&requests, seed);
            let mut counts = [0_u32; 4];
            for _ in 0..100_000 {
                counts[choice.next()] += 1;
            }
            counts
        };
        let counts = count(7);
        assert_eq!(counts, count(7));
        assert_ne!(counts, count(8));
        // Five standard deviations of a binomial distribution are at most 5 × sqrt(100 000 × 0.21) = 725.
        for (count, expected) in counts.iter().zip([70_000_u32, 0, 20_000, 10_000]) {
            assert!(count.abs_diff(expected) <= 725, "{counts:?}");
        }
        assert_eq!(counts[1], 0);
    }
}
