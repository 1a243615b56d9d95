//! The rules that raise doubts: facts about a run in, [`Doubt`]s out.
//!
//! A limit says where it comes from. A fact that could not be read is a doubt of its own, never "fine".

use super::measurement::Doubt;
use super::stats;
use tare_report::Reading;

/// Share of its CPUs above which the generator may be the bottleneck itself: queueing for them begins
/// before they are full.
pub const GENERATOR_CPU: f64 = 0.85;
/// By which part rate × time may miss the requests under way; ramp up, ramp down and the counting itself
/// account for less.
pub const LITTLES_LAW: f64 = 0.1;
/// Share of CPU time the hypervisor may take: above it a comparison of 5 % is mostly one of neighbours.
pub const STEAL: f64 = 0.02;
/// Share of CPU time that others than server and generator may use. What the kernel counts in ticks is not
/// nearer than some hundredths in a short run; a tenth is a neighbour.
pub const OTHERS: f64 = 0.1;
/// Use of its CPU limit below which a server should not be throttled …
pub const THROTTLED_BELOW: f64 = 0.5;
/// … in more than this share of periods.
pub const THROTTLED_PERIODS: f64 = 0.1;
/// Coefficient of variation above which windows or runs are scattered.
pub const VARIATION: f64 = 0.05;
/// The same for start-up times, which one disturbance of a few milliseconds doubles.
pub const STARTUP_VARIATION: f64 = 0.25;
/// Share of its memory limit above which reclaim may be what is measured.
pub const MEMORY: f64 = 0.95;
/// Runs that a median needs: with fewer than six no interval of 95 % is narrower than the whole range.
pub const RUNS: u64 = 6;
/// Samples that must lie beyond a percentile for it to be one of many.
pub const BEYOND_PERCENTILE: f64 = 10.0;

/// One load case, as the generator counted it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadFacts {
    /// Share of its CPUs that the generator used; none if it could not be read.
    pub generator_cpu: Option<f64>,
    /// Requests under way on average; none if it was not counted.
    pub in_flight: Option<f64>,
    /// Answers in a second.
    pub rate: f64,
    /// Mean nanoseconds from sending to the last byte.
    pub mean_service: f64,
    /// Requests sent.
    pub sent: u64,
    /// Requests without a right answer.
    pub failed: u64,
    /// Answers whose content was looked at.
    pub checked: u64,
    /// Those of them that were wrong.
    pub wrong: u64,
    /// Requests planned; 0 for a closed loop.
    pub planned: u64,
    /// Requests planned and not sent.
    pub unsent: u64,
    /// Connections asked for.
    pub connections_asked: u64,
    /// Connections really open, the least over the windows.
    pub connections_open: u64,
}

/// What speaks against every figure of a load case.
#[must_use]
pub fn load(facts: &LoadFacts) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    match facts.generator_cpu {
        None => doubts.push(Doubt::Unmeasured { what: Reading::GeneratorCpu }),
        Some(cpu) if cpu > GENERATOR_CPU => doubts.push(Doubt::GeneratorBound { cpu, limit: GENERATOR_CPU }),
        Some(_) => {}
    }
    if let Some(in_flight) = facts.in_flight {
        let expected = facts.rate * facts.mean_service / 1e9;
        // Below one request under way the counting is coarser than the law.
        if (in_flight - expected).abs() > LITTLES_LAW * in_flight.max(1.0) {
            doubts.push(Doubt::LittlesLaw { in_flight, expected });
        }
    }
    if facts.failed > 0 {
        doubts.push(Doubt::Errors { failed: facts.failed, sent: facts.sent });
    }
    if facts.wrong > 0 {
        doubts.push(Doubt::WrongAnswers { wrong: facts.wrong, checked: facts.checked });
    }
    if facts.unsent > 0 {
        doubts.push(Doubt::Unsent { unsent: facts.unsent, planned: facts.planned });
    }
    if facts.connections_open < facts.connections_asked {
        doubts.push(Doubt::FewerConnections { asked: facts.connections_asked, open: facts.connections_open });
    }
    doubts
}

/// What the kernel counted of the server's CPU time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpuFacts {
    /// Whether the profile sets a quota.
    pub has_quota: bool,
    /// Periods of a quota.
    pub periods: u64,
    /// Those in which it was stopped.
    pub throttled: u64,
    /// CPU time used over the CPU time that the limit allows, or that the CPUs have.
    pub used_of_limit: f64,
}

/// Throttling that the profile did not ask for.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "periods of a run are few")]
pub fn throttling(facts: &CpuFacts) -> Option<Doubt> {
    let share = facts.throttled as f64 / facts.periods.max(1) as f64;
    let outside = if facts.has_quota {
        facts.used_of_limit < THROTTLED_BELOW && share > THROTTLED_PERIODS
    } else {
        facts.throttled > 0
    };
    outside.then_some(Doubt::ThrottledOutsideLimit {
        throttled: facts.throttled,
        periods: facts.periods,
        used_of_limit: facts.used_of_limit,
    })
}

