//! Reads and validates an OCI layout: `read-layout LAYOUT`.

use std::error::Error;
use std::path::Path;

use tare_oci::reader::{Source, images};
use tare_oci::validate::validate;

fn main() -> Result<(), Box<dyn Error>> {
    let layout = std::env::args().nth(1).ok_or("usage: read-layout LAYOUT")?;
    let source = Source::open(Path::new(&layout))?;
    for image in images(&source)? {
        let (descriptor, _) = image.manifest.ok_or("the image has no manifest")?;
        println!("{}: {} layers", descriptor.digest, image.layers.len());
    }
    let report = validate(&source)?;
    report.problems.iter().for_each(|problem| println!("{problem}"));
    println!("{} blobs, {} problems", report.blobs, report.problems.len());
    Ok(())
}
