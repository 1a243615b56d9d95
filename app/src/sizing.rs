//! How large everything is made, decided from what the container allows. Pure: limits and settings go in.
//!
//! There are two sets of rules. The article's are those of the report that this server follows; the measured
//! ones are ours, and the default. `docs/tuning.md` has what was measured for each.

use crate::config::Config;
use crate::limits::Limits;

/// Which rules decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rules {
    /// Those of the article.
    Article,
    /// Ours.
    #[default]
    Measured,
}

/// The sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizing {
    /// Threads that serve connections, each with a listener, an event loop and buffers of its own.
    pub workers: usize,
    /// The CPU of each worker; empty when the kernel places them.
    pub pinned: Vec<u32>,
    /// Bytes of stack for each worker but the first, which has the process's.
    pub stack_size: usize,
    /// Connections at a time. One more is answered 503.
    pub connections: usize,
    /// How the memory is divided.
    pub budget: Budget,
    /// Connections that may wait to be accepted, for each listener. The kernel has a limit of its own.
    pub backlog: u32,
}

/// Bytes of memory, by use. What the three leave of the limit is the kernel's, for the buffers of sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Connections, their buffers, requests in progress.
    pub heap: u64,
    /// The stacks of the workers.
    pub stacks: u64,
    /// Cached responses.
    pub cache: u64,
}

impl Budget {
    /// All of it.
    #[must_use]
    pub fn total(self) -> u64 {
        self.heap + self.stacks + self.cache
    }
}

/// The memory that is divided where there is no limit: the article's default.
pub const DEFAULT_MEMORY: u64 = 512 << 20;

/// The article's `cpus.saturating_mul(2).clamp(4, 16)`.
const ARTICLE_WORKERS: (usize, usize) = (4, 16);
/// The article's 2 MiB.
const ARTICLE_STACK: usize = 2 << 20;
/// The article's one connection for each MiB, at most so many.
const ARTICLE_CONNECTIONS: u64 = 10_000;
/// The article's `LISTEN_BACKLOG`.
pub const BACKLOG: u32 = 65_535;

/// Nothing on a worker recurses, and what needs a deep stack, compressing for the cache, has threads of its own.
const STACK: usize = 256 << 10;
/// Memory granted to a connection, for its task and what the kernel keeps for its socket. The buffers of
/// requests in progress are bounded by the heap and not by this.
const BYTES_PER_CONNECTION: u64 = 16 << 10;
/// One event loop fills a CPU. A bound, should a machine be read wrongly.
const MOST_WORKERS: usize = 64;
/// Files that are open beside connections: standard streams, and for each worker a listener, an epoll, an
/// eventfd and a share of what the cache reads.
const OTHER_FILES: u64 = 16;

/// Decides, from limits, settings and the number of files that may be open.
#[must_use]
pub fn decide(limits: &Limits, config: &Config, open_files: u64) -> Sizing {
    let rules = config.sizing;
    let memory = config.memory.or(limits.memory).unwrap_or(DEFAULT_MEMORY);
    let workers = config.workers.unwrap_or_else(|| workers(rules, limits));
    let stack_size = config.stack_size.map_or_else(
        || match rules {
            Rules::Article => ARTICLE_STACK,
            Rules::Measured => STACK,
        },
        |bytes| usize::try_from(bytes).unwrap_or(usize::MAX),
    );
    let pin = config.pin.unwrap_or(rules == Rules::Article);
    let pinned = match limits.cpus.as_slice() {
        cpus if pin => cpus.iter().copied().cycle().take(if cpus.is_empty() { 0 } else { workers }).collect(),
        _ => Vec::new(),
    };
    Sizing {
        workers,
        pinned,
        stack_size,
        connections: config.max_connections.unwrap_or_else(|| connections(rules, memory, open_files)),
        budget: budget(rules, memory, workers, stack_size, config.cache_memory),
        backlog: config.backlog,
    }
}

fn workers(rules: Rules, limits: &Limits) -> usize {
    // A share of a CPU needs a worker too.
    let cpus = usize::try_from(limits.cpu_millis().div_ceil(1000)).unwrap_or(usize::MAX).max(1);
    let wanted = match rules {
        Rules::Article => cpus.saturating_mul(2).clamp(ARTICLE_WORKERS.0, ARTICLE_WORKERS.1),
        Rules::Measured => cpus.min(MOST_WORKERS),
    };
    // Two for what is not a worker: a thread that reads files for the cache, and the health check.
    let most = limits.pids.map_or(usize::MAX, |pids| usize::try_from(pids.saturating_sub(2)).unwrap_or(1));
    wanted.min(most).max(1)
}

