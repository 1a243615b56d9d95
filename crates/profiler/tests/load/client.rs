//! What a client does that is no generator alone: it takes early answers, closes what it is told to, keeps to a server's
//! limits, and stops when it is asked to.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tare_load::{Blob, Pace, Phase, Protocol, Request, run, run_until, verify};

use super::server::{HELLO, always, plan, serve, serve_async};

/// A server that refuses a body as soon as it has seen the head, and goes on as `then` says.
fn refusing(then: impl Fn(&mut super::server::Requests) + Send + Sync + 'static) -> std::net::SocketAddr {
    serve(move |mut requests| {
        if requests.head().is_some() {
            requests
                .answer("HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            then(&mut requests);
        }
    })
}

#[test]
fn an_answer_before_the_body_is_sent_is_an_answer() {
    // One that reads on and drops it, and one that does not read and closes, which resets the connection.
    let reads = refusing(|requests| while requests.drop_some() {});
    let waits = refusing(|_| std::thread::sleep(Duration::from_millis(20)));
    for address in [reads, waits] {
        let mut plan = plan(address);
        plan.connections = 2;
        let mut request = Request::get("/");
        request.method = "POST".to_owned();
        request.body = Blob(vec![b'x'; 8 << 20]);
        request.expect.status = Some(413);
        plan.requests = vec![request];
        assert_eq!(verify(&plan).unwrap()[0].status, 413);
        let outcome = run(&plan).unwrap();
        assert_eq!(outcome.errors.0, [].into(), "{address}");
        assert!(outcome.completed > 4 && outcome.completed == outcome.sent, "{outcome:?}");
    }
}

#[test]
fn a_connection_that_the_server_ends_is_closed_though_the_server_waits() {
    let waiting = serve(|mut requests| {
        requests.next();
        requests.answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nHello");
        // Until the client has closed.
        while requests.next().is_some() {}
    });
    let mut plan = plan(waiting);
    plan.connections = 1;
    let outcome = run(&plan).unwrap();
    assert_eq!(outcome.errors.total(), 0);
    // One a second is what waiting for the server gave.
    assert!(outcome.completed > 20, "{}", outcome.completed);
}

/// HTTP/2 that allows two streams on a connection, and answers after 5 ms. Counts the most that were open.
fn two_streams() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let address = serve_async(move |socket| {
        let (seen, open) = (Arc::clone(&seen), Arc::new(AtomicUsize::new(0)));
        async move {
            let mut builder = h2::server::Builder::new();
            let handshake = builder.max_concurrent_streams(2).handshake::<_, bytes::Bytes>(socket);
            let Ok(mut connection) = handshake.await else { return };
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let (seen, open) = (Arc::clone(&seen), Arc::clone(&open));
                tokio::spawn(async move {
                    let now = open.fetch_add(1, Ordering::SeqCst) + 1;
                    seen.fetch_max(now, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                    let head = http::Response::builder().status(200).body(()).unwrap();
                    if let Ok(mut stream) = respond.send_response(head, false) {
                        let _ = stream.send_data("Hello".into(), true);
                    }
                });
            }
        }
    });
    (address, most)
}

#[test]
fn beyond_a_servers_limit_of_streams_requests_wait_here_and_the_wait_is_latency() {
    let (address, most) = two_streams();
    let mut plan = plan(address);
    plan.protocol = Protocol::Http2;
    plan.connections = 1;
    plan.depth = 8;
    let outcome = run(&plan).unwrap();
    assert_eq!((outcome.errors.total(), most.load(Ordering::SeqCst)), (0, 2));
    assert!(outcome.completed > 20 && outcome.mean_in_flight() <= 2.0, "{}", outcome.mean_in_flight());
    // Eight take turns on two: three of four are waiting.
    let (latency, service) = (outcome.latency.percentile(50.0), outcome.service.percentile(50.0));
    assert!(latency > 2 * service, "{latency} {service}");
}

#[test]
fn a_run_that_is_stopped_has_the_figures_until_then() {
    for (protocol, pace) in [
        (Protocol::Http1, Pace::Closed),
        (Protocol::Http1, Pace::Open { rate: 200.0 }),
        (Protocol::Http2, Pace::Closed),
        (Protocol::Http2, Pace::Open { rate: 200.0 }),
    ] {
        let address = if protocol == Protocol::Http2 { super::protocol::h2_server() } else { always(HELLO) };
        let mut plan = plan(address);
        (plan.protocol, plan.pace, plan.duration) = (protocol, pace, 3_600_000_000_000);
        let stop = AtomicBool::new(false);
        let windows = Mutex::new(0);
        let outcome = run_until(&plan, &stop, |phase| {
            if let Phase::Progress { .. } = phase {
                *windows.lock().unwrap() += 1;
                stop.store(*windows.lock().unwrap() >= 4, Ordering::Relaxed);
            }
        });
        let outcome = outcome.unwrap();
        assert_eq!((outcome.errors.total(), outcome.failed()), (0, 0), "{protocol:?} {pace:?}");
        assert!(outcome.completed > 10 && outcome.measured_windows().len() >= 4, "{outcome:?}");
        assert_eq!(outcome.planned, outcome.completed + outcome.unsent);
        assert!(outcome.measured.nanoseconds() < plan.duration / 2);
    }
}
