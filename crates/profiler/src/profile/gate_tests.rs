use super::*;
use crate::profile::measurement::Doubt;
use crate::profile::report::undoubted_sample as sample;

fn gate(metric: &'static str) -> Gate {
    Gate { metric, case: None, max: None, min: None, max_regression: None, allow_unreliable: false }
}

fn max(metric: &'static str, max: f64) -> Gate {
    Gate { max: Some(max), ..gate(metric) }
}

fn figures(measurements: &[Measurement]) -> Figures<'_> {
    Figures { passes: &Pass::ALL, limits: None, measurements, baseline: None, again: &[], uncounted: None }
}

/// Outcome and reason of one gate on these figures.
fn judged(gate: Gate, measurements: &[Measurement]) -> Vec<(Outcome, String)> {
    judge(&[gate], &figures(measurements)).into_iter().map(|it| (it.outcome, it.reason)).collect()
}

fn doubted(measurement: Measurement) -> Measurement {
    Measurement { doubts: vec![Doubt::Scattered { variation: 0.5, limit: 0.25 }], ..measurement }
}

#[test]
fn a_bound_is_part_of_what_passes() {
    let size = |value| [Measurement::exact("size.image.compressed", value)];
    let compressed = "size.image.compressed";
    assert_eq!(
        judged(max(compressed, 2e6), &size(2e6)),
        [(Outcome::Pass, "2.00 MB is within the maximum of 2.00 MB".to_owned())]
    );
    assert_eq!(
        judged(max(compressed, 2e6), &size(2.5e6)),
        [(Outcome::Fail, "2.50 MB is over the maximum of 2.00 MB".to_owned())]
    );
    let efficiency = Gate { min: Some(0.95), ..gate("size.efficiency") };
    assert_eq!(
        judged(efficiency.clone(), &[Measurement::exact("size.efficiency", 0.9)]),
        [(Outcome::Fail, "90.0 % is under the minimum of 95.0 %".to_owned())]
    );
    assert_eq!(judged(efficiency, &[Measurement::exact("size.efficiency", 0.95)])[0].0, Outcome::Pass);
}

#[test]
fn what_is_missing_fails_and_what_was_not_asked_for_is_told() {
    let about = max("throughput.errors", 0.0);
    assert_eq!(judged(about.clone(), &[]), [(Outcome::Fail, "it was not measured".to_owned())]);
    let none = Figures { passes: &[Pass::Size], ..figures(&[]) };
    let verdicts = judge(&[about], &none);
    assert_eq!(verdicts[0].outcome, Outcome::Skipped);
    assert_eq!(verdicts[0].reason, "the throughput pass was not asked for");
    let nan = [Measurement::exact("size.wasted", f64::NAN)];
    assert_eq!(judged(max("size.wasted", 1.0), &nan), [(Outcome::Fail, "it is not a number".to_owned())]);
}

#[test]
fn a_gate_without_a_case_is_about_every_case() {
    let of = |case: &str, value| Measurement::exact("throughput.errors", value).of_case(case);
    let measured = [of("closed", 0.0), of("open-70", 2.0)];
    let outcomes: Vec<_> = judge(&[max("throughput.errors", 0.0)], &figures(&measured))
        .into_iter()
        .map(|verdict| (verdict.gate, verdict.outcome))
        .collect();
    assert_eq!(
        outcomes,
        [
            ("throughput.errors@closed".to_owned(), Outcome::Pass),
            ("throughput.errors@open-70".to_owned(), Outcome::Fail)
        ]
    );
    let one = Gate { case: Some("closed".to_owned()), ..max("throughput.errors", 0.0) };
    assert_eq!(judge(&[one], &figures(&measured)).len(), 1);
}

#[test]
fn a_doubtful_figure_passes_only_where_the_gate_says_so() {
    let measured = [doubted(Measurement::exact("startup.warm.ready", 5e6))];
    let strict = max("startup.warm.ready", 1e7);
    let (outcome, reason) = judged(strict.clone(), &measured).remove(0);
    assert_eq!(outcome, Outcome::Unreliable);
    assert_eq!(
        reason,
        "5.00 ms is within the maximum of 10.0 ms, but samples vary by 50.0 % of their mean (over 25.0 %)"
    );
    assert!(!Overall::of(&judge(std::slice::from_ref(&strict), &figures(&measured))).passed());
    let lenient = Gate { allow_unreliable: true, ..strict };
    let (outcome, reason) = judged(lenient.clone(), &measured).remove(0);
    assert_eq!(outcome, Outcome::Pass);
    assert!(reason.contains("doubtful, which the gate allows"), "{reason}");
    // The allowance is for the doubt, not for the figure.
    let measured = [doubted(Measurement::exact("startup.warm.ready", 5e7))];
    assert_eq!(judged(lenient, &measured)[0].0, Outcome::Fail);
}

