//! Statistics of few and noisy samples, each with its definition.
//!
//! Deterministic: what needs chance takes a seed. The values are finite numbers; where a statistic needs more
//! of them than there are, it is `None`. There is no Mann-Whitney test: the permutation test here asks about
//! the median that is reported, and not about ranks that nobody sees.

/// Resamples of a bootstrap, and shufflings of a permutation test beside the one that was measured.
pub const RESAMPLES: u32 = 9_999;

/// A small generator of pseudo-random numbers: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An index below `length`, which is not 0. (Lemire's multiplication; its bias is below 2^-40 here.)
    pub fn below(&mut self, length: usize) -> usize {
        let wide = u128::from(self.next_u64()) * length as u128;
        #[expect(clippy::cast_possible_truncation, reason = "the product's upper half is below `length`")]
        let index = (wide >> 64) as usize;
        index
    }

    /// A number from 0 to below 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a float holds")]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A count as a float.
#[expect(clippy::cast_precision_loss, reason = "no series is longer than 2^53")]
fn float(count: usize) -> f64 {
    count as f64
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The middle value, or the mean of the two middle ones.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    median_of(&mut values.to_vec())
}

/// The median of values whose order does not matter any more.
fn median_of(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    let even = values.len().is_multiple_of(2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if !even {
        return Some(upper);
    }
    // The larger of the lower half is its neighbour.
    let lower = below.iter().copied().max_by(f64::total_cmp).unwrap_or(upper);
    Some(f64::midpoint(lower, upper))
}

/// The percentile by nearest rank: the least value that at least `percent` of 100 values do not exceed.
#[must_use]
pub fn percentile(values: &[f64], percent: f64) -> Option<f64> {
    rank(&sorted(values), percent)
}

fn rank(sorted: &[f64], percent: f64) -> Option<f64> {
    let rank = (percent / 100.0 * float(sorted.len())).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float below 0 becomes 0, and one beyond the values their last"
    )]
    let index = (rank as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied()
}

/// The arithmetic mean.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / float(values.len()))
}

/// The standard deviation of the whole that the values are a sample of (divided by n - 1).
#[must_use]
pub fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / float(values.len() - 1)).sqrt())
}

/// The coefficient of variation: standard deviation over mean. None where the mean is 0.
#[must_use]
pub fn variation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|mean| *mean != 0.0)?;
    deviation(values).map(|deviation| deviation / mean.abs())
}

/// The median absolute deviation from the median, without a factor.
#[must_use]
pub fn mad(values: &[f64]) -> Option<f64> {
    let middle = median(values)?;
    let mut distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    median_of(&mut distances)
}

/// The interval in which 95 % of the medians of resamples lie (bootstrap, percentile method; B. Efron, 1979).
/// None for fewer than two values.
#[must_use]
pub fn median_interval(values: &[f64], seed: u64) -> Option<(f64, f64)> {
    if values.len() < 2 {
        return None;
    }
    let mut random = Random::new(seed);
    let mut resample = vec![0.0; values.len()];
    let mut medians = Vec::with_capacity(RESAMPLES as usize);
    for _ in 0..RESAMPLES {
        resample.fill_with(|| values[random.below(values.len())]);
        medians.extend(median_of(&mut resample));
    }
    medians.sort_by(f64::total_cmp);
    Some((rank(&medians, 2.5)?, rank(&medians, 97.5)?))
}

