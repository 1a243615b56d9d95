//! Writing blocks of deflate (RFC 1951) with codes that are worth telling.
//!
//! A block tells how long the words of its codes are before it uses them, and takes fewest bits for that where many in
//! a row are equally long. Codes that suit how often each symbol occurs to the last bit are longer to tell than codes
//! for the same block in which symbols beside each other that occur nearly as often are taken for equally frequent.

use crate::bits::Writer;
use crate::huffman::{self, Word};
use crate::inflate::FIXED_LITERALS;
use crate::token::{self, Counts, DISTANCE_BITS, DISTANCES, END_OF_BLOCK, LITERAL_BITS, ORDER, Token};

/// By how much counts may differ that are taken for equal: not at all, or as much as saved most of what was tried.
const TOLERANCES: [u32; 2] = [0, 6];

/// How long the words of both codes of a block are.
struct Lengths {
    literals: Vec<u8>,
    distances: Vec<u8>,
}

impl Lengths {
    /// Those that need no description (section 3.2.6).
    fn fixed() -> Self {
        Self { literals: FIXED_LITERALS.to_vec(), distances: vec![5; DISTANCES] }
    }

    /// Those that suit counts, when some of them are taken for equal.
    fn tolerant(counts: &Counts, tolerance: u32) -> Self {
        let of = |counts: &[u32]| huffman::lengths(&smoothed(counts, tolerance), 15);
        Self { literals: of(&counts.literals), distances: of(counts.distances()) }
    }

    /// How many bits the words of a block take.
    fn bits(&self, counts: &Counts) -> u64 {
        token::bits(&counts.literals, &self.literals) + token::bits(counts.distances(), &self.distances)
    }
}

/// Counts in which neighbours that differ little are equal: each stretch of at least four gets its mean.
fn smoothed(counts: &[u32], tolerance: u32) -> Vec<u32> {
    let mut counts = counts.to_vec();
    let mut start = 0;
    while start < counts.len() {
        let mut sum = counts[start];
        let mut end = start + 1;
        while let Some(count) = counts.get(end) {
            let length = (end - start) as u32;
            // What does not occur at all needs no word.
            let alike = (*count * length).abs_diff(sum) <= tolerance * length && (sum > 0 || *count == 0);
            if !alike {
                break;
            }
            sum += count;
            end += 1;
        }
        let length = (end - start) as u32;
        if length >= 4 && sum > 0 {
            counts[start..end].fill(((sum + length / 2) / length).max(1));
        }
        start = end;
    }
    counts
}

/// What tells how long the words are (section 3.2.7).
struct Description {
    /// How many lengths of each code are told.
    literals: usize,
    distances: usize,
    /// Symbols of the code of the lengths, with what their extra bits say.
    symbols: Vec<(u8, u8)>,
    /// How long the words of that code are, and how many of them are told.
    lengths: Vec<u8>,
    told: usize,
}

/// How many extra bits follow the symbols 16 to 18.
const REPEAT_BITS: [u32; 3] = [2, 3, 7];

impl Description {
    fn of(lengths: &Lengths) -> Self {
        let used = |lengths: &[u8], least: usize| {
            lengths.iter().rposition(|length| *length > 0).map_or(0, |last| last + 1).max(least)
        };
        let literals = used(&lengths.literals, 257);
        let distances = used(&lengths.distances, 1);
        let all = [&lengths.literals[..literals], &lengths.distances[..distances]].concat();
        let mut symbols = Vec::with_capacity(all.len());
        for run in all.chunk_by(|one, other| one == other) {
            let (length, mut left) = (run[0], run.len());
            if length > 0 {
                symbols.push((length, 0));
                left -= 1;
            }
            while left >= 3 {
                let (symbol, least, most) = match (length, left) {
                    (0, 11..) => (18, 11, 138),
                    (0, _) => (17, 3, 10),
                    _ => (16, 3, 6),
                };
                let repeated = left.min(most);
                symbols.push((symbol, (repeated - least) as u8));
                left -= repeated;
            }
            symbols.extend(std::iter::repeat_n((length, 0), left));
        }
        let mut counts = [0; 19];
        for (symbol, _) in &symbols {
            counts[usize::from(*symbol)] += 1;
        }
        let lengths = huffman::lengths(&counts, 7);
        let told = ORDER.iter().rposition(|place| lengths[*place] > 0).map_or(0, |last| last + 1).max(4);
        Self { literals, distances, symbols, lengths, told }
    }

