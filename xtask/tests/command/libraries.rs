//! `libs = "auto"`: the libraries of this host that go into an image, and the ones that cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{Elf, Fixture, is_root, left_out, system};

const AUTO: &str = "[build]\noutput = \"server\"\nlibs = \"auto\"\n";

/// An image of a program with these files beside its definition.
fn fixture(program: Elf, beside: &[(&str, Elf)]) -> Fixture {
    let fixture = Fixture::new();
    fixture.image("app", AUTO);
    fixture.write("images/app/server", program.bytes());
    for (name, file) in beside {
        fixture.write(format!("images/app/{name}"), file.bytes());
    }
    fixture
}

#[test]
fn a_dynamic_program_runs_from_its_image_alone() {
    let fixture = fixture(Elf::STATIC, &[]);
    // It is dynamic, and needs more than libc.
    fs::copy(env!("CARGO_BIN_EXE_xtask"), fixture.path("images/app/server")).unwrap();
    let built = fixture.succeeds(&["image"]);
    let layers = fixture.summary("app")["platforms"][0]["layers"].clone();
    let names: Vec<_> =
        layers.as_array().unwrap().iter().map(|layer| layer["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["base", "libraries", "application"]);
    assert_eq!(fixture.succeeds(&["image"]), built);

    let unpacked = fixture.path("unpacked");
    fs::create_dir(&unpacked).unwrap();
    for (entry, content) in fixture.entries("app") {
        let path = unpacked.join(String::from_utf8(entry.path).unwrap());
        match entry.kind {
            'd' => fs::create_dir_all(path).unwrap(),
            _ => {
                fs::write(&path, content).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(entry.mode)).unwrap();
            }
        }
    }
    if is_root() {
        system("chroot", &[unpacked.as_os_str(), "/app/server".as_ref(), "--help".as_ref()]);
    } else {
        left_out("a program in a root file system of its own");
    }
}

#[test]
fn libraries_are_found_beside_the_program_and_through_others() {
    let fixture = fixture(Elf::OWN_LIBRARY, &[("lib/libown.so.7", Elf::NEEDS_LIBC)]);
    fixture.succeeds(&["image"]);
    let loader = Path::new("/lib64/ld-linux-x86-64.so.2");
    let folder = loader.canonicalize().unwrap().parent().unwrap().strip_prefix("/").unwrap().to_owned();
    let of_folder = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let found: Vec<_> = fixture
        .entries("app")
        .into_iter()
        .filter(|(entry, _)| {
            entry.path.windows(3).any(|part| part == b".so") || entry.path.ends_with(b".conf")
        })
        .map(|(entry, content)| (String::from_utf8(entry.path).unwrap(), entry.kind, entry.mode, content))
        .collect();
    let nsswitch = "passwd: files\ngroup: files\nhosts: files dns\n";
    let libc = Path::new("/").join(of_folder("libc.so.6"));
    let mut expected = vec![
        ("etc/nsswitch.conf".to_owned(), '-', 0o644, nsswitch.as_bytes().to_vec()),
        ("lib64/ld-linux-x86-64.so.2".to_owned(), '-', 0o755, fs::read(loader).unwrap()),
        (of_folder("libc.so.6"), '-', 0o644, fs::read(libc).unwrap()),
        (of_folder("libown.so.7"), '-', 0o644, Elf::NEEDS_LIBC.bytes()),
    ];
    expected.sort();
    assert!(found == expected, "{:?}", found.iter().map(|it| (&it.0, it.1, it.2)).collect::<Vec<_>>());
}

#[test]
fn a_library_that_is_missing_damaged_or_for_another_processor_is_named() {
    let hint = "hint: install the library; a folder of its own has to be named in /etc/ld.so.conf\n";
    let missing = format!(
        "error: image app: ROOT/images/app/server needs libown.so.7, which this host does not have\n{hint}"
    );
    assert_eq!(fixture(Elf::OWN_LIBRARY, &[]).refuses(&["image"]), missing);
    let other = fixture(Elf::OWN_LIBRARY, &[("lib/libown.so.7", Elf::STATIC_ARM64)]);
    assert_eq!(other.refuses(&["image"]), missing);

    let indirect = fixture(Elf::OWN_LIBRARY, &[("lib/libown.so.7", Elf::NEEDS_NOTHING_KNOWN)]);
    assert_eq!(
        indirect.refuses(&["image"]),
        format!(
            "error: image app: ROOT/images/app/lib/libown.so.7 needs libnowhere.so.3, which this host does not have\n{hint}"
        )
    );

    let damaged = fixture(Elf::OWN_LIBRARY, &[]);
    damaged.write("images/app/lib/libown.so.7", "no library");
    assert_eq!(
        damaged.refuses(&["image"]),
        "error: image app: ROOT/images/app/server needs libown.so.7: ROOT/images/app/lib/libown.so.7: not an ELF file\n\
         hint: install it again, or remove that file\n"
    );
}

#[test]
fn programs_with_other_loaders_and_other_platforms_are_refused() {
    let hint = "hint: link it statically, or bring its libraries along in [[layers]], with `static = false` instead\n";
    for (program, has) in [(Elf::DYNAMIC, "/lib/ld-musl-x86_64.so.1"), (Elf::NEEDS_LIBRARY, "no interpreter")]
    {
        assert_eq!(
            fixture(program, &[]).refuses(&["image"]),
            format!(
                "error: image app: `libs = \"auto\"` is for programs with glibc's loader; ROOT/images/app/server has {has}\n{hint}"
            )
        );
    }
    let arm = fixture(Elf::STATIC_ARM64, &[]);
    arm.write("images/app/image.toml", format!("{AUTO}command = [\"touch\", \"ran\"]\n"));
    assert_eq!(
        arm.refuses(&["image", "--platform", "linux/arm64"]),
        "error: image app: `libs = \"auto\"` takes the libraries of this host, which is linux/amd64, not linux/arm64\n\
         hint: build on a host of that platform, or bring the libraries along in [[layers]], with `static = false` instead\n"
    );
    assert!(!arm.path("images/app/ran").exists());
}

#[test]
fn a_static_program_has_no_layer_of_libraries() {
    let fixture = fixture(Elf::STATIC, &[]);
    let dry = fixture.succeeds(&["image", "--dry-run"]);
    assert!(dry.contains("\nlayer libraries: what the built program needs of this host\n"), "{dry}");
    fixture.succeeds(&["image"]);
    let layers = fixture.summary("app")["platforms"][0]["layers"].as_array().unwrap().len();
    assert_eq!(layers, 2);
}
