//! Any bytes, cut anywhere, at any level: what is joined reads back.
#![no_main]

use std::io::Read as _;

use libfuzzer_sys::fuzz_target;
use tare_gzip::{Compressor, Joiner};

fuzz_target!(|input: (u8, Vec<u16>, u16, Vec<u8>)| {
    let (level, cuts, repeats, unit) = input;
    // Longer than the window, and not only noise.
    let data = unit.repeat(usize::from(repeats % 64) + 1);
    let mut cuts: Vec<usize> = cuts.iter().take(8).map(|cut| usize::from(*cut) % (data.len() + 1)).collect();
    cuts.sort_unstable();
    let mut compressor = Compressor::new(level % 13).unwrap();
    let mut joiner = Joiner::new(Vec::new());
    let mut start = 0;
    for end in cuts.into_iter().chain([data.len()]) {
        joiner.append(&compressor.piece(&data[..end], start).unwrap()).unwrap();
        start = end;
    }
    let gzip = joiner.finish().unwrap();
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut plain).unwrap();
    assert!(plain == data);
});
