//! The instructions pass: how many instructions the server executes for a request, counted by valgrind.
//!
//! The server runs in its usual container, with valgrind's files mounted read-only and in front of its command line. For a
//! figure it is started twice: for n requests and for 2 n, one after another on one connection. The difference is the cost
//! of n requests, because start, readiness and end are part of both. It depends on the program, its thread count and the
//! architecture, and not on how fast or busy the machine is.
//!
//! Left out on purpose: instructions of the kernel, which valgrind does not see, and programs that the server starts. What
//! cannot be counted is said in a line and fails nothing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tare_container::group::Group;
use tare_container::{Mount, Runtime};
use tare_load::Plan;
use tare_oci::units::Nanoseconds;
use tare_report::Frame;
use tare_tool::process::{Execute as _, Shell, cmd};

use super::call_graph::CallGraph;
use super::definition::{Profile, Ready, ThroughputOptions};
use super::gate::spread;
use super::measurement::Measurement;
use super::metric::Unit;
use super::render::units::shown;
use super::report::Table;
use super::stats;
use super::subject::{PassError, Subject};
use super::throughput::{Served, group, still_runs};

/// Where the container sees valgrind's files.
const INSIDE: &str = "/.valgrind";
/// Where it sees the unstripped program.
const PROGRAM: &str = "/.program";
/// Callgrind's profile that is not wanted.
const NOWHERE: &str = "/dev/null";
/// Where callgrind's profile goes otherwise: no container lacks it, and no folder of this host is written to.
const OUTPUT: &str = "/dev/stdout";
/// The most bytes of output that are kept of a run; a profile has some hundred thousand.
const KEPT: usize = 16 << 20;
/// The share of instructions that must be in functions with a name.
const NAMED: f64 = 0.5;
/// A folder that every container can write to, whatever its root is: valgrind keeps a file there.
const TEMPORARY: &str = "/dev/shm";
/// Nanoseconds that the first requests may take: 3 s. A server that is too slow for all of them gets fewer.
const FIRST: u64 = 3_000_000_000;
/// Nanoseconds that as many requests may take in a later run: 60 s.
const LATER: u64 = 60_000_000_000;
/// How much longer than usual the server may take until it is ready and for an answer. Callgrind slows a program down
/// about fifty times, but its own time until the first instruction is half a second.
const PATIENCE: u64 = 6;
/// Bytes of memory that valgrind needs beside the server: 1 GiB, of which it rarely uses a tenth.
const MEMORY: u64 = 1 << 30;
/// How long the last lines of an ended container may take until they are here.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The result of the pass.
#[derive(Debug, Clone, PartialEq)]
pub enum Counting {
    /// Instructions were counted.
    Done {
        /// Requests of the shorter run.
        requests: u64,
        /// Instructions for a request, one for each pair of runs.
        samples: Vec<f64>,
        /// What valgrind calls itself.
        valgrind: String,
    },
    /// Why they were not.
    Impossible(String),
}

impl Counting {
    /// The figure, if there is one.
    #[must_use]
    pub fn measurement(&self) -> Option<Measurement> {
        let Self::Done { samples, .. } = self else { return None };
        let row = Measurement::exact("instructions.per-request", stats::median(samples)?);
        Some(Measurement { samples: samples.clone(), ..row })
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.measurement()) {
            (Self::Impossible(why), _) => write!(f, "instructions are not counted: {why}"),
            (Self::Done { requests, samples, valgrind }, Some(row)) => write!(
                f,
                "{} instructions for a request, from {} times {requests} and {} requests, one after another on one \
                 connection, with {valgrind}; the runs differ by {:.2} %",
                shown(row.value, Unit::Count),
                samples.len(),
                2 * requests,
                spread(&row) * 100.0,
            ),
            (Self::Done { .. }, None) => f.write_str("instructions are not counted: there was no run"),
        }
    }
}

/// Counts the instructions of the profile's requests. `program` is this one, which is the generator too; `watch` is called
/// after each run of the server, with the number of runs that are done and that there are.
#[must_use]
pub fn run(
    subject: &Subject<'_>,
    profile: &Profile,
    program: &Path,
    watch: impl FnMut(u32, u32),
) -> Counting {
    let counted = with_valgrind(subject, profile, program, (NOWHERE, None), |run, version| {
        counted(run, profile, version, watch)
    });
    counted.unwrap_or_else(Counting::Impossible)
}

