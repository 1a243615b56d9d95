//! Packaging a program that was built before, beside docker, BuildKit, podman, crane, and tar with gzip.
//!
//! All get the same bytes, which are new in each round, so that no cache helps; all make an image, or at
//! least its layer, that holds the program alone.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context as _;

use super::contest::{self, Contestant};
use super::daemon::Daemon;
use super::fixture::{Fixture, write};
use super::report::{Bound, Goal, Part, Row, Table, thousandths};
use super::scratch::Scratch;
use super::stats::Series;
use super::{Bench, SAMPLE};
use tare_oci::reader::Encoding;
use tare_tool::process::Cmd;

/// The image of the fixtures.
const NAME: &str = "program";

/// The layers of an image with the program alone, as all the others make it.
const PROGRAM_ALONE: &str = "[[layers]]\nname = \"base\"\n";

const DOCKERFILE: &str = "FROM scratch\nCOPY server /app/server\nENTRYPOINT [\"/app/server\"]\n";

/// Who takes part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The tool as it is by default.
    Tare,
    /// The tool at gzip's default level.
    TareGzip6,
    /// A builder that reads a Dockerfile.
    Builder,
    /// The same, but its layers are compressed when it has ended.
    Compressing,
    /// tar, and then crane append.
    Crane,
    Other,
}

/// A contestant that can take part, with where its result lies, if that is a file.
struct Entrant<'a> {
    kind: Kind,
    contestant: Contestant<'a>,
    result: Option<PathBuf>,
}

/// A plain hyper server, about as large as the program that the goals were set with (760 kB), and the sample.
const PROGRAMS: [&str; 2] = ["hyper", SAMPLE];

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let scratch = bench.scratch("packaging")?;
    let mut part = Part::new("packaging");
    part.note("static programs, with another end in each round; one warm-up round");
    part.note("tare's time is that of the whole process, with git");
    part.note(
        "BuildKit runs as it comes, with provenance; crane appends a tar, which is made of the program first",
    );
    part.note(
        "crane compresses at gzip's level 1, docker build, podman build and BuildKit --load not at all",
    );
    part.note("a ratio is that of tare's time to the other's in the same round");
    let daemons = Daemons::start(bench, &scratch, &mut part);
    for name in PROGRAMS {
        let image = bench.image(name)?;
        let read = || format!("cannot read the program of image {name}");
        let program = fs::read(&image.platform()?.binary).with_context(read)?;
        let measured = contest(bench, &scratch.within(name)?, &daemons, &program, &mut part)?;
        part.note(format!("{name}: {} bytes", program.len()));
        compute(&measured, name, &mut part);
    }
    // What cannot be measured is told for each program.
    part.left_out.sort();
    part.left_out.dedup();
    Ok(part)
}

/// Everybody packs a program, in turn.
fn contest(
    bench: &Bench<'_>,
    scratch: &Scratch,
    daemons: &Daemons,
    program: &[u8],
    part: &mut Part,
) -> anyhow::Result<Vec<Measured>> {
    let mut entrants = tares(bench, scratch, program)?;
    entrants.extend(builders(bench, scratch, program, daemons, part)?);
    entrants.extend(packers(bench, scratch, program, part)?);

    let (kinds, results): (Vec<Kind>, Vec<Option<PathBuf>>) =
        entrants.iter().map(|entrant| (entrant.kind, entrant.result.clone())).unzip();
    let mut contestants: Vec<Contestant<'_>> =
        entrants.into_iter().map(|entrant| entrant.contestant).collect();
    let times = contest::run(bench.rounds, &mut contestants)?;
    let names = contestants.into_iter().map(|contestant| contestant.name);
    let mut measured = Vec::new();
    for (((name, kind), time), result) in names.zip(kinds).zip(times).zip(results) {
        let size = result.map(|path| layer_size(&path)).transpose()?;
        measured.push(Measured { name, kind, time, size });
    }
    Ok(measured)
}

struct Measured {
    name: String,
    kind: Kind,
    time: Series,
    /// Bytes of the layer as stored.
    size: Option<u64>,
}

