//! From reports to what the template shows: texts, tables and drawings.

use serde::Serialize;
use tare_report::{CurveKind, Part};

use super::super::headline::{self, Headline};
use super::super::screen::verdict;
use super::super::{figure, figure_with_interval, trust, units};
use super::lines::Line;
use super::{bars, flame, lines, treemap};
use crate::profile::difference::Difference;
use crate::profile::gate::Outcome;
use crate::profile::measurement::{Doubt, Measurement};
use crate::profile::metric::{Pass, Unit};
use crate::profile::report::{Report, Run, Table};
use tare_report::Bias;

/// Rows of one metric with many cases, such as functions, that are listed.
const CASES: usize = 40;
/// Figures that a doubt names.
const NAMED: usize = 3;
/// Parts of the image that the table below its drawing lists.
const PARTS: usize = 60;

/// The page.
#[derive(Debug, Default, Serialize)]
pub(super) struct Page {
    pub(super) title: String,
    /// What is known of a page without images, a sentence each.
    pub(super) facts: Vec<String>,
    /// Texts to copy, each with its heading.
    pub(super) listings: Vec<(String, String)>,
    pub(super) images: Vec<Image>,
    /// The figures of all images beside each other, where there are several.
    pub(super) beside: Option<Grid>,
    pub(super) charts: Vec<Chart>,
}

/// What is of one image alone.
#[derive(Debug, Serialize)]
pub(super) struct Image {
    name: String,
    verdict: String,
    /// `pass`, `fail`, `unreliable`
    outcome: &'static str,
    facts: Vec<String>,
    events: Vec<Happened>,
    cards: Vec<Card>,
    limits: Option<Grid>,
    doubts: Vec<Doubted>,
    gates: Option<Grid>,
    runs: Vec<Everything>,
}

/// Something that went wrong, with the server's last output.
#[derive(Debug, Serialize)]
struct Happened {
    what: String,
    output: String,
}

/// A figure that a reader wants first.
#[derive(Debug, Serialize)]
struct Card {
    label: &'static str,
    value: String,
    detail: String,
}

#[derive(Debug, Serialize)]
struct Doubted {
    what: String,
    advice: &'static str,
    figures: String,
}

/// A table: `numeric` says of each column whether it holds numbers.
#[derive(Debug, Default, Serialize)]
pub(super) struct Grid {
    title: String,
    columns: Vec<String>,
    numeric: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    pub(super) fn new(title: &str, columns: &[&str], first_number: usize, rows: Vec<Vec<String>>) -> Self {
        let numeric = (0..columns.len()).map(|at| at >= first_number).collect();
        Self {
            title: title.to_owned(),
            columns: columns.iter().map(|it| (*it).to_owned()).collect(),
            numeric,
            rows,
        }
    }
}

/// A drawing with its figures as a table.
#[derive(Debug, Serialize)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) note: &'static str,
    pub(super) svg: String,
    pub(super) grid: Grid,
}

/// All figures of one set of limits.
#[derive(Debug, Serialize)]
struct Everything {
    heading: String,
    figures: Grid,
    notes: Vec<String>,
    grids: Vec<Grid>,
}

pub(super) fn page(reports: &[Report]) -> Page {
    let names = names(reports);
    let title = match names.as_slice() {
        [name] => format!("{name}: {}", verdict(&reports[0])),
        names => names.join(", "),
    };
    let images = reports.iter().zip(&names).map(|(report, name)| image(report, name)).collect();
    Page {
        title,
        images,
        beside: (reports.len() > 1).then(|| beside(reports, &names)),
        charts: charts(reports, &names),
        ..Page::default()
    }
}

/// The page of a difference: figures, a tile for each change of bytes, packages, and the curves of both.
pub(super) fn difference(reports: [&Report; 2], difference: &Difference) -> Page {
    let both = reports.map(Report::clone);
    let names = ["old".to_owned(), "new".to_owned()];
    let figures = difference.figures.iter().map(|it| it.cells().to_vec()).collect();
    let parts = difference.parts.iter().map(|part| {
        let bytes = |bytes: Option<u64>| {
            bytes.map_or_else(|| "-".to_owned(), |bytes| units::shown(bytes as f64, Unit::Bytes))
        };
        vec![part.name.clone(), bytes(part.before), bytes(part.after), part.shown_delta()]
    });
    let deltas: Vec<(String, i128)> =
        difference.parts.iter().map(|part| (part.name.clone(), part.delta())).collect();
    let mut drawn = Vec::new();
    if !deltas.is_empty() {
        drawn.push(Chart {
            title: "Bytes that changed".to_owned(),
            note: "Red tiles were added, green ones removed. Crates are an estimate from symbols.",
            svg: treemap::draw_changes(&deltas),
            grid: Grid::new("", &["part", "old", "new", "change"], 1, parts.collect()),
        });
    }
    if !difference.packages.is_empty() {
        let rows = difference.packages.iter().map(|it| it.cells().to_vec()).collect();
        let grid = Grid::new("", &["package", "old", "new"], usize::MAX, rows);
        drawn.push(Chart { title: "Packages".to_owned(), note: "", svg: String::new(), grid });
    }
    let curves = charts(&both, &names);
    drawn.extend(curves.into_iter().filter(|chart| !chart.title.starts_with("Bytes of")));
    let beside = Grid::new("Figures", &["figure", "old", "new", "change"], 1, figures);
    Page { title: difference.title(), beside: Some(beside), charts: drawn, ..Page::default() }
}

