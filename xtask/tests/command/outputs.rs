//! What a run writes and prints: the files of `target/images/NAME`, stdout, stderr; and `list`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use oci_spec::image::{
    Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Os, PlatformBuilder,
};
use serde_json::{Value, json};

use crate::support::{Elf, Fixture, PREBUILT, blob, files};

const FULL: &str = r#"
platforms = ["linux/amd64"]
[build]
output = "server"
[config]
cmd = ["--port", "8080"]
env = { RUST_LOG = "info", PATH = "/bin" }
user = "1000:100"
working-dir = "/data"
exposed-ports = [8080, "53/udp"]
volumes = ["/data"]
labels = { team = "x", "org.opencontainers.image.vendor" = "V" }
stop-signal = "SIGQUIT"
healthcheck = { test = ["CMD", "/app/server", "--health"], interval = "30s", retries = 3 }
[[layers]]
name = "base"
[[layers]]
name = "static"
entries = [{ file = "/static/a", from = "a" }]
"#;

fn full() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("images/app/image.toml", FULL);
    fixture.write("images/app/a", "content of a\n");
    fixture
}

/// An image for two platforms, with their programs.
fn two_platforms() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("images/app/arm64", Elf::STATIC_ARM64.bytes());
    fixture.write("images/app/amd64", Elf::STATIC.bytes());
    fixture.write(
        "images/app/image.toml",
        format!(
            "platforms = [\"linux/arm64\", \"linux/amd64\"]\n{PREBUILT}command = [\"sh\", \"-c\", \"cp $TARGETARCH server\"]\n"
        ),
    );
    fixture
}

fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn stdout_is_the_digest_reference_and_nothing_else() {
    let fixture = Fixture::new();
    let run = fixture.run(&["image", "app"]);
    let digest = fixture.summary("app")["digest"].as_str().unwrap().to_owned();
    assert_eq!((run.code, run.stdout), (Some(0), format!("app@{digest}\n")));
    // The repository of the first tag, without the tag.
    let tagged =
        fixture.succeeds(&["image", "app", "-t", "registry.example:5000/team/app:1.2", "-t", "app:3"]);
    assert_eq!(tagged, format!("registry.example:5000/team/app@{digest}\n"));
}

#[test]
fn several_images_print_a_line_each_in_the_order_named() {
    let fixture = Fixture::new();
    fixture.image("b", PREBUILT);
    fixture.image("a", PREBUILT);
    let repositories = |stdout: &str| -> Vec<String> {
        stdout.lines().map(|line| line.split_once("@sha256:").unwrap().0.to_owned()).collect()
    };
    assert_eq!(repositories(&fixture.succeeds(&["image"])), ["a", "app", "b"]);
    assert_eq!(repositories(&fixture.succeeds(&["image", "b", "a", "b"])), ["b", "a"]);
}

