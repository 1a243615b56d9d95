//! Reading deflate (RFC 1951) as far as its structure: where blocks and tokens begin, and how many bytes
//! each stands for. What they stand for is known already.

use crate::bits::Reader;
use crate::join::Part;

/// The order in which a block tells the lengths of the code length codes (section 3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The shortest match of the codes 257 to 285, and how many extra bits follow (section 3.2.5).
const LENGTHS: [(u16, u8); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// How many extra bits follow the distance codes 0 to 29 (section 3.2.5).
const DISTANCE_BITS: [u8; 30] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];

const END_OF_BLOCK: u16 = 256;

/// The parts of a deflate stream that stand for what comes after its first `before` bytes. `plain` is what it
/// stands for: bytes of a match that begins too early are taken from it. `None` if the stream is damaged or is
/// not all of `deflated`.
pub(crate) fn after(deflated: &[u8], before: usize, plain: &[u8]) -> Option<Vec<Part>> {
    let mut reader = Reader::new(deflated);
    let mut codes = Codes::default();
    let mut parts = Vec::new();
    // It is counted as far as that matters.
    let mut position = 0;
    loop {
        if reader.overran() {
            return None;
        }
        let start = reader.position();
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
                if skipped < length {
                    parts.push(Part::Stored(data + skipped..data + length));
                }
                position += length;
            }
            kind @ 1..=2 => {
                let lengths = if kind == 1 { Lengths::fixed() } else { Lengths::read(&mut reader)? };
                // Without the bit that says whether it is the last.
                let header = start + 1..reader.position();
                let mut ended = false;
                if position < before {
                    (position, ended) = codes.tokens(&lengths, &mut reader, position, before)?;
                    if !ended && position > before {
                        parts.push(Part::Literals(plain.get(before..position)?.to_vec()));
                    }
                }
                if !ended {
                    let tokens = reader.position();
                    // Else only the end of the block was left of it.
                    if codes.rest(&lengths, &mut reader)? {
                        parts.push(Part::Block { header, tokens: tokens..reader.position() });
                    }
                }
            }
            _ => return None,
        }
        if last {
            return (reader.position().div_ceil(8) == deflated.len() as u64).then_some(parts);
        }
    }
}

/// How long the words of a block's two codes are; 0 for what does not occur.
struct Lengths {
    /// Of the literals and lengths, then of the distances.
    all: Vec<u8>,
    literals: usize,
}

impl Lengths {
    /// Those that need no description (section 3.2.6).
    fn fixed() -> Self {
        let mut all = vec![8; 288];
        all[144..256].fill(9);
        all[256..280].fill(7);
        all.resize(288 + 32, 5);
        Self { all, literals: 288 }
    }

    /// Those that are described before the block's tokens (section 3.2.7).
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let literals = reader.take(5) as usize + 257;
        let distances = reader.take(5) as usize + 1;
        let count = reader.take(4) as usize + 4;
        let mut of_lengths = [0; 19];
        for place in &ORDER[..count] {
            of_lengths[*place] = reader.take(3) as u8;
        }
        let mut code = Code::default();
        code.build(&of_lengths, |symbol, word| Some(Meaning { advance: symbol, word, extra: 0 }))?;
        let mut all = Vec::with_capacity(320);
        while all.len() < literals + distances {
            reader.fill();
            let (value, repeat) = match code.pass(reader)? {
                length @ 0..=15 => (length as u8, 1),
                16 => (*all.last()?, reader.take(2) + 3),
                17 => (0, reader.take(3) + 3),
                _ => (0, reader.take(7) + 11),
            };
            all.resize(all.len() + repeat as usize, value);
        }
        (all.len() == literals + distances).then_some(Self { all, literals })
    }
}

/// The codes of a block, in the form in which they are asked. They keep their memory from block to block.
#[derive(Default)]
struct Codes {
    literals: Code<Meaning>,
    distances: Code<Meaning>,
    literal_steps: Code<Step>,
    distance_steps: Code<Step>,
}

impl Codes {
    /// Passes over tokens until they stand for everything before `until` or the block ends; the position
    /// then, and whether the block ended.
    fn tokens(
        &mut self,
        lengths: &Lengths,
        reader: &mut Reader<'_>,
        mut position: usize,
        until: usize,
    ) -> Option<(usize, bool)> {
        let (literals, distances) = lengths.all.split_at(lengths.literals);
        self.literals.build(literals, |symbol, word| {
            let (advance, extra) = match symbol {
                0..END_OF_BLOCK => (1, 0),
                END_OF_BLOCK => (0, 0),
                _ => *LENGTHS.get(usize::from(symbol - 257))?,
            };
            Some(Meaning { advance, word, extra })
        })?;
        self.distances.build(distances, |symbol, word| {
            Some(Meaning { advance: 0, word, extra: *DISTANCE_BITS.get(usize::from(symbol))? })
        })?;
        while position < until {
            reader.fill();
            let advance = self.literals.pass(reader)?;
            if advance == 0 {
                return Some((position, true));
            }
            position += advance;
            if advance > 1 {
                self.distances.pass(reader)?;
            }
            if reader.overran() {
                return None;
            }
        }
        Some((position, false))
    }

