//! A run that is killed at any moment leaves the earlier image or the new one, and nothing that the
//! next run does not clear away.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use crate::support::{Fixture, PREBUILT, blob, files, noise};

/// Kills, spread over the time of a whole run.
const KILLS: u32 = 24;
/// Several blocks of the compressor.
const LARGE: usize = 30 << 20;
const SMALL_FILES: u64 = 2_000;

fn image(fixture: &Fixture) {
    for number in 0..SMALL_FILES {
        let path = format!("images/app/static/{}/{number}", number % 50);
        fixture.write(path, noise(number, 300));
    }
    fixture.write("images/app/large", noise(1, LARGE));
    let layers = "[[layers]]\nname = \"static\"\nentries = [{ tree = \"/static\", from = \"static\" }]\n\
        [[layers]]\nname = \"large\"\nentries = [{ file = \"/large\" }]\n";
    fixture.write("images/app/image.toml", format!("{PREBUILT}{layers}"));
}

/// Every layer is another one in every round, so that there is always something to be written.
fn change(fixture: &Fixture, round: u32) {
    use std::os::unix::fs::FileExt as _;
    fixture.write("images/app/static/0/0", round.to_string());
    let large = fs::File::options().write(true).open(fixture.path("images/app/large")).unwrap();
    large.write_all_at(&round.to_le_bytes(), 0).unwrap();
}

#[test]
fn a_killed_run_leaves_a_whole_image_and_the_next_run_clears_up() {
    let fixture = Fixture::new();
    image(&fixture);
    let arguments = ["image", "app", "--compression", "gzip:1"];
    let started = Instant::now();
    fixture.succeeds(&arguments);
    let whole_run = started.elapsed();

    for round in 0..KILLS {
        change(&fixture, round);
        // The first rounds meet no image, the later ones that of a run that was not killed in time.
        if round == 0 {
            fs::remove_dir_all(fixture.path("target")).unwrap();
        }
        let mut child =
            fixture.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(whole_run * round / KILLS);
        child.kill().unwrap();
        child.wait().unwrap();
        for image in ["layout/index.json", "app.tar"].map(|path| fixture.path("target/images/app").join(path))
        {
            if image.exists() {
                let image = if image.ends_with("index.json") { image.parent().unwrap() } else { &image };
                let (code, says) = fixture.validate(image);
                assert_eq!(code, Some(0), "killed after {round}/{KILLS} of a run: {says}");
            }
        }
    }

    let reference = fixture.succeeds(&arguments);
    assert_eq!(fixture.validate("app").0, Some(0));
    assert_eq!(fixture.validate("target/images/app/app.tar").0, Some(0));
    only_what_belongs_there(&fixture);

    // The digest is that of a workspace in which nothing was ever killed.
    let other = Fixture::new();
    image(&other);
    change(&other, KILLS - 1);
    assert_eq!(other.succeeds(&arguments), reference);
}

/// Every file below `target/images` is part of the image, of the cache, or its lock.
fn only_what_belongs_there(fixture: &Fixture) {
    let summary = fixture.summary("app");
    let layout = fixture.layout("app");
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(blob(&layout, &summary["digest"])).unwrap()).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter().map(|layer| &layer["digest"]);
    let blobs = layers.chain([&summary["digest"], &manifest["config"]["digest"]]);
    let images = fixture.path("target/images");
    let relative = |path: std::path::PathBuf| path.strip_prefix(&images).unwrap().display().to_string();
    let mut expected: BTreeSet<String> = blobs.map(|digest| relative(blob(&layout, digest))).collect();
    let others = ["app.json", "app.tar", "bin/amd64/server", "layout/index.json", "layout/oci-layout"];
    expected.extend(others.map(|name| format!("app/{name}")));
    expected.insert(".cache/locks/app".to_owned());
    let found = files(&images).into_iter().filter(|(_, digest)| digest.is_some()).map(|(path, _)| path);
    let (cached, found): (BTreeSet<String>, BTreeSet<String>) =
        found.partition(|path| path.starts_with(".cache/layers/"));
    assert_eq!(found, expected);
    let strange: Vec<&String> =
        cached.iter().filter(|path| !path.ends_with(".blob") && !path.ends_with(".json")).collect();
    assert_eq!(strange, Vec::<&String>::new());
}
