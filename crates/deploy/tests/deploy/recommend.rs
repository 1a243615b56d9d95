//! The numbers: formulas, refusals, and properties that hold for any report.

use super::common::{figure, of, random, report};
use proptest::prelude::*;
use tare_deploy::Kind;
use tare_deploy::evidence::Evidence;
use tare_deploy::recommend::{Allowances, Mebibytes, Millicores, Recommendation, Scaling, recommend};
use tare_deploy::settings::Settings;
use tare_oci::units::ByteSize;
use tare_report::measurement::{Doubt, Measurement};
use tare_report::report::{Event, EventKind, Report};
use tare_report::{Pass, Run};

const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

fn numbers(report: &Report, settings: &Settings, kind: Kind) -> Result<Recommendation, (String, String)> {
    let evidence = Evidence::new(report, None, &[]);
    let numbers = evidence.and_then(|it| recommend(it, settings, kind, false, Allowances::default()));
    numbers.map_err(|error| (error.to_string(), error.hint().to_owned()))
}

fn kubernetes(report: &Report, settings: &Settings) -> Recommendation {
    numbers(report, settings, Kind::Kubernetes).unwrap()
}

fn target(numbers: &Recommendation) -> (Millicores, String) {
    let Scaling::Auto { target, .. } = &numbers.scaling else { panic!("fixed: {numbers:?}") };
    (target.value, target.origin.to_string())
}

#[test]
fn the_numbers_of_a_report() {
    let settings = Settings { rate: Some(200_000.0), ..Settings::default() };
    let it = kubernetes(&report(DIGEST), &settings);
    // 200,000 ÷ (63,000 × 0.7) = 4.5 → 5 pods of 40,000/s, at 5.6 µs.
    assert_eq!((it.scaling.least(), it.scaling.most()), (5, 20));
    assert_eq!(it.cpu_request.value, Millicores(224));
    assert_eq!(it.cpu_limit.map(|limit| limit.value), Some(Millicores(500)));
    // 4.6 MB × 1.2 = 5.3 MiB; 5.83 MB × 1.5 = 8.3 MiB, below the floor.
    assert_eq!((it.memory_request.value, it.memory_limit.value), (Mebibytes(6), Mebibytes(16)));
    assert_eq!(
        (it.startup_failures.value, it.pre_stop.value, it.drain.value, it.grace.value),
        (10, 5, 5, 10)
    );
    assert_eq!(
        it.notes,
        ["No load above capacity was measured: only the factor 1.5 covers memory at overload."]
    );
}

#[test]
fn request_and_target_follow_the_cost_of_a_request_and_so_do_their_comments() {
    let settings = Settings { rate: Some(20_000.0), ..Settings::default() };
    let mut report = report(DIGEST);
    let before = kubernetes(&report, &settings);
    assert_eq!(before.cpu_request.value, Millicores(56));
    assert_eq!(
        before.cpu_request.origin.to_string(),
        "CPU per request × 10,000 req/s a pod (20,000 req/s ÷ 2): throughput.cpu-per-request@open-70 = 5.60 µs"
    );
    let rule = "CPU per request × 70.0 % of the rate at the knee";
    let rate = "throughput.rate@open-70 = 63,000 req/s";
    assert_eq!(
        target(&before),
        (Millicores(246), format!("{rule}: throughput.cpu-per-request@open-70 = 5.60 µs, {rate}"))
    );

    of(&mut report, "throughput.cpu-per-request", "open-70").value *= 2.0;
    let after = kubernetes(&report, &settings);
    assert_eq!(after.cpu_request.value, Millicores(112));
    assert_eq!(
        after.cpu_request.origin.to_string(),
        "CPU per request × 10,000 req/s a pod (20,000 req/s ÷ 2): throughput.cpu-per-request@open-70 = 11.2 µs"
    );
    assert_eq!(
        target(&after),
        (Millicores(493), format!("{rule}: throughput.cpu-per-request@open-70 = 11.2 µs, {rate}"))
    );
}

