//! An archive of any bytes.

#![no_main]

use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use tare_oci::inspect::inspect;
use tare_oci::reader::Source;
use tare_oci::validate::validate;

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("a temporary file");
    let Ok(source) = Source::open(file.path()) else { return };
    let inspected = inspect(&source);
    let report = validate(&source).expect("what is wrong with an image is in the report");
    // What cannot be shown cannot be valid either.
    assert!(inspected.is_ok() || !report.problems.is_empty(), "{:?}", inspected.err());
});
