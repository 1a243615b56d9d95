//! The pages of sweeps and capacities: a map of limits, and p99 by CPU limit or rate.

use super::super::limits::{self as texts, COLUMNS, row};
use super::super::units;
use super::svg::{Svg, WIDTH, ticks};
use super::view::{Chart, Grid, Page};
use crate::profile::capacity::Capacity;
use crate::profile::metric::Unit;
use crate::profile::report::{Host, ProfileFacts, Target};
use crate::profile::sweep::found::{Sweep, curve};
use crate::profile::trial::{Reason, Trial};

const LEFT: f64 = 90.0;
const RIGHT: f64 = WIDTH - 20.0;
const TOP: f64 = 20.0;
/// The height of a row of the map.
const ROW: f64 = 44.0;
/// Shades of a cell: how far its p99 lies below or above the target, each a factor of three.
const SHADES: usize = 3;

pub(super) fn sweep(sweep: &Sweep) -> Page {
    let name = sweep.target.names.first().unwrap_or(&sweep.target.digest);
    let mut facts = vec![format!("Target: {}", texts::goal(sweep))];
    if let Some(smallest) = &sweep.smallest {
        facts.push(texts::proof(smallest));
        facts.extend(texts::knee(smallest));
    }
    facts.extend(sweep.notes.clone());
    facts.extend(circumstances(&sweep.target, &sweep.host, &sweep.profile, &sweep.taken));
    let mut listings = Vec::new();
    if let Some(resources) = &sweep.resources {
        facts.push(resources.about());
        listings.push(("Kubernetes".to_owned(), resources.kubernetes()));
        listings.push(("docker".to_owned(), resources.docker()));
        listings.push(("compose".to_owned(), resources.compose()));
    }
    let trials: Vec<&Trial> = sweep.trials.iter().map(|made| &made.trial).collect();
    let all = || sweep.trials.iter().map(|made| row(made.purpose.name(), &made.trial)).collect();
    let mut charts = Vec::new();
    charts.extend(map(&trials, sweep.goal.p99).map(|svg| Chart {
        title: "p99 under CPU and memory limits".to_owned(),
        note: "Green cells met the target; \"memory\": the kernel killed the server for its memory. A cell that was tried more than once shows its best trial.",
        svg,
        grid: Grid::new("", &COLUMNS, 2, all()),
    }));
    let memory = sweep.smallest.as_ref().map_or(0, |it| it.memory);
    let points = curve(trials.iter().copied(), memory);
    let knee = sweep.smallest.as_ref().and_then(|it| it.knee);
    let cpus = |cpus: f64| format!("{} CPU", (cpus * 100.0).round() / 100.0);
    charts.extend(against(&points, sweep.goal.p99, knee, &cpus, "p99 by CPU limit").map(|svg| Chart {
        title: "p99 by CPU limit".to_owned(),
        note: "With enough memory; times on a logarithmic axis. Dashed: the target.",
        svg,
        grid: Grid::new("", &["CPU limit", "p99"], 0, cells(&points, &cpus)),
    }));
    Page {
        title: format!("{name}: {}", texts::conclusion(sweep)),
        facts,
        listings,
        charts,
        ..Page::default()
    }
}

