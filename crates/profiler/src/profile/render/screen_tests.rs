use super::*;
use crate::profile::measurement::{Doubt, Measurement};
use crate::profile::metric::Pass;
use crate::profile::report::{self, EventKind, Table};

const CALL: Call<'_> = Call {
    command: "cargo xtask profile app --profile ci",
    image: "app",
    folder: "target/profiles/app/ci",
    baseline: None,
};

fn figure_of(metric: &'static str, case: &str, value: f64, doubts: Vec<Doubt>) -> Measurement {
    let interval = Some((value * 0.98, value * 1.02));
    Measurement { interval, doubts, ..Measurement::exact(metric, value).of_case(case) }
}

/// As it comes from a machine whose generator was the bottleneck.
fn bound() -> Report {
    let mut report = report::sample();
    let closed = || vec![Doubt::GeneratorBound { cpu: 0.958, limit: 0.85 }];
    let open = || vec![Doubt::Capacity { cause: "generator-bound".to_owned(), low: true }];
    let start = |metric, value: f64| Measurement {
        interval: Some((value * 0.95, value * 1.1)),
        ..Measurement::exact(metric, value)
    };
    report.runs[1].measurements = vec![
        start("startup.warm.ready", 13.2e6),
        start("startup.warm.runtime-baseline", 11.3e6),
        figure_of("throughput.rate", "closed", 180_002.0, closed()),
        figure_of("throughput.rate", "open-70", 126_002.0, open()),
        figure_of("throughput.latency.p99", "closed", 766e3, closed()),
        figure_of("throughput.latency.p99", "open-70", 897e3, open()),
        figure_of("throughput.cpu-per-request", "closed", 5_370.0, vec![]),
        figure_of("throughput.cpu-per-request", "open-70", 5_630.0, vec![]),
        figure_of("throughput.memory.peak", "closed", 827_400.0, closed()),
        figure_of("throughput.memory.peak", "open-70", 905_200.0, open()),
        figure_of("throughput.errors", "closed", 0.0, vec![]),
        figure_of("throughput.errors", "open-70", 0.0, vec![]),
    ];
    let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
    report.runs[0].sections[0].tables = vec![Table {
        title: "Files".to_owned(),
        columns: row(["size", "on disk", "layer", "path"]),
        numeric: vec![0, 1, 2],
        rows: vec![
            row(["900.0 kB", "901.1 kB", "1", "/app/server"]),
            row(["220.0 kB", "221.2 kB", "0", "/etc/ssl/certs/ca-certificates.crt"]),
            row(["120 B", "4.1 kB", "0", "/etc/passwd"]),
            row(["60 B", "4.1 kB", "0", "/etc/group"]),
        ],
    }];
    let text = "limits = { cpus = 0.5, memory = \"64MiB\" }\n[gates]\n\
                \"throughput.errors\" = { max = 0 }\n\
                \"size.image.compressed\" = { max-regression = \"1%\" }\n\
                \"throughput.cpu-per-request@open-70\" = { max-regression = \"5%\" }\n";
    let half = crate::profile::definition::CpuLimit::cpus(0.5).unwrap();
    let profile =
        crate::profile::definition::parse("ci", std::path::Path::new("ci.toml"), text, half).unwrap();
    report::judge(&mut report, &profile, None);
    report
}

