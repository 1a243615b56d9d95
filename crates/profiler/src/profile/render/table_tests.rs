use super::*;
use crate::profile::definition::{self, CpuLimit};
use crate::profile::metric::Pass;
use crate::profile::render::table_page;
use crate::profile::report::{self, Event, EventKind, Run};

const PROFILE: &str = r#"
description = "two systems"
images = ["app", "gin", "tokio"]
subject = "app"
rounds = 3

[[table]]
title = "Load"
[[table.columns]]
title = "requests/s"
metric = "throughput.rate@closed"
claims = { gin = "223,456" }
[[table.columns]]
title = "isolation"
metric = "isolation.ratio"
claims = { gin = "fair" }

[[table]]
title = "Start"
[[table.columns]]
title = "ready"
metric = "startup.warm.ready"
"#;

fn profile() -> crate::profile::definition::Profile {
    let cpu = CpuLimit::cpus(1.0).unwrap();
    definition::parse("t", std::path::Path::new("t.toml"), PROFILE, cpu).unwrap()
}

fn limits(cpus: f64) -> Place {
    Some(Limits { cpu: Some(CpuLimit::cpus(cpus).unwrap()), memory: Some(512_000_000), ..Limits::default() })
}

fn rate(value: f64, doubts: Vec<Doubt>) -> Measurement {
    let interval = Some((value - 1_000.0, value + 1_000.0));
    Measurement { interval, doubts, ..Measurement::exact("throughput.rate", value).of_case("closed") }
}

fn ready(value: f64, spread: f64) -> Measurement {
    let interval = Some((value - spread, value + spread));
    Measurement { interval, ..Measurement::exact("startup.warm.ready", value) }
}

fn ratio(value: f64, spread: f64) -> Measurement {
    let interval = Some((value - spread, value + spread));
    Measurement { interval, ..Measurement::exact("isolation.ratio", value) }
}

/// One under one and two CPUs, where the generator has no room; one that crashed under two.
fn reports() -> [Report; 3] {
    let shared = || Doubt::SharedCpus { cpus: "1".to_owned() };
    let bound = || Doubt::GeneratorBound { cpu: 0.958, limit: 0.85 };
    let run =
        |cpus, measurements, events| Run { limits: limits(cpus), measurements, events, ..Run::default() };
    let report = |runs| Report { runs, ..report::sample() };
    let crash = Event {
        kind: EventKind::Crash,
        pass: Pass::Throughput,
        message: "it ended".to_owned(),
        output: vec![],
    };
    [
        report(vec![
            run(1.0, vec![rate(60_000.0, vec![]), ready(4e6, 0.5e6), ratio(1.3, 0.1)], vec![]),
            run(2.0, vec![rate(90_000.0, vec![bound(), shared()])], vec![]),
        ]),
        report(vec![
            run(1.0, vec![rate(40_000.0, vec![]), ready(4.9e6, 0.5e6), ratio(1.6, 0.3)], vec![]),
            run(2.0, vec![], vec![crash]),
        ]),
        report(vec![run(1.0, vec![rate(61_500.0, vec![]), ready(3e6, 0.1e6)], vec![])]),
    ]
}

fn rows(reports: &[Report; 3]) -> [Row<'_>; 3] {
    let [app, gin, tokio] = reports;
    [("app", "the sample", app), ("gin", "Gin 1.12", gin), ("tokio", "Tokio", tokio)]
        .map(|(name, title, report)| Row { name, title, report })
}

#[test]
fn a_cell_has_a_figure_with_its_interval_and_doubts_or_says_why_not() {
    let (reports, mut doubts) = (reports(), Doubts::default());
    let tables = tables(&profile().table, &rows(&reports), &mut doubts);
    let cells = |row: &[&str]| row.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    assert_eq!(tables[0].title, "Load");
    assert_eq!(
        tables[0].columns,
        cells(&[
            "system",
            "requests/s, 1 CPU",
            "requests/s, 2 CPUs",
            "requests/s, claimed",
            "isolation, 1 CPU",
            "isolation, claimed"
        ])
    );
    assert_eq!(tables[0].numeric, [1, 2, 3, 4, 5]);
    let of = |at: usize| tables[0].rows[at].clone();
    assert_eq!(
        of(0),
        cells(&[
            "the sample",
            "60,000 req/s (59,000 req/s to 61,000 req/s)",
            "≥ 90,000 req/s (89,000 req/s to 91,000 req/s) [a, b]",
            "-",
            "good, 1.30 (1.20 to 1.40)",
            "-"
        ])
    );
    assert_eq!(
        of(1),
        cells(&[
            "Gin 1.12",
            "40,000 req/s (39,000 req/s to 41,000 req/s)",
            "crash",
            "223,456",
            "good to fair, 1.60 (1.30 to 1.90)",
            "fair"
        ])
    );
    assert_eq!(of(2)[2], "not measured");
    let ready: Vec<&str> = tables[1].rows.iter().map(|row| row[1].as_str()).collect();
    assert_eq!(
        ready,
        ["4.00 ms (3.50 ms to 4.50 ms)", "4.90 ms (4.40 ms to 5.40 ms)", "3.00 ms (2.90 ms to 3.10 ms)"]
    );
    // Under one set of limits alone.
    assert_eq!(tables[1].columns, cells(&["system", "ready, 1 CPU"]));
    let legend = doubts.legend();
    assert_eq!(legend.len(), 2);
    assert!(legend[0].starts_with("[a] generator-bound, for example: the generator"), "{}", legend[0]);
    assert!(legend[1].starts_with("[b] shared-cpus, for example: "), "{}", legend[1]);
}