fn compute(measured: &[Measured], program: &'static str, part: &mut Part) {
    let of = |kind: Kind| measured.iter().find(|one| one.kind == kind);
    let tare = of(Kind::Tare);
    let gzip6 = of(Kind::TareGzip6);
    let rows = measured
        .iter()
        .map(|one| {
            let over = |tare: Option<&Measured>| tare.map(|tare| tare.time.over(&one.time));
            let cells = vec![
                one.time.clone().into(),
                over(tare).into(),
                over(gzip6).into(),
                one.size.map(Series::bytes).into(),
            ];
            Row { name: one.name.clone(), cells }
        })
        .collect();
    part.tables
        .push(Table { columns: vec![program, "time", "tare / this", "tare gzip:6 / this", "layer"], rows });

    for (kind, what) in [(Kind::Builder, "do not compress"), (Kind::Compressing, "compress")] {
        let builders = measured.iter().filter(|one| one.kind == kind);
        match (tare, builders.min_by_key(|one| one.time.median())) {
            (Some(tare), Some(fastest)) => part.goals.push(Goal::new(
                format!("{program}: tare / {}, the fastest of the builders that {what}", fastest.name),
                Bound::AtMost(thousandths(250)),
                tare.time.over(&fastest.time),
            )),
            _ => part.left_out.push(format!("goal against builders that {what}: there is none")),
        }
    }
    match (gzip6, of(Kind::Crane)) {
        (Some(tare), Some(crane)) => {
            part.goals.push(Goal::new(
                format!("{program}: tare gzip:6 / tar and crane append"),
                Bound::AtMost(thousandths(600)),
                tare.time.over(&crane.time),
            ));
            if let (Some(ours), Some(theirs)) = (tare.size, crane.size) {
                part.goals.push(Goal::new(
                    format!("{program}: layer of tare gzip:6, smaller than that of crane append"),
                    Bound::Below(theirs),
                    Series::bytes(ours),
                ));
            }
        }
        _ => part.left_out.push("goal against crane append: it is not installed".to_owned()),
    }
}

/// The program as it is in a round.
fn variant(program: &[u8], round: u32) -> Vec<u8> {
    // What lies behind the last section is never looked at.
    [program, &round.to_le_bytes()].concat()
}

fn tares<'a>(bench: &'a Bench<'_>, scratch: &Scratch, program: &'a [u8]) -> anyhow::Result<Vec<Entrant<'a>>> {
    let forms: [(&str, Kind, &str, &[&str]); 4] = [
        ("tare", Kind::Tare, PROGRAM_ALONE, &[]),
        ("tare gzip:6", Kind::TareGzip6, PROGRAM_ALONE, &["--compression", "gzip:6"]),
        ("tare gzip:1", Kind::Other, PROGRAM_ALONE, &["--compression", "gzip:1"]),
        ("tare with its default base (users, CA bundle)", Kind::Other, "", &[]),
    ];
    let mut entrants = Vec::new();
    for (at, (name, kind, definition, arguments)) in forms.into_iter().enumerate() {
        let fixture = Rc::new(Fixture::create(scratch.folder(&format!("tare-{at}"))?)?);
        fixture.image(NAME, definition, program)?;
        let result = (definition == PROGRAM_ALONE).then(|| fixture.archive(NAME));
        let prepared = Rc::clone(&fixture);
        let prepare = move |round| {
            prepared.forget()?;
            prepared.program(NAME, &variant(program, round))
        };
        let timed = move |_| {
            fixture.tare(bench).args(["image", NAME, "--quiet"]).args(arguments).read()?;
            Ok(())
        };
        entrants.push(Entrant { kind, contestant: Contestant::new(name, prepare, timed), result });
    }
    Ok(entrants)
}

/// The daemons that could be started.
struct Daemons {
    /// That of the system.
    docker: Option<Daemon>,
    /// One of version 29 or later, with the containerd image store.
    docker29: Option<Daemon>,
}