const BOUND: Doubt = Doubt::GeneratorBound { cpu: 0.96, limit: 0.85 };
const STEAL: Doubt = Doubt::Steal { share: 0.1, limit: 0.02 };

#[test]
fn a_gate_that_a_figure_passes_although_it_is_understated_stays_passed() {
    let with = |metric, value, doubts: &[Doubt]| {
        [Measurement { doubts: doubts.to_vec(), ..Measurement::exact(metric, value).of_case("closed") }]
    };
    let rate = || Gate { min: Some(100_000.0), ..gate("throughput.rate") };
    let p99 = || max("throughput.latency.p99", 2e6);
    let peak = || max("throughput.memory.peak", 2e6);
    let cost = || max("throughput.cpu-per-request", 1e4);
    let outcome =
        |gate: Gate, value, doubts: &[Doubt]| judged(gate.clone(), &with(gate.metric, value, doubts))[0].0;
    // A generator without CPU left hides how fast the server is, and may flatter its latency and its memory.
    assert_eq!(outcome(rate(), 180_000.0, &[BOUND]), Outcome::Pass);
    assert_eq!(outcome(rate(), 90_000.0, &[BOUND]), Outcome::Unreliable);
    assert_eq!(outcome(p99(), 1e6, &[BOUND]), Outcome::Unreliable);
    assert_eq!(outcome(peak(), 1e6, &[BOUND]), Outcome::Unreliable);
    assert_eq!(outcome(p99(), 1e6, &[STEAL]), Outcome::Pass);
    assert_eq!(outcome(p99(), 3e6, &[STEAL]), Outcome::Unreliable);
    // Two doubts are as bad as the worse.
    let other = Doubt::LittlesLaw { in_flight: 1.0, expected: 2.0 };
    assert_eq!(outcome(rate(), 180_000.0, &[BOUND, other]), Outcome::Unreliable);
    assert_eq!(outcome(cost(), 5e3, &[]), Outcome::Pass);
    let reason = &judged(rate(), &with("throughput.rate", 180_000.0, &[BOUND]))[0].1;
    assert_eq!(
        reason,
        "180,000 req/s is not under the minimum of 100,000 req/s (it can only be better than that: the generator used \
         96.0 % of its CPU (over 85.0 %))"
    );
}

#[test]
fn on_the_side_of_the_baseline_every_direction_turns_round() {
    let of = |metric: &'static str, before: &[Doubt], now: &[Doubt], by: f64| {
        let report = |doubts: &[Doubt], by: f64| {
            let mut report = sample();
            report.runs[1].measurements = vec![Measurement {
                doubts: doubts.to_vec(),
                ..Measurement::exact(metric, 1e6 * by).of_case("closed")
            }];
            report
        };
        let (before, now) = (report(before, 1.0), report(now, by));
        let baseline = Baseline::of(&before, &before, &[]).unwrap();
        let run = &now.runs[1];
        let figures = Figures {
            passes: &Pass::ALL,
            limits: run.limits.as_ref(),
            measurements: &run.measurements,
            baseline: Some(&baseline),
            again: &[],
            uncounted: None,
        };
        let verdict = judge(&[Gate { max_regression: Some(0.05), ..gate(metric) }], &figures).remove(0);
        (verdict.outcome, verdict.reason)
    };
    let rate = |before: &[Doubt], now: &[Doubt]| of("throughput.rate", before, now, 1.0).0;
    assert_eq!(rate(&[], &[STEAL]), Outcome::Pass);
    // Time was stolen while the baseline was made: it may have been faster than this server is.
    assert_eq!(rate(&[STEAL], &[]), Outcome::Unreliable);
    assert_eq!(rate(&[STEAL], &[STEAL]), Outcome::Unreliable);
    let reason = of("throughput.rate", &[STEAL], &[], 1.0).1;
    assert!(
        reason.ends_with(", but of the baseline: the hypervisor took 10.0 % of the CPU time (over 2.0 %)"),
        "{reason}"
    );
    // The baseline's memory was flattered: no more than that is no regression.
    let peak = |before: &[Doubt], now: &[Doubt], by| of("throughput.memory.peak", before, now, by).0;
    assert_eq!(peak(&[BOUND], &[], 1.0), Outcome::Pass);
    assert_eq!(peak(&[BOUND], &[], 1.2), Outcome::Unreliable);
    assert_eq!(peak(&[], &[BOUND], 1.0), Outcome::Unreliable);
}

