//! Packaging of a prebuilt program, compared with docker build, BuildKit, podman build, and tar with crane.
//!
//! All get the same bytes, which are new in each round, so that no cache helps. All make an image that holds only the
//! program.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::report::{Part, Series};
use super::{Bench, Contestant, in_turn, time};
use crate::lab::context::{PREBUILT, write};
use crate::lab::docker::{Docker, Store};
use crate::lab::tools::Tool;
use tare_tool::process::cmd;
use tare_tool::process::xshell::Cmd;

const IMAGE: &str = "program";
const DOCKERFILE: &str = "FROM scratch\nCOPY server /app/server\nENTRYPOINT [\"/app/server\"]\n";
const CRANE: &str = "tar -c --owner=0 --group=0 -f layer.tar server && \
    crane append --new_layer layer.tar --new_tag program --output result.tar";

/// The builders and their requirements.
const BUILDERS: [(&str, &str); 3] = [
    ("docker build", "root, docker and dockerd 20.10"),
    ("BuildKit --load", "root, buildx and TARE_DOCKER29"),
    ("podman build", "podman"),
];

/// The most of the fastest builder's time at the default level, and of tar's and crane's at gzip:6.
const LIMITS: [f64; 2] = [0.25, 0.6];

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let context = &bench.context;
    let has = |tools: &[Tool]| tools.iter().all(|tool| context.found.has(*tool));
    let binary = context.build("hyper", "hyper", &[])?.first()?.binary.clone();
    let program = fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?;
    // Nothing looks at what lies behind the last section.
    let variant = |round: u32| [&program, &round.to_le_bytes()[..]].concat();
    let made_up = context.made_up("packaging-tare")?;
    let place = made_up.image(IMAGE, &format!("{PREBUILT}[[layers]]\nname = \"base\"\n"), &program)?;
    let (sh, folder) = (&context.sh, context.new_folder("packaging")?);
    let server = folder.join("server");
    write(&folder.join("Dockerfile"), DOCKERFILE.as_bytes())?;
    let pack = |round: u32, command: Cmd<'_>| {
        write(&server, &variant(round))?;
        time(command)
    };
    let start = |store, tool, client| -> anyhow::Result<Option<Docker>> {
        let can = has(&[Tool::Namespaces, tool, Tool::Program(client)]);
        can.then(|| Docker::start(context, store)).transpose()
    };
    let docker20 = start(Store::Classic, Tool::Docker20, "docker")?;
    let docker29 = start(Store::Containerd, Tool::Docker29, "buildx")?;
    let mut contestants: Vec<(&str, Contestant<'_>)> = Vec::new();
    for (name, arguments) in [("tare", &[][..]), ("tare gzip:6", &["--compression", "gzip:6"])] {
        let (made_up, place) = (&made_up, &place);
        let pack = move |round| {
            write(place, &variant(round))?;
            // Layers that are kept for later too; in the first round there are none.
            let _ = fs::remove_dir_all(made_up.root.join("target"));
            time(context.xtask(&made_up.root).args(["image", IMAGE, "--quiet"]).args(arguments))
        };
        contestants.push((name, Box::new(pack)));
    }
    if let Some(docker) = &docker20 {
        let command = || tagged(docker.command(&["build"]).env("DOCKER_BUILDKIT", "0"), &folder);
        contestants.push(("docker build", Box::new(move |round| pack(round, command()))));
    }
    if let Some(docker) = &docker29 {
        let command = || tagged(docker.client(cmd!(sh, "buildx build --load")), &folder);
        contestants.push(("BuildKit --load", Box::new(move |round| pack(round, command()))));
    }
    if has(&[Tool::Program("podman")]) {
        let command = || {
            let (root, run) = (context.folder().join("podman"), context.folder().join("run"));
            let podman = cmd!(sh, "podman --root {root} --runroot {run} --storage-driver=vfs");
            tagged(podman.args(["--cgroup-manager=cgroupfs", "build", "--isolation=chroot"]), &folder)
        };
        contestants.push(("podman build", Box::new(move |round| pack(round, command()))));
    }
    if has(&[Tool::Program("crane")]) {
        let command = || cmd!(sh, "env -C {folder} sh -c {CRANE}");
        contestants.push(("tar, crane append", Box::new(move |round| pack(round, command()))));
    }

    let (names, contestants): (Vec<&str>, Vec<Contestant<'_>>) = contestants.into_iter().unzip();
    let times = in_turn(bench.options.rounds, &contestants)?;
    Ok(judge(&names, &times))
}

/// The table of what took part, tare's two levels first, and the goals.
fn judge(names: &[&str], times: &[Series]) -> Part {
    let mut part = Part::new(["hyper", "time", "tare / this", "tare gzip:6 / this"]);
    for (name, time) in names.iter().zip(times) {
        part.row(*name, [time.clone(), times[0].over(time), times[1].over(time)]);
    }
    part.notes.push("the whole process of tare, with git; one warm-up round".to_owned());
    part.notes.push("crane compresses at gzip's level 1, the builders not at all".to_owned());
    let place = |name: &str| names.iter().position(|it| *it == name);
    let mut fastest: Option<usize> = None;
    for (name, needs) in BUILDERS {
        match place(name) {
            Some(at) if fastest.is_none_or(|it| times[at].median() < times[it].median()) => {
                fastest = Some(at);
            }
            Some(_) => {}
            None => part.left_out.push(format!("{name}: it needs {needs}")),
        }
    }
    if let Some(at) = fastest {
        let what = format!("tare / {}, the fastest builder", names[at]);
        part.at_most(what, times[0].over(&times[at]), LIMITS[0]);
    }
    match place("tar, crane append") {
        Some(at) => part.at_most("tare gzip:6 / tar and crane append", times[1].over(&times[at]), LIMITS[1]),
        None => part.left_out.push("tar, crane append: it needs crane".to_owned()),
    }
    part
}

/// A `build` of the Dockerfile in a folder.
fn tagged<'a>(build: Cmd<'a>, folder: &Path) -> Cmd<'a> {
    build.args(["--quiet", "--tag", IMAGE]).arg(folder)
}