impl Daemons {
    fn start(bench: &Bench<'_>, scratch: &Scratch, part: &mut Part) -> Self {
        let mut start = |dockerd: Option<PathBuf>, name: &str, what: &str| {
            Daemon::of(bench, dockerd, name, scratch.path().join(name), what, part)
        };
        let docker = start(bench.tool("dockerd"), "docker", "docker build");
        let docker29 = start(dockerd29(bench), "docker29", "BuildKit");
        if let Some(daemon) = &docker {
            part.note(format!("docker build is the classic builder of docker {}", daemon.version));
        }
        if let Some(daemon) = &docker29 {
            part.note(format!("BuildKit is that of docker {}", daemon.version));
        }
        Self { docker, docker29 }
    }
}

/// Not on PATH, where it would hide the system's.
fn dockerd29(bench: &Bench<'_>) -> Option<PathBuf> {
    let named = bench.env.get("TARE_DOCKER29").map(PathBuf::from);
    let installed = bench.tools().map(|tools| tools.join("docker29/bin"));
    let dockerd = named.or(installed)?.join("dockerd");
    dockerd.is_file().then_some(dockerd)
}

fn builders<'a>(
    bench: &'a Bench<'_>,
    scratch: &Scratch,
    program: &'a [u8],
    daemons: &'a Daemons,
    part: &mut Part,
) -> anyhow::Result<Vec<Entrant<'a>>> {
    let mut entrants = Vec::new();
    if let Some(daemon) = &daemons.docker {
        let name = "docker build".to_owned();
        entrants.push(builder(scratch, program, name, "classic", move |_| {
            daemon.client("docker").env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", NAME])
        })?);
    }
    match (&daemons.docker29, bench.tool("buildx")) {
        (Some(daemon), Some(buildx)) => {
            let build = move || {
                let arguments = ["build", "--quiet", "--tag", NAME];
                daemon.client(&buildx).args(arguments)
            };
            let named = |output: &str| format!("BuildKit, {output}");
            let load = build.clone();
            entrants.push(builder(scratch, program, named("--load"), "buildkit-load", move |_| {
                load().arg("--load")
            })?);
            entrants.push(builder(scratch, program, named("-o type=oci"), "buildkit-oci", move |dir| {
                let mut output = OsString::from("--output=type=oci,dest=");
                output.push(result_of(dir));
                build().arg(output)
            })?);
        }
        (Some(_), None) => part.left_out.push("BuildKit: buildx is not installed".to_owned()),
        (None, _) => {}
    }
    match bench.tool("podman") {
        Some(podman) => {
            let root = scratch.folder("podman-root")?;
            // podman refuses one whose path is longer than 50 characters.
            let run = Scratch::short("podman")?;
            entrants.push(builder(scratch, program, "podman build, vfs".to_owned(), "podman", move |_| {
                Cmd::new(&podman).arg("--root").arg(&root).arg("--runroot").arg(run.path()).args([
                    "--storage-driver=vfs",
                    "--cgroup-manager=cgroupfs",
                    "build",
                    "--isolation=chroot",
                    "--quiet",
                    "--tag",
                    NAME,
                ])
            })?);
        }
        None => part.left_out.push("podman build: podman is not installed".to_owned()),
    }
    Ok(entrants)
}

/// Builds a Dockerfile in a folder of its own; `command` gets that folder and lacks only the context.
fn builder<'a>(
    scratch: &Scratch,
    program: &'a [u8],
    name: String,
    folder: &str,
    command: impl Fn(&Path) -> Cmd + 'a,
) -> anyhow::Result<Entrant<'a>> {
    let dir = scratch.folder(folder)?;
    write(&dir.join("context/Dockerfile"), DOCKERFILE.as_bytes())?;
    let path = dir.join("context/server");
    let prepare = move |round| write(&path, &variant(program, round));
    let result = folder.ends_with("oci").then(|| result_of(&dir));
    let timed = move |_| {
        command(&dir).arg(dir.join("context")).read()?;
        Ok(())
    };
    // What ends up in a file is compressed.
    let kind = if result.is_some() { Kind::Compressing } else { Kind::Builder };
    Ok(Entrant { kind, contestant: Contestant::new(name, prepare, timed), result })
}

