//! Packaging a program that was built before, beside docker build, BuildKit, podman build, and tar with crane.
//!
//! All get the same bytes, which are new in each round, so that no cache helps; all make an image that holds the
//! program alone.

use std::fs;

use anyhow::Context as _;

use super::report::Part;
use super::{Bench, Contestant, in_turn, time};
use crate::lab::context::{PREBUILT, write};
use crate::lab::docker::{Docker, Store};
use crate::lab::tools::Tool;
use tare_tool::process::Cmd;

const IMAGE: &str = "program";
const DOCKERFILE: &str = "FROM scratch\nCOPY server /app/server\nENTRYPOINT [\"/app/server\"]\n";
const CRANE: &str = "tar -c --owner=0 --group=0 -f layer.tar server && \
    crane append --new_layer layer.tar --new_tag program --output result.tar";

/// The most of the fastest builder's time at the default level, and of tar's and crane's at gzip:6.
const LIMITS: [f64; 2] = [0.25, 0.6];

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let context = &bench.context;
    let has = |tools: &[Tool]| tools.iter().all(|tool| context.found.has(*tool));
    let mut part = Part::new(["hyper", "time", "tare / this", "tare gzip:6 / this"]);
    let binary = context.build("hyper", "hyper", &[])?.first()?.binary.clone();
    let program = fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?;
    // Nothing looks at what lies behind the last section.
    let variant = |round: u32| [&program, &round.to_le_bytes()[..]].concat();
    let made_up = context.made_up("packaging-tare")?;
    let place = made_up.image(IMAGE, &format!("{PREBUILT}[[layers]]\nname = \"base\"\n"), &program)?;
    let folder = context.new_folder("packaging")?;
    let server = folder.join("server");
    write(&folder.join("Dockerfile"), DOCKERFILE.as_bytes())?;
    let pack = |round: u32, command: Cmd| {
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
    let build = |command: Cmd| command.args(["--quiet", "--tag", IMAGE]).arg(&folder);
    if let Some(docker) = &docker20 {
        let command = || build(docker.command(&["build"]).env("DOCKER_BUILDKIT", "0"));
        contestants.push(("docker build", Box::new(move |round| pack(round, command()))));
    }
    if let Some(docker) = &docker29 {
        let command = || build(docker.client(Cmd::new("buildx").args(["build", "--load"])));
        contestants.push(("BuildKit --load", Box::new(move |round| pack(round, command()))));
    }
    if has(&[Tool::Program("podman")]) {
        let command = || {
            let podman = Cmd::new("podman").arg("--root").arg(context.folder().join("podman"));
            let podman = podman.arg("--runroot").arg(context.folder().join("run"));
            build(podman.args([
                "--storage-driver=vfs",
                "--cgroup-manager=cgroupfs",
                "build",
                "--isolation=chroot",
            ]))
        };
        contestants.push(("podman build", Box::new(move |round| pack(round, command()))));
    }
    let builders = 2..contestants.len();
    if has(&[Tool::Program("crane")]) {
        let command = || Cmd::new("sh").args(["-c", CRANE]).current_dir(&folder);
        contestants.push(("tar, crane append", Box::new(move |round| pack(round, command()))));
    }

    let (names, contestants): (Vec<&str>, Vec<Contestant<'_>>) = contestants.into_iter().unzip();
    let times = in_turn(bench.options.rounds, &contestants)?;
    for (name, time) in names.iter().zip(&times) {
        part.row(*name, [time.clone(), times[0].over(time), times[1].over(time)]);
    }
    part.notes.push("the whole process of tare, with git; one warm-up round".to_owned());
    part.notes.push("crane compresses at gzip's level 1, the builders not at all".to_owned());
    for (what, name) in [
        ("docker build: dockerd 20.10 and docker", "docker build"),
        ("BuildKit --load: TARE_DOCKER29 and buildx", "BuildKit --load"),
        ("podman build: podman", "podman build"),
        ("tar, crane append: crane", "tar, crane append"),
    ] {
        if !names.contains(&name) {
            part.left_out.push(format!("{what} are missing"));
        }
    }
    let fastest = builders.min_by(|a, b| times[*a].median().total_cmp(&times[*b].median()));
    if let Some(at) = fastest {
        let what = format!("tare / {}, the fastest builder", names[at]);
        part.at_most(what, times[0].over(&times[at]), LIMITS[0]);
    }
    if let Some(at) = names.iter().position(|name| name.ends_with("crane append")) {
        part.at_most("tare gzip:6 / tar and crane append", times[1].over(&times[at]), LIMITS[1]);
    }
    Ok(part)
}