#[test]
fn quiet_says_nothing_on_stderr_and_the_talk_is_there_otherwise() {
    let fixture = Fixture::new();
    for option in ["--quiet", "-q"] {
        let run = fixture.run(&["image", "app", option]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    }
    let run = fixture.run(&["image", "app"]);
    let lines: Vec<&str> = run.stderr.lines().collect();
    let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(columns(lines[0]), ["layer", "size", "compressed", "digest"]);
    assert_eq!(columns(lines[1])[..1], ["base"]);
    assert_eq!(columns(lines[2])[..1], ["application"]);
    assert_eq!(columns(lines[3])[..1], ["total"]);
    let (begin, end) = (lines[4].split(" in ").next(), lines[4].rsplit(" s: ").next());
    assert_eq!(
        (begin, end),
        (Some("    Finished app:latest for linux/amd64"), Some("target/images/app/app.tar"))
    );
    assert_eq!(lines.len(), 5);
}

#[test]
fn the_summary_tells_all_and_json_prints_it() {
    let fixture = full();
    let stdout = fixture.succeeds(&["image", "app", "--json", "--tag", "app:1.2", "--compression", "none"]);
    let file = fs::read_to_string(fixture.path("target/images/app/app.json")).unwrap();
    assert_eq!(stdout, file.replace(&*fixture.root().to_string_lossy(), "ROOT"));

    let mut summary: Value = serde_json::from_str(&stdout).unwrap();
    let digest = summary["digest"].as_str().unwrap().to_owned();
    for step in ["build", "layers", "output"] {
        assert!(summary["timings"][step].take().is_u64(), "{step}");
    }
    let manifest = read(blob(&fixture.layout("app"), &summary["digest"]));
    let config = read(blob(&fixture.layout("app"), &manifest["config"]["digest"]));
    let layer = |at: usize, name: &str, size: u64| {
        json!({
            "name": name,
            "digest": manifest["layers"][at]["digest"],
            "diffId": config["rootfs"]["diff_ids"][at],
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "size": size,
            "uncompressedSize": size,
            "cached": false,
        })
    };
    // Headers of 512 bytes for /, app/, app/server, data/; a block for the program; the end.
    let application = 512 * (4 + 1 + 2);
    let with_file = 512 * (3 + 1 + 2);
    let expected = json!({
        "name": "app",
        "reference": format!("app@{digest}"),
        "digest": digest,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "tags": ["app:1.2"],
        "compression": "none",
        "annotations": {
            "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
            "org.opencontainers.image.title": "app",
            "org.opencontainers.image.vendor": "V",
        },
        "platforms": [{
            "platform": "linux/amd64",
            "digest": digest,
            "imageId": manifest["config"]["digest"],
            "size": application + with_file,
            "uncompressedSize": application + with_file,
            "binary": "ROOT/target/images/app/bin/amd64/server",
            "unstrippedBinary": null,
            "layers": [layer(0, "application", application), layer(1, "static", with_file)],
        }],
        "layout": "ROOT/target/images/app/layout",
        "archive": "ROOT/target/images/app/app.tar",
        "timings": { "build": null, "layers": null, "output": null },
    });
    assert_eq!(summary, expected);
}

#[test]
fn the_documents_are_those_of_the_image_spec() {
    let fixture = full();
    fixture.succeeds(&["image", "app", "--compression", "gzip"]);
    let layout = fixture.layout("app");
    assert_eq!(fs::read(layout.join("oci-layout")).unwrap(), br#"{"imageLayoutVersion":"1.0.0"}"#);

    let index = ImageIndex::from_file(layout.join("index.json")).unwrap();
    assert_eq!((index.schema_version(), index.media_type()), (2, &Some(MediaType::ImageIndex)));
    let [descriptor] = index.manifests().as_slice() else { panic!("{index:?}") };
    assert_eq!(descriptor.media_type(), &MediaType::ImageManifest);
    let platform = PlatformBuilder::default().architecture(Arch::Amd64).os(Os::Linux).build().unwrap();
    assert_eq!(descriptor.platform(), &Some(platform));

    let file = |descriptor: &Descriptor| blob(&layout, &json!(descriptor.digest().to_string()));
    let manifest = ImageManifest::from_file(file(descriptor)).unwrap();
    assert_eq!(manifest.media_type(), &Some(MediaType::ImageManifest));
    assert_eq!(manifest.config().media_type(), &MediaType::ImageConfig);
    let layers: Vec<&MediaType> = manifest.layers().iter().map(Descriptor::media_type).collect();
    assert_eq!(layers, [&MediaType::ImageLayerGzip; 2]);
    for descriptor in manifest.layers().iter().chain([descriptor, manifest.config()]) {
        assert_eq!(descriptor.size(), fs::metadata(file(descriptor)).unwrap().len());
    }

    let read_config = ImageConfiguration::from_file(file(manifest.config())).unwrap();
    assert_eq!((read_config.architecture(), read_config.os()), (&Arch::Amd64, &Os::Linux));
    assert_eq!(read_config.rootfs().diff_ids().len(), 2);
    // Whole, because the crate knows no health check.
    let config = read(file(manifest.config()));
    let expected = json!({
        "created": "2023-11-14T22:13:20Z",
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": "1000:100",
            "ExposedPorts": { "53/udp": {}, "8080/tcp": {} },
            "Env": ["PATH=/bin", "RUST_LOG=info"],
            "Entrypoint": ["/app/server"],
            "Cmd": ["--port", "8080"],
            "Healthcheck": {
                "Test": ["CMD", "/app/server", "--health"], "Interval": 30_000_000_000_u64, "Retries": 3,
            },
            "Volumes": { "/data": {} },
            "WorkingDir": "/data",
            "Labels": {
                "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
                "org.opencontainers.image.title": "app",
                "org.opencontainers.image.vendor": "V",
                "team": "x",
            },
            "StopSignal": "SIGQUIT",
        },
        "rootfs": { "type": "layers", "diff_ids": config["rootfs"]["diff_ids"] },
        "history": [
            { "created": "2023-11-14T22:13:20Z", "created_by": "tare: layer application" },
            { "created": "2023-11-14T22:13:20Z", "created_by": "tare: layer static" },
        ],
    });
    assert_eq!(config, expected);
    let annotations = serde_json::to_value(manifest.annotations()).unwrap();
    assert_eq!(annotations, fixture.summary("app")["annotations"]);
    let listing = fixture.listing("app", "");
    let program = String::from_utf8_lossy(&Elf::STATIC.bytes()).into_owned();
    let program = format!("-0555 0:0 app/server {program:?}");
    let expected = [
        "d0755 0:0 ./ \"\"",
        "d0755 0:0 app/ \"\"",
        &program,
        "d0755 1000:100 data/ \"\"",
        "d0755 0:0 ./ \"\"",
        "d0755 0:0 static/ \"\"",
        "-0644 0:0 static/a \"content of a\\n\"",
    ];
    assert_eq!(listing, expected);
}

#[test]
fn an_image_without_a_word_of_configuration_has_every_default() {
    let fixture = Fixture::new();
    fixture.succeeds(&["image", "app"]);
    let summary = fixture.summary("app");
    let config = read(blob(&fixture.layout("app"), &summary["platforms"][0]["imageId"]));
    let expected = json!({
        "User": "65534:65534",
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
        ],
        "Entrypoint": ["/app/server"],
        "WorkingDir": "/",
        "Labels": {
            "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
            "org.opencontainers.image.title": "app",
        },
    });
    assert_eq!(config["config"], expected);
    let paths: Vec<String> = fixture
        .entries("app")
        .into_iter()
        .map(|(entry, _)| {
            format!("{}{:04o} {}", entry.kind, entry.mode, String::from_utf8_lossy(&entry.path))
        })
        .collect();
    let expected = [
        "d0755 ./",
        "d0755 etc/",
        "-0644 etc/group",
        "-0644 etc/passwd",
        "d0755 etc/ssl/",
        "d0755 etc/ssl/certs/",
        "-0644 etc/ssl/certs/ca-certificates.crt",
        "d0755 home/",
        "d0700 home/nonroot/",
        "d0700 root/",
        "d1777 tmp/",
        "d0755 ./",
        "d0755 app/",
        "-0555 app/server",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn several_platforms_are_joined_by_an_index() {
    let fixture = two_platforms();
    let reference = fixture.succeeds(&["image", "app"]);
    let layout = fixture.layout("app");
    let top = ImageIndex::from_file(layout.join("index.json")).unwrap();
    let [descriptor] = top.manifests().as_slice() else { panic!("{top:?}") };
    assert_eq!(descriptor.media_type(), &MediaType::ImageIndex);
    assert_eq!(reference, format!("app@{}\n", descriptor.digest()));
    let index = ImageIndex::from_file(blob(&layout, &json!(descriptor.digest().to_string()))).unwrap();
    let platforms: Vec<(String, &MediaType)> = index
        .manifests()
        .iter()
        .map(|it| (it.platform().as_ref().unwrap().architecture().to_string(), it.media_type()))
        .collect();
    let expected = ["arm64", "amd64"].map(|it| (it.to_owned(), &MediaType::ImageManifest));
    assert_eq!(platforms, expected);
    let summary = fixture.summary("app");
    assert_eq!(summary["mediaType"], "application/vnd.oci.image.index.v1+json");
    let of_platforms: Vec<&Value> =
        summary["platforms"].as_array().unwrap().iter().map(|it| &it["digest"]).collect();
    let of_index: Vec<String> = index.manifests().iter().map(|it| it.digest().to_string()).collect();
    assert_eq!(of_platforms, of_index.iter().collect::<Vec<_>>());

    // One of them alone, chosen by an option, is the same image.
    let alone = fixture.succeeds(&["image", "app", "--platform", "linux/amd64"]);
    assert_eq!(alone, format!("app@{}\n", of_index[1]));
    assert_eq!(fixture.validate("app").0, Some(0));
    let blobs = files(&layout.join("blobs/sha256")).len();
    assert_eq!(blobs, 4, "what only the other platform needed is gone");
}

#[test]
fn every_tag_is_a_name_in_layout_and_archive() {
    let fixture = Fixture::new();
    let tags = ["app", "app:1.2", "team/app:1", "registry.example:5000/app:2"];
    let options = tags.iter().flat_map(|tag| ["--tag", tag]);
    let arguments: Vec<&str> = ["image", "app"].into_iter().chain(options).collect();
    fixture.succeeds(&arguments);
    let index = read(fixture.layout("app").join("index.json"));
    let names: Vec<(&str, &str)> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let annotation = |key: &str| it["annotations"][key].as_str().unwrap();
            (annotation("io.containerd.image.name"), annotation("org.opencontainers.image.ref.name"))
        })
        .collect();
    let expected = [
        ("docker.io/library/app:latest", "latest"),
        ("docker.io/library/app:1.2", "1.2"),
        ("docker.io/team/app:1", "1"),
        ("registry.example:5000/app:2", "2"),
    ];
    assert_eq!(names, expected);

    let mut archive = tar::Archive::new(fs::File::open(fixture.path("target/images/app/app.tar")).unwrap());
    let mut found = Vec::new();
    let mut docker = Value::Null;
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        if path == "manifest.json" {
            docker = serde_json::from_reader(entry).unwrap();
        }
        found.push(path);
    }
    let repo_tags = ["app:latest", "app:1.2", "team/app:1", "registry.example:5000/app:2"];
    assert_eq!(docker[0]["RepoTags"], json!(repo_tags));
    let platform = &fixture.summary("app")["platforms"][0];
    let path = |digest: &Value| digest.as_str().unwrap().replace("sha256:", "blobs/sha256/");
    assert_eq!(docker[0]["Config"], path(&platform["imageId"]));
    let layers: Vec<String> =
        platform["layers"].as_array().unwrap().iter().map(|layer| path(&layer["digest"])).collect();
    assert_eq!(docker[0]["Layers"], json!(layers));
    let mut expected: Vec<String> = layers;
    expected.extend([path(&platform["imageId"]), path(&platform["digest"])]);
    expected.sort();
    let documents = ["index.json", "manifest.json", "oci-layout", "blobs/", "blobs/sha256/"];
    expected.splice(0..0, documents.map(str::to_owned));
    assert_eq!(found, expected);
}

