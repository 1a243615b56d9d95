//! `inspect` shows any image, and with `--validate` finds everything that is wrong with one.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tare_oci::digest::Digest;

use crate::support::{Elf, Fixture, PREBUILT, blob, system};

/// A layout that is taken apart and put together again, with every digest and size above a change
/// made right. What is to be wrong is made wrong after that.
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
    pub(crate) config: Value,
    pub(crate) manifest: Value,
    pub(crate) index: Value,
}

fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

impl Layout {
    fn of(fixture: &Fixture) -> Self {
        let dir = fixture.layout("app");
        let index = read(dir.join("index.json"));
        let manifest = read(blob(&dir, &index["manifests"][0]["digest"]));
        let config = read(blob(&dir, &manifest["config"]["digest"]));
        Self { dir, config, manifest, index }
    }

    fn put(&self, bytes: &[u8]) -> (Value, Value) {
        let digest = json!(Digest::of(bytes));
        let path = blob(&self.dir, &digest);
        // A blob may be one file with the cache's, which is not to change.
        let _ = fs::remove_file(&path);
        fs::write(path, bytes).unwrap();
        (digest, json!(bytes.len()))
    }

    /// Writes config, manifest and index with the digests that they then have.
    pub(crate) fn write(mut self) -> Self {
        let (digest, size) = self.put(self.config.to_string().as_bytes());
        (self.manifest["config"]["digest"], self.manifest["config"]["size"]) = (digest, size);
        let (digest, size) = self.put(self.manifest.to_string().as_bytes());
        (self.index["manifests"][0]["digest"], self.index["manifests"][0]["size"]) = (digest, size);
        self.write_index()
    }

    pub(crate) fn write_index(self) -> Self {
        fs::write(self.dir.join("index.json"), self.index.to_string()).unwrap();
        self
    }

    /// Replaces the last layer by an uncompressed tar.
    pub(crate) fn with_layer(mut self, tar: &[u8]) -> Self {
        let (digest, size) = self.put(tar);
        let last = self.manifest["layers"].as_array().unwrap().len() - 1;
        self.config["rootfs"]["diff_ids"][last] = digest.clone();
        let media_type = "application/vnd.oci.image.layer.v1.tar";
        self.manifest["layers"][last] = json!({ "mediaType": media_type, "digest": digest, "size": size });
        self.write()
    }

    pub(crate) fn blob(&self, digest: &Value) -> PathBuf {
        blob(&self.dir, digest)
    }

    /// A blob's path as it stands in messages.
    pub(crate) fn place(&self, digest: &Value) -> String {
        let path = self.blob(digest);
        path.strip_prefix(&self.dir).unwrap().display().to_string()
    }

    pub(crate) fn layer(&self) -> &Value {
        &self.manifest["layers"][1]["digest"]
    }

    pub(crate) fn config_digest(&self) -> &Value {
        &self.manifest["config"]["digest"]
    }

    pub(crate) fn manifest_digest(&self) -> &Value {
        &self.index["manifests"][0]["digest"]
    }

    fn flip(&self, digest: &Value, at: usize) {
        let path = self.blob(digest);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn digest_of(&self, digest: &Value) -> Digest {
        Digest::of(&fs::read(self.blob(digest)).unwrap())
    }
}

/// A tar with these files.
pub(crate) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        // Not by the crate's own function, which refuses the paths that are to be found here.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

pub(crate) fn built() -> (Fixture, Layout) {
    let fixture = Fixture::new();
    fixture.succeeds(&["image", "app", "--compression", "none"]);
    let layout = Layout::of(&fixture);
    (fixture, layout)
}

/// The problems that `--validate` names, which must be some.
pub(crate) fn problems(fixture: &Fixture) -> Vec<String> {
    let (code, says) = fixture.validate("app");
    assert_eq!(code, Some(1), "{says}");
    let mut lines: Vec<String> = says.lines().map(str::to_owned).collect();
    let verdict = lines.pop().unwrap();
    lines.retain(|line| !line.starts_with("note: "));
    let count = lines.len();
    let expected = if count == 1 { "1 problem: ".to_owned() } else { format!("{count} problems: ") };
    assert!(verdict.starts_with(&expected), "{verdict}");
    lines
}

#[test]
fn a_good_image_is_valid_as_layout_archive_and_name() {
    let (fixture, _) = built();
    let verdict = "valid: 4 blobs, 2 layers, 14 files and directories checked\n";
    for image in ["app", "target/images/app/layout", "target/images/app/app.tar"] {
        assert_eq!(fixture.validate(image), (Some(0), verdict.to_owned()), "{image}");
    }
    let json = fixture.succeeds(&["inspect", "--validate", "--json", "app"]);
    let expected = json!({ "blobs": 4, "layers": 2, "entries": 14, "problems": [], "notes": [] });
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), expected);
}

