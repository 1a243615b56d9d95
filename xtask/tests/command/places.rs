//! Places that cannot be written: what is there stays whole, and the message says what to do.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Fixture, PREBUILT, files, is_root, left_out, noise, system};

/// A file system in memory, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(dir: &Path, options: &str) -> Self {
        fs::create_dir_all(dir).unwrap();
        let words = ["-t", "tmpfs", "-o", options, "tare-test"].map(OsStr::new);
        system("mount", &[&words[..], &[dir.as_os_str()]].concat());
        Self(dir.to_path_buf())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, so that it goes also when something still looks at it. The panic of a failed
        // test is worth more than one from here.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// An image with a file of this many bytes that do not compress.
fn image_with(fixture: &Fixture, bytes: usize) {
    fixture.write("images/app/data", noise(bytes as u64, bytes));
    let layer = "[[layers]]\nname = \"data\"\nentries = [{ file = \"/data\" }]\n";
    fixture.write("images/app/image.toml", format!("{PREBUILT}{layer}"));
}

#[test]
fn a_full_disk_leaves_the_earlier_image_whole() {
    if !is_root() {
        return left_out("a full disk");
    }
    let fixture = Fixture::new();
    let out = fixture.path("out");
    let _mount = Mount::new(&out, "size=2m");
    let arguments = ["image", "app", "--output", "out"];

    image_with(&fixture, 3 << 20);
    let says = "error: cannot write ROOT/out/app/app.tar: No space left on device (os error 28)\n\
        hint: free some space; what was there before is unchanged\n";
    assert_eq!(fixture.refuses(&arguments), says);
    let nothing_finished = ["app/", "app/bin/", "app/bin/amd64/"];
    assert_eq!(files(&out).into_keys().collect::<Vec<_>>(), nothing_finished);

    image_with(&fixture, 200 << 10);
    fixture.succeeds(&arguments);
    let good = files(&out);
    // The archive does not fit, and then the archive does but the layout not.
    for bytes in [3 << 20, 900 << 10] {
        image_with(&fixture, bytes);
        let says = fixture.refuses(&arguments);
        assert!(says.ends_with("No space left on device (os error 28)\nhint: free some space; what was there before is unchanged\n"), "{says}");
        // A blob that no index names yet may have found its place.
        let mut left = files(&out);
        left.retain(|path, _| good.contains_key(path) || !path.starts_with("app/layout/blobs/sha256/"));
        assert_eq!(left, good, "{says}");
        for image in ["out/app/layout", "out/app/app.tar"] {
            assert_eq!(fixture.validate(image).0, Some(0));
        }
    }
}

#[test]
fn a_full_disk_below_target_is_named_too() {
    if !is_root() {
        return left_out("a full disk");
    }
    let fixture = Fixture::new();
    let _mount = Mount::new(&fixture.path("target"), "size=1m");
    image_with(&fixture, 3 << 20);
    let says = fixture.refuses(&["image", "app"]);
    // Layers are written at the same time, so any of them may be the one that no longer fits.
    let begins = ["base", "application", "data"].into_iter().flat_map(|layer| {
        ["create", "write"].map(|done| {
            format!("error: image app: layer {layer}: cannot {done} ROOT/target/images/.cache/staging/app/")
        })
    });
    assert!(begins.into_iter().any(|begin| says.starts_with(&begin)), "{says}");
    assert!(says.ends_with("\nhint: free some space; what was there before is unchanged\n"), "{says}");
}

#[test]
fn a_place_that_must_not_be_written_is_named() {
    let fixture = Fixture::new();
    let hint = "hint: write elsewhere: `--output FOLDER` for the image, CARGO_TARGET_DIR for everything\n";
    let (_mount, why) = if is_root() {
        // Permissions do not stop root.
        (Some(Mount::new(&fixture.path("target"), "ro")), "Read-only file system (os error 30)")
    } else {
        fs::create_dir(fixture.path("target")).unwrap();
        fs::set_permissions(fixture.path("target"), fs::Permissions::from_mode(0o555)).unwrap();
        (None, "Permission denied (os error 13)")
    };
    assert_eq!(
        fixture.refuses(&["image", "app"]),
        format!("error: cannot create ROOT/target/images/.cache: {why}\n{hint}")
    );
}

#[test]
fn a_file_in_the_way_of_a_folder_is_named() {
    let fixture = Fixture::new();
    fixture.write("out", "a file");
    assert_eq!(
        fixture.refuses(&["image", "app", "--output", "out"]),
        "error: cannot create ROOT/out/app/.staging: Not a directory (os error 20)\n"
    );
    assert_eq!(fs::read(fixture.path("out")).unwrap(), b"a file");
}
