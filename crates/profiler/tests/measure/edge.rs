//! A server whose cache is known: it never forgets, and what it says is compressed has half of the bytes.

use serde_json::json;
use tare_container::{RuntimeKind, Target};

use crate::fixture::{add, program, write_layout};
use crate::passes::{Scene, profile, value};

const EDGE: &str = "passes = [\"edge\"]\n[edge]\nrequests = 500\nstale-after = \"100ms\"\nenv = {}\n";

#[test]
fn hits_saved_bytes_and_answers_while_the_source_is_away_are_as_known() {
    let Some(scene) = Scene::new() else { return };
    for (kind, container) in [
        (RuntimeKind::Embedded, ""),
        // The folder is in memory, and writable whatever the root is.
        (RuntimeKind::Embedded, "container = { read-only = true }\n"),
        (RuntimeKind::Runc, ""),
    ] {
        let Some(scene) = scene.with(kind) else { continue };
        let profile = profile(&format!("args = [\"files=/edge/source\", \"http=8080\"]\n{container}{EDGE}"));
        let run = scene.run(&profile);
        assert_eq!(run.events, []);
        let of = |metric| value(&run.measurements, metric);
        // Every file that was asked for was a miss once.
        let misses = ((1.0 - of("edge.hit-rate")) * 500.0).round();
        assert!((32.0..=64.0).contains(&misses), "{misses}");
        assert!((of("edge.bytes-saved") - 0.5).abs() < 0.001, "{}", of("edge.bytes-saved"));
        assert_eq!((of("edge.offline-answers"), of("edge.offline-stale")), (1.0, 1.0));
        assert_eq!(of("edge.errors"), 0.0);
        let cases: Vec<_> = run.measurements.iter().filter_map(|it| it.case.as_deref()).collect();
        assert_eq!(cases, ["hit", "miss", "offline"]);
        assert!(scene.is_clean());
    }
}

#[test]
fn a_server_that_serves_no_files_is_said_to_and_has_no_figures() {
    let Some(scene) = Scene::new() else { return };
    let run = scene.run(&profile(&format!("args = [\"files=/elsewhere\", \"http=8080\"]\n{EDGE}")));
    assert_eq!((run.measurements, run.events), (vec![], vec![]));
    let notes = &run.sections[0].notes;
    assert!(
        notes[1].starts_with("Not measured: /files/") && notes[1].contains(" is answered 404."),
        "{notes:?}"
    );
    assert!(scene.is_clean());
}

/// Links in an image are others' words, and lead from its own root: nothing is written where they lead on the host.
#[test]
fn files_stay_in_the_container_wherever_a_link_of_the_image_leads() {
    let Some(mut scene) = Scene::new() else { return };
    let on_host = tempfile::tempdir().unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, "program", 0o755, &std::fs::read(program()).unwrap());
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, "edge", on_host.path()).unwrap();
    let layout = scene.world.folder.path().join("linked");
    let execution = json!({"Entrypoint": ["/program"], "ExposedPorts": {"8080/tcp": {}}});
    write_layout(&layout, &[tar.into_inner().unwrap()], &execution);
    scene.target = Target::resolve(layout.to_str().unwrap(), None, layout.parent().unwrap()).unwrap();
    let run = scene.run(&profile(&format!("args = [\"files=/edge/source\", \"http=8080\"]\n{EDGE}")));
    assert_eq!(value(&run.measurements, "edge.offline-answers"), 1.0);
    assert_eq!(std::fs::read_dir(on_host.path()).unwrap().count(), 0);
    assert!(scene.is_clean());
}