#[test]
fn the_place_of_the_subject_is_said_in_every_column() {
    let reports = reports();
    let standing = standing(&profile().table, &rows(&reports), "app");
    assert_eq!(
        standing,
        [
            "requests/s, 1 CPU: 2nd of 3 with 60,000 req/s, after Tokio with 61,500 req/s; the intervals of both overlap.",
            "requests/s, 2 CPUs: first of 1 with 90,000 req/s, in doubt.",
            "isolation, 1 CPU: first of 2 with 1.30.",
            "ready, 1 CPU: 2nd of 3 with 4.00 ms, after Tokio with 3.00 ms.",
        ]
    );
    let numbers = [1, 2, 3, 4, 11, 12, 13, 21, 112].map(ordinal);
    assert_eq!(numbers, ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th"]);
}

#[test]
fn columns_that_do_not_fit_follow_below() {
    let reports = reports();
    let of = |width| terminal(&profile().table, &rows(&reports), width);
    let (wide, narrow) = (of(200), of(60));
    assert!(wide.contains("60,000 req/s") && wide.contains("≥ 90,000 req/s [a, b]"), "{wide}");
    assert_eq!(wide.matches("the sample").count(), 2);
    assert_eq!(narrow.matches("the sample").count(), 3, "{narrow}");
    assert!(wide.contains("\n[a] generator-bound, "), "{wide}");
}

#[test]
fn a_page_has_its_words_from_the_template_and_its_figures_from_the_run() {
    let (reports, profile) = (reports(), profile());
    let left_out = ["node".to_owned()];
    let call = |template| table_page::Call { command: "cargo xtask profile", left_out: &left_out, template };
    let template = "# {{title}}\n\nwords\n\n{{standing}}\n\nend\n";
    let page = table_page::render(&profile, &rows(&reports), &call(Some(template))).unwrap();
    let expected = "<!-- Written by `cargo xtask profile`. -->\n\n# two systems\n\nwords\n\n\
        - requests/s, 1 CPU: 2nd of 3 with 60,000 req/s, after Tokio with 61,500 req/s; the intervals of both overlap.\n\
        - requests/s, 2 CPUs: first of 1 with 90,000 req/s, in doubt.\n\
        - isolation, 1 CPU: first of 2 with 1.30.\n\
        - ready, 1 CPU: 2nd of 3 with 4.00 ms, after Tokio with 3.00 ms.\n\nend\n";
    assert_eq!(page, expected);
    let whole = table_page::render(&profile, &rows(&reports), &call(None)).unwrap();
    for part in [
        "- Date: 2026-11-24T00:00:00Z\n",
        "- Order: 3 rounds over all systems, every other one backwards\n",
        "| Gin 1.12 | 40,000 req/s (39,000 req/s to 41,000 req/s) | crash | 223,456 | good to fair, 1.60 (1.30 to 1.90) | fair |\n",
        "Without node: what builds it is not installed on this host.\n",
        "Gin 1.12: crash: it ended\n",
        "- \\[b\\] shared-cpus, for example: ",
    ] {
        assert!(whole.contains(part), "{part}: {whole}");
    }
    let error = |template| {
        table_page::render(&profile, &rows(&reports), &call(Some(template))).unwrap_err().to_string()
    };
    assert_eq!(
        error("{{figures}}"),
        "`{{figures}}` is not a part of the page: title, circumstances, tables, standing"
    );
    assert!(error("{{tables\nx").starts_with("`{{tables}}` is not"));
}
