//! The threads that compress, what waits for them, and how much of it may be in memory.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use libdeflater::{CompressionLvl, Compressor};

use super::Compression;
use crate::digest::Digest;

/// More threads than this only cost memory: a block in and a block out each.
const MOST_THREADS: usize = 8;

/// A compressed block.
pub(super) type BlockResult = io::Result<Vec<u8>>;

/// A block of the tar, and where its compressed bytes go.
pub(super) struct Job {
    pub(super) compression: Compression,
    pub(super) block: Arc<Vec<u8>>,
    pub(super) done: Sender<BlockResult>,
}

impl Job {
    fn run(self) {
        // A layer that failed no longer listens; its blocks need no answer.
        let _ = self.done.send(compress(self.compression, &self.block));
    }
}

fn compress(compression: Compression, block: &[u8]) -> BlockResult {
    match compression {
        Compression::None => Ok(block.to_vec()),
        Compression::Gzip(level) => {
            let level =
                CompressionLvl::new(level.into()).map_err(|_| io::Error::other("no such level of gzip"))?;
            let mut compressor = Compressor::new(level);
            let mut output = vec![0; compressor.gzip_compress_bound(block.len())];
            let length = compressor.gzip_compress(block, &mut output).map_err(io::Error::other)?;
            output.truncate(length);
            Ok(output)
        }
        Compression::Zstd(level) => zstd::bulk::compress(block, level.into()),
    }
}

impl Compression {
    /// The digest of a compressed sample, for the key of the layer cache: it changes when another version of the
    /// compressor writes other bytes. Takes less than a millisecond.
    ///
    /// # Errors
    /// When the compressor refuses its level.
    pub fn fingerprint(self) -> io::Result<Digest> {
        // Words that come again in different places, and numbers (xorshift32, Marsaglia 2003) among them.
        let (mut sample, mut state) = (Vec::with_capacity(4096), 1_u32);
        while sample.len() < 4096 {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let word = ["layer", "digest", "of the ", "\0\0\0\0", "/usr/lib/"][state as usize % 5];
            sample.extend_from_slice(word.as_bytes());
            sample.extend_from_slice(&state.to_le_bytes()[..(state >> 8) as usize % 3]);
        }
        Ok(Digest::of(&compress(self, &sample)?))
    }
}

/// Counts the blocks that may be in memory at once, over all layers.
struct Permits {
    free: Mutex<usize>,
    freed: Condvar,
}

/// The right to have one block in memory; given back when dropped.
pub(super) struct Permit(Arc<Permits>);

impl Permits {
    fn try_take(self: &Arc<Self>) -> Option<Permit> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(1)?;
        Some(Permit(Arc::clone(self)))
    }

    fn take(self: &Arc<Self>) -> Permit {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Permit(Arc::clone(self))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

/// Threads that compress blocks for any number of layers, within one bound on memory.
pub struct Pool {
    jobs: Sender<Job>,
    permits: Arc<Permits>,
}

impl Pool {
    /// Starts `threads` threads, at least one and at most eight.
    #[must_use]
    pub fn start(threads: usize) -> Self {
        let threads = threads.clamp(1, MOST_THREADS);
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let run = move || {
            loop {
                let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(job) = job else { return };
                job.run();
            }
        };
        // One more than there are threads, so that a block is ready when a thread is.
        let permits = Arc::new(Permits { free: Mutex::new(threads + 1), freed: Condvar::new() });
        // They end when there is nobody left to give them work.
        for _ in 0..threads {
            std::thread::spawn(run.clone());
        }
        Self { jobs, permits }
    }

    /// The right to have another block in memory, if that is free.
    pub(super) fn try_permit(&self) -> Option<Permit> {
        self.permits.try_take()
    }

    /// The same; waits until it is free.
    pub(super) fn permit(&self) -> Permit {
        self.permits.take()
    }

    /// Leaves a block to whichever thread is free first.
    pub(super) fn submit(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).map_err(|_| thread_gone())
    }
}

pub(super) fn thread_gone() -> io::Error {
    io::Error::other("a compressing thread ended early")
}
