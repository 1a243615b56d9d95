//! Phases of starts and CPU time per request as bars.

use super::super::{figure, units};
use super::svg::{COLOURS, Svg, WIDTH, ticks};
use crate::profile::measurement::Measurement;
use crate::profile::metric::Unit;
use crate::profile::report::Run;

const LEFT: f64 = 190.0;
const RIGHT: f64 = WIDTH - 110.0;
const ROW: f64 = 24.0;
const TOP: f64 = 8.0;

/// Phases of a start, in their order, each with how it is shown.
const PHASES: [(&str, &str); 6] = [
    ("create", "container created"),
    ("start", "start asked for"),
    ("exec", "program executed"),
    ("listening", "listening"),
    ("first-byte", "first byte"),
    ("ready", "ready"),
];

fn find<'a>(run: &'a Run, metric: &str) -> Option<&'a Measurement> {
    run.measurements.iter().find(|it| it.metric == metric)
}

fn axis(svg: &mut Svg, most: f64, bottom: f64, x: impl Fn(f64) -> f64) {
    for tick in ticks(most) {
        svg.line((x(tick), TOP), (x(tick), bottom), "grid");
        svg.text(x(tick), bottom + 16.0, "middle", &units::shown(tick, Unit::Nanoseconds));
    }
}

/// The phases of warm or cold starts: each bar from the median of the phase before to its own, a dot for each start.
pub(super) fn starts(run: &Run, cache: &str) -> Option<String> {
    let metric = |name: &str| find(run, &format!("startup.{cache}.{name}"));
    let rows: Vec<(&str, &Measurement)> =
        PHASES.iter().filter_map(|(name, shown)| Some((*shown, metric(name)?))).collect();
    let runtime = metric("runtime-baseline");
    let all = || rows.iter().map(|(_, it)| *it).chain(runtime);
    let most = all().flat_map(|it| it.samples.iter().copied().chain([it.value])).reduce(f64::max)?;
    if rows.is_empty() || most <= 0.0 {
        return None;
    }
    let x = |time: f64| LEFT + time / most * (RIGHT - LEFT);
    let bottom = TOP + ROW * (rows.len() + usize::from(runtime.is_some())) as f64;
    let mut svg = Svg::new(bottom + 24.0, &format!("Phases of {cache} starts"));
    axis(&mut svg, most, bottom, x);
    let mut before = 0.0;
    let names = rows.iter().map(|(name, it)| (*name, *it, false));
    for (at, (name, it, alone)) in names.chain(runtime.map(|it| ("runtime alone", it, true))).enumerate() {
        let y = TOP + ROW * at as f64;
        let from = if alone { 0.0 } else { before };
        let class = if alone { "f5" } else { "f0" };
        svg.text(LEFT - 10.0, y + 16.0, "end", name);
        // A phase that takes no time has a line still.
        let width = (x(it.value) - x(from)).max(1.5);
        svg.rect([x(from), y + 5.0, width, ROW - 10.0], class, &format!("{name}: {}", figure(it)));
        it.samples.iter().for_each(|sample| svg.dot(x(*sample), y + ROW / 2.0, "sample"));
        svg.text(RIGHT + 10.0, y + 16.0, "", &figure(it));
        before = it.value;
    }
    Some(svg.finish())
}

/// CPU time per request in user mode and in the kernel, a bar for each load.
pub(super) fn costs(loads: &[(String, &Run, &str)]) -> Option<String> {
    let of = |run: &Run, case: &str, metric: &str| {
        let mut all = run.measurements.iter();
        all.find(|it| it.metric == metric && it.case.as_deref() == Some(case)).cloned()
    };
    let rows: Vec<(&str, Measurement, f64, f64)> = loads
        .iter()
        .filter_map(|(name, run, case)| {
            let whole = of(run, case, "throughput.cpu-per-request")?;
            let user = of(run, case, "throughput.cpu-per-request.user")?.value;
            Some((name.as_str(), whole, user, of(run, case, "throughput.cpu-per-request.kernel")?.value))
        })
        .take(4 * COLOURS)
        .collect();
    let most = rows.iter().map(|(_, whole, user, kernel)| whole.value.max(user + kernel)).reduce(f64::max)?;
    let x = |time: f64| LEFT + if most > 0.0 { time / most * (RIGHT - LEFT) } else { 0.0 };
    let bottom = TOP + ROW * rows.len() as f64;
    let mut svg = Svg::new(bottom + 44.0, "CPU time per request in user mode and in the kernel");
    axis(&mut svg, most, bottom, x);
    for (at, (name, whole, user, kernel)) in rows.iter().enumerate() {
        let y = TOP + ROW * at as f64;
        let time = |time: f64| units::shown(time, Unit::Nanoseconds);
        svg.text(LEFT - 10.0, y + 16.0, "end", name);
        svg.rect(
            [x(0.0), y + 4.0, x(*user) - x(0.0), ROW - 8.0],
            "f0",
            &format!("{name}, user mode: {}", time(*user)),
        );
        let kernel_area = [x(*user), y + 4.0, x(user + kernel) - x(*user), ROW - 8.0];
        svg.rect(kernel_area, "f1", &format!("{name}, kernel: {}", time(*kernel)));
        if let Some((low, high)) = whole.interval {
            svg.line((x(low), y + ROW / 2.0), (x(high).min(RIGHT), y + ROW / 2.0), "interval");
        }
        svg.text(RIGHT + 10.0, y + 16.0, "", &figure(whole));
    }
    svg.legend(bottom + 36.0, &["user mode".to_owned(), "kernel".to_owned()]);
    Some(svg.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_begins_where_the_one_before_ends() {
        let row =
            |metric, value| Measurement { samples: vec![value, 10e6], ..Measurement::exact(metric, value) };
        let run = Run {
            measurements: vec![
                row("startup.warm.create", 2e6),
                row("startup.warm.ready", 5e6),
                row("startup.warm.runtime-baseline", 4e6),
            ],
            ..Run::default()
        };
        let svg = starts(&run, "warm").unwrap();
        // 600 units are 10 ms.
        for part in [
            "x=\"190\" y=\"13\" width=\"120\"",
            "x=\"310\" y=\"37\" width=\"180\"",
            "x=\"190\" y=\"61\" width=\"240\"",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert_eq!((svg.matches("<circle").count(), starts(&run, "cold")), (6, None));
    }

    #[test]
    fn user_mode_and_kernel_stand_in_one_bar() {
        let row = |metric, value| Measurement::exact(metric, value).of_case("closed");
        let run = Run {
            measurements: vec![
                row("throughput.cpu-per-request", 6_000.0),
                row("throughput.cpu-per-request.user", 1_000.0),
                row("throughput.cpu-per-request.kernel", 5_000.0),
            ],
            ..Run::default()
        };
        let svg = costs(&[("closed".to_owned(), &run, "closed")]).unwrap();
        for part in ["x=\"190\" y=\"12\" width=\"100\"", "x=\"290\" y=\"12\" width=\"500\"", "6.00 µs"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert_eq!(costs(&[]), None);
    }
}