#[test]
fn the_screen_says_what_it_came_to_and_what_is_next() {
    let expected = "\
app: passed all 2 gates that need no baseline
linux/amd64, profile ci, 0.5 CPU, 64MiB memory, 2 CPUs of Some CPU | with a bar,
runtime embedded 0.1.0

Size      1.50 MB compressed; largest files: /app/server 900.0 kB,
          /etc/ssl/certs/ca-certificates.crt 220.0 kB, /etc/passwd 120 B
Start-up  ready 13.2 ms (12.5 ms to 14.5 ms)
          runtime alone 11.3 ms (10.7 ms to 12.4 ms)
Load      CPU per request  5.37 µs, 5.63 µs at 70 %
          rate             ≥ 180,002 req/s (176,402 req/s to 183,602 req/s)
          p99 at 70 %      897 µs ?
          peak memory      905.2 kB ?
Doubt     closed: the generator used 95.8 % of its CPU (over 85.0 %): give the
          generator more CPUs, or the server fewer: the server may be faster
          than this figure (also: capacity)
Gates     2 passed, 2 waiting for a baseline
Report    target/profiles/app/ci/report.html, report.md, report.json, junit.xml
Next      cargo xtask profile app --profile ci --save-baseline ci.baseline/
";
    assert_eq!(render(&bound(), &CALL), expected);
    let long = Call { command: "cargo xtask profile ./some/folder/app --profile ./profiles/ci.toml", ..CALL };
    let end = "Next      cargo xtask profile ./some/folder/app --profile ./profiles/ci.toml \\\n          \
               --save-baseline ci.baseline/\n";
    assert!(render(&bound(), &long).ends_with(end), "{}", render(&bound(), &long));
    let saved = Call { baseline: Some("main.json"), ..CALL };
    assert!(render(&bound(), &saved).ends_with("--profile ci --baseline main.json\n"));
}

#[test]
fn a_crash_stands_before_the_figures() {
    let mut report = bound();
    report.runs[1].events.push(Event {
        kind: EventKind::Crash,
        pass: Pass::Throughput,
        message: "the server ended with status 101".to_owned(),
        output: (0..20).map(|line| format!("line {line}\u{1b}[31m")).collect(),
    });
    report.overall = Overall::Fail;
    let text = render(&report, &CALL);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "app: failed (crash)");
    let at = lines.iter().position(|line| line.starts_with("CRASH")).unwrap();
    assert_eq!(lines[at], "CRASH in the throughput pass: the server ended with status 101");
    assert_eq!(lines[at + 3], "  | line 19 [31m");
    assert!(
        text.ends_with("Next      cargo xtask run app  # the same container in the foreground\n"),
        "{text}"
    );
}

#[test]
fn whatever_is_in_a_report_the_screen_has_24_lines_of_80_columns() {
    let mut worst = bound();
    worst.target.names = vec!["n".repeat(40) + " " + &"m".repeat(200)];
    let event = Event {
        kind: EventKind::WrongAnswers,
        pass: Pass::Startup,
        message: "w ".repeat(300),
        output: vec!["o".repeat(300); 30],
    };
    worst.runs[1].events = vec![event; 5];
    let mut verdict = worst.verdicts[0].clone();
    verdict.outcome = Outcome::Fail;
    verdict.reason = "why ".repeat(100);
    worst.verdicts = (0..176)
        .map(|at| Verdict { gate: format!("throughput.errors@case-{at}"), ..verdict.clone() })
        .collect();
    worst.overall = Overall::Fail;
    let several = |count: usize| {
        let mut report = worst.clone();
        let run = report.runs[1].clone();
        report.runs.extend(std::iter::repeat_n(run, count));
        report
    };
    for report in
        [bound(), worst.clone(), several(1), several(20), report::sample(), report::undoubted_sample()]
    {
        let text = render(&report, &CALL);
        let lines = text.lines().count();
        assert!(lines <= LINES, "{lines} lines\n{text}");
        // A word that is longer than the line is the image's or the path's.
        let wide = text.lines().filter(|line| line.chars().count() > COLUMNS && !line.contains("mmmmm"));
        assert_eq!(wide.collect::<Vec<_>>(), Vec::<&str>::new(), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains("more\n"), "{text}");
    }
}

#[test]
fn several_limits_are_a_table() {
    let mut report = bound();
    let mut run = report.runs[1].clone();
    run.limits.as_mut().unwrap().memory = Some(32 << 20);
    report.runs.push(run);
    let text = render(&report, &CALL);
    let table: Vec<Vec<&str>> = text
        .lines()
        .skip_while(|line| !line.starts_with("limits"))
        .take(3)
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(
        table,
        [
            vec!["limits", "ready", "CPU/request", "rate", "p99", "memory"],
            vec!["0.5 CPU, 64MiB", "13.2 ms", "5.37 µs", "≥ 180,002 req/s", "897 µs ?", "905.2 kB ?"],
            vec!["0.5 CPU, 32MiB", "13.2 ms", "5.37 µs", "≥ 180,002 req/s", "897 µs ?", "905.2 kB ?"],
        ]
    );
}
