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

/// The parts of a deflate stream that stand for what comes after its first `before` bytes, and how many
/// bytes it stands for altogether. `plain` is what it stands for: bytes of a match that begins too early
/// are taken from it. `None` if the stream is damaged.
pub(crate) fn after(deflated: &[u8], before: usize, plain: &[u8]) -> Option<(Vec<Part>, usize)> {
    let mut reader = Reader::new(deflated);
    let mut tables = Tables::default();
    let mut parts = Vec::new();
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
                if kind == 1 {
                    tables.fixed();
                } else {
                    tables.read(&mut reader)?;
                }
                // Without the bit that says whether it is the last.
                let header = start + 1..reader.position();
                let mut cut = None;
                if position < before {
                    let ended;
                    (position, ended) = tables.tokens(&mut reader, position, before)?;
                    if ended {
                        // A block that is wholly before; the last cannot be followed by another.
                        if last {
                            return Some((parts, position));
                        }
                        continue;
                    }
                    if position > before {
                        parts.push(Part::Literals(plain.get(before..position)?.to_vec()));
                    }
                    cut = Some(position);
                }
                let tokens = reader.position();
                (position, _) = tables.tokens(&mut reader, position, usize::MAX)?;
                // Else only the end of the block was left of it.
                if cut != Some(position) {
                    parts.push(Part::Block { header, tokens: tokens..reader.position() });
                }
            }
            _ => return None,
        }
        if last {
            return (!reader.overran()).then_some((parts, position));
        }
    }
}

/// The two codes of a block.
#[derive(Default)]
struct Tables {
    literals: Code,
    distances: Code,
}

impl Tables {
    /// The codes that need no description (section 3.2.6).
    fn fixed(&mut self) {
        let mut lengths = [8; 288];
        lengths[144..256].fill(9);
        lengths[256..280].fill(7);
        // Complete, so they cannot be refused.
        let _ = self.literals.build(&lengths);
        let _ = self.distances.build(&[5; 32]);
    }

    /// Those that are described before the block's tokens (section 3.2.7).
    fn read(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let literals = reader.take(5) as usize + 257;
        let distances = reader.take(5) as usize + 1;
        let count = reader.take(4) as usize + 4;
        let mut of_lengths = [0; 19];
        for place in &ORDER[..count] {
            of_lengths[*place] = reader.take(3) as u8;
        }
        let mut code = Code::default();
        code.build(&of_lengths)?;
        let mut lengths = Vec::with_capacity(320);
        while lengths.len() < literals + distances {
            let (value, repeat) = match code.symbol(reader)? {
                length @ 0..=15 => (length as u8, 1),
                16 => (*lengths.last()?, reader.take(2) + 3),
                17 => (0, reader.take(3) + 3),
                _ => (0, reader.take(7) + 11),
            };
            lengths.resize(lengths.len() + repeat as usize, value);
        }
        let described = lengths.get(..literals + distances).filter(|it| it.len() == lengths.len())?;
        self.literals.build(&described[..literals])?;
        self.distances.build(&described[literals..])
    }

    /// Passes over tokens until they stand for everything before `until` or the block ends; the position
    /// then, and whether the block ended.
    fn tokens(&self, reader: &mut Reader<'_>, mut position: usize, until: usize) -> Option<(usize, bool)> {
        while position < until {
            let symbol = self.literals.symbol(reader)?;
            if symbol < END_OF_BLOCK {
                position += 1;
                continue;
            }
            if symbol == END_OF_BLOCK {
                return Some((position, true));
            }
            let (length, bits) = *LENGTHS.get(usize::from(symbol - 257))?;
            position += usize::from(length) + reader.take(u32::from(bits)) as usize;
            let distance = self.distances.symbol(reader)?;
            reader.take(u32::from(*DISTANCE_BITS.get(usize::from(distance))?));
            if reader.overran() {
                return None;
            }
        }
        Some((position, false))
    }
}

/// A Huffman code (section 3.2.2) as a table over all bit strings of its greatest length.
#[derive(Default)]
struct Code {
    /// Symbol and length; length 0 where no code begins like that.
    table: Vec<(u16, u8)>,
    mask: u32,
}

impl Code {
    /// From the lengths of its words. An incomplete code is taken: deflate allows one of a single word.
    fn build(&mut self, lengths: &[u8]) -> Option<()> {
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
        self.table.resize(1 << longest, (0, 0));
        for (symbol, length) in lengths.iter().enumerate() {
            if *length == 0 {
                continue;
            }
            let word = &mut next[usize::from(*length)];
            // Words are read from their highest bit on, everything else from its lowest.
            let reversed = word.reverse_bits() >> (32 - u32::from(*length));
            *word += 1;
            for place in (reversed as usize..self.table.len()).step_by(1 << length) {
                self.table[place] = (symbol as u16, *length);
            }
        }
        Some(())
    }

    #[inline]
    fn symbol(&self, reader: &mut Reader<'_>) -> Option<u16> {
        let (symbol, length) = *self.table.get((reader.peek() & self.mask) as usize)?;
        if length == 0 {
            return None;
        }
        reader.skip(u32::from(length));
        Some(symbol)
    }
}
