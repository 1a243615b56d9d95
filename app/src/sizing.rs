//! How large everything is made, decided from what the container allows. Pure: limits and settings go in.
//!
//! To be copied by itself: it needs the standard library alone. What is [`Available`] may come from the module
//! `limits` or from anywhere else.
//!
//! There are two sets of rules. The article's are those of the report that this server follows; the measured
//! ones are ours, and the default. `docs/tuning.md` has what was measured for each.

/// Which rules decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rules {
    /// Those of the article.
    Article,
    /// Ours.
    #[default]
    Measured,
}

impl Rules {
    /// The rules of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Article, Self::Measured].into_iter().find(|it| it.name() == name)
    }

    /// As they are called in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Article => "article",
            Self::Measured => "measured",
        }
    }
}

/// What there is to be divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Available<'a> {
    /// Thousandths of a CPU that can be used.
    pub cpu_millis: u64,
    /// The CPUs that may be used, by number; empty when that is not known.
    pub cpus: &'a [u32],
    /// Bytes of memory, as far as they are limited.
    pub memory: Option<u64>,
    /// Processes and threads, as far as they are limited.
    pub pids: Option<u64>,
    /// Files that the process may have open.
    pub open_files: u64,
}

/// What is set. The rules decide the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Choices {
    /// Which rules decide.
    pub rules: Rules,
    /// Threads that serve.
    pub workers: Option<usize>,
    /// Whether each worker has a CPU of its own.
    pub pin: Option<bool>,
    /// Bytes of stack of each worker but the first.
    pub stack_size: Option<u64>,
    /// Bytes of memory to be divided, instead of what is available.
    pub memory: Option<u64>,
    /// Connections at a time.
    pub connections: Option<usize>,
    /// Bytes of cached responses.
    pub cache: Option<u64>,
    /// Connections that wait to be accepted.
    pub backlog: Option<u32>,
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

/// Decides.
#[must_use]
pub fn decide(available: &Available<'_>, choices: &Choices) -> Sizing {
    let rules = choices.rules;
    let memory = choices.memory.or(available.memory).unwrap_or(DEFAULT_MEMORY);
    let workers = choices.workers.unwrap_or_else(|| workers(rules, available));
    let stack_size = choices.stack_size.map_or_else(
        || match rules {
            Rules::Article => ARTICLE_STACK,
            Rules::Measured => STACK,
        },
        |bytes| usize::try_from(bytes).unwrap_or(usize::MAX),
    );
    let pin = choices.pin.unwrap_or(rules == Rules::Article);
    let pinned = match available.cpus {
        cpus if pin => cpus.iter().copied().cycle().take(if cpus.is_empty() { 0 } else { workers }).collect(),
        _ => Vec::new(),
    };
    Sizing {
        workers,
        pinned,
        stack_size,
        connections: choices.connections.unwrap_or_else(|| connections(rules, memory, available.open_files)),
        budget: budget(rules, memory, workers, stack_size, choices.cache),
        backlog: choices.backlog.unwrap_or(BACKLOG),
    }
}

fn workers(rules: Rules, available: &Available<'_>) -> usize {
    // A share of a CPU needs a worker too.
    let cpus = usize::try_from(available.cpu_millis.div_ceil(1000)).unwrap_or(usize::MAX).max(1);
    let wanted = match rules {
        Rules::Article => cpus.saturating_mul(2).clamp(ARTICLE_WORKERS.0, ARTICLE_WORKERS.1),
        Rules::Measured => cpus.min(MOST_WORKERS),
    };
    // Two for what is not a worker: a thread that reads files for the cache, and the health check.
    let most = available.pids.map_or(usize::MAX, |pids| usize::try_from(pids.saturating_sub(2)).unwrap_or(1));
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

    const MIB: u64 = 1 << 20;

    const CPUS: [u32; 2] = [0, 1];
    const MEASURED: Choices = Choices {
        rules: Rules::Measured,
        workers: None,
        pin: None,
        stack_size: None,
        memory: None,
        connections: None,
        cache: None,
        backlog: None,
    };
    const ARTICLE: Choices = Choices { rules: Rules::Article, ..MEASURED };

    fn available(cpu_millis: u64, memory: Option<u64>) -> Available<'static> {
        Available { cpu_millis, cpus: &CPUS, memory, pids: None, open_files: 1024 }
    }

    #[test]
    fn article_pins_workers_in_turn_and_ours_leaves_them_to_the_kernel() {
        assert_eq!(Choices::default(), MEASURED);
        let expected = Sizing { pinned: CPUS.repeat(2), ..decide(&available(2000, None), &ARTICLE) };
        assert_eq!(decide(&available(2000, None), &ARTICLE), expected);
        assert_eq!(decide(&available(2000, None), &MEASURED).pinned, [0; 0]);
    }

    #[test]
    fn article_has_twice_the_cpus_between_4_and_16_and_ours_has_one_for_each() {
        for (cpu_millis, expected) in
            [(500, (4, 1)), (1500, (4, 2)), (2000, (4, 2)), (6000, (12, 6)), (32_000, (16, 32))]
        {
            let available = available(cpu_millis, None);
            let workers = |choices: &Choices| decide(&available, choices).workers;
            assert_eq!((workers(&ARTICLE), workers(&MEASURED)), expected, "{available:?}");
        }
    }

    #[test]
    fn workers_are_never_more_than_the_processes_that_may_be() {
        for (pids, expected) in [(4, 2), (1, 1)] {
            let available = Available { pids: Some(pids), ..available(8000, None) };
            assert_eq!(decide(&available, &MEASURED).workers, expected, "{pids}");
        }
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
            let available = Available { open_files: files, ..available(1000, memory) };
            let connections = |choices: &Choices| decide(&available, choices).connections;
            assert_eq!((connections(&ARTICLE), connections(&MEASURED)), expected, "{memory:?}");
        }
    }

    #[test]
    fn budget_never_exceeds_the_memory_and_ours_leaves_the_kernel_a_fifth() {
        for memory in [16 * MIB, 64 * MIB, 512 * MIB] {
            let available = available(2000, Some(memory));
            let hundredth = memory / 100;
            let expected = Budget { heap: hundredth * 70, stacks: hundredth * 10, cache: hundredth * 20 };
            assert_eq!(decide(&available, &ARTICLE).budget, expected);

            let ours = decide(&available, &MEASURED).budget;
            assert_eq!((ours.stacks, ours.cache), (256 << 10, hundredth * 20));
            assert_eq!(ours.total(), hundredth * 80);
        }
    }

    #[test]
    fn settings_win_over_rules() {
        let choices = Choices {
            rules: Rules::Measured,
            workers: Some(3),
            stack_size: Some(MIB),
            connections: Some(7),
            memory: Some(100 * MIB),
            cache: Some(5 * MIB),
            pin: Some(true),
            backlog: Some(9),
        };
        let available = Available { open_files: 4, ..available(2000, Some(MIB)) };
        let sizing = decide(&available, &choices);
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
