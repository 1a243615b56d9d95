//! Passes on real containers, of servers with which something is peculiar.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tare_container::RuntimeKind;
use tare_container::runtime::Runtime;
use tare_container::target::Target;
use tare_profiler::profile::cpus::{self, HostCpus};
use tare_profiler::profile::definition::{self, CpuLimit, Profile};
use tare_profiler::profile::isolation::neighbour;
use tare_profiler::profile::measure::{self, Setting, Stage};
use tare_profiler::profile::measurement::Measurement;
use tare_profiler::profile::report::{EventKind, Run};
use tare_profiler::profile::throughput::turns::TurnsError;

use crate::fixture::{World, possible};

/// What is measured, in a quarter of a second.
const LOAD: &str = "passes = [\"throughput\"]\n\
                    throughput = { duration = \"250ms\", connections = 4, loads = [\"closed\"] }\n";

/// An image, and what is done with it.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) target: Target,
    runtime: Runtime,
    program: PathBuf,
    host: HostCpus,
}

impl Scene {
    /// None where no containers can be made.
    pub(crate) fn new() -> Option<Self> {
        if !possible() {
            return None;
        }
        let world = World::new();
        let (target, runtime) = (world.image(), world.runtime());
        Some(Self { world, target, runtime, program: crate::profiler(), host: HostCpus::read() })
    }

    /// The same with another runtime; none where that is not installed.
    pub(crate) fn with(&self, kind: RuntimeKind) -> Option<Self> {
        kind.find(self.world.options.path.as_ref()).ok()?;
        let world = World::new();
        let (target, runtime) = (world.image(), Runtime::open(kind, &world.options).unwrap());
        Some(Self { world, target, runtime, program: self.program.clone(), host: self.host.clone() })
    }

    fn setting<'a>(&'a self, profile: &'a Profile) -> Setting<'a> {
        Setting { target: &self.target, unstripped: None, profile, program: &self.program, host: &self.host }
    }

    fn stage(&self) -> Stage<'_> {
        Stage { runtime: &self.runtime, runtime_baseline: None, neighbour: None, roots: &[] }
    }

    /// Two containers of a profile in turns.
    fn in_turns(&self, profile: &Profile) -> Result<[Vec<Measurement>; 2], TurnsError> {
        let setting = self.setting(profile);
        measure::in_turns([&setting, &setting], &self.stage(), &profile.limits[0])
    }

    /// The profile's passes, under its first limits.
    pub(crate) fn run(&self, profile: &Profile) -> Run {
        measure::run(&self.setting(profile), &self.stage(), &profile.limits[0], |_| {}).unwrap()
    }

    /// The same where they need a neighbour.
    pub(crate) fn run_beside(&self, profile: &Profile, neighbour: &Target) -> Run {
        let stage = Stage { neighbour: Some(neighbour), ..self.stage() };
        measure::run(&self.setting(profile), &stage, &profile.limits[0], |_| {}).unwrap()
    }

    /// The image of the neighbour.
    pub(crate) fn neighbour(&self) -> Target {
        neighbour::image(&self.world.options.cache, &self.program).unwrap()
    }

    /// Whether nothing of any container is left.
    pub(crate) fn is_clean(&self) -> bool {
        let state = &self.world.options.state;
        std::fs::read_dir(state).map_or(true, |mut entries| entries.next().is_none())
    }
}

pub(crate) fn profile(text: &str) -> Profile {
    definition::parse("test", Path::new("test.toml"), text, CpuLimit::cpus(0.5).unwrap()).unwrap()
}

pub(crate) fn value(measurements: &[Measurement], metric: &str) -> f64 {
    measurements.iter().find(|it| it.metric == metric).unwrap_or_else(|| panic!("no {metric}")).value
}

#[test]
fn two_servers_are_loaded_in_turns() {
    let Some(scene) = Scene::new() else { return };
    let profile = profile(&format!("args = [\"http=8080\"]\nlimits = {{ memory = \"64MiB\" }}\n{LOAD}"));
    let placed = cpus::place(&scene.host, None, None).server.len() as f64;
    let started = Instant::now();
    let both = scene.in_turns(&profile).unwrap();
    let elapsed = started.elapsed().as_secs_f64();
    let mut loaded = 0.0;
    for measurements in both {
        let of = |metric| value(&measurements, metric);
        assert_eq!(of("throughput.errors"), 0.0);
        assert_eq!(of("throughput.connections-open"), 4.0);
        // The quarter of a second is that of its own turns, and so is the CPU time.
        let seconds = of("throughput.requests") / of("throughput.rate");
        assert!(seconds > 0.24, "{seconds}");
        loaded += seconds;
        let cpu = of("throughput.cpu-per-request") * of("throughput.requests");
        let share = of("throughput.cpu-of-limit") * seconds * 1e9 * placed;
        assert!(cpu > 0.0 && (share / cpu - 1.0).abs() < 0.01, "{cpu} ns, and {share} ns by the share");
    }
    // Never at once: together they cannot have been loaded for longer than it took.
    assert!(loaded < elapsed, "{loaded} s of {elapsed}");
    assert!(scene.is_clean());
}