/// The archive that a contestant writes.
fn result_of(dir: &Path) -> PathBuf {
    dir.join("result.tar")
}

/// What a layer needs at least: a tar of the program, gzip at its best, and both digests.
const TAR_GZIP: &str = "tar -c --owner=0 --group=0 server | tee >(sha256sum >diffid) \
    | gzip -9 | tee layer.tar.gz | sha256sum >digest; wait";

fn packers<'a>(
    bench: &'a Bench<'_>,
    scratch: &Scratch,
    program: &'a [u8],
    part: &mut Part,
) -> anyhow::Result<Vec<Entrant<'a>>> {
    let mut entrants = Vec::new();
    match bench.tool("crane") {
        Some(crane) => {
            let crane = Rc::new(crane);
            entrants.push(crane_append(scratch, program, &crane, false)?);
            entrants.push(crane_append(scratch, program, &crane, true)?);
        }
        None => part.left_out.push("crane append: crane is not installed".to_owned()),
    }
    match bench.tool("bash") {
        Some(bash) => {
            let dir = scratch.folder("tar-gzip")?;
            let path = dir.join("server");
            let prepare = move |round| write(&path, &variant(program, round));
            let timed = move |_| {
                Cmd::new(&bash).args(["-c", TAR_GZIP]).current_dir(&dir).read()?;
                Ok(())
            };
            let contestant = Contestant::new("tar | gzip -9 with two sha256, a layer only", prepare, timed);
            entrants.push(Entrant { kind: Kind::Other, contestant, result: None });
        }
        None => part.left_out.push("tar | gzip -9: bash is not installed".to_owned()),
    }
    Ok(entrants)
}

/// crane makes an image of a tar, which is made by `tar`: meanwhile, or before.
fn crane_append<'a>(
    scratch: &Scratch,
    program: &'a [u8],
    crane: &Rc<PathBuf>,
    ready_made: bool,
) -> anyhow::Result<Entrant<'a>> {
    let (name, kind, folder) = match ready_made {
        false => ("tar, then crane append", Kind::Crane, "crane"),
        true => ("crane append, its tar ready-made", Kind::Other, "crane-append"),
    };
    let dir = Rc::new(scratch.folder(folder)?);
    let result = Some(result_of(&dir));
    let make_tar = |dir: &Path| {
        let tar = Cmd::new("tar").args(["-c", "--owner=0", "--group=0", "-f", "layer.tar", "server"]);
        tar.current_dir(dir).read().map(drop)
    };
    let in_dir = Rc::clone(&dir);
    let prepare = move |round| {
        write(&in_dir.join("server"), &variant(program, round))?;
        if ready_made {
            make_tar(&in_dir)?;
        }
        Ok(())
    };
    let crane = Rc::clone(crane);
    let timed = move |_| {
        if !ready_made {
            make_tar(&dir)?;
        }
        let command = Cmd::new(&*crane).args(["append", "--new_layer", "layer.tar", "--new_tag", NAME]);
        command.args(["--output", "result.tar"]).current_dir(&dir).read()?;
        Ok(())
    };
    Ok(Entrant { kind, contestant: Contestant::new(name, prepare, timed), result })
}

/// Bytes of all layers in an archive that anybody wrote: of what it holds, they alone are gzip (RFC 1952).
fn layer_size(archive: &Path) -> anyhow::Result<u64> {
    let read = || format!("cannot read {}", archive.display());
    let file = File::open(archive).with_context(read)?;
    let mut size = 0;
    for entry in tar::Archive::new(file).entries().with_context(read)? {
        let mut entry = entry.with_context(read)?;
        let mut magic = Vec::new();
        (&mut entry).take(4).read_to_end(&mut magic).with_context(read)?;
        if Encoding::of(&magic) == Encoding::Gzip {
            size += entry.size();
        }
    }
    Ok(size)
}