    /// Passes over what is left of a block, and tells whether there was anything.
    fn rest(&mut self, lengths: &Lengths, reader: &mut Reader<'_>) -> Option<bool> {
        let (literals, distances) = lengths.all.split_at(lengths.literals);
        self.literal_steps.build(literals, |symbol, word| match symbol {
            0..END_OF_BLOCK => Some(Step(word)),
            END_OF_BLOCK => Some(Step(word | Step::END)),
            _ => LENGTHS.get(usize::from(symbol - 257)).map(|(_, extra)| Step((word + extra) | Step::MATCH)),
        })?;
        self.distance_steps.build(distances, |symbol, word| {
            DISTANCE_BITS.get(usize::from(symbol)).map(|extra| Step(word + extra))
        })?;
        let mut any = false;
        loop {
            reader.fill();
            let step = self.literal_steps.at(reader)?;
            if step.bits() == 0 || reader.overran() {
                return None;
            }
            reader.skip(step.bits());
            if step.0 & Step::MATCH != 0 {
                let step = self.distance_steps.at(reader)?;
                if step.bits() == 0 {
                    return None;
                }
                reader.skip(step.bits());
            } else if step.0 & Step::END != 0 {
                return Some(any);
            }
            any = true;
        }
    }
}

/// What a word stands for: `advance` bytes, 0 for the end of the block, and as many more as the next `extra` bits
/// say. In the code of the codes' lengths it is the symbol.
#[derive(Clone, Copy, Default)]
struct Meaning {
    advance: u16,
    /// How many bits it has; 0 where no word begins like that.
    word: u8,
    extra: u8,
}

impl Code<Meaning> {
    /// Passes over a word and what belongs to it; how many bytes it stands for.
    fn pass(&self, reader: &mut Reader<'_>) -> Option<usize> {
        let Meaning { advance, word, extra } = self.at(reader)?;
        if word == 0 {
            return None;
        }
        reader.skip(u32::from(word));
        Some(usize::from(advance) + reader.take(u32::from(extra)) as usize)
    }
}

/// How many bits a word has with those that belong to it, in its five lowest bits: 0 where no word begins like that.
/// One byte, so that a table of them stays in the processor's nearest cache.
#[derive(Clone, Copy, Default)]
struct Step(u8);

impl Step {
    /// A distance follows.
    const MATCH: u8 = 1 << 5;
    /// It ends the block.
    const END: u8 = 1 << 6;

    fn bits(self) -> u32 {
        u32::from(self.0 & 0x1f)
    }
}

/// A Huffman code (section 3.2.2) as a table over all bit strings of its greatest length.
#[derive(Default)]
struct Code<T> {
    table: Vec<T>,
    mask: u32,
}

impl<T: Copy + Default> Code<T> {
    /// From the lengths of its words and what one of a symbol and a length stands for; words that must not occur
    /// stand for nothing, as words that there are not. An incomplete code is taken: deflate allows one of a single
    /// word.
    fn build(&mut self, lengths: &[u8], meaning: impl Fn(u16, u8) -> Option<T>) -> Option<()> {
        let longest = u32::from(lengths.iter().copied().max().unwrap_or(0)).max(1);
        let mut counts = [0_u32; 16];
        for length in lengths {
            *counts.get_mut(usize::from(*length))? += 1;
        }
        counts[0] = 0;
        let mut next = [0_u32; 16];
        for length in 1..16 {
            next[length] = (next[length - 1] + counts[length - 1]) << 1;
            if next[length] + counts[length] > 1 << length {
                return None;
            }
        }
        self.mask = (1 << longest) - 1;
        self.table.clear();
        self.table.resize(1 << longest, T::default());
        for (symbol, length) in lengths.iter().enumerate() {
            if *length == 0 {
                continue;
            }
            let word = &mut next[usize::from(*length)];
            // Words are read from their highest bit on, everything else from its lowest.
            let reversed = word.reverse_bits() >> (32 - u32::from(*length));
            *word += 1;
            let Some(meaning) = meaning(symbol as u16, *length) else { continue };
            for place in self.table.iter_mut().skip(reversed as usize).step_by(1 << length) {
                *place = meaning;
            }
        }
        Some(())
    }

    /// What the next word of a reader stands for that has been filled.
    #[inline]
    fn at(&self, reader: &Reader<'_>) -> Option<T> {
        self.table.get((reader.peek_filled() & self.mask) as usize).copied()
    }
}
