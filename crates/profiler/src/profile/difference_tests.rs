use tare_report::Package;

use super::*;
use crate::profile::render::{difference, page};
use crate::profile::report::sample;

fn package(name: &str, version: &str) -> Package {
    Package { name: name.to_owned(), version: version.to_owned() }
}

/// A new version of the sample: 60 kB larger, slower, one package more and one of another version.
fn both() -> [Report; 2] {
    let mut old = sample();
    old.runs[0].packages = vec![package("gone", "0.1.0"), package("itoa", "1.0.0")];
    let mut new = old.clone();
    new.runs[0].measurements[0].value += 60_000.0;
    new.runs[0].packages = vec![package("itoa", "1.1.0"), package("serde", "1.0.0")];
    let files = vec![Part::leaf("/app/server", 1_460_000), Part::leaf("/new", 10)];
    new.runs[0].bytes = Some(Part::of("image", vec![Part::of("layer 2", files)]));
    let rate = new.runs[1].measurements.iter_mut().find(|it| it.key() == "throughput.rate@closed").unwrap();
    rate.value = 20_000.0;
    rate.interval = Some((19_000.0, 21_000.0));
    [old, new]
}

#[test]
fn what_changed_is_found_and_what_is_noise_is_said_to_be() {
    let [old, mut new] = both();
    let p99 = new.runs[1].measurements.iter_mut().find(|it| it.metric == "throughput.latency.p99").unwrap();
    p99.value *= 1.01;
    let difference = Difference::between(&old, &new);
    let figures: Vec<[String; 4]> = difference.figures.iter().map(FigureChange::cells).collect();
    let of = |name: &str| figures.iter().find(|cells| cells[0] == name).map(|cells| cells[3].as_str());
    assert_eq!(of("size.image.compressed"), Some("+4.0 %, worse"));
    assert_eq!(of("throughput.rate@closed"), Some("-36.0 %, worse"));
    assert_eq!(of("throughput.latency.p99@closed"), Some("+1.0 %, within the noise"));
    assert_eq!(of("startup.warm.ready"), Some("same"));
    // The file is in another layer, which is no change of the file.
    let parts: Vec<(&str, String)> =
        difference.parts.iter().map(|it| (it.name.as_str(), it.shown_delta())).collect();
    assert_eq!(parts, [("/app/server", "+60.0 kB".to_owned()), ("/new", "+10 B".to_owned())]);
    let packages: Vec<[String; 3]> = difference.packages.iter().map(PackageChange::cells).collect();
    assert_eq!(
        packages.map_cells(),
        [["gone", "0.1.0", "-"], ["itoa", "1.0.0", "1.1.0"], ["serde", "-", "1.0.0"]]
    );
}

trait Cells {
    fn map_cells(&self) -> Vec<[&str; 3]>;
}

impl Cells for Vec<[String; 3]> {
    fn map_cells(&self) -> Vec<[&str; 3]> {
        self.iter().map(|cells| cells.each_ref().map(String::as_str)).collect()
    }
}

#[test]
fn a_report_differs_from_itself_in_nothing() {
    let report = sample();
    let same = Difference::between(&report, &report);
    assert!(!same.is_change());
    assert_eq!(difference::markdown(&same), "app: 1.50 MB compressed, as before; nothing changed\n");
}

#[test]
fn a_figure_of_one_report_alone_is_shown() {
    let [old, mut new] = both();
    new.runs.truncate(1);
    let difference = Difference::between(&old, &new);
    let rate = difference.figures.iter().find(|it| it.name == "throughput.rate@closed").unwrap();
    assert_eq!(rate.cells()[1..], ["31,234 req/s", "-", "no longer measured"]);
}

#[test]
fn a_pull_request_gets_at_most_40_lines() {
    let [mut old, mut new] = both();
    let many = |version: &str| (0..300).map(|at| package(&format!("p{at}"), version)).collect::<Vec<_>>();
    (old.runs[0].packages, new.runs[0].packages) = (many("1.0.0"), many("1.0.1"));
    let files = (0..500).map(|at| Part::leaf(format!("/f{at}|`<b>"), at)).collect();
    new.runs[0].bytes = Some(Part::of("image", vec![Part::of("layer 1", files)]));
    let limits = new.runs[1].clone();
    for at in 1..20_u64 {
        let mut run = limits.clone();
        run.limits.as_mut().unwrap().memory = Some(at << 24);
        new.runs.push(run);
    }
    let text = difference::markdown(&Difference::between(&old, &new));
    assert!(text.lines().count() <= difference::LINES, "{text}");
    for part in ["## app: 1.50 MB → 1.56 MB compressed", "and 490 more parts", "and 295 more packages"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("|`<b>"), "{text}");
}

#[test]
fn the_page_has_a_tile_for_each_change_and_the_curves_of_both() {
    let [old, new] = both();
    let text = page::difference([&old, &new], &Difference::between(&old, &new)).unwrap();
    for part in [
        "class=\"tile grown d0\"",
        "+ /app/server",
        "<td>itoa</td><td>1.0.0</td><td>1.1.0</td>",
        ">new, closed</text>",
    ] {
        assert!(text.contains(part), "{part}");
    }
}
