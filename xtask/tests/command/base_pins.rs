//! Base images of registries: `images/lock.toml`, `cargo xtask update`, and the cache. In place of the part that speaks
//! to registries there is a program that answers from a folder.

use std::fs;
use std::path::Path;

use crate::base::{FILES, full, write_base};
use crate::support::{Fixture, Run};

const ABOVE: &str = "base = \"reg.example/base:1\"\n[build]\noutput = \"server\"\n";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Answers `digest` from the file `digest`, and `pull` from the folder `layout`, and notes what it was called with.
const PART: &str = r#"
echo "$@" >>registry/calls
case $1 in
digest) shift 2; for reference; do cat registry/digest; done ;;
pull)
    name=$(echo "${2#*@}-$6" | tr ':/' '--')
    cp -R registry/layout "$4/$name"
    echo "$4/$name" ;;
esac
"#;

/// A workspace that is a toolkit's checkout, too.
fn fixture(folder: &str) -> Fixture {
    let fixture = Fixture::at(folder);
    fixture.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"server\", \"crates/*\"]\n[profile.xtask]\ninherits = \"dev\"\n",
    );
    let packages = [("server", "1.2.3"), ("tare-publish", "0.1.0"), ("tare-tool", "0.1.0")]
        .map(|(name, version)| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n"));
    fixture.write("Cargo.lock", format!("version = 4\n\n{}", packages.join("\n")));
    for name in ["publish", "tool"] {
        let manifest =
            format!("[package]\nname = \"tare-{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        fixture.write(format!("crates/{name}/Cargo.toml"), manifest);
    }
    fixture.write("crates/tool/src/lib.rs", "");
    fixture.write("registry/part.sh", PART);
    let main = "fn main() {\n    let root = concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/../..\");\n    \
        let mut part = std::process::Command::new(\"sh\");\n    \
        part.arg(\"registry/part.sh\").args(std::env::args().skip(1)).current_dir(root);\n    \
        std::process::exit(part.status().unwrap().code().unwrap());\n}\n";
    fixture.write("crates/publish/src/main.rs", main);
    fixture.image("app", ABOVE);
    fixture
}

fn command(fixture: &Fixture, arguments: &[&str]) -> std::process::Command {
    let mut command = fixture.command(arguments);
    command.env("CARGO_MANIFEST_DIR", fixture.path("crates/tool"));
    command
}

fn run(fixture: &Fixture, arguments: &[&str]) -> Run {
    fixture.run_command(command(fixture, arguments))
}

fn succeeds(fixture: &Fixture, arguments: &[&str]) -> String {
    let run = run(fixture, arguments);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    run.stdout
}

fn refuses(fixture: &Fixture, arguments: &[&str], says: &str) {
    let stderr = fixture.refuses_command(command(fixture, arguments));
    assert!(stderr.contains(says), "{stderr}");
}

fn calls(fixture: &Fixture) -> Vec<String> {
    let calls = fs::read_to_string(fixture.path("registry/calls")).unwrap_or_default();
    let _ = fs::remove_file(fixture.path("registry/calls"));
    calls.lines().map(|line| line.replace(&*fixture.root().to_string_lossy(), "ROOT")).collect()
}

/// The image that the registry has from now on. Its digest is given.
fn serve(fixture: &Fixture, author: &str) -> String {
    let mut config = full();
    config["author"] = author.into();
    let layout = fixture.path("registry/layout");
    let _ = fs::remove_dir_all(&layout);
    let digest = write_base(&layout, config, LAYER, &[&FILES]);
    fixture.write("registry/digest", format!("{digest}\n"));
    digest
}

fn lock_file(fixture: &Fixture) -> Vec<String> {
    let text = fs::read_to_string(fixture.path("images/lock.toml")).unwrap();
    text.lines().skip_while(|line| *line != "[base]").skip(1).map(str::to_owned).collect()
}

#[test]
fn a_tag_is_pinned_once_and_moves_only_by_update() {
    let fixture = fixture("workspace");
    let first = serve(&fixture, "first");
    refuses(
        &fixture,
        &["image", "app"],
        "error: images/app/image.toml:1:8: base reg.example/base:1 has no digest in images/lock.toml\n\
         hint: pin the digest that the tag has now: cargo xtask update app;",
    );
    assert_eq!(calls(&fixture), [] as [&str; 0]);

    assert_eq!(succeeds(&fixture, &["update", "--dry-run"]), format!("reg.example/base:1 {first} (new)\n"));
    assert!(!fixture.path("images/lock.toml").exists());
    assert_eq!(succeeds(&fixture, &["update"]), format!("reg.example/base:1 {first} (new)\n"));
    assert_eq!(lock_file(&fixture), [format!("\"reg.example/base:1\" = \"{first}\"")]);
    assert_eq!(calls(&fixture), ["digest --quiet reg.example/base:1"; 2]);

    // Fetched once, by its digest.
    let built = succeeds(&fixture, &["image", "app"]);
    let pull = format!(
        "pull reg.example/base@{first} --cache ROOT/target/images/.cache/pulled --platform linux/amd64"
    );
    assert_eq!(calls(&fixture), [pull]);
    let annotations = fixture.summary("app")["annotations"].clone();
    assert_eq!(annotations["org.opencontainers.image.base.name"], "reg.example/base:1");
    assert_eq!(annotations["org.opencontainers.image.base.digest"], first.as_str());

    // The tag moves, and no image with it.
    let second = serve(&fixture, "second");
    assert_eq!(succeeds(&fixture, &["image", "app", "--offline"]), built);
    assert_eq!(calls(&fixture), [] as [&str; 0]);
    let moved = succeeds(&fixture, &["update", "app"]);
    assert_eq!(moved, format!("reg.example/base:1 {first} -> {second}\n"));
    refuses(
        &fixture,
        &["image", "app", "--offline"],
        &format!("base@{second} is not in the cache, and this run may not use the network"),
    );
    assert_ne!(succeeds(&fixture, &["image", "app"]), built);
    assert_eq!(succeeds(&fixture, &["update"]), format!("reg.example/base:1 {second} (unchanged)\n"));
    refuses(&fixture, &["update", "--offline"], "registries cannot be asked offline");
    refuses(&fixture, &["update", "ap"], "did you mean `app`?");

    // A digest in the definition needs no lock file; entries that nothing uses are removed.
    fixture.image("app", &ABOVE.replace("base:1", &format!("base:1@{second}")));
    let run = run(&fixture, &["update"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), ""), "{}", run.stderr);
    assert_eq!(lock_file(&fixture), [] as [String; 0]);
    let _ = calls(&fixture);
    succeeds(&fixture, &["image", "app"]);
    assert_eq!(calls(&fixture), [] as [&str; 0]);
    assert_eq!(
        succeeds(&fixture, &["image", "app", "--dry-run"])
            .lines()
            .find(|line| line.starts_with("base "))
            .unwrap(),
        format!("base reg.example/base:1@{second}")
    );
}

