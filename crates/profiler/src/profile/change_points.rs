//! Finds where a noisy series changes its level, by ranks alone, so that one disturbed value counts no more than its neighbour.
//!
//! The series is cut where the ranks of both parts differ most (the largest standardised Mann-Whitney statistic), if a permutation
//! test rejects chance: if so good a cut is found in few other orders of the same values. Then each part is cut again. Without
//! any change, a cut is found with the probability of the test's level at most, whatever the distribution of the values.

use super::stats::Random;

/// Fewest values on either side of a change.
const LEAST: usize = 3;
/// Shufflings of a permutation test beside the order that was measured.
const SHUFFLES: u32 = 1_999;
/// The same series always has the same changes.
const SEED: u64 = 1;

/// The positions of the first values of new levels, ascending.
#[must_use]
pub fn change_points(values: &[f64], level: f64) -> Vec<usize> {
    let mut random = Random::new(SEED);
    let mut found = Vec::new();
    let mut open = vec![(0, values.len())];
    while let Some((from, to)) = open.pop() {
        let mut ranks = ranks(&values[from..to]);
        if let Some((at, distance)) = best_cut(&ranks)
            && is_unlikely(&mut ranks, distance, level, &mut random)
        {
            found.push(from + at);
            open.extend([(from, from + at), (from + at, to)]);
        }
    }
    found.sort_unstable();
    found
}

/// The ranks around their mean of 0; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    for equal in order.chunk_by(|a, b| values[*a].total_cmp(&values[*b]).is_eq()) {
        let below = values.iter().filter(|value| value.total_cmp(&values[equal[0]]).is_lt()).count();
        let above = values.len() - below - equal.len();
        equal.iter().for_each(|at| ranks[*at] = (below as f64 - above as f64) / 2.0);
    }
    ranks
}

/// Where the ranks of both parts differ most, and a measure of how much, which is in proportion to the square of the standardised
/// statistic. None for fewer than twice [`LEAST`] values, or where all are equal.
fn best_cut(ranks: &[f64]) -> Option<(usize, f64)> {
    let mut sum = 0.0;
    let mut best = None;
    for at in 1..ranks.len() {
        sum += ranks[at - 1];
        let (left, right) = (at, ranks.len() - at);
        if left < LEAST || right < LEAST {
            continue;
        }
        let distance = sum * sum / (left * right) as f64;
        if distance > best.map_or(0.0, |(_, best)| best) {
            best = Some((at, distance));
        }
    }
    best
}

/// Whether at most a share of `level` of all orders have a cut as good as this. Shuffles the ranks.
fn is_unlikely(ranks: &mut [f64], distance: f64, level: f64, random: &mut Random) -> bool {
    let most = level * f64::from(SHUFFLES + 1);
    // The measured order is one of them, so that the share is never 0.
    let mut as_good = 1;
    for _ in 0..SHUFFLES {
        if f64::from(as_good) > most {
            return false;
        }
        for at in (1..ranks.len()).rev() {
            ranks.swap(at, random.below(at + 1));
        }
        // Sums in another order differ in their last digits.
        as_good += u32::from(best_cut(ranks).is_some_and(|(_, other)| other >= distance * (1.0 - 1e-9)));
    }
    f64::from(as_good) <= most
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values around levels, each of so many, with noise of this share of them.
    fn series(levels: &[(f64, usize)], noise: f64, seed: u64) -> Vec<f64> {
        let mut random = Random::new(seed);
        let values = levels.iter().flat_map(|(level, count)| std::iter::repeat_n(*level, *count));
        values.map(|level| level * (1.0 + noise * (random.unit() - 0.5))).collect()
    }

    #[test]
    fn levels_are_found_where_they_begin() {
        let one = series(&[(100.0, 10), (110.0, 10)], 0.02, 1);
        assert_eq!(change_points(&one, 0.01), [10]);
        let three = series(&[(100.0, 14), (120.0, 14), (90.0, 14)], 0.02, 2);
        assert_eq!(change_points(&three, 0.0025), [14, 28]);
        // A new level at the end is found after six values, whatever came before.
        let late = series(&[(100.0, 60), (120.0, 6)], 0.02, 3);
        assert_eq!(change_points(&late, 0.0025), [60]);
    }

    #[test]
    fn without_a_change_false_alarms_are_as_rare_as_the_level_says() {
        for (length, level) in [(8, 0.05), (30, 0.05), (100, 0.05)] {
            let alarms = (0..400)
                .filter(|seed| !change_points(&series(&[(100.0, length)], 0.2, *seed), level).is_empty());
            // 20 are expected at most; 35 and more have a probability below 0.1 %.
            let alarms = alarms.count();
            assert!(alarms < 35, "{alarms} of 400 series of {length}");
        }
    }

    #[test]
    fn outliers_are_no_level() {
        let mut outliers = series(&[(100.0, 30)], 0.02, 3);
        for at in [4, 11, 29] {
            outliers[at] = 900.0;
        }
        assert_eq!(change_points(&outliers, 0.01), Vec::<usize>::new());
    }

    #[test]
    fn short_and_constant_series_have_no_change() {
        for values in [vec![], vec![1.0], vec![1.0, 1.0, 1.0, 2.0, 2.0, 2.0], vec![7.0; 300]] {
            assert_eq!(change_points(&values, 0.01), Vec::<usize>::new(), "{values:?}");
        }
    }

    #[test]
    fn equal_values_share_their_rank() {
        assert_eq!(ranks(&[5.0, 7.0, 5.0, 1.0]), [0.0, 1.5, 0.0, -1.5]);
    }
}
