//! The same inputs give the same bytes: on every host, in every folder, for everybody, at any time.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::{Fixture, PREBUILT, files};

/// The image of [`fixture`] with `--compression none`: it changes only when what is written for one
/// definition changes, which is news for everybody who compares digests.
const PLAIN: &str = "sha256:50c325461397e6cd5bdb498c65d7cd25b6f23e5e0e228c994f17cf618c553442";

/// The same with `--compression gzip`. Another default level, or a new version of libdeflate, may compress
/// differently: then this changes and [`PLAIN`] does not, `inspect --validate` still passes, and the diff ids, which
/// `gzip -dc BLOB | sha256sum` computes too, are the same as before.
const GZIP: &str = "sha256:06960b879fd40abd8d9c50d9ef0db221d1f4b87ecb250d50d515e3e987758313";

/// Nothing in it comes from a dependency that changes by itself, as certificates and time zones do.
fn fixture(folder: &str) -> Fixture {
    let fixture = Fixture::at(folder);
    let definition = format!(
        "{PREBUILT}\
         [config]\n\
         cmd = [\"--verbose\"]\n\
         env = {{ B = \"2\", A = \"1\" }}\n\
         exposed-ports = [8080]\n\
         volumes = [\"/data\"]\n\
         labels = {{ z = \"1\", a = \"2\" }}\n\
         healthcheck = {{ test = [\"CMD\", \"/app/server\", \"--health\"], interval = \"30s\" }}\n\
         [[layers]]\n\
         name = \"base\"\n\
         entries = [{{ skeleton = true }}]\n\
         [[layers]]\n\
         name = \"application\"\n\
         entries = [{{ binary = true, capabilities = \"cap_net_bind_service=ep\" }}]\n\
         [[layers]]\n\
         name = \"static\"\n\
         entries = [\n\
         {{ tree = \"/static\", from = \"static\" }},\n\
         {{ file = \"/etc/app.toml\", from = \"app.toml\", owner = 3000000, mode = \"0640\" }},\n\
         {{ symlink = \"/usr/bin/server\", to = \"/app/server\" }},\n\
         ]\n"
    );
    fixture.write("images/app/image.toml", definition);
    fixture.write("images/app/app.toml", "port = 8080\n");
    for (path, content) in
        [("index.html", "<html>"), ("größe.css", "p {}"), ("js/app.js", "0;"), ("js/lib/z.js", "1;")]
    {
        fixture.write(format!("images/app/static/{path}"), content);
    }
    fixture.write(format!("images/app/static/{}", "long/".repeat(50) + "file"), "deep");
    symlink("index.html", fixture.path("images/app/static/default")).unwrap();
    fixture
}

fn digest(fixture: &Fixture, mut command: Command) -> String {
    let run = fixture.run_command({
        command.current_dir(fixture.root());
        command
    });
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    run.stdout.trim().strip_prefix("app@").unwrap().to_owned()
}

#[test]
fn a_definition_has_the_digest_that_it_always_had() {
    for (compression, golden) in [("none", PLAIN), ("gzip", GZIP)] {
        let fixture = fixture("workspace");
        let command = fixture.command(&["image", "app", "--compression", compression]);
        assert_eq!(digest(&fixture, command), golden, "{compression}");
        assert_eq!(fixture.validate("app").0, Some(0));
    }
}

#[test]
fn the_digest_does_not_depend_on_folder_umask_times_modes_zone_or_language() {
    let fixture = fixture("a/deep folder/of somebody else");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for (path, _) in files(&fixture.path("images")).into_iter().filter(|(_, digest)| digest.is_some()) {
        let path = fixture.path("images").join(path);
        if path.is_symlink() {
            continue;
        }
        fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    for (umask, zone, language) in [("000", "Asia/Kolkata", "de_DE.UTF-8"), ("077", "America/St_Johns", "C")]
    {
        let program = fixture.command(&["image", "app", "--compression", "none"]);
        let mut command = Command::new("sh");
        fixture.prepare(&mut command);
        command.args(["-c", &format!("umask {umask} && exec \"$@\""), "sh"]).arg(program.get_program());
        command.args(program.get_args());
        command.env("TZ", zone).env("LANG", language).env("LC_ALL", language);
        assert_eq!(digest(&fixture, command), PLAIN, "{umask} {zone} {language}");
        fs::remove_dir_all(fixture.path("target")).unwrap();
    }
}

#[test]
fn the_executable_bit_is_the_one_thing_that_counts_of_a_mode() {
    let fixture = fixture("workspace");
    let path = fixture.path("images/app/static/js/app.js");
    let arguments = ["image", "app", "--compression", "none"];
    for (mode, same) in [(0o600, true), (0o666, true), (0o644, true), (0o700, false), (0o755, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let digest = digest(&fixture, fixture.command(&arguments));
        assert_eq!(digest == PLAIN, same, "{mode:o}");
    }
}

#[test]
fn archive_and_layout_are_the_same_bytes_again() {
    let one = fixture("one");
    let two = fixture("two/and more");
    let written = [&one, &two].map(|fixture| {
        fixture.succeeds(&["image", "app", "--tag", "app:1"]);
        let mut written = files(&fixture.path("target/images/app"));
        // It has the times of the run and the folder.
        written.remove("app.json").unwrap();
        written
    });
    assert_eq!(written[0], written[1]);
}

#[test]
fn verify_reproducible_agrees() {
    let fixture = fixture("workspace");
    let run = fixture.run(&["image", "app", "--verify-reproducible", "--compression", "none"]);
    let says = "app: both builds agree in every file and byte\n";
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), says), "{}", run.stderr);
}