/// Runs the server under valgrind once more, and says which functions execute the instructions: the largest ones, and a tree of
/// calls. `unstripped` is the program with its symbols, which runs in place of the image's.
///
/// # Errors
/// Why that is not known.
pub fn stacks(
    subject: &Subject<'_>,
    profile: &Profile,
    program: &Path,
    unstripped: Option<&Path>,
) -> Result<(Table, Frame), String> {
    let output = with_valgrind(subject, profile, program, (OUTPUT, unstripped), |run, _| {
        let kept = Arc::new(Mutex::new(Kept::default()));
        run.instructions(profile.instructions.requests.into(), LATER, Some(&kept))?;
        let kept = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(String::from_utf8_lossy(&kept.0).into_owned())
    })?;
    let graph = CallGraph::parse(&output);
    if graph.total() == 0 {
        return Err("callgrind's profile did not come through the server's stdout".to_owned());
    }
    if graph.named_share() < NAMED {
        return Err(
            "the program has no symbols; an image of the workspace has its unstripped binary beside it"
                .to_owned(),
        );
    }
    Ok((graph.table(), graph.tree()))
}

/// Prepares runs of the server under valgrind, whose profile goes to a file.
fn with_valgrind<T>(
    subject: &Subject<'_>,
    profile: &Profile,
    program: &Path,
    (file, unstripped): (&str, Option<&Path>),
    work: impl FnOnce(&Run<'_>, String) -> Result<T, String>,
) -> Result<T, String> {
    let valgrind = Valgrind::find(subject.runtime, &subject.target.config.image.architecture().to_string())?;
    let longer = |time: Nanoseconds| Nanoseconds(time.0.saturating_mul(PATIENCE));
    let ready = Ready { timeout: longer(profile.ready.timeout), ..profile.ready.clone() };
    let options = ThroughputOptions {
        connections: 1,
        pipeline: 1,
        timeout: longer(profile.throughput.timeout),
        ..profile.throughput.clone()
    };
    let mut subject = Subject { ready: &ready, ..subject.clone() };
    valgrind.put_before(&mut subject, file, unstripped);
    let group = group(&subject);
    work(&Run { subject, options, program, group }, valgrind.version)
}

fn counted(
    run: &Run<'_>,
    profile: &Profile,
    valgrind: String,
    mut watch: impl FnMut(u32, u32),
) -> Result<Counting, String> {
    let runs = profile.instructions.runs;

    let (requests, first) = run.instructions(profile.instructions.requests.into(), FIRST, None)?;
    let of = |requests: u64| -> Result<u64, String> {
        let duration = LATER * (1 + requests / profile.instructions.requests.max(1) as u64);
        match run.instructions(requests, duration, None)? {
            (answered, instructions) if answered == requests => Ok(instructions),
            (answered, _) => Err(format!("{answered} of {requests} requests were answered in time")),
        }
    };
    let mut samples = Vec::new();
    for number in 0..runs {
        let few = if number == 0 { first } else { of(requests)? };
        watch(2 * number + 1, 2 * runs);
        let many = of(2 * requests)?;
        watch(2 * number + 2, 2 * runs);
        let more = many.checked_sub(few).ok_or("twice as many requests took fewer instructions")?;
        #[expect(clippy::cast_precision_loss, reason = "instructions of a run are below 2^53")]
        samples.push(more as f64 / requests as f64);
    }
    Ok(Counting::Done { requests, samples, valgrind })
}

/// What all runs have in common.
struct Run<'a> {
    subject: Subject<'a>,
    options: ThroughputOptions,
    program: &'a Path,
    group: Option<Group>,
}