/// A name for each report; the same image twice is numbered.
fn names(reports: &[Report]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for report in reports {
        let name = report.target.names.first().unwrap_or(&report.target.digest);
        let taken = |it: &String| names.contains(it);
        let numbered = (2..).map(|number| format!("{name} ({number})"));
        names.extend(std::iter::once(name.clone()).chain(numbered).find(|it| !taken(it)));
    }
    names
}

fn limits_of(run: &Run) -> String {
    run.limits.as_ref().map_or_else(|| "without a run".to_owned(), ToString::to_string)
}

fn ran(report: &Report) -> impl Iterator<Item = &Run> {
    report.runs.iter().filter(|run| run.limits.is_some())
}

fn image(report: &Report, name: &str) -> Image {
    let host = &report.host;
    let mut facts = vec![
        format!("{}, profile {}", report.target.platform, report.profile.name),
        ran(report).map(limits_of).collect::<Vec<_>>().join("; "),
        report.runtime.as_ref().map(|runtime| format!("runtime {runtime}")).unwrap_or_default(),
        format!(
            "{} CPUs of {}, {} of memory, kernel {}, cgroup {}",
            host.cpus,
            host.cpu,
            units::shown(host.memory as f64, Unit::Bytes),
            host.kernel,
            host.cgroup
        ),
        format!("measured {} by tare {}", report.taken, report.tool),
        report.target.digest.clone(),
    ];
    facts.retain(|fact| !fact.is_empty());
    let events = report.runs.iter().flat_map(|run| &run.events).map(|event| Happened {
        what: format!("{} in the {} pass: {}", event.kind.name(), event.pass.name(), event.message),
        output: event.output.join("\n"),
    });
    Image {
        name: name.to_owned(),
        verdict: verdict(report),
        outcome: report.overall.name(),
        facts,
        events: events.collect(),
        cards: cards(&headline::of(report), report),
        limits: limits(report),
        doubts: doubts(report),
        gates: gates(report),
        runs: report.runs.iter().map(everything).collect(),
    }
}

fn interval(it: &Measurement) -> String {
    let shown = |value| units::shown(value, it.definition().unit);
    it.interval
        .map(|(low, high)| format!("95 % interval {} to {}", shown(low), shown(high)))
        .unwrap_or_default()
}

fn cards(head: &Headline<'_>, report: &Report) -> Vec<Card> {
    let mut cards = Vec::new();
    let mut card = |label, it: Option<&Measurement>, detail: String| {
        cards.extend(it.map(|it| Card { label, value: figure(it), detail }));
    };
    card(
        "Image, compressed",
        head.compressed,
        head.parts.first().map(|part| format!("largest file: {part}")).unwrap_or_default(),
    );
    let runtime = ran(report)
        .next()
        .and_then(|run| run.measurements.iter().find(|it| it.metric == "startup.warm.runtime-baseline"));
    let runtime = runtime.map(|it| format!("runtime alone {}", figure(it))).unwrap_or_default();
    card("Start-up until ready", head.ready, runtime);
    let in_case = |label: Option<String>, more: String| match (label, more.is_empty()) {
        (Some(label), false) => format!("{label}; {more}"),
        (Some(label), true) => label,
        (None, _) => more,
    };
    let (capacity, latency) = (head.capacity.as_ref(), head.latency.as_ref());
    let label = || capacity.map(headline::Case::label);
    let cost = capacity.and_then(|case| case.cost);
    card("CPU per request", cost, in_case(label(), cost.map(interval).unwrap_or_default()));
    let rate = capacity.and_then(|case| case.rate);
    card("Rate", rate, in_case(label(), rate.map(interval).unwrap_or_default()));
    card(
        "99 % answered within",
        latency.and_then(|case| case.p99),
        latency.map(headline::Case::label).unwrap_or_default(),
    );
    card("Peak memory", head.peak, "of all loads".to_owned());
    cards
}

