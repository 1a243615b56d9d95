//! The size of the sample's layers, compared with the same tars compressed by zopfli and gzip.

use anyhow::Context as _;

use super::Bench;
use super::report::{Part, Series};
use crate::lab::tools::Tool;
use tare_oci::blob::blob_path;
use tare_profiler::profile::metric::Unit;
use tare_tool::process::{Execute as _, cmd};

/// How much larger than zopfli's layers ours may be, as a part of zopfli's.
const LIMIT: f64 = 0.005;

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let context = &bench.context;
    let mut part = Part::new(["layer", "uncompressed", "tare", "zopfli", "gzip -9"]);
    let sample = context.sample()?;
    let bytes = |bytes: f64| Series::new(Unit::Bytes, [bytes]);
    if !context.found.has(Tool::Program("zopfli")) {
        part.left_out.push("zopfli: it is not installed".to_owned());
        return Ok(part);
    }
    let (sh, tar) = (&context.sh, context.new_folder("size")?.join("layer.tar"));
    let mut all = [0.0; 2];
    for layer in &sample.first()?.layers {
        let length = |compress: &str| -> anyhow::Result<f64> {
            let script = format!("gzip -dc \"$0\" >\"$1\" && {compress} \"$1\" | wc -c");
            let blob = sample.layout.join(blob_path(&layer.digest));
            let text = cmd!(sh, "sh -c {script} {blob} {tar}").capture_text()?;
            text.parse().with_context(|| format!("wc printed {text}"))
        };
        let (ours, zopfli) = (layer.size as f64, length("zopfli --gzip -c")?);
        all = [all[0] + ours, all[1] + zopfli];
        let sizes = [layer.uncompressed_size as f64, ours, zopfli, length("gzip -9 -n -c")?];
        part.row(layer.name.clone(), sizes.map(bytes));
    }
    let [ours, zopfli] = all;
    let larger = Series::new(Unit::Share, [(ours - zopfli) / zopfli]);
    part.at_most("larger than zopfli's layers by", larger, LIMIT);
    Ok(part)
}
