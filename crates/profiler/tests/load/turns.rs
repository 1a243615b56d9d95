//! Loads in turns over the same connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tare_load::{Outcome, Plan, Protocol, run_in_turns};

use super::protocol::h2_server;
use super::server::{HELLO, plan, serve};

/// Three turns, and what was asked of the server by the end of each.
fn three(plan: &Plan, asked: &AtomicU64) -> (Vec<Outcome>, Vec<u64>) {
    let (mut turns, mut by_then) = (Vec::new(), Vec::new());
    run_in_turns(plan, |outcome| {
        turns.push(outcome);
        by_then.push(asked.load(Ordering::SeqCst));
        (turns.len() < 3).then_some(50_000_000)
    })
    .unwrap();
    (turns, by_then)
}

#[test]
fn between_turns_nothing_is_under_way() {
    let counters: Arc<(AtomicU64, AtomicU64)> = Arc::default();
    let server = Arc::clone(&counters);
    let address = serve(move |mut requests| {
        server.0.fetch_add(1, Ordering::SeqCst);
        while requests.next().is_some() {
            server.1.fetch_add(1, Ordering::SeqCst);
            requests.answer(HELLO);
        }
    });
    let (connections, asked) = &*counters;
    let mut plan = plan(address);
    plan.duration = 100_000_000;
    // It is left out.
    plan.warm_up = u64::from(u32::MAX);
    let mut before = 0;
    for threads in [1, 2] {
        plan.threads = threads;
        let (turns, by_then) = three(&plan, asked);
        for (turn, asked) in turns.iter().zip(by_then) {
            assert!(turn.completed > 0 && turn.errors.total() == 0, "{turn:?}");
            // All that the server ever heard is what was answered.
            assert_eq!(turn.completed, asked - before);
            before = asked;
            let connections = turn.connections;
            assert_eq!((connections.at_start, connections.at_end, connections.reconnects), (4, 4, 0));
        }
        let sum: u64 = turns.iter().map(|turn| turn.completed).sum();
        let length: u64 = turns.iter().map(|turn| turn.ended - turn.measured.from).sum();
        let all = Outcome::joined(turns).unwrap();
        assert_eq!(
            (all.completed, all.measured.nanoseconds(), all.measured_windows()),
            (sum, length, &[sum][..])
        );
        assert_eq!(all.latency.count(), sum);
        let rate = sum as f64 * 1e9 / length as f64;
        assert!((all.requests_per_second() / rate - 1.0).abs() < 1e-9);
    }
    // Those of both plans, and the one of each that looked whether somebody listens.
    assert_eq!(connections.load(Ordering::SeqCst), 10);
}

#[test]
fn turns_go_without_keep_alive_and_over_http2() {
    let nobody_counts = AtomicU64::new(0);
    let mut without = plan(serve(|mut requests| {
        if requests.next().is_some() {
            requests.answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nHello");
        }
    }));
    without.keep_alive = false;
    let mut http2 = plan(h2_server());
    http2.protocol = Protocol::Http2;
    for mut plan in [without, http2] {
        plan.duration = 100_000_000;
        let (turns, _) = three(&plan, &nobody_counts);
        assert_eq!(turns.len(), 3);
        for turn in &turns {
            assert!(turn.completed > 0 && turn.errors.total() == 0, "{turn:?}");
            assert_eq!(turn.completed, turn.sent);
        }
    }
    assert_eq!(Outcome::joined([]), None);
}
