//! Layers that were written before are found again, checked, and written anew when they are damaged.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Fixture, PREBUILT};

impl Fixture {
    /// Builds; gives back the digest, and of each layer its name and whether it was there already.
    fn layers(&self, arguments: &[&str]) -> (Value, Vec<(String, bool)>) {
        let arguments = [&["image", "app", "--json"], arguments].concat();
        let summary: Value = serde_json::from_str(&self.succeeds(&arguments)).unwrap();
        let layers = summary["platforms"].as_array().unwrap().iter();
        let layers = layers.flat_map(|platform| platform["layers"].as_array().unwrap());
        let facts =
            |layer: &Value| (layer["name"].as_str().unwrap().to_owned(), layer["cached"].as_bool().unwrap());
        (summary["digest"].clone(), layers.map(facts).collect())
    }

    fn cache_files(&self, extension: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("target/images/.cache/layers")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|it| it == extension)).collect()
    }
}

fn named(layers: [(&str, bool); 3]) -> Vec<(String, bool)> {
    layers.map(|(name, cached)| (name.to_owned(), cached)).into()
}

fn with_configuration() -> Fixture {
    let fixture = Fixture::new();
    let layer = "[[layers]]\nname = \"configuration\"\nentries = [{ tree = \"/etc/app\", from = \"etc\" }]\n";
    fixture.write("images/app/image.toml", format!("{PREBUILT}{layer}"));
    fixture.write("images/app/etc/a.toml", "a = 1\n");
    fixture.write("images/app/etc/b.toml", "b = 1\n");
    fixture
}

#[test]
fn only_the_layer_that_changed_is_written_again() {
    let fixture = with_configuration();
    let (first, layers) = fixture.layers(&[]);
    assert_eq!(layers, named([("base", false), ("application", false), ("configuration", false)]));
    let all_there = named([("base", true), ("application", true), ("configuration", true)]);
    assert_eq!(fixture.layers(&[]), (first.clone(), all_there.clone()));

    fixture.write("images/app/etc/a.toml", "a = 2\n");
    let (second, layers) = fixture.layers(&[]);
    assert_ne!(second, first);
    assert_eq!(layers, named([("base", true), ("application", true), ("configuration", false)]));

    fixture.write("images/app/etc/a.toml", "a = 1\n");
    assert_eq!(fixture.layers(&[]), (first, all_there), "the layer of before the change is still there");
}

#[test]
fn another_compression_is_another_layer_and_another_time_is_not() {
    let fixture = with_configuration();
    let new = named([("base", false), ("application", false), ("configuration", false)]);
    let found = named([("base", true), ("application", true), ("configuration", true)]);
    for arguments in
        [&["--compression", "none"][..], &["--compression", "gzip:1"], &["--compression", "zstd:1"]]
    {
        assert_eq!(fixture.layers(arguments).1, new, "{arguments:?}");
        assert_eq!(fixture.layers(arguments).1, found, "{arguments:?}");
    }
    let mut command = fixture.command(&["image", "app", "--json", "--compression", "none"]);
    command.env("SOURCE_DATE_EPOCH", "1");
    let summary: Value = serde_json::from_str(&fixture.run_command(command).stdout).unwrap();
    assert_eq!(summary["platforms"][0]["layers"][0]["cached"], true);
}

#[test]
fn platforms_share_what_is_equal_in_them() {
    let fixture = with_configuration();
    fixture.write("images/app/arm64", crate::support::Elf::STATIC_ARM64.bytes());
    fixture.write("images/app/amd64", crate::support::Elf::STATIC.bytes());
    let command = "command = [\"sh\", \"-c\", \"cp $TARGETARCH server\"]\n";
    fixture.write("images/app/image.toml", format!("{PREBUILT}{command}"));
    let platforms = ["--platform", "linux/amd64", "--platform", "linux/arm64"];
    fixture.layers(&platforms);
    let summary = fixture.summary("app");
    let layer = |platform: usize, layer: usize| &summary["platforms"][platform]["layers"][layer]["digest"];
    assert_eq!(layer(0, 0), layer(1, 0));
    assert_ne!(layer(0, 1), layer(1, 1));
    assert_eq!(fixture.cache_files("blob").len(), 3);
    assert_eq!(fixture.validate("app").0, Some(0));
}

#[test]
fn a_damaged_layer_is_noticed_and_written_again() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 3] = [
        ("a flipped bit", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }),
        ("cut short", |bytes| bytes.truncate(bytes.len() - 1)),
        ("empty", Vec::clear),
    ];
    for extension in ["blob", "json"] {
        for (what, damage) in damages {
            let fixture = with_configuration();
            let good = fixture.layers(&[]);
            for path in fixture.cache_files(extension) {
                let mut bytes = fs::read(&path).unwrap();
                damage(&mut bytes);
                // The blob of the finished image may be the same file, so it is replaced, not changed.
                fs::remove_file(&path).unwrap();
                fs::write(&path, bytes).unwrap();
            }
            let rewritten = named([("base", false), ("application", false), ("configuration", false)]);
            assert_eq!(fixture.layers(&[]), (good.0, rewritten), "{extension}: {what}");
            assert_eq!(fixture.validate("app").0, Some(0), "{extension}: {what}");
        }
    }
}

#[test]
fn damage_to_the_finished_image_reaches_no_further_than_the_next_run() {
    let fixture = with_configuration();
    let good = fixture.layers(&[]).0;
    let blobs = fixture.layout("app").join("blobs/sha256");
    for entry in fs::read_dir(blobs).unwrap() {
        let path = entry.unwrap().path();
        // In place: a layer may be one file with the cache's.
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(fixture.validate("app").0, Some(1));
    assert_eq!(fixture.layers(&[]).0, good);
    assert_eq!(fixture.validate("app").0, Some(0));
}
