//! The bytes of an image as tiles in tiles, as near to squares as they get: squarified treemaps (Bruls, Huizing, van Wijk:
//! Squarified Treemaps, 2000).

use tare_report::Part;

use super::super::units;
use super::svg::{COLOURS, Svg, WIDTH};
use crate::profile::metric::Unit;

const HEIGHT: f64 = 440.0;
/// The strip that names a tile with tiles in it.
const STRIP: f64 = 17.0;
/// Smaller tiles are not drawn.
const LEAST: f64 = 1.5;
/// The width of a character of labels.
const CHARACTER: f64 = 6.6;

type Area = [f64; 4];

/// The drawing of an image's bytes.
pub(super) fn draw(image: &Part) -> String {
    let mut svg = Svg::new(
        HEIGHT,
        &format!("Bytes of the image by layer, file, section and crate: {}", bytes(image.bytes)),
    );
    for (at, (layer, area)) in tiles(&image.parts, [0.0, 0.0, WIDTH, HEIGHT]).enumerate() {
        tile(&mut svg, layer, area, &format!("f{}", at % COLOURS), "", 0);
    }
    svg.finish()
}

/// The drawing of what changed, by name and bytes more or less: a tile for each change, as large as it is.
pub(super) fn draw_changes(changes: &[(String, i128)]) -> String {
    let mut svg = Svg::new(HEIGHT, "Bytes that were added and removed, by file, section and crate");
    let part = |(name, delta): &(String, i128)| {
        let bytes = u64::try_from(delta.unsigned_abs()).unwrap_or(u64::MAX);
        Part::leaf(format!("{} {name}", if *delta > 0 { "+" } else { "−" }), bytes)
    };
    let parts = Part::of("", changes.iter().map(part).collect()).parts;
    for (part, area) in tiles(&parts, [0.0, 0.0, WIDTH, HEIGHT]) {
        tile(&mut svg, part, area, if part.name.starts_with('+') { "grown" } else { "shrunk" }, "", 0);
    }
    svg.finish()
}

fn bytes(bytes: u64) -> String {
    units::shown(bytes as f64, Unit::Bytes)
}

/// A part and, inside it, its own.
fn tile(svg: &mut Svg, part: &Part, area: Area, colour: &str, above: &str, depth: usize) {
    let [x, y, width, height] = area;
    if width < LEAST || height < LEAST {
        return;
    }
    let path = if above.is_empty() { part.name.clone() } else { format!("{above} › {}", part.name) };
    svg.rect(area, &format!("tile {colour} d{}", depth.min(3)), &format!("{path}: {}", bytes(part.bytes)));
    let fits = ((width - 8.0) / CHARACTER).max(0.0) as usize;
    let has_room = height >= STRIP && fits >= 4;
    let label = if part.parts.is_empty() {
        part.name.clone()
    } else {
        format!("{}  {}", part.name, bytes(part.bytes))
    };
    if has_room {
        svg.text(x + 4.0, y + 12.5, "label", &cut(&label, fits));
    }
    if part.parts.is_empty() {
        if has_room && height >= 2.0 * STRIP {
            svg.text(x + 4.0, y + 26.0, "label small", &cut(&bytes(part.bytes), fits));
        }
        return;
    }
    let strip = if has_room { STRIP } else { 2.0 };
    let inside = [x + 2.0, y + strip, width - 4.0, height - strip - 2.0];
    if inside[2] > LEAST && inside[3] > LEAST {
        for (part, area) in tiles(&part.parts, inside) {
            tile(svg, part, area, colour, &path, depth + 1);
        }
    }
}

pub(super) fn cut(text: &str, fits: usize) -> String {
    if text.chars().count() <= fits {
        return text.to_owned();
    }
    text.chars().take(fits.saturating_sub(1)).chain(['…']).collect()
}

/// An area for each part, largest first.
fn tiles(parts: &[Part], area: Area) -> impl Iterator<Item = (&Part, Area)> {
    let sizes: Vec<f64> = parts.iter().map(|part| part.bytes as f64).collect();
    parts.iter().zip(squarified(&sizes, area))
}

/// Divides an area by sizes that fall: rows along the shorter side, each as long as its worst tile gets better.
fn squarified(sizes: &[f64], [mut x, mut y, mut width, mut height]: Area) -> Vec<Area> {
    let sum: f64 = sizes.iter().sum();
    let scale = if sum > 0.0 { width * height / sum } else { 0.0 };
    let sizes: Vec<f64> = sizes.iter().map(|size| size * scale).collect();
    let mut areas = Vec::with_capacity(sizes.len());
    let mut rest = sizes.as_slice();
    while !rest.is_empty() {
        let side = width.min(height);
        let mut count = 1;
        while count < rest.len() && worst(&rest[..=count], side) <= worst(&rest[..count], side) {
            count += 1;
        }
        let (row, others) = rest.split_at(count);
        let sum: f64 = row.iter().sum();
        let depth = if side > 0.0 { sum / side } else { 0.0 };
        let mut along = 0.0;
        for size in row {
            let length = if depth > 0.0 { size / depth } else { 0.0 };
            areas.push(if width >= height {
                [x, y + along, depth, length]
            } else {
                [x + along, y, length, depth]
            });
            along += length;
        }
        if width >= height {
            (x, width) = (x + depth, width - depth);
        } else {
            (y, height) = (y + depth, height - depth);
        }
        rest = others;
    }
    areas
}

/// The worst ratio of sides in a row along `side`.
fn worst(row: &[f64], side: f64) -> f64 {
    let sum: f64 = row.iter().sum();
    let (most, least) =
        row.iter().fold((0.0_f64, f64::INFINITY), |(most, least), it| (most.max(*it), least.min(*it)));
    if least <= 0.0 || side <= 0.0 {
        return f64::INFINITY;
    }
    (side * side * most / (sum * sum)).max(sum * sum / (side * side * least))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the paper: 6, 6, 4, 3, 2, 2, 1 in 6 × 4.
    #[test]
    fn tiles_are_those_of_the_paper() {
        let areas = squarified(&[6.0, 6.0, 4.0, 3.0, 2.0, 2.0, 1.0], [0.0, 0.0, 6.0, 4.0]);
        assert_eq!(areas[..2], [[0.0, 0.0, 3.0, 2.0], [0.0, 2.0, 3.0, 2.0]]);
        let right: Vec<f64> = areas.iter().map(|[_, _, width, height]| width * height).collect();
        for (area, size) in right.iter().zip([6.0, 6.0, 4.0, 3.0, 2.0, 2.0, 1.0]) {
            assert!((area - size).abs() < 1e-9, "{areas:?}");
        }
        // The third row holds 4 and 3 above each other's side.
        assert!((areas[2][3] - areas[3][3]).abs() < 1e-9 && areas[2][0] == 3.0, "{areas:?}");
    }

    #[test]
    fn nothing_and_zeros_are_no_tiles_that_are_drawn() {
        assert_eq!(squarified(&[], [0.0, 0.0, 1.0, 1.0]), Vec::<Area>::new());
        let areas = squarified(&[1.0, 0.0], [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(areas[0], [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(draw(&Part::of("image", vec![])).matches("<rect").count(), 0);
    }

    #[test]
    fn names_of_tiles_are_cut_to_their_width() {
        assert_eq!(
            (cut("application", 20), cut("application", 6)),
            ("application".to_owned(), "appli…".to_owned())
        );
    }
}