#[test]
fn the_worst_verdict_is_the_overall_one() {
    let of = |outcomes: &[Outcome]| {
        let verdicts: Vec<Verdict> = outcomes
            .iter()
            .map(|outcome| Verdict {
                gate: String::new(),
                limits: None,
                outcome: *outcome,
                value: None,
                reason: String::new(),
            })
            .collect();
        Overall::of(&verdicts)
    };
    assert_eq!(of(&[]), Overall::Pass);
    assert_eq!(of(&[Outcome::Pass, Outcome::Skipped]), Overall::Pass);
    assert_eq!(of(&[Outcome::Pass, Outcome::Unreliable]), Overall::Unreliable);
    assert_eq!(of(&[Outcome::Unreliable, Outcome::Fail, Outcome::Pass]), Overall::Fail);
}

fn against(baseline: &Baseline, gate: Gate, change: &dyn Fn(&mut Measurement)) -> (Outcome, String) {
    let run = &sample().runs[1];
    let mut measurements = run.measurements.clone();
    for measurement in measurements.iter_mut().filter(|it| gate.is_about(it)) {
        change(measurement);
    }
    let figures = Figures {
        passes: &Pass::ALL,
        limits: run.limits.as_ref(),
        measurements: &measurements,
        baseline: Some(baseline),
        again: &[],
        uncounted: None,
    };
    let verdict = judge(&[gate], &figures).remove(0);
    (verdict.outcome, verdict.reason)
}

#[test]
fn a_regression_is_one_that_noise_does_not_explain() {
    let baseline = Baseline::of(&sample(), &sample(), &[]).unwrap();
    let gate = |metric, case: &str| Gate {
        case: (!case.is_empty()).then(|| case.to_owned()),
        max_regression: Some(0.05),
        ..gate(metric)
    };
    let scaled = |by: f64| {
        move |it: &mut Measurement| {
            it.value *= by;
            it.samples.iter_mut().for_each(|sample| *sample *= by);
        }
    };
    let ready = || gate("startup.warm.ready", "");
    for (by, outcome, part) in [
        (1.0, Outcome::Pass, "4.20 ms is no worse than the baseline's 4.20 ms"),
        (0.8, Outcome::Pass, "is no worse than"),
        (1.04, Outcome::Pass, "4.0 % worse than the baseline's 4.20 ms, within 5.0 %"),
        (1.10, Outcome::Fail, "10.0 % worse than the baseline's 4.20 ms, over 5.0 %"),
    ] {
        let (found, reason) = against(&baseline, ready(), &scaled(by));
        assert_eq!(found, outcome, "{by}: {reason}");
        assert!(reason.contains(part), "{by}: {reason}");
    }
    // A rate is worse when it is lower.
    let rate = || gate("throughput.rate", "closed");
    assert_eq!(against(&baseline, rate(), &scaled(0.9)).0, Outcome::Fail);
    assert_eq!(against(&baseline, rate(), &scaled(1.5)).0, Outcome::Pass);
    // Worse on average, from runs that are all over the place.
    let (outcome, reason) = against(&baseline, ready(), &|it| {
        it.value *= 1.1;
        it.samples = vec![2e6, 9e6, 4.7e6, 3e6];
    });
    assert_eq!(outcome, Outcome::Unreliable, "{reason}");
    assert!(reason.contains("may be noise"), "{reason}");
    // From nothing to something.
    let (outcome, reason) = against(&baseline, gate("throughput.errors", "closed"), &|it| it.value = 3.0);
    assert_eq!((outcome, reason.as_str()), (Outcome::Fail, "3, where the baseline has 0"));
}

