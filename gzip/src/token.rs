//! What deflate consists of: literal bytes and matches (RFC 1951, section 3.2.5).

/// The order in which a block tells the lengths of the code length codes (section 3.2.7).
pub(crate) const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The shortest match of the codes 257 to 285, and how many extra bits follow (section 3.2.5).
pub(crate) const LENGTHS: [(u16, u8); 29] = [
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
pub(crate) const DISTANCE_BITS: [u8; 30] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];

/// The symbol behind the last token of a block.
pub(crate) const END_OF_BLOCK: u16 = 256;

/// How many symbols there are of literals and lengths, and of distances.
pub(crate) const LITERALS: usize = 257 + LENGTHS.len();
pub(crate) const DISTANCES: usize = DISTANCE_BITS.len();

/// How many extra bits follow the symbols of literals, which have none, and lengths.
pub(crate) const LITERAL_BITS: [u8; LITERALS] = {
    let mut bits = [0; LITERALS];
    let mut length = 0;
    while length < LENGTHS.len() {
        bits[257 + length] = LENGTHS[length].1;
        length += 1;
    }
    bits
};

/// How many bits symbols take that occur so often and have so many each.
pub(crate) fn bits(counts: &[u32], each: &[u8]) -> u64 {
    counts.iter().zip(each).map(|(count, bits)| u64::from(*count) * u64::from(*bits)).sum()
}

/// In place of the symbol of a literal's distance. A literal is a match without extra bits and with this distance,
/// which has a word of no bits: no processor foresees which of both a token is, so nothing branches on it.
pub(crate) const NO_DISTANCE: u16 = DISTANCES as u16;

/// A literal, or a match: the symbol of its length in the nine lowest bits, five extra bits of that, five bits of the
/// symbol of its distance, and 13 extra bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(u32);

impl Token {
    pub(crate) fn literal(byte: u8) -> Self {
        Self::new(u16::from(byte), 0, NO_DISTANCE, 0)
    }

    /// From its symbols and what their extra bits say.
    #[inline]
    pub(crate) fn new(symbol: u16, extra: u32, distance: u16, far: u32) -> Self {
        Self(u32::from(symbol) | extra << 9 | u32::from(distance) << 14 | far << 19)
    }

    /// The symbol of a literal or a length.
    #[inline]
    pub(crate) fn symbol(self) -> usize {
        (self.0 & 0x1ff) as usize
    }

    /// What the extra bits of its length say.
    #[inline]
    pub(crate) fn extra(self) -> u32 {
        self.0 >> 9 & 0x1f
    }

    /// The symbol of its distance.
    #[inline]
    pub(crate) fn distance(self) -> usize {
        (self.0 >> 14 & 0x1f) as usize
    }

    /// What the extra bits of its distance say.
    #[inline]
    pub(crate) fn far(self) -> u32 {
        self.0 >> 19
    }

    /// How many bytes it stands for.
    pub(crate) fn length(self) -> usize {
        match self.symbol().checked_sub(usize::from(END_OF_BLOCK) + 1) {
            Some(length) => usize::from(LENGTHS[length].0) + self.extra() as usize,
            None => 1,
        }
    }
}

/// How often each symbol occurs in a block, its end once.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) literals: [u32; LITERALS],
    /// The last is [`NO_DISTANCE`].
    distances: [u32; DISTANCES + 1],
    /// What the extra bits of all lengths say together.
    extra: usize,
}

impl Counts {
    pub(crate) fn of(tokens: &[Token]) -> Self {
        let mut counts = Self { literals: [0; LITERALS], distances: [0; DISTANCES + 1], extra: 0 };
        for token in tokens {
            counts.literals[token.symbol()] += 1;
            counts.distances[token.distance()] += 1;
            counts.extra += token.extra() as usize;
        }
        counts.literals[usize::from(END_OF_BLOCK)] = 1;
        counts
    }

    pub(crate) fn distances(&self) -> &[u32] {
        &self.distances[..DISTANCES]
    }

    /// How many bytes the tokens stand for.
    pub(crate) fn bytes(&self) -> usize {
        let (literals, lengths) = self.literals.split_at(usize::from(END_OF_BLOCK));
        let literals: usize = literals.iter().map(|count| *count as usize).sum();
        let matches = lengths[1..].iter().zip(LENGTHS);
        let shortest: usize =
            matches.map(|(count, (shortest, _))| *count as usize * usize::from(shortest)).sum();
        literals + shortest + self.extra
    }

    /// How many extra bits the tokens have.
    pub(crate) fn extra_bits(&self) -> u64 {
        bits(&self.literals, &LITERAL_BITS) + bits(self.distances(), &DISTANCE_BITS)
    }
}
