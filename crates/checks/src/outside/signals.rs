//! SIGINT and SIGTERM at moments that are spread over `profile` and `run`, under three runtimes: no container, image,
//! record, folder, control group, mount or process is left.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::lab::context::{Context, SAMPLE, SAMPLE_PORT, write};
use crate::lab::docker::{Docker, Store};
use crate::lab::expect::poll;
use crate::lab::namespace::{cgroups, children};
use tare_tool::plan::{self, Folders, Plan};
use tare_tool::process::{Execute as _, Running, cmd};
use tare_tool::toolkit::Part;

/// Everything that a profile does, as short as possible.
const PROFILE: &str = "[startup]\nruns = 1\ncold-runs = 1\n\
    [throughput]\nloads = [\"closed\", \"50%\"]\nconnections = 2\nduration = \"200ms\"\n";
/// How a profile's container is reached, and the image: docker's has to be fetched from its store.
const RUNTIMES: [&str; 3] = ["embedded", "runc", "docker"];

/// So many moments of each command under each runtime.
pub(super) fn usual(context: &Context<'_>) -> anyhow::Result<()> {
    interrupt(context, 4)
}

/// More of them.
pub(super) fn all(context: &Context<'_>) -> anyhow::Result<()> {
    interrupt(context, 20)
}

/// Where commands are started, and what is known about the place.
struct Place<'a> {
    context: &'a Context<'a>,
    docker: Docker,
    /// Process 1 of the daemon's namespaces, in which everything runs.
    first: u32,
    program: PathBuf,
    folder: PathBuf,
    /// The output of the last command.
    log: PathBuf,
}

/// What could be left. Equal before and after.
#[derive(Debug, PartialEq, Eq)]
struct Left(BTreeSet<String>);

fn interrupt(context: &Context<'_>, moments: u32) -> anyhow::Result<()> {
    let place = Place::new(context)?;
    let mut failures = Vec::new();
    for (at, runtime) in RUNTIMES.iter().enumerate() {
        let image = match *runtime {
            "docker" => format!("docker-daemon:{SAMPLE}:latest"),
            _ => context.sample()?.layout.display().to_string(),
        };
        let publish = format!("0:{SAMPLE_PORT}");
        let profile = place.folder.join("short.toml").display().to_string();
        for words in [
            ["profile", &image, "--runtime", runtime, "--profile", &profile],
            ["run", &image, "--runtime", runtime, "--publish", &publish],
        ] {
            let whole = place.whole(&words)?;
            let before = place.left()?;
            for moment in 0..moments {
                // Of the three runtimes each has moments of its own.
                let part = (f64::from(moment) + at as f64 / 3.0) / f64::from(moments);
                let delay = whole.mul_f64(part);
                let signal = if moment % 2 == 0 { "INT" } else { "TERM" };
                place.signalled(&words, delay, signal)?;
                let after = place.left()?;
                let new: Vec<&String> = after.0.difference(&before.0).collect();
                if !new.is_empty() {
                    let (verb, said) = (words[0], fs::read_to_string(&place.log).unwrap_or_default());
                    failures.push(format!(
                        "{verb} under {runtime}, SIG{signal} after {} of {} ms: {new:?}; it said: {}",
                        delay.as_millis(),
                        whole.as_millis(),
                        said.trim()
                    ));
                    place.clear()?;
                }
            }
        }
    }
    anyhow::ensure!(failures.is_empty(), "left behind by {}", failures.join("\n  "));
    Ok(())
}

impl<'a> Place<'a> {
    fn new(context: &'a Context<'a>) -> anyhow::Result<Self> {
        let part = |part| context.workspace.toolkit(context.env).build(part, context.env, context.ui);
        let (program, keeper) = (part(Part::Profiler)?, part(Part::Keeper)?);
        let folder = context.new_folder("signals")?;
        write(&folder.join("short.toml"), PROFILE.as_bytes())?;
        let workspace = Folders { root: folder.clone(), target_dir: folder.join("target") };
        let plan = Plan { workspace, keeper: Some(keeper), images: vec![], user: None };
        plan::write(&folder.join("plan.json"), &plan)?;
        let docker = Docker::start(context, Store::Classic)?;
        docker.load(&context.sample()?.archive)?;
        let first = docker.daemon.processes().first().copied().context("the daemon has no process")?;
        let log = folder.join("log");
        Ok(Self { context, docker, first, program, folder, log })
    }

    /// Starts a command in a session of its own.
    fn start(&self, words: &[&str]) -> anyhow::Result<Running> {
        let (sh, first) = (&self.context.sh, self.first.to_string());
        let log = File::create(&self.log).with_context(|| format!("cannot create {}", self.log.display()))?;
        let second = log.try_clone()?;
        // A script's background jobs ignore SIGINT (bash(1), "SIGNALS"), and a program that finds it so leaves it so.
        let command =
            cmd!(sh, "env --default-signal=INT,TERM setsid nsenter --net --pid --mount --target {first}")
                .args(["--", "env", "-C"])
                .arg(&self.folder)
                .arg(&self.program)
                .args(["run", "--plan", "plan.json", "--"])
                .args(words);
        let command = self.docker.client(command).without_env(["GITHUB_STEP_SUMMARY", "TARE_KEEPER"]);
        Ok(command.start_beside(log, second)?)
    }

