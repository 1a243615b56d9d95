//! What a worker does: it accepts connections and serves them until the engine stops.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, sleep_until};

use crate::engine::Phase;
use crate::handler::Handler;
use crate::http1;
use crate::listener::{begin, is_handshake_under_way, refuse_new};
use crate::race::race;
use crate::see_off::{OVERLOADED, see_off};
use crate::worker::Worker;

/// How long to wait when a connection cannot be accepted for lack of file descriptors or memory. Trying
/// again at once would take a whole CPU; nobody notices a tenth of a second in that state.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);
/// When a worker that stops looks for handshakes that have not ended; after twice that time again, and so on.
const HANDSHAKE: Duration = Duration::from_millis(5);
/// Connections accepted in a row before those that are open get a turn.
const ACCEPT_AT_ONCE: usize = 64;
/// Refused connections that are seen off at a time.
const MOST_REFUSALS: usize = 64;

/// Accepts and serves until the engine closes; tells how many connections were cut off.
pub(crate) async fn run<H: Handler>(
    worker: Arc<Worker>,
    handler: Arc<H>,
    listener: StdListener,
) -> io::Result<usize> {
    listener.set_nonblocking(true)?;
    begin(&listener, worker.engine.sizes.backlog)?;
    let listener = TcpListener::from_std(listener)?;
    let sweeper = tokio::spawn(Arc::clone(&worker).sweep());
    worker.engine.accepts();

    // The phase comes first in the race, or a flood of connections could keep it from being seen.
    let mut phases = worker.engine.phases();
    let draining = async {
        // It fails when the server is gone, which means the same.
        let _ = phases.wait_for(|phase| *phase >= Phase::Draining).await;
    };
    let mut accept = Box::pin(accept(&worker, &handler, &listener));
    race(draining, accept.as_mut()).await;

    let stopping = Instant::now();
    refuse_new(&listener);
    worker.wake_all();
    let deadline = stopping + worker.engine.live.stop_deadline();
    let linger = (stopping + worker.engine.live.linger()).min(deadline);
    // Handshakes that were under way still end, and are served. They take as long as their packets are on
    // their way, and one may begin while the kernel takes over that no more are wanted.
    let port = listener.local_addr().map_or(0, |address| address.port());
    let mut pause = HANDSHAKE;
    loop {
        let until = linger.min(Instant::now() + pause);
        race(sleep_until(until.into()), accept.as_mut()).await;
        if until == linger || !is_handshake_under_way(port) {
            break;
        }
        pause *= 2;
    }
    race(worker.all_served(), race(sleep_until(linger.into()), accept.as_mut())).await;
    drop(accept);
    drop(listener);
    worker.close_idle();
    race(worker.all_ended(), sleep_until(deadline.into())).await;
    sweeper.abort();
    Ok(worker.cut_off())
}

/// Accepts for ever.
async fn accept<H: Handler>(worker: &Arc<Worker>, handler: &Arc<H>, listener: &TcpListener) {
    let mut in_a_row = 0;
    let mut complained = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open(worker, handler, stream);
                complained = false;
                in_a_row += 1;
                if in_a_row == ACCEPT_AT_ONCE {
                    in_a_row = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                worker.counters.accept_errors.add(1);
                if !complained {
                    handler.accept_failed(&error);
                    complained = true;
                }
                sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
}

fn open<H: Handler>(worker: &Arc<Worker>, handler: &Arc<H>, stream: TcpStream) {
    worker.counters.accepted.add(1);
    let connections = &worker.engine.connections;
    let before = connections.fetch_add(1, Ordering::Relaxed);
    if before >= worker.engine.sizes.connections {
        connections.fetch_sub(1, Ordering::Relaxed);
        refuse(worker, stream);
        return;
    }
    let seat = worker.seat();
    let number = seat.number;
    // A new task does not run before this one waits.
    let task = tokio::spawn(http1::serve(stream, seat, Arc::clone(handler)));
    worker.set_task(number, task.abort_handle());
}

/// One connection too many: it is told so, as long as there are not too many of these too.
fn refuse(worker: &Arc<Worker>, stream: TcpStream) {
    worker.counters.refused.add(1);
    if worker.refusals.load(Ordering::Relaxed) >= MOST_REFUSALS {
        let _ = stream.try_write(OVERLOADED);
        return;
    }
    worker.refusals.fetch_add(1, Ordering::Relaxed);
    let worker = Arc::clone(worker);
    tokio::spawn(async move {
        let _ = stream.try_write(OVERLOADED);
        see_off(&stream).await;
        worker.refusals.fetch_sub(1, Ordering::Relaxed);
    });
}

/// accept(2) also reports what happened to a connection while it waited; the next one may be fine.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
