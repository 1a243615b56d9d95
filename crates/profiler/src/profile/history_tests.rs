use super::*;
use crate::profile::render::{history as texts, page};
use crate::profile::report::sample;

const SIZE: &str = "size.image.compressed";
const RATE: &str = "throughput.rate@closed";

/// The sample with other figures, as the report of a commit.
fn report(at: usize, figures: &[(&str, f64)]) -> Report {
    let mut report = sample();
    report.target.created = Some(format!("2026-01-{:02}T00:00:00Z", at + 1));
    for it in report.runs.iter_mut().flat_map(|run| &mut run.measurements) {
        if let Some((_, value)) = figures.iter().find(|(key, _)| *key == it.key()) {
            it.value = *value;
        }
    }
    report
}

fn entry(at: usize, report: &Report) -> Entry {
    Entry::of(format!("commit{at}"), report)
}

/// Twenty commits: the second and the tenth make the image larger, and from the twelfth on the server is slower.
fn twenty() -> Vec<Entry> {
    let reports = (0..20_usize).map(|at| {
        let size = [1e6, 1.002e6, 1.5e6][usize::from(at >= 1) + usize::from(at >= 9)];
        let rate = if at < 11 { 30_000.0 } else { 27_000.0 } + 100.0 * (at * 7 % 5) as f64;
        entry(at, &report(at, &[(SIZE, size), (RATE, rate)]))
    });
    // The order in a folder is of no concern.
    reports.rev().collect()
}

fn only(histories: &[History]) -> &History {
    let [history] = histories else { panic!("{histories:?}") };
    history
}

fn of<'a>(history: &'a History, name: &str) -> &'a Series {
    history.series.iter().find(|series| series.name == name).unwrap()
}

#[test]
fn every_exact_change_and_the_levels_of_noisy_figures_are_found() {
    let all = histories(twenty());
    let history = only(&all);
    assert_eq!((history.name.as_str(), history.reports.len()), ("app, profile ci, linux/amd64", 20));
    assert_eq!(history.reports[9], Point { name: "commit9".to_owned(), date: "2026-01-10".to_owned() });
    let change = |at, before, after| Change { at, before, after, also: vec![] };
    let size = of(history, SIZE);
    assert_eq!(size.changes, [change(1, 1e6, 1.002e6), change(9, 1.002e6, 1.5e6)]);
    assert_eq!(size.changes[0].is_worse(size.metric), Some(true));
    assert_eq!(of(history, RATE).changes, [change(11, 30_200.0, 27_200.0)]);
    let changed = history.series.iter().filter(|series| !series.changes.is_empty());
    assert_eq!(changed.count(), 2);
    // Under open loop it is the planned rate.
    assert!(history.series.iter().all(|series| series.name != "throughput.rate@open-90"));
}

#[test]
fn the_first_screen_says_which_figure_changed_where_and_by_how_much() {
    let text = texts::terminal(&histories(twenty()), 80, "history.html");
    let expected = "\
app, profile ci, linux/amd64
  20 reports, commit0 (2026-01-01) to commit19 (2026-01-20), in the order in
  which their images were made

   figure                  from            is now  change
   size.image.compressed   commit9        1.50 MB  +49.7 % worse
   throughput.rate@closed  commit11  27,200 req/s  -9.9 % worse
   size.image.compressed   commit1        1.00 MB  +0.2 % worse

  No change found: startup.warm.ready, throughput.latency.p99@closed,
  throughput.errors@closed
";
    assert_eq!(text.trim_end(), expected.trim_end());
}

