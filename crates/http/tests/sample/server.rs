//! The server of the tests as a process of its own, so that what it holds can be told from what the test holds.
//!
//! Its arguments are `NAME=NUMBER`: sizes in bytes, times in milliseconds. It runs until it is killed.

#[path = "mod.rs"]
mod sample;

use std::future::pending;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tare_http::Engine;

fn main() -> io::Result<()> {
    let (mut sizes, mut settings) = (sample::sizes(), sample::settings());
    for argument in std::env::args().skip(1) {
        let (name, number) = argument.split_once('=').ok_or_else(|| io::Error::other(argument.clone()))?;
        let number: u64 = number.parse().map_err(io::Error::other)?;
        let millis = Duration::from_millis(number);
        match name {
            "memory" => sizes.memory = number,
            "head-limit" => settings.head_limit = usize::try_from(number).map_err(io::Error::other)?,
            "body-limit" => settings.body_limit = number,
            "idle-timeout" => settings.idle_timeout = millis,
            "write-timeout" => settings.write_timeout = millis,
            _ => return Err(io::Error::other(argument)),
        }
    }
    let listeners = sample::listeners(sizes.workers)?;
    for listener in listeners.iter().take(1) {
        writeln!(io::stderr(), "listening on {}", listener.local_addr()?)?;
    }
    let engine = Engine::new(sizes, &settings);
    let handler = Arc::new(sample::Sample::new(Arc::clone(&engine)));
    tare_http::runtime()?.block_on(engine.run(handler, listeners, pending::<()>()))?;
    Ok(())
}