impl Run<'_> {
    /// Starts the server, sends at most so many requests in so many nanoseconds, and ends it. The number of answers, and of
    /// instructions in all. What the server prints from its start on is kept where that is asked for.
    fn instructions(
        &self,
        most: u64,
        duration: u64,
        keep: Option<&Arc<Mutex<Kept>>>,
    ) -> Result<(u64, u64), String> {
        let Self { subject, options, program, group } = self;
        let mut served =
            Served::start(subject, options, program, group.as_ref()).map_err(|it| reason(&it))?;
        let follower = keep.map(|keep| {
            served.container.follow_output(Box::new(Keeper(Arc::clone(keep)))).map_err(|it| it.to_string())
        });
        let follower = follower.transpose()?.flatten();
        let plan = Plan {
            threads: 1,
            most: Some(most),
            warm_up: 0,
            duration,
            window: duration,
            ..served.base.clone()
        };
        let outcome = served.child.run(&plan, |_| {}).map_err(|error| error.to_string())?;
        if let Some((kind, failures)) = outcome.errors.0.iter().next() {
            // A server that has ended refuses connections.
            still_runs(&served.container).map_err(|it| reason(&it))?;
            return Err(format!("{} × {kind}, first: {}", failures.count, failures.first));
        }
        if outcome.completed == 0 {
            return Err(format!("no request was answered within {} s", duration / 1_000_000_000));
        }
        let (container, has_ended) = served.stop().map_err(|it| reason(&it))?;
        if !has_ended {
            return Err("the server does not end by SIGTERM, and valgrind counts at the end".to_owned());
        }
        let deadline = Instant::now() + LAST_LINES;
        let counted = loop {
            match total(&container.output_tail()) {
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                counted => break counted,
            }
        };
        container.remove().map_err(|error| error.to_string())?;
        // It ends with the output, at the latest when the container is gone.
        follower.map(std::thread::JoinHandle::join);
        let counted =
            counted.ok_or("valgrind printed no count; the server may run another program (exec)")?;
        Ok((outcome.completed, counted))
    }
}

/// What a server printed.
#[derive(Debug, Default)]
struct Kept(Vec<u8>);

/// Fills it.
struct Keeper(Arc<Mutex<Kept>>);

impl io::Write for Keeper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0.len() + bytes.len() > KEPT {
            return Err(io::ErrorKind::StorageFull.into());
        }
        kept.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error with the last line of the server, which is where it or valgrind says what it lacks.
fn reason(error: &PassError) -> String {
    let last = error.output().and_then(last_line);
    last.map_or_else(|| error.to_string(), |last| format!("{error}; its last line: {last}"))
}

/// The last line that is not part of callgrind's count; if there is none, the last.
fn last_line(output: &str) -> Option<&str> {
    let mut lines = output.lines().filter(|line| !line.trim().is_empty());
    let of_count = |line: &str| {
        let text = line.strip_prefix("==").and_then(|rest| rest.split_once("== ")).map(|(_, text)| text);
        text.is_some_and(|text| ["Events ", "Collected ", "I "].iter().any(|word| text.starts_with(word)))
            || line.trim_end().ends_with("==")
    };
    lines.clone().rfind(|line| !of_count(line)).or_else(|| lines.next_back())
}

/// The sum of what callgrind printed at the end of each process (`==PID== Collected : INSTRUCTIONS`).
fn total(output: &str) -> Option<u64> {
    let counts = output.lines().filter_map(|line| {
        let (_, text) = line.strip_prefix("==")?.split_once("== Collected : ")?;
        text.trim().parse::<u64>().ok()
    });
    counts.reduce(u64::saturating_add)
}

/// The valgrind of this host.
#[derive(Debug, PartialEq, Eq)]
struct Valgrind {
    /// The folder of its tools, which are static programs.
    folder: PathBuf,
    /// The file of callgrind for the image's architecture.
    tool: String,
    version: String,
}

impl Valgrind {
    fn find(runtime: &Runtime, architecture: &str) -> Result<Self, String> {
        let launcher = runtime.find_program("valgrind").ok_or("valgrind is not installed")?;
        let (folder, tool) = tool(&launcher, architecture)?;
        let asked = Shell::new().ok().and_then(|sh| cmd!(sh, "{launcher} --version").capture_text().ok());
        let version = asked.unwrap_or_default().lines().next().unwrap_or("valgrind").to_owned();
        Ok(Self { folder, tool, version })
    }

