//! A program of any bytes, weighed: whatever it is, every byte of it counts once.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tare_profiler::profile::size::{CrateSize, program};

fuzz_target!(|bytes: &[u8]| {
    // Alone, and as the twin of itself.
    for twin in [None, Some(bytes)] {
        let weighed = program("fuzzed", true, bytes, twin, &mut Vec::new());
        let size = bytes.len() as u64;
        // Bytes that are no ELF file at all have no sections.
        if !weighed.sections.is_empty() {
            assert_eq!(weighed.sections.iter().map(|section| section.file).sum::<u64>(), size);
        }
        if let Some(attribution) = &weighed.attribution {
            let owned: u64 = attribution.crates.iter().map(CrateSize::total).sum();
            assert_eq!(owned + attribution.unattributed.values().sum::<u64>(), size);
        }
    }
});
