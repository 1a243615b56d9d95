//! Images of packages that cargo compiles: without a definition, with the list of crates inside, and
//! when cargo fails.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::support::{Fixture, is_root};

#[test]
fn a_package_without_a_definition_becomes_an_image() {
    let fixture = Fixture::new();
    fs::remove_dir_all(fixture.path("images")).unwrap();
    let reference = fixture.succeeds(&["image", "server"]);
    let summary = fixture.summary("server");
    assert_eq!(reference, format!("server@{}\n", summary["digest"].as_str().unwrap()));
    assert_eq!(fixture.validate("server").0, Some(0));
    assert_eq!(summary["annotations"]["org.opencontainers.image.version"], "1.2.3");
    assert_eq!(summary["annotations"]["org.opencontainers.image.title"], "server");

    let json = fixture.succeeds(&["inspect", "server", "--json"]);
    let inspected: Value = serde_json::from_str(&json).unwrap();
    let crates = json!({
        "app/server": [{ "name": "server", "version": "1.2.3", "source": "local", "kind": "runtime" }],
    });
    assert_eq!(inspected[0]["packages"], crates);

    let path = |key: &str| fixture.path(summary["platforms"][0][key].as_str().unwrap());
    let (program, unstripped) = (path("binary"), path("unstrippedBinary"));
    let facts = |path| xtask_tare::elf::facts(&fs::read(path).unwrap()).unwrap();
    assert!(facts(&program).is_static() && facts(&unstripped).is_static());
    assert_eq!((facts(&program).symbols, facts(&unstripped).symbols), (false, true));
    let shipped = fixture.entries("server").into_iter().find(|(entry, _)| entry.path == b"app/server");
    assert_eq!(shipped.unwrap().1, fs::read(&program).unwrap());
    let names_folder = |path| {
        let root = fixture.root().to_string_lossy().into_owned();
        fs::read(path).unwrap().windows(root.len()).any(|window| window == root.as_bytes())
    };
    assert!(!names_folder(&program), "the program names the folder that it was built in");
    if cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        let output = std::process::Command::new(&program).output().unwrap();
        assert_eq!(output.stdout, b"hello\n");
    }
}

#[test]
fn a_package_that_does_not_compile_leaves_the_earlier_image() {
    let fixture = Fixture::new();
    fixture.write("server/src/main.rs", "fn main() { no_such_function() }\n");
    let definition = "[build]\npackage = \"server\"\nprofile = \"dev\"\n";
    fixture.succeeds(&["image", "app"]);
    fixture.write("images/app/image.toml", definition);
    let says = fixture.refuses(&["image", "app"]);
    assert!(says.contains("cannot find function `no_such_function`"), "{says}");
    let last = says.lines().last();
    assert_eq!(last, Some("error: cargo could not build package `server` for x86_64-unknown-linux-musl"));
}

#[test]
fn a_missing_lock_file_is_named() {
    let fixture = Fixture::new();
    fixture.write("images/app/image.toml", "[build]\npackage = \"server\"\n");
    fs::remove_file(fixture.path("Cargo.lock")).unwrap();
    let says = fixture.refuses(&["image", "app"]);
    let ends = "error: cargo could not build package `server` for x86_64-unknown-linux-musl\n\
        hint: there is no Cargo.lock: run `cargo generate-lockfile` and commit it\n";
    assert!(says.ends_with(ends), "{says}");
    assert!(!fixture.path("Cargo.lock").exists());
}

#[test]
fn build_scripts_that_print_leave_stdout_clean() {
    let fixture = Fixture::new();
    fixture.write("images/app/image.toml", "[build]\npackage = \"server\"\nprofile = \"dev\"\n");
    fixture.write(
        "server/build.rs",
        "fn main() {\n    println!(\"noise\");\n    println!(\"cargo::warning=mind this\");\n}\n",
    );
    let run = fixture.run(&["image", "app"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let reference = format!("app@{}\n", fixture.summary("app")["digest"].as_str().unwrap());
    assert_eq!(run.stdout, reference);
    assert!(run.stderr.contains("warning: server@1.2.3: mind this"), "{}", run.stderr);
}

#[test]
fn a_target_folder_that_must_not_be_written_is_named_by_cargo() {
    // Permissions do not stop root; `places` has the same with a file system.
    if is_root() {
        return;
    }
    let fixture = Fixture::new();
    fixture.write("images/app/image.toml", "[build]\npackage = \"server\"\n");
    fs::create_dir(fixture.path("target")).unwrap();
    fs::set_permissions(fixture.path("target"), fs::Permissions::from_mode(0o555)).unwrap();
    let says = fixture.refuses(&["image", "app"]);
    assert!(says.contains("Permission denied"), "{says}");
}
