//! HTTP/1.1 as servers may speak it, and HTTP/2.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tare_load::{Blob, ErrorKind, Pace, Protocol, Request, expect_what_was_answered, run, verify};

use super::server::{HELLO, always, hello, plan, serve, serve_async};

#[test]
fn answers_come_in_any_pieces() {
    let pieces = serve(|mut requests| {
        while requests.next().is_some() {
            for piece in [
                "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-enc",
                "oding: chunked\r\n\r\n3\r",
                "\nHel\r\n2\r\nl",
                "o\r\n0\r\n\r",
                "\n",
            ] {
                requests.answer(piece);
                std::thread::sleep(Duration::from_micros(300));
            }
        }
    });
    let mut plan = plan(pieces);
    plan.sample_every = 1;
    let outcome = run(&plan).unwrap();
    assert_eq!(outcome.errors.total(), 0, "{:?}", outcome.errors);
    assert!(outcome.completed >= 4 && outcome.bodies_compared >= outcome.completed);
    assert_eq!(verify(&plan).unwrap()[0].body, Blob(b"Hello".to_vec()));
}

#[test]
fn pipelined_answers_belong_to_requests_in_order() {
    // Answers name the path; a mistake in the order is a wrong body.
    let paths = serve(|mut requests| {
        while let Some((head, _)) = requests.next() {
            let path = head.split(' ').nth(1).unwrap();
            requests.answer(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len()));
        }
    });
    let mut plan = plan(paths);
    plan.depth = 8;
    plan.sample_every = 1;
    plan.requests = ["/a", "/bb", "/cc"]
        .map(|path| {
            let mut request = Request::get(path);
            request.expect.body = Some(Blob(path.as_bytes().to_vec()));
            request
        })
        .to_vec();
    let outcome = run(&plan).unwrap();
    assert_eq!(outcome.errors.total(), 0, "{:?}", outcome.errors);
    assert!(outcome.completed > 32);
    assert!(outcome.mean_in_flight() > 16.0, "{}", outcome.mean_in_flight());
}

#[test]
fn requests_go_out_as_planned() {
    let seen: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let counts = Arc::clone(&seen);
    let address = serve(move |mut requests| {
        while let Some((head, body)) = requests.next() {
            let path = head.split(' ').nth(1).unwrap();
            let expected: &[u8] = if path == "/post" { b"body" } else { b"" };
            assert_eq!(body, expected);
            assert_eq!(head.contains("\r\nx-test: yes\r\n"), path == "/post", "{head}");
            assert!(head.contains("\r\nhost: "), "{head}");
            *counts.lock().unwrap().entry(path.to_owned()).or_default() += 1;
            if head.starts_with("HEAD") {
                requests.answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
            } else {
                requests.answer(HELLO);
            }
        }
    });
    let mut plan = plan(address);
    let mut post = hello("/post");
    post.method = "POST".to_owned();
    post.headers = vec![("x-test".to_owned(), "yes".to_owned())];
    post.body = Blob(b"body".to_vec());
    post.weight = 3;
    let mut head = Request::get("/head");
    head.method = "HEAD".to_owned();
    head.expect.length = Some(0);
    plan.requests = vec![post, head];
    plan.pace = Pace::Open { rate: 2_000.0 };
    plan.duration = 500_000_000;
    let outcome = run(&plan).unwrap();
    assert_eq!((outcome.completed, outcome.errors.total()), (1_000, 0), "{:?}", outcome.errors);
    let seen = seen.lock().unwrap();
    assert_eq!(seen["/post"] + seen["/head"], 1_000);
    // Five standard deviations of 1000 choices of 3/4.
    assert!(seen["/post"].abs_diff(750) < 69, "{seen:?}");
}

#[test]
fn what_is_answered_twice_alike_is_expected() {
    let numbered = serve(|mut requests| {
        while let Some((head, _)) = requests.next() {
            match head.split(' ').nth(1).unwrap() {
                "/same" => requests.answer(HELLO),
                path => {
                    requests
                        .answer(format!("HTTP/1.1 404 N\r\ncontent-length: 1\r\n\r\n{}", path.len() % 10));
                }
            }
        }
    });
    let mut plan = plan(numbered);
    plan.requests = vec![Request::get("/same"), Request::get("/other")];
    plan.requests[1].expect.status = Some(404);
    let answers = verify(&plan).unwrap();
    let mut others = answers.clone();
    others[1].body = Blob(b"x".to_vec());
    expect_what_was_answered(&mut plan, &answers, &others, tare_load::Check::Body);
    assert_eq!(
        plan.requests[0].expect,
        tare_load::Expect { status: Some(200), length: Some(5), body: Some(Blob(b"Hello".to_vec())) }
    );
    assert_eq!(plan.requests[1].expect, tare_load::Expect { status: Some(404), length: Some(1), body: None });
}

/// A server of HTTP/2 that answers with the request's body, or Hello, on one thread.
pub(crate) fn h2_server() -> std::net::SocketAddr {
    serve_async(|socket| async move {
        let Ok(mut connection) = h2::server::handshake(socket).await else { return };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut bytes = Vec::new();
                while let Some(Ok(piece)) = body.data().await {
                    body.flow_control().release_capacity(piece.len()).unwrap();
                    bytes.extend_from_slice(&piece);
                }
                let bytes = if bytes.is_empty() { b"Hello".to_vec() } else { bytes };
                let head = http::Response::builder().status(200).body(()).unwrap();
                if let Ok(mut stream) = respond.send_response(head, false) {
                    let _ = stream.send_data(bytes.into(), true);
                }
            });
        }
    })
}

#[test]
fn http2_has_the_same_figures() {
    let mut plan = plan(h2_server());
    plan.protocol = Protocol::Http2;
    plan.depth = 5;
    plan.sample_every = 1;
    let mut post = Request::get("/");
    post.method = "POST".to_owned();
    post.body = Blob(vec![b'x'; 100_000]);
    post.expect.body = Some(post.body.clone());
    plan.requests.push(post);
    assert_eq!(verify(&plan).unwrap()[1].body.0.len(), 100_000);
    let closed = run(&plan).unwrap();
    assert_eq!(closed.errors.total(), 0, "{:?}", closed.errors);
    assert!(closed.completed > 20 && closed.bodies_compared >= closed.completed);
    assert_eq!((closed.connections.at_start, closed.connections.at_end), (4, 4));
    assert!(closed.mean_in_flight() > 10.0 && closed.mean_in_flight() <= 20.0, "{}", closed.mean_in_flight());
    assert!(closed.bytes_in > 0 && closed.bytes_out > 0);

    plan.requests.truncate(1);
    plan.pace = Pace::Open { rate: 500.0 };
    let open = run(&plan).unwrap();
    assert_eq!((open.planned, open.completed, open.unsent), (150, 150, 0), "{:?}", open.errors);
}

#[test]
fn a_server_without_http2_is_told_so() {
    let mut plan = plan(always(HELLO));
    plan.protocol = Protocol::Http2;
    plan.timeout = 1_000_000_000;
    let tare_load::LoadError::Answer { kind, why, .. } = verify(&plan).unwrap_err() else { panic!() };
    assert!([ErrorKind::Malformed, ErrorKind::ClosedEarly, ErrorKind::Timeout].contains(&kind), "{kind:?}");
    assert!(kind != ErrorKind::Malformed || why.starts_with("the answer is not HTTP/2 ("), "{why}");
}
