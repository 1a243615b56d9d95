//! The neighbour of the isolation pass: a program that uses CPU, memory and sockets as fast as it can, until it is killed.
//!
//! It runs in a container of its own (`profile::isolation`), whose limits bound it.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// What the neighbour prints when all of its memory is in use and its threads have begun.
pub const BURNING: &str = "burning";

/// Bytes of one message between two sockets; both ends are on one thread, and the kernel holds so much for a socket.
const MESSAGE: usize = 16 << 10;
/// Messages on a connection before it is closed and another one opened.
const MESSAGES: u32 = 64;
/// Bytes of memory that are written between two messages.
const STRIDE: usize = 1 << 20;
/// The least line of a cache: a write to each makes all of them move.
const LINE: usize = 64;
/// Rounds of arithmetic between two messages, some tenths of a millisecond.
const ARITHMETIC: u64 = 100_000;

/// Burns: one thread on each CPU that it may use, `memory` bytes over all of them. `say` is called with [`BURNING`] once.
///
/// # Errors
/// When a socket cannot be used. It does not return otherwise.
pub fn burn(memory: usize, say: impl FnOnce(&str) -> io::Result<()>) -> io::Result<()> {
    let threads = std::thread::available_parallelism()?.get();
    let share = (memory / threads).max(STRIDE);
    let mut all: Vec<Vec<u8>> = (0..threads).map(|_| vec![1; share]).collect();
    say(BURNING)?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.iter_mut().map(|memory| scope.spawn(|| work(memory))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })
}

fn work(memory: &mut [u8]) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let (sent, mut received) = (vec![7; MESSAGE], vec![0; MESSAGE]);
    let mut at = 0;
    let mut number = 1_u64;
    loop {
        let mut client = TcpStream::connect(address)?;
        let (mut server, _) = listener.accept()?;
        for _ in 0..MESSAGES {
            client.write_all(&sent)?;
            server.read_exact(&mut received)?;
            for _ in 0..ARITHMETIC {
                number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            }
            let end = (at + STRIDE).min(memory.len());
            memory[at..end].iter_mut().step_by(LINE).for_each(|byte| *byte = byte.wrapping_add(1));
            at = if end == memory.len() { 0 } else { end };
        }
    }
}
