//! Where things are: images that cargo does not build find the workspace and `target` without asking
//! cargo, and where it would say.

use std::process::Command;

use serde_json::Value;

use crate::support::{Elf, Fixture, PREBUILT};

/// Files to be written, the folder to stand in, and variables.
struct Case {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    stand_in: &'static str,
    env: &'static [(&'static str, &'static str)],
}

const PLAIN: Case = Case { name: "the root", files: &[], stand_in: "", env: &[] };

const SHARED_TARGET: &str = "[build]\ntarget-dir = \"shared\"\n";
const CASES: [Case; 13] = [
    PLAIN,
    Case { name: "a member", stand_in: "server", ..PLAIN },
    Case { name: "a folder in a member", stand_in: "server/src", ..PLAIN },
    Case { name: "a folder beside the members", stand_in: "images/app", ..PLAIN },
    Case { name: "configured", files: &[(".cargo/config.toml", SHARED_TARGET)], ..PLAIN },
    Case { name: "configured, older", files: &[(".cargo/config", SHARED_TARGET)], ..PLAIN },
    Case {
        name: "configured, from a member",
        files: &[(".cargo/config.toml", SHARED_TARGET)],
        stand_in: "server/src",
        ..PLAIN
    },
    Case {
        name: "configured above",
        files: &[("../.cargo/config.toml", SHARED_TARGET)],
        stand_in: "server",
        ..PLAIN
    },
    Case { name: "relative", stand_in: "server", env: &[("CARGO_TARGET_DIR", "elsewhere")], ..PLAIN },
    Case { name: "of the build", env: &[("CARGO_BUILD_TARGET_DIR", "elsewhere")], ..PLAIN },
    Case {
        name: "both",
        files: &[(".cargo/config.toml", SHARED_TARGET)],
        env: &[("CARGO_TARGET_DIR", "one"), ("CARGO_BUILD_TARGET_DIR", "two")],
        ..PLAIN
    },
    Case {
        name: "excluded",
        files: &[
            ("Cargo.toml", "[workspace]\nmembers = [\"server\"]\nexclude = [\"other\"]\n"),
            ("other/Cargo.toml", "[package]\nname = \"other\"\n"),
            ("other/src/main.rs", ""),
            ("other/images/app/image.toml", PREBUILT),
        ],
        stand_in: "other/src",
        ..PLAIN
    },
    Case {
        name: "named by the package",
        files: &[
            ("Cargo.toml", "[workspace]\nmembers = [\"server\", \"../beside\"]\n"),
            ("../beside/Cargo.toml", "[package]\nname = \"beside\"\nworkspace = \"../workspace\"\n"),
            ("../beside/src/main.rs", ""),
        ],
        stand_in: "../beside",
        ..PLAIN
    },
];

#[test]
fn cargo_tare_builds_images_of_a_workspace_without_an_xtask() {
    let fixture = Fixture::new();
    let by_xtask = fixture.succeeds(&["image", "app"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-tare"));
    fixture.prepare(&mut command);
    // As cargo calls it for `cargo tare image app`.
    command.args(["tare", "image", "app"]);
    let run = fixture.run_command(command);
    assert_eq!((run.code, run.stdout), (Some(0), by_xtask), "{}", run.stderr);
}

#[test]
fn hints_name_the_command_by_which_the_program_was_called() {
    let fixture = Fixture::new();
    for (program, first, name) in [
        (env!("CARGO_BIN_EXE_cargo-tare"), Some("tare"), "cargo tare"),
        (env!("CARGO_BIN_EXE_xtask"), None, "cargo xtask"),
    ] {
        let run = |arguments: &[&str]| {
            let mut command = Command::new(program);
            fixture.prepare(&mut command);
            command.args(first).args(arguments);
            fixture.run_command(command).stderr
        };
        let says = format!("error: image `app` is not built yet\nhint: build it: {name} image app\n");
        assert_eq!(run(&["inspect", "app"]), says);
        assert!(run(&["image", "--wrong"]).contains(&format!("Usage: {name} image")));
    }
}

#[test]
fn the_workspace_and_its_target_are_where_cargo_says() {
    for Case { name, files, stand_in, env } in CASES {
        let fixture = Fixture::new();
        for (path, content) in files {
            fixture.write(path, content);
            if let Some(folder) = path.strip_suffix("image.toml") {
                fixture.write(format!("{folder}server"), Elf::STATIC.bytes());
            }
        }
        let dir = fixture.path(stand_in).canonicalize().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        fixture.prepare(&mut cargo);
        cargo.args(["metadata", "--no-deps", "--format-version", "1"]);
        cargo.current_dir(&dir).envs(env.iter().copied());
        let run = fixture.run_command(cargo);
        assert_eq!(run.code, Some(0), "{name}: {}", run.stderr);
        let metadata: Value = serde_json::from_str(&run.stdout).unwrap();
        let expected = format!("{}/images/app/layout", metadata["target_directory"].as_str().unwrap());

        let mut command = fixture.command(&["image", "app", "--json"]);
        command.current_dir(&dir).envs(env.iter().copied());
        let run = fixture.run_command(command);
        assert_eq!(run.code, Some(0), "{name}: {}", run.stderr);
        let summary: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(summary["layout"], expected, "{name}");
    }
}
