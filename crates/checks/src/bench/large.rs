//! Images that are large: time and memory for a gibibyte in a hundred files, and for a hundred thousand
//! small files.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Bench;
use super::fixture::{Built, Fixture};
use super::report::{Bound, Cell, Goal, Part, Row, Table, thousandths};
use super::scratch::Scratch;
use super::stats::{Series, Unit, ratio};
use super::usage::{self, Usage};
use tare_tool::process::Cmd;

/// Files of the large tree, a quarter of them in the smaller one.
const LARGE_FILES: usize = 100;
const LARGE_FILE: usize = (1 << 30) / LARGE_FILES;
/// Folders of small files, a quarter of them in the smaller tree.
const FOLDERS: usize = 100;
const FILES_PER_FOLDER: usize = 1000;

/// gzip's default level, at which pigz compresses too.
const GZIP6: &str = "gzip:6";

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let scratch = bench.scratch("large")?;
    let mut part = Part::new("large");
    let sample = bench.sample()?;
    let program = fs::read(&sample.platform()?.binary).context("cannot read the sample's program")?;
    bench.ui.status("Making", "large trees");
    let fixture = Fixture::create(scratch.folder("fixture")?)?;
    make_images(&fixture, &program)?;

    let runs = Runs {
        idle: run(bench, &fixture, &scratch, "program", None)?,
        large: run(bench, &fixture, &scratch, "large", None)?,
        large_gzip6: run(bench, &fixture, &scratch, "large", Some(GZIP6))?,
        pigz: pigz(bench, &fixture, &scratch, &mut part)?,
        quarter_gzip6: run(bench, &fixture, &scratch, "quarter-large", Some(GZIP6))?,
        many: run(bench, &fixture, &scratch, "many", None)?,
        quarter_many: run(bench, &fixture, &scratch, "quarter-many", None)?,
    };
    compute(&runs, bench.env.parallelism, &mut part);
    Ok(part)
}

struct Runs {
    idle: Run,
    large: Run,
    large_gzip6: Run,
    quarter_gzip6: Run,
    many: Run,
    quarter_many: Run,
    pigz: Option<Duration>,
}

struct Run {
    usage: Usage,
    /// Bytes of all layers as stored.
    size: u64,
}

