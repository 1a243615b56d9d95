//! Curves as drawings: latency by share of the requests on an axis of nines, and rate, latency and throttling over time.

use tare_report::{Curve, CurveKind};

use super::super::units;
use super::svg::{COLOURS, Svg, WIDTH, ticks};
use crate::profile::metric::Unit;

const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 20.0;
const TOP: f64 = 30.0;

/// A curve with the name of its line.
pub(super) type Line<'a> = (String, &'a Curve);

/// Where x and y lie in a drawing.
struct Frame {
    bottom: f64,
    x_most: f64,
    y_most: f64,
}

impl Frame {
    fn x(&self, x: f64) -> f64 {
        LEFT + if self.x_most > 0.0 { x / self.x_most * (RIGHT - LEFT) } else { 0.0 }
    }

    fn y(&self, y: f64) -> f64 {
        self.bottom - if self.y_most > 0.0 { y / self.y_most * (self.bottom - TOP) } else { 0.0 }
    }

    /// The axis of y, with lines from its ticks.
    fn y_axis(&self, svg: &mut Svg, unit: Unit) {
        for tick in ticks(self.y_most) {
            svg.line((LEFT, self.y(tick)), (RIGHT, self.y(tick)), "grid");
            svg.text(LEFT - 8.0, self.y(tick) + 4.0, "end", &tick_label(tick, unit));
        }
    }
}

fn tick_label(value: f64, unit: Unit) -> String {
    match unit {
        Unit::PerSecond => units::shown(value, Unit::Count),
        Unit::Share => format!("{:.0} %", value * 100.0),
        unit => units::shown(value, unit),
    }
}

/// The names of lines, each once, in their order.
fn names(lines: &[Line<'_>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in lines {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names.truncate(COLOURS);
    names
}

/// The nines of a share: 0 of 0, 1 of 90 %, 2 of 99 %.
fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

/// Latency from the planned start (solid) and service time from the send (dashed), by share of the requests.
pub(super) fn percentiles(lines: &[Line<'_>]) -> Option<String> {
    let is_time = |curve: &Curve| matches!(curve.kind, CurveKind::Latency | CurveKind::Service);
    let lines: Vec<&Line<'_>> = lines.iter().filter(|(_, curve)| is_time(curve)).collect();
    let points = || lines.iter().flat_map(|(_, curve)| &curve.points);
    let last = points().filter(|point| point.0 < 1.0).map(|point| nines(point.0)).reduce(f64::max)?;
    // The longest time stands beyond the last share that there are requests for.
    let end = last + 0.5;
    let frame = Frame {
        bottom: 300.0,
        x_most: end,
        y_most: points().map(|point| point.1).fold(0.0, f64::max) * 1.05,
    };
    let mut svg = Svg::new(340.0, "Latency by share of the requests, on an axis of nines");
    frame.y_axis(&mut svg, Unit::Nanoseconds);
    for (share, label) in [
        (0.0, "0 %"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.999_99, "99.999 %"),
    ] {
        if nines(share) <= last + 0.01 {
            let x = frame.x(nines(share));
            svg.line((x, TOP), (x, frame.bottom), "grid");
            svg.text(x, frame.bottom + 18.0, "middle", label);
        }
    }
    svg.text(frame.x(end), frame.bottom + 18.0, "middle", "max");
    svg.text(
        LEFT,
        frame.bottom + 36.0,
        "small",
        "requests answered within the time; solid: from the planned start, dashed: from the send",
    );
    let names = names(&lines.iter().map(|(name, curve)| (name.clone(), *curve)).collect::<Vec<_>>());
    svg.legend(14.0, &names);
    for (name, curve) in &lines {
        let Some(at) = names.iter().position(|it| it == name) else { continue };
        let dashed = if curve.kind == CurveKind::Service { " dashed" } else { "" };
        let x = |share: f64| if share >= 1.0 { end } else { nines(share) };
        let points = curve.points.iter().map(|(share, time)| (frame.x(x(*share)), frame.y(*time)));
        svg.path(points, &format!("s{at}{dashed}"), name);
    }
    Some(svg.finish())
}

/// What happened over time: one drawing of one kind of curve.
pub(super) fn over_time(lines: &[Line<'_>], kind: CurveKind, unit: Unit, label: &str) -> Option<String> {
    let lines: Vec<Line<'_>> = lines
        .iter()
        .filter(|(_, curve)| curve.kind == kind)
        .map(|(name, curve)| (name.clone(), *curve))
        .collect();
    let points = || lines.iter().flat_map(|(_, curve)| &curve.points);
    let x_most = points().map(|point| point.0).reduce(f64::max)?;
    let y_most = points().map(|point| point.1).fold(0.0, f64::max);
    let y_most = if kind == CurveKind::Throttled { 1.0 } else { y_most * 1.05 };
    let frame = Frame { bottom: 150.0, x_most, y_most };
    let mut svg = Svg::new(178.0, label);
    frame.y_axis(&mut svg, unit);
    for tick in ticks(x_most) {
        svg.text(frame.x(tick), frame.bottom + 18.0, "middle", &units::shown(tick, Unit::Nanoseconds));
    }
    let names = names(&lines);
    svg.legend(14.0, &names);
    for (name, curve) in &lines {
        let Some(at) = names.iter().position(|it| it == name) else { continue };
        svg.path(curve.points.iter().map(|(x, y)| (frame.x(*x), frame.y(*y))), &format!("s{at}"), name);
    }
    Some(svg.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(kind: CurveKind, points: &[(f64, f64)]) -> Curve {
        Curve { kind, case: "closed".to_owned(), points: points.to_vec() }
    }

    #[test]
    fn the_axis_of_nines_ends_with_the_last_share_and_the_longest_time() {
        let latency = curve(CurveKind::Latency, &[(0.0, 1e6), (0.9, 2e6), (0.99, 3e6), (1.0, 4e6)]);
        let svg = percentiles(&[("closed".to_owned(), &latency)]).unwrap();
        for (label, there) in
            [(">0 %<", true), (">90 %<", true), (">99 %<", true), (">99.9 %<", false), (">max<", true)]
        {
            assert_eq!(svg.contains(label), there, "{label}: {svg}");
        }
        // x is 70 at 0 nines and 880 at 2.5; y is 300 at 0 and 30 at 4.2 ms.
        assert!(svg.contains("points=\"70,235.7 394,171.4 718,107.1 880,42.9\""), "{svg}");
    }

    #[test]
    fn there_is_no_drawing_of_nothing() {
        assert_eq!(percentiles(&[]), None);
        assert_eq!(over_time(&[], CurveKind::Rate, Unit::PerSecond, ""), None);
        let throttled = curve(CurveKind::Throttled, &[(0.0, 0.0), (1e9, 0.5)]);
        assert_eq!(over_time(&[("a".to_owned(), &throttled)], CurveKind::Rate, Unit::PerSecond, ""), None);
    }

    #[test]
    fn throttling_is_drawn_from_none_to_all() {
        let throttled = curve(CurveKind::Throttled, &[(0.0, 0.0), (1e9, 0.5)]);
        let svg = over_time(&[("a".to_owned(), &throttled)], CurveKind::Throttled, Unit::Share, "").unwrap();
        assert!(svg.contains("points=\"70,150 880,90\"") && svg.contains(">100 %<"), "{svg}");
    }
}