#[test]
fn a_cached_base_that_is_damaged_is_fetched_again_or_refused() {
    let fixture = fixture("workspace");
    let digest = serve(&fixture, "first");
    succeeds(&fixture, &["update"]);
    let built = succeeds(&fixture, &["image", "app"]);
    let pulled = fixture.path("target/images/.cache/pulled");
    let layout = pulled.join(format!("{}-linux-amd64", digest.replace(':', "-")));
    let _ = calls(&fixture);
    // The layer cache has its own copy, so a lost layer costs one more fetch.
    remove_largest_blob(&layout);
    fs::rename(&layout, pulled.join("gone")).unwrap();
    assert_eq!(succeeds(&fixture, &["image", "app"]), built);
    assert_eq!(calls(&fixture).len(), 1);
    fs::write(layout.join("index.json"), "{").unwrap();
    let _ = fs::remove_dir_all(&layout);
    assert_eq!(succeeds(&fixture, &["image", "app"]), built);
    assert_eq!(calls(&fixture).len(), 1);
}

fn remove_largest_blob(layout: &Path) {
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap());
    let largest = blobs.max_by_key(|blob| blob.metadata().unwrap().len()).unwrap();
    fs::remove_file(largest.path()).unwrap();
}

#[test]
fn both_builds_of_a_comparison_find_the_base_in_their_caches() {
    let fixture = fixture("workspace");
    serve(&fixture, "first");
    succeeds(&fixture, &["update"]);
    let compared = succeeds(&fixture, &["image", "app", "--verify-reproducible"]);
    assert_eq!(compared, "app: both builds agree in every file and byte\n");
    assert_eq!(calls(&fixture).len(), 2);
}