fn compute(runs: &Runs, processors: usize, part: &mut Part) {
    part.note(
        "one round; memory is that of the tool's process, beyond that for an image of the program alone",
    );
    part.note("busy processors are user and system time of the tool's process over its time");
    let busy = |run: &Run| {
        let Usage { processor, wall, .. } = run.usage;
        Series::once(Unit::Millionths, ratio(nanoseconds(processor), nanoseconds(wall)))
    };
    let beyond = |run: &Run| Series::bytes(run.usage.peak.saturating_sub(runs.idle.usage.peak));
    let row = |name: &str, run: &Run| Row {
        name: name.to_owned(),
        cells: vec![
            Series::times([run.usage.wall]).into(),
            busy(run).into(),
            Series::bytes(run.usage.peak).into(),
            Series::bytes(run.size).into(),
        ],
    };
    let mut rows = vec![
        row("the program alone", &runs.idle),
        row("1 GiB in 100 files", &runs.large),
        row("1 GiB in 100 files, gzip:6", &runs.large_gzip6),
        row("256 MiB in 25 files, gzip:6", &runs.quarter_gzip6),
        row("100,000 small files", &runs.many),
        row("25,000 small files", &runs.quarter_many),
    ];
    if let Some(time) = runs.pigz {
        let time = Series::times([time]).into();
        let nothing = || Cell::Text("");
        let name = "tar | pigz -6, 1 GiB in 100 files".to_owned();
        rows.push(Row { name, cells: vec![time, nothing(), nothing(), nothing()] });
    }
    part.tables.push(Table { columns: vec!["large", "time", "busy", "peak memory", "layers"], rows });

    let wall = |run: &Run| Series::times([run.usage.wall]);
    for (name, run) in [("1 GiB", &runs.large), ("100,000 files", &runs.many)] {
        let bound = Bound::Below(96 << 20);
        part.goals.push(Goal::new(format!("{name}: peak memory beyond the idle tool"), bound, beyond(run)));
    }
    if processors == 2 {
        for (name, run) in [("1 GiB", &runs.large), ("100,000 files", &runs.many)] {
            let bound = Bound::AtLeast(thousandths(1600));
            part.goals.push(Goal::new(format!("{name}: busy processors of 2"), bound, busy(run)));
        }
    } else {
        part.left_out.push(format!("goal for busy processors: it is set for 2, not for {processors}"));
    }
    if let Some(time) = runs.pigz {
        part.goals.push(Goal::new(
            "1 GiB: tare gzip:6 / tar | pigz -6",
            Bound::AtMost(thousandths(1300)),
            wall(&runs.large_gzip6).over(&Series::times([time])),
        ));
    }
    for (name, run, quarter) in [
        ("1 GiB / 256 MiB, gzip:6", &runs.large_gzip6, &runs.quarter_gzip6),
        ("100,000 / 25,000 files", &runs.many, &runs.quarter_many),
    ] {
        let growth = wall(run).over(&wall(quarter));
        part.goals.push(Goal::new(format!("time of {name}"), Bound::AtMost(thousandths(5000)), growth));
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// Packs an image anew and watches it.
fn run(
    bench: &Bench<'_>,
    fixture: &Fixture,
    scratch: &Scratch,
    image: &str,
    compression: Option<&str>,
) -> anyhow::Result<Run> {
    bench.ui.status("Packaging", &format!("{image} {}", compression.unwrap_or_default()));
    fixture.forget()?;
    settle();
    let mut command = fixture.tare(bench).args(["image", image, "--quiet", "--json"]);
    if let Some(compression) = compression {
        command = command.args(["--compression", compression]);
    }
    let [out, err] = ["stdout", "stderr"].map(|name| scratch.path().join(name));
    let create = |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
    let started = Instant::now();
    let running = command.start_beside(create(&out)?, create(&err)?)?;
    let usage = usage::watch(running, started);
    let usage = usage.with_context(|| fs::read_to_string(&err).unwrap_or_default().trim().to_owned())?;
    let json = fs::read(&out).with_context(|| format!("cannot read {}", out.display()))?;
    Ok(Run { usage, size: Built::parse(&json)?.platform()?.size })
}

/// Waits until everything is on disk: what one run leaves to be written would be the next one's time.
fn settle() {
    // Without the program there is only more noise.
    let _ = Cmd::new("sync").read();
}

/// The same bytes through tar and pigz, on as many threads as there are processors.
fn pigz(
    bench: &Bench<'_>,
    fixture: &Fixture,
    scratch: &Scratch,
    part: &mut Part,
) -> anyhow::Result<Option<Duration>> {
    let Some(pigz) = bench.tool("pigz") else {
        part.left_out.push("1 GiB beside tar | pigz -6: pigz is not installed".to_owned());
        return Ok(None);
    };
    bench.ui.status("Packaging", "large with tar and pigz");
    let result = scratch.path().join("pigz.tar.gz");
    settle();
    let started = Instant::now();
    Cmd::new("sh")
        .args(["-c", "tar -c tree | \"$0\" -6 -p \"$1\" >\"$2\""])
        .arg(pigz)
        .arg(bench.env.parallelism.to_string())
        .arg(&result)
        .current_dir(&fixture.dir().join("images/large"))
        .read()?;
    let time = started.elapsed();
    fs::remove_file(&result).with_context(|| format!("cannot remove {}", result.display()))?;
    Ok(Some(time))
}

/// Four trees, each of a smaller part and the rest, and images of the parts and of all.
fn make_images(fixture: &Fixture, program: &[u8]) -> anyhow::Result<()> {
    let alone = "[[layers]]\nname = \"base\"\n";
    let image = |name: &str, from: &str| {
        let tree = format!(
            "{alone}[[layers]]\nname = \"tree\"\nentries = [{{ tree = \"/tree\", from = \"{from}\" }}]\n"
        );
        fixture.image(name, &tree, program)
    };
    fixture.image("program", alone, program)?;
    image("large", "tree")?;
    image("quarter-large", "../large/tree/a")?;
    image("many", "tree")?;
    image("quarter-many", "../many/tree/a")?;

    let mut content = Content::new();
    for file in 0..LARGE_FILES {
        let dir = fixture.dir().join("images/large/tree").join(part(file, LARGE_FILES));
        content.write(&dir, &format!("file-{file}"), LARGE_FILE)?;
    }
    for folder in 0..FOLDERS {
        let dir = fixture.dir().join("images/many/tree").join(part(folder, FOLDERS));
        for file in 0..FILES_PER_FOLDER {
            let size = 100 + content.random.below(4000);
            content.write(&dir.join(format!("folder-{folder}")), &format!("file-{file}"), size)?;
        }
    }
    Ok(())
}

/// The first quarter, or the rest.
fn part(at: usize, of: usize) -> &'static str {
    if at < of / 4 { "a" } else { "b" }
}

/// The same numbers on every machine: Knuth's MMIX generator ("The Art of Computer Programming",
/// volume 2, 3.3.4), of which the high bits are good.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Bytes that compress as files in images do: text, records of numbers, noise and zeros.
struct Content {
    random: Random,
    blocks: Vec<Vec<u8>>,
}

/// Larger than gzip's window of 32 KiB, so that a block that comes again is no repetition to it.
const BLOCK: usize = 64 << 10;

impl Content {
    fn new() -> Self {
        let mut random = Random(1);
        let words: Vec<Vec<u8>> = (0..3000).map(|_| word(&mut random)).collect();
        // Half of the blocks are text, a quarter are records, the rest is noise with some zeros.
        let blocks = (0..256).map(|at| match at % 16 {
            0..8 => text(&mut random, &words),
            8..12 => records(&mut random),
            12..15 => (0..BLOCK).map(|_| random.next() as u8).collect(),
            _ => vec![0; BLOCK],
        });
        let blocks = blocks.collect();
        Self { random, blocks }
    }

    /// A file of blocks in random order.
    fn write(&mut self, dir: &Path, name: &str, size: usize) -> anyhow::Result<()> {
        let path = dir.join(name);
        let mut write = || -> io::Result<()> {
            fs::create_dir_all(dir)?;
            let mut file = File::create(&path)?;
            let mut left = size;
            while left > 0 {
                let block = &self.blocks[self.random.below(self.blocks.len())];
                let length = left.min(BLOCK);
                let start = self.random.below(BLOCK - length + 1);
                file.write_all(&block[start..start + length])?;
                left -= length;
            }
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

fn word(random: &mut Random) -> Vec<u8> {
    let length = 2 + random.below(8);
    (0..length).map(|_| b"etaoinshrdlucmfwypvbgkqjxz"[random.below(26).min(random.below(26))]).collect()
}

fn text(random: &mut Random, words: &[Vec<u8>]) -> Vec<u8> {
    let mut text = Vec::with_capacity(BLOCK + 16);
    while text.len() < BLOCK {
        // Common words are more common than others.
        let word = random.below(words.len()).min(random.below(words.len()));
        text.extend_from_slice(&words[word]);
        text.push(if random.below(12) == 0 { b'\n' } else { b' ' });
    }
    text.truncate(BLOCK);
    text
}

fn records(random: &mut Random) -> Vec<u8> {
    let mut records = Vec::with_capacity(BLOCK);
    for number in 0..(BLOCK / 16) as u32 {
        records.extend_from_slice(&number.to_le_bytes());
        records.extend_from_slice(&(random.next() as u32 & 0xffff).to_le_bytes());
        records.extend_from_slice(&[0, 0, 1, 0, 0, 0, random.next() as u8 & 0xf, 0]);
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_oci::digest::Digest;

    #[test]
    fn content_is_the_same_on_every_machine() {
        let content = Content::new();
        assert!(content.blocks.iter().all(|block| block.len() == BLOCK));
        assert_eq!(Digest::of(&content.blocks.concat()).short(), "89083d19ef4c");
    }
}
