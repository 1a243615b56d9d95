//! Variants of a server beside each other: size, start-up and CPU per request, and which of them none is better than.

use serde::Serialize;
use tare_report::report::{Host, ProfileFacts};
use tare_report::{Measurement, Report};

use super::metric::Class;

/// What variants are judged by; less is better in each.
pub const FIGURES: [&str; 3] =
    ["size.image.compressed", "startup.warm.ready", "throughput.cpu-per-request@closed"];

/// The result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Matrix {
    /// The version of tare.
    pub tool: String,
    /// When the measurement began, in RFC 3339.
    pub taken: String,
    /// Where.
    pub host: Host,
    /// By which profile.
    pub profile: ProfileFacts,
    /// In their order.
    pub variants: Vec<Variant>,
}

/// One variant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Variant {
    /// Its image.
    pub name: String,
    /// The manifest's digest.
    pub digest: String,
    /// Its figures in the order of [`FIGURES`], as far as they were measured.
    pub figures: [Option<Measurement>; 3],
    /// What went wrong, if anything did. Such a variant has no place in the comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Variants that are better in a figure and worse in none. Without any it is on the frontier.
    pub dominated_by: Vec<String>,
}

impl Variant {
    /// Whether no other variant makes it pointless.
    #[must_use]
    pub fn is_on_frontier(&self) -> bool {
        self.failed.is_none() && self.dominated_by.is_empty()
    }
}

impl Matrix {
    /// From the reports of all variants, each with its name. None without any.
    #[must_use]
    pub fn of(reports: &[(&str, &Report)]) -> Option<Self> {
        let (_, first) = reports.first()?;
        let mut variants: Vec<Variant> = Vec::new();
        for (name, report) in reports {
            let numbered = (2..).map(|number| format!("{name}-{number}"));
            let mut names = std::iter::once((*name).to_owned()).chain(numbered);
            let free = names.find(|name| variants.iter().all(|known| known.name != *name));
            variants.push(variant(&free.unwrap_or_default(), report));
        }
        let dominated: Vec<Vec<String>> = variants
            .iter()
            .map(|it| {
                variants.iter().filter(|other| dominates(other, it)).map(|it| it.name.clone()).collect()
            })
            .collect();
        variants.iter_mut().zip(dominated).for_each(|(variant, by)| variant.dominated_by = by);
        Some(Self {
            tool: first.tool.clone(),
            taken: first.taken.clone(),
            host: first.host.clone(),
            profile: first.profile.clone(),
            variants,
        })
    }

    /// Adds a variant that could not be built.
    pub fn was_not_built(&mut self, name: &str) {
        self.variants.push(Variant {
            name: name.to_owned(),
            digest: String::new(),
            figures: [const { None }; 3],
            failed: Some("it could not be built; the warning above says why".to_owned()),
            dominated_by: vec![],
        });
    }

    /// The names of the variants on the frontier.
    #[must_use]
    pub fn frontier(&self) -> Vec<&str> {
        let frontier = self.variants.iter().filter(|variant| variant.is_on_frontier());
        frontier.map(|variant| variant.name.as_str()).collect()
    }
}

fn variant(name: &str, report: &Report) -> Variant {
    let all = || report.runs.iter().flat_map(|run| &run.measurements);
    let figures = FIGURES.map(|key| all().find(|it| it.key() == key).cloned());
    let event = report.runs.iter().find_map(|run| run.failure());
    let missing = || FIGURES.iter().zip(&figures).find(|(_, it)| it.is_none());
    let failed = event.map(|event| format!("{}: {}", event.kind.name(), event.message));
    let failed = failed.or_else(|| missing().map(|(key, _)| format!("{key} was not measured")));
    let digest = report.target.digest.clone();
    Variant { name: name.to_owned(), digest, figures, failed, dominated_by: vec![] }
}

/// Whether a variant is shown to be better in a figure, and in none is the other better.
fn dominates(it: &Variant, other: &Variant) -> bool {
    if it.failed.is_some() || other.failed.is_some() {
        return false;
    }
    let pairs = || it.figures.iter().flatten().zip(other.figures.iter().flatten());
    let is_better = pairs().any(|(it, other)| is_less(it, other));
    is_better && !pairs().any(|(it, other)| is_less(other, it))
}