#[test]
fn servers_that_do_not_rest_or_are_held_back_are_not_loaded_in_turns() {
    let Some(scene) = Scene::new() else { return };
    let restless = profile(&format!("args = [\"spin=1\", \"http=8080\"]\n{LOAD}"));
    let error = scene.in_turns(&restless).unwrap_err();
    assert!(matches!(error, TurnsError::Restless), "{error}");
    let held_back = profile(&format!("args = [\"http=8080\"]\nlimits = {{ cpus = 0.5 }}\n{LOAD}"));
    let error = scene.in_turns(&held_back).unwrap_err();
    assert!(matches!(error, TurnsError::Quota), "{error}");
    assert!(scene.is_clean());
}

#[test]
fn which_of_two_servers_failed_is_reported() {
    let Some(scene) = Scene::new() else { return };
    let good = profile(&format!("args = [\"http=8080\"]\n{LOAD}"));
    let bad = profile(&format!("args = [\"say=farewell\", \"exit=3\"]\n{LOAD}"));
    let (good, bad) = (scene.setting(&good), scene.setting(&bad));
    let result = measure::in_turns([&good, &bad], &scene.stage(), &good.profile.limits[0]);
    let TurnsError::Failed { side, source } = result.unwrap_err() else { panic!() };
    assert_eq!(side, 1);
    assert!(source.is_the_servers() && source.output().unwrap().contains("farewell"), "{source}");
    assert!(scene.is_clean());
}

#[test]
fn a_server_that_crashes_under_load_is_reported_with_its_last_output() {
    let Some(scene) = Scene::new() else { return };
    let profile = profile(&format!("args = [\"last=100\", \"http=8080\"]\n{LOAD}"));
    let run = measure::run(&scene.setting(&profile), &scene.stage(), &profile.limits[0], |_| {}).unwrap();
    let [event] = run.events.as_slice() else { panic!("{:?}", run.events) };
    assert_eq!(event.kind, EventKind::Crash);
    assert!(event.message.ends_with(" 7"), "{event:?}");
    assert_eq!(event.output, ["this was the last"]);
    assert!(scene.is_clean());
}

/// As process 1 of a container a program without a handler ignores SIGTERM.
#[test]
fn a_server_that_ignores_sigterm_is_measured_and_reported_once() {
    let Some(scene) = Scene::new() else { return };
    let profile = profile(
        "args = [\"deaf\", \"http=8080\"]\npasses = [\"startup\"]\nstartup = { runs = 3, cold-runs = 0, runtime-baseline = false }\n",
    );
    let run = measure::run(&scene.setting(&profile), &scene.stage(), &profile.limits[0], |_| {}).unwrap();
    let [event] = run.events.as_slice() else { panic!("{:?}", run.events) };
    assert_eq!(event.kind, EventKind::Stuck);
    assert!(event.message.contains("SIGTERM") && event.message.contains("all of 3 starts"), "{event:?}");
    assert!(value(&run.measurements, "startup.warm.ready") > 0.0);
    assert!(run.measurements.iter().all(|it| it.metric != "startup.warm.stop"));
    assert_eq!(value(&run.measurements, "startup.warm.killed"), 3.0);
    // A finding, which a gate may judge.
    assert!(run.failure().is_none());
    assert!(scene.is_clean());
}

/// A server that refuses what it has no place for is fast in what nobody wants.
#[test]
fn wrong_answers_are_neither_in_the_rate_nor_in_the_cost() {
    let Some(scene) = Scene::new() else { return };
    let profile = profile(&format!("args = [\"places=2\", \"http=8080\"]\n{LOAD}"));
    let placed = cpus::place(&scene.host, None, None).server.len() as f64;
    let of_turns = scene.in_turns(&profile).unwrap();
    for measurements in &of_turns {
        let of = |metric| value(measurements, metric);
        // More than right answers, unless the processor is emulated.
        assert!(of("throughput.errors") > 0.0, "{measurements:?}");
        assert_eq!(of("throughput.errors"), of("throughput.errors.answer"));
        // A quarter of a second of right answers alone, and all of the CPU time is theirs.
        let seconds = of("throughput.requests") / of("throughput.rate");
        assert!(seconds > 0.24, "{seconds}");
        let cpu = of("throughput.cpu-per-request") * of("throughput.requests");
        let share = of("throughput.cpu-of-limit") * seconds * 1e9 * placed;
        assert!(cpu > 0.0 && (share / cpu - 1.0).abs() < 0.01, "{cpu} ns, and {share} ns by the share");
    }
    let run = measure::run(&scene.setting(&profile), &scene.stage(), &profile.limits[0], |_| {}).unwrap();
    let of = |metric| value(&run.measurements, metric);
    assert!(of("throughput.errors") > 0.0);
    // With two places for 2 ms there are at most a thousand a second.
    assert!(of("throughput.rate") <= 1_000.0, "{}", of("throughput.rate"));
    assert!(scene.is_clean());
}