#[test]
fn the_files_are_where_output_says() {
    let fixture = Fixture::new();
    fixture.succeeds(&["image", "app", "--output", "elsewhere/deep"]);
    let summary = read(fixture.path("elsewhere/deep/app/app.json"));
    assert_eq!(summary["archive"], json!(fixture.path("elsewhere/deep/app/app.tar")));
    let digest = |digest: &Value| digest.as_str().unwrap().replace("sha256:", "layout/blobs/sha256/");
    let platform = &summary["platforms"][0];
    let mut expected = vec![digest(&platform["digest"]), digest(&platform["imageId"])];
    expected.extend(platform["layers"].as_array().unwrap().iter().map(|layer| digest(&layer["digest"])));
    let others = ["app.json", "app.tar", "bin/amd64/server", "layout/index.json", "layout/oci-layout"];
    expected.extend(others.map(str::to_owned));
    expected.sort();
    let found = files(&fixture.path("elsewhere/deep/app")).into_iter();
    let found: Vec<String> = found.filter(|(_, digest)| digest.is_some()).map(|(path, _)| path).collect();
    assert_eq!(found, expected);
    assert!(!fixture.path("target/images/app").exists());
}

#[test]
fn a_dry_run_lists_every_entry_and_writes_nothing() {
    let fixture = full();
    fixture.write("images/app/static/b", "b");
    std::os::unix::fs::symlink("b", fixture.path("images/app/static/c")).unwrap();
    let definition = FULL.replace(
        "entries = [",
        "entries = [{ tree = \"/tree\", from = \"static\" }, { file = \"/bin/ping\", from = \"a\", mode = \"0755\", capabilities = \"cap_net_raw=ep\" }, ",
    );
    fixture.write("images/app/image.toml", definition);
    fixture.image("cargo", "platforms = [\"linux/arm64\"]\n[build]\npackage = \"server\"\nprofile = \"release\"\n[[layers]]\nname = \"base\"\n");
    let run = fixture.run(&["image", "--dry-run"]);
    let expected = "\
image app (app:latest)
  linux/amd64: 
layer application
  d0755         0:0           /
  d0755         0:0           /app
  -0555         0:0     built /app/server
  d0755    1000:100           /data
layer static
  d0755         0:0           /
  d0755         0:0           /bin
  -0755         0:0      13 B /bin/ping <- images/app/a cap_net_raw=ep
  d0755         0:0           /static
  -0644         0:0      13 B /static/a <- images/app/a
  d0755         0:0           /tree
  -0644         0:0       1 B /tree/b <- images/app/static/b
  l0777         0:0           /tree/c -> b
output target/images/app
image cargo (cargo:latest)
  linux/arm64: cargo build --package server --bin server --target aarch64-unknown-linux-musl --profile release --locked
profile release
  opt-level = 3 (cargo's default)
  lto = false (cargo's default)
  codegen-units = 16 (cargo's default)
  panic = \"unwind\" (cargo's default)
layer application
  d0755         0:0           /
  d0755         0:0           /app
  -0555         0:0     built /app/server
output target/images/cargo
";
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(0), expected, ""));
    assert!(!fixture.path("target").exists());
}

#[test]
fn a_dry_run_lists_what_a_run_then_writes() {
    let fixture = full();
    let planned = fixture.succeeds(&["image", "app", "--dry-run"]);
    fixture.succeeds(&["image", "app"]);
    let planned: Vec<String> = planned
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
        .collect();
    let written: Vec<String> = fixture
        .entries("app")
        .into_iter()
        .map(|(entry, _)| {
            let path = String::from_utf8(entry.path).unwrap();
            format!("/{}", path.trim_end_matches('/').trim_start_matches('.'))
        })
        .collect();
    assert_eq!(planned, written);
}

#[test]
fn list_names_the_packages_where_there_are_no_definitions() {
    let fixture = Fixture::new();
    fs::remove_dir_all(fixture.path("images")).unwrap();
    let run = fixture.run(&["list"]);
    let rows: Vec<Vec<&str>> = run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let expected = vec![
        vec!["image", "build", "platforms", "compressed", "tags", "digest"],
        vec!["server", "when", "named", "not", "built"],
    ];
    let says = "there is no images/NAME/image.toml: these packages can be built by name\n";
    assert_eq!((run.code, rows, run.stderr.as_str()), (Some(0), expected, says));
    let listed: Value = serde_json::from_str(&fixture.succeeds(&["list", "--json"])).unwrap();
    assert_eq!(listed, json!([{ "name": "server", "default": false, "built": null }]));
}

#[test]
fn list_shows_what_is_built_and_what_is_not() {
    let fixture = Fixture::new();
    fixture.image("other", &format!("default = false\n{PREBUILT}"));
    fixture.image("unreadable", "[build");
    fixture.succeeds(&["image", "app", "--compression", "none", "--tag", "app:1", "--tag", "app:2"]);
    let summary = fixture.summary("app");
    let run = fixture.run(&["list"]);
    let rows: Vec<Vec<&str>> = run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let digest = &summary["digest"].as_str().unwrap()["sha256:".len()..][..12];
    let size = tare_oci::units::ByteSize(summary["platforms"][0]["size"].as_u64().unwrap()).to_string();
    let (number, unit) = size.split_once(' ').unwrap();
    let expected = vec![
        vec!["image", "build", "platforms", "compressed", "tags", "digest"],
        vec!["app", "by", "default", "linux/amd64", number, unit, "app:1,", "app:2", digest],
        vec!["other", "when", "named", "not", "built"],
        vec!["unreadable", "broken", "not", "built"],
    ];
    assert_eq!((run.code, run.stderr.lines().count(), rows), (Some(0), 1, expected));
    let listed: Value = serde_json::from_str(&fixture.succeeds(&["list", "--json"])).unwrap();
    let mut summary = summary;
    for key in ["layout", "archive"] {
        let path = summary[key].as_str().unwrap().replace(&*fixture.root().to_string_lossy(), "ROOT");
        summary[key] = json!(path);
    }
    summary["platforms"][0]["binary"] = json!("ROOT/target/images/app/bin/amd64/server");
    let expected = json!([
        { "name": "app", "default": true, "built": summary },
        { "name": "other", "default": false, "built": null },
        { "name": "unreadable", "default": true, "built": null, "problem": listed[2]["problem"] },
    ]);
    assert_eq!(listed, expected);
}

#[test]
fn list_without_images_says_so() {
    let fixture = Fixture::new();
    fs::remove_dir_all(fixture.path("images")).unwrap();
    fs::rename(fixture.path("server/src/main.rs"), fixture.path("server/src/lib.rs")).unwrap();
    let run = fixture.run(&["list"]);
    let says = "no images: the workspace has neither an images/NAME/image.toml nor a package with a binary\n";
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(0), "", says));
    assert_eq!(fixture.succeeds(&["list", "--json"]), "[]\n");
}