#[test]
fn verify_reproducible_names_what_differs() {
    let fixture = Fixture::new();
    // A build that takes the time, as too many do.
    let script = "cp server out; date +%N >> out";
    fixture.write(
        "images/app/image.toml",
        format!("[build]\ncommand = [\"sh\", \"-c\", \"{script}\"]\noutput = \"out\"\n"),
    );
    let run = fixture.run(&["image", "app", "--verify-reproducible"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let begins = "app: the builds differ: linux/amd64: layer 2: /app/out: byte ";
    assert!(run.stdout.starts_with(begins), "{}", run.stdout);
}

/// git lists neither as a path in UTF-8 of a file, and cargo reads configuration above the repository too.
#[test]
fn the_proof_builds_what_is_in_submodules_has_odd_names_and_is_configured_above() {
    let fixture = Fixture::new();
    let git = |folder: &std::path::Path, arguments: &[&str]| {
        let mut command = Command::new("git");
        fixture.prepare(&mut command);
        command.args(["-c", "user.name=A", "-c", "user.email=a@x", "-c", "protocol.file.allow=always"]);
        command.current_dir(folder).args(arguments);
        let run = fixture.run_command(command);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
    };
    let library = fixture.outside().join("library");
    fs::create_dir(&library).unwrap();
    fs::write(library.join("page.html"), "page").unwrap();
    git(&library, &["init", "--quiet"]);
    git(&library, &["add", "--all"]);
    git(&library, &["commit", "--quiet", "--message", "x"]);
    git(fixture.root(), &["init", "--quiet"]);
    git(fixture.root(), &["submodule", "--quiet", "add", &library.to_string_lossy(), "images/app/library"]);
    fixture.write(crate::support::path_of(b"images/app/odd-\xff"), "odd");
    fixture.write(".gitignore", ".cargo\n");
    fixture.write(".cargo/config.toml", "[env]\nA = \"1\"\n");
    fs::create_dir(fixture.outside().join(".cargo")).unwrap();
    fs::write(fixture.outside().join(".cargo/config.toml"), "include = [\"more.toml\"]\n").unwrap();
    fs::write(fixture.outside().join(".cargo/more.toml"), "[env]\nB = \"1\"\n").unwrap();
    git(fixture.root(), &["add", "--all"]);
    let needs = ["library/page.html", "odd-*", "../../.cargo/config.toml", "../../../.cargo/more.toml"];
    let script = format!("set -e; for f in {}; do test -f $f; done; cp server out", needs.join(" "));
    let definition = format!("[build]\ncommand = [\"sh\", \"-c\", \"{script}\"]\noutput = \"out\"\n");
    fixture.write("images/app/image.toml", definition);
    let run = fixture.run(&["image", "app", "--verify-reproducible", "--compression", "none"]);
    let says = "app: both builds agree in every file and byte\n";
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), says), "{}", run.stderr);
}

