//! Images of packages that cargo compiles: without a definition, with the list of crates inside, and
//! when cargo fails.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

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
    let facts = |path| tare_oci::elf::facts(&fs::read(path).unwrap()).unwrap();
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

/// The build begins with what cargo said last time; what cargo finds by itself is in no Cargo.toml.
#[test]
fn a_program_that_was_added_since_the_last_build_is_built() {
    let fixture = Fixture::new();
    let definition = |bin: &str| format!("[build]\npackage = \"server\"\nprofile = \"dev\"\n{bin}");
    fixture.write("images/app/image.toml", definition(""));
    fixture.succeeds(&["image", "app"]);

    fixture.write("images/app/image.toml", definition("bin = \"added\"\n"));
    fixture.write("server/src/bin/added.rs", "fn main() {\n    println!(\"added\");\n}\n");
    fixture.succeeds(&["image", "app"]);
    assert_eq!(fixture.entries("app").iter().filter(|(entry, _)| entry.path == b"app/added").count(), 1);
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

/// Adds packages to the workspace, each with its manifest below `[package]` and one source file, and
/// lets cargo write the lock file.
fn packages(fixture: &Fixture, packages: &[(&str, &str, &str)]) {
    let names: Vec<String> = packages.iter().map(|(name, _, _)| format!("\"{name}\"")).collect();
    let names = names.join(", ");
    fixture.write("Cargo.toml", format!("[workspace]\nresolver = \"3\"\nmembers = [{names}]\n"));
    for (name, manifest, file) in packages {
        let package =
            format!("[package]\nname = \"{name}\"\nversion = \"1.2.3\"\nedition = \"2024\"\n{manifest}");
        fixture.write(format!("{name}/Cargo.toml"), package);
        if !fixture.path(format!("{name}/{file}")).exists() {
            fixture.write(format!("{name}/{file}"), "");
        }
    }
    let mut cargo = std::process::Command::new(env!("CARGO"));
    fixture.prepare(&mut cargo);
    let run = fixture.run_command({
        cargo.args(["generate-lockfile", "--offline"]);
        cargo
    });
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn what_only_other_packages_need_is_not_downloaded() {
    let fixture = Fixture::new();
    // A registry that knows a crate and does not have it.
    fixture.write(
        "registry/index/he/av/heavy",
        format!(
            "{{\"name\":\"heavy\",\"vers\":\"1.0.0\",\"deps\":[],\"cksum\":\"{}\",\"features\":{{}},\"yanked\":false}}\n",
            "0".repeat(64)
        ),
    );
    fixture.write(
        ".cargo/config.toml",
        format!(
            "[source.crates-io]\nreplace-with = \"here\"\n[source.here]\nlocal-registry = \"{}\"\n",
            fixture.path("registry").display()
        ),
    );
    packages(
        &fixture,
        &[("server", "", "src/main.rs"), ("other", "[dependencies]\nheavy = \"1\"\n", "src/lib.rs")],
    );
    assert!(fs::read_to_string(fixture.path("Cargo.lock")).unwrap().contains("name = \"heavy\""));
    fixture.write("images/app/image.toml", "[build]\npackage = \"server\"\nprofile = \"dev\"\n");
    fixture.succeeds(&["image", "app"]);
}

#[test]
fn the_list_of_crates_follows_what_was_compiled() {
    let fixture = Fixture::new();
    packages(
        &fixture,
        &[
            (
                "server",
                "[dependencies]\nderive = { path = \"../derive\" }\nshared = { path = \"../shared\" }\n\
                 [build-dependencies]\ngenerate = { path = \"../generate\" }\n\
                 [dev-dependencies]\nprobe = { path = \"../probe\" }\ngenerate = { path = \"../generate\" }\n\
                 [target.'cfg(windows)'.dependencies]\nprobe = { path = \"../probe\" }\n",
                "src/main.rs",
            ),
            (
                "derive",
                "[lib]\nproc-macro = true\n[dependencies]\nsyntax = { path = \"../syntax\" }\n",
                "src/lib.rs",
            ),
            ("generate", "[dependencies]\nshared = { path = \"../shared\" }\n", "src/lib.rs"),
            (
                "shared",
                "[features]\nmore = [\"dep:probe\"]\n[dependencies]\nprobe = { path = \"../probe\", optional = true }\n",
                "src/lib.rs",
            ),
            ("syntax", "", "src/lib.rs"),
            ("probe", "", "src/lib.rs"),
            (
                "other",
                "[dependencies]\nshared = { path = \"../shared\", features = [\"more\"] }\n",
                "src/lib.rs",
            ),
        ],
    );
    fixture.write("server/build.rs", "fn main() {}\n");
    fixture.write("images/app/image.toml", "[build]\npackage = \"server\"\nprofile = \"dev\"\n");
    fixture.succeeds(&["image", "app"]);

    let entries = fixture.entries("app");
    let (_, program) = entries.iter().find(|(entry, _)| entry.path == b"app/server").unwrap();
    let list = tare_oci::audit::decode(tare_oci::elf::audit_data(program).unwrap().unwrap()).unwrap();
    let shown: Vec<String> = list
        .packages
        .iter()
        .map(|p| format!("{} {:?} {:?} {:?} {}", p.name, p.source, p.kind, p.dependencies, p.root))
        .collect();
    let expected = [
        "derive Local Build [4] false",
        "generate Local Build [3] false",
        "server Local Runtime [0, 1, 3] true",
        "shared Local Runtime [] false",
        "syntax Local Build [] false",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn a_missing_c_compiler_is_named_with_the_crate_that_needs_it() {
    let fixture = Fixture::new();
    packages(
        &fixture,
        &[
            ("server", "[dependencies]\nnative = { path = \"../native\" }\n", "src/main.rs"),
            ("native", "[build-dependencies]\ncc = { path = \"../cc\" }\n", "src/lib.rs"),
            ("cc", "", "src/lib.rs"),
        ],
    );
    // What the crate `cc` does where it finds no compiler.
    fixture.write("native/build.rs", "fn main() {\n    std::process::exit(1);\n}\n");
    fixture.write("images/app/image.toml", "[build]\npackage = \"server\"\nprofile = \"dev\"\n");
    // A PATH with what Rust needs for this host alone.
    let bin = fixture.outside().join("bin");
    fs::create_dir(&bin).unwrap();
    let toolchain = Path::new(env!("CARGO")).parent().unwrap().to_path_buf();
    let path = std::env::var_os("PATH").unwrap();
    let folders: Vec<_> = std::iter::once(toolchain).chain(std::env::split_paths(&path)).collect();
    for program in ["rustc", "cc", "ld"] {
        let found = folders.iter().map(|folder| folder.join(program)).find(|path| path.is_file()).unwrap();
        symlink(found.canonicalize().unwrap(), bin.join(program)).unwrap();
    }
    let mut command = fixture.command(&["image", "app"]);
    command.env("PATH", OsString::from(&bin));
    let says = fixture.refuses_command(command);
    let hint = says.lines().last().unwrap();
    let starts = "hint: native compiles C, and there is no C compiler for x86_64-unknown-linux-musl (looked for \
        x86_64-linux-musl-gcc";
    assert!(hint.starts_with(starts), "{says}");
}
