//! The report as a page: one HTML file without a script and without anything from elsewhere. Several reports stand side
//! by side, with their curves in the same drawings.

mod bars;
mod flame;
mod limits;
mod lines;
mod svg;
mod treemap;
mod trend;
mod view;

use minijinja::value::Serde;
use minijinja::{Environment, Value, context};

use crate::profile::capacity::Capacity;
use crate::profile::difference::Difference;
use crate::profile::history::History;
use crate::profile::report::Report;
use crate::profile::sweep::found::Sweep;

/// The page of one report, or of several in their order.
///
/// # Errors
/// Never for reports that can be read: that the template fits its values is tested.
pub fn render(reports: &[Report]) -> Result<String, minijinja::Error> {
    fill(&view::page(reports))
}

/// The page of what changed between two reports.
///
/// # Errors
/// As [`render`].
pub fn difference(reports: [&Report; 2], difference: &Difference) -> Result<String, minijinja::Error> {
    fill(&view::difference(reports, difference))
}

/// The page of histories.
///
/// # Errors
/// As [`render`].
pub fn trend(histories: &[History]) -> Result<String, minijinja::Error> {
    fill(&trend::page(histories))
}

/// The page of a sweep.
///
/// # Errors
/// As [`render`].
pub fn sweep(sweep: &Sweep) -> Result<String, minijinja::Error> {
    fill(&limits::sweep(sweep))
}

/// The page of a capacity.
///
/// # Errors
/// As [`render`].
pub fn capacity(capacity: &Capacity) -> Result<String, minijinja::Error> {
    fill(&limits::capacity(capacity))
}

fn fill(page: &view::Page) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    // Names ending in .html are escaped; drawings are marked as safe, and escape what they hold themselves.
    environment.add_template("page.html", include_str!("page.html"))?;
    let page = Value::from(Serde(page));
    environment.get_template("page.html")?.render(context! { page, style => include_str!("style.css") })
}

#[cfg(test)]
#[path = "../page_tests.rs"]
mod tests;