/// Packages of other workspaces keep their places, a link out of the workspace leads where it led, and what was built
/// before is built again.
#[test]
fn the_proof_builds_packages_outside_the_workspace() {
    let fixture = Fixture::at("work/shop/rust");
    let library = |dependencies: &str| {
        format!(
            "[package]\nname = \"LIB\"\nversion = \"0.1.0\"\nedition.workspace = true\n[dependencies]\n{dependencies}"
        )
    };
    for (name, dependencies) in [("lib", "deep = { path = \"../deep\" }\n"), ("deep", "")] {
        fixture.write(format!("../../libs/{name}/Cargo.toml"), library(dependencies).replace("LIB", name));
        fixture.write(format!("../../libs/{name}/src/lib.rs"), "pub fn word() -> &'static str { file!() }\n");
    }
    fixture.write(
        "../../libs/Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"lib\", \"deep\"]\n[workspace.package]\nedition = \"2024\"\n",
    );
    let tests =
        "[package]\nname = \"tests\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n";
    fixture.write("../tests/Cargo.toml", tests);
    fixture.write("../tests/lib.rs", "");
    fixture.write("../data/words.txt", "a b c");
    symlink("../../data/words.txt", fixture.path("server/words.txt")).unwrap();
    fixture.write(
        "server/Cargo.toml",
        "[package]\nname = \"server\"\nversion = \"1.2.3\"\nedition = \"2024\"\n\
         [dependencies]\nlib = { path = \"../../../libs/lib\" }\n[dev-dependencies]\ntests = { path = \"../../tests\" }\n",
    );
    fixture.write(
        "server/src/main.rs",
        "fn main() {\n    println!(\"{} {}\", lib::word(), include_str!(\"../words.txt\"));\n}\n",
    );
    fixture.write("images/app/image.toml", "[build]\npackage = \"server\"\nprofile = \"dev\"\n");
    let mut cargo = Command::new(env!("CARGO"));
    fixture.prepare(&mut cargo);
    cargo.args(["generate-lockfile", "--offline"]);
    assert_eq!(fixture.run_command(cargo).code, Some(0));
    // Not in .gitignore, which is not there.
    fixture.write("target/x86_64-unknown-linux-musl/debug/server", "built before");
    for git in [false, true] {
        if git {
            let mut command = Command::new("git");
            fixture.prepare(&mut command);
            command.args(["init", "--quiet"]);
            assert_eq!(fixture.run_command(command).code, Some(0));
        }
        let run = fixture.run(&["image", "app", "--verify-reproducible", "--quiet"]);
        let says = "app: both builds agree in every file and byte\n";
        assert_eq!((run.code, run.stdout.as_str()), (Some(0), says), "{git} {}", run.stderr);
    }
}

/// Both as a folder above the workspace and elsewhere, with files beside it and outside it.
#[test]
fn the_proof_takes_along_what_the_configuration_in_cargo_home_includes() {
    for home in ["../.cargo", "../home/me/.cargo"] {
        let fixture = Fixture::at("me/workspace");
        fixture.write(format!("{home}/config.toml"), "include = [\"sub/more.toml\", \"../shared.toml\"]\n");
        fixture.write(format!("{home}/sub/more.toml"), "include = [\"deep.toml\"]\n");
        fixture.write(format!("{home}/sub/deep.toml"), "[build]\nrustflags = [\"--cfg\", \"deep\"]\n");
        fixture.write(format!("{home}/../shared.toml"), "[build]\nrustflags = [\"--cfg\", \"shared\"]\n");
        let program = "#[cfg(all(deep, shared))]\nfn main() {}\n";
        fixture.write("server/src/main.rs", program);
        fixture.write("images/app/image.toml", "[build]\npackage = \"server\"\nprofile = \"dev\"\n");
        let mut command = fixture.command(&["image", "app", "--verify-reproducible", "--quiet"]);
        command.env("CARGO_HOME", fixture.path(home).canonicalize().unwrap());
        let run = fixture.run_command(command);
        let says = "app: both builds agree in every file and byte\n";
        assert_eq!((run.code, run.stdout.as_str()), (Some(0), says), "{home} {}", run.stderr);
    }
}

/// A folder that anybody could have made beforehand, under the name of the process that is about to be.
#[test]
fn the_proof_neither_builds_in_nor_removes_a_folder_that_was_there_before() {
    let fixture = Fixture::new();
    let temporary = fixture.outside().join("temporary");
    fs::create_dir(&temporary).unwrap();
    let mut command = Command::new("sh");
    // exec keeps the process's id.
    let script = "mkdir -m 777 \"$TMPDIR/tare-reproducible-$$\" && exec \"$0\" \"$@\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_xtask"), "image", "app", "--verify-reproducible"]);
    fixture.prepare(&mut command);
    command.env("TMPDIR", &temporary);
    let run = fixture.run_command(command);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let left: Vec<_> = files(&temporary).into_iter().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].1, None, "{left:?}");
}