/// The machine meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineFacts {
    /// Share of all CPU time that the hypervisor took (`steal` of /proc/stat); none if it could not be read.
    pub steal: Option<f64>,
    /// Share of all CPU time that others on this host used; none where that was not looked at.
    pub others: Option<f64>,
    /// The CPUs that server and generator shared.
    pub shared_cpus: Vec<usize>,
    /// The generator's CPUs that are threads of the server's cores.
    pub shared_cores: Vec<usize>,
}

/// A quiet machine.
impl Default for MachineFacts {
    fn default() -> Self {
        Self { steal: Some(0.0), others: Some(0.0), shared_cpus: vec![], shared_cores: vec![] }
    }
}

/// What speaks against every noisy figure of a run.
#[must_use]
pub fn machine(facts: &MachineFacts) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    match facts.steal {
        None => doubts.push(Doubt::Unmeasured { what: Reading::HostCpu }),
        Some(share) if share > STEAL => doubts.push(Doubt::Steal { share, limit: STEAL }),
        Some(_) => {}
    }
    if let Some(share) = facts.others.filter(|share| *share > OTHERS) {
        doubts.push(Doubt::BusyHost { share, limit: OTHERS });
    }
    let list = |cpus: &[usize]| cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    if !facts.shared_cpus.is_empty() {
        doubts.push(Doubt::SharedCpus { cpus: list(&facts.shared_cpus) });
    } else if !facts.shared_cores.is_empty() {
        doubts.push(Doubt::SharedCore { cpus: list(&facts.shared_cores) });
    }
    doubts
}

/// The container's memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryFacts {
    /// Highest use; none if it could not be read.
    pub peak: Option<u64>,
    /// The limit, if there is one.
    pub limit: Option<u64>,
    /// Processes killed for it (`oom_kill` of memory.events).
    pub oom_kills: u64,
}

/// What memory did to the figures.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "bytes of memory are below 2^53")]
pub fn memory(facts: &MemoryFacts) -> Vec<Doubt> {
    if facts.oom_kills > 0 {
        return vec![Doubt::OutOfMemory { kills: facts.oom_kills, limit: facts.limit }];
    }
    match (facts.peak, facts.limit) {
        (None, Some(_)) => vec![Doubt::Unmeasured { what: Reading::Memory }],
        (Some(peak), Some(limit)) if peak as f64 > MEMORY * limit as f64 => {
            vec![Doubt::NearMemoryLimit { peak, limit }]
        }
        _ => vec![],
    }
}

/// Whether there are enough runs for a median.
#[must_use]
pub fn runs(samples: usize) -> Option<Doubt> {
    let samples = samples as u64;
    (samples < RUNS).then_some(Doubt::TooFewSamples { samples, needed: RUNS })
}

/// Whether there are enough requests for a percentile: ten must lie beyond it.
#[must_use]
pub fn percentile(samples: u64, percent: f64) -> Option<Doubt> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a percentile of a table, at most 99.99"
    )]
    let needed = (BEYOND_PERCENTILE * 100.0 / (100.0 - percent)).round() as u64;
    (samples < needed).then_some(Doubt::TooFewSamples { samples, needed })
}

/// Whether the samples lie near enough together for one number to stand for them.
#[must_use]
pub fn scattered(samples: &[f64], limit: f64) -> Option<Doubt> {
    let variation = stats::variation(samples).filter(|variation| *variation > limit)?;
    Some(Doubt::Scattered { variation, limit })
}

