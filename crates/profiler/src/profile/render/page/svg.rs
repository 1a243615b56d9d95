//! A drawing as SVG: shapes with classes, which the page's style sheet colours, and text as text.

use std::fmt::Write as _;

/// The width of every drawing, in its own units.
pub(super) const WIDTH: f64 = 900.0;
/// The most lines of one drawing, which is the number of colours.
pub(super) const COLOURS: usize = 6;

/// A drawing that grows.
#[derive(Debug)]
pub(super) struct Svg {
    text: String,
}

impl Svg {
    /// An empty drawing. `label` says what it shows to those who do not see it.
    pub(super) fn new(height: f64, label: &str) -> Self {
        let label = escaped(label);
        let text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{label}\">",
            number(height)
        );
        Self { text }
    }

    /// A rectangle; `title` is shown to who points at it.
    pub(super) fn rect(&mut self, [x, y, width, height]: [f64; 4], class: &str, title: &str) {
        let shape = format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"{class}\"",
            number(x),
            number(y),
            number(width.max(0.0)),
            number(height.max(0.0))
        );
        self.close("rect", &shape, title);
    }

    /// A dot of a sample.
    pub(super) fn dot(&mut self, x: f64, y: f64, class: &str) {
        let shape = format!("<circle cx=\"{}\" cy=\"{}\" r=\"2.5\" class=\"{class}\"", number(x), number(y));
        self.close("circle", &shape, "");
    }

    /// A straight line.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let _ = write!(
            self.text,
            "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" class=\"{class}\"/>",
            number(from.0),
            number(from.1),
            number(to.0),
            number(to.1)
        );
    }

    /// A line through points.
    pub(super) fn path(&mut self, points: impl Iterator<Item = (f64, f64)>, class: &str, title: &str) {
        let points: Vec<String> = points.map(|(x, y)| format!("{},{}", number(x), number(y))).collect();
        let shape = format!("<polyline points=\"{}\" class=\"{class}\"", points.join(" "));
        self.close("polyline", &shape, title);
    }

    /// Text at a place; `class` may hold `end` or `middle` for where in the text the place is.
    pub(super) fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let _ = write!(
            self.text,
            "<text x=\"{}\" y=\"{}\" class=\"{class}\">{}</text>",
            number(x),
            number(y),
            escaped(text)
        );
    }

    /// The names of the lines, each with its colour, from the left; and where they end.
    pub(super) fn legend(&mut self, y: f64, names: &[String]) {
        let mut x = 70.0;
        for (at, name) in names.iter().enumerate().take(COLOURS) {
            self.rect([x, y - 9.0, 10.0, 10.0], &format!("f{at}"), "");
            self.text(x + 15.0, y, "", name);
            x += 40.0 + 7.0 * name.chars().count() as f64;
        }
    }

    pub(super) fn finish(mut self) -> String {
        self.text.push_str("</svg>");
        self.text
    }

    fn close(&mut self, name: &str, shape: &str, title: &str) {
        self.text.push_str(shape);
        if title.is_empty() {
            self.text.push_str("/>");
        } else {
            let _ = write!(self.text, "><title>{}</title></{name}>", escaped(title));
        }
    }
}

/// A coordinate, with one digit behind the point where that says something.
fn number(value: f64) -> String {
    let text = format!("{:.1}", if value.is_finite() { value } else { 0.0 });
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// Text of others in XML: no markup, and no character that XML 1.0 does not have.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Round numbers from 0 to `most`, at most seven.
pub(super) fn ticks(most: f64) -> Vec<f64> {
    if !most.is_finite() || most <= 0.0 {
        return vec![0.0];
    }
    let rough = most / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * power).find(|step| *step >= rough);
    let step = step.unwrap_or(most);
    (0..=6).map(|at| f64::from(at) * step).take_while(|tick| *tick <= most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(6.0), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(ticks(1_000.0), [0.0, 200.0, 400.0, 600.0, 800.0, 1_000.0]);
        for most in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(ticks(most), [0.0]);
        }
    }

    #[test]
    fn names_of_others_are_text() {
        let mut svg = Svg::new(10.0, "a \"b\"");
        svg.text(1.0, 2.25, "", "<script>\u{0}&");
        let text = svg.finish();
        assert!(text.contains("aria-label=\"a &quot;b&quot;\""), "{text}");
        assert!(
            text.ends_with("<text x=\"1\" y=\"2.2\" class=\"\">&lt;script&gt; &amp;</text></svg>"),
            "{text}"
        );
    }
}
