//! A program of any bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tare_oci::{audit, elf};

fuzz_target!(|bytes: &[u8]| {
    let facts = elf::facts(bytes);
    let section = elf::audit_data(bytes).ok().flatten();
    if let Some(crates) = section.and_then(|section| audit::decode(section).ok()) {
        let again = audit::encode(&crates).expect("what was read can be written");
        assert_eq!(audit::decode(&again).expect("what was written can be read"), crates);
    }
    let stripped = elf::strip(bytes, Some(b"audit"));
    if let (Ok(facts), Ok(stripped)) = (facts, stripped) {
        // Whatever is loaded is as it was.
        if let Ok(after) = elf::facts(&stripped) {
            assert_eq!((after.machine, after.symbols), (facts.machine, false));
        }
    }
});