#[test]
fn markdown_and_page_have_both_levels_and_what_else_changed() {
    let mut all = twenty();
    all[19 - 9].circumstances.insert("host kernel".to_owned(), "7".to_owned());
    let all = histories(all);
    let text = texts::markdown(&all);
    for part in [
        "## app, profile ci, linux/amd64\n\n20 reports, commit0",
        "| size.image.compressed | commit9 | 2026-01-10 | 1.00 MB | 1.50 MB | +49.7 % worse | host kernel |",
        "No change found: startup.warm.ready, ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(texts::terminal(&all, 80, "history.html").contains("commit9*"));
    let page = page::trend(&all).unwrap();
    for part in [
        "<h1>History of app, profile ci, linux&#x2f;amd64</h1>",
        ">commit9: +49.7 % worse</text>",
        "<td>commit19</td><td class=\"number\">2026-01-20</td><td class=\"number\">1.50 MB</td>",
        "class=\"s4 dashed\"",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("<script"));
}

#[test]
fn images_profiles_and_platforms_have_a_history_each() {
    let first = report(0, &[]);
    let mut others = [first.clone(), first.clone(), first.clone()];
    others[0].target.names = vec!["<b>".to_owned()];
    others[1].profile.name = "tiny".to_owned();
    others[2].target.platform = "linux/arm64".to_owned();
    let all = histories([first].iter().chain(&others).map(|report| entry(0, report)).collect());
    let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "<b>, profile ci, linux/amd64",
            "app, profile ci, linux/amd64",
            "app, profile ci, linux/arm64",
            "app, profile tiny, linux/amd64"
        ]
    );
    let about = "1 report, commit0 (2026-01-01): nothing to compare it with";
    assert!(texts::terminal(&all, 80, "").contains(about));
    assert!(texts::markdown(&all).contains("## &lt;b&gt;, profile ci"));
    assert!(!page::trend(&all).unwrap().contains("<b>,"));
}

#[test]
fn the_order_is_by_measurement_where_an_image_has_no_time() {
    let mut reports = [report(0, &[]), report(1, &[]), report(2, &[])];
    reports[1].target.created = None;
    for (report, taken) in reports.iter_mut().zip(["3", "1", "2"]) {
        report.taken = format!("2026-02-0{taken}T00:00:00Z");
    }
    let all = histories(reports.iter().enumerate().map(|(at, report)| entry(at, report)).collect());
    let names: Vec<&str> = only(&all).reports.iter().map(|it| it.name.as_str()).collect();
    assert_eq!((names, only(&all).order), (vec!["commit1", "commit2", "commit0"], Order::Measured));
    assert_eq!(only(&all).reports[0].date, "2026-02-01");
}

#[test]
fn a_counted_figure_changes_beyond_what_its_runs_differ_by() {
    let value = |value: f64, spread: f64| Value { report: 0, value, shown: String::new(), spread };
    let steady = [value(1000.0, 0.001), value(1002.0, 0.001), value(1000.0, 0.001)];
    assert_eq!(exact_changes(&steady), []);
    // Step by step it moves away from where it began.
    let creeping = [value(1000.0, 0.001), value(1002.0, 0.001), value(1004.0, 0.001)];
    assert_eq!(exact_changes(&creeping), [Change { at: 2, before: 1000.0, after: 1004.0, also: vec![] }]);
    assert_eq!(exact_changes(&[]), []);
}

#[test]
fn hundreds_of_reports_make_a_page_of_bounded_size() {
    let mut random = stats::Random::new(1);
    let entries = (0..700_usize).map(|at| {
        let mut report = report(0, &[(SIZE, 1e6 + at as f64)]);
        report.target.created = Some(format!("2026-01-01T00:{:02}:{:02}Z", at / 60, at % 60));
        for it in report.runs.iter_mut().flat_map(|run| &mut run.measurements) {
            it.value *= 1.0 + 0.1 * random.unit();
        }
        entry(at, &report)
    });
    let all = histories(entries.collect());
    let history = only(&all);
    assert_eq!((history.reports.len(), history.left_out), (MOST, 400));
    assert_eq!(history.reports[0].name, "commit400");
    let noisy: usize =
        history.series.iter().filter(|it| it.metric.class == Class::Noisy).map(|it| it.changes.len()).sum();
    assert_eq!(noisy, 0);
    let (text, page) = (texts::terminal(&all, 80, "history.html"), page::trend(&all).unwrap());
    assert!(text.lines().count() <= 24 && text.contains("smaller changes in history.html"), "{text}");
    assert!(texts::markdown(&all).lines().count() < 60);
    assert!(page.len() < 300_000, "{}", page.len());
}
