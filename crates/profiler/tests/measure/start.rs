//! `cargo xtask run`: a container in the foreground.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::fixture::{World, as_root};

fn start(world: &World, arguments: &[&str], words: &[&str]) -> Child {
    call(world, "run", arguments, words)
}

/// `cargo xtask VERB` with the image, in a `/run` of its own.
fn call(world: &World, verb: &str, arguments: &[&str], words: &[&str]) -> Child {
    let work = world.folder.path().join("work");
    fs::create_dir_all(&work).unwrap();
    let image = world
        .image_with(&json!({"Entrypoint": ["/program"], "Cmd": arguments, "ExposedPorts": {"8080/tcp": {}}}));
    let plan = json!({
        "workspace": {"root": work, "target_dir": work.join("target")}, "keeper": world.options.keeper,
    });
    let file = work.join("plan.json");
    fs::write(&file, plan.to_string()).unwrap();
    Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs /run && exec \"$0\" \"$@\""])
        .arg(crate::profiler())
        .args(["run", "--plan"])
        .arg(file)
        .args(["--", verb, &image.name, "--runtime", "embedded"])
        .args(words)
        .current_dir(&work)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Its exit code, and what it printed on stdout and stderr.
fn end(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn its_port_answers_on_loopback_until_it_is_interrupted() {
    if !as_root() {
        return;
    }
    let world = World::new();
    let mut child = start(&world, &["say=begun", "http=8080"], &["--publish", "0:8080"]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let after = line.split_once("http://").unwrap_or_else(|| panic!("{line}")).1;
    let (address, rest) = after.split_once(',').unwrap();
    let cpus = tare_profiler::profile::cpus::HostCpus::read().quarter();
    assert_eq!(rest, format!(" limited to {cpus} CPU, 256MiB memory, 512 pids; Ctrl-C stops it\n"));
    // The program may not listen yet.
    let answer = loop {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut answer = [0; 43];
        let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        if asked.and_then(|()| stream.read_exact(&mut answer)).is_ok() {
            break answer;
        }
    };
    assert_eq!(&answer, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let (code, stdout, _) = end(child);
    assert_eq!((code, stdout.as_str()), (Some(130), "begun\n"), "{rest}");
    assert!(rest.trim().starts_with("Stopping "), "{rest}");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn its_end_is_the_end_of_the_command_with_its_exit_code() {
    if !as_root() {
        return;
    }
    let world = World::new();
    let (code, stdout, stderr) = end(start(&world, &["say=own"], &["--", "say=other", "exit=7"]));
    assert_eq!((code, stdout.as_str()), (Some(7), "other\n"), "{stderr}");
    // A container that ends at once is not said to run.
    let folder = world.folder.path().file_name().unwrap().to_string_lossy();
    assert_eq!(stderr.trim(), format!("Ended image{folder}: exit code 7"));
}

#[test]
fn a_published_port_on_which_nothing_listens_is_reported() {
    if !as_root() {
        return;
    }
    let world = World::new();
    let mut child = start(&world, &["http=8080"], &["--publish", "0:81"]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut lines = [String::new(), String::new()];
    for line in &mut lines {
        stderr.read_line(line).unwrap();
    }
    assert!(lines[0].trim().starts_with("Running "), "{lines:?}");
    let expected = "warning: nothing in the container listens on the published port 81, but on 8080: \
        `--publish 81:8080` publishes that\n";
    assert_eq!(lines[1], expected);
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    assert_eq!(end(child).0, Some(130));
}

/// More than a pipe holds, so that the last of it is read after the program's end.
#[test]
fn everything_that_a_program_prints_is_shown() {
    if !as_root() {
        return;
    }
    let world = World::new();
    let line = "x".repeat(1000);
    let words: Vec<String> = (0..100).map(|number| format!("say={number} {line}")).collect();
    let words: Vec<&str> = ["--"].into_iter().chain(words.iter().map(String::as_str)).collect();
    let (code, stdout, stderr) = end(start(&world, &[], &words));
    let expected: String = (0..100).map(|number| format!("{number} {line}\n")).collect();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout == expected, "{} of {} bytes", stdout.len(), expected.len());
}

/// What was measured before a signal is a report without a verdict.
#[test]
fn a_profile_that_is_interrupted_in_a_load_has_a_report_without_a_verdict() {
    if !as_root() {
        return;
    }
    let world = World::new();
    let output = world.folder.path().join("reports");
    let words = ["--pass", "size,startup,throughput", "--runs", "2", "--duration", "60s", "--output"];
    let words: Vec<&str> = words.into_iter().chain([output.to_str().unwrap()]).collect();
    let mut child = call(&world, "profile", &["http=8080"], &words);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("Started 2 times") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0);
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let (code, stdout, _) = end(child);
    assert_eq!((code, stdout.as_str()), (Some(130), ""), "{rest}");
    let wrote = format!("Wrote what was measured until then to {}", output.display());
    let last: Vec<&str> = rest.lines().rev().take(2).map(str::trim).collect();
    assert_eq!(last, ["error: interrupted", wrote.as_str()], "{rest}");
    let report = fs::read_to_string(output.join("report.json")).unwrap();
    let report = tare_report::Report::parse(&report).unwrap();
    assert_eq!((report.overall.name(), report.verdicts.len(), report.runs.len()), ("interrupted", 0, 2));
    let has =
        |metric: &str| report.runs.iter().flat_map(|run| &run.measurements).any(|it| it.metric == metric);
    assert_eq!(
        ["size.image.compressed", "startup.warm.ready", "throughput.rate"].map(has),
        [true, true, false]
    );
    let page = fs::read_to_string(output.join("report.html")).unwrap();
    assert!(page.contains("interrupted; nothing was judged"));
}

/// The same for both signals, at once, whatever the passes do.
#[test]
fn a_profile_that_is_interrupted_says_so_and_leaves_nothing() {
    if !as_root() {
        return;
    }
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let world = World::new();
        let mut child = call(&world, "profile", &["sleep"], &["--pass", "startup"]);
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("Running") {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0);
        }
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        let (code, stdout, _) = end(child);
        assert_eq!((code, stdout.as_str(), rest.trim()), (Some(130), "", "error: interrupted"));
        let files: Vec<_> =
            fs::read_dir(world.folder.path().join("work/target")).unwrap().flatten().collect();
        let names: Vec<_> = files.iter().map(std::fs::DirEntry::file_name).collect();
        assert_eq!(names, ["images"], "only the cache of unpacked images");
    }
}
