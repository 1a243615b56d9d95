//! The least that answers HTTP/1.1 on Linux: each thread has a listener, an epoll instance and one buffer,
//! reads what is there, answers it in one write, and sends for `/` the very bytes that the sample server
//! sends. What a server adds is measured against it.
//!
//! Left out on purpose: request bodies, timeouts, HEAD, draining on SIGTERM, and pausing when there are no
//! file descriptors left.

mod answer;
mod connection;
mod worker;

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use worker::Worker;

const DEFAULT_PORT: u16 = 60000;

fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::var("PORT").map_or(Ok(DEFAULT_PORT), |port| port.parse())?;
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    for _ in 0..thread::available_parallelism()?.get() {
        let mut worker = Worker::listen(address)?;
        thread::spawn(move || worker.run());
    }
    signals.forever().next();
    Ok(())
}
