//! Open and closed loops, and what stalls do to their figures.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tare_load::{Outcome, Pace, Phase, Protocol, run, run_watched};

use super::protocol::h2_server;
use super::server::{HELLO, always, plan, serve};

const SECOND: u64 = 1_000_000_000;

fn accounts_for_all(outcome: &Outcome) {
    assert_eq!(outcome.planned, outcome.completed + outcome.failed() + outcome.unsent);
    assert_eq!(outcome.latency.count(), outcome.completed);
    assert_eq!(outcome.service.count(), outcome.completed);
}

/// Requests under way by throughput and mean service time (J. D. C. Little, 1961).
fn littles_law(outcome: &Outcome) -> f64 {
    outcome.requests_per_second() * outcome.service.mean() / 1e9
}

#[test]
fn an_open_loop_sends_what_is_planned() {
    let mut plan = plan(always(HELLO));
    plan.pace = Pace::Open { rate: 500.0 };
    plan.warm_up = SECOND / 10;
    plan.duration = SECOND / 2;
    for threads in [1, 2] {
        plan.threads = threads;
        let outcome = run(&plan).unwrap();
        accounts_for_all(&outcome);
        assert_eq!((outcome.planned, outcome.unsent, outcome.errors.total()), (250, 0, 0));
        // Windows of warm-up and measurement, in which all were answered but what came after the end.
        assert_eq!(outcome.windows.len(), 12);
        assert!((280..=300).contains(&outcome.windows.iter().sum::<u64>()), "{:?}", outcome.windows);
        assert_eq!(outcome.measured_windows().len(), 10);
        assert_eq!((outcome.connections.asked, outcome.connections.at_start), (4, 4));
        assert_eq!((outcome.connections.at_end, outcome.connections.reconnects), (4, 0));
        assert!(outcome.latency.min() >= outcome.service.min());
    }
}

#[test]
fn what_an_open_loop_could_not_send_is_counted() {
    let slow = serve(|mut requests| {
        while requests.next().is_some() {
            std::thread::sleep(Duration::from_millis(20));
            requests.answer(HELLO);
        }
    });
    let mut plan = plan(slow);
    plan.connections = 1;
    plan.pace = Pace::Open { rate: 1_000.0 };
    // What it leaves unsent is not made up for in the measurement.
    plan.warm_up = SECOND / 5;
    let outcome = run(&plan).unwrap();
    accounts_for_all(&outcome);
    assert_eq!(outcome.planned, 300);
    // 20 ms each leave room for 16 in 300 ms, and for two in the tenth after that.
    assert!(outcome.unsent >= 282 && outcome.completed > 0, "{outcome:?}");
    assert!(outcome.latency.min() < 100_000_000, "{outcome:?}");
    let ratio = littles_law(&outcome) / outcome.mean_in_flight();
    assert!((0.7..1.3).contains(&ratio), "{ratio}");
    // The last of them was planned long before it could be sent.
    assert!(outcome.latency.max() > 5 * outcome.service.percentile(50.0), "{outcome:?}");
}

#[test]
fn a_stall_just_before_the_end_is_latency_and_leaves_nothing_unsent() {
    let began = Instant::now();
    let stalling = serve(move |mut requests| {
        while requests.next().is_some() {
            // From 50 ms before the end until 20 ms after it.
            let at = u64::try_from(began.elapsed().as_millis()).unwrap();
            if (950..1_020).contains(&at) {
                std::thread::sleep(Duration::from_millis(1_020 - at));
            }
            requests.answer(HELLO);
        }
    });
    let mut plan = plan(stalling);
    plan.pace = Pace::Open { rate: 1_000.0 };
    plan.duration = SECOND;
    let outcome = run(&plan).unwrap();
    accounts_for_all(&outcome);
    assert_eq!((outcome.planned, outcome.unsent, outcome.errors.total()), (1_000, 0, 0));
    assert!(outcome.latency.max() > 15_000_000, "{}", outcome.latency.max());
}

