//! Several runs at once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};

use crate::support::{Fixture, PREBUILT};

/// Starts all commands before it waits for any; gives back their stdouts.
fn all_at_once(fixture: &Fixture, commands: &[&[&str]]) -> Vec<String> {
    let start = |arguments: &&[&str]| {
        fixture.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = commands.iter().map(start).collect();
    let outputs = children.into_iter().map(|child| child.wait_with_output().unwrap());
    outputs
        .map(|output| {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        })
        .collect()
}

fn with_files(fixture: &Fixture, image: &str) {
    for number in 0..200 {
        fixture.write(format!("images/{image}/static/{number}"), number.to_string());
    }
    let layer = "[[layers]]\nname = \"static\"\nentries = [{ tree = \"/static\", from = \"static\" }]\n";
    fixture.image(image, &format!("{PREBUILT}{layer}"));
}

#[test]
fn runs_of_one_image_agree_and_leave_it_whole() {
    for count in [2, 4] {
        let fixture = Fixture::new();
        with_files(&fixture, "app");
        let commands = vec![&["image", "app"][..]; count];
        // At first nothing is there, then everything.
        for _ in 0..2 {
            let references: BTreeSet<String> = all_at_once(&fixture, &commands).into_iter().collect();
            let digest = fixture.summary("app")["digest"].as_str().unwrap().to_owned();
            assert_eq!(references, BTreeSet::from([format!("app@{digest}\n")]));
            assert_eq!(fixture.validate("app").0, Some(0));
            assert_eq!(fixture.validate("target/images/app/app.tar").0, Some(0));
            let staging: Vec<String> =
                fixture.written().into_keys().filter(|path| path.contains("staging")).collect();
            assert_eq!(staging, Vec::<String>::new());
        }
    }
}

#[test]
fn runs_that_differ_leave_one_of_their_images() {
    let fixture = Fixture::new();
    with_files(&fixture, "app");
    let compressions = ["none", "gzip:1", "zstd:1", "gzip:9"];
    let commands = compressions.map(|compression| ["image", "app", "--compression", compression]);
    let commands: Vec<&[&str]> = commands.iter().map(|command| &command[..]).collect();
    let references: BTreeSet<String> = all_at_once(&fixture, &commands).into_iter().collect();
    assert_eq!(references.len(), 4);
    let reference = format!("{}\n", fixture.summary("app")["reference"].as_str().unwrap());
    assert!(references.contains(&reference), "{references:?} {reference}");
    assert_eq!(fixture.validate("app").0, Some(0));
    assert_eq!(fixture.validate("target/images/app/app.tar").0, Some(0));
}

#[test]
fn images_with_the_same_layers_are_built_at_once() {
    let fixture = Fixture::new();
    let names = ["app", "b", "c", "d"];
    for name in names {
        with_files(&fixture, name);
    }
    let commands = names.map(|name| ["image", name]);
    let commands: Vec<&[&str]> = commands.iter().map(|command| &command[..]).collect();
    for _ in 0..2 {
        all_at_once(&fixture, &commands);
        let layers = names.map(|name| fixture.summary(name)["platforms"][0]["layers"][2]["digest"].clone());
        assert!(layers.iter().all(|digest| *digest == layers[0]), "{layers:?}");
        for name in names {
            assert_eq!(fixture.validate(name).0, Some(0));
        }
    }
}

#[test]
fn a_run_that_waits_says_so_and_goes_on() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path("target/images/.cache/locks")).unwrap();
    let lock = File::create(fixture.path("target/images/.cache/locks/app")).unwrap();
    lock.lock().unwrap();
    let mut child =
        fixture.command(&["image", "app"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    talk.read_line(&mut line).unwrap();
    assert_eq!(line, "    Blocking until another run has finished image app\n");
    assert!(!fixture.path("target/images/app").exists());
    lock.unlock().unwrap();
    talk.read_to_string(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{line}");
    let reference = format!("{}\n", fixture.summary("app")["reference"].as_str().unwrap());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), reference);
}