pub(super) fn capacity(capacity: &Capacity) -> Page {
    let name = capacity.target.names.first().unwrap_or(&capacity.target.digest);
    let mut facts = vec![texts::rounds(capacity)];
    facts.extend(capacity.notes.clone());
    facts.extend(circumstances(&capacity.target, &capacity.host, &capacity.profile, &capacity.taken));
    let mut points: Vec<(f64, f64)> =
        capacity.trials.iter().filter_map(|trial| Some((trial.rate, trial.p99?))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let rate = |rate: f64| units::shown(rate.round(), Unit::PerSecond);
    let rows = capacity.trials.iter().map(|trial| row("capacity", trial)).collect();
    let svg = against(&points, capacity.p99, capacity.rate, &rate, "p99 by rate");
    let charts = svg.map(|svg| Chart {
        title: "p99 by rate".to_owned(),
        note: "Every trial; times on a logarithmic axis. Dashed: the target; upright: the capacity.",
        svg,
        grid: Grid::new("", &COLUMNS, 2, rows),
    });
    Page {
        title: format!("{name}: {}", texts::capacity_conclusion(capacity)),
        facts,
        charts: charts.into_iter().collect(),
        ..Page::default()
    }
}

fn circumstances(target: &Target, host: &Host, profile: &ProfileFacts, taken: &str) -> [String; 2] {
    [
        format!("{}, profile {}, {}", target.platform, profile.name, target.digest),
        format!("{} CPUs of {}, kernel {}, measured {taken}", host.cpus, host.cpu, host.kernel),
    ]
}

fn cells(points: &[(f64, f64)], x: &dyn Fn(f64) -> String) -> Vec<Vec<String>> {
    points.iter().map(|(at, p99)| vec![x(*at), units::shown(*p99, Unit::Nanoseconds)]).collect()
}

/// The better of two trials under the same limits.
fn better<'a>(a: &'a Trial, b: &'a Trial) -> &'a Trial {
    let key = |trial: &Trial| (!trial.holds(), trial.p99.unwrap_or(f64::INFINITY));
    if key(a) <= key(b) { a } else { b }
}

/// A cell for every pair of limits that was tried: CPU to the right, memory upwards.
fn map(trials: &[&Trial], target: f64) -> Option<String> {
    let mut cpus: Vec<f64> = trials.iter().map(|trial| trial.cpus).collect();
    cpus.sort_by(f64::total_cmp);
    cpus.dedup();
    // The largest at the top, and above it none.
    let mut rows: Vec<u64> = trials.iter().map(|trial| trial.memory.unwrap_or(u64::MAX)).collect();
    rows.sort_unstable_by(|a, b| b.cmp(a));
    rows.dedup();
    let width = (RIGHT - LEFT) / cpus.len().max(1) as f64;
    if trials.is_empty() {
        return None;
    }
    let bottom = TOP + ROW * rows.len() as f64;
    let mut svg = Svg::new(bottom + 42.0, "p99 under CPU and memory limits");
    for (at, memory) in rows.iter().enumerate() {
        let y = TOP + ROW * at as f64;
        let limit = texts::memory(Some(*memory).filter(|memory| *memory != u64::MAX));
        svg.text(LEFT - 8.0, y + ROW / 2.0 + 4.0, "end", &limit);
        for (column, cpu) in cpus.iter().enumerate() {
            let here = trials.iter().filter(|trial| {
                trial.memory.unwrap_or(u64::MAX) == *memory && (trial.cpus - cpu).abs() < f64::EPSILON
            });
            let Some(trial) = here.copied().reduce(better) else { continue };
            let x = LEFT + width * column as f64;
            let text = match (trial.p99, trial.failed) {
                (Some(p99), _) => units::shown(p99, Unit::Nanoseconds),
                // Words that fit into a narrow cell.
                (None, Some(Reason::Memory)) => "memory".to_owned(),
                (None, Some(reason)) => reason.name().to_owned(),
                (None, None) => String::new(),
            };
            let title = row("", trial).join(", ");
            svg.rect([x + 1.0, y + 1.0, width - 2.0, ROW - 2.0], &class(trial, target), &title);
            let small = if width < 70.0 { "middle small" } else { "middle" };
            svg.text(x + width / 2.0, y + ROW / 2.0 + 4.0, small, &text);
        }
    }
    for (column, cpu) in cpus.iter().enumerate() {
        let x = LEFT + width * (column as f64 + 0.5);
        svg.text(x, bottom + 16.0, "middle", &format!("{cpu}"));
    }
    svg.text(LEFT, bottom + 34.0, "small", "CPU limit to the right, memory limit upwards");
    Some(svg.finish())
}

/// The colour of a cell.
fn class(trial: &Trial, target: f64) -> String {
    let factor = trial.p99.map_or(f64::INFINITY, |p99| (p99 / target).max(target / p99.max(1.0)));
    let shade = [3.0, 9.0].iter().filter(|bound| factor > **bound).count().min(SHADES - 1);
    format!("{} shade{shade}", if trial.holds() { "shrunk" } else { "grown" })
}

/// p99 by something, on a logarithmic axis, with the target and a mark.
fn against(
    points: &[(f64, f64)],
    target: f64,
    mark: Option<f64>,
    x_label: &dyn Fn(f64) -> String,
    label: &str,
) -> Option<String> {
    if points.len() < 2 {
        return None;
    }
    let most = points.iter().map(|point| point.0).fold(0.0, f64::max);
    let times = || points.iter().map(|point| point.1.max(1.0)).chain([target.max(1.0)]);
    let decade = |value: f64| value.log10();
    let low = decade(times().fold(f64::INFINITY, f64::min)).floor();
    let high = decade(times().fold(0.0, f64::max)).ceil().max(low + 1.0);
    let bottom = 240.0;
    let x = |value: f64| LEFT + value / most.max(f64::MIN_POSITIVE) * (RIGHT - LEFT);
    let y = |value: f64| bottom - (decade(value.max(1.0)) - low) / (high - low) * (bottom - TOP);
    let mut svg = Svg::new(bottom + 28.0, label);
    let mut power = low;
    while power <= high {
        let value = 10_f64.powf(power);
        svg.line((LEFT, y(value)), (RIGHT, y(value)), "grid");
        svg.text(LEFT - 8.0, y(value) + 4.0, "end", &units::shown(value, Unit::Nanoseconds));
        power += 1.0;
    }
    for tick in ticks(most) {
        svg.text(x(tick), bottom + 18.0, if tick < most * 0.95 { "middle" } else { "end" }, &x_label(tick));
    }
    svg.path([(LEFT, y(target)), (RIGHT, y(target))].into_iter(), "s4 dashed", "the target");
    if let Some(mark) = mark {
        svg.path([(x(mark), TOP), (x(mark), bottom)].into_iter(), "s5 dashed", &x_label(mark));
        let end = if x(mark) > RIGHT - 120.0 { "end" } else { "" };
        svg.text(x(mark) + if end.is_empty() { 4.0 } else { -4.0 }, TOP - 6.0, end, &x_label(mark));
    }
    svg.path(points.iter().map(|(at, time)| (x(*at), y(*time))), "s0", label);
    points.iter().for_each(|(at, time)| svg.dot(x(*at), y(*time), "sample"));
    Some(svg.finish())
}
