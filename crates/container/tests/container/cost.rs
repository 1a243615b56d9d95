//! Measures a container's start beside runc and bare namespaces. Needs an idle machine, and runs only when it is named:
//! `cargo test -p tare-container --test container -- --ignored --nocapture costs`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tare_container::spec::ContainerSpec;
use tare_container::{Runtime, RuntimeKind};
use tare_load::clock::now;

use crate::fixture::{BOUND, World, possible};

/// ns of each round: from nothing to the end of a program that ends at once.
type Rounds = Vec<u64>;

fn median(rounds: &mut Rounds) -> u64 {
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
}

fn embedded(world: &World, runtime: &Runtime, removal: &mut Rounds) -> (u64, [u64; 4]) {
    let container = world.run(runtime, ContainerSpec::default(), &["exit=0"]);
    container.wait(BOUND).unwrap();
    let clock = container.clock();
    let points =
        [clock.begun, clock.created, clock.started.unwrap(), clock.executed.unwrap(), clock.exited.unwrap()];
    let before = now();
    container.remove().unwrap();
    removal.push(now() - before);
    (points[4] - points[0], [0, 1, 2, 3].map(|at| points[at + 1].saturating_sub(points[at])))
}

fn timed(mut command: Command) -> u64 {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let before = now();
    assert!(command.status().unwrap().success(), "{command:?}");
    now() - before
}

/// A bundle as runc gets it, which `runc run` can then be timed with.
fn bundle(world: &World) -> PathBuf {
    let runtime = Runtime::open(RuntimeKind::Runc, &world.options).unwrap();
    let args = Some(["/program", "exit=0"].map(str::to_owned).to_vec());
    let spec = ContainerSpec { args, ..ContainerSpec::default() };
    let container = runtime.create(&world.image(), &spec).unwrap();
    let folder = world.folder.path().join("bundle");
    fs::create_dir(&folder).unwrap();
    let config = world.options.state.join(container.id()).join("config.json");
    let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(config).unwrap()).unwrap();
    // The container's own root is mounted for its keeper alone.
    config["root"]["path"] = runtime.prepare(&world.image()).unwrap().unwrap().to_str().unwrap().into();
    let text = config.to_string();
    fs::write(folder.join("config.json"), text.replace(container.id(), "tare-cost")).unwrap();
    folder
}

#[test]
#[ignore = "needs an idle machine and runc"]
fn a_start_costs_at_most_a_third_of_runcs() {
    if !possible() {
        return;
    }
    let world = World::new();
    let runtime = world.runtime();
    let bundle = bundle(&world);
    let root = world.folder.path().join("runc");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("program");
    let (mut ours, mut runc, mut floor, mut removal) =
        (Rounds::new(), Rounds::new(), Rounds::new(), Rounds::new());
    let mut parts: [Rounds; 4] = Default::default();
    for _ in 0..30 {
        let (total, of) = embedded(&world, &runtime, &mut removal);
        ours.push(total);
        for (part, value) in parts.iter_mut().zip(of) {
            part.push(value);
        }
        let mut command = Command::new("runc");
        command.arg("--root").arg(&root).args(["run", "--bundle"]).arg(&bundle).arg("cost");
        runc.push(timed(command));
        let mut command = Command::new("unshare");
        command.args(["--net", "--pid", "--mount", "--ipc", "--uts", "--cgroup", "--fork"]);
        command.arg(&program).arg("exit=0");
        floor.push(timed(command));
    }
    let [created, started, executed, exited] = parts.each_mut().map(median);
    let (ours, runc, floor, removal) =
        (median(&mut ours), median(&mut runc), median(&mut floor), median(&mut removal));
    let mut stderr = std::io::stderr();
    let _ = writeln!(
        stderr,
        "medians of 30, us: embedded {} (created {} started {} executed {} exited {}; removed in {}) runc run {} unshare {}",
        ours / 1000,
        created / 1000,
        started / 1000,
        executed / 1000,
        exited / 1000,
        removal / 1000,
        runc / 1000,
        floor / 1000,
    );
    assert!(ours * 3 <= runc, "{ours} of {runc} ns");
}