#[test]
fn a_slow_server_gets_longer_probes_and_grace() {
    let mut report = report(DIGEST);
    of(&mut report, "startup.warm.ready", "").samples.push(4.2e9);
    of(&mut report, "startup.warm.stop", "").samples.push(3e9);
    of(&mut report, "throughput.latency.max", "closed").value = 7e9;
    let it = kubernetes(&report, &Settings { pre_stop: Some(10), ..Settings::default() });
    assert_eq!((it.startup_failures.value, it.drain.value, it.grace.value), (42, 20, 30));
}

#[test]
fn memory_is_the_largest_peak_of_all_loads() {
    let mut report = report(DIGEST);
    report.runs[0].measurements.extend([
        figure("throughput.rate", "open-120", 90_000.0),
        figure("throughput.errors", "open-120", 7.0),
        figure("throughput.memory.peak", "open-120", 40.0 * 1_048_576.0),
    ]);
    let evidence = Evidence::new(&report, None, &[]).unwrap();
    let settings = Settings::default();
    let it = recommend(evidence, &settings, Kind::Kubernetes, false, Allowances::default()).unwrap();
    assert_eq!(it.memory_limit.value, Mebibytes(60));
    assert_eq!(
        it.memory_limit.origin.to_string(),
        "largest of start-up and peaks under load × 1.5, at least 16MiB, proved by 20 starts under 16MiB: \
         throughput.memory.peak@open-120 = 41.94 MB"
    );
    assert_eq!(it.notes, [] as [String; 0], "overload was measured");
}

#[test]
fn doubts_that_only_enlarge_numbers_are_taken_and_shown() {
    let mut report = report(DIGEST);
    let doubt = Doubt::GeneratorBound { cpu: 0.99, limit: 0.85 };
    of(&mut report, "throughput.cpu-per-request", "open-70").doubts.push(doubt);
    let it = kubernetes(&report, &Settings::default());
    assert_eq!(
        it.cpu_request.origin.to_string(),
        "CPU per request × 44,100 req/s a pod (70.0 % of the knee): throughput.cpu-per-request@open-70 = 5.60 µs \
         (doubt: the generator used 99.0 % of its CPU (over 85.0 %))"
    );
}

#[test]
fn what_cannot_be_believed_is_refused_or_written_beside_the_number() {
    let mut report = report(DIGEST);
    let doubt = Doubt::NearMemoryLimit { peak: 16_000_000, limit: 16_777_216 };
    of(&mut report, "throughput.memory.peak", "closed").doubts.push(doubt);
    let (message, hint) = numbers(&report, &Settings::default(), Kind::Kubernetes).unwrap_err();
    let figure = "throughput.memory.peak@closed = 5.83 MB (doubt: memory reached 16.00 MB of 16.78 MB)";
    assert_eq!(message, format!("figures are in doubt: {figure}"));
    assert_eq!(
        hint,
        "raise `memory` and compare; or add --allow-doubtful, which writes the doubts beside the numbers"
    );

    let evidence = Evidence::new(&report, None, &[]).unwrap();
    let allow = Allowances { doubtful: true, unproved: false };
    let it = recommend(evidence, &Settings::default(), Kind::Kubernetes, false, allow).unwrap();
    assert!(it.memory_limit.origin.to_string().ends_with(figure), "{}", it.memory_limit.origin);
    assert_eq!(it.notes.last().unwrap(), &format!("Used although they are in doubt: {figure}."));
}

