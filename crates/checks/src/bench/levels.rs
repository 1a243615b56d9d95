//! Every level of compression: what it saves and what it costs, on one thread.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::fixture::Built;
use super::report::{Bound, Cell, Goal, Part, Row, Table};
use super::size::gunzip;
use super::stats::{Series, Unit, ratio};
use super::{Bench, SAMPLE};
use tare_oci::blob::blob_path;
use tare_oci::compress::{Compression, Pool};
use tare_oci::entry::{Content, Entry, EntryKind, Owner};
use tare_oci::layer::{self, LayerPlan};
use tare_oci::path::ImagePath;
use tare_oci::units::{ByteSize, Epoch};
use xtask_tare::image::definition::APPLICATION_LAYER;
use xtask_tare::image::outputs::OutputPaths;

/// Bytes that each source gives to the larger tar.
const SHARE: u64 = 16 << 20;

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let mut part = Part::new("levels");
    part.note("one thread; marked is the fastest level of gzip within 0.1 % of the smallest");
    let (names, tars) = applications(bench)?;
    part.note(format!("application layers: each by itself, those of {}", names.join(", ")));
    let levels = levels(bench.rounds, &tars)?;
    let best = fastest_of_the_smallest(&levels);
    part.tables.push(table("application layers", &levels, best));
    part.goals.extend(goal(best));
    let (tar, sources) = mixed(bench)?;
    if sources.is_empty() {
        part.left_out.push("a larger tar: neither crates nor a toolchain's libraries were found".to_owned());
        return Ok(part);
    }
    part.note(format!("larger tar: {} of {}; one round", ByteSize(tar.len() as u64), sources.join(" and ")));
    let levels = self::levels(1, &[tar])?;
    let best = fastest_of_the_smallest(&levels);
    part.tables.push(table("larger tar", &levels, best));
    Ok(part)
}

fn goal(best: Option<Compression>) -> Option<Goal> {
    let Some(Compression::Gzip(level)) = best else { return None };
    Some(Goal::new(
        "fastest level within 0.1 % of the smallest for programs, which is to be the default",
        Bound::Exactly(Compression::DEFAULT_GZIP.into()),
        Series::once(Unit::Count, u64::from(level)),
    ))
}

/// The tars of the application layers of the sample and of every other image that has been built here: how small
/// a program gets at a level varies by more than the levels differ with where its bytes happen to lie.
fn applications(bench: &Bench<'_>) -> anyhow::Result<(Vec<String>, Vec<Vec<u8>>)> {
    let mut images = vec![("the sample".to_owned(), bench.sample()?)];
    for name in bench.workspace.image_names()? {
        let summary = OutputPaths::new(&bench.workspace.output_dir(), &name).summary;
        if let Ok(json) = fs::read(summary)
            && name != SAMPLE
        {
            images.push((name, Built::parse(&json)?));
        }
    }
    let mut tars = Vec::new();
    for (name, image) in &images {
        let layers = &image.platform()?.layers;
        let layer = layers.iter().find(|layer| layer.name == APPLICATION_LAYER);
        let layer = layer.with_context(|| format!("image {name} has no application layer"))?;
        let blob = image.layout.join(blob_path(&layer.digest));
        tars.push(gunzip(File::open(&blob).with_context(|| format!("cannot open {}", blob.display()))?)?);
    }
    Ok((images.into_iter().map(|(name, _)| name).collect(), tars))
}

/// What a compression makes of some tars.
struct Level {
    compression: Compression,
    size: u64,
    time: Series,
}

/// gzip at every level, and zstd at its default, at a level as fast as gzip, and at ours.
fn compressions() -> Vec<Compression> {
    let gzip = (1..=12).map(Compression::Gzip);
    gzip.chain([3, 9, Compression::DEFAULT_ZSTD].map(Compression::Zstd)).collect()
}

/// All tars at every level, each by itself; sizes and times of all together.
fn levels(rounds: u32, tars: &[Vec<u8>]) -> anyhow::Result<Vec<Level>> {
    let compressions = compressions();
    let mut sizes = vec![0; compressions.len()];
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); compressions.len()];
    for _ in 0..rounds {
        for ((compression, size), times) in compressions.iter().zip(&mut sizes).zip(&mut times) {
            let pool = Pool::start(1);
            let started = Instant::now();
            *size = 0;
            for tar in tars {
                let mut encoder = pool.encoder(*compression, tar.len() as u64, Vec::new());
                encoder.write_all(tar)?;
                *size += encoder.finish()?.0.len() as u64;
            }
            times.push(started.elapsed());
        }
    }
    let measured = compressions.into_iter().zip(sizes).zip(times);
    Ok(measured
        .map(|((compression, size), times)| Level { compression, size, time: Series::times(times) })
        .collect())
}

