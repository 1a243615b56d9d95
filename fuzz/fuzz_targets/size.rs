//! The size pass on a program of any bytes: every byte of it counts once.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tare_profiler::profile::size::{CrateSize, program};

fuzz_target!(|bytes: &[u8]| {
    // Alone, and as the unstripped binary of itself.
    for unstripped in [None, Some(bytes)] {
        let program = program("fuzzed", bytes, unstripped, &mut Vec::new());
        let size = bytes.len() as u64;
        // Bytes that are no ELF file at all have no sections.
        if !program.sections.is_empty() {
            assert_eq!(program.sections.iter().map(|section| section.file).sum::<u64>(), size);
        }
        if let Some(attribution) = &program.attribution {
            let owned: u64 = attribution.crates.iter().map(CrateSize::total).sum();
            assert_eq!(owned + attribution.unattributed.values().sum::<u64>(), size);
        }
    }
});