#[test]
fn a_memory_limit_is_proved_by_starts_under_it() {
    let mut large = report(DIGEST);
    large.runs[0].limits.as_mut().unwrap().memory = Some(256 << 20);
    let (message, hint) = numbers(&large, &Settings::default(), Kind::Kubernetes).unwrap_err();
    assert_eq!(message, "the memory limit of 16MiB was not tested by 20 starts");
    assert_eq!(
        hint,
        "run `cargo xtask profile app --pass startup --runs 20 --memory 16MiB --output \
         target/profiles/app/memory-16MiB` and then this again, or add --allow-unproved"
    );

    let proof = |change: &dyn Fn(&mut Report)| {
        let mut small = report(DIGEST);
        small.runs[0].measurements.retain(|it| it.metric.starts_with("startup."));
        change(&mut small);
        let others = [small];
        let evidence = Evidence::new(&large, None, &others).unwrap();
        let it = recommend(evidence, &Settings::default(), Kind::Kubernetes, false, Allowances::default());
        it.map(|it| it.memory_limit.origin.to_string()).map_err(|error| error.to_string())
    };
    assert_eq!(
        proof(&|_| {}).unwrap(),
        "largest of start-up and peaks under load × 1.5, at least 16MiB, proved by 20 starts under 16MiB: \
         throughput.memory.peak@closed = 5.83 MB"
    );
    let failed = |kind, pass| {
        let event = Event { kind, pass, message: String::new(), output: vec![] };
        proof(&|it: &mut Report| it.runs[0].events.push(event.clone()))
    };
    for refused in [
        failed(EventKind::NotReady, Pass::Startup),
        failed(EventKind::OutOfMemory, Pass::Throughput),
        proof(&|it| it.target.digest = "sha256:other".to_owned()),
        proof(&|it| it.runs[0].limits.as_mut().unwrap().memory = Some(17 << 20)),
        proof(&|it| it.runs[0].limits.as_mut().unwrap().memory = None),
        proof(&|it| of(it, "startup.warm.ready", "").samples.truncate(19)),
        proof(&|it| {
            of(it, "startup.warm.ready", "").doubts.push(Doubt::OutOfMemory { kills: 1, limit: None });
        }),
    ] {
        assert_eq!(refused.unwrap_err(), "the memory limit of 16MiB was not tested by 20 starts");
    }

    let evidence = Evidence::new(&large, None, &[]).unwrap();
    let allow = Allowances { doubtful: false, unproved: true };
    let it = recommend(evidence, &Settings::default(), Kind::Kubernetes, false, allow).unwrap();
    assert!(it.memory_limit.origin.to_string().contains("at least 16MiB, not proved by starts:"));
    assert_eq!(it.notes.last().unwrap(), "The memory limit of 16MiB was not tested by 20 starts.");
}

