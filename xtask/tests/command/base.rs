//! `base` in image.toml: the layers and the configuration of another image below those of the definition.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tare_oci::digest::Digest;

use crate::support::{Fixture, blob};

/// Above the image in `images/app/base`.
const ABOVE: &str = "base = \"./base\"\n[build]\noutput = \"server\"\n";

const DOCKER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// One entry of a tar: path, mode, and a link's target or a file's content.
pub(crate) type TarEntry<'a> = (&'a str, u32, &'a str);

/// What a distribution has: `/lib` is a link, `/tmp` is everybody's.
pub(crate) const FILES: [TarEntry<'static>; 6] = [
    ("usr/", 0o755, ""),
    ("usr/lib/", 0o750, ""),
    ("lib", 0o777, "-> usr/lib"),
    ("tmp/", 0o1777, ""),
    ("etc/", 0o755, ""),
    ("etc/passwd", 0o644, "service:x:1000:1000::/:/bin/sh\n"),
];

/// A tar of these entries.
fn tar(entries: &[TarEntry<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mode(*mode);
        header.set_mtime(1_600_000_000);
        header.set_uid(0);
        header.set_gid(if path.starts_with("usr/lib") { 50 } else { 0 });
        header.set_size(0);
        if let Some(target) = content.strip_prefix("-> ") {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, path, target).unwrap();
        } else if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, path, &[][..]).unwrap();
        } else {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn put(layout: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = Digest::of(bytes).to_string();
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    fs::write(layout.join("blobs/sha256").join(&digest[7..]), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// Writes a layout of one image with this configuration (`diff_ids` are filled in). Returns its manifest's digest.
pub(crate) fn write_base(
    layout: &Path,
    mut config: Value,
    layer_type: &str,
    layers: &[&[TarEntry<'_>]],
) -> String {
    let tars: Vec<Vec<u8>> = layers.iter().map(|entries| tar(entries)).collect();
    let diff_ids: Vec<String> = tars.iter().map(|tar| Digest::of(tar).to_string()).collect();
    config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
    let layers: Vec<Value> = tars.iter().map(|tar| put(layout, layer_type, &gzip(tar))).collect();
    let config = put(layout, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let manifest = put(layout, MANIFEST, manifest.to_string().as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    manifest["digest"].as_str().unwrap().to_owned()
}

/// A configuration that sets everything.
pub(crate) fn full() -> Value {
    json!({
        "os": "linux", "architecture": "amd64", "author": "Base", "created": "2020-01-01T00:00:00Z",
        "config": {
            "User": "1000:1000", "WorkingDir": "/srv", "StopSignal": "SIGINT", "Shell": ["/bin/sh", "-c"],
            "Env": ["PATH=/base/bin", "A=base", "B=base"], "Entrypoint": ["/base"], "Cmd": ["--base"],
            "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/base": {}}, "Labels": {"l": "base", "m": "base"},
            "Healthcheck": {"Test": ["CMD", "/base"]}, "OnBuild": ["RUN make", "COPY . ."],
        },
        "history": [
            {"created": "2020-01-01T00:00:00Z", "created_by": "ADD rootfs"},
            {"created": "2020-01-02T00:00:00Z", "created_by": "ENV A=base", "empty_layer": true},
        ],
    })
}

fn document(layout: &Path, digest: &Value) -> Value {
    serde_json::from_slice(&fs::read(blob(layout, digest)).unwrap()).unwrap()
}

/// Manifest and configuration of the only image of a layout.
fn documents(layout: &Path) -> (Value, Value) {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest = document(layout, &index["manifests"][0]["digest"]);
    let config = document(layout, &manifest["config"]["digest"]);
    (manifest, config)
}

#[test]
fn layers_lie_above_the_bases_and_its_configuration_is_inherited() {
    let fixture = Fixture::new();
    let base = write_base(&fixture.path("images/app/base"), full(), DOCKER, &[&FILES]);
    let (below, _) = documents(&fixture.path("images/app/base"));
    fixture.image("app", ABOVE);
    let run = fixture.run(&["image", "app"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let warning = "warning: images/app/image.toml:1:8: the base's 2 ONBUILD instructions are not executed\n";
    assert!(run.stderr.contains(warning), "{}", run.stderr);
    assert_eq!(fixture.validate("app").0, Some(0));

    let (manifest, config) = documents(&fixture.layout("app"));
    // The blob is the base's own; its type has OCI's name.
    let layer = &manifest["layers"][0];
    assert_eq!(
        (&layer["digest"], &layer["size"]),
        (&below["layers"][0]["digest"], &below["layers"][0]["size"])
    );
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
    let annotations = &manifest["annotations"];
    assert_eq!(annotations["org.opencontainers.image.base.digest"], json!(base));
    assert_eq!(annotations["org.opencontainers.image.base.name"], Value::Null);
    let mut labels = annotations.clone();
    labels["l"] = json!("base");
    labels["m"] = json!("base");
    let expected = json!({
        "User": "1000:1000", "WorkingDir": "/srv", "StopSignal": "SIGINT", "Shell": ["/bin/sh", "-c"],
        "Env": ["PATH=/base/bin", "A=base", "B=base"], "Entrypoint": ["/app/server"],
        "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/base": {}}, "Labels": labels,
        "Healthcheck": {"Test": ["CMD", "/base"]},
    });
    assert_eq!(config["config"], expected);
    assert_eq!(config["author"], "Base");
    let steps = config["history"].as_array().unwrap();
    assert_eq!(steps[..2], full()["history"].as_array().unwrap()[..]);
    assert_eq!((steps.len(), &steps[2]["created_by"]), (3, &json!("tare: layer application")));

    // Its own values replace the base's, each by its name.
    let own = "[config]\nuser = 7\nworking-dir = \"/\"\nstop-signal = \"SIGTERM\"\nenv = { B = \"own\", C = \"own\" }\n\
        cmd = [\"--own\"]\nexposed-ports = [80, 90]\nvolumes = [\"/own\"]\nlabels = { m = \"own\" }\n\
        [config.healthcheck]\ntest = [\"NONE\"]\n";
    fixture.image("app", &format!("{ABOVE}{own}"));
    fixture.succeeds(&["image", "app"]);
    let (_, config) = documents(&fixture.layout("app"));
    labels["m"] = json!("own");
    let expected = json!({
        "User": "7:7", "WorkingDir": "/", "StopSignal": "SIGTERM", "Shell": ["/bin/sh", "-c"],
        "Env": ["PATH=/base/bin", "A=base", "B=own", "C=own"], "Entrypoint": ["/app/server"], "Cmd": ["--own"],
        "ExposedPorts": {"80/tcp": {}, "90/tcp": {}}, "Volumes": {"/base": {}, "/own": {}}, "Labels": labels,
        "Healthcheck": {"Test": ["NONE"]},
    });
    assert_eq!(config["config"], expected);
}

#[test]
fn a_base_that_sets_nothing_leaves_the_defaults() {
    let fixture = Fixture::new();
    let bare = json!({"os": "linux", "architecture": "amd64"});
    write_base(&fixture.path("images/app/base"), bare, DOCKER, &[&FILES, &[("x", 0o644, "x")]]);
    fixture.image("app", ABOVE);
    fixture.succeeds(&["image", "app"]);
    let (_, config) = documents(&fixture.layout("app"));
    assert_eq!(config["config"]["User"], "65534:65534");
    assert_eq!(config["config"]["WorkingDir"], "/");
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(config["config"]["Env"], json!([path]));
    let steps: Vec<&Value> =
        config["history"].as_array().unwrap().iter().map(|step| &step["created_by"]).collect();
    let of_base = "layer of the base image";
    assert_eq!(steps, [of_base, of_base, "tare: layer application"]);
}

#[test]
fn directories_and_links_of_the_base_stay_as_they_are() {
    let fixture = Fixture::new();
    write_base(&fixture.path("images/app/base"), full(), DOCKER, &[&FILES]);
    fixture.write("images/app/tree/tmp/of-tree", "t");
    fixture.write("images/app/tree/lib/of-tree", "t");
    let layers = "[config]\nvolumes = [\"/tmp\", \"/lib/own\"]\n[[layers]]\nname = \"files\"\nentries = [\n\
        { file = \"/lib/x.so\", from = \"server\" },\n  { dir = \"/lib/sub\", mode = \"0700\" },\n\
        { file = \"/tmp/x\", from = \"image.toml\" },\n  { tree = \"/\", from = \"tree\" },\n]\n";
    fixture.image("app", &format!("{ABOVE}{layers}"));
    fixture.succeeds(&["image", "app"]);
    assert_eq!(fixture.validate("app").0, Some(0));
    // What stands in more than one layer is there in each of them, and always the same.
    let mut listed = fixture.listing("app", "");
    listed.iter_mut().for_each(|line| line.truncate(line.rfind(" \"").unwrap()));
    let of_base = FILES.len();
    assert_eq!(
        listed[of_base..],
        [
            "d0755 0:0 ./",
            "d0755 0:0 app/",
            "-0555 0:0 app/server",
            "d0755 0:0 usr/",
            "d0750 0:50 usr/lib/",
            "d0755 1000:1000 usr/lib/own/",
            "d0755 0:0 ./",
            "d1777 0:0 tmp/",
            "-0644 0:0 tmp/of-tree",
            "-0644 0:0 tmp/x",
            "d0755 0:0 usr/",
            "d0750 0:50 usr/lib/",
            "-0644 0:0 usr/lib/of-tree",
            "d0700 0:0 usr/lib/sub/",
            "-0644 0:0 usr/lib/x.so",
        ]
        .map(str::to_owned)
    );
}

#[test]
fn an_archive_is_the_same_base_as_its_layout_and_a_second_build_reads_the_cache() {
    let built = |base: &str, folder: &str| {
        let fixture = Fixture::at(folder);
        fixture.image("below", "[build]\noutput = \"server\"\n");
        fixture.succeeds(&["image", "below"]);
        fixture.image(
            "app",
            &format!("base = \"../../target/images/below/{base}\"\n[build]\noutput = \"server\"\n"),
        );
        let first = fixture.succeeds(&["image", "app"]);
        assert_eq!(first, fixture.succeeds(&["image", "app"]));
        let layers = fixture.summary("app")["platforms"][0]["layers"].clone();
        let names: Vec<Value> =
            layers.as_array().unwrap().iter().map(|it| json!([it["name"], it["cached"]])).collect();
        let expected = json!([["base image 1", true], ["base image 2", true], ["application", true]]);
        assert_eq!(Value::Array(names), expected);
        first
    };
    let layout = built("layout", "workspace");
    assert_eq!(layout, built("layout", "another/folder"));
    assert_eq!(layout, built("below.tar", "workspace"));
}

#[test]
fn a_base_that_cannot_be_used_is_refused_with_its_place() {
    let fixture = Fixture::new();
    let base = fixture.path("images/app/base");
    write_base(&base, full(), DOCKER, &[&FILES]);
    let at = "error: images/app/image.toml:1:8:";
    let refuses = |definition: &str, says: &str| {
        fixture.image("app", definition);
        let stderr = fixture.refuses(&["image", "app"]);
        assert!(stderr.contains(says), "{stderr}");
    };
    let of = |base: &str| ABOVE.replace("./base", base);
    refuses(&of("debian:12"), "names no registry: write `docker.io/library/debian:12`");
    refuses(&of("./nothing"), &format!("{at} base: cannot read ROOT/images/app/nothing"));
    refuses(&of("./image.toml"), &format!("{at} base: ROOT/images/app/image.toml is no image"));
    let arm = "platforms = [\"linux/arm64\"]\n";
    refuses(
        &format!("{arm}{ABOVE}"),
        "error: images/app/image.toml:2:8: base images/app/base has no image for linux/arm64, but for linux/amd64",
    );
    let file = "[[layers]]\nname = \"x\"\nentries = [{ file = \"/etc/passwd/x\", from = \"server\" }]\n";
    refuses(
        &format!("{ABOVE}{file}"),
        "image.toml:6:12: layer x: /etc/passwd/x cannot be in the image: /etc/passwd is not a directory in the base",
    );
    let volume = "[config]\nvolumes = [\"/etc/passwd\"]\n";
    refuses(
        &format!("{ABOVE}{volume}"),
        "image.toml:5:12: layer application: /etc/passwd cannot be a volume: it is not a directory in the base",
    );

    let mut named = full();
    named["config"]["User"] = json!("service");
    write_base(&base, named, DOCKER, &[&FILES]);
    let volume = "[config]\nvolumes = [\"/data\"]\n";
    refuses(&format!("{ABOVE}{volume}"), "image app: the owner of the volume /data is not known");

    write_base(&base, full(), "application/x-tar+encrypted", &[&FILES]);
    refuses(ABOVE, "app/base holds no image: an artifact of `application/x-tar+encrypted`");

    // One changed byte of the layer, and a diff id that is another one.
    write_base(&base, full(), DOCKER, &[&FILES]);
    fixture.image("app", ABOVE);
    fixture.succeeds(&["image", "app"]);
    let (manifest, _) = documents(&base);
    let layer = blob(&base, &manifest["layers"][0]["digest"]);
    let mut bytes = fs::read(&layer).unwrap();
    bytes[40] ^= 1;
    fs::write(&layer, &bytes).unwrap();
    // The layer cache has the right bytes.
    fixture.succeeds(&["image", "app"]);
    fixture.succeeds(&["clean"]);
    refuses(ABOVE, " is damaged: ");
}