    fn extra_bits(symbol: u8) -> u32 {
        symbol.checked_sub(16).map_or(0, |repeat| REPEAT_BITS[usize::from(repeat)])
    }

    fn bits(&self) -> u64 {
        let bits =
            |symbol: u8| u64::from(self.lengths[usize::from(symbol)]) + u64::from(Self::extra_bits(symbol));
        14 + 3 * self.told as u64 + self.symbols.iter().map(|(symbol, _)| bits(*symbol)).sum::<u64>()
    }

    fn write(&self, bits: &mut Writer, out: &mut Vec<u8>) -> Option<()> {
        bits.put(out, (self.literals - 257) as u32, 5);
        bits.put(out, (self.distances - 1) as u32, 5);
        bits.put(out, (self.told - 4) as u32, 4);
        for place in &ORDER[..self.told] {
            bits.put(out, u32::from(self.lengths[*place]), 3);
        }
        let words = huffman::words(&self.lengths)?;
        for (symbol, extra) in &self.symbols {
            let word = words[usize::from(*symbol)];
            bits.put(out, u32::from(word.bits), u32::from(word.length));
            bits.put(out, u32::from(*extra), Self::extra_bits(*symbol));
        }
        Some(())
    }
}

/// Writes a block that is not the last. `None` if its codes could not be made, which they always can.
pub(crate) fn write_block(
    tokens: &[Token],
    counts: &Counts,
    bits: &mut Writer,
    out: &mut Vec<u8>,
) -> Option<()> {
    let described = TOLERANCES.map(|tolerance| {
        let lengths = Lengths::tolerant(counts, tolerance);
        let description = Description::of(&lengths);
        (lengths.bits(counts) + description.bits(), lengths, Some(description))
    });
    let fixed = Lengths::fixed();
    let all = described.into_iter().chain([(fixed.bits(counts), fixed, None)]);
    let (_, lengths, description) = all.min_by_key(|(bits, ..)| *bits)?;
    bits.put(out, 0, 1);
    match description {
        Some(description) => {
            bits.put(out, 0b10, 2);
            description.write(bits, out)?;
        }
        None => bits.put(out, 0b01, 2),
    }
    let literals = written(&lengths.literals, &LITERAL_BITS)?;
    let distances = written(&lengths.distances, &DISTANCE_BITS)?;
    let words = tokens.iter().map(|token| {
        let (literal, length) = literals[token.symbol()].with(token.extra());
        let (distance, far) = distances[token.distance()].with(token.far());
        (literal | distance << length, length + far)
    });
    bits.put_all(out, lengths.bits(counts) + counts.extra_bits(), words);
    let (end, length) = literals[usize::from(END_OF_BLOCK)].with(0);
    bits.put(out, end as u32, length);
    Some(())
}

/// A word, and how many extra bits follow it.
#[derive(Clone, Copy, Default)]
struct Written {
    word: Word,
    extra: u8,
}

impl Written {
    /// Both together, when the extra bits say this, and how many bits that is.
    #[inline]
    fn with(self, extra: u32) -> (u64, u32) {
        let Word { bits, length } = self.word;
        (u64::from(bits) | u64::from(extra) << length, u32::from(length + self.extra))
    }
}

/// The words of a code with how many extra bits follow each, and behind them that of
/// [`NO_DISTANCE`](crate::token::NO_DISTANCE), which has no bits.
fn written(lengths: &[u8], extra: &[u8]) -> Option<Vec<Written>> {
    let words = huffman::words(lengths)?.into_iter().zip(extra);
    let words = words.map(|(word, extra)| Written { word, extra: *extra });
    Some(words.chain([Written::default()]).collect())
}