/// The interval in which 95 % of the quotients lie that resamples of these pairs give, each the sum of the numerators
/// over the sum of the denominators: that of a mean where all denominators are alike (bootstrap, percentile method).
/// None for fewer than two pairs, or where a resample has no denominator.
#[must_use]
pub fn ratio_interval(pairs: &[(f64, f64)], seed: u64) -> Option<(f64, f64)> {
    if pairs.len() < 2 {
        return None;
    }
    let mut random = Random::new(seed);
    let mut quotients = Vec::with_capacity(RESAMPLES as usize);
    for _ in 0..RESAMPLES {
        let (mut above, mut below) = (0.0, 0.0);
        for _ in pairs {
            let pair = pairs[random.below(pairs.len())];
            above += pair.0;
            below += pair.1;
        }
        quotients.push(above / below);
    }
    if quotients.iter().any(|quotient| !quotient.is_finite()) {
        return None;
    }
    quotients.sort_by(f64::total_cmp);
    Some((rank(&quotients, 2.5)?, rank(&quotients, 97.5)?))
}

/// Whether a value lies more than 1.5 interquartile ranges outside the quartiles of the values, which are by nearest rank
/// (J. W. Tukey, Exploratory Data Analysis, 1977).
fn is_outlier(value: f64, values: &[f64]) -> bool {
    let sorted = sorted(values);
    rank(&sorted, 25.0).zip(rank(&sorted, 75.0)).is_some_and(|(lower, upper)| {
        let fence = 1.5 * (upper - lower);
        value < lower - fence || value > upper + fence
    })
}

/// How likely two series from the same source are to have medians as far apart as these, whichever is the
/// greater: a permutation test with [`RESAMPLES`] shufflings (R. A. Fisher, 1935).
///
/// Medians, because disturbances only ever slow a run down, and one of them would move a mean. The measured
/// order counts as one of the shufflings, so that the result is never 0 (Phipson and Smyth, 2010).
/// None where a series is empty.
#[must_use]
pub fn permutation_test(a: &[f64], b: &[f64], seed: u64) -> Option<f64> {
    let measured = (median(a)? - median(b)?).abs();
    let mut random = Random::new(seed);
    let mut pool: Vec<f64> = a.iter().chain(b).copied().collect();
    let mut scratch = pool.clone();
    // Sums in another order differ in their last bits.
    let enough = measured * (1.0 - 1e-12);
    let mut as_far = 1_u32;
    for _ in 0..RESAMPLES {
        // Fisher-Yates as far as the first series reaches.
        for index in 0..a.len() {
            let other = index + random.below(pool.len() - index);
            pool.swap(index, other);
        }
        scratch.copy_from_slice(&pool);
        let (left, right) = scratch.split_at_mut(a.len());
        if let (Some(left), Some(right)) = (median_of(left), median_of(right))
            && (left - right).abs() >= enough
        {
            as_far += 1;
        }
    }
    Some(f64::from(as_far) / f64::from(RESAMPLES + 1))
}

/// How likely differences as large as these are, if each could as well have had the other sign.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SignedRank {
    /// If they are not above 0 in truth: small where they are.
    pub above: f64,
    /// If they are not below 0 in truth: small where they are.
    pub below: f64,
}

/// The signed-rank test (F. Wilcoxon, 1945) of paired differences: a permutation test over all 2^n signs,
/// counted exactly. Only ranks count, so that a disturbed pair counts no more than its neighbour.
/// Differences of 0 are left out; without any other, nothing is unlikely.
#[must_use]
pub fn signed_rank(differences: &[f64]) -> SignedRank {
    let mut by_size: Vec<f64> = differences.iter().copied().filter(|it| *it != 0.0).collect();
    by_size.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    // Ranks are doubled, for equal sizes share the mean of theirs.
    let mut ranks = vec![0_usize; by_size.len()];
    let mut first = 0;
    while first < by_size.len() {
        let equal = by_size[first..].iter().take_while(|it| it.abs() == by_size[first].abs()).count();
        ranks[first..first + equal].fill(2 * first + equal + 1);
        first += equal;
    }
    let positive: usize = ranks.iter().zip(&by_size).filter(|(_, it)| **it > 0.0).map(|(rank, _)| rank).sum();
    let total: usize = ranks.iter().sum();
    // The share of all choices of signs that give each sum of positive ranks.
    let mut shares = vec![0.0_f64; total + 1];
    shares[0] = 1.0;
    let mut reached = 0;
    for rank in ranks {
        reached += rank;
        for sum in (0..=reached).rev() {
            let with = if sum >= rank { shares[sum - rank] } else { 0.0 };
            shares[sum] = f64::midpoint(shares[sum], with);
        }
    }
    let share = |range: &[f64]| range.iter().sum::<f64>().min(1.0);
    SignedRank { above: share(&shares[positive..]), below: share(&shares[..=positive]) }
}

