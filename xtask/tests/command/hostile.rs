//! Images and definitions that would hang their reader, show a file of the host, or be two images at once.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
use tare_oci::digest::Digest;

use crate::inspect::{Layout, built, problems};
use crate::support::{Fixture, PREBUILT, system};

const SECRET: &str = "root:$6$hunter2:19000:0:99999:7:::\n";

const REGULAR: &str = "hint: put a regular file, or a link to one, in its place\n";
const COPY: &str = "hint: replace the link by a copy of the file that it leads to\n";
const DAMAGED: &str = "hint: fetch or build the image again\n";
const CONTRADICTION: &str = "hint: other programs may take it for another image (CVE-2021-41190): do not use it, and build it again\n";

/// The blobs that every command reads.
const BLOBS: [fn(&Layout) -> &Value; 3] = [Layout::manifest_digest, Layout::config_digest, Layout::layer];

fn fifo(path: &Path) {
    let _ = fs::remove_file(path);
    system("mkfifo", &[path.as_os_str()]);
}

fn link(target: impl AsRef<Path>, path: &Path) {
    let _ = fs::remove_file(path);
    symlink(target, path).unwrap();
}

fn folder(path: &Path) {
    let _ = fs::remove_file(path);
    fs::create_dir(path).unwrap();
}

type Replace = fn(&Path);
const NOT_REGULAR: [(Replace, &str); 4] = [
    (fifo, "FIFO"),
    (|path| link("/dev/zero", path), "device"),
    (folder, "directory"),
    (
        |path| {
            let _ = fs::remove_file(path);
            // The path of a socket has at most 107 bytes.
            let short = tempfile::tempdir().unwrap();
            drop(std::os::unix::net::UnixListener::bind(short.path().join("s")).unwrap());
            fs::rename(short.path().join("s"), path).unwrap();
        },
        "socket",
    ),
];

#[test]
fn what_is_no_regular_file_is_refused_at_once_in_a_layout() {
    let shown = "ROOT/target/images/app/layout";
    for (replace, kind) in NOT_REGULAR {
        // A device is a link out of the layout.
        let (why, hint) = match kind {
            "device" => (format!("it is a link out of {shown}"), COPY),
            kind => (format!("it is a {kind}, not a regular file"), REGULAR),
        };
        for which in BLOBS {
            let (fixture, layout) = built();
            let place = layout.place(which(&layout));
            replace(&layout.blob(which(&layout)));
            let error = format!("cannot read {shown}/{place}: {why}");
            assert_eq!(fixture.refuses(&["inspect", "app"]), format!("error: {error}\n{hint}"));
            assert_eq!(problems(&fixture), [format!("{place}: {error}")]);
        }
        for name in ["index.json", "oci-layout"] {
            let (fixture, layout) = built();
            replace(&layout.dir.join(name));
            let error = format!("cannot read {shown}/{name}: {why}");
            if name == "index.json" {
                assert_eq!(fixture.refuses(&["inspect", "app"]), format!("error: {error}\n{hint}"));
            }
            assert_eq!(problems(&fixture), [format!("{name}: {error}")]);
        }
    }
}

#[test]
fn what_is_no_regular_file_is_refused_at_once_as_archive_definition_or_content() {
    let fixture = Fixture::new();
    for (replace, kind) in NOT_REGULAR {
        let why = format!("it is a {kind}, not a regular file");
        // A folder is looked into for a layout.
        if kind != "directory" {
            replace(&fixture.path("archive.tar"));
            let error = format!("error: cannot read ROOT/archive.tar: {why}\n{REGULAR}");
            assert_eq!(fixture.refuses(&["inspect", "archive.tar"]), error);
            assert_eq!(fixture.refuses(&["inspect", "archive.tar", "--validate"]), error);
        }
        let definition = fixture.path(format!("images/{kind}/image.toml"));
        fs::create_dir_all(definition.parent().unwrap()).unwrap();
        replace(&definition);
        let (why, hint) = match kind {
            "device" => ("it is a link out of ROOT".to_owned(), COPY),
            _ => (why, REGULAR),
        };
        let error = format!("error: cannot read images/{kind}/image.toml: {why}\n{hint}");
        assert_eq!(fixture.refuses(&["image", kind]), error);

        fixture.image("app", PREBUILT);
        replace(&fixture.path("images/app/server"));
        let says = fixture.refuses(&["image", "app"]);
        assert!(says.contains(&format!("{why}\n{hint}")), "{says}");
        let _ = fs::remove_file(fixture.path("images/app/server"));
        let _ = fs::remove_dir(fixture.path("images/app/server"));
    }
    // All of them are listed, and none is waited for.
    let listed = fixture.succeeds(&["list"]);
    assert_eq!(listed.lines().filter(|line| line.contains("not built")).count(), 5, "{listed}");
}

