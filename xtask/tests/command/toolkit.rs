//! The programs beside xtask: which source they are built from, and how a build goes on after one that was ended.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Fixture, Run, files};

/// A checkout of a toolkit whose profiler prints `says`, and its arguments.
fn checkout(folder: &str, says: &str) -> Fixture {
    let fixture = Fixture::at(folder);
    let manifest =
        "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\n[profile.xtask]\ninherits = \"dev\"\n";
    fixture.write("Cargo.toml", manifest);
    let lock = ["profiler", "tool"]
        .map(|name| format!("[[package]]\nname = \"tare-{name}\"\nversion = \"0.1.0\"\n"));
    fixture.write("Cargo.lock", format!("version = 4\n\n{}", lock.join("\n")));
    for name in ["profiler", "tool"] {
        let manifest =
            format!("[package]\nname = \"tare-{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        fixture.write(format!("crates/{name}/Cargo.toml"), manifest);
    }
    fixture.write("crates/tool/src/lib.rs", "");
    let main = format!(
        "fn main() {{\n    let words: Vec<String> = std::env::args().skip(1).collect();\n    \
         println!(\"{says} {{words:?}} {{:?}}\", std::env::var(\"CARGO_NET_OFFLINE\"));\n}}\n"
    );
    fixture.write("crates/profiler/src/main.rs", main);
    fixture
}

/// A command as `cargo xtask` runs it: cargo names the package that it runs.
fn cargo_xtask(fixture: &Fixture, root: &Path, arguments: &[&str]) -> Command {
    let mut command = fixture.command(arguments);
    command.current_dir(root).env("CARGO_MANIFEST_DIR", root.join("crates/tool"));
    command
}

fn load(fixture: &Fixture, root: &Path) -> Run {
    fixture.run_command(cargo_xtask(fixture, root, &["load", "URL"]))
}

#[test]
fn parts_are_built_from_where_the_checkout_lies_now() {
    let fixture = checkout("first", "old");
    let run = load(&fixture, fixture.root());
    let says = "old [\"load\", \"URL\"] Err(NotPresent)\n";
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), says), "{}", run.stderr);

    // Copied with its target folder, times included, and then changed.
    let copy = fixture.outside().join("second");
    let copied = Command::new("cp").arg("-a").arg(fixture.root()).arg(&copy).status().unwrap();
    assert!(copied.success());
    let main = copy.join("crates/profiler/src/main.rs");
    fs::write(&main, fs::read_to_string(&main).unwrap().replace("old", "new")).unwrap();
    let before = files(fixture.root());
    let run = load(&fixture, &copy);
    assert_eq!((run.code, run.stdout), (Some(0), says.replace("old", "new")), "{}", run.stderr);
    assert_eq!(files(fixture.root()), before);
}

#[test]
fn a_part_without_source_is_named_with_its_place() {
    let fixture = checkout("toolkit", "never");
    let run = fixture.run_command(cargo_xtask(&fixture, fixture.root(), &["pull", "REFERENCE"]));
    assert_eq!(run.code, Some(2));
    let says = "error: the source of tare-publish is not beside that of tare-tool: there is no ROOT/crates/publish/Cargo.toml\n";
    assert!(run.stderr.starts_with(says), "{}", run.stderr);
}

#[test]
fn offline_reaches_the_build_of_a_part_and_the_part() {
    let fixture = checkout("toolkit", "part");
    // A dependency that only a network could give.
    fixture.write("crates/tool/build.rs", "fn main() {}\n");
    for arguments in [&["load", "--offline", "URL"][..], &["--offline", "load", "URL"]] {
        let run = fixture.run_command(cargo_xtask(&fixture, fixture.root(), arguments));
        let says = "part [\"load\", \"URL\"] Ok(\"true\")\n";
        assert_eq!((run.code, run.stdout.as_str()), (Some(0), says), "{}", run.stderr);
    }
    let run = fixture.run_command(cargo_xtask(&fixture, fixture.root(), &["load", "URL", "--", "--offline"]));
    assert_eq!(run.stdout, "part [\"load\", \"URL\", \"--\", \"--offline\"] Err(NotPresent)\n");

    let manifest = fs::read_to_string(fixture.path("crates/profiler/Cargo.toml")).unwrap();
    let remote = "[dependencies]\nno-such = { git = \"http://127.0.0.1:9/no-such\" }\n";
    fixture.write("crates/profiler/Cargo.toml", manifest + remote);
    let lock = fs::read_to_string(fixture.path("Cargo.lock")).unwrap();
    let revision = "0".repeat(40);
    let locked = "name = \"tare-profiler\"\nversion = \"0.1.0\"\ndependencies = [\n \"no-such\",\n]\n";
    let lock = lock.replace("name = \"tare-profiler\"\nversion = \"0.1.0\"\n", locked);
    let package = format!(
        "version = 4\n\n[[package]]\nname = \"no-such\"\nversion = \"1.0.0\"\nsource = \"git+http://127.0.0.1:9/no-such#{revision}\"\n"
    );
    fixture.write("Cargo.lock", lock.replace("version = 4\n", &package));
    let run = fixture.run_command(cargo_xtask(&fixture, fixture.root(), &["load", "--offline", "URL"]));
    assert_eq!(run.code, Some(2));
    assert!(
        run.stderr.contains("--offline was specified") || run.stderr.contains("offline mode"),
        "{}",
        run.stderr
    );
}

/// How often the build of a part is ended, spread over the time of a whole build.
const ENDS: u32 = 12;

#[test]
fn a_part_whose_build_was_ended_is_built_by_the_next_run() {
    let fixture = checkout("toolkit", "part");
    let started = Instant::now();
    assert_eq!(load(&fixture, fixture.root()).code, Some(0));
    let whole_build = started.elapsed();
    for round in 0..ENDS {
        let signal = ["-TERM", "-INT", "-KILL"][round as usize % 3];
        fs::remove_dir_all(fixture.path("target")).unwrap();
        let mut command = cargo_xtask(&fixture, fixture.root(), &["load", "URL"]);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(whole_build * round / ENDS);
        // A terminal sends its signal to the group, and others to the process alone.
        let alone = round % 2 == 0 && signal != "-KILL";
        let to = if alone { child.id().to_string() } else { format!("-{}", child.id()) };
        // It may have ended by itself.
        let _ = Command::new("kill").args([signal, "--", &to]).stderr(Stdio::null()).status().unwrap();
        child.wait().unwrap();
        thread::sleep(Duration::from_millis(20));
        let run = load(&fixture, fixture.root());
        let says = "part [\"load\", \"URL\"] Err(NotPresent)\n";
        assert_eq!((run.code, run.stdout.as_str()), (Some(0), says), "{signal} {round}: {}", run.stderr);
    }
}