/// Of gzip's levels.
fn fastest_of_the_smallest(levels: &[Level]) -> Option<Compression> {
    let gzip = || levels.iter().filter(|level| matches!(level.compression, Compression::Gzip(_)));
    let smallest = gzip().map(|level| level.size).min()?;
    let close = gzip().filter(|level| level.size <= smallest + smallest / 1000);
    close.min_by_key(|level| level.time.median()).map(|level| level.compression)
}

fn table(name: &'static str, levels: &[Level], best: Option<Compression>) -> Table {
    let smallest = levels.iter().filter(|level| matches!(level.compression, Compression::Gzip(_)));
    let smallest = smallest.map(|level| level.size).min().unwrap_or_default();
    let rows = levels.iter().map(|level| Row {
        name: level.compression.to_string(),
        cells: vec![
            Series::bytes(level.size).into(),
            Series::once(Unit::Millionths, ratio(level.size, smallest)).into(),
            level.time.clone().into(),
            Cell::Text(if Some(level.compression) == best { "<" } else { "" }),
        ],
    });
    Table { columns: vec![name, "size", "/ smallest gzip", "time", ""], rows: rows.collect() }
}

/// A tar of what lies on a machine that builds Rust: the sources of crates, and the libraries of the
/// toolchain; and where they were taken from.
fn mixed(bench: &Bench<'_>) -> anyhow::Result<(Vec<u8>, Vec<&'static str>)> {
    let crates = bench.env.cargo_home().map(|home| home.join("registry/src"));
    let libraries = bench.cargo.ancestors().nth(2).map(|sysroot| sysroot.join("lib/rustlib"));
    let mut entries = Vec::new();
    let mut names = Vec::new();
    for (name, destination, source) in
        [("crates", "/crates", crates), ("the toolchain's libraries", "/lib", libraries)]
    {
        let Some(source) = source.filter(|source| source.is_dir()) else { continue };
        let mut left = SHARE;
        let before = entries.len();
        collect(&source, &destination.parse()?, &mut left, &mut entries)?;
        if entries.len() > before {
            names.push(name);
        }
    }
    let plan = LayerPlan { name: "mixed".to_owned(), entries };
    let (_, tar) = layer::write(&plan, Compression::None, &Pool::start(1), Vec::new())?;
    Ok((tar, names))
}

/// Adds the files below a folder in the order of their names until `left` bytes are used up.
fn collect(dir: &Path, at: &ImagePath, left: &mut u64, entries: &mut Vec<Entry>) -> anyhow::Result<()> {
    let read = || format!("cannot read {}", dir.display());
    let found = fs::read_dir(dir).with_context(read)?.collect::<Result<Vec<_>, _>>().with_context(read)?;
    let mut paths: Vec<PathBuf> = found.into_iter().map(|found| found.path()).collect();
    paths.sort();
    for path in paths {
        let metadata = fs::symlink_metadata(&path).with_context(read)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Ok(place) = at.join(name.as_bytes()) else { continue };
        if metadata.is_dir() {
            collect(&path, &place, left, entries)?;
        } else if metadata.is_file() && metadata.len() <= *left {
            *left -= metadata.len();
            let kind = EntryKind::File(Content::File(path.into(), metadata.len()));
            let owner = Owner::default();
            entries.push(Entry {
                path: place,
                kind,
                mode: 0o644,
                owner,
                mtime: Epoch::OF_FILES,
                capabilities: None,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(compression: Compression, size: u64, milliseconds: u64) -> Level {
        Level { compression, size, time: Series::times([Duration::from_millis(milliseconds)]) }
    }

    #[test]
    fn the_fastest_level_within_a_thousandth_of_the_smallest_wins() {
        let levels = [
            level(Compression::Gzip(9), 100_200, 10),
            level(Compression::Gzip(10), 100_050, 20),
            level(Compression::Gzip(11), 100_100, 30),
            level(Compression::Gzip(12), 100_000, 40),
            level(Compression::Zstd(3), 90_000, 1),
        ];
        assert_eq!(fastest_of_the_smallest(&levels), Some(Compression::Gzip(10)));
    }
}