#[test]
fn what_contradicts_the_figures_is_refused() {
    type Change = fn(&mut Report, &mut Settings);
    let cases: [(Change, Kind, &str, &str); 17] = [
        (
            |_, it| it.pre_stop = Some(3_601),
            Kind::Kubernetes,
            "pre-stop is 3601 seconds",
            "write at most 3600: every update waits as long for every pod",
        ),
        (
            |_, it| it.headroom = Some(1.0),
            Kind::Kubernetes,
            "headroom is 1",
            "it is the part of the best load that pods are planned for: write a number between 0 and 1, such as 0.7",
        ),
        (
            |_, it| it.headroom = Some(0.95),
            Kind::Kubernetes,
            "the autoscaler's tolerance of 10 % reaches above the best load: 95.0 % of 63,000 req/s, which may be as low \
             as 62,370 req/s",
            "lower `headroom` under [deploy], profile longer for a narrower interval, or fix --replicas",
        ),
        (
            |it, _| of(it, "throughput.rate", "open-70").interval = Some((40_000.0, 90_000.0)),
            Kind::Kubernetes,
            "the autoscaler's tolerance of 10 % reaches above the best load: 70.0 % of 63,000 req/s, which may be as low \
             as 40,000 req/s",
            "lower `headroom` under [deploy], profile longer for a narrower interval, or fix --replicas",
        ),
        (
            |it, _| of(it, "throughput.cpu-per-request", "open-70").value = 1.0,
            Kind::Kubernetes,
            "the CPU use at the best load is 0.06m, too little for a target of the autoscaler",
            "state a fixed number of pods with --replicas",
        ),
        (
            |_, it| (it.rate, it.replicas) = (Some(200_000.0), Some(2)),
            Kind::Kubernetes,
            "each of 2 pods would get 100,000 req/s, and its best load is 63,000 req/s",
            "5 pods have room for it: --replicas 5",
        ),
        (
            |it, _| of(it, "throughput.cpu-per-request", "open-70").value = 20_000.0,
            Kind::Kubernetes,
            "a pod would need 882m CPU and the profile's limit is 500m",
            "state more pods with --replicas, or profile under a higher limit with --cpus",
        ),
        (
            |_, it| it.rate = Some(f64::NAN),
            Kind::Kubernetes,
            "--rate NaN is no number of requests per second",
            "write a number above 0, such as --rate 2000",
        ),
        (
            |_, it| it.replicas = Some(0),
            Kind::Kubernetes,
            "0 replicas run nothing",
            "state at least one, or leave it out",
        ),
        (
            |_, it| (it.min_replicas, it.max_replicas) = (Some(5), Some(4)),
            Kind::Kubernetes,
            "at least 5 and at most 4 pods",
            "raise max-replicas under [deploy]",
        ),
        (
            |it, _| it.runs[0].measurements.retain(|it| it.metric != "startup.warm.stop"),
            Kind::Kubernetes,
            "the report has no figure startup.warm.stop",
            "profile with the passes startup and throughput, and without options that leave loads out",
        ),
        (
            |it, _| it.runs[0].measurements.retain(|it| it.metric != "throughput.latency.p99.9"),
            Kind::Istio,
            "the report has no figure throughput.latency.p99.9@open-70",
            "profile with the passes startup and throughput, and without options that leave loads out",
        ),
        (
            |it, _| {
                it.runs[0]
                    .measurements
                    .retain(|it| it.case.as_deref() != Some("open-50") && !it.key().ends_with("0"));
            },
            Kind::Kubernetes,
            "the report has no load at a fixed rate that was answered without errors",
            "profile with `loads = [\"closed\", \"50%\", \"70%\", \"90%\"]` under [throughput]",
        ),
        (
            |it, _| it.runs[0].measurements.retain(|it| !it.metric.starts_with("throughput.")),
            Kind::Kubernetes,
            "the report has no load cases",
            "profile with the throughput pass: `cargo xtask profile NAME`",
        ),
        (
            |it, _| of(it, "throughput.memory.peak", "closed").value = -1.0,
            Kind::Kubernetes,
            "throughput.memory.peak@closed of the report is no possible figure: -1",
            "the report is damaged: profile again",
        ),
        (
            |it, _| it.runs.push(it.runs[0].clone()),
            Kind::Kubernetes,
            "the report has several runs with load cases",
            "choose one: --run 1: 0.5 CPU, 16MiB memory, 512 pids; --run 2: 0.5 CPU, 16MiB memory, 512 pids",
        ),
        (
            |it, _| {
                let message = "status 101".to_owned();
                let event = Event { kind: EventKind::Crash, pass: Pass::Throughput, message, output: vec![] };
                it.runs[0].events.push(event);
            },
            Kind::Kubernetes,
            "the server failed while it was measured: crash: status 101",
            "mend the server or raise the profile's limits, then profile again",
        ),
    ];
    for (change, kind, message, hint) in cases {
        let (mut report, mut settings) = (report(DIGEST), Settings::default());
        change(&mut report, &mut settings);
        let error = numbers(&report, &settings, kind).unwrap_err();
        assert_eq!((error.0.as_str(), error.1.as_str()), (message, hint));
    }
}

#[test]
fn a_run_is_chosen_by_its_number() {
    let mut report = report(DIGEST);
    report.runs.insert(0, Run::default());
    let mut second = report.runs[1].clone();
    second.limits.as_mut().unwrap().pids = Some(9);
    report.runs.push(second);
    let pids = |number| Evidence::new(&report, Some(number), &[]).map(|it| it.limits().pids);
    assert_eq!((pids(1), pids(2)), (Ok(Some(512)), Ok(Some(9))));
    assert_eq!(pids(3).unwrap_err().to_string(), "the report has no run 3 with load cases");
    assert_eq!(pids(0).unwrap_err().to_string(), "the report has no run 0 with load cases");
}

#[test]
fn loads_with_errors_are_no_knee() {
    let mut report = report(DIGEST);
    of(&mut report, "throughput.errors", "open-70").value = 1.0;
    of(&mut report, "throughput.unsent", "open-90").value = 1.0;
    let it = kubernetes(&report, &Settings::default());
    assert!(target(&it).1.contains("throughput.rate@open-50 = 45,000 req/s"));
    assert_eq!(
        it.notes[0],
        "No load above open-50 was answered without errors: the best load is there or higher."
    );
}

