//! Bytes: of the base layer, of the whole sample, and of every layer beside zopfli's.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::Context as _;

use super::fixture::write;
use super::report::{Bound, Goal, Part, Row, Table, thousandths};
use super::scratch::Scratch;
use super::stats::{Series, Unit, ratio};
use super::{Bench, SAMPLE};
use tare_oci::blob::{BlobSource, Staging};
use tare_oci::compress::{Compression, Pool};
use tare_oci::digest::Digest;
use tare_oci::image::Image;
use tare_oci::units::Epoch;
use tare_tool::process::Cmd;
use xtask_tare::git::GitFacts;
use xtask_tare::image::assemble::{LayerStore, assemble, programs};
use xtask_tare::image::binary::BuildContext;
use xtask_tare::image::cache::LayerCache;
use xtask_tare::image::cargo::CargoOptions;
use xtask_tare::image::definition::{self, BASE_LAYER, Definition, What};
use xtask_tare::workspace::source_date_epoch;

/// zopfli needs minutes for more.
const ZOPFLI_LIMIT: u64 = 30_000_000;

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let scratch = bench.scratch("size")?;
    let mut part = Part::new("size");
    let whole = definition(bench)?;
    let images = [
        Measured {
            name: "sample, without CA bundle and zoneinfo",
            image: image(bench, &bare(&whole), &scratch)?,
        },
        Measured { name: "sample", image: image(bench, &whole, &scratch)? },
    ];
    sizes(&images, &mut part);
    match bench.tool("zopfli") {
        Some(zopfli) => beside_zopfli(&zopfli, &scratch, &images, &mut part)?,
        None => part.left_out.push("layers beside zopfli's: zopfli is not installed".to_owned()),
    }
    Ok(part)
}

struct Measured {
    name: &'static str,
    image: Image,
}

fn definition(bench: &Bench<'_>) -> anyhow::Result<Definition> {
    let path = bench.workspace.images_dir().join(SAMPLE).join("image.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(definition::parse(SAMPLE, &path, &text)?)
}

/// The same without what not every server needs.
fn bare(definition: &Definition) -> Definition {
    let mut definition = definition.clone();
    for layer in &mut definition.layers {
        layer.entries.retain(|entry| !matches!(entry.what, What::CaCertificates(_) | What::Zoneinfo(_)));
    }
    definition
}

/// The image of the definition's first platform, with its layers in the scratch folder.
fn image(bench: &Bench<'_>, definition: &Definition, scratch: &Scratch) -> anyhow::Result<Image> {
    let git = GitFacts::read(bench.env);
    let created = source_date_epoch(bench.env)?.or(git.time).unwrap_or(Epoch::ZERO);
    let mut env = bench.env.clone();
    env.variables.insert("CARGO".into(), bench.cargo.clone().into());
    let cargo = CargoOptions { offline: false, quiet: true };
    let context = BuildContext { workspace: bench.workspace, env: &env, ui: bench.ui, created, cargo };
    let platforms = definition.platforms.first().copied().into_iter().collect::<Vec<_>>();
    let programs = programs(context, definition, &platforms)?;
    let staging = Staging::create(scratch.path().join("staging"))?;
    let cache = LayerCache::new(scratch.path().join("layers"));
    let pool = Pool::start(env.parallelism);
    let store =
        LayerStore { cache: &cache, staging: &staging, pool: &pool, compression: Compression::default() };
    let assembled = assemble(context, definition, &git, programs, store)?;
    assembled.index.images().first().cloned().context("the image has no platform")
}

fn sizes(images: &[Measured], part: &mut Part) {
    let limits = [490_000, 600_000];
    let mut rows = Vec::new();
    for (Measured { name, image }, limit) in images.iter().zip(limits) {
        let layers: u64 = image.layers.iter().map(|(layer, _)| layer.descriptor.size).sum();
        let (manifest, config) = (image.manifest.descriptor.size, image.config.descriptor.size);
        let all = layers + manifest + config;
        let mut row = |what: &str, bytes: u64| {
            rows.push(Row { name: format!("{name}: {what}"), cells: vec![Series::bytes(bytes).into()] });
        };
        for (layer, _) in &image.layers {
            row(&format!("layer {}", layer.name), layer.descriptor.size);
        }
        row("manifest", manifest);
        row("config", config);
        row("all", all);
        part.goals.push(Goal::new(
            format!("{name}: layers, manifest and config"),
            Bound::AtMost(limit),
            Series::bytes(all),
        ));
    }
    part.tables.push(Table { columns: vec!["stored bytes", "size"], rows });
    let bare =
        images.first().and_then(|bare| bare.image.layers.iter().find(|(layer, _)| layer.name == BASE_LAYER));
    if let Some((layer, _)) = bare {
        part.goals.push(Goal::new(
            "base layer without CA bundle and zoneinfo",
            Bound::Below(1024),
            Series::bytes(layer.descriptor.size),
        ));
    }
}

fn beside_zopfli(
    zopfli: &Path,
    scratch: &Scratch,
    images: &[Measured],
    part: &mut Part,
) -> anyhow::Result<()> {
    let mut rows: BTreeMap<Digest, Row> = BTreeMap::new();
    let mut zopflied: BTreeMap<Digest, u64> = BTreeMap::new();
    for (layer, blob) in images.iter().flat_map(|measured| &measured.image.layers) {
        let digest = layer.descriptor.digest;
        let BlobSource::File(path) = &blob.source else { continue };
        if rows.contains_key(&digest) {
            continue;
        }
        if layer.uncompressed_size > ZOPFLI_LIMIT {
            part.left_out.push(format!("layer {} beside zopfli's: it is too large", layer.name));
            continue;
        }
        let tar = scratch.path().join("layer.tar");
        write(&tar, &gunzip(File::open(path).with_context(|| format!("cannot open {}", path.display()))?)?)?;
        let length = |command: Cmd| Ok::<_, anyhow::Error>(command.arg(&tar).read()?.len() as u64);
        let of_zopfli = length(Cmd::new(zopfli).args(["--gzip", "-c"]))?;
        let of_gzip = length(Cmd::new("gzip").args(["-9", "-n", "-c"])).ok();
        let relative = Series::once(Unit::Millionths, ratio(layer.descriptor.size, of_zopfli));
        let name = format!("{} of {} bytes", layer.name, layer.uncompressed_size);
        zopflied.insert(digest, of_zopfli);
        let cells = vec![
            Series::bytes(layer.descriptor.size).into(),
            Series::bytes(of_zopfli).into(),
            of_gzip.map(Series::bytes).into(),
            relative.into(),
        ];
        rows.insert(digest, Row { name, cells });
    }
    let columns = vec!["layer", "tare", "zopfli", "gzip -9", "tare / zopfli"];
    part.tables.push(Table { columns, rows: rows.into_values().collect() });
    // Of whole images: three bytes are more than a hundredth of the smallest layer.
    for Measured { name, image } in images {
        let layers = image.layers.iter().map(|(layer, _)| &layer.descriptor);
        let of_zopfli: Option<u64> = layers.clone().map(|layer| zopflied.get(&layer.digest)).sum();
        if let Some(of_zopfli) = of_zopfli {
            part.goals.push(Goal::new(
                format!("{name}: layers, tare / zopfli"),
                Bound::AtMost(thousandths(1002)),
                Series::once(Unit::Millionths, ratio(layers.map(|layer| layer.size).sum(), of_zopfli)),
            ));
        }
    }
    Ok(())
}

/// The tar of a layer.
pub(super) fn gunzip(blob: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut tar = Vec::new();
    flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut tar).context("cannot unpack a layer")?;
    Ok(tar)
}