/// Exact figures by their values; noisy ones where their 95 % intervals do not overlap.
fn is_less(it: &Measurement, other: &Measurement) -> bool {
    match (it.definition().class, it.interval, other.interval) {
        (Class::Noisy, Some((_, high)), Some((low, _))) => high < low,
        (Class::Noisy, ..) => false,
        _ => it.value < other.value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::render::matrix as texts;
    use crate::profile::report::{Event, EventKind, sample};

    /// The sample with this size and CPU per request, in nanoseconds.
    fn report(size: f64, cost: f64) -> Report {
        let mut report = sample();
        report.runs[0].measurements[0].value = size;
        let cost = Measurement {
            interval: Some((cost * 0.98, cost * 1.02)),
            ..Measurement::exact("throughput.cpu-per-request", cost).of_case("closed")
        };
        report.runs[1].measurements.push(cost);
        report
    }

    fn matrix() -> Matrix {
        let [fast, small, worse, noise] =
            [report(1.5e6, 8e3), report(1.2e6, 9e3), report(1.6e6, 9e3), report(1.2e6, 8.95e3)];
        let mut broken = report(1.0, 1.0);
        let (kind, pass) = (EventKind::NotReady, crate::profile::metric::Pass::Startup);
        broken.runs[1].events.push(Event { kind, pass, message: "no answer".to_owned(), output: vec![] });
        let reports =
            [("fast", &fast), ("small", &small), ("worse", &worse), ("noise", &noise), ("broken", &broken)];
        Matrix::of(&reports).unwrap()
    }

    #[test]
    fn the_frontier_is_what_none_is_better_than() {
        let matrix = matrix();
        assert_eq!(matrix.frontier(), ["fast", "small", "noise"]);
        assert_eq!(matrix.variants[2].dominated_by, ["fast", "small", "noise"]);
        // One that fails is neither better nor worse, and hides nothing.
        assert_eq!(matrix.variants[4].failed.as_deref(), Some("not ready: no answer"));
        assert_eq!(Matrix::of(&[]), None);
        let mut matrix = matrix;
        matrix.was_not_built("unbuilt");
        let unbuilt = &matrix.variants[5];
        assert!(unbuilt.failed.is_some() && !unbuilt.is_on_frontier() && matrix.frontier().len() == 3);
    }

    #[test]
    fn a_variant_without_a_figure_is_not_compared() {
        let report = sample();
        let matrix = Matrix::of(&[("a", &report)]).unwrap();
        let twice = Matrix::of(&[("a", &report), ("a", &report)]).unwrap();
        assert_eq!(twice.variants[1].name, "a-2");
        let failed = Some("throughput.cpu-per-request@closed was not measured");
        assert_eq!((matrix.variants[0].failed.as_deref(), matrix.frontier().len()), (failed, 0));
    }

    #[test]
    fn the_table_fits_80_columns_and_the_markdown_escapes_names() {
        let mut matrix = matrix();
        let text = texts::terminal(&matrix, 80);
        let expected = "
   variant  compressed    ready  CPU/request
   fast        1.50 MB  4.20 ms      8.00 µs  frontier
   small       1.20 MB  4.20 ms      9.00 µs  frontier
   worse       1.60 MB  4.20 ms      9.00 µs  behind fast, small, noise
   noise       1.20 MB  4.20 ms      8.95 µs  frontier
   broken          1 B  4.20 ms         1 ns  failed

broken failed: not ready: no answer
The frontier: fast, small, noise. No other variant is better than these in one
figure and worse in none.
";
        assert_eq!(text.trim_end(), expected.trim_matches('\n'));
        matrix.variants[0].name = "a|b".to_owned();
        let text = texts::markdown(&matrix);
        assert!(text.contains("| a\\|b | 1.50 MB | 4.20 ms (4.12 ms to 4.28 ms) |"), "{text}");
        assert!(texts::json(&matrix).unwrap().contains("\"dominated_by\""));
    }
}