/// Of a container's processes the kernel kills the largest, which need not be the first.
#[test]
fn a_worker_that_is_killed_for_its_memory_is_an_event() {
    let Some(scene) = Scene::new() else { return };
    // Long enough for a worker on an emulated processor.
    const LIMITS: &str = "limits = { memory = \"32MiB\" }\nready = { timeout = \"3s\" }\n";
    const STARTS: &str =
        "passes = [\"startup\"]\nstartup = { runs = 2, cold-runs = 0, runtime-baseline = false }\n";
    let killed = |processes: &str| {
        format!(
            "the kernel killed {processes} of the server for exceeding 33.55 MB of memory, and its first process went on"
        )
    };
    for (args, passes, message, output, has_figures) in [
        ("[\"worker=268435456\", \"http=8080\"]", STARTS, killed("3 processes"), 0, true),
        ("[\"worker-under-load=268435456\", \"http=8080\"]", LOAD, killed("1 process"), 1, true),
        (
            "[\"worker=268435456\", \"sleep\"]",
            STARTS,
            killed("1 process") + "; then: nothing listens on 127.0.0.1:8080 and [::1]:8080 after 3.0 s",
            1,
            false,
        ),
    ] {
        let profile = profile(&format!("args = {args}\n{LIMITS}{passes}"));
        let run = measure::run(&scene.setting(&profile), &scene.stage(), &profile.limits[0], |_| {}).unwrap();
        let [event] = run.events.as_slice() else { panic!("{args}: {:?}", run.events) };
        assert_eq!((event.kind, &event.message), (EventKind::OutOfMemory, &message), "{args}");
        assert_eq!(event.output, vec!["signal: 9 (SIGKILL)"; output], "{args}");
        assert_eq!(!run.measurements.is_empty(), has_figures, "{args}");
    }
    // A worker has no room beside the files in memory.
    let profile_of_files = profile(&format!(
        "args = [\"fill=/dev/shm/file\", \"worker=268435456\", \"http=8080\"]\n\
         limits = {{ memory = \"96MiB\" }}\n{STARTS}"
    ));
    let run =
        measure::run(&scene.setting(&profile_of_files), &scene.stage(), &profile_of_files.limits[0], |_| {});
    let message = "the kernel killed 3 processes of the server for exceeding 100.66 MB of memory (67.11 MB of it were files in tmpfs), and its first process went on";
    assert_eq!(run.unwrap().events[0].message, message);
    let profile =
        profile(&format!("args = [\"worker-under-load=268435456\", \"http=8080\"]\n{LIMITS}{LOAD}"));
    let TurnsError::Failed { side, source } = scene.in_turns(&profile).unwrap_err() else { panic!() };
    assert_eq!((side, source.to_string()), (0, killed("1 process")));
    assert!(scene.is_clean());
}

/// Whatever else the machine does: the same program executes the same instructions.
#[test]
fn instructions_of_a_request_are_counted_under_valgrind() {
    let Some(scene) = Scene::new() else { return };
    let count = |args: &str| {
        let profile = profile(&format!(
            "args = {args}\nlimits = {{ cpus = 0.5, memory = \"32MiB\" }}\ncontainer = {{ read-only = true }}\n\
             passes = [\"instructions\"]\ninstructions = {{ requests = 2000, runs = 2 }}\n"
        ));
        measure::run(&scene.setting(&profile), &scene.stage(), &profile.limits[0], |_| {}).unwrap()
    };
    let run = count("[\"http=8080\"]");
    let [section] = run.sections.as_slice() else { panic!("{:?}", run.sections) };
    if scene.runtime.find_program("valgrind").is_none() {
        assert_eq!(section.notes, ["instructions are not counted: valgrind is not installed"]);
        assert!(run.measurements.is_empty() && run.events.is_empty());
        return;
    }
    let per_request = value(&run.measurements, "instructions.per-request");
    assert!(section.notes[0].contains("from 2 times 2000 and 4000 requests"), "{section:?}");
    // The requests of one more run, by function.
    let stacks = run.stacks.as_ref().unwrap_or_else(|| panic!("{section:?}"));
    assert!(stacks.instructions as f64 > 2000.0 * per_request, "{stacks:?}");
    let [table] = section.tables.as_slice() else { panic!("{section:?}") };
    assert_eq!((table.columns.len(), table.rows.len()), (3, 20), "{table:?}");
    let again = value(&count("[\"http=8080\"]").measurements, "instructions.per-request");
    // Some 400; threads that start at another moment are a thousand more or fewer in all.
    assert!((per_request / again - 1.0).abs() < 0.02, "{per_request} and {again}");
    // A server that waits for a signal in vain fails nothing.
    let deaf = count("[\"deaf\", \"exit=3\"]");
    assert!(deaf.measurements.is_empty() && deaf.events.is_empty(), "{deaf:?}");
    assert!(
        deaf.sections[0].notes[0].starts_with("instructions are not counted: the server ended"),
        "{deaf:?}"
    );
    assert!(scene.is_clean());
}
