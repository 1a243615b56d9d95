//! `cargo xtask clean`, and folders of caches that are not what they should be.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::{Fixture, files};

/// A folder outside of the workspace that nothing may change.
fn secret(fixture: &Fixture) -> std::path::PathBuf {
    let secret = fixture.outside().join("secret");
    fs::create_dir_all(secret.join("app")).unwrap();
    for name in ["app/file", "old.blob", "old.json", "file"] {
        fs::write(secret.join(name), "x").unwrap();
    }
    secret
}

#[test]
fn clean_removes_caches_and_leaves_images() {
    let fixture = Fixture::new();
    let reference = fixture.succeeds(&["image", "app"]);
    fixture.write("target/images/.cache/roots/0/file", "0123456789");
    let image = files(&fixture.path("target/images/app"));
    let before = files(&fixture.path("target"));
    let rehearsed = fixture.succeeds(&["clean", "--dry-run"]);
    assert_eq!(files(&fixture.path("target")), before);
    let run = fixture.run(&["clean"]);
    assert_eq!((run.code, run.stdout), (Some(0), rehearsed.replace("would free", "freed")));
    let names: Vec<&str> = run.stderr.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["cache", "layers", "roots"], "{}", run.stderr);
    assert_eq!(files(&fixture.path("target/images/app")), image);
    let left = files(&fixture.path("target/images/.cache")).into_keys().collect::<Vec<_>>();
    assert_eq!(left, ["locks/", "locks/app"]);
    let empty = "freed 0 B in target/images/.cache\n";
    assert_eq!(
        fixture.run(&["clean"]),
        crate::support::Run { code: Some(0), stdout: empty.to_owned(), stderr: String::new() }
    );
    assert_eq!(fixture.succeeds(&["image", "app"]), reference);
}

#[test]
fn clean_waits_for_no_other_run_and_disturbs_none() {
    let fixture = Fixture::new();
    fixture.succeeds(&["image", "app"]);
    let build = fs::File::open(fixture.path("target/images/.cache/locks/app")).unwrap();
    build.lock().unwrap();
    let before = files(&fixture.path("target"));
    let says = "error: another run holds the lock ROOT/target/images/.cache/locks/app\n\
        hint: wait until it has finished, and try again\n";
    assert_eq!(fixture.refuses(&["clean"]), says);
    assert_eq!(files(&fixture.path("target")), before);
}

#[test]
fn links_and_files_in_the_place_of_caches_lead_nowhere() {
    let fixture = Fixture::new();
    fixture.succeeds(&["image", "app"]);
    let secret = secret(&fixture);
    let before = files(&secret);
    for place in ["staging", "layers", "locks", "crates", "."] {
        let path = fixture.path("target/images/.cache").join(place);
        let path = if place == "." { fixture.path("target/images/.cache") } else { path };
        for link in [true, false] {
            fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)).unwrap_or_default();
            if link {
                symlink(&secret, &path).unwrap();
            } else {
                fs::write(&path, "x").unwrap();
            }
            let shown = path.display().to_string().replace(&*fixture.root().to_string_lossy(), "ROOT");
            let says = fixture.refuses(&["image", "app", "--quiet"]);
            let begin = format!("error: the folder {shown} is a link or a file\nhint: remove {shown}, or ");
            assert!(says.starts_with(&begin), "{place}: {says}");
            assert_eq!(files(&secret), before, "{place}");
        }
        // A link is removed itself, and a file in the place of a folder too.
        fs::remove_file(&path).unwrap();
        symlink(&secret, &path).unwrap();
        fixture.succeeds(&["clean"]);
        assert_eq!(files(&secret), before, "{place}");
        if place == "locks" {
            fs::remove_file(&path).unwrap();
        }
        fixture.succeeds(&["image", "app"]);
    }
}

/// A cache of root's or of a group may have another owner than the run.
#[test]
fn folders_that_others_may_write_to_are_used() {
    let fixture = Fixture::new();
    let mut command = Command::new("sh");
    fixture.prepare(&mut command);
    command.args([
        "-c",
        "umask 000; \"$0\" image app && \"$0\" image app && \"$0\" clean",
        env!("CARGO_BIN_EXE_xtask"),
    ]);
    let run = fixture.run_command(command);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}