/// The figures that a reader wants first, for each set of limits.
fn figures(report: &Report, run: &Run) -> Vec<String> {
    let head = headline::of_run(run);
    let size = headline::of(report).compressed.map(figure);
    let shown = |it: Option<&Measurement>| it.map_or_else(|| "-".to_owned(), figure);
    let (cost, rate) = head.capacity.as_ref().map_or((None, None), |case| (case.cost, case.rate));
    let p99 = head.latency.as_ref().and_then(|case| Some(format!("{} {}", figure(case.p99?), case.label())));
    let p99 = p99.unwrap_or_else(|| "-".to_owned());
    vec![
        size.unwrap_or_else(|| "-".to_owned()),
        shown(head.ready),
        shown(cost),
        shown(rate),
        p99,
        shown(head.peak),
    ]
}

const FIGURES: [&str; 6] = ["compressed", "ready", "CPU per request", "rate", "p99", "peak memory"];

fn beside(reports: &[Report], names: &[String]) -> Grid {
    let rows = reports.iter().zip(names).flat_map(|(report, name)| {
        let runs: Vec<&Run> = ran(report).collect();
        let empty = Run::default();
        let runs = if runs.is_empty() {
            vec![(name.clone(), figures(report, &empty))]
        } else {
            runs.iter().map(|run| (format!("{name}, {}", limits_of(run)), figures(report, run))).collect()
        };
        runs.into_iter().map(|(name, figures)| [vec![name], figures].concat()).collect::<Vec<_>>()
    });
    Grid::new("Beside each other", &[&["image"][..], &FIGURES[..]].concat(), 1, rows.collect())
}

/// A row for each set of limits, where there are several.
fn limits(report: &Report) -> Option<Grid> {
    let rows: Vec<Vec<String>> =
        ran(report).map(|run| [vec![limits_of(run)], figures(report, run)].concat()).collect();
    (rows.len() > 1).then(|| Grid::new("Limits", &[&["limits"][..], &FIGURES[..]].concat(), 1, rows))
}

/// Each kind of doubt once, with the figures that it is about.
fn doubts(report: &Report) -> Vec<Doubted> {
    let mut kinds: Vec<(&Doubt, Vec<&Measurement>)> = Vec::new();
    for it in report.runs.iter().flat_map(|run| &run.measurements) {
        for doubt in &it.doubts {
            match kinds.iter_mut().find(|(known, _)| known.kind() == doubt.kind()) {
                Some((_, about)) => about.push(it),
                None => kinds.push((doubt, vec![it])),
            }
        }
    }
    kinds.sort_by_key(|(doubt, _)| headline::order(doubt));
    let doubted = kinds.into_iter().map(|(doubt, about)| {
        let way = |it: &Measurement| match tare_report::bias::bias(doubt, tare_report::Subject::of(it.metric))
        {
            Some(Bias::Understates) => " (can only be better)",
            Some(Bias::Flatters) => " (can only be worse)",
            _ => "",
        };
        let mut named: Vec<String> =
            about.iter().take(NAMED).map(|it| format!("{}{}", it.key(), way(it))).collect();
        if about.len() > NAMED {
            named.push(format!("{} more figures", about.len() - NAMED));
        }
        Doubted { what: doubt.to_string(), advice: doubt.advice(), figures: named.join(", ") }
    });
    doubted.collect()
}

fn gates(report: &Report) -> Option<Grid> {
    let rows: Vec<Vec<String>> = report
        .verdicts
        .iter()
        .map(|verdict| {
            let limits = verdict.limits.as_ref().map(ToString::to_string).unwrap_or_default();
            let outcome = match verdict.outcome {
                Outcome::Pass => "passed",
                Outcome::Fail => "failed",
                Outcome::Unreliable => "in doubt",
                Outcome::Skipped => "not judged",
            };
            vec![outcome.to_owned(), verdict.gate.clone(), limits, verdict.reason.clone()]
        })
        .collect();
    (!rows.is_empty()).then(|| Grid::new("Gates", &["outcome", "gate", "limits", "why"], usize::MAX, rows))
}