#[test]
fn what_was_measured_in_turns_decides_and_not_the_stored_figure() {
    let baseline = Baseline::of(&sample(), &sample(), &[]).unwrap();
    let metric = "throughput.rate";
    let scattered = Doubt::Scattered { variation: 0.5, limit: 0.05 };
    let outcome = |outcome, gate: Gate| {
        let mut run = sample().runs.remove(1);
        for it in run.measurements.iter_mut().filter(|it| it.metric == metric) {
            it.value *= 0.5;
            it.doubts = vec![scattered.clone()];
        }
        let again = [Again { metric, outcome, reason: "in turns".to_owned() }];
        let figures = Figures {
            passes: &Pass::ALL,
            limits: run.limits.as_ref(),
            measurements: &run.measurements,
            baseline: Some(&baseline),
            again: &again,
            uncounted: None,
        };
        let verdict = judge(&[gate], &figures).remove(0);
        (verdict.outcome, verdict.reason)
    };
    let only = || Gate { max_regression: Some(0.05), ..gate(metric) };
    for of in [Outcome::Pass, Outcome::Fail, Outcome::Unreliable] {
        assert_eq!(outcome(of, only()), (of, "in turns".to_owned()));
    }
    // A bound is still one of this run's figure.
    let bounded = || Gate { min: Some(1.0), ..only() };
    assert_eq!(outcome(Outcome::Pass, bounded()).0, Outcome::Unreliable);
    assert_eq!(outcome(Outcome::Fail, bounded()), (Outcome::Fail, "in turns".to_owned()));
}

#[test]
fn without_a_baseline_a_regression_is_not_judged_but_bounds_are() {
    let measured = [Measurement::exact("size.image.compressed", 1e6)];
    let only = Gate { max_regression: Some(0.0), ..gate("size.image.compressed") };
    assert_eq!(
        judged(only.clone(), &measured),
        [(Outcome::Skipped, "there is no baseline to compare with".to_owned())]
    );
    let both = Gate { max: Some(5e5), ..only };
    assert_eq!(judged(both, &measured)[0].0, Outcome::Fail);
}

#[test]
fn a_figure_that_the_baseline_lacks_fails() {
    let baseline = Baseline::of(&sample(), &sample(), &[]).unwrap();
    let measured = [Measurement::exact("size.wasted", 0.0)];
    let about = Gate { max_regression: Some(0.0), ..gate("size.wasted") };
    let figures = Figures { baseline: Some(&baseline), ..figures(&measured) };
    assert_eq!(judge(&[about], &figures)[0].outcome, Outcome::Fail);
}

#[test]
fn counted_figures_fail_by_what_is_more_than_their_runs_differ() {
    let counted = |samples: &[f64]| Measurement {
        samples: samples.to_vec(),
        ..Measurement::exact("instructions.per-request", samples[1])
    };
    let gate = Gate {
        metric: "instructions.per-request",
        case: None,
        max: None,
        min: None,
        max_regression: Some(0.03),
        allow_unreliable: false,
    };
    let judged = |before: Option<&[f64]>, now: Option<&[f64]>, uncounted| {
        let mut report = crate::profile::report::undoubted_sample();
        report.runs[1].measurements = before.map(counted).into_iter().collect();
        let baseline = Baseline::of(&report, &report, std::slice::from_ref(&gate)).unwrap();
        let now: Vec<Measurement> = now.map(counted).into_iter().collect();
        let figures = Figures {
            limits: report.runs[1].limits.as_ref(),
            baseline: Some(&baseline),
            uncounted,
            ..figures(&now)
        };
        let [verdict] = judge(std::slice::from_ref(&gate), &figures).try_into().unwrap();
        (verdict.outcome, verdict.reason)
    };
    let steady: &[f64] = &[999.0, 1_000.0, 1_001.0];
    for (now, outcome, reason) in [
        (
            &[1_079.0, 1_080.0, 1_081.0],
            Outcome::Fail,
            "1,080 is 8.0 % worse than the baseline's 1,000, over 3.0 %",
        ),
        (
            &[1_019.0, 1_020.0, 1_021.0],
            Outcome::Pass,
            "1,020 is 2.0 % worse than the baseline's 1,000, within 3.0 %",
        ),
        (
            &[1_030.0, 1_080.0, 1_138.0],
            Outcome::Pass,
            "1,080 is 8.0 % worse than the baseline's 1,000, within 10.2 % (what the runs of both differ by)",
        ),
    ] {
        assert_eq!(judged(Some(steady), Some(now), None), (outcome, reason.to_owned()));
    }
    let skipped = |reason: &str| (Outcome::Skipped, reason.to_owned());
    let why = "instructions are not counted: valgrind is not installed";
    assert_eq!(judged(Some(steady), None, Some(why)), skipped(why));
    assert_eq!(judged(None, Some(steady), None), skipped("the baseline has no such figure: save it again"));
}
