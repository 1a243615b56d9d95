//! What the passes beside size, start-up and throughput came to, in a line each.

use super::{figure, figure_with_interval};
use crate::profile::measurement::Measurement;
use crate::profile::report::Run;

/// A label and a line for each of these passes that ran.
pub(super) fn lines(run: &Run) -> Vec<(&'static str, String)> {
    density(run).map(|text| ("Density", text)).into_iter().collect()
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
        run.measurements[0].value = 1.0;
        assert_eq!(lines(&run), [("Density", "1 copy".to_owned())]);
    }
}
