//! Accepting, serving and stopping.
//!
//! Stopping has three steps, so that no request is lost: the listener is closed and answers carry
//! `Connection: close`; after a while idle connections are closed; at the deadline the rest are cut off.

use std::convert::Infallible;
use std::future::{self, Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::Config;
use crate::service;

/// How long to wait when a connection cannot be accepted for lack of file descriptors or memory. Trying
/// again at once would take a whole CPU; nobody notices a tenth of a second in that state.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that were cut off because they had not finished at the deadline.
    pub cut_off: usize,
}

/// Serves the connections of `listener` until `shutdown` is ready, then finishes those in progress.
///
/// It must run in a tokio runtime with i/o and time switched on. Connections end with this future, whether
/// it finishes or is dropped.
pub async fn run(listener: TcpListener, config: Config, shutdown: impl Future<Output = ()>) -> Stopped {
    let (phase, _) = watch::channel(Phase::Serving);
    let mut connections = JoinSet::new();
    let open = |connections: &mut JoinSet<()>, stream| {
        // What has ended is cleared away whenever something new comes.
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(stream, config, phase.subscribe()));
    };

    let mut shutdown = pin!(shutdown);
    // Shutdown comes first in the race, or a flood of connections could keep it from being seen.
    while let First::Right(stream) = race(shutdown.as_mut(), accept(&listener)).await {
        open(&mut connections, stream);
    }

    let stopping = Instant::now();
    phase.send_replace(Phase::Draining);
    for stream in backlog(listener) {
        open(&mut connections, stream);
    }
    let deadline = stopping + config.stop_deadline;
    let linger = (stopping + config.linger).min(deadline);
    if timeout_at(linger, all_ended(&mut connections)).await.is_err() {
        phase.send_replace(Phase::Closing);
        // What is left when this fails is counted below.
        let _ = timeout_at(deadline, all_ended(&mut connections)).await;
    }
    Stopped { cut_off: connections.len() }
}

/// What the connections are told. They only ever move forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Answer what comes, and ask for the connection to be closed.
    Draining,
    /// Finish the request in progress; an idle connection is closed.
    Closing,
}

async fn serve(stream: TcpStream, config: Config, mut phase: watch::Receiver<Phase>) {
    let seen = phase.clone();
    let answer = service_fn(move |request| {
        let draining = *seen.borrow() != Phase::Serving;
        future::ready(Ok::<_, Infallible>(service::answer(&request, draining)))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_read_timeout)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    let closing = async {
        // It fails when the server is gone, which means the same.
        let _ = phase.wait_for(|phase| *phase == Phase::Closing).await;
    };
    // An error here is the client's: it went away, was too slow or spoke something else. hyper has already
    // answered it where an answer is owed.
    if let First::Left(()) = race(closing, connection.as_mut()).await {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// The next connection, whatever it takes.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if concerns_one_connection(&error) => {}
            Err(_) => sleep(ACCEPT_BACK_OFF).await,
        }
    }
}

/// accept(2) also reports what happened to a connection while it waited; the next one may be fine.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// The connections that clients take for established and that nobody has accepted yet: closing the listener
/// would reset them.
fn backlog(listener: TcpListener) -> Vec<TcpStream> {
    let mut waiting = Vec::new();
    let Ok(listener) = listener.into_std() else {
        return waiting;
    };
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                waiting.extend(stream);
            }
            Err(error) if concerns_one_connection(&error) => {}
            // Most often `WouldBlock`: there are no more.
            Err(_) => return waiting,
        }
    }
}

async fn all_ended(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// What came first.
enum First<L, R> {
    Left(L),
    Right(R),
}

/// Waits for either future; the left one is asked first.
async fn race<L, R>(left: impl Future<Output = L>, right: impl Future<Output = R>) -> First<L, R> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|context| {
        if let Poll::Ready(value) = left.as_mut().poll(context) {
            return Poll::Ready(First::Left(value));
        }
        right.as_mut().poll(context).map(First::Right)
    })
    .await
}