    /// How long a command takes; for one that does not end, until its server answers.
    fn whole(&self, words: &[&str]) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let mut running = self.start(words)?;
        let ends = words.first() != Some(&"run");
        poll("the end of the command, or its server", || {
            let is_there = fs::read_to_string(&self.log).unwrap_or_default().contains("Running");
            Ok((!running.is_running() || !ends && is_there).then_some(()))
        })?;
        let whole = begun.elapsed();
        if ends {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            running.wait().with_context(|| format!("{}: {said}", words.join(" ")))?;
        } else {
            self.send("INT", running.id())?;
            self.wait_for_end(running.id())?;
        }
        Ok(whole)
    }

    /// Runs a command that gets a signal: SIGINT as from a terminal, to all its processes, or SIGTERM to its own.
    fn signalled(&self, words: &[&str], delay: Duration, signal: &str) -> anyhow::Result<()> {
        let mut running = self.start(words)?;
        let session = running.id();
        // Before there is a session no signal reaches it.
        poll("the session of the command", || {
            Ok((!of_session(session).is_empty() || !running.is_running()).then_some(()))
        })?;
        std::thread::sleep(delay);
        self.send(signal, session)?;
        self.wait_for_end(session)
    }

    fn send(&self, signal: &str, session: u32) -> anyhow::Result<()> {
        // nsenter waits for the command itself.
        let own = children(session).first().copied().unwrap_or(session);
        let target = if signal == "INT" { format!("-{session}") } else { own.to_string() };
        let sh = &self.context.sh;
        // It fails where the command has ended.
        let _ = cmd!(sh, "sh -c 'kill -s \"$0\" -- \"$1\" 2>/dev/null' {signal} {target}").capture();
        Ok(())
    }

    fn wait_for_end(&self, session: u32) -> anyhow::Result<()> {
        poll("the end of the command after a signal", || Ok(of_session(session).is_empty().then_some(())))
            .with_context(|| fs::read_to_string(&self.log).unwrap_or_default())
    }

    fn left(&self) -> anyhow::Result<Left> {
        let mut left = BTreeSet::new();
        let mut add = |what: &str, text: &str| {
            left.extend(text.lines().filter(|line| !line.is_empty()).map(|line| format!("{what} {line}")));
        };
        add("container", &self.docker.read(&["ps", "--all", "--format", "{{.Names}} {{.Status}}"])?);
        add("image", &self.docker.read(&["images", "--format", "{{.Repository}}:{{.Tag}}"])?);
        add("volume", &self.docker.read(&["volume", "ls", "--quiet"])?);
        let of_first = |name: &str| PathBuf::from(format!("/proc/{}/{name}", self.first));
        let pids = fs::read_link(of_first("ns/pid")).unwrap_or_default();
        let pids = pids.to_string_lossy().trim_matches(|c: char| !c.is_ascii_digit()).to_owned();
        for group in cgroups(&format!("tare-{pids}-")) {
            add("control group", &group.display().to_string());
        }
        let mounts = fs::read_to_string(of_first("mounts")).unwrap_or_default();
        let ours: Vec<&str> = mounts.lines().filter(|line| line.contains("tare-")).collect();
        add("mount", &ours.join("\n"));
        for folder in [of_first("root/run/tare"), self.folder.join("target")] {
            add("path", &paths(&folder).join("\n"));
        }
        // A process whose parent has ended is the daemon's, which does not wait for it.
        let is_running = |process: &u32| fields(*process).first().is_some_and(|state| state != "Z");
        for process in self.docker.daemon.processes().into_iter().filter(is_running) {
            let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            if name.starts_with("tare-") || name.trim() == SAMPLE {
                add("process", &name);
            }
        }
        Ok(Left(left))
    }

    /// Removes what was left, for the next moment.
    fn clear(&self) -> anyhow::Result<()> {
        self.whole(&["run", &self.context.sample()?.layout.display().to_string(), "--runtime", "docker"])?;
        Ok(())
    }
}

/// Everything below a folder.
fn paths(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        found.push(path.display().to_string());
        // The files of an unpacked image are many, and appear all at once.
        let is_root = path.file_name().is_some_and(|name| name.len() == 64);
        if !is_root && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(paths(&path));
        }
    }
    found
}

/// The processes of a session (proc_pid_stat(5), field 6) that have not ended.
fn of_session(session: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    ids.filter(|id: &u32| {
        let fields = fields(*id);
        let of = fields.get(3).and_then(|field| field.parse().ok());
        of == Some(session) && fields.first().is_some_and(|state| state != "Z")
    })
    .collect()
}

/// The fields of a process from its state on (proc_pid_stat(5)); none if there is no such process.
fn fields(process: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    fields.split_whitespace().map(str::to_owned).collect()
}
