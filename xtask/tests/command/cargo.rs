//! Packages, binaries, profiles and configuration as cargo has them: what is built, and by which calls of rustc.

use std::fs;
use std::process::Command;

use crate::support::{Fixture, Run};

const TARGET: &str = "x86_64-unknown-linux-musl";

/// Writes a workspace of packages, each with its manifest below `[package]`.
fn packages(fixture: &Fixture, members: &[(&str, &str)]) {
    let names: Vec<String> = members.iter().map(|(folder, _)| format!("\"{folder}\"")).collect();
    let names = names.join(", ");
    fixture.write("Cargo.toml", format!("[workspace]\nresolver = \"3\"\nmembers = [{names}]\n"));
    for (folder, manifest) in members {
        package(fixture, folder, manifest);
    }
}

fn package(fixture: &Fixture, folder: &str, manifest: &str) {
    let name = folder.rsplit('/').next().unwrap();
    let package =
        format!("[package]\nname = \"{name}\"\nversion = \"1.2.3\"\nedition = \"2024\"\n{manifest}");
    fixture.write(format!("{folder}/Cargo.toml"), package);
}

fn lock(fixture: &Fixture) {
    let mut cargo = Command::new(env!("CARGO"));
    fixture.prepare(&mut cargo);
    cargo.args(["generate-lockfile", "--offline"]);
    let run = fixture.run_command(cargo);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

fn definition(fixture: &Fixture, build: &str) {
    fixture.write("images/app/image.toml", format!("[build]\n{build}"));
}

/// What the image's program prints.
fn output(fixture: &Fixture, program: &str) -> String {
    let path = fixture.path(format!("target/images/app/bin/amd64/{program}"));
    String::from_utf8(Command::new(path).output().unwrap().stdout).unwrap()
}

fn image(fixture: &Fixture, variables: &[(&str, &str)]) -> Run {
    let mut command = fixture.command(&["image", "app"]);
    command.envs(variables.iter().copied());
    fixture.run_command(command)
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_member_may_be_called_like_a_dependency_of_its_own() {
    let fixture = Fixture::new();
    packages(
        &fixture,
        &[("server", "[dependencies]\nreal = { package = \"server\", path = \"../../other/server\" }\n")],
    );
    fixture.write(
        "../other/server/Cargo.toml",
        "[package]\nname = \"server\"\nversion = \"2.0.0\"\nedition = \"2024\"\n[workspace]\n",
    );
    fixture
        .write("../other/server/src/lib.rs", "pub fn hello() -> &'static str {\n    \"of the other\"\n}\n");
    fixture.write("server/src/main.rs", "fn main() {\n    print!(\"{}\", real::hello());\n}\n");
    lock(&fixture);
    definition(&fixture, "package = \"server\"\nprofile = \"dev\"\n");
    fixture.succeeds(&["image", "app"]);
    assert_eq!(output(&fixture, "server"), "of the other");
    let inspected: serde_json::Value =
        serde_json::from_str(&fixture.succeeds(&["inspect", "app", "--json"])).unwrap();
    let crates = &inspected[0]["packages"]["app/server"];
    let shown = crates.as_array().unwrap().iter().map(|it| format!("{} {}", it["name"], it["version"]));
    assert_eq!(shown.collect::<Vec<_>>(), ["\"server\" \"1.2.3\"", "\"server\" \"2.0.0\""]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_binary_whose_features_are_off_is_not_chosen_and_named_with_what_it_needs() {
    let fixture = Fixture::new();
    packages(
        &fixture,
        &[(
            "server",
            "[features]\nadmin = []\nall = [\"admin\"]\n[[bin]]\nname = \"serve\"\npath = \"src/main.rs\"\n\
             [[bin]]\nname = \"admin\"\npath = \"src/admin.rs\"\nrequired-features = [\"admin\"]\n",
        )],
    );
    lock(&fixture);
    fixture.write("server/src/main.rs", "fn main() {\n    print!(\"serve\");\n}\n");
    fixture.write("server/src/admin.rs", "fn main() {\n    print!(\"admin\");\n}\n");
    definition(&fixture, "package = \"server\"\nprofile = \"dev\"\n");
    fixture.succeeds(&["image", "app"]);
    assert_eq!(output(&fixture, "serve"), "serve");

    definition(&fixture, "package = \"server\"\nprofile = \"dev\"\nbin = \"admin\"\n");
    assert_eq!(
        fixture.refuses(&["image", "app"]),
        "error: image app: binary `admin` of package `server` needs the feature `admin`\n\
         hint: `features = [\"admin\"]` under [build] in image.toml\n"
    );
    definition(&fixture, "package = \"server\"\nprofile = \"dev\"\nbin = \"admin\"\nfeatures = [\"all\"]\n");
    fixture.succeeds(&["image", "app"]);
    assert_eq!(output(&fixture, "admin"), "admin");
    definition(&fixture, "package = \"server\"\nprofile = \"dev\"\nfeatures = [\"admin\"]\n");
    assert_eq!(
        fixture.refuses(&["image", "app"]),
        "error: image app: package `server` has several binaries: admin, serve\n\
         hint: name one: `bin = \"…\"` under [build] in image.toml\n"
    );
}

#[test]
#[cfg(target_arch = "x86_64")]
fn members_below_an_excluded_folder_and_a_workspace_in_a_subfolder_are_built() {
    let fixture = Fixture::at("repository/rust");
    fixture.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"services/*\", \"old/server\"]\nexclude = [\"old\"]\n",
    );
    package(&fixture, "old/server", "");
    package(&fixture, "services/other", "");
    fixture.write("old/server/src/main.rs", "fn main() {\n    print!(\"old\");\n}\n");
    fixture.write("services/other/src/main.rs", "fn main() {}\n");
    lock(&fixture);
    definition(&fixture, "package = \"server\"\nprofile = \"dev\"\n");
    fixture.succeeds(&["image", "app"]);
    assert_eq!(output(&fixture, "server"), "old");
}

/// Prints which `--cfg` and optimisation its crate has.
const MAIN: &str = "fn main() {\n    print!(\"{} {} {} {}\", cfg!(one), cfg!(two), cfg!(debug_assertions), cfg!(panic = \"abort\"));\n}\n";

#[test]
#[cfg(target_arch = "x86_64")]
fn flags_and_profiles_are_those_of_files_and_environment() {
    let one = "[build]\nrustflags = [\"--cfg\", \"one\"]\n";
    let image = "[profile.image]\nlto = \"off\"\nopt-level = 0\n";
    for (configuration, profile, variables, expected) in [
        (one, "image", &[][..], "true false false false"),
        (one, "image", &[("RUSTFLAGS", "")][..], "false false false false"),
        ("include = [\"more.toml\"]\n", "image", &[], "false true false false"),
        (
            "include = [\"more.toml\", { path = \"none.toml\", optional = true }]\n[build]\nrustflags = [\"--cfg\", \"one\"]\n",
            "image",
            &[],
            "true true false false",
        ),
        ("[profile.dist]\ninherits = \"dev\"\npanic = \"abort\"\n", "dist", &[], "false false true true"),
        ("", "dist", &[("CARGO_PROFILE_DIST_INHERITS", "dev")], "false false true false"),
        ("[profile.image]\npanic = \"abort\"\n", "image", &[], "false false false true"),
        ("", "image", &[("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")], "false false true false"),
        ("[env]\nRUSTFLAGS = \"--cfg one\"\n", "image", &[], "false false false false"),
        ("[build]\ntarget = \"aarch64-unknown-linux-musl\"\ntarget-dir = \"elsewhere\"\n", "image", &[], ""),
    ] {
        let fixture = Fixture::new();
        fixture.write("server/src/main.rs", MAIN);
        let configuration = match configuration.contains("[profile.image]") {
            true => configuration.replace("[profile.image]\n", image),
            false => format!("{configuration}{image}"),
        };
        fixture.write(".cargo/config.toml", configuration);
        fixture.write(".cargo/more.toml", "[build]\nrustflags = [\"--cfg\", \"two\"]\n");
        definition(&fixture, &format!("package = \"server\"\nprofile = \"{profile}\"\n"));
        let run = self::image(&fixture, variables);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        if expected.is_empty() {
            assert!(fixture.path(format!("elsewhere/{TARGET}/image/server")).is_file());
        } else {
            assert_eq!(output(&fixture, "server"), expected, "{variables:?}");
        }
    }
}

#[test]
fn a_dry_run_says_where_the_keys_of_the_profile_are_from() {
    let fixture = Fixture::new();
    let manifest = fs::read_to_string(fixture.path("Cargo.toml")).unwrap();
    fixture.write("Cargo.toml", format!("{manifest}[profile.release]\nopt-level = \"s\"\n"));
    fixture.write(".cargo/config.toml", "[profile.image]\ndebug = 1\n");
    definition(&fixture, "package = \"server\"\n");
    let mut command = fixture.command(&["image", "app", "--dry-run"]);
    command.env("CARGO_PROFILE_IMAGE_CODEGEN_UNITS", "4");
    let run = fixture.run_command(command);
    let shown: Vec<&str> = run.stdout.lines().skip(2).take(6).collect();
    assert_eq!(
        shown,
        [
            "profile image",
            "  opt-level = \"s\" ([profile.release] in Cargo.toml)",
            "  lto = \"fat\" (tare)",
            "  codegen-units = 4 (CARGO_PROFILE_IMAGE_CODEGEN_UNITS)",
            "  panic = \"unwind\" (cargo's default)",
            "  debug = 1 (ROOT/.cargo/config.toml)",
        ]
    );
    // What tare adds is what cargo then does.
    let build = fixture.run(&["image", "app"]);
    assert_eq!(build.code, Some(0), "{}", build.stderr);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn packages_outside_the_workspace_leave_neither_path_nor_trace_of_the_folder() {
    let programs = ["one", "another place/of somebody else"].map(|folder| {
        let fixture = Fixture::at(&format!("{folder}/rust"));
        fixture.write("../lib/Cargo.toml", "[package]\nname = \"lib\"\nversion = \"0.3.0\"\nedition = \"2024\"\n[dependencies]\ndeep = { path = \"../deep\" }\n");
        fixture.write("../deep/Cargo.toml", "[package]\nname = \"deep\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        fixture.write(
            "../lib/src/lib.rs",
            "pub struct Kind;\npub fn parse(text: &str) -> u32 {\n    deep::parse(text).unwrap()\n}\n\
             pub fn kind() -> std::any::TypeId {\n    std::any::TypeId::of::<Kind>()\n}\n",
        );
        fixture.write(
            "../deep/src/lib.rs",
            "pub fn parse(text: &str) -> Option<u32> {\n    if text == \"77\" { panic!(\"{text}\") }\n    text.parse().ok()\n}\n",
        );
        package(&fixture, "server", "[dependencies]\nlib = { path = \"../../lib\" }\n");
        fixture.write(
            "server/src/main.rs",
            "fn main() {\n    let text = std::env::args().next().unwrap();\n    print!(\"{:?} {}\", lib::kind(), lib::parse(&text));\n}\n",
        );
        lock(&fixture);
        definition(&fixture, "package = \"server\"\n");
        let run = self::image(&fixture, &[]);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert!(!run.stderr.contains("warning"), "{}", run.stderr);
        let program = fs::read(fixture.path("target/images/app/bin/amd64/server")).unwrap();
        let text = String::from_utf8_lossy(&program).into_owned();
        assert!(text.contains("/local/lib-0.3.0/src/lib.rs") && text.contains("/local/deep-0.1.0/src/lib.rs"));
        assert!(!text.contains(&*fixture.outside().to_string_lossy()));
        // The wrapper of the user is still called.
        fixture.write("wrapper", "#!/bin/sh\necho \"$3\" >> \"$LOG\"\nexec \"$@\"\n");
        super::support::system("chmod", &["755".as_ref(), fixture.path("wrapper").as_os_str()]);
        fixture.write(".cargo/config.toml", "[build]\nrustc-wrapper = \"./wrapper\"\n");
        fs::remove_dir_all(fixture.path("target")).unwrap();
        let log = fixture.path("log");
        let run = self::image(&fixture, &[("LOG", log.to_str().unwrap())]);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let called = fs::read_to_string(log).unwrap();
        for name in ["deep", "lib", "server"] {
            assert!(called.lines().any(|line| line == name), "{called}");
        }
        assert_eq!(fs::read(fixture.path("target/images/app/bin/amd64/server")).unwrap(), program);
        program
    });
    assert!(programs[0] == programs[1], "the programs differ");
}

/// As the crates `cc` before 1.2 and `cmake` do, which split flags at spaces and read no quotes.
#[test]
#[cfg(target_arch = "x86_64")]
fn c_that_is_compiled_with_split_flags_leaves_no_path_with_spaces() {
    let fixture = Fixture::at("my own/work space's");
    fixture.write(
        "server/build.rs",
        "use std::process::Command;\n\
         fn main() {\n\
             let var = |name: &str| std::env::var(name).unwrap();\n\
             let (folder, out) = (var(\"CARGO_MANIFEST_DIR\"), var(\"OUT_DIR\"));\n\
             let flags = var(&format!(\"CFLAGS_{}\", var(\"TARGET\").replace('-', \"_\")));\n\
             let (object, library) = (format!(\"{out}/native.o\"), format!(\"{out}/libnative.a\"));\n\
             let mut cc = Command::new(\"cc\");\n\
             cc.args(flags.split_whitespace()).args([\"-c\", \"-o\", &object, &format!(\"{folder}/native.c\")]);\n\
             assert!(cc.status().unwrap().success());\n\
             assert!(Command::new(\"ar\").args([\"rcs\", &library, &object]).status().unwrap().success());\n\
             println!(\"cargo:rustc-link-search=native={out}\\ncargo:rustc-link-lib=static=native\");\n\
         }\n",
    );
    fixture.write("server/native.c", "const char *native_file(void) { return __FILE__; }\n");
    fixture.write(
        "server/src/main.rs",
        "unsafe extern \"C\" {\n    fn native_file() -> *const std::ffi::c_char;\n}\n\
         fn main() {\n    let file = unsafe { std::ffi::CStr::from_ptr(native_file()) };\n    print!(\"{}\", file.to_str().unwrap());\n}\n",
    );
    definition(&fixture, "package = \"server\"\nprofile = \"dev\"\n");
    let run = image(&fixture, &[]);
    assert_eq!((run.code, run.stderr.contains("warning")), (Some(0), false), "{}", run.stderr);
    assert_eq!(output(&fixture, "server"), "/src/server/native.c");
    // Nothing is compiled again.
    let run = image(&fixture, &[]);
    assert_eq!((run.code, run.stderr.contains("Compiling")), (Some(0), false), "{}", run.stderr);
}

#[test]
fn a_path_that_a_build_script_bakes_in_is_named() {
    let fixture = Fixture::new();
    fixture.write(
        "server/build.rs",
        "fn main() {\n    println!(\"cargo::rustc-env=BAKED={}/data\", std::env::var(\"CARGO_MANIFEST_DIR\").unwrap());\n}\n",
    );
    fixture.write("server/src/main.rs", "fn main() {\n    println!(\"{}\", env!(\"BAKED\"));\n}\n");
    definition(&fixture, "package = \"server\"\n");
    let run = image(&fixture, &[]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let warning = run.stderr.lines().find(|line| line.starts_with("warning: ")).unwrap_or_default();
    let starts = "warning: image app: the program contains a path of this machine, ROOT/server/data";
    assert!(warning.starts_with(starts) && warning.contains(", in .rodata: "), "{}", run.stderr);
}

#[test]
fn a_program_for_one_kind_of_processor_is_warned_of() {
    let fixture = Fixture::new();
    fixture.write(".cargo/config.toml", "[build]\nrustflags = [\"-C\", \"target-cpu=native\"]\n");
    definition(&fixture, "package = \"server\"\nprofile = \"dev\"\n");
    let run = image(&fixture, &[]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let says = "warning: image app: target-cpu=native: the program runs on processors like this machine's alone, though \
        the image says linux/amd64, and is another one on every other kind of machine\n";
    assert!(run.stderr.contains(says), "{}", run.stderr);
    let run = image(&fixture, &[("RUSTFLAGS", "-Ctarget-cpu=x86-64-v2")]);
    let says = "warning: image app: target-cpu=x86-64-v2: the program does not run on every processor, though the image \
        says linux/amd64\n";
    assert!(run.code == Some(0) && run.stderr.contains(says), "{}", run.stderr);
}

#[test]
fn the_proof_says_for_which_processors_it_holds() {
    let fixture = Fixture::new();
    definition(&fixture, "package = \"server\"\nprofile = \"dev\"\n");
    let mut command = fixture.command(&["image", "app", "--verify-reproducible", "--quiet"]);
    command.env("RUSTFLAGS", "-Ctarget-cpu=native");
    let run = fixture.run_command(command);
    let says = "app: both builds agree in every file and byte, on processors like this machine's alone \
        (target-cpu=native)\n";
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), says), "{}", run.stderr);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn stripping_keeps_the_notes_of_probes() {
    let fixture = Fixture::new();
    fixture.write(
        "server/src/main.rs",
        "std::arch::global_asm!(\".pushsection .note.stapsdt,\\\"\\\",\\\"note\\\"\", \".balign 4\", \".4byte 8, 4, 3\", \
         \".asciz \\\"stapsdt\\\"\", \".4byte 7\", \".popsection\");\nfn main() {}\n",
    );
    definition(&fixture, "package = \"server\"\n");
    fixture.succeeds(&["image", "app"]);
    let program = fs::read(fixture.path("target/images/app/bin/amd64/server")).unwrap();
    let note = [&8_u32.to_le_bytes()[..], &4_u32.to_le_bytes(), &3_u32.to_le_bytes(), b"stapsdt\0"].concat();
    let at = program.windows(note.len()).position(|window| window == note).expect("the note is there");
    let section = tare_oci::elf::section_at(&program, at as u64);
    assert_eq!(section.as_deref(), Some(".note.stapsdt"));
}

#[test]
fn a_target_folder_that_cannot_be_written_has_a_way_out() {
    if !super::support::is_root() {
        return super::support::left_out("a checkout that cannot be written");
    }
    let fixture = Fixture::new();
    definition(&fixture, "package = \"server\"\nprofile = \"dev\"\n");
    let target = fixture.path("target");
    fs::create_dir(&target).unwrap();
    let words = ["-t", "tmpfs", "-o", "ro", "tare-test"].map(std::ffi::OsStr::new);
    super::support::system("mount", &[&words[..], &[target.as_os_str()]].concat());
    let run = image(&fixture, &[]);
    super::support::system("umount", &["-l".as_ref(), target.as_os_str()]);
    let hint = "hint: ROOT/target cannot be written: set CARGO_TARGET_DIR to a folder that can be\n";
    assert!(run.code == Some(2) && run.stderr.ends_with(hint), "{}", run.stderr);
    let elsewhere = fixture.outside().join("elsewhere");
    let run = image(&fixture, &[("CARGO_TARGET_DIR", elsewhere.to_str().unwrap())]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn flags_for_a_compiler_that_links_are_named_with_their_build_script() {
    for flag in ["-Wl,-z,noexecstack", "-rdynamic", "-pthread"] {
        let fixture = Fixture::new();
        fixture.write(
            "server/build.rs",
            format!("fn main() {{\n    println!(\"cargo:rustc-link-arg-bins={flag}\");\n}}\n"),
        );
        definition(&fixture, "package = \"server\"\nprofile = \"dev\"\n");
        let says = fixture.refuses(&["image", "app"]);
        let hint = says.lines().last().unwrap();
        let starts = format!(
            "hint: the build script of server passes `{flag}`, which compilers understand and rust-lld does not"
        );
        assert!(hint.starts_with(&starts), "{says}");
        let ends = "in .cargo/config.toml [target.x86_64-unknown-linux-musl] linker = \"cc\"";
        assert!(cfg!(not(target_arch = "x86_64")) || hint.ends_with(ends), "{says}");
        // What the hint says is right.
        if cfg!(target_arch = "x86_64") {
            fixture.write(".cargo/config.toml", format!("[target.{TARGET}]\nlinker = \"cc\"\n"));
            fixture.succeeds(&["image", "app"]);
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_linker_that_makes_a_dynamic_program_is_answered_with_one_that_does_not() {
    let fixture = Fixture::new();
    definition(&fixture, "package = \"server\"\nprofile = \"dev\"\n");
    // As musl-gcc does, whose specs know no -static-pie.
    fixture.write("linker", "#!/bin/sh\nfor word do\n    shift\n    [ \"$word\" = -static-pie ] && word=-pie\n    set -- \"$@\" \"$word\"\ndone\nexec cc \"$@\"\n");
    super::support::system("chmod", &["755".as_ref(), fixture.path("linker").as_os_str()]);
    let configuration = |linker: &str| format!("[target.{TARGET}]\nlinker = \"{linker}\"\n");
    fixture.write(".cargo/config.toml", configuration("./linker"));
    let Run { code, stderr: says, .. } = fixture.run(&["image", "app"]);
    assert_eq!(code, Some(2), "{says}");
    let ends = "needs the interpreter /lib64/ld-linux-x86-64.so.2\n\
        hint: the linker of your cargo configuration made a dynamic program; musl-gcc does so: remove it, or name a \
        compiler that does not: in .cargo/config.toml [target.x86_64-unknown-linux-musl] linker = \"cc\", or add \
        \"-Crelocation-model=static\" to its rustflags\n";
    assert!(says.ends_with(ends), "{says}");
    for right in
        [configuration("cc"), configuration("./linker") + "rustflags = [\"-Crelocation-model=static\"]\n"]
    {
        fixture.write(".cargo/config.toml", right);
        fixture.succeeds(&["image", "app"]);
    }
}

#[test]
fn a_library_of_this_system_is_named_with_the_crate_that_links_it() {
    let fixture = Fixture::new();
    fixture
        .write("server/build.rs", "fn main() {\n    println!(\"cargo:rustc-link-lib=static=nowhere\");\n}\n");
    definition(&fixture, "package = \"server\"\nprofile = \"dev\"\n");
    let says = fixture.refuses(&["image", "app"]);
    let hint = says.lines().last().unwrap();
    let starts = "hint: the library `nowhere` that server links is in no folder that a build script names";
    assert!(hint.starts_with(starts), "{says}");
}

#[test]
fn symbols_of_libgcc_are_explained() {
    let fixture = Fixture::new();
    fixture.write(
        "server/src/main.rs",
        "unsafe extern \"C\" {\n    fn __cpu_indicator_init();\n}\nfn main() {\n    unsafe { __cpu_indicator_init() }\n}\n",
    );
    definition(&fixture, "package = \"server\"\nprofile = \"dev\"\n");
    let says = fixture.refuses(&["image", "app"]);
    let hint = says.lines().last().unwrap();
    let starts =
        "hint: `__cpu_indicator_init` is in libgcc, the C compiler's own library, which is not linked";
    assert!(hint.starts_with(starts), "{says}");
}

#[test]
fn openssl_of_the_system_is_answered_with_vendored_or_rustls() {
    let fixture = Fixture::new();
    packages(
        &fixture,
        &[
            ("server", "[dependencies]\nclient = { path = \"../client\" }\n"),
            ("client", "[dependencies]\nopenssl-sys = { path = \"../openssl-sys\" }\n"),
            ("openssl-sys", "[build-dependencies]\ncc = { path = \"../cc\" }\n"),
            ("cc", ""),
        ],
    );
    for library in ["client", "openssl-sys", "cc"] {
        fixture.write(format!("{library}/src/lib.rs"), "");
    }
    lock(&fixture);
    fixture.write("openssl-sys/build.rs", "fn main() {\n    std::process::exit(1);\n}\n");
    definition(&fixture, "package = \"server\"\nprofile = \"dev\"\n");
    let says = fixture.refuses(&["image", "app"]);
    let hint = says.lines().last().unwrap();
    let starts = "hint: openssl-sys, which client needs (through server → client → openssl-sys) looks for an OpenSSL of \
        this system, which is not one for musl";
    assert!(hint.starts_with(starts) && hint.contains("features = [\"vendored\"]"), "{says}");
    assert!(hint.ends_with("or turn on rustls in place of native-tls in the features of client"), "{says}");
}