#[test]
fn a_flipped_bit_in_a_layer_is_found() {
    let (fixture, layout) = built();
    let size = fs::metadata(layout.blob(layout.layer())).unwrap().len() as usize;
    // Behind the end marker, where no entry changes.
    layout.flip(layout.layer(), size - 1);
    let (place, digest) = (layout.place(layout.layer()), layout.digest_of(layout.layer()));
    assert_eq!(problems(&fixture), [format!("{place}: its digest is {digest}")]);
}

#[test]
fn a_flipped_bit_in_a_compressed_layer_is_found() {
    let fixture = Fixture::new();
    fixture.succeeds(&["image", "app"]);
    let layout = Layout::of(&fixture);
    layout.flip(layout.layer(), 40);
    let (place, digest) = (layout.place(layout.layer()), layout.digest_of(layout.layer()));
    assert_eq!(problems(&fixture), [format!("{place}: its digest is {digest}")]);
}

#[test]
fn a_flipped_bit_in_a_config_or_manifest_is_found() {
    let (fixture, layout) = built();
    let bytes = fs::read(layout.blob(layout.config_digest())).unwrap();
    let at = bytes.windows(6).position(|window| window == b"65534:").unwrap();
    layout.flip(layout.config_digest(), at);
    let (place, digest) = (layout.place(layout.config_digest()), layout.digest_of(layout.config_digest()));
    assert_eq!(problems(&fixture), [format!("{place}: its digest is {digest}")]);

    let (fixture, layout) = built();
    layout.flip(layout.manifest_digest(), 0);
    let (place, digest) =
        (layout.place(layout.manifest_digest()), layout.digest_of(layout.manifest_digest()));
    assert_eq!(problems(&fixture), [format!("{place}: its digest is {digest}")]);
}

#[test]
fn a_layer_by_sha512_is_checked() {
    let (fixture, mut layout) = built();
    let old = layout.blob(layout.layer());
    let output = std::process::Command::new("sha512sum").arg(&old).output().unwrap();
    let hex = String::from_utf8(output.stdout).unwrap()[..128].to_owned();
    let new = layout.dir.join("blobs/sha512").join(&hex);
    fs::create_dir(new.parent().unwrap()).unwrap();
    fs::rename(old, &new).unwrap();
    layout.manifest["layers"][1]["digest"] = json!(format!("sha512:{hex}"));
    layout.write();
    let verdict = "valid: 4 blobs, 2 layers, 14 files and directories checked\n";
    assert_eq!(fixture.validate("app"), (Some(0), verdict.to_owned()));

    let mut bytes = fs::read(&new).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    // It may be one file with the cache's, which is not to change.
    fs::remove_file(&new).unwrap();
    fs::write(&new, bytes).unwrap();
    let begins = format!("blobs/sha512/{hex}: its digest is sha512:");
    let found = problems(&fixture);
    assert!(found.len() == 1 && found[0].starts_with(&begins), "{found:?}");
}

