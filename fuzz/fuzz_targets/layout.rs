//! A layout whose documents and layers are any bytes, and lie where the index looks for them.
//! `xtask_tare_fuzz::parts` says how the input is cut.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use tare_oci::inspect::inspect;
use tare_oci::compare::first_difference;
use tare_oci::digest::Digest;
use tare_oci::reader::Source;
use tare_oci::validate::validate;
use xtask_tare_fuzz::parts;

fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let blobs = dir.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a temporary folder");
    let write = |path, bytes: &[u8]| fs::write(path, bytes).expect("a temporary file");
    write(dir.path().join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#);
    let parts = parts(bytes);
    for part in &parts {
        write(blobs.join(Digest::of(part).hex()), part);
    }
    let Some(manifest) = parts.first() else { return };
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{}}}]}}"#,
        Digest::of(manifest),
        manifest.len()
    );
    write(dir.path().join("index.json"), index.as_bytes());
    let source = Source::open(dir.path()).expect("it has an index");
    let inspected = inspect(&source);
    let report = validate(&source).expect("what is wrong with an image is in the report");
    assert!(inspected.is_ok() || !report.problems.is_empty(), "{:?}", inspected.err());
    // An image does not differ from itself.
    if inspected.is_ok() {
        assert_eq!(first_difference(&source, &source).expect("it was read before"), None);
    }
});
