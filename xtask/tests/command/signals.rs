//! Ctrl-C and SIGTERM while something is built: one line, the exit code of a shell, and no process stays.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::{Fixture, PREBUILT};

/// The processes of the build command: a shell and a program that it has started.
fn processes(fixture: &Fixture) -> [PathBuf; 2] {
    ["shell", "program"].map(|name| {
        let file = fixture.path("images/app").join(name);
        let id = loop {
            match fs::read_to_string(&file) {
                Ok(text) if text.ends_with('\n') => break text,
                _ => thread::sleep(Duration::from_millis(5)),
            }
        };
        PathBuf::from("/proc").join(id.trim())
    })
}

/// Whether a process has not ended. It may wait for a parent that takes its exit code (state Z).
fn is_running(process: &Path) -> bool {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// An image whose build command begins with `first`, and does not end by itself.
fn definition(first: &str) -> String {
    let script = "echo $$ > shell; sh -c 'echo $$ > program; exec sleep 60'; sleep 60";
    format!("[build]\ncommand = [\"sh\", \"-c\", \"{first}{script}\"]\noutput = \"server\"\n")
}

fn start(fixture: &Fixture, arguments: &[&str]) -> Child {
    let mut command = fixture.command(arguments);
    // As a shell with job control starts it.
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Sends a signal to a process, or with `-` before its id to its group.
fn send(signal: &str, to: &str) {
    assert!(Command::new("kill").args([signal, "--", to]).status().unwrap().success());
}

#[test]
#[cfg(target_os = "linux")]
fn a_signal_ends_what_was_started_with_one_line() {
    let fixture = Fixture::new();
    for (signal, group, code) in [
        ("-INT", true, 130),
        ("-INT", false, 130),
        ("-TERM", true, 143),
        ("-TERM", false, 143),
        ("-HUP", false, 129),
    ] {
        fixture.image("app", &definition(""));
        let child = start(&fixture, &["image", "app", "--quiet"]);
        let processes = processes(&fixture);
        send(signal, &if group { format!("-{}", child.id()) } else { child.id().to_string() });
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let ended = (output.status.code(), said.as_str());
        assert_eq!(ended, (Some(code), "error: interrupted\n"), "{signal} {group}");
        assert_eq!(processes.map(|process| is_running(&process)), [false, false], "{signal} {group}");
        fs::remove_dir_all(fixture.path("images/app")).unwrap();
        assert!(!fixture.path("target/images/app").exists());
    }
    fixture.image("app", PREBUILT);
    fixture.succeeds(&["image", "app"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_that_ignores_the_signal_is_killed() {
    let fixture = Fixture::new();
    fixture.image("app", &definition("trap '' TERM INT; "));
    let child = start(&fixture, &["image", "app", "--quiet"]);
    let processes = processes(&fixture);
    send("-INT", &child.id().to_string());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.as_str()), (Some(130), "error: interrupted\n"));
    assert_eq!(processes.map(|process| is_running(&process)), [false, false]);
}

/// Waiting for another run's lock is no program that could be ended.
#[test]
fn a_run_that_waits_for_another_one_can_be_interrupted() {
    let fixture = Fixture::new();
    fixture.succeeds(&["image", "app"]);
    let held = fs::File::open(fixture.path("target/images/.cache/locks/app")).unwrap();
    held.lock().unwrap();
    let mut child = start(&fixture, &["image", "app"]);
    let mut line = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
    assert_eq!(line, "    Blocking until another run has finished image app\n");
    send("-INT", &child.id().to_string());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut rest).unwrap();
    assert_eq!(rest, "error: interrupted\n");
}
