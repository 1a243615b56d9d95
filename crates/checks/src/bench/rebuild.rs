//! Building again: what the tool adds to cargo when nothing has changed, and what it packs again when
//! one file has.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::contest::{self, Contestant};
use super::fixture::{Built, BuiltTimings, Fixture, write};
use super::report::{Bound, Cell, Goal, Part, Row, Table};
use super::scratch::Scratch;
use super::stats::{MILLION, Series, Unit};
use super::{Bench, SAMPLE};
use tare_tool::process::Cmd;

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let scratch = bench.scratch("rebuild")?;
    let mut part = Part::new("rebuild");
    let command = CargoCommand::capture(bench, &scratch)?;
    let (times, timings) = nothing_changed(bench, &command)?;
    compute(&times, &timings, &mut part);
    let program = bench.sample()?.platform()?.binary.clone();
    let program = fs::read(program).context("cannot read the sample's program")?;
    configuration_changed(bench, &scratch, &program, &mut part)?;
    Ok(part)
}

/// The times of the tool and of cargo alone, and what the tool says of its own.
fn nothing_changed(
    bench: &Bench<'_>,
    command: &CargoCommand,
) -> anyhow::Result<(Vec<Series>, Vec<BuiltTimings>)> {
    let timings = RefCell::new(Vec::new());
    let mut contestants = [
        Contestant::new(
            "tare",
            |_| Ok(()),
            |_| {
                let command = bench.tare(&bench.workspace.root).args(["image", SAMPLE, "--quiet", "--json"]);
                timings.borrow_mut().push(Built::parse(&command.read()?)?.timings);
                Ok(())
            },
        ),
        Contestant::new("cargo", |_| Ok(()), |_| Ok(command.command(bench).read().map(drop)?)),
    ];
    let times = contest::run(bench.rounds, &mut contestants)?;
    drop(contestants);
    let mut timings = timings.into_inner();
    // That of the warm-up round.
    timings.remove(0);
    Ok((times, timings))
}

fn compute(times: &[Series], timings: &[BuiltTimings], part: &mut Part) {
    let [tare, cargo] = times else { return };
    let added = tare.beyond(cargo);
    let own = |of: fn(&BuiltTimings) -> u64| {
        Series::times(timings.iter().map(|timings| Duration::from_millis(of(timings))))
    };
    let row = |name: &str, time: Series, ratio: Cell| Row {
        name: name.to_owned(),
        cells: vec![time.into(), ratio],
    };
    part.tables.push(Table {
        columns: vec!["nothing changed", "time", "/ cargo build"],
        rows: vec![
            row("cargo build, as tare calls it", cargo.clone(), Cell::Text("")),
            row("tare, the whole process", tare.clone(), tare.over(cargo).into()),
            row("  added to cargo build", added.clone(), added.over(cargo).into()),
            row("  its own build time: cargo, stripping, checking", own(|t| t.build), Cell::Text("")),
            row("  its own layers time", own(|t| t.layers), Cell::Text("")),
            row("  its own output time", own(|t| t.output), Cell::Text("")),
        ],
    });
    part.note(
        "cargo build is the command that tare gives, with the same arguments and environment, in the same round",
    );
    part.goals.push(Goal::new(
        "added to cargo build when nothing changed",
        Bound::AtMost(40 * MILLION),
        added,
    ));
}

/// The `cargo build` that the tool calls.
struct CargoCommand {
    dir: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
}

/// Stands in for cargo once, and writes down how it is called.
const CAPTURE: &str = r#"#!/bin/sh
if [ "$1" = build ]; then
  pwd >"$TARE_BENCH_CAPTURE/dir"
  env -0 >"$TARE_BENCH_CAPTURE/variables"
  printf '%s\0' "$@" >"$TARE_BENCH_CAPTURE/arguments"
fi
exec "$TARE_BENCH_CARGO" "$@"
"#;

impl CargoCommand {
    /// Finds out by letting the tool build the sample.
    fn capture(bench: &Bench<'_>, scratch: &Scratch) -> anyhow::Result<Self> {
        let stand_in = scratch.path().join("cargo");
        write(&stand_in, CAPTURE.as_bytes())?;
        bench
            .tare(&bench.workspace.root)
            .args(["image", SAMPLE, "--quiet"])
            .env("CARGO", &stand_in)
            .env("TARE_BENCH_CARGO", &bench.cargo)
            .env("TARE_BENCH_CAPTURE", scratch.path())
            .read()?;
        let read = |name: &str| {
            let path = scratch.path().join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Self {
            dir: PathBuf::from(read("dir")?.trim_end()),
            arguments: read("arguments")?.split_terminator('\0').map(OsString::from).collect(),
            variables: parse_variables(&read("variables")?),
        })
    }

    fn command(&self, bench: &Bench<'_>) -> Cmd {
        Cmd::new(&bench.cargo)
            .without_env(bench.env.of_cargo_run())
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("CARGO", &bench.cargo)
            .current_dir(&self.dir)
    }
}

/// What `env -0` prints, without what the shell and the capturing itself set.
fn parse_variables(text: &str) -> Vec<(OsString, OsString)> {
    let pairs = text.split_terminator('\0').filter_map(|line| line.split_once('='));
    pairs
        .filter(|(name, _)| !matches!(*name, "PWD" | "OLDPWD" | "_" | "CARGO"))
        .filter(|(name, _)| !name.starts_with("TARE_BENCH_"))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// The layer whose file changes.
const CONFIGURATION: &str = "configuration";

fn configuration_changed(
    bench: &Bench<'_>,
    scratch: &Scratch,
    program: &[u8],
    part: &mut Part,
) -> anyhow::Result<()> {
    let fixture = Fixture::create(scratch.folder("fixture")?)?;
    let definition = format!(
        "[[layers]]\nname = \"{CONFIGURATION}\"\nentries = [{{ file = \"/etc/server.toml\", from = \"server.toml\" }}]\n"
    );
    fixture.image("configured", &definition, program)?;
    let configure = |text: &str| fixture.write(Path::new("images/configured/server.toml"), text.as_bytes());
    let build = || -> anyhow::Result<Built> {
        let command = fixture.tare(bench).args(["image", "configured", "--quiet", "--json"]);
        Built::parse(&command.read()?)
    };
    configure("port = 60000\n")?;
    build()?;
    let unchanged = build()?;
    configure("port = 60001\n")?;
    let changed = build()?;
    let written = |built: &Built, own: bool| -> anyhow::Result<Series> {
        let layers = built.platform()?.layers.iter();
        let written = layers.filter(|layer| !layer.cached && (layer.name == CONFIGURATION) == own);
        Ok(Series::once(Unit::Count, written.count() as u64))
    };
    let all = changed.platform()?.layers.len();
    part.note(format!("the image with the configuration file has {all} layers"));
    let mut goal = |what: &str, wanted: u64, measured: Series| {
        part.goals.push(Goal::new(what, Bound::Exactly(wanted), measured));
    };
    goal("layers packed again when nothing changed", 0, written(&unchanged, false)?);
    goal("layers packed again for a changed configuration file: its own", 1, written(&changed, true)?);
    goal("layers packed again for a changed configuration file: others", 0, written(&changed, false)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_whole_and_without_those_of_the_capturing() {
        let text = "A=1=2\0FLAGS=a\u{1f}b\nc\0CARGO=/x\0TARE_BENCH_CARGO=/y\0PWD=/\0";
        let expected = [("A", "1=2"), ("FLAGS", "a\u{1f}b\nc")];
        assert_eq!(parse_variables(text), expected.map(|(name, value)| (name.into(), value.into())));
    }
}
