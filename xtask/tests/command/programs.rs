//! Programs that are there already or that a command builds: what may go into an image, and how the
//! command is run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Elf, Fixture, PREBUILT, system};

#[test]
fn a_program_that_could_not_run_in_the_image_is_refused() {
    let static_hint = "hint: build for a *-linux-musl target with crt-static, or set `libs = \"auto\"` under [build] to take the libraries of this host, or `static = false` and bring them along\n";
    let script_hint = "hint: set `static = false` under [build] if the program is a script\n";
    let machine_hint = "hint: the build command finds the platform asked for in TARGETARCH\n";
    for (program, says) in [
        (
            Elf::DYNAMIC.bytes(),
            format!(
                "error: image app is not static: ROOT/images/app/program needs the interpreter /lib/ld-musl-x86_64.so.1\n{static_hint}"
            ),
        ),
        (
            Elf::NEEDS_LIBRARY.bytes(),
            format!(
                "error: image app is not static: ROOT/images/app/program needs libssl.so.3\n{static_hint}"
            ),
        ),
        (
            Elf::STATIC_ARM64.bytes(),
            format!(
                "error: image app: ROOT/images/app/program is for arm64, not for linux/amd64\n{machine_hint}"
            ),
        ),
        (
            b"#!/bin/sh\n".to_vec(),
            format!("error: image app: ROOT/images/app/program: not an ELF file\n{script_hint}"),
        ),
        (Vec::new(), format!("error: image app: ROOT/images/app/program: not an ELF file\n{script_hint}")),
        (
            b"\x7fELF\x01\x01\x01".to_vec(),
            format!(
                "error: image app: ROOT/images/app/program: a 32-bit ELF file; images hold 64-bit ones\n{script_hint}"
            ),
        ),
        (
            Elf::STATIC.bytes()[..100].to_vec(),
            format!(
                "error: image app: ROOT/images/app/program: a damaged ELF file: Invalid ELF program header size or alignment\n{script_hint}"
            ),
        ),
    ] {
        let fixture = Fixture::new();
        fixture.write("images/app/program", program);
        fixture.refuses_definitions(&[("[build]\noutput = \"program\"\n", &says)]);
    }
}

#[test]
fn objects_libraries_and_programs_of_other_systems_are_refused() {
    let hint = "hint: name the executable that a linker makes for Linux, in `output` under [build]\n";
    let with = |at: usize, bytes: &[u8]| {
        let mut program = Elf::STATIC.bytes();
        program[at..at + bytes.len()].copy_from_slice(bytes);
        program
    };
    let mut library = with(16, &[3]);
    library[24..32].fill(0);
    for (program, says) in [
        (
            with(16, &[1]),
            "a relocatable object, as `cc -c` and `rustc --emit obj` write it, not a program for Linux",
        ),
        (with(16, &[4]), "a core dump, not a program for Linux"),
        (library, "a shared library, not a program for Linux"),
        (with(7, &[9]), "a file for FreeBSD, not a program for Linux"),
        (with(7, &[12]), "a file for OpenBSD, not a program for Linux"),
    ] {
        let says = format!("error: image app: ROOT/images/app/program: {says}\n{hint}");
        for more in ["", "static = false\n"] {
            let fixture = Fixture::new();
            fixture.write("images/app/program", &program);
            fixture.refuses_definitions(&[(&format!("[build]\noutput = \"program\"\n{more}"), &says)]);
        }
    }
    // A static program that can be anywhere in memory.
    let fixture = Fixture::new();
    fixture.write("images/app/server", with(16, &[3]));
    fixture.succeeds(&["image", "app"]);
}

#[test]
fn a_program_that_cannot_be_read_is_refused() {
    let fixture = Fixture::new();
    fixture.write("images/app/folder/file", "");
    fixture.refuses_definitions(&[
        (
            "[build]\noutput = \"sever\"\n",
            "error: image app: cannot read ROOT/images/app/sever: No such file or directory (os error 2)\n",
        ),
        (
            "[build]\noutput = \"folder\"\n",
            "error: image app: cannot read ROOT/images/app/folder: it is a directory, not a regular file\nhint: put a regular file, or a link to one, in its place\n",
        ),
    ]);
}

