//! Servers beside a neighbour, and containers that reach each other, of a server whose speed is known.

use tare_container::RuntimeKind;
use tare_profiler::profile::measurement::Measurement;
use tare_profiler::profile::report::{EventKind, Run};

use crate::fixture::as_root;
use crate::passes::{Scene, profile, value};

fn of_case<'a>(run: &'a Run, metric: &str, case: &str) -> &'a Measurement {
    let is = |it: &&Measurement| it.metric == metric && it.case.as_deref() == Some(case);
    run.measurements.iter().find(is).unwrap_or_else(|| panic!("no {metric}@{case} in {:?}", run.events))
}

#[test]
fn a_neighbour_burns_within_its_limits_beside_the_server_and_goes() {
    let Some(scene) = Scene::new() else { return };
    let profile = profile(
        "args = [\"http=8080\"]\npasses = [\"isolation\"]\nlimits = { cpus = 0.2, memory = \"64MiB\" }\n\
         throughput = { connections = 2 }\n\
         isolation = { load = \"50/s\", rounds = 2, duration = \"500ms\" }\n",
    );
    let neighbour = scene.neighbour();
    let run = scene.run_beside(&profile, &neighbour);
    assert_eq!(run.events, []);
    assert_eq!(value(&run.measurements, "isolation.rate"), 50.0);
    // It takes its quota, and no more.
    let used = value(&run.measurements, "isolation.neighbour-cpu");
    assert!((0.7..1.3).contains(&used), "{used}");
    let [alone, beside] = ["alone", "beside"].map(|case| of_case(&run, "isolation.p99", case));
    assert_eq!((alone.samples.len(), beside.samples.len()), (2, 2));
    let ratio = run.measurements.iter().find(|it| it.metric == "isolation.ratio").unwrap();
    let ratios = [0, 1].map(|round| beside.samples[round] / alone.samples[round]);
    assert_eq!(ratio.samples, ratios);
    assert_eq!(of_case(&run, "isolation.errors", "alone").value, 0.0);
    assert!(scene.is_clean());
}

#[test]
fn a_server_that_answers_nothing_right_has_no_isolation() {
    let Some(scene) = Scene::new() else { return };
    let profile = profile(
        "args = [\"last=3\", \"http=8080\"]\npasses = [\"isolation\"]\n\
         isolation = { rounds = 1, duration = \"200ms\" }\n",
    );
    let run = scene.run_beside(&profile, &scene.neighbour());
    let [event] = run.events.as_slice() else { panic!("{:?}", run.events) };
    assert_eq!(event.kind, EventKind::Crash);
    assert_eq!(run.measurements, []);
    assert!(scene.is_clean());
}

/// A server that takes 2 ms for an answer takes them over both ways, and the bridge adds none of it.
#[test]
fn latency_between_containers_has_what_the_server_takes_in_both_ways() {
    if !as_root() {
        return;
    }
    let Some(scene) = Scene::new() else { return };
    let text = |places: &str| format!("args = [{places}\"http=8080\"]\npasses = [\"network\"]\n");
    // Of this process alone: others on this host have theirs.
    let own = format!("tare{:x}b", std::process::id());
    let interfaces = || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap().matches(&own).count();
    for kind in [RuntimeKind::Embedded, RuntimeKind::Runc] {
        let Some(scene) = scene.with(kind) else { continue };
        let fast = scene.run(&profile(&text("")));
        let slow = scene.run(&profile(&text("\"places=9\", ")));
        assert_eq!(interfaces(), 0);
        for way in ["loopback", "bridge"] {
            let more = of_case(&slow, "network.p50", way).value - of_case(&fast, "network.p50", way).value;
            assert!((1.5e6..3.5e6).contains(&more), "{kind} {way}: {more} ns");
            assert_eq!(of_case(&slow, "network.p50", way).samples.len(), 6);
            assert_eq!(of_case(&slow, "network.errors", way).value, 0.0);
        }
        let added = value(&slow.measurements, "network.added");
        assert!(added.abs() < 1e6, "{kind}: {added} ns");
    }
    assert!(scene.is_clean());
}
