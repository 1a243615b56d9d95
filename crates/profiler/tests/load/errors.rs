//! Faults of servers, each counted as what it is.

use std::net::TcpListener;

use tare_load::{ErrorKind, LoadError, Outcome, run, verify};

use super::server::{HELLO, always, hello, plan, serve};

/// The kinds of errors that were counted, of a run in which every request sent is accounted for.
fn kinds(outcome: &Outcome) -> Vec<ErrorKind> {
    assert_eq!(outcome.planned, outcome.completed + outcome.failed() + outcome.unsent);
    outcome.errors.0.keys().copied().collect()
}

#[test]
fn answers_other_than_expected_are_counted_by_kind() {
    let cases = [
        (
            "HTTP/1.1 500 Oh\r\ncontent-length: 5\r\n\r\nHello",
            ErrorKind::BadStatus,
            "status 500 instead of 200 to 299",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nHell", ErrorKind::BadLength, "4 bytes instead of 5"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHelLo",
            ErrorKind::BadBody,
            "the body differs at byte 3",
        ),
        ("SSH-2.0-x\r\n", ErrorKind::Malformed, "the head is not HTTP: invalid HTTP version"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHello!",
            ErrorKind::Malformed,
            "bytes that nobody asked for",
        ),
    ];
    for (bytes, kind, why) in cases {
        let mut plan = plan(always(bytes));
        plan.sample_every = 1;
        let outcome = run(&plan).unwrap();
        assert_eq!(kinds(&outcome), [kind], "{bytes}");
        assert_eq!(outcome.errors.0[&kind].first, why);
        assert!(
            outcome.errors.count(kind) > 0 && outcome.errors.count(kind) >= outcome.failed(),
            "{outcome:?}"
        );
        if why == "bytes that nobody asked for" {
            // The answer before them was right.
            continue;
        }
        assert_eq!(outcome.completed, 0, "{bytes}");
        let LoadError::Answer { kind: found, why: told, .. } = verify(&plan).unwrap_err() else { panic!() };
        assert_eq!((found, told.as_str()), (kind, why));
    }
}

#[test]
fn bodies_are_compared_in_samples_and_first_on_each_connection() {
    // Right at first, then wrong in one byte: seen in samples only.
    let address = serve(|mut requests| {
        let mut number = 0;
        while requests.next().is_some() {
            requests.answer(if number < 1 {
                HELLO
            } else {
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHALLO"
            });
            number += 1;
        }
    });
    let mut plan = plan(address);
    plan.sample_every = 0;
    let outcome = run(&plan).unwrap();
    assert_eq!((outcome.errors.total(), outcome.bodies_compared), (0, 4));
    plan.sample_every = 10;
    let outcome = run(&plan).unwrap();
    assert_eq!(kinds(&outcome), [ErrorKind::BadBody]);
    assert_eq!(outcome.errors.total(), outcome.bodies_compared - 4);
}

#[test]
fn a_server_that_closes_after_each_answer_is_told_from_one_that_breaks_off() {
    let closing = serve(|mut requests| {
        requests.next();
        requests.answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nHello");
    });
    let outcome = run(&plan(closing)).unwrap();
    assert_eq!(kinds(&outcome), []);
    assert!(outcome.completed > 20, "{outcome:?}");
    assert!(outcome.connections.closed_by_server >= outcome.completed, "{:?}", outcome.connections);
    assert!(outcome.connections.reconnects > 10, "{:?}", outcome.connections);

    let breaking = serve(|mut requests| {
        requests.next();
        requests.answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHel");
    });
    let outcome = run(&plan(breaking)).unwrap();
    assert_eq!(kinds(&outcome), [ErrorKind::ClosedEarly]);
    assert_eq!(outcome.completed, 0);
    assert_eq!(
        outcome.errors.0[&ErrorKind::ClosedEarly].first,
        "the connection ended in the middle of an answer"
    );
}

#[test]
fn without_keep_alive_every_request_has_a_connection() {
    let address = serve(|mut requests| {
        if let Some((head, _)) = requests.next() {
            assert!(head.contains("connection: close\r\n"), "{head}");
            requests.answer("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nHello");
        }
    });
    let mut plan = plan(address);
    plan.keep_alive = false;
    let outcome = run(&plan).unwrap();
    assert_eq!(kinds(&outcome), []);
    assert!(outcome.completed > 20);
    assert_eq!((outcome.connections.at_start, outcome.connections.kept_by_server), (0, 0));

    // One that does not care is found out.
    plan.address = always(HELLO).to_string();
    let outcome = run(&plan).unwrap();
    assert_eq!(kinds(&outcome), []);
    assert!(outcome.connections.kept_by_server >= outcome.completed && outcome.completed > 0);
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let silent = serve(|mut requests| while requests.next().is_some() {});
    let mut plan = plan(silent);
    plan.timeout = 50_000_000;
    let outcome = run(&plan).unwrap();
    assert_eq!(kinds(&outcome), [ErrorKind::Timeout]);
    assert_eq!(outcome.completed, 0);
    assert!(outcome.failed() >= 4, "{outcome:?}");
    let LoadError::Answer { kind, .. } = verify(&plan).unwrap_err() else { panic!() };
    assert_eq!(kind, ErrorKind::Timeout);
}

#[test]
fn where_nobody_listens_nothing_is_run() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = run(&plan(address)).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot connect to {address}"));
    let LoadError::Connect { source, .. } = error else { panic!() };
    assert_eq!(source.kind(), std::io::ErrorKind::ConnectionRefused);
    let mut plan = plan(address);
    plan.requests = vec![hello("/")];
    plan.address = "no-such-host.invalid:80".to_owned();
    assert_eq!(run(&plan).unwrap_err().to_string(), "`no-such-host.invalid:80` cannot be resolved");
}