fn connections(rules: Rules, memory: u64, open_files: u64) -> usize {
    let wanted = match rules {
        Rules::Article => (memory >> 20).min(ARTICLE_CONNECTIONS),
        Rules::Measured => memory / BYTES_PER_CONNECTION,
    };
    let possible = open_files.saturating_sub(OTHER_FILES);
    usize::try_from(wanted.min(possible).max(1)).unwrap_or(usize::MAX)
}

fn budget(rules: Rules, memory: u64, workers: usize, stack_size: usize, cache: Option<u64>) -> Budget {
    let percent = |percent: u64| memory / 100 * percent;
    match rules {
        Rules::Article => {
            Budget { heap: percent(70), stacks: percent(10), cache: cache.unwrap_or(percent(20)) }
        }
        Rules::Measured => {
            let stacks = (workers as u64 - 1) * stack_size as u64;
            let cache = cache.unwrap_or(percent(20));
            // A fifth is left to the kernel: what it needs for sockets counts against the limit.
            let heap = percent(80).saturating_sub(stacks + cache).max(1 << 20);
            Budget { heap, stacks, cache }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::values::Quota;

    const MIB: u64 = 1 << 20;

    fn limits(quota: Option<u64>, cpus: u32, memory: Option<u64>) -> Limits {
        let quota = quota.map(|quota| Quota { quota, period: 100_000 });
        Limits { quota, cpus: (0..cpus).collect(), memory, ..Limits::default() }
    }

    fn article() -> Config {
        Config { sizing: Rules::Article, ..Config::default() }
    }

    #[test]
    fn article_has_twice_the_cpus_between_4_and_16_and_ours_has_one_for_each() {
        for (quota, cpus, expected) in [
            (Some(50_000), 2, (4, 1)),
            (Some(150_000), 8, (4, 2)),
            (None, 2, (4, 2)),
            (None, 6, (12, 6)),
            (None, 32, (16, 32)),
        ] {
            let limits = limits(quota, cpus, None);
            let workers = |config: &Config| decide(&limits, config, 1024).workers;
            assert_eq!((workers(&article()), workers(&Config::default())), expected, "{limits:?}");
        }
    }

    #[test]
    fn workers_are_never_more_than_the_processes_that_may_be() {
        let limits = Limits { pids: Some(4), ..limits(None, 8, None) };
        assert_eq!(decide(&limits, &Config::default(), 1024).workers, 2);
        let limits = Limits { pids: Some(1), ..limits };
        assert_eq!(decide(&limits, &Config::default(), 1024).workers, 1);
    }

    #[test]
    fn connections_follow_memory_and_the_files_that_may_be_open() {
        for (memory, files, expected) in [
            (Some(16 * MIB), 1 << 20, (16, 1024)),
            (Some(512 * MIB), 1 << 20, (512, 32_768)),
            (None, 1 << 20, (512, 32_768)),
            (Some(64 << 30), 1 << 30, (10_000, 4_194_304)),
            (Some(512 * MIB), 1024, (512, 1008)),
            (Some(512 * MIB), 3, (1, 1)),
        ] {
            let limits = limits(None, 1, memory);
            let connections = |config: &Config| decide(&limits, config, files).connections;
            assert_eq!((connections(&article()), connections(&Config::default())), expected, "{memory:?}");
        }
    }

    #[test]
    fn budget_never_exceeds_the_memory_and_ours_leaves_the_kernel_a_fifth() {
        for memory in [16 * MIB, 64 * MIB, 512 * MIB] {
            let limits = limits(None, 2, Some(memory));
            let hundredth = memory / 100;
            let expected = Budget { heap: hundredth * 70, stacks: hundredth * 10, cache: hundredth * 20 };
            assert_eq!(decide(&limits, &article(), 1024).budget, expected);

            let ours = decide(&limits, &Config::default(), 1024).budget;
            assert_eq!((ours.stacks, ours.cache), (256 << 10, hundredth * 20));
            assert_eq!(ours.total(), hundredth * 80);
        }
    }

    #[test]
    fn settings_win_over_rules() {
        let config = Config {
            workers: Some(3),
            stack_size: Some(MIB),
            max_connections: Some(7),
            memory: Some(100 * MIB),
            cache_memory: Some(5 * MIB),
            pin: Some(true),
            backlog: 9,
            ..Config::default()
        };
        let sizing = decide(&limits(None, 2, Some(MIB)), &config, 4);
        let budget = Budget { heap: 100 * MIB / 100 * 80 - 7 * MIB, stacks: 2 * MIB, cache: 5 * MIB };
        let expected = Sizing {
            workers: 3,
            pinned: vec![0, 1, 0],
            stack_size: 1 << 20,
            connections: 7,
            budget,
            backlog: 9,
        };
        assert_eq!(sizing, expected);
    }
}