/// How many windows of a series are warm-up, or the doubt that it becomes steady.
///
/// # Errors
/// [`Doubt::NoSteadyState`], or [`Doubt::TooFewSamples`] where there are too few windows to judge.
pub fn steady(windows: &[f64]) -> Result<usize, Doubt> {
    if windows.len() < stats::STEADY_WINDOWS {
        let (samples, needed) = (windows.len() as u64, stats::STEADY_WINDOWS as u64);
        return Err(Doubt::TooFewSamples { samples, needed });
    }
    stats::steady(windows, VARIATION)
        .map_err(|variation| Doubt::NoSteadyState { windows: windows.len() as u64, variation })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 64 connections, each request 1.6 ms: 40 000 in a second.
    fn good() -> LoadFacts {
        LoadFacts {
            generator_cpu: Some(0.6),
            in_flight: Some(64.0),
            rate: 40_000.0,
            mean_service: 1.6e6,
            sent: 400_000,
            checked: 400,
            connections_asked: 64,
            connections_open: 64,
            ..LoadFacts::default()
        }
    }

    fn kinds(doubts: &[Doubt]) -> Vec<&'static str> {
        doubts.iter().map(Doubt::kind).collect()
    }

    #[test]
    fn a_good_load_raises_no_doubt_and_each_fault_its_own() {
        assert_eq!(load(&good()), []);
        for (facts, kind) in [
            (LoadFacts { generator_cpu: Some(0.86), ..good() }, "generator-bound"),
            (LoadFacts { generator_cpu: None, ..good() }, "unmeasured"),
            (LoadFacts { in_flight: Some(80.0), ..good() }, "littles-law"),
            (LoadFacts { rate: 20_000.0, ..good() }, "littles-law"),
            (LoadFacts { failed: 1, ..good() }, "errors"),
            (LoadFacts { wrong: 1, ..good() }, "wrong-answers"),
            (LoadFacts { planned: 100, unsent: 1, ..good() }, "unsent"),
            (LoadFacts { connections_open: 63, ..good() }, "fewer-connections"),
        ] {
            assert_eq!(kinds(&load(&facts)), [kind], "{facts:?}");
        }
        // The published ranking that broke the law: one connection's worth of time at 64 connections.
        assert_eq!(load(&LoadFacts { generator_cpu: Some(0.85), in_flight: Some(66.0), ..good() }), []);
    }

    #[test]
    fn throttling_is_doubtful_only_where_it_was_not_asked_for() {
        let facts = |has_quota, throttled, used_of_limit| CpuFacts {
            has_quota,
            periods: 100,
            throttled,
            used_of_limit,
        };
        for (facts, doubtful) in [
            (facts(true, 90, 1.0), false),
            (facts(true, 90, 0.4), true),
            (facts(true, 10, 0.4), false),
            (facts(false, 0, 0.4), false),
            (facts(false, 1, 0.9), true),
        ] {
            assert_eq!(throttling(&facts).is_some(), doubtful, "{facts:?}");
        }
    }

    #[test]
    fn the_machine_is_doubted_for_steal_and_shared_cpus() {
        assert_eq!(machine(&MachineFacts { steal: Some(0.02), ..MachineFacts::default() }), []);
        let (steal, others) = (Some(0.03), Some(0.11));
        let facts = MachineFacts { steal, others, shared_cpus: vec![0, 1], shared_cores: vec![1] };
        assert_eq!(kinds(&machine(&facts)), ["steal", "busy-host", "shared-cpus"]);
        assert_eq!(machine(&MachineFacts { others: Some(OTHERS), ..MachineFacts::default() }), []);
        let facts =
            MachineFacts { steal: None, others: None, shared_cores: vec![2], ..MachineFacts::default() };
        assert_eq!(kinds(&machine(&facts)), ["unmeasured", "shared-core"]);
    }

    #[test]
    fn an_oom_kill_is_told_as_such_and_not_as_nearly_full() {
        let facts = |peak, oom_kills| MemoryFacts { peak: Some(peak), limit: Some(100), oom_kills };
        assert_eq!(memory(&facts(95, 0)), []);
        assert_eq!(kinds(&memory(&facts(96, 0))), ["near-memory-limit"]);
        assert_eq!(kinds(&memory(&facts(100, 1))), ["out-of-memory"]);
        assert_eq!(memory(&MemoryFacts { peak: Some(96), limit: None, oom_kills: 0 }), []);
        let unread = MemoryFacts { peak: None, limit: Some(100), oom_kills: 0 };
        assert_eq!(kinds(&memory(&unread)), ["unmeasured"]);
    }

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        for (percent, needed) in [(50.0, 20), (90.0, 100), (99.0, 1000), (99.9, 10_000), (99.99, 100_000)] {
            assert_eq!(percentile(needed, percent), None, "p{percent}");
            let few = Doubt::TooFewSamples { samples: needed - 1, needed };
            assert_eq!(percentile(needed - 1, percent), Some(few), "p{percent}");
        }
        assert_eq!((runs(6), runs(5).is_some()), (None, true));
    }

    #[test]
    fn scattered_figures_are_doubted() {
        assert_eq!(scattered(&[100.0, 101.0, 99.0], VARIATION), None);
        assert!(scattered(&[100.0, 150.0, 99.0], VARIATION).is_some());
    }

    #[test]
    fn a_series_without_steady_windows_says_why() {
        assert_eq!(kinds(&[steady(&[1.0; 4]).unwrap_err()]), ["too-few-samples"]);
        assert_eq!(kinds(&[steady(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]).unwrap_err()]), ["no-steady-state"]);
        assert_eq!(steady(&[5.0; 8]), Ok(0));
    }

    proptest! {
        /// Whatever the load, what keeps the law is not doubted for it.
        #[test]
        fn littles_law_holds_for_what_it_is_computed_from(rate in 1.0..1e6_f64, service in 1e3..1e9_f64) {
            let in_flight = Some(rate * service / 1e9);
            let facts = LoadFacts { in_flight, rate, mean_service: service, generator_cpu: Some(0.1), ..LoadFacts::default() };
            prop_assert_eq!(load(&facts), vec![]);
        }
    }
}