#[test]
fn a_result_that_cannot_be_written_is_no_success() {
    let fixture = Fixture::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = fixture.command(&["image", "app"]).arg("--quiet").stdout(full).output().unwrap();
    let says = "error: No space left on device (os error 28)\n\
        hint: free some space; what was there before is unchanged\n";
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(2), says));
}

#[test]
fn a_reader_of_stdout_that_leaves_early_is_no_error() {
    let fixture = Fixture::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = fixture.command(&["image", "app", "--quiet"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

/// A docker or podman that keeps what it is called with and what it is fed.
fn daemon(fixture: &Fixture, name: &str, exit_code: u8) -> String {
    let program = fixture.path(format!("bin/{name}"));
    let script = format!(
        "#!/bin/sh\necho \"$@\" > ../{name}.arguments\ncat > ../{name}.stdin\necho loaded\nexit {exit_code}\n"
    );
    fixture.write(&program, script);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap())
}

#[test]
fn an_image_is_loaded_through_a_pipe_and_stdout_stays_clean() {
    let fixture = Fixture::new();
    for name in ["docker", "podman"] {
        let path = daemon(&fixture, name, 0);
        let mut command = fixture.command(&["image", "app", "--load", name]);
        command.current_dir(fixture.path("server")).env("PATH", path);
        let run = fixture.run_command(command);
        let reference = format!("{}\n", fixture.summary("app")["reference"].as_str().unwrap());
        assert_eq!((run.code, run.stdout), (Some(0), reference), "{}", run.stderr);
        let ends = format!("     Loading app:latest into {name}\nloaded\n");
        assert!(run.stderr.ends_with(&ends), "{}", run.stderr);
        let kept = |what: &str| fs::read(fixture.path(format!("{name}.{what}"))).unwrap();
        assert_eq!(kept("arguments"), b"load --quiet\n");
        assert_eq!(kept("stdin"), fs::read(fixture.path("target/images/app/app.tar")).unwrap());
    }
}

#[test]
fn a_daemon_that_is_missing_or_refuses_the_image_is_named() {
    let fixture = Fixture::new();
    let path = daemon(&fixture, "docker", 3);
    let mut command = fixture.command(&["image", "app", "--load", "docker", "--quiet"]);
    command.current_dir(fixture.path("server")).env("PATH", path);
    let run = fixture.run_command(command);
    let says = "loaded\nerror: `docker load --quiet` failed (exit status: 3)\n";
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(2), "", says));

    let mut command = fixture.command(&["image", "app", "--load", "podman", "--quiet"]);
    command.env("PATH", fixture.path("server"));
    let run = fixture.run_command(command);
    let says = "error: `podman` is not installed or not on PATH\n\
        hint: install podman, or leave out what needs it\n";
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(2), "", says));
    assert_eq!(fixture.validate("app").0, Some(0), "the image itself is there");
}

#[test]
fn the_workspace_is_that_of_the_running_package_and_output_is_relative_to_where_one_stands() {
    let fixture = Fixture::new();
    let mut command = fixture.command(&["image", "app", "--output", "out"]);
    // As `cargo xtask` sets it, wherever it is called.
    command.current_dir(fixture.outside()).env("CARGO_MANIFEST_DIR", fixture.path("server"));
    let run = fixture.run_command(command);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(fixture.validate(fixture.outside().join("out/app/app.tar")).0, Some(0));

    let mut command = fixture.command(&["image", "app"]);
    command.env("CARGO_TARGET_DIR", fixture.outside().join("target"));
    assert_eq!(fixture.run_command(command).code, Some(0));
    assert_eq!(fixture.validate(fixture.outside().join("target/images/app/layout")).0, Some(0));
    assert!(!fixture.path("target/images/app").exists());
}