#[test]
fn a_fifo_in_the_layer_cache_is_written_anew() {
    let fixture = Fixture::new();
    let first = fixture.succeeds(&["image", "app"]);
    for extension in ["blob", "json"] {
        for entry in fs::read_dir(fixture.path("target/images/.cache/layers")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|it| it == extension) {
                fifo(&path);
            }
        }
        assert_eq!(fixture.succeeds(&["image", "app"]), first);
        assert_eq!(fixture.validate("app").0, Some(0));
    }
}

#[test]
fn a_link_out_of_a_layout_is_refused_and_its_file_not_shown() {
    let shown = "ROOT/target/images/app/layout";
    let why = format!("it is a link out of {shown}");
    for which in BLOBS {
        let (fixture, layout) = built();
        let secret = fixture.outside().join("secret");
        fs::write(&secret, SECRET).unwrap();
        let place = layout.place(which(&layout));
        for target in [secret.as_path(), Path::new("../../../../../../../secret")] {
            link(target, &layout.blob(which(&layout)));
            let error = format!("cannot read {shown}/{place}: {why}");
            assert_eq!(fixture.refuses(&["inspect", "app"]), format!("error: {error}\n{COPY}"));
            assert_eq!(problems(&fixture), [format!("{place}: {error}")]);
        }
    }
    let (fixture, layout) = built();
    fs::write(fixture.outside().join("secret"), SECRET).unwrap();
    link(fixture.outside().join("secret"), &layout.dir.join("index.json"));
    let error = format!("cannot read {shown}/index.json: {why}");
    assert_eq!(fixture.refuses(&["inspect", "app"]), format!("error: {error}\n{COPY}"));
}

#[test]
fn a_link_inside_a_layout_is_followed() {
    let (fixture, layout) = built();
    for which in BLOBS {
        let blob = layout.blob(which(&layout));
        let name = blob.file_name().unwrap().to_str().unwrap().to_owned();
        fs::create_dir_all(layout.dir.join("store")).unwrap();
        fs::rename(&blob, layout.dir.join("store").join(&name)).unwrap();
        symlink(format!("../../store/{name}"), &blob).unwrap();
    }
    let verdict = "valid: 4 blobs, 2 layers, 14 files and directories checked\n";
    assert_eq!(fixture.validate("app"), (Some(0), verdict.to_owned()));
    assert!(fixture.succeeds(&["inspect", "app"]).contains("/app/server"));
}

#[test]
fn a_blob_of_another_digest_or_size_is_said_to_be_damaged_before_it_is_parsed() {
    for which in BLOBS {
        let (fixture, layout) = built();
        let (place, blob) = (layout.place(which(&layout)), layout.blob(which(&layout)));
        let size = fs::metadata(&blob).unwrap().len() as usize;
        let mut other = SECRET.repeat(size / SECRET.len() + 1).into_bytes();
        for length in [size, SECRET.len()] {
            other.truncate(length);
            fs::remove_file(&blob).unwrap();
            fs::write(&blob, &other).unwrap();
            let what = match length == size {
                true => format!("its digest is {}", Digest::of(&other)),
                false => format!("it has {length} bytes, its descriptor says {size}"),
            };
            let error = format!("error: {place} is damaged: {what}\n{DAMAGED}");
            assert_eq!(fixture.refuses(&["inspect", "app"]), error);
            assert_eq!(problems(&fixture), [format!("{place}: {what}")]);
        }
    }
}