#[test]
fn a_wrong_size_in_a_descriptor_is_found() {
    let (fixture, mut layout) = built();
    let size = layout.manifest["layers"][1]["size"].as_u64().unwrap();
    layout.manifest["layers"][1]["size"] = json!(size + 1);
    layout.manifest["config"]["size"] = json!(1);
    let config_size = layout.config.to_string().len();
    layout = layout.write();
    // `write` has made the config's size right again.
    let place = layout.place(layout.layer());
    let expected = format!("{place}: it has {size} bytes, its descriptor says {}", size + 1);
    assert_eq!(problems(&fixture), [expected]);

    let (fixture, mut layout) = built();
    let size = layout.index["manifests"][0]["size"].as_u64().unwrap();
    layout.index["manifests"][0]["size"] = json!(size - 1);
    layout = layout.write_index();
    let place = layout.place(layout.manifest_digest());
    let expected = format!("{place}: it has {size} bytes, its descriptor says {}", size - 1);
    assert_eq!(problems(&fixture), [expected]);
    assert!(config_size > 1);
}

#[test]
fn a_missing_blob_is_found() {
    for which in [Layout::layer, Layout::config_digest, Layout::manifest_digest] {
        let (fixture, layout) = built();
        let digest = which(&layout);
        let place = layout.place(digest);
        fs::remove_file(layout.blob(digest)).unwrap();
        let expected = format!("{place}: {place} is missing from ROOT/target/images/app/layout");
        let found = problems(&fixture);
        assert!(found.contains(&expected), "{found:?}");
    }
}

#[test]
fn a_wrong_diff_id_is_found() {
    let (fixture, mut layout) = built();
    let right = layout.config["rootfs"]["diff_ids"][1].as_str().unwrap().to_owned();
    let wrong = layout.config["rootfs"]["diff_ids"][0].as_str().unwrap().to_owned();
    layout.config["rootfs"]["diff_ids"][1] = json!(wrong);
    layout = layout.write();
    let place = layout.place(layout.layer());
    assert_eq!(problems(&fixture), [format!("{place}: its diff id is {right}, the config says {wrong}")]);
}

#[test]
fn a_config_that_contradicts_the_manifest_or_the_spec_is_found() {
    type Change = fn(&mut Layout);
    let table: [(Change, &str); 6] = [
        (
            |layout| drop(layout.config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop()),
            "1 diff ids for 2 layers",
        ),
        (
            |layout| drop(layout.config["history"].as_array_mut().unwrap().pop()),
            "history tells of 1 layers, there are 2",
        ),
        (|layout| layout.config["created"] = json!("yesterday"), "created `yesterday` is not RFC 3339"),
        (|layout| layout.config["config"]["Env"] = json!(["PATH"]), "Env `PATH` is not NAME=VALUE"),
        (
            |layout| layout.config["config"]["ExposedPorts"] = json!({ "http": {} }),
            "ExposedPorts `http` is not PORT[/tcp|/udp]",
        ),
        (
            |layout| layout.config["rootfs"]["type"] = json!("tree"),
            "rootfs.type is `tree` instead of `layers`",
        ),
    ];
    for (change, says) in table {
        let (fixture, mut layout) = built();
        change(&mut layout);
        layout = layout.write();
        let place = layout.place(layout.config_digest());
        let found = problems(&fixture);
        assert_eq!(found[0], format!("{place}: {says}"));
    }
    let (fixture, mut layout) = built();
    layout.config["architecture"] = json!("arm64");
    layout = layout.write();
    let place = layout.place(layout.manifest_digest());
    let expected = format!("{place}: the index says linux/amd64, the config says linux/arm64");
    assert_eq!(problems(&fixture), [expected]);
}

#[test]
fn a_path_that_stands_twice_or_escapes_is_found() {
    for (files, path, says) in [
        (&[("a", &b"1"[..]), ("a", b"2")][..], "a", "the path stands twice in one layer"),
        (&[("a", b"1"), ("./a", b"2")], "./a", "the path stands twice in one layer"),
        (&[("b/../../a", b"1")], "b/../../a", "the path has a `..` component"),
    ] {
        let (fixture, layout) = built();
        let layout = layout.with_layer(&tar_of(files));
        let place = layout.place(layout.layer());
        assert_eq!(problems(&fixture), [format!("{place}: {path}: {says}")]);
    }
}

