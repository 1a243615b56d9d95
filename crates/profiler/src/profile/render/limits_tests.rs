use super::super::{page, write_capacity, write_sweep};
use super::*;
use crate::profile::report::sample;
use crate::profile::sweep::found::{Made, Purpose, SCHEMA, knee as found_knee};
use crate::profile::sweep::resources::Resources;
use crate::profile::trial::Reason;
use crate::profile::trial::tests::{GOAL, trial};
use crate::profile::{capacity, report::Report};

fn made(purpose: Purpose, cpus: f64, mebibytes: u64, p99: f64) -> Made {
    Made { purpose, trial: trial(cpus, mebibytes << 20, p99) }
}

fn sweep() -> Sweep {
    let killed = Trial {
        failed: Some(Reason::Memory),
        message: Some("the server <ended>".to_owned()),
        p99: None,
        ..trial(0.21, 20 << 20, 1.0)
    };
    let trials = vec![
        made(Purpose::First, 1.0, 88, 2.0),
        made(Purpose::Cpu, 0.2, 88, 300.0),
        made(Purpose::Cpu, 0.21, 88, 3.0),
        made(Purpose::Map, 0.21, 41, 3.5),
        made(Purpose::Map, 0.1, 41, 900.0),
        Made { purpose: Purpose::Map, trial: killed },
    ];
    let proof = trial(0.21, 41 << 20, 4.0);
    let knee = found_knee(trials.iter().map(|made| &made.trial), 41 << 20);
    let (cpus, memory) = (0.21, 41 << 20);
    let smallest = Smallest { cpus, memory, starts: 20, slowest_start: 12e6, proof, raised: 1, knee };
    let resources = Some(Resources::new(cpus, memory, 0.2));
    let Report { tool, taken, target, host, runtime, profile, .. } = sample();
    let (smallest, notes) = (Some(smallest), vec!["A note.".to_owned()]);
    let goal = GOAL;
    Sweep {
        schema: SCHEMA,
        tool,
        taken,
        target,
        host,
        runtime,
        profile,
        goal,
        smallest,
        resources,
        notes,
        trials,
    }
}

fn of_capacity() -> Capacity {
    let Report { tool, taken, target, host, runtime, profile, .. } = sample();
    let trials = [(900.0, 5.0), (1_100.0, 40.0), (1_000.0, 19.0)].map(|(rate, p99)| Trial {
        rate,
        answered: Some(rate),
        ..trial(0.5, 64 << 20, p99)
    });
    Capacity {
        schema: capacity::SCHEMA,
        tool,
        taken,
        target,
        host,
        runtime,
        profile,
        limits: tare_report::Limits { memory: Some(64 << 20), ..tare_report::Limits::default() },
        p99: 20e6,
        closed: 1_250.0,
        rate: Some(1_000.0),
        interval: Some((990.0, 1_010.0)),
        rounds: vec![990.0, 1_000.0, 1_010.0],
        notes: vec![],
        trials: trials.to_vec(),
    }
}

#[test]
fn a_sweep_names_limits_proof_knee_and_resources() {
    let text = markdown(&sweep());
    for part in [
        "## app: smallest limits\n\n0.21 CPU and 41MiB are the smallest limits for 1000 requests/s, 99 % answered within 20.0 ms.\n",
        "Proved by 20 starts, the slowest ready after 12.0 ms, and a longer load with a p99 of 4.00 ms, after one of them was raised once.\n",
        "Knee: 0.21 CPU. From there on the p99 is at most twice that of the largest limit; below, it rises.\n",
        "    memory: 50Mi\n",
        "docker run --cpus 0.26 --memory 50m --memory-swap 50m IMAGE\n",
        "| 0.21 CPU, 20MiB | map | 1,000 req/s | 1,000 req/s | - | 200 µs | 10.49 MB | out of memory: the server &lt;ended&gt; |",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(terminal(&sweep()).contains("# docker\ndocker run --cpus 0.26 "));
}

#[test]
fn a_goal_that_is_not_met_says_why() {
    let mut sweep = sweep();
    (sweep.smallest, sweep.resources) = (None, None);
    sweep.trials = vec![made(Purpose::First, 1.0, 88, 25.0)];
    let expected = "the target is not met even under the largest limits: 99 % took longer than the target";
    assert_eq!(conclusion(&sweep), expected);
    assert_eq!(terminal(&sweep), format!("{expected}\n"));
    assert!(page::sweep(&sweep).unwrap().contains(expected));
}

#[test]
fn the_page_of_a_sweep_has_its_map_and_its_curve() {
    let page = page::sweep(&sweep()).unwrap();
    for part in [
        "<h1>app: 0.21 CPU and 41MiB",
        "aria-label=\"p99 under CPU and memory limits\"",
        ">memory</text>",
        ">3.50 ms</text>",
        "aria-label=\"p99 by CPU limit",
        "memory: 50Mi",
        "the server &lt;ended&gt;",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<script") && !page.contains("https://") && page.len() < 300_000);
}

#[test]
fn a_capacity_has_its_interval_and_its_curve() {
    let it = of_capacity();
    assert_eq!(
        capacity_conclusion(&it),
        "1,000 req/s (95 % interval 990 to 1,010) is the highest rate with 99 % answered within 20.0 ms under 64MiB memory"
    );
    assert!(capacity_markdown(&it).contains("The median of 3 rounds with a server of their own each: 990, 1,000, 1,010. A closed loop reached 1,250 req/s."));
    let page = page::capacity(&it).unwrap();
    assert!(page.contains("aria-label=\"p99 by rate") && page.contains("1,010"));
    let none = Capacity { rate: None, interval: None, ..it };
    assert_eq!(capacity_conclusion(&none), "no rate has 99 % answered within 20.0 ms under 64MiB memory");
}

#[test]
fn three_files_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("app/sweep");
    write_sweep(&sweep(), &place).unwrap();
    write_capacity(&of_capacity(), &place).unwrap();
    let mut names: Vec<String> = std::fs::read_dir(&place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = ["capacity.html", "capacity.json", "capacity.md", "sweep.html", "sweep.json", "sweep.md"];
    assert_eq!(names, expected);
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(place.join("sweep.json")).unwrap()).unwrap();
    assert_eq!(json["smallest"]["memory"], 41 << 20);
    assert_eq!(json["trials"][5]["failed"], "memory");
    assert_eq!(json["trials"][0]["purpose"], "first");
}
