//! What the passes beside size, start-up and throughput came to, in a line each.

use super::{figure, figure_with_interval};
use crate::profile::measurement::Measurement;
use crate::profile::report::Run;
use tare_report::Score;

/// A label and a line for each of these passes that ran.
pub(super) fn lines(run: &Run) -> Vec<(&'static str, String)> {
    [("Density", density(run)), ("Isolation", isolation(run)), ("Network", network(run)), ("Edge", edge(run))]
        .into_iter()
        .filter_map(|(label, text)| Some((label, text?)))
        .collect()
}

fn find<'a>(run: &'a Run, metric: &str) -> Option<&'a Measurement> {
    run.measurements.iter().find(|it| it.metric == metric)
}

fn density(run: &Run) -> Option<String> {
    let of = |metric: &str| find(run, &format!("density.{metric}"));
    let copies = of("copies")?;
    let copy = if copies.value == 1.0 { "copy" } else { "copies" };
    let mut text = format!("{} {copy}", figure(copies));
    if let Some(memory) = of("memory.added").or(of("memory.cgroup")) {
        text += &format!(", each {} more", figure_with_interval(memory));
    }
    if let Some((first, last)) = of("start.first").zip(of("start.last")) {
        text += &format!("; ready in {}, the last in {}", figure(first), figure(last));
    }
    if let Some(host) = of("copies-per-host") {
        text += &format!("; computed for this host: {}", figure(host));
    }
    Some(text)
}

fn isolation(run: &Run) -> Option<String> {
    let ratio = find(run, "isolation.ratio")?;
    let doubt = if ratio.is_doubtful() { " ?" } else { "" };
    let mut text = format!("{}{doubt}: p99 × {}", Score::of(ratio.value), figure_with_interval(ratio));
    let of = |case: &str| {
        run.measurements.iter().find(|it| it.metric == "isolation.p99" && it.case.as_deref() == Some(case))
    };
    if let Some((alone, beside)) = of("alone").zip(of("beside")) {
        text += &format!(", {} alone, {} beside a neighbour", figure(alone), figure(beside));
    }
    if let Some(rate) = find(run, "isolation.rate") {
        text += &format!(", at {}", figure(rate));
    }
    Some(text)
}

fn network(run: &Run) -> Option<String> {
    let of = |metric: &str, case: &str| {
        run.measurements.iter().find(|it| it.metric == metric && it.case.as_deref() == Some(case))
    };
    let (loopback, bridge) = of("network.p50", "loopback").zip(of("network.p50", "bridge"))?;
    let p99 = of("network.p99", "bridge").map(|it| format!(" (p99 {})", figure(it))).unwrap_or_default();
    Some(format!("{}{p99} from container to container, {} inside one", figure(bridge), figure(loopback)))
}

fn edge(run: &Run) -> Option<String> {
    let of = |metric: &str| find(run, &format!("edge.{metric}"));
    let offline = of("offline-answers")?;
    let mut parts = vec![format!("{} answered while the source is away", figure(offline))];
    parts.extend(of("hit-rate").map(|it| format!("{} hits before", figure(it))));
    parts.extend(of("bytes-saved").map(|it| format!("{} of the bytes saved", figure(it))));
    Some(parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_passes_that_ran_have_a_line() {
        let mut run = Run::default();
        assert_eq!(lines(&run), []);
        run.measurements = vec![
            Measurement::exact("density.copies", 12.0),
            Measurement::exact("density.copies-per-host", 3_400.0),
            Measurement::exact("density.memory.cgroup", 2.6e6),
            Measurement {
                interval: Some((2.2e6, 2.4e6)),
                ..Measurement::exact("density.memory.added", 2.3e6)
            },
            Measurement::exact("density.start.first", 13.1e6),
            Measurement::exact("density.start.last", 15.2e6),
        ];
        let text = "12 copies, each 2.30 MB (2.20 MB to 2.40 MB) more; ready in 13.1 ms, the last in 15.2 ms; \
            computed for this host: 3,400";
        assert_eq!(lines(&run), [("Density", text.to_owned())]);
        run.measurements.truncate(1);
        let of = |metric, case: &str, value| Measurement::exact(metric, value).of_case(case);
        run.measurements.extend([
            Measurement { interval: Some((1.2, 1.44)), ..Measurement::exact("isolation.ratio", 1.32) },
            of("isolation.p99", "alone", 160e3),
            of("isolation.p99", "beside", 210e3),
            Measurement::exact("isolation.rate", 1_000.0),
            Measurement::exact("edge.offline-answers", 1.0),
            Measurement::exact("edge.hit-rate", 0.97),
            Measurement::exact("edge.bytes-saved", 0.81),
            of("network.p50", "loopback", 31e3),
            of("network.p50", "bridge", 45e3),
            of("network.p99", "bridge", 88e3),
        ]);
        run.measurements[0].value = 1.0;
        let isolation =
            "good: p99 × 1.32 (1.20 to 1.44), 160 µs alone, 210 µs beside a neighbour, at 1,000 req/s";
        let network = "45.0 µs (p99 88.0 µs) from container to container, 31.0 µs inside one";
        let edge = "100.0 % answered while the source is away, 97.0 % hits before, 81.0 % of the bytes saved";
        let expected =
            [("Density", "1 copy"), ("Isolation", isolation), ("Network", network), ("Edge", edge)];
        assert_eq!(lines(&run), expected.map(|(label, text)| (label, text.to_owned())));
    }
}