#[test]
fn an_error_shows_nothing_of_a_document_or_a_layer() {
    let understood = "cannot be understood";
    for (text, why) in [
        (SECRET.to_owned(), "expected value at line 1 column 1"),
        (json!(SECRET).to_string(), "invalid type: string, expected struct ImageIndex"),
        (
            json!({ "schemaVersion": 2, "manifests": SECRET }).to_string(),
            "invalid type: string, expected a sequence",
        ),
        (
            json!({ "schemaVersion": 2, "manifests": [{ "digest": SECRET, "mediaType": "", "size": 1 }] })
                .to_string(),
            "a value of another form",
        ),
    ] {
        let (fixture, layout) = built();
        fs::write(layout.dir.join("index.json"), text).unwrap();
        let error = format!("index.json {understood}: {why}");
        assert_eq!(fixture.refuses(&["inspect", "app"]), format!("error: {error}\n"));
        assert_eq!(problems(&fixture), [format!("index.json: {error}")]);
    }
    // A layer whose digests are right, and which is no tar.
    let (fixture, layout) = built();
    let layout = layout.with_layer(SECRET.repeat(40).as_bytes());
    let place = layout.place(layout.layer());
    let error = format!("layer {place} cannot be read: a tar header is damaged: its checksum is wrong");
    assert_eq!(fixture.refuses(&["inspect", "app"]), format!("error: {error}\n"));
    assert_eq!(problems(&fixture), [format!("{place}: {error}")]);
    // The second header of an archive: the first one decides whether it is an archive at all.
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    archive.append_data(&mut header, "index.json", &b""[..]).unwrap();
    let mut archive = archive.into_inner().unwrap();
    archive.truncate(512);
    archive.extend_from_slice(SECRET.repeat(40).as_bytes());
    fixture.write("second.tar", archive);
    let error = "error: cannot read ROOT/second.tar: a tar header is damaged: its checksum is wrong\n";
    assert_eq!(fixture.refuses(&["inspect", "second.tar"]), error);
}

#[test]
fn a_definition_that_is_a_link_out_of_the_workspace_is_refused() {
    let fixture = Fixture::new();
    // Of a form that an error about it would quote.
    fs::write(fixture.outside().join("secret"), "[registry]\ntoken = \"hunter2\"\n").unwrap();
    link("../../../secret", &fixture.path("images/app/image.toml"));
    let error = format!("error: cannot read images/app/image.toml: it is a link out of ROOT\n{COPY}");
    assert_eq!(fixture.refuses(&["image", "app"]), error);
    // A link inside is followed.
    fixture.write("shared/image.toml", PREBUILT);
    link("../../shared/image.toml", &fixture.path("images/app/image.toml"));
    fixture.succeeds(&["image", "app"]);
}

#[test]
fn a_definition_alone_reads_no_program_outside_the_workspace() {
    let fixture = Fixture::new();
    let secret = fixture.outside().join("secret");
    fs::write(&secret, SECRET).unwrap();
    let definition = |output: &str| format!("[build]\noutput = \"{output}\"\nstatic = false\n");
    fixture.image("app", &definition("server"));
    link(&secret, &fixture.path("images/app/server"));
    let outputs = ["server".to_owned(), "../../../secret".to_owned(), secret.display().to_string()];
    for output in outputs {
        fixture.write("images/app/image.toml", definition(&output));
        let says = fixture.refuses(&["image", "app"]);
        assert!(says.contains("it is a link out of ROOT\n"), "{output}: {says}");
        assert!(!fixture.path("target/images/app").exists());
    }
    // A command may leave its program where it likes.
    let script =
        format!("[build]\ncommand = [\"true\"]\noutput = \"{}\"\nstatic = false\n", secret.display());
    fixture.write("images/app/image.toml", script);
    fixture.succeeds(&["image", "app"]);
}

