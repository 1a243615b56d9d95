//! The threads that compress, what waits for them, and how much of it may be in memory.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tare_gzip::{Compressor, Piece};

use super::Compression;

/// Members up to this length are compressed at the highest level, whatever is asked for: it takes no
/// time there, and the default base layer without certificates is such a block.
pub(super) const SHORT_BLOCK: usize = 64 << 10;

/// More threads than this only cost memory: a block in and a block out each.
const MOST_THREADS: usize = 8;

/// A part of the tar, with what comes before it if that helps to compress it.
pub(super) struct Block {
    pub(super) bytes: Arc<Vec<u8>>,
    /// How many of the bytes come before the block.
    pub(super) before: usize,
    /// Whether it becomes a member or a frame of its own.
    pub(super) alone: bool,
}

/// A compressed block.
pub(super) enum Compressed {
    /// As it is to be written.
    Bytes(Vec<u8>),
    /// To be joined to those before it.
    Piece(Piece),
}

/// Compresses one block with what a thread keeps from block to block.
#[derive(Default)]
struct BlockCompressor {
    gzip: Option<(u8, Compressor)>,
}

impl BlockCompressor {
    fn compress(&mut self, compression: Compression, block: Block) -> BlockResult {
        match compression {
            Compression::None => Ok(Compressed::Bytes(Arc::unwrap_or_clone(block.bytes))),
            Compression::Gzip(level) => {
                let short = block.alone && block.bytes.len() <= SHORT_BLOCK;
                let level = if short { 12 } else { level.unwrap_or(Compression::DEFAULT_GZIP) };
                let compressor = match &mut self.gzip {
                    Some((kept, compressor)) if *kept == level => compressor,
                    other => &mut other.insert((level, Compressor::new(level).map_err(io::Error::other)?)).1,
                };
                let compressed = if block.alone {
                    compressor.member(&block.bytes).map(Compressed::Bytes)
                } else {
                    compressor.piece(&block.bytes, block.before).map(Compressed::Piece)
                };
                compressed.map_err(io::Error::other)
            }
            Compression::Zstd(level) => {
                zstd::bulk::compress(&block.bytes, i32::from(level)).map(Compressed::Bytes)
            }
        }
    }
}

/// What became of a block.
pub(super) type BlockResult = io::Result<Compressed>;

/// What is to be done with a block, and who wants to have the result.
pub(super) struct Job {
    pub(super) compression: Compression,
    pub(super) block: Block,
    pub(super) done: Sender<BlockResult>,
}

impl Job {
    fn run(self, compressor: &mut BlockCompressor) {
        // A layer that failed no longer listens; its blocks need no answer.
        let _ = self.done.send(compressor.compress(self.compression, self.block));
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
    /// For the last block of a layer; none where one thread is all there is to be.
    spare: Option<Mutex<BlockCompressor>>,
}

impl Pool {
    /// Starts `threads` threads, at least one and at most eight.
    #[must_use]
    pub fn start(threads: usize) -> Self {
        let threads = threads.clamp(1, MOST_THREADS);
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let run = move || {
            let mut compressor = BlockCompressor::default();
            loop {
                let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(job) = job else { return };
                job.run(&mut compressor);
            }
        };
        // One more than there are threads, so that a block is ready when a thread is.
        let permits = Arc::new(Permits { free: Mutex::new(threads + 1), freed: Condvar::new() });
        // They end when there is nobody left to give them work, and give their memory back then.
        for _ in 0..threads {
            std::thread::spawn(run.clone());
        }
        Self { jobs, permits, spare: (threads > 1).then(Mutex::default) }
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

    /// The same with the last block of a layer, which is compressed at once unless another layer does so with its
    /// own: all that is left to do for it is to wait, and a thread that is woken may run late.
    pub(super) fn submit_last(&self, job: Job) -> io::Result<()> {
        match self.spare.as_ref().map(Mutex::try_lock) {
            Some(Ok(mut compressor)) => job.run(&mut compressor),
            _ => self.submit(job)?,
        }
        Ok(())
    }
}

pub(super) fn thread_gone() -> io::Error {
    io::Error::other("a compressing thread ended early")
}
