//! What is joined reads back, in whatever pieces it was cut, and is as small as one stream.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Read as _;

use flate2::read::GzDecoder;
use proptest::prelude::*;
use tare_gzip::{Compressor, Joiner, WINDOW};

/// Compresses data cut at these places.
fn joined(level: u8, data: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut compressor = Compressor::new(level).unwrap();
    let mut joiner = Joiner::new(Vec::new());
    let ends = cuts.iter().copied().chain([data.len()]);
    let mut start = 0;
    for end in ends {
        joiner.append(&compressor.piece(&data[..end], start).unwrap()).unwrap();
        start = end;
    }
    joiner.finish().unwrap()
}

/// Reads one member, behind which there is nothing.
fn read(gzip: &[u8]) -> Vec<u8> {
    let mut decoder = GzDecoder::new(gzip);
    let mut plain = Vec::new();
    decoder.read_to_end(&mut plain).unwrap();
    assert!(decoder.into_inner().is_empty());
    plain
}

fn random(length: usize, mut state: u64) -> Vec<u8> {
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length).map(|_| next() as u8).collect()
}

/// Words of a small dictionary, with random bytes in between: every kind of block.
fn mixed(length: usize, seed: u64) -> Vec<u8> {
    let choices = random(length, seed | 1);
    let mut data = Vec::new();
    for (place, choice) in choices.iter().enumerate() {
        match choice % 16 {
            0 => data.extend_from_slice(&random(usize::from(*choice) * 40, place as u64 + 1)),
            1 => data.resize(data.len() + usize::from(*choice) * 20, *choice),
            n => data.extend_from_slice([&b"content"[..], b"length", b"\0\0\x48\x8b"][usize::from(n) % 3]),
        }
        if data.len() >= length {
            break;
        }
    }
    data.truncate(length);
    data
}

#[test]
fn the_cut_costs_next_to_nothing() {
    let text: Vec<u8> =
        (0..60_000_u32).flat_map(|n| format!("{} {}\n", n % 977, n / 7).into_bytes()).collect();
    for level in [1, 6, 9, 11, 12] {
        let whole = Compressor::new(level).unwrap().member(&text).unwrap();
        let cut = joined(level, &text, &[text.len() / 2]);
        assert_eq!(read(&cut), text);
        // A block of its own has its codes to tell; an empty window would cost kilobytes.
        assert!(cut.len() < whole.len() + 200, "level {level}: {} and {}", cut.len(), whole.len());
    }
}

#[test]
fn what_cannot_be_compressed_is_stored_over_the_cut() {
    let data = random(300_000, 7);
    for cut in [1, WINDOW - 1, WINDOW, 65_535, 65_536, 100_001] {
        let gzip = joined(6, &data, &[cut]);
        assert_eq!(read(&gzip), data, "{cut}");
        assert!(gzip.len() < data.len() + 100, "{cut}: {}", gzip.len());
    }
}

#[test]
fn a_match_over_the_cut_is_cut() {
    let data = vec![0; 200_000];
    for cut in [1, 2, 257, 258, 259, 99_999] {
        assert_eq!(read(&joined(9, &data, &[cut])), data, "{cut}");
    }
}

#[test]
fn words_of_every_length_are_passed_over() {
    // Each literal half as often as the one before it, and each distance: so words grow bit by bit.
    let mut data = Vec::new();
    for choice in random(1_600_000, 3).chunks_exact(8) {
        let choice = u64::from_le_bytes(choice.try_into().unwrap());
        data.extend_from_slice(&[choice.trailing_zeros() as u8, (choice >> 56) as u8 | 128]);
        let back = 3 << (choice >> 20).trailing_zeros().min(13);
        if back + 9 < data.len() {
            data.extend_from_within(data.len() - back - 9..data.len() - back);
        }
    }
    for level in [1, 6, 12] {
        assert!(read(&joined(level, &data, &[data.len() / 2])) == data, "{level}");
    }
}

#[test]
fn pieces_are_smaller_than_what_libdeflate_writes() {
    // Every byte occurs nearly as often as its neighbours, so that their words may as well be equally long.
    let data: Vec<u8> = random(60_000, 9)
        .chunks_exact(2)
        .map(|pair| (usize::from(pair[0]) * (usize::from(pair[1]) + 64) / 320) as u8)
        .collect();
    for level in [1, 6, 10, 12] {
        let whole = Compressor::new(level).unwrap().member(&data).unwrap();
        let piece = joined(level, &data, &[]);
        assert_eq!(read(&piece), data);
        assert!(piece.len() < whole.len(), "level {level}: {} and {}", piece.len(), whole.len());
    }
}

#[test]
fn nothing_is_a_member_too() {
    assert_eq!(read(&joined(6, b"", &[])), b"");
    assert_eq!(read(&Joiner::new(Vec::new()).finish().unwrap()), b"");
    assert_eq!(read(&joined(6, b"a", &[0, 0, 1, 1])), b"a");
}

#[test]
fn a_level_that_is_not_there_is_an_error() {
    assert_eq!(Compressor::new(13).unwrap_err().to_string(), "libdeflate has no level 13, only 0 to 12");
}

proptest! {
    #[test]
    fn whatever_is_cut_anywhere_reads_back(
        length in 0_usize..300_000,
        seed in any::<u64>(),
        level in 0_u8..=12,
        places in prop::collection::vec(0.0..1.0, 0..6),
    ) {
        let data = mixed(length, seed);
        let mut cuts: Vec<usize> = places.iter().map(|place: &f64| (place * data.len() as f64) as usize).collect();
        cuts.sort_unstable();
        prop_assert!(read(&joined(level, &data, &cuts)) == data);
    }
}