#[test]
fn a_lock_that_is_no_regular_file_is_refused_at_once() {
    let fixture = Fixture::new();
    fixture.image("app", PREBUILT);
    fixture.succeeds(&["image", "app"]);
    let lock = fixture.path("target/images/.cache/locks/app");
    let elsewhere = fixture.outside().join("made");
    for (replace, kind) in NOT_REGULAR.into_iter().filter(|(_, kind)| *kind != "device") {
        replace(&lock);
        let error = format!(
            "error: image app: cannot open ROOT/target/images/.cache/locks/app: it is a {kind}, not a regular file\n"
        );
        let says = fixture.refuses(&["image", "app"]);
        assert!(says.contains(error.trim_start_matches("error: image app: ").trim_end()), "{says}");
        let _ = fs::remove_dir(&lock);
    }
    link(&elsewhere, &lock);
    let says = fixture.refuses(&["image", "app"]);
    assert!(says.contains("it is a link, not a regular file"), "{says}");
    assert!(!elsewhere.exists());
}

#[test]
fn a_document_that_is_manifest_and_index_at_once_is_refused() {
    type Change = fn(&mut Layout);
    let of_manifest: [(Change, &str); 6] = [
        (|it| it.manifest["manifests"] = json!([]), "it is a manifest with the field `manifests`"),
        (|it| it.manifest["Manifests"] = json!([]), "it is a manifest with the field `manifests`"),
        (|it| it.manifest["fsLayers"] = json!([]), "it is a manifest with the field `fsLayers`"),
        (|it| it.manifest["Layers"] = json!([]), "a key stands twice, or in two cases"),
        (
            |it| it.manifest["mediaType"] = json!("application/vnd.oci.image.index.v1+json"),
            "mediaType is `application/vnd.oci.image.index.v1+json` instead of `application/vnd.oci.image.manifest.v1+json`",
        ),
        (
            |it| it.index["manifests"][0]["mediaType"] = json!("application/vnd.oci.image.index.v1+json"),
            "it is an index with the field `config`",
        ),
    ];
    for (change, what) in of_manifest {
        let (fixture, mut layout) = built();
        change(&mut layout);
        let layout = layout.write();
        let place = layout_manifest(&layout);
        refused_everywhere(&fixture, &place, what);
    }
    let of_index: [(Change, &str); 3] = [
        (|it| it.index["layers"] = json!([]), "it is an index with the field `layers`"),
        (|it| it.index["config"] = json!({}), "it is an index with the field `config`"),
        (
            |it| it.index["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json"),
            "mediaType is `application/vnd.oci.image.manifest.v1+json` instead of `application/vnd.oci.image.index.v1+json`",
        ),
    ];
    for (change, what) in of_index {
        let (fixture, mut layout) = built();
        change(&mut layout);
        layout.write_index();
        refused_everywhere(&fixture, "index.json", what);
    }
    // What Go writes of an absent list is no list.
    let (fixture, mut layout) = built();
    layout.manifest["manifests"] = Value::Null;
    layout.write();
    assert_eq!(fixture.validate("app").0, Some(0));
}

/// The path of the manifest as it was written last.
fn layout_manifest(layout: &Layout) -> String {
    let index: Value = serde_json::from_slice(&fs::read(layout.dir.join("index.json")).unwrap()).unwrap();
    layout.place(&index["manifests"][0]["digest"])
}

fn refused_everywhere(fixture: &Fixture, place: &str, what: &str) {
    let error = format!("error: {place} contradicts itself: {what}\n{CONTRADICTION}");
    assert_eq!(fixture.refuses(&["inspect", "app"]), error);
    assert_eq!(problems(fixture), [format!("{place}: {what}")]);
    system(
        "tar",
        &[
            "-C".as_ref(),
            fixture.layout("app").as_os_str(),
            "-cf".as_ref(),
            fixture.path("a.tar").as_os_str(),
            ".".as_ref(),
        ],
    );
    assert_eq!(fixture.refuses(&["inspect", "a.tar"]), error);
}