/// The centre that belongs to [`signed_rank`]: the median of the means of all pairs, each value with itself too
/// (J. L. Hodges and E. L. Lehmann, 1963).
#[must_use]
pub fn centre(values: &[f64]) -> Option<f64> {
    let mut means: Vec<f64> = values
        .iter()
        .enumerate()
        .flat_map(|(at, first)| values[at..].iter().map(move |second| f64::midpoint(*first, *second)))
        .collect();
    median_of(&mut means)
}

/// The fewest windows that can be called steady.
pub const STEADY_WINDOWS: usize = 5;

/// Finds where a series of windows becomes steady, as the number of warm-up windows: the shortest warm-up after which the rest has no trend,
/// varies by at most `limit`, and does not begin with an outlier. At most half of the windows may be warm-up (after Barrett et al., OOPSLA 2017,
/// who found that steadiness must be tested and not assumed).
///
/// A trend is one that the test of Mann and Kendall finds at 5 % and that moves the rest by more than a fifth
/// of `limit`: over many windows the slightest slope is certain, and does not matter.
///
/// # Errors
/// The variation of the second half, when there is no such place.
pub fn steady(windows: &[f64], limit: f64) -> Result<usize, f64> {
    let most = windows.len() / 2;
    for warm_up in 0..=most {
        let rest = &windows[warm_up..];
        if rest.len() < STEADY_WINDOWS {
            break;
        }
        if let Some(variation) = variation(rest)
            && variation <= limit
            && !has_trend(rest, limit / 5.0)
            && !is_outlier(rest[0], rest)
        {
            return Ok(warm_up);
        }
    }
    Err(variation(&windows[most..]).unwrap_or(0.0))
}

