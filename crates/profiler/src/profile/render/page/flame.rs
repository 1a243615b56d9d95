//! The flame graph: functions as bars as wide as their instructions, each on top of its caller.

use std::collections::BTreeMap;

use tare_report::Frame;

use super::super::units;
use super::svg::{COLOURS, Svg, WIDTH};
use super::treemap::cut;
use crate::profile::metric::Unit;
use crate::profile::size::crate_of;

/// The height of a function.
const ROW: f64 = 17.0;
/// Room for the legend.
const TOP: f64 = 24.0;
/// Narrower bars are not drawn.
const LEAST: f64 = 1.0;
/// The width of a character of labels.
const CHARACTER: f64 = 6.6;

/// What has no crate.
const NO_CRATE: &str = "no crate";

/// None where no function is known.
pub(super) fn draw(root: &Frame) -> Option<String> {
    if root.instructions == 0 || root.callees.is_empty() {
        return None;
    }
    let mut own = BTreeMap::new();
    by_crate(root, &mut own);
    let mut crates: Vec<(String, u64)> = own.into_iter().collect();
    crates.sort_by_key(|(_, own)| std::cmp::Reverse(*own));
    let mut crates: Vec<String> = crates.into_iter().map(|(name, _)| name).collect();
    let is_cut = crates.len() > COLOURS;
    crates.truncate(if is_cut { COLOURS - 1 } else { COLOURS });
    let depth = depth(root);
    let bottom = TOP + ROW * depth as f64;
    let mut svg = Svg::new(bottom, "Instructions by function, each on top of its caller");
    let legend: Vec<String> = crates.iter().cloned().chain(is_cut.then(|| "others".to_owned())).collect();
    svg.legend(14.0, &legend);
    let flame = Flame { crates: &crates, total: root.instructions as f64, bottom };
    flame.bar(&mut svg, root, 0.0, 0);
    Some(svg.finish())
}

struct Flame<'a> {
    /// With a colour each; all others share the last.
    crates: &'a [String],
    total: f64,
    bottom: f64,
}

impl Flame<'_> {
    fn bar(&self, svg: &mut Svg, frame: &Frame, x: f64, depth: usize) {
        let width = frame.instructions as f64 / self.total * WIDTH;
        if width < LEAST {
            return;
        }
        let y = self.bottom - ROW * (depth + 1) as f64;
        let name = krate(&frame.function);
        let colour = self.crates.iter().position(|it| *it == name).unwrap_or(COLOURS - 1);
        let share = units::shown(frame.instructions as f64 / self.total, Unit::Share);
        svg.rect(
            [x, y, width, ROW - 1.0],
            &format!("tile f{colour}"),
            &format!("{}: {share}", frame.function),
        );
        let fits = ((width - 6.0) / CHARACTER).max(0.0) as usize;
        if fits >= 4 {
            svg.text(x + 3.0, y + 12.0, "label small", &shortened(&frame.function, fits));
        }
        let mut x = x;
        for callee in &frame.callees {
            self.bar(svg, callee, x, depth + 1);
            x += callee.instructions as f64 / self.total * WIDTH;
        }
    }
}

/// As many of the last parts of a path as fit: the first are the same in many functions.
fn shortened(function: &str, fits: usize) -> String {
    if function.chars().count() <= fits {
        return function.to_owned();
    }
    let ends = function.match_indices("::").map(|(at, _)| &function[at + 2..]);
    let fitting = ends.map(str::trim).find(|end| !end.is_empty() && end.chars().count() < fits);
    fitting.map_or_else(|| cut(function, fits), |end| format!("…{end}"))
}

fn krate(function: &str) -> String {
    crate_of(function).unwrap_or(NO_CRATE).to_owned()
}

/// Instructions of functions themselves, by their crate.
fn by_crate(frame: &Frame, crates: &mut BTreeMap<String, u64>) {
    let of_callees = frame.callees.iter().map(|it| it.instructions).fold(0, u64::saturating_add);
    *crates.entry(krate(&frame.function)).or_default() += frame.instructions.saturating_sub(of_callees);
    frame.callees.iter().for_each(|callee| by_crate(callee, crates));
}

fn depth(frame: &Frame) -> usize {
    1 + frame.callees.iter().map(depth).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, instructions: u64, callees: Vec<Frame>) -> Frame {
        Frame { function: function.to_owned(), instructions, callees }
    }

    #[test]
    fn a_function_stands_on_its_caller_as_wide_as_its_instructions() {
        let leaf = frame("<itoa::Buffer>::format", 250, vec![]);
        let main = frame("app::main", 500, vec![leaf, frame("app::tiny", 1, vec![])]);
        let svg = draw(&frame("all", 1000, vec![main, frame("[0x1]", 500, vec![])])).unwrap();
        for part in [
            "<rect x=\"0\" y=\"58\" width=\"900\" height=\"16\" class=\"tile f0\"><title>all: 100.0 %</title></rect>",
            "<rect x=\"0\" y=\"41\" width=\"450\" height=\"16\" class=\"tile f1\"><title>app::main: 50.0 %</title></rect>",
            "<rect x=\"0\" y=\"24\" width=\"225\" height=\"16\" class=\"tile f2\"><title>&lt;itoa::Buffer&gt;::format: 25.0 %</title>",
            "<rect x=\"450\" y=\"41\" width=\"450\" height=\"16\" class=\"tile f0\"><title>[0x1]: 50.0 %</title>",
            ">no crate</text>",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("tiny"));
    }

    #[test]
    fn a_narrow_bar_has_the_last_parts_of_the_path() {
        for (function, fits, expected) in [
            ("tokio::runtime::task::raw::poll", 31, "tokio::runtime::task::raw::poll"),
            ("tokio::runtime::task::raw::poll", 30, "…runtime::task::raw::poll"),
            ("tokio::runtime::task::raw::poll", 6, "…poll"),
            ("tokio::runtime::task::raw::poll", 4, "tok…"),
            ("__libc_start_main", 6, "__lib…"),
        ] {
            assert_eq!(shortened(function, fits), expected, "{fits}");
        }
    }

    #[test]
    fn there_is_no_drawing_of_nothing() {
        assert_eq!(draw(&frame("all", 0, vec![])), None);
        assert_eq!(draw(&frame("all", 10, vec![])), None);
    }
}