#[test]
fn dynamic_programs_and_scripts_are_taken_when_the_definition_says_so() {
    let fixture = Fixture::new();
    fixture.write("images/app/image.toml", format!("{PREBUILT}static = false\n"));
    for program in [Elf::DYNAMIC.bytes(), Elf::NEEDS_LIBRARY.bytes(), b"#!/bin/sh\n".to_vec()] {
        fixture.write("images/app/server", &program);
        fixture.succeeds(&["image"]);
        let entries = fixture.entries("app");
        let shipped = entries.iter().find(|(entry, _)| entry.path == b"app/server").unwrap();
        assert_eq!((shipped.0.mode, &shipped.1), (0o555, &program));
    }
    fixture.write("images/app/server", Elf::STATIC_ARM64.bytes());
    assert_eq!(
        fixture.refuses(&["image"]),
        "error: image app: ROOT/images/app/server is for arm64, not for linux/amd64\n\
         hint: the build command finds the platform asked for in TARGETARCH\n"
    );
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_program_of_these_tests_runs() {
    let fixture = Fixture::new();
    fixture.succeeds(&["image"]);
    let program = fixture.path("target/images/app/bin/amd64/server");
    assert_eq!(fs::read(&program).unwrap(), Elf::STATIC.bytes());
    system(program.to_str().unwrap(), &[]);
}

#[test]
fn a_build_command_that_fails_or_is_not_there_is_named() {
    let fixture = Fixture::new();
    fixture.refuses_definitions(&[
        (
            "[build]\ncommand = [\"sh\", \"-c\", \"echo to stdout; echo to stderr >&2; exit 3\"]\noutput = \"server\"\n",
            "     Running sh -c \"echo to stdout; echo to stderr >&2; exit 3\"\n\
             to stdout\n\
             to stderr\n\
             error: image app: the build command did not succeed: `sh -c \"echo to stdout; echo to stderr >&2; exit 3\"` failed (exit status: 3)\n",
        ),
        (
            "[build]\ncommand = [\"no-such-compiler\", \"x\"]\noutput = \"server\"\n",
            "     Running no-such-compiler x\n\
             error: image app: the build command did not succeed: `no-such-compiler` is not installed or not on PATH\n\
             hint: install no-such-compiler, or correct `command` under [build] in images/app/image.toml\n",
        ),
        (
            "[build]\ncommand = [\"./build.sh\"]\noutput = \"server\"\n",
            "     Running ./build.sh\n\
             error: image app: the build command did not succeed: `./build.sh` is not installed or not on PATH\n\
             hint: there is no ROOT/images/app/./build.sh: correct `command` under [build] in images/app/image.toml, whose paths begin in that folder\n",
        ),
        (
            "[build]\ncommand = [\"true\"]\noutput = \"forgotten\"\n",
            "     Running true\n\
             error: image app: cannot read ROOT/images/app/forgotten: No such file or directory (os error 2)\n",
        ),
    ]);
}

#[test]
fn a_build_script_that_cannot_be_started_gets_a_hint() {
    let fixture = Fixture::new();
    fixture.image("app", "[build]\ncommand = [\"./build.sh\"]\noutput = \"server\"\n");
    fixture.write("images/app/build.sh", "#!/no/such/interpreter\n");
    let script = fixture.path("images/app/build.sh");
    let says = fixture.refuses(&["image", "app"]);
    assert!(says.ends_with("\nhint: make it executable: chmod +x ROOT/images/app/./build.sh\n"), "{says}");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    let says = fixture.refuses(&["image", "app"]);
    let hint = "\nhint: install the interpreter that the first line of ./build.sh names\n";
    assert!(says.ends_with(hint), "{says}");
}

#[test]
fn an_image_whose_compiler_is_missing_is_left_out_and_the_others_are_built() {
    let fixture = Fixture::new();
    let command = |words: &str| format!("[build]\ncommand = [{words}]\noutput = \"server\"\n");
    fixture.image("direct", &command("\"no-such-compiler\""));
    fixture.image("shell", &command("\"sh\", \"-c\", \"no-such-compiler 2>/dev/null\""));
    let run = fixture.run(&["image", "--quiet", "direct", "shell", "app"]);
    let built = format!("app@{}\n", fixture.summary("app")["digest"].as_str().unwrap());
    assert_eq!((run.code, run.stdout), (Some(2), built));
    assert_eq!(
        run.stderr,
        "warning: left out: image direct: the build command did not succeed: `no-such-compiler` is not installed or not on PATH\n\
         warning: left out: image shell: the build command did not succeed: `sh -c \"no-such-compiler 2>/dev/null\"` failed (exit status: 127)\n\
         error: without direct, shell: a program that builds them is not installed\n\
         hint: the other images are built; install what is missing\n"
    );
    assert_eq!(
        fixture.refuses(&["image", "--quiet", "shell"]),
        "error: image shell: the build command did not succeed: `sh -c \"no-such-compiler 2>/dev/null\"` failed (exit status: 127)\n\
         hint: install the program that the build command did not find\n"
    );
}

#[test]
fn a_build_command_knows_the_platform_and_keeps_stdout_clean() {
    let fixture = Fixture::new();
    fixture.write("images/app/built/amd64", Elf::STATIC.bytes());
    fixture.write("images/app/built/arm64", Elf::STATIC_ARM64.bytes());
    fixture.write(
        "images/app/build.sh",
        "echo \"$TARGETPLATFORM $TARGETOS $TARGETARCH $SOURCE_DATE_EPOCH $PWD ${CARGO_PKG_NAME-unset}\"\n\
         cp built/$TARGETARCH out\n",
    );
    fixture.write(
        "images/app/image.toml",
        "platforms = [\"linux/arm64\", \"linux/amd64\"]\n[build]\ncommand = [\"sh\", \"build.sh\"]\noutput = \"out\"\n",
    );
    let mut command = fixture.command(&["image"]);
    // As `cargo xtask` sets it.
    command.env("CARGO_PKG_NAME", "xtask");
    let run = fixture.run_command(command);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let reference = format!("app@{}\n", fixture.summary("app")["digest"].as_str().unwrap());
    assert_eq!(run.stdout, reference);
    let begins = "     Running sh build.sh\n\
        linux/arm64 linux arm64 1700000000 ROOT/images/app unset\n     \
        Running sh build.sh\n\
        linux/amd64 linux amd64 1700000000 ROOT/images/app unset\n";
    assert_eq!(run.stderr.get(..begins.len()), Some(begins), "{}", run.stderr);
    for (architecture, program) in [("amd64", Elf::STATIC), ("arm64", Elf::STATIC_ARM64)] {
        let path = fixture.path(format!("target/images/app/bin/{architecture}/out"));
        assert_eq!(fs::read(path).unwrap(), program.bytes());
    }
}