#[test]
fn stall_shows_in_corrected_p99_and_not_in_service_p50() {
    // A tenth of the time nobody is answered.
    let began = Instant::now();
    let stalling = serve(move |mut requests| {
        while requests.next().is_some() {
            let at = began.elapsed().as_millis() % 1_000;
            if at < 100 {
                std::thread::sleep(Duration::from_millis(u64::try_from(100 - at).unwrap()));
            }
            requests.answer(HELLO);
        }
    });
    let mut plan = plan(stalling);
    plan.connections = 2;
    plan.pace = Pace::Open { rate: 400.0 };
    plan.duration = 2 * SECOND;
    let outcome = run(&plan).unwrap();
    accounts_for_all(&outcome);
    assert_eq!((outcome.planned, outcome.unsent), (800, 0));
    // Of 800 requests, 80 were planned within stalls: the 99th percentile waited for most of one. Only 2
    // connections × 2 stalls sent into one: 4 of 800 waited by the service time, so not even its p99.
    let (latency, service) = (&outcome.latency, &outcome.service);
    assert!(latency.percentile(99.0) > 50_000_000, "{}", latency.percentile(99.0));
    assert!(latency.percentile(99.0) > 10 * service.percentile(50.0));
    assert!(service.percentile(50.0) < latency.percentile(99.0) / 10);
    assert!(latency.mean() > 2.0 * service.mean(), "{} {}", latency.mean(), service.mean());
}

#[test]
fn concurrency_is_counted_apart_from_latency_and_agrees_with_it() {
    let slow = serve(|mut requests| {
        while requests.next().is_some() {
            std::thread::sleep(Duration::from_millis(5));
            requests.answer(HELLO);
        }
    });
    let mut plan = plan(slow);
    plan.duration = SECOND / 2;
    let outcome = run(&plan).unwrap();
    accounts_for_all(&outcome);
    // A closed loop over 4 connections has 4 requests under way.
    assert!((3.5..=4.0).contains(&outcome.mean_in_flight()), "{}", outcome.mean_in_flight());
    let ratio = littles_law(&outcome) / outcome.mean_in_flight();
    assert!((0.9..1.1).contains(&ratio), "{ratio}");
    let use_of_cpu = outcome.generator_use();
    assert_eq!(use_of_cpu.is_some(), cfg!(target_os = "linux"));
    assert!(use_of_cpu.unwrap_or_default() < 1.0);
    let bytes = outcome.bytes_in as f64 / outcome.completed as f64;
    assert!((bytes - HELLO.len() as f64).abs() < 2.0, "{bytes}");
}

#[test]
fn phases_are_told_in_their_order() {
    let mut plan = plan(always(HELLO));
    plan.warm_up = 100_000_000;
    plan.duration = 200_000_000;
    let phases = Mutex::new(Vec::new());
    let outcome = run_watched(&plan, |phase| phases.lock().unwrap().push(phase)).unwrap();
    let phases = phases.into_inner().unwrap();
    assert_eq!(phases[0], Phase::Connected { connections: 4 });
    let measuring = Phase::Measuring { at: outcome.measured.from };
    assert_eq!(phases.iter().position(|it| *it == measuring), Some(2), "{phases:?}");
    assert_eq!(phases.last(), Some(&Phase::Measured { at: outcome.measured.to }));
    let answers: Vec<u64> = phases
        .iter()
        .filter_map(|it| if let Phase::Progress { answers, .. } = it { Some(*answers) } else { None })
        .collect();
    assert_eq!(answers.len(), 5);
    assert!(answers.is_sorted() && answers[0] < answers[4], "{answers:?}");
    let last =
        phases.iter().rev().find_map(|it| if let Phase::Progress { p99, .. } = it { *p99 } else { None });
    assert!(last.is_some_and(|p99| p99 > 0 && p99 <= outcome.latency.max()), "{phases:?}");
}

#[test]
fn a_run_of_a_number_of_requests_ends_with_the_last_answer() {
    for (address, protocol, keep_alive) in [
        (always(HELLO), Protocol::Http1, true),
        (always(HELLO), Protocol::Http1, false),
        (h2_server(), Protocol::Http2, true),
    ] {
        let mut plan = plan(address);
        (plan.protocol, plan.keep_alive, plan.most) = (protocol, keep_alive, Some(300));
        (plan.connections, plan.threads, plan.warm_up) = (1, 1, 0);
        (plan.duration, plan.window) = (60 * SECOND, 60 * SECOND);
        let outcome = run(&plan).unwrap();
        assert_eq!((outcome.sent, outcome.completed, outcome.errors.total()), (300, 300, 0), "{protocol:?}");
        assert!(outcome.measured.nanoseconds() < plan.duration);
    }
}
