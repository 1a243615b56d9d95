//! Reading deflate (RFC 1951): which tokens its blocks have.

use crate::bits::Reader;
use crate::huffman;
use crate::token::{Counts, DISTANCE_BITS, DISTANCES, END_OF_BLOCK, LITERAL_BITS, NO_DISTANCE, ORDER, Token};

/// What a block stands for, as far as it comes after the first bytes.
#[derive(Debug)]
pub(crate) enum Block<'a> {
    /// Bytes that could not be compressed.
    Stored(&'a [u8]),
    /// Tokens without the end, and how often each symbol occurs.
    Coded(&'a [Token], &'a Counts),
}

/// Tells the blocks of a deflate stream that stand for what comes after its first `before` bytes, in their order.
/// `plain` is what it stands for: bytes of a match that begins too early are taken from it. `None` if the stream is
/// damaged, is not all of `deflated`, or does not stand for as many bytes as there are, or if `tell` says so.
pub(crate) fn after(
    deflated: &[u8],
    before: usize,
    plain: &[u8],
    mut tell: impl FnMut(Block<'_>) -> Option<()>,
) -> Option<()> {
    let mut reader = Reader::new(deflated);
    let mut codes = Codes::default();
    let mut tokens = Vec::new();
    let mut position = 0;
    loop {
        let last = reader.take(1) == 1;
        match reader.take(2) {
            0 => {
                reader.align();
                let length = reader.take(16);
                if length != !reader.take(16) & 0xffff {
                    return None;
                }
                let (length, data) = (length as usize, (reader.position() / 8) as usize);
                reader.skip_bytes(length)?;
                let skipped = before.saturating_sub(position).min(length);
                tell(Block::Stored(&deflated[data + skipped..data + length]))?;
                position += length;
            }
            kind @ 1..=2 => {
                codes.read(&mut reader, kind == 1)?;
                codes.tokens(&mut reader, &mut tokens)?;
                let mut skipped = 0;
                while position < before && skipped < tokens.len() {
                    position += tokens[skipped].length();
                    skipped += 1;
                }
                if position > before && skipped > 0 {
                    // A match over the border: what is left of it.
                    let rest = plain.get(before..position)?.iter().map(|byte| Token::literal(*byte));
                    position = before;
                    tokens.splice(..skipped, rest);
                    skipped = 0;
                }
                let tokens = &tokens[skipped..];
                let counts = Counts::of(tokens);
                position += counts.bytes();
                tell(Block::Coded(tokens, &counts))?;
            }
            _ => return None,
        }
        if last {
            let all = reader.position().div_ceil(8) == deflated.len() as u64 && position == plain.len();
            return all.then_some(());
        }
    }
}

/// The codes of a block. They keep their memory from block to block.
#[derive(Default)]
struct Codes {
    literals: Code,
    distances: Code,
}

impl Codes {
    /// Those that need no description (section 3.2.6), or those that are described (section 3.2.7).
    fn read(&mut self, reader: &mut Reader<'_>, fixed: bool) -> Option<()> {
        if fixed {
            self.literals.build(&FIXED_LITERALS, &LITERAL_BITS)?;
            return self.distances.build(&[5; DISTANCES], &DISTANCE_BITS);
        }
        let literals = reader.take(5) as usize + 257;
        let distances = reader.take(5) as usize + 1;
        let count = reader.take(4) as usize + 4;
        let mut of_lengths = [0; 19];
        for place in &ORDER[..count] {
            of_lengths[*place] = reader.take(3) as u8;
        }
        self.literals.build(&of_lengths, &[0; 19])?;
        let mut all = Vec::with_capacity(320);
        while all.len() < literals + distances {
            reader.refill();
            let found = self.literals.next(reader, false)?;
            reader.skip(found.word());
            let (value, repeat) = match found.symbol() {
                length @ 0..=15 => (length as u8, 1),
                16 => (*all.last()?, reader.take(2) + 3),
                17 => (0, reader.take(3) + 3),
                _ => (0, reader.take(7) + 11),
            };
            all.resize(all.len() + repeat as usize, value);
        }
        let (of_literals, of_distances) = all.split_at_checked(literals)?;
        self.literals.build(of_literals, &LITERAL_BITS)?;
        self.distances.build(of_distances, &DISTANCE_BITS)?;
        (all.len() == literals + distances).then_some(())
    }

    /// Reads all tokens of a block, and passes over its end. Not inlined, and with a reader of its own, so that registers
    /// are enough.
    #[inline(never)]
    fn tokens(&self, from: &mut Reader<'_>, tokens: &mut Vec<Token>) -> Option<()> {
        tokens.clear();
        let mut reader = from.clone();
        loop {
            // A token has 48 bits at most (section 3.2.5).
            reader.refill();
            let found = self.literals.next(&reader, false)?;
            reader.skip(found.word());
            if found.symbol() == END_OF_BLOCK {
                *from = reader;
                return (!from.overran()).then_some(());
            }
            let extra = reader.take_filled(found.extra());
            let distance = self.distances.next(&reader, found.symbol() < END_OF_BLOCK)?;
            reader.skip(distance.word());
            let far = reader.take_filled(distance.extra());
            tokens.push(Token::new(found.symbol(), extra, distance.symbol(), far));
            if reader.overran() {
                return None;
            }
        }
    }
}

/// How long the words of literals and lengths are in the code that needs no description.
pub(crate) const FIXED_LITERALS: [u8; 288] = {
    let mut lengths = [8; 288];
    let mut symbol = 144;
    while symbol < 280 {
        lengths[symbol] = if symbol < 256 { 9 } else { 7 };
        symbol += 1;
    }
    lengths
};

/// A symbol, how many extra bits follow its word, and how many bits that has.
#[derive(Clone, Copy, Default)]
struct Found(u32);

impl Found {
    /// Neither longer than what the short table holds nor no word at all.
    const SHORT: u32 = 1 << 8;

    fn new(symbol: u16, extra: u8, word: u8) -> Self {
        let short = if u32::from(word) <= SHORT_BITS { Self::SHORT } else { 0 };
        Self(u32::from(symbol) << 16 | short | u32::from(extra) << 4 | u32::from(word))
    }

    #[inline]
    fn symbol(self) -> u16 {
        (self.0 >> 16) as u16
    }

    #[inline]
    fn extra(self) -> u32 {
        self.0 >> 4 & 0xf
    }

    #[inline]
    fn word(self) -> u32 {
        self.0 & 0xf
    }
}

/// Most words are not longer: a table of them stays in the processor's nearest cache, one of all words does not.
const SHORT_BITS: u32 = 10;
const SHORT: usize = 1 << SHORT_BITS;

/// A Huffman code as tables over all bit strings of its greatest length, and of the short ones.
struct Code {
    all: Vec<Found>,
    mask: u32,
    /// Behind the words there is the place of [`NO_DISTANCE`].
    short: [Found; 2 * SHORT],
}

impl Default for Code {
    fn default() -> Self {
        Self { all: Vec::new(), mask: 0, short: [Found::new(NO_DISTANCE, 0, 0); 2 * SHORT] }
    }
}

impl Code {
    /// From the lengths of its words, and how many extra bits follow each; symbols that must not occur have none.
    fn build(&mut self, lengths: &[u8], extra: &[u8]) -> Option<()> {
        let longest = u32::from(lengths.iter().copied().max().unwrap_or(0)).max(1);
        let words = huffman::words(lengths)?;
        self.mask = (1 << longest) - 1;
        self.all.clear();
        self.all.resize(1 << longest, Found::default());
        for (symbol, (word, extra)) in
            (0..).zip(words.iter().zip(extra)).filter(|(_, (word, _))| word.length > 0)
        {
            let found = Found::new(symbol, *extra, word.length);
            let places = self.all.iter_mut().skip(usize::from(word.bits)).step_by(1 << word.length);
            places.for_each(|place| *place = found);
        }
        let length = self.all.len().min(SHORT);
        for part in self.short[..SHORT].chunks_mut(length) {
            part.copy_from_slice(&self.all[..length]);
        }
        Some(())
    }

    /// The next word of a reader that has been filled, or none at all.
    #[inline]
    fn next(&self, reader: &Reader<'_>, none: bool) -> Option<Found> {
        let place = (reader.peek_filled() as usize % SHORT) + usize::from(none) * SHORT;
        let found = self.short[place];
        if found.0 & Found::SHORT != 0 {
            return Some(found);
        }
        let found = *self.all.get((reader.peek_filled() & self.mask) as usize)?;
        (found.word() > 0).then_some(found)
    }
}