/// All figures, notes and lists of one set of limits.
fn everything(run: &Run) -> Everything {
    let heading = run.limits.as_ref().map_or_else(|| "Size".to_owned(), |limits| format!("Under {limits}"));
    let mut rows = Vec::new();
    for metric in run.measurements.chunk_by(|a, b| a.metric == b.metric) {
        rows.extend(metric.iter().take(CASES).map(|it| {
            vec![it.metric.to_owned(), it.case.clone().unwrap_or_default(), figure(it), trust(it)]
        }));
        if metric.len() > CASES {
            let rest = format!("{} more in report.json", metric.len() - CASES);
            rows.push(vec![metric[0].metric.to_owned(), rest, String::new(), String::new()]);
        }
    }
    let mut figures =
        Grid::new("", &["metric", "case", "value", "95 % interval, or doubts"], usize::MAX, rows);
    figures.numeric[2] = true;
    let mut notes = Vec::new();
    let mut grids = Vec::new();
    for pass in Pass::ALL {
        for section in run.sections.iter().filter(|section| section.pass == pass) {
            notes.extend(
                section.notes.iter().filter(|note| !notes.contains(*note)).cloned().collect::<Vec<_>>(),
            );
            grids.extend(section.tables.iter().map(list));
        }
    }
    Everything { heading, figures, notes, grids }
}

pub(super) fn list(table: &Table) -> Grid {
    let numeric = (0..table.columns.len()).map(|at| table.numeric.contains(&at)).collect();
    Grid { title: table.title.clone(), columns: table.columns.clone(), numeric, rows: table.rows.clone() }
}

/// Runs of all reports, each with a name for its lines.
fn named_runs<'a>(reports: &'a [Report], names: &[String]) -> Vec<(String, &'a Run)> {
    let several = reports.len() > 1;
    let mut named = Vec::new();
    for (report, name) in reports.iter().zip(names) {
        let many = ran(report).count() > 1;
        for run in ran(report) {
            let parts = [several.then(|| name.clone()), many.then(|| limits_of(run))];
            named.push((parts.into_iter().flatten().collect::<Vec<_>>().join(", "), run));
        }
    }
    named
}

fn joined(name: &str, case: &str) -> String {
    if name.is_empty() { case.to_owned() } else { format!("{name}, {case}") }
}

fn charts(reports: &[Report], names: &[String]) -> Vec<Chart> {
    let mut charts = Vec::new();
    for (report, name) in reports.iter().zip(names) {
        let image = report.runs.iter().find_map(|run| run.bytes.as_ref());
        charts.extend(
            image
                .filter(|image| image.bytes > 0)
                .map(|image| bytes(image, (reports.len() > 1).then_some(name))),
        );
    }
    let runs = named_runs(reports, names);
    for cache in ["warm", "cold"] {
        for (name, run) in &runs {
            charts.extend(starts(name, run, cache));
        }
    }
    let curves: Vec<Line<'_>> = runs
        .iter()
        .flat_map(|(name, run)| run.curves.iter().map(move |curve| (joined(name, &curve.case), curve)))
        .collect();
    charts.extend(lines::percentiles(&curves).map(|svg| Chart {
        title: "Latency".to_owned(),
        note: "",
        svg,
        grid: points(&curves, |kind| matches!(kind, CurveKind::Latency | CurveKind::Service)),
    }));
    for (kind, unit, title, note) in [
        (CurveKind::Rate, Unit::PerSecond, "Right answers per second in the course of the load", ""),
        (
            CurveKind::P99,
            Unit::Nanoseconds,
            "99 % answered within, in the course of the load",
            "The first parts have points of their own; the last point stands for all the rest.",
        ),
        (CurveKind::Throttled, Unit::Share, "Periods in which the CPU quota was used up", ""),
    ] {
        charts.extend(lines::over_time(&curves, kind, unit, title).map(|svg| Chart {
            title: title.to_owned(),
            note,
            svg,
            grid: points(&curves, |it| it == kind),
        }));
    }
    charts.extend(costs(&runs));
    charts.extend(runs.iter().filter_map(|(name, run)| functions(name, run)));
    charts
}

/// The flame graph, with the largest functions as a table.
fn functions(name: &str, run: &Run) -> Option<Chart> {
    let svg = flame::draw(run.stacks.as_ref()?)?;
    let tables = run.sections.iter().filter(|it| it.pass == Pass::Instructions).flat_map(|it| &it.tables);
    let title = "Flame graph of instructions".to_owned();
    Some(Chart {
        title: if name.is_empty() { title } else { format!("{title}: {name}") },
        note: "Instructions in user mode while requests are answered, with start and end. Each function stands on its caller, as wide as its instructions and those of all that it calls. callgrind records pairs of callers and callees: what a function calls is divided among its callers in proportion. Inlined functions are part of those that they are inlined into.",
        svg,
        grid: tables.map(list).next().unwrap_or_default(),
    })
}

