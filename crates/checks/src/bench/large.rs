//! Memory that packing of large images needs: a gibibyte in a hundred files, and a hundred thousand small files.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Bench;
use super::report::{Part, Series};
use crate::lab::context::{MadeUp, PREBUILT, write};
use tare_profiler::profile::metric::Unit;
use tare_tool::process::{Execute as _, Running};

/// Bytes of memory beyond those for an image of the program alone.
const LIMIT: f64 = (96 << 20) as f64;

/// The large images: the number of files, and the bytes of the smallest and the largest.
const TREES: [(&str, usize, usize, usize); 2] = [
    ("1 GiB in 100 files", 100, (1 << 30) / 100, (1 << 30) / 100),
    ("100,000 small files", 100_000, 100, 4_000),
];

const TREE: &str = "[[layers]]\nname = \"tree\"\nentries = [{ tree = \"/tree\", from = \"tree\" }]\n";

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let context = &bench.context;
    let binary = &context.sample()?.first()?.binary;
    let program = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let made_up = context.made_up("large")?;
    let alone = format!("{PREBUILT}[[layers]]\nname = \"base\"\n");
    made_up.image("alone", &alone, &program)?;
    let mut part = Part::new(["image", "time", "peak memory"]);
    let [time, idle] = pack(bench, &made_up, "alone")?;
    part.row("the program alone", [time, idle.clone()]);
    for (name, files, least, most) in TREES {
        let image = format!("files-{files}");
        context.ui.status("Writing", name);
        made_up.image(&image, &format!("{alone}{TREE}"), &program)?;
        let content = program.repeat(most / program.len() + 2);
        for file in 0..files {
            let (start, length) = (file % program.len(), least + file % (most - least + 1));
            let path = made_up.folder(&image).join(format!("tree/{}/{file}", file / 1000));
            write(&path, &content[start..start + length])?;
        }
        let [time, memory] = pack(bench, &made_up, &image)?;
        part.row(name, [time, memory.clone()]);
        part.at_most(format!("{name}: memory beyond that for the program alone"), memory.minus(&idle), LIMIT);
    }
    part.notes.push("one round; the tool's own process, without git and cargo".to_owned());
    Ok(part)
}

/// Packs an image: time and largest memory.
fn pack(bench: &Bench<'_>, made_up: &MadeUp, image: &str) -> anyhow::Result<[Series; 2]> {
    let context = &bench.context;
    context.ui.status("Packaging", image);
    let log = context.folder().join("large.log");
    let create = || File::create(&log).with_context(|| format!("cannot write {}", log.display()));
    let started = Instant::now();
    let command = context.xtask(&made_up.root).args(["image", image, "--quiet"]);
    let peak = peak(command.start_beside(create()?, create()?)?)
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    let time = started.elapsed().as_secs_f64() * 1e9;
    Ok([Series::new(Unit::Nanoseconds, [time]), Series::new(Unit::Bytes, [peak as f64])])
}

/// Waits for a process: its largest resident set in bytes, as last seen before it ended.
fn peak(mut running: Running) -> anyhow::Result<u64> {
    let path = format!("/proc/{}/status", running.id());
    let mut peak = 0;
    while running.is_running() {
        let status = fs::read_to_string(&path).unwrap_or_default();
        peak = peak.max(parse_peak(&status).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(2));
    }
    running.wait()?;
    Ok(peak)
}

/// `VmHWM` in `/proc/PID/status` (proc_pid_status(5)), in bytes. It only grows.
fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_in_bytes_and_absent_once_the_process_has_ended() {
        assert_eq!(parse_peak("Name:\tx\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n"), Some(12_641_280));
        assert_eq!(parse_peak("Name:\tx\nState:\tZ (zombie)\n"), None);
    }
}