    /// Lets the container's program, or that with its symbols, run under callgrind, which writes its profile to a file.
    fn put_before(&self, subject: &mut Subject<'_>, file: &str, unstripped: Option<&Path>) {
        let mut command = subject.spec.command(&subject.target.config);
        let place = unstripped.and_then(|path| Some((path.parent()?, path.file_name()?.to_str()?)));
        if let (Some((folder, name)), Some(program)) = (place, command.first_mut()) {
            *program = format!("{PROGRAM}/{name}");
            let source = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
            subject.spec.mounts.push(Mount { source, target: PROGRAM.to_owned() });
        }
        let own = [
            &format!("{INSIDE}/{}", self.tool),
            &format!("--callgrind-out-file={file}"),
            // As symbols are everywhere else.
            "--demangle=no",
            // Its pipe for debuggers takes a folder that can be written to.
            "--vgdb=no",
            "--",
        ];
        let spec = &mut subject.spec;
        spec.args = Some(own.into_iter().map(str::to_owned).chain(command).collect());
        // Set by its launcher, which chooses the tool and is not needed here.
        spec.env.extend(
            [("VALGRIND_LAUNCHER", self.tool.as_str()), ("VALGRIND_LIB", INSIDE), ("TMPDIR", TEMPORARY)]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        spec.mounts.push(Mount { source: self.folder.clone(), target: INSIDE.to_owned() });
        spec.limits.memory = spec.limits.memory.map(|memory| memory.saturating_add(MEMORY));
    }
}

/// The folder and the file of callgrind for an architecture in Go's names, which valgrind has too but for `386`.
fn tool(launcher: &Path, architecture: &str) -> Result<(PathBuf, String), String> {
    let tool = format!("callgrind-{}-linux", if architecture == "386" { "x86" } else { architecture });
    let real = std::fs::canonicalize(launcher).unwrap_or_else(|_| launcher.to_path_buf());
    let prefix = real.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    let folders = ["libexec/valgrind", "lib/valgrind", "lib64/valgrind"].map(|folder| prefix.join(folder));
    match folders.into_iter().find(|folder| folder.join(&tool).is_file()) {
        Some(folder) => Ok((folder, tool)),
        None => Err(format!("{} has no {tool}", launcher.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_processes_are_added() {
        let output = "listening\n==7== \n==7== Events    : Ir\n==7== Collected : 2392874\n==7== \n\
            ==7== I   refs:      2,392,874\n==9== Collected : 6\n";
        assert_eq!(total(output), Some(2_392_880));
        for none in ["", "Collected : 5", "==7== Collected : many", "==7== I   refs: 5"] {
            assert_eq!(total(none), None, "{none}");
        }
    }

    #[test]
    fn the_last_line_is_the_servers_and_not_of_the_count() {
        let count = "==1== \n==1== Events    : Ir\n==1== Collected : 239\n==1== \n==1== I   refs:      239\n";
        assert_eq!(last_line(&format!("listening\ncannot map memory\n{count}")), Some("cannot map memory"));
        assert_eq!(
            last_line(&format!("==1== Process terminating\n{count}")),
            Some("==1== Process terminating")
        );
        assert_eq!(last_line(count), Some("==1== I   refs:      239"));
        assert_eq!(last_line("\n"), None);
    }

    #[test]
    fn callgrind_is_found_beside_the_launcher() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["bin", "lib/valgrind"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        for name in ["bin/valgrind", "lib/valgrind/callgrind-amd64-linux", "lib/valgrind/callgrind-x86-linux"]
        {
            std::fs::write(path(name), "").unwrap();
        }
        let launcher = path("bin/valgrind");
        let lib = std::fs::canonicalize(path("lib/valgrind")).unwrap();
        let found = |name: &str| Ok((lib.clone(), name.to_owned()));
        assert_eq!(tool(&launcher, "amd64"), found("callgrind-amd64-linux"));
        assert_eq!(tool(&launcher, "386"), found("callgrind-x86-linux"));
        let missing = format!("{} has no callgrind-arm64-linux", launcher.display());
        assert_eq!(tool(&launcher, "arm64"), Err(missing));
    }

    #[test]
    fn the_figure_is_the_median_of_the_runs() {
        let counting = Counting::Done {
            requests: 2_000,
            samples: vec![3_540.0, 3_536.0, 3_541.0],
            valgrind: "valgrind-3.19.0".to_owned(),
        };
        let row = counting.measurement().unwrap();
        assert_eq!((row.metric, row.value), ("instructions.per-request", 3_540.0));
        assert_eq!(
            counting.to_string(),
            "3,540 instructions for a request, from 3 times 2000 and 4000 requests, one after another on one \
             connection, with valgrind-3.19.0; the runs differ by 0.14 %"
        );
        let impossible = Counting::Impossible("valgrind is not installed".to_owned());
        assert_eq!(impossible.measurement(), None);
        assert_eq!(impossible.to_string(), "instructions are not counted: valgrind is not installed");
    }
}
