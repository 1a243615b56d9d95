//! The state of a server: what it was told, what it found and decided, and what it holds.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use tare_http::{Engine, Settings, Sizes};

use crate::cache::Cache;
use crate::config::Config;
use crate::limits::Limits;
use crate::log::Log;
use crate::sizing::{self, Available, Choices, Sizing};
use crate::usage;

/// A server.
#[derive(Debug)]
pub struct Server {
    /// What it was told at the start.
    pub config: Config,
    /// What it found.
    pub limits: Limits,
    /// What it decided.
    pub sizing: Sizing,
    /// Where it logs.
    pub log: Log,
    pub(crate) engine: Arc<Engine>,
    pub(crate) cache: Option<Cache>,
    pub(crate) started: Instant,
    /// Bytes that `/alloc` holds.
    pub(crate) allocated: AtomicU64,
}

impl Server {
    /// A server of these settings, in a container of these limits. `open_files` is how many files the
    /// process may have open.
    #[must_use]
    pub fn new(config: Config, limits: Limits, open_files: u64) -> Arc<Self> {
        let available = Available {
            cpu_millis: limits.cpu_millis(),
            cpus: &limits.cpus,
            memory: limits.memory,
            pids: limits.pids,
            open_files,
        };
        let sizing = sizing::decide(&available, &choices(&config));
        let sizes = Sizes {
            workers: sizing.workers,
            pinned: sizing.pinned.clone(),
            stack_size: sizing.stack_size,
            connections: sizing.connections,
            memory: sizing.budget.heap,
            backlog: sizing.backlog,
        };
        let cache = config
            .files
            .clone()
            .map(|folder| Cache::new(folder, sizing.budget.cache, config.cache_fresh, config.cache_stale));
        Arc::new(Self {
            log: Log::new(config.log, config.log_format),
            engine: Engine::new(sizes, &settings(&config)),
            cache,
            started: Instant::now(),
            allocated: AtomicU64::new(0),
            config,
            limits,
            sizing,
        })
    }

    /// Takes over what can be changed while it runs.
    pub fn reload(&self, config: &Config) {
        self.engine.set(&settings(config));
        self.log.set(config.log, config.log_format);
        if let Some(cache) = &self.cache {
            cache.set_times(config.cache_fresh, config.cache_stale);
        }
    }

    /// Whether the process holds more memory than its budget has.
    pub(crate) fn is_over_budget(&self) -> bool {
        usage::resident_bytes().is_some_and(|bytes| bytes > self.sizing.budget.total())
    }
}

fn choices(config: &Config) -> Choices {
    Choices {
        rules: config.sizing,
        workers: config.workers,
        pin: config.pin,
        stack_size: config.stack_size,
        memory: config.memory,
        connections: config.max_connections,
        cache: config.cache_memory,
        backlog: Some(config.backlog),
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        header_timeout: config.header_timeout,
        body_timeout: config.body_timeout,
        write_timeout: config.write_timeout,
        idle_timeout: config.idle_timeout,
        linger: config.linger,
        stop_deadline: config.stop_deadline,
        head_limit: usize::try_from(config.head_limit).unwrap_or(usize::MAX),
        body_limit: config.body_limit,
    }
}