fn bytes(image: &Part, name: Option<&String>) -> Chart {
    let title = name.map_or_else(|| "Bytes of the image".to_owned(), |name| format!("Bytes of {name}"));
    let mut rows = Vec::new();
    listed(image, "", &mut rows);
    rows.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    let share = |bytes: u64| format!("{:.1} %", bytes as f64 * 100.0 / image.bytes.max(1) as f64);
    let rows = rows.into_iter().take(PARTS);
    let rows = rows.map(|(bytes, path)| vec![path, units::shown(bytes as f64, Unit::Bytes), share(bytes)]);
    Chart {
        title,
        note: "Uncompressed bytes of files: layers, their files, sections of the program, and crates. Crates are an estimate from symbols.",
        svg: treemap::draw(image),
        grid: Grid::new("", &["part", "bytes", "share"], 1, rows.collect()),
    }
}

/// Everything that has no parts of its own, by its path.
fn listed(part: &Part, above: &str, rows: &mut Vec<(u64, String)>) {
    for part in &part.parts {
        let path = if above.is_empty() { part.name.clone() } else { format!("{above} › {}", part.name) };
        if part.parts.is_empty() {
            rows.push((part.bytes, path));
        } else {
            listed(part, &path, rows);
        }
    }
}

fn starts(name: &str, run: &Run, cache: &str) -> Option<Chart> {
    let svg = bars::starts(run, cache)?;
    let of_cache = format!("startup.{cache}.");
    let rows = run.measurements.iter().filter(|it| it.metric.starts_with(&of_cache));
    let rows =
        rows.map(|it| vec![it.metric.to_owned(), figure_with_interval(it), it.samples.len().to_string()]);
    let title = if cache == "warm" { "Start-up" } else { "Start-up from the disk (page cache dropped)" };
    Some(Chart {
        title: if name.is_empty() { title.to_owned() } else { format!("{title}: {name}") },
        note: "Medians; a dot is one start.",
        svg,
        grid: Grid::new("", &["metric", "median and 95 % interval", "starts"], 1, rows.collect()),
    })
}

/// All points of these curves.
fn points(curves: &[Line<'_>], wanted: impl Fn(CurveKind) -> bool) -> Grid {
    let rows = curves.iter().filter(|(_, curve)| wanted(curve.kind)).flat_map(|(name, curve)| {
        let (kind, x, y): (_, fn(f64) -> String, _) = match curve.kind {
            CurveKind::Latency => ("from the planned start", share, Unit::Nanoseconds),
            CurveKind::Service => ("from the send", share, Unit::Nanoseconds),
            CurveKind::Rate => ("answers per second", time, Unit::PerSecond),
            CurveKind::P99 => ("99 % within", time, Unit::Nanoseconds),
            CurveKind::Throttled => ("throttled periods", time, Unit::Share),
        };
        let row = move |point: &(f64, f64)| {
            vec![name.clone(), kind.to_owned(), x(point.0), units::shown(point.1, y)]
        };
        curve.points.iter().map(row)
    });
    Grid::new("", &["load", "what", "at", "value"], 2, rows.collect())
}

fn share(share: f64) -> String {
    if share >= 1.0 { "max".to_owned() } else { format!("{} %", (share * 1e7).round() / 1e5) }
}

fn time(nanoseconds: f64) -> String {
    units::shown(nanoseconds, Unit::Nanoseconds)
}

fn costs(runs: &[(String, &Run)]) -> Option<Chart> {
    let mut loads: Vec<(String, &Run, &str)> = Vec::new();
    for (name, run) in runs {
        let costs = run.measurements.iter().filter(|it| it.metric == "throughput.cpu-per-request");
        loads.extend(costs.filter_map(|it| {
            let case = it.case.as_deref()?;
            Some((joined(name, case), *run, case))
        }));
    }
    let svg = bars::costs(&loads)?;
    let of = |run: &Run, metric: &str, case: &str| {
        let mut all = run.measurements.iter();
        let found = all.find(|it| it.metric == metric && it.case.as_deref() == Some(case));
        found.map_or_else(|| "-".to_owned(), figure_with_interval)
    };
    let row = |(name, run, case): &(String, &Run, &str)| {
        let metrics =
            ["", ".user", ".kernel"].map(|part| of(run, &format!("throughput.cpu-per-request{part}"), case));
        [vec![name.clone()], metrics.to_vec()].concat()
    };
    let rows = loads.iter().map(row).collect();
    Some(Chart {
        title: "CPU time per request".to_owned(),
        note: "",
        svg,
        grid: Grid::new("", &["load", "CPU per request", "user mode", "kernel"], 1, rows),
    })
}
