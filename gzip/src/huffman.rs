//! Huffman codes (RFC 1951, section 3.2.2): how long their words are, and the words.

/// A word and how many bits it has: in deflate's order, from the lowest bit on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) bits: u16,
    pub(crate) length: u8,
}

/// How many words there are of each length, up to 15.
fn counted(lengths: &[u8]) -> Option<[u32; 16]> {
    let mut counts = [0; 16];
    for length in lengths {
        *counts.get_mut(usize::from(*length))? += 1;
    }
    counts[0] = 0;
    Some(counts)
}

/// The words of a code from their lengths, those of length 0 empty. `None` if there can be no such code. An incomplete
/// one is taken: deflate allows one of a single word.
pub(crate) fn words(lengths: &[u8]) -> Option<Vec<Word>> {
    let counts = counted(lengths)?;
    let mut next = [0_u32; 16];
    for length in 1..16 {
        next[length] = (next[length - 1] + counts[length - 1]) << 1;
        if next[length] + counts[length] > 1 << length {
            return None;
        }
    }
    let word = |length: &u8| {
        if *length == 0 {
            return Word::default();
        }
        let next = &mut next[usize::from(*length)];
        // Words are written from their highest bit on, everything else from its lowest.
        let bits = (next.reverse_bits() >> (32 - u32::from(*length))) as u16;
        *next += 1;
        Word { bits, length: *length }
    };
    Some(lengths.iter().map(word).collect())
}

/// The lengths of the words of a code in which symbols that occur as often as `counts` says take the fewest bits, and no
/// word is longer than `limit`. At least two symbols get a word, because some readers take no smaller code.
pub(crate) fn lengths(counts: &[u32], limit: u8) -> Vec<u8> {
    let mut lengths = vec![0; counts.len()];
    let mut symbols: Vec<(u32, u16)> = counts
        .iter()
        .zip(0..)
        .filter(|(count, _)| **count > 0)
        .map(|(count, symbol)| (*count, symbol))
        .collect();
    if symbols.len() < 2 {
        let only = symbols.first().map_or(0, |(_, symbol)| usize::from(*symbol));
        lengths[only] = 1;
        lengths[usize::from(only == 0)] = 1;
        return lengths;
    }
    symbols.sort_unstable();
    let of_lengths = shortest(&symbols, limit);
    let mut rarest = symbols.iter();
    for length in (1..=limit).rev() {
        for (_, symbol) in rarest.by_ref().take(of_lengths[usize::from(length)] as usize) {
            lengths[usize::from(*symbol)] = length;
        }
    }
    lengths
}

/// How many words there are of each length, for symbols sorted by how often they occur: Huffman's algorithm with two
/// queues, and what would be longer than the limit moved up.
fn shortest(symbols: &[(u32, u16)], limit: u8) -> [u32; 16] {
    let leaves = symbols.len();
    // Of each pair that was joined: how often, and into which later pair. The leaves' parents come before them.
    let mut weights: Vec<u32> = Vec::with_capacity(leaves);
    let mut parents = vec![0; 2 * leaves - 1];
    let (mut leaf, mut pair) = (0, 0);
    while weights.len() < leaves - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            let is_leaf = leaf < leaves && weights.get(pair).is_none_or(|pair| symbols[leaf].0 <= *pair);
            if is_leaf {
                weight += symbols[leaf].0;
                parents[leaf] = weights.len();
                leaf += 1;
            } else {
                weight += weights[pair];
                parents[leaves + pair] = weights.len();
                pair += 1;
            }
        }
        weights.push(weight);
    }
    let mut depths = vec![0_usize; leaves - 1];
    for pair in (0..leaves - 2).rev() {
        depths[pair] = depths[parents[leaves + pair]] + 1;
    }
    let mut of_lengths = [0_u32; 16];
    let limit = usize::from(limit);
    // In units of the longest word: how much more there is than a code has room for.
    let mut excess = 0_u64;
    for leaf in 0..leaves {
        let depth = depths[parents[leaf]] + 1;
        of_lengths[depth.min(limit)] += 1;
        excess += 1 << (limit - depth.min(limit));
    }
    excess -= 1 << limit;
    // A word of the greatest length goes, and another one becomes two that are a bit longer.
    while excess > 0 {
        let Some(longer) = (1..limit).rev().find(|length| of_lengths[*length] > 0) else { break };
        of_lengths[longer] -= 1;
        of_lengths[longer + 1] += 2;
        of_lengths[limit] -= 1;
        excess -= 1;
    }
    of_lengths
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kraft(lengths: &[u8], limit: u8) -> u64 {
        lengths.iter().filter(|length| **length > 0).map(|length| 1 << (limit - length)).sum()
    }

    #[test]
    fn words_are_those_of_the_specification() {
        // RFC 1951, section 3.2.2: the lengths (3, 3, 3, 3, 3, 2, 4, 4).
        let expected = ["010", "011", "100", "101", "110", "00", "1110", "1111"];
        let words = words(&[3, 3, 3, 3, 3, 2, 4, 4]).unwrap();
        for (word, expected) in words.iter().zip(expected) {
            let bits: String =
                (0..word.length).map(|at| if word.bits >> at & 1 == 1 { '1' } else { '0' }).collect();
            assert_eq!(bits, expected);
        }
        assert_eq!(super::words(&[1, 1, 1]), None);
    }

    #[test]
    fn rare_symbols_get_long_words() {
        assert_eq!(lengths(&[8, 4, 2, 1, 1, 0], 15), [1, 2, 3, 4, 4, 0]);
        assert_eq!(lengths(&[8, 4, 2, 1, 1, 0], 3), [1, 3, 3, 3, 3, 0]);
        // Never fewer than two words.
        assert_eq!(lengths(&[0, 0, 0], 15), [1, 1, 0]);
        assert_eq!(lengths(&[0, 0, 9], 15), [1, 0, 1]);
        assert_eq!(lengths(&[9, 0, 0], 15), [1, 1, 0]);
    }

    proptest! {
        #[test]
        fn codes_are_complete_and_within_their_limit(
            counts in prop::collection::vec(prop_oneof![Just(0), 1_u32..20, 1_u32..2_000_000], 3..286),
            limit in 9_u8..=15,
        ) {
            let lengths = lengths(&counts, limit);
            prop_assert!(lengths.iter().all(|length| *length <= limit));
            prop_assert_eq!(kraft(&lengths, limit), 1 << limit);
            let used = counts.iter().filter(|count| **count > 0).count();
            if used >= 2 {
                prop_assert!(counts.iter().zip(&lengths).all(|(count, length)| (*count > 0) == (*length > 0)));
            }
            // Whatever occurs more often has no longer word.
            let mut both: Vec<_> = counts.iter().zip(&lengths).filter(|(count, _)| **count > 0).collect();
            both.sort();
            prop_assert!(both.windows(2).all(|pair| pair[0].0 == pair[1].0 || pair[0].1 >= pair[1].1));
        }
    }
}
