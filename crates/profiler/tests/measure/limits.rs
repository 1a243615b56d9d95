//! Searches of limits and rates on real containers.

use tare_oci::units::Nanoseconds;
use tare_profiler::profile::capacity::{self, capacity};
use tare_profiler::profile::request::{Image, Options};
use tare_profiler::profile::sweep::found::Purpose;
use tare_profiler::profile::sweep::{self, sweep};
use tare_profiler::profile::trial::{Goal, Reason};

use crate::fixture::{World, possible};
use crate::passes::profile;

/// Nanoseconds of a trial.
const SHORT: Nanoseconds = Nanoseconds(250_000_000);
const PROFILE: &str =
    "args = [\"http=8080\"]\nlimits = { cpus = 0.5, memory = \"64MiB\" }\nthroughput = { connections = 4 }\n";

fn image(world: &World) -> Image {
    Image { name: "program".to_owned(), target: world.image(), unstripped: None }
}

#[test]
fn a_target_that_is_never_met_has_no_limits() {
    if !possible() {
        return;
    }
    let world = World::new();
    let runtime = world.runtime();
    let options =
        Options { runtime: Some(&runtime), generator: Some(crate::profiler()), ..Options::default() };
    let question = sweep::Question {
        goal: Goal { rate: 4_000.0, p99: 1.0 },
        cpus: None,
        memory: Some(64 << 20),
        duration: SHORT,
        starts: 1,
        proof: SHORT,
        margin: 0.2,
    };
    let mut watched = Vec::new();
    let watch = |purpose, _: &_| watched.push(purpose);
    let found = sweep(&image(&world), &profile(PROFILE), &question, &options, watch).unwrap();
    // Other programs may have disturbed the first attempt.
    assert_eq!(watched, [Purpose::First; 2]);
    assert_eq!((found.smallest.as_ref(), found.resources.as_ref()), (None, None));
    let last = &found.trials[1].trial;
    assert!(matches!(last.failed, Some(Reason::Latency | Reason::Rate)), "{last:?}");
    assert_eq!(last.memory, Some(64 << 20));
    assert!(found.failure().unwrap().starts_with("the target is not met even under the largest limits: "));
}

#[test]
fn a_capacity_is_the_median_of_servers_of_their_own() {
    if !possible() {
        return;
    }
    let world = World::new();
    let runtime = world.runtime();
    let options =
        Options { runtime: Some(&runtime), generator: Some(crate::profiler()), ..Options::default() };
    let question = capacity::Question { p99: 5e9, duration: SHORT, rounds: 2 };
    let mut watched = 0;
    let found = capacity(&image(&world), &profile(PROFILE), &question, &options, |_| watched += 1).unwrap();
    assert_eq!((found.rounds.len(), found.trials.len()), (2, watched));
    let (low, high) = found.interval.unwrap();
    assert!(low <= found.rate.unwrap() && found.rate.unwrap() <= high && low >= 1.0, "{found:?}");
    assert!(found.closed > 0.0);
    // Every rate that was found has a trial that held.
    for rate in &found.rounds {
        assert!(found.trials.iter().any(|it| it.holds() && (it.rate - rate).abs() < 1e-6), "{rate}");
    }
}