proptest! {
    /// Whatever was measured: the request covers the rate, every number is the least that does, and the autoscaler acts
    /// below the knee.
    #[test]
    fn the_formulas_hold(
        cost in 100.0..1e8_f64, low in 10.0..1e5_f64, latency in 1e3..1e9_f64,
        memory in 1e5..1e10_f64, start in 1e6..1e11_f64, rate in 0.1..1e6_f64,
    ) {
        let report = random(report(DIGEST), cost, [low, low * 1.4, low * 1.8], latency, memory, start);
        let settings = Settings { rate: Some(rate), memory_floor: Some(ByteSize(1 << 20)), ..Settings::default() };
        let evidence = Evidence::new(&report, None, &[]).unwrap();
        let allow = Allowances { unproved: true, doubtful: false };
        // Refused only where the server is too small for an autoscaler.
        let it = match recommend(evidence, &settings, Kind::Kubernetes, false, allow) {
            Ok(it) => it,
            Err(error) => {
                prop_assert!(error.to_string().starts_with("the CPU use at the best load is "), "{error}");
                return Ok(());
            }
        };
        let (pods, knee) = (f64::from(it.scaling.least()), low * 1.8);
        let needed = cost * rate / pods / 1e6;
        let request = f64::from(it.cpu_request.value.0);
        prop_assert!(request >= needed && (request - 1.0 < needed || request == 1.0), "{request} for {needed}");
        prop_assert!(rate / pods <= knee * 0.7 * 1.000_001);
        prop_assert!(pods == 2.0 || rate / (pods - 1.0) > knee * 0.7);
        prop_assert!(f64::from(target(&it).0.0) * 1.1 <= cost * knee / 1e6);
        let limit = it.memory_limit.value.bytes() as f64;
        prop_assert!(limit >= memory * 1.5 && (limit - 1_048_576.0) < (memory * 1.5).max(5.83e6 * 1.5));
        prop_assert!(it.memory_request.value <= it.memory_limit.value);
        prop_assert!(f64::from(it.startup_failures.value) * 1e9 >= start * 10.0);
        prop_assert!(it.grace.value == it.pre_stop.value + it.drain.value);
    }

    /// L = λ · W.
    #[test]
    fn concurrency_is_littles(low in 10.0..1e5_f64, latency in 1e3..1e7_f64) {
        let report = random(report(DIGEST), 5e4, [low, low * 1.4, low * 1.8], latency, 1e6, 1e7);
        let it = numbers(&report, &Settings { replicas: Some(1), ..Settings::default() }, Kind::Knative).unwrap();
        let it = it.concurrency.unwrap();
        let in_flight = low * 1.8 * latency / 1e9;
        prop_assert_eq!(f64::from(it.limit.value), in_flight.ceil().clamp(1.0, 1_000.0));
        prop_assert!(it.target.value <= it.limit.value && it.target.value >= 1);
        prop_assert!(f64::from(it.target.value) <= (in_flight * 0.7).max(1.0));
    }
}

#[test]
fn few_cold_starts_can_enlarge_a_number_and_refuse_none() {
    let mut report = report(DIGEST);
    for (metric, value) in [
        ("startup.cold.ready", 2e9),
        ("startup.cold.stop", 4e9),
        ("startup.cold.memory-at-ready", 20.0 * 1_048_576.0),
    ] {
        let doubts = vec![Doubt::TooFewSamples { samples: 5, needed: 6 }];
        report.runs[0].measurements.push(Measurement { doubts, ..figure(metric, "", value) });
    }
    let it = kubernetes(&report, &Settings::default());
    assert_eq!((it.startup_failures.value, it.drain.value), (20, 9));
    assert_eq!((it.memory_request.value, it.memory_limit.value), (Mebibytes(24), Mebibytes(30)));
    of(&mut report, "startup.warm.ready", "").doubts.push(Doubt::TooFewSamples { samples: 5, needed: 6 });
    let (message, _) = numbers(&report, &Settings::default(), Kind::Kubernetes).unwrap_err();
    assert_eq!(
        message,
        "figures are in doubt: largest of startup.warm.ready = 15.7 ms (doubt: 5 samples, where 6 are needed)"
    );
}