/// A header of a type that has no content of its own in these tests.
fn header(kind: tar::EntryType, path: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path(path).unwrap();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

#[test]
fn a_sparse_file_as_long_as_it_likes_holds_nobody_up() {
    let (fixture, layout) = built();
    let mut bomb = header(tar::EntryType::GNUSparse, "bomb", 0);
    // 2^60 bytes, in the binary form of GNU's numbers; one block of no bytes at the end.
    let long = b"\x80\0\0\0\x10\0\0\0\0\0\0\0";
    let gnu = bomb.as_gnu_mut().unwrap();
    gnu.realsize = *long;
    gnu.sparse[0].offset = *long;
    gnu.sparse[0].numbytes = *b"00000000000\0";
    bomb.set_cksum();
    let tar = [&bomb.as_bytes()[..], &[0; 1024]].concat();
    layout.with_layer(&tar);
    let verdict = "valid: 4 blobs, 2 layers, 12 files and directories checked\n";
    assert_eq!(fixture.validate("app"), (Some(0), verdict.to_owned()));
    let inspected: Value = serde_json::from_str(&fixture.succeeds(&["inspect", "--json", "app"])).unwrap();
    assert_eq!(inspected[0]["layers"][1]["files"][0]["size"], json!(1_u64 << 60));
}

#[test]
fn headers_that_would_fill_the_memory_are_refused() {
    let size = 5 << 20;
    let long = vec![b'a'; size];
    let kinds = [tar::EntryType::XHeader, tar::EntryType::GNULongName, tar::EntryType::GNULongLink];
    for kind in kinds {
        let file = header(tar::EntryType::Regular, "a", 0);
        let first = header(kind, "long", size as u64);
        let tar = [first.as_bytes(), &long[..], file.as_bytes(), &[0; 1024]];
        let (fixture, layout) = built();
        let layout = layout.with_layer(&tar.concat());
        let place = layout.place(layout.layer());
        let says = "headers of more than 4194304 bytes before one entry";
        assert_eq!(problems(&fixture), [format!("{place}: layer {place} cannot be read: {says}")]);
        let refused = format!("error: layer {place} cannot be read: {says}\n");
        assert_eq!(fixture.refuses(&["inspect", "app"]), refused);

        fixture.write("app.tar", tar.concat());
        let refused = format!("error: cannot read ROOT/app.tar: {says}\n");
        assert_eq!(fixture.refuses(&["inspect", "app.tar"]), refused);
    }
}

#[test]
fn a_wrong_media_type_is_found() {
    let (fixture, mut layout) = built();
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    layout.manifest["layers"][1]["mediaType"] = json!(gzip);
    layout = layout.write();
    let place = layout.place(layout.layer());
    assert_eq!(problems(&fixture), [format!("{place}: it is Plain, its media type is `{gzip}`")]);

    let (fixture, mut layout) = built();
    layout.manifest["layers"][1]["mediaType"] = json!("application/x-tar");
    layout = layout.write();
    let place = layout.place(layout.layer());
    assert_eq!(problems(&fixture), [format!("{place}: `application/x-tar` is no layer's media type")]);

    let (fixture, mut layout) = built();
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let oci = "application/vnd.oci.image.manifest.v1+json";
    layout.index["manifests"][0]["mediaType"] = json!(docker);
    layout = layout.write_index();
    let place = layout.place(layout.manifest_digest());
    let expected = format!("{place}: mediaType is `{oci}` instead of `{docker}`");
    assert_eq!(problems(&fixture), [expected]);
}

#[test]
fn a_layout_without_its_version_is_found() {
    let (fixture, layout) = built();
    fs::write(layout.dir.join("oci-layout"), br#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert_eq!(problems(&fixture), ["oci-layout: imageLayoutVersion is `2.0.0` instead of `1.0.0`"]);
    fs::remove_file(layout.dir.join("oci-layout")).unwrap();
    let missing = "oci-layout: oci-layout is missing from ROOT/target/images/app/layout";
    assert_eq!(problems(&fixture), [missing]);
}

#[test]
fn an_archive_of_docker_save_without_an_index_is_read() {
    let (fixture, layout) = built();
    let config_name = "0123.json";
    // As docker wrote them before version 25: a folder for each layer, equal ones as links.
    let manifest = json!([{
        "Config": config_name, "RepoTags": ["old:1"], "Layers": ["a/layer.tar", "b/layer.tar"],
    }]);
    let mut config = layout.config.clone();
    let base = fs::read(layout.blob(&layout.manifest["layers"][0]["digest"])).unwrap();
    config["rootfs"]["diff_ids"][1] = config["rootfs"]["diff_ids"][0].clone();
    let (config, manifest) = (config.to_string(), manifest.to_string());
    let mut archive = tar::Builder::new(Vec::new());
    let files = [
        ("a/layer.tar", &base[..]),
        (config_name, config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ];
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, content).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive.append_link(&mut header, "b/layer.tar", "../a/layer.tar").unwrap();
    fixture.write("old.tar", archive.into_inner().unwrap());

    let verdict = "valid: 0 blobs, 2 layers, 22 files and directories checked\n";
    assert_eq!(fixture.validate("old.tar"), (Some(0), verdict.to_owned()));
    let inspected: Value =
        serde_json::from_str(&fixture.succeeds(&["inspect", "--json", "old.tar"])).unwrap();
    assert_eq!(inspected[0]["names"], json!(["old:1"]));
    assert_eq!(inspected[0]["digest"], Value::Null);
    assert_eq!(inspected[0]["imageId"], json!(Digest::of(config.as_bytes())));
    assert_eq!(inspected[0]["layers"][0]["files"], inspected[0]["layers"][1]["files"]);
}

#[test]
fn what_is_no_image_is_refused() {
    let (fixture, _) = built();
    fixture.write("folder/file", "x");
    fixture.write("text", "not a tar, and longer than a header would be: ".repeat(40));
    fixture.write("short", "not a tar");
    fixture.write("empty", "");
    fixture.write("plain.tar", tar_of(&[("a", b"1")]));
    let hint = "hint: an image is the folder of an OCI layout, or an archive made by `docker save`, `podman save` or tare\n";
    let neither = "is no image: it has neither index.json (OCI) nor manifest.json (docker)";
    for (path, says) in [
        ("folder", format!("error: ROOT/folder {neither}\n{hint}")),
        ("empty", format!("error: ROOT/empty {neither}\n{hint}")),
        ("plain.tar", format!("error: ROOT/plain.tar {neither}\n{hint}")),
        (
            "nothing",
            "error: there is neither a file nor an image `nothing`\nhint: there are: app, server\n"
                .to_owned(),
        ),
        (
            "./nothing",
            "error: cannot read ROOT/./nothing: No such file or directory (os error 2)\n".to_owned(),
        ),
        ("text", format!("error: ROOT/text {neither}\n{hint}")),
        ("short", format!("error: ROOT/short {neither}\n{hint}")),
    ] {
        for arguments in [&["inspect", path][..], &["inspect", "--validate", path]] {
            assert_eq!(fixture.refuses(arguments), says, "{arguments:?}");
        }
    }
}

#[test]
fn an_archive_that_is_compressed_as_a_whole_is_refused() {
    let (fixture, _) = built();
    let archive = fs::read(fixture.path("target/images/app/app.tar")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive).unwrap();
    fixture.write("app.tar.gz", gzip.finish().unwrap());
    fixture.write("app.tar.zst", zstd::bulk::compress(&archive, 1).unwrap());
    for path in ["app.tar.gz", "app.tar.zst"] {
        let says = format!("error: ROOT/{path} is compressed as a whole: decompress it first\n");
        assert_eq!(fixture.refuses(&["inspect", path]), says);
    }
}

#[test]
fn an_image_is_shown_with_its_parameters_layers_and_files() {
    let fixture = Fixture::new();
    let definition = format!(
        "{PREBUILT}[config]\nexposed-ports = [8080]\n[[layers]]\nname = \"base\"\n[[layers]]\nname = \"more\"\nentries = [{{ symlink = \"/link\", to = \"app\" }}]\n"
    );
    fixture.write("images/app/image.toml", definition);
    fixture.succeeds(&["image", "app", "--compression", "none"]);
    let summary = fixture.summary("app");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let short = |at: usize| {
        let digest = text(&summary["platforms"][0]["layers"][at]["digest"]);
        digest["sha256:".len()..][..12].to_owned()
    };
    let expected = format!(
        "\
image        docker.io/library/app:latest
digest       {}
image id     {}
platform     linux/amd64
created      2023-11-14T22:13:20Z
entrypoint   [\"/app/server\"]
user         65534:65534
working dir  /
env          PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ports        8080/tcp
label        org.opencontainers.image.created=2023-11-14T22:13:20Z
label        org.opencontainers.image.title=app

layer 1 {} 3.1 kB compressed, 3.1 kB uncompressed, 3 entries (tare: layer application)
  d0755         0:0           /
  d0755         0:0           /app/
  -0555         0:0     {} B /app/server

layer 2 {} 2.0 kB compressed, 2.0 kB uncompressed, 2 entries (tare: layer more)
  d0755         0:0           /
  l0777         0:0           /link -> app
",
        text(&summary["digest"]),
        text(&summary["platforms"][0]["imageId"]),
        short(0),
        Elf::STATIC.bytes().len(),
        short(1),
    );
    for image in ["app", "target/images/app/layout", "target/images/app/app.tar"] {
        assert_eq!(fixture.succeeds(&["inspect", image]), expected, "{image}");
    }
    let json: Value = serde_json::from_str(&fixture.succeeds(&["inspect", "--json", "app"])).unwrap();
    assert_eq!(json[0]["digest"], summary["digest"]);
    let link = json!({
        "path": "link", "kind": "l", "mode": "0777", "owner": "0:0", "size": 0, "link": "app",
    });
    assert_eq!(json[0]["layers"][1]["files"][1], link);
}

#[test]
fn many_files_are_cut_short_unless_all_are_asked_for() {
    let fixture = Fixture::new();
    for number in 0..60 {
        fixture.write(format!("images/app/static/{number:02}"), "");
    }
    let layer = "[[layers]]\nname = \"base\"\n[[layers]]\nname = \"static\"\nentries = [{ tree = \"/static\", from = \"static\" }]\n";
    fixture.write("images/app/image.toml", format!("{PREBUILT}{layer}"));
    fixture.succeeds(&["image", "app"]);
    let count = |text: &str| text.lines().filter(|line| line.contains(" /static/")).count();
    let cut = fixture.succeeds(&["inspect", "app"]);
    // The layer's first two entries are / and /static/.
    assert_eq!(count(&cut), 39);
    assert!(cut.ends_with("  … and 22 more (--files shows all)\n"), "{cut}");
    assert_eq!(count(&fixture.succeeds(&["inspect", "--files", "app"])), 61);
}

#[test]
fn a_folder_named_like_an_image_does_not_hide_it() {
    let (fixture, _) = built();
    let by_name = fixture.succeeds(&["inspect", "app"]);
    fs::create_dir(fixture.path("app")).unwrap();
    assert_eq!(fixture.succeeds(&["inspect", "app"]), by_name);
    // One that was never built is no folder either.
    fixture.image("other", PREBUILT);
    fs::create_dir(fixture.path("other")).unwrap();
    let says = "error: image `other` is not built yet\nhint: build it: cargo xtask image other\n";
    assert_eq!(fixture.refuses(&["inspect", "other"]), says);
    let says = "error: image `server` is not built yet\nhint: build it: cargo xtask image server\n";
    assert_eq!(fixture.refuses(&["inspect", "server", "--validate"]), says);
    let says = "error: there is neither a file nor an image `serve`\n\
        hint: did you mean `server`? there are: app, other, server\n";
    assert_eq!(fixture.refuses(&["inspect", "serve"]), says);
    // A path is meant as one.
    let says = fixture.refuses(&["inspect", "./app"]);
    assert!(says.starts_with("error: ROOT/./app is no image: "), "{says}");
    system("rmdir", &[fixture.path("app").as_os_str()]);
}