/// Whether the values rise or fall over time, and by more than this part of their median in all.
fn has_trend(values: &[f64], least: f64) -> bool {
    let mut slopes = Vec::new();
    let mut balance = 0_i64;
    for (at, earlier) in values.iter().enumerate() {
        for (distance, later) in values[at + 1..].iter().enumerate() {
            slopes.push((later - earlier) / float(distance + 1));
            balance += i64::from(later > earlier) - i64::from(later < earlier);
        }
    }
    let count = float(values.len());
    // Kendall 1938, without ties, with the correction for continuity.
    let spread = (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt();
    #[expect(clippy::cast_precision_loss, reason = "n² / 2 of a few thousand windows")]
    let certain = (balance.abs() as f64 - 1.0) / spread > 1.96;
    // Theil and Sen's slope.
    let (Some(slope), Some(middle)) = (median_of(&mut slopes), median(values)) else { return false };
    certain && (slope * (count - 1.0)).abs() > least * middle.abs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Normally distributed numbers around 0 (Box and Muller).
    fn normal(random: &mut Random) -> f64 {
        let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * random.unit()).cos()
    }

    fn series(random: &mut Random, length: usize, mean: f64, spread: f64) -> Vec<f64> {
        (0..length).map(|_| mean + spread * normal(random)).collect()
    }

    #[test]
    fn medians_and_percentiles_are_those_of_the_definition() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        // The example of nearest rank in textbooks.
        let values = [15.0, 20.0, 35.0, 40.0, 50.0];
        for (percent, expected) in
            [(0.0, 15.0), (5.0, 15.0), (30.0, 20.0), (40.0, 20.0), (50.0, 35.0), (99.9, 50.0), (100.0, 50.0)]
        {
            assert_eq!(percentile(&values, percent), Some(expected), "p{percent}");
        }
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn spreads_are_those_of_the_definition() {
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(mean(&values), Some(5.0));
        assert!((deviation(&values).unwrap() - (32.0_f64 / 7.0).sqrt()).abs() < 1e-12);
        assert!((variation(&values).unwrap() - (32.0_f64 / 7.0).sqrt() / 5.0).abs() < 1e-12);
        assert_eq!(mad(&[1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]), Some(1.0));
        assert_eq!((deviation(&[1.0]), variation(&[0.0, 0.0])), (None, None));
    }

    #[test]
    fn outliers_lie_outside_of_tukeys_fences() {
        let values = [10.0, 11.0, 12.0, 13.0, 14.0];
        let outliers = [6.9, 8.1, 12.0, 15.9, 16.1, 100.0].map(|value| is_outlier(value, &values));
        assert_eq!(outliers, [true, false, false, false, true, true]);
        assert!(!is_outlier(1.0, &[]));
    }

    #[test]
    fn the_interval_of_the_median_mostly_holds_it() {
        let mut random = Random::new(7);
        let held = (0..40).filter(|seed| {
            let values = series(&mut random, 25, 10.0, 1.0);
            let (low, high) = median_interval(&values, *seed).unwrap();
            (low..=high).contains(&10.0)
        });
        let held = held.count();
        assert!((34..=40).contains(&held), "{held}");
    }

    #[test]
    fn the_interval_of_a_quotient_holds_the_quotient_of_the_sums() {
        // Two of eight windows were slow and had few answers: their costs weigh little.
        let pairs = [(10.0, 1.0), (10.0, 1.0), (50.0, 10.0), (50.0, 10.0), (51.0, 10.0), (49.0, 10.0)];
        let (low, high) = ratio_interval(&pairs, 1).unwrap();
        assert!(low < 220.0 / 42.0 && 220.0 / 42.0 < high && high < 8.0, "{low} {high}");
        assert_eq!(ratio_interval(&[(1.0, 2.0); 4], 1), Some((0.5, 0.5)));
        assert_eq!((ratio_interval(&pairs[..1], 1), ratio_interval(&[(1.0, 0.0); 3], 1)), (None, None));
    }

    #[test]
    fn the_permutation_test_finds_what_is_there_and_little_else() {
        let mut random = Random::new(11);
        let mut found = 0;
        let mut false_alarms = 0;
        for seed in 0..20 {
            let a = series(&mut random, 20, 100.0, 2.0);
            let same = series(&mut random, 20, 100.0, 2.0);
            let other = series(&mut random, 20, 105.0, 2.0);
            found += u32::from(permutation_test(&a, &other, seed).unwrap() < 0.01);
            false_alarms += u32::from(permutation_test(&a, &same, seed).unwrap() < 0.05);
        }
        assert!(found >= 19, "{found}");
        assert!(false_alarms <= 3, "{false_alarms}");
    }

    #[test]
    fn signed_ranks_give_the_values_of_the_tables() {
        // All of five positive: 1 of 32 choices of signs.
        let all = signed_rank(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!((all.above, all.below), (1.0 / 32.0, 1.0));
        // Sum 4 of the negative ranks at n = 8: 7 of 256 choices reach at most 4.
        let some = signed_rank(&[1.0, 2.0, 3.0, -4.0, 5.0, 6.0, 7.0, 8.0]);
        assert!((some.above - 7.0 / 256.0).abs() < 1e-12, "{some:?}");
        // Equal sizes share their rank, and 0 is left out.
        let tied = signed_rank(&[1.0, 1.0, -1.0, 0.0]);
        assert!((tied.above - 0.5).abs() < 1e-12 && (tied.below - 7.0 / 8.0).abs() < 1e-12, "{tied:?}");
        assert_eq!(signed_rank(&[0.0]), SignedRank { above: 1.0, below: 1.0 });
    }

    #[test]
    fn the_centre_is_not_moved_by_one_disturbed_pair() {
        let centre = centre(&[1.0, 1.1, 0.9, 1.0, 40.0]).unwrap();
        assert!((0.9..=1.1).contains(&centre), "{centre}");
    }

    #[test]
    fn a_warm_up_is_cut_off() {
        let mut windows = vec![50.0, 70.0, 85.0, 95.0];
        windows.extend([100.0, 101.0, 99.0, 100.0, 100.5, 99.5, 100.0, 101.0, 99.0, 100.0]);
        assert_eq!(steady(&windows, 0.05), Ok(4));
    }

    #[test]
    fn what_keeps_changing_is_not_steady() {
        let growing: Vec<f64> = (0..20).map(|window| 100.0 + 2.0 * f64::from(window)).collect();
        assert!(steady(&growing, 0.1).is_err());
        let jumping: Vec<f64> = (0..20).map(|window| if window % 2 == 0 { 100.0 } else { 150.0 }).collect();
        let variation = steady(&jumping, 0.05).unwrap_err();
        assert!((variation - 0.21).abs() < 0.02, "{variation}");
        assert_eq!(steady(&[100.0; 4], 0.05), Err(0.0));
    }

    #[test]
    fn noise_without_a_trend_is_steady_from_the_start() {
        let mut random = Random::new(3);
        let cut = (0..100).filter(|_| {
            let windows = series(&mut random, 20, 1000.0, 20.0);
            steady(&windows, 0.05) == Ok(0)
        });
        let cut = cut.count();
        assert!(cut >= 90, "{cut}");
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(-1e6..1e6_f64, 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn order_does_not_matter_to_a_statistic(values in values(), seed in any::<u64>()) {
            let mut shuffled = values.clone();
            let mut random = Random::new(seed);
            for at in (1..shuffled.len()).rev() {
                shuffled.swap(at, random.below(at + 1));
            }
            prop_assert_eq!(median(&values), median(&shuffled));
            prop_assert_eq!(percentile(&values, 90.0), percentile(&shuffled, 90.0));
            prop_assert_eq!(mad(&values), mad(&shuffled));
            prop_assert_eq!(signed_rank(&values), signed_rank(&shuffled));
        }

        #[test]
        fn percentiles_are_values_and_rise(values in values(), low in 0.0..100.0_f64, more in 0.0..50.0_f64) {
            let (first, second) = (percentile(&values, low).unwrap(), percentile(&values, low + more).unwrap());
            prop_assert!(values.contains(&first) && values.contains(&second));
            prop_assert!(first <= second);
        }

        #[test]
        fn an_interval_holds_its_median(values in values(), seed in any::<u64>()) {
            if let Some((low, high)) = median_interval(&values, seed) {
                let median = median(&values).unwrap();
                prop_assert!(low <= median && median <= high);
                prop_assert_eq!(median_interval(&values, seed), Some((low, high)));
            }
        }

        #[test]
        fn a_test_does_not_mind_which_series_comes_first(a in values(), b in values()) {
            let (there, back) = (permutation_test(&a, &b, 1).unwrap(), permutation_test(&b, &a, 2).unwrap());
            // Two estimates of one number, each from 9 999 draws.
            prop_assert!((there - back).abs() < 0.05, "{} {}", there, back);
            let (one, other) = (signed_rank(&a), signed_rank(&a.iter().map(|it| -it).collect::<Vec<_>>()));
            prop_assert!((one.above - other.below).abs() < 1e-9);
        }

        #[test]
        fn steady_windows_are_a_half_at_least(values in values()) {
            if let Ok(warm_up) = steady(&values, 0.05) {
                prop_assert!(warm_up <= values.len() / 2);
                prop_assert!(variation(&values[warm_up..]).unwrap() <= 0.05);
            }
        }
    }
}
