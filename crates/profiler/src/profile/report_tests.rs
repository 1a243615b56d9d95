use std::path::Path;

use serde_json::Value;

use super::*;
use crate::profile::definition;
use crate::profile::render::{junit, markdown, terminal};

fn profile(gates: &str) -> Profile {
    let text = format!("limits = {{ cpus = 0.5, memory = \"64MiB\" }}\n[gates]\n{gates}");
    definition::parse("ci", Path::new("ci.toml"), &text, definition::CpuLimit::cpus(0.5).unwrap()).unwrap()
}

/// A report with a verdict of every kind, and a crash.
fn judged() -> Report {
    let mut report = sample();
    report.runs[1].events.push(Event {
        kind: EventKind::Crash,
        pass: Pass::Throughput,
        message: "the server ended with status 101 under load".to_owned(),
        output: vec!["thread 'main' panicked at <src>".to_owned(), "| & `so` on\u{1b}[0m".to_owned()],
    });
    let profile = profile(
        "\"size.image.compressed\" = { max = \"2MB\" }\n\
         \"size.efficiency\" = { max-regression = \"1%\" }\n\
         \"startup.warm.ready\" = { max = \"4ms\" }\n\
         \"throughput.rate\" = { min = 20000 }\n",
    );
    judge(&mut report, &profile, None);
    report
}

#[test]
fn figures_stand_in_the_order_of_the_table_and_gates_are_judged_where_they_belong() {
    let report = judged();
    let ids: Vec<&str> = report.runs[1].measurements.iter().map(|it| it.metric).collect();
    assert_eq!(
        ids,
        [
            "startup.warm.ready",
            "throughput.rate",
            "throughput.rate",
            "throughput.latency.p99",
            "throughput.errors"
        ]
    );
    let found: Vec<(&str, &str, bool)> =
        report.verdicts.iter().map(|it| (it.gate.as_str(), it.outcome.name(), it.limits.is_some())).collect();
    assert_eq!(
        found,
        [
            ("size.image.compressed", "pass", false),
            ("size.efficiency", "skipped", false),
            ("startup.warm.ready", "fail", true),
            ("throughput.rate@closed", "pass", true),
            ("throughput.rate@open-90", "unreliable", true),
        ]
    );
}

#[test]
fn an_image_that_crashed_does_not_pass_whatever_its_figures() {
    let mut report = sample();
    let free = profile("");
    judge(&mut report, &free, None);
    assert_eq!(report.overall, Overall::Pass);
    report.runs[1].events = judged().runs[1].events.clone();
    judge(&mut report, &free, None);
    assert_eq!(report.overall, Overall::Fail);
}

#[test]
fn a_server_that_broke_was_ready_once_where_there_are_figures() {
    let mut report = sample();
    assert!(!report.was_never_ready());
    let crash = judged().runs[1].events.clone();
    assert_eq!(crash[0].kind, EventKind::Crash);
    report.runs[1].events = crash;
    assert!(!report.was_never_ready());
    report.runs[1].measurements.clear();
    assert!(report.was_never_ready());
    for (kind, never) in [(EventKind::OutOfMemory, false), (EventKind::NotReady, true)] {
        report.runs[1].events[0].kind = kind;
        assert_eq!(report.was_never_ready(), never);
    }
}

#[test]
fn a_gate_of_a_pass_that_left_no_run_is_a_verdict_still() {
    let mut report = sample();
    report.runs.clear();
    let mut profile = profile("\"size.wasted\" = { max = 0 }\n\"throughput.errors\" = { max = 0 }");
    profile.passes = vec![Pass::Throughput];
    judge(&mut report, &profile, None);
    let found: Vec<(&str, &str)> =
        report.verdicts.iter().map(|it| (it.gate.as_str(), it.outcome.name())).collect();
    assert_eq!(found, [("size.wasted", "skipped"), ("throughput.errors", "fail")]);
}

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/report.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Everything that is wrong with a value by a schema. It knows the keywords that ours uses and refuses any
/// other, so that none is passed over: a library for all of JSON Schema takes longer to build than all the rest.
fn problems(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (keyword, wanted) in schema.as_object().unwrap() {
        let fits = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let name = wanted.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                problems.extend(self::problems(root, &root["$defs"][name], value, at));
                true
            }
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "type" => match wanted {
                Value::Array(types) => types.iter().any(|wanted| has_type(value, wanted)),
                wanted => has_type(value, wanted),
            },
            "minimum" => value.as_f64() >= wanted.as_f64(),
            "minItems" => value.as_array().map(Vec::len) >= wanted.as_u64().map(|it| it as usize),
            "maxItems" => value.as_array().map(Vec::len) <= wanted.as_u64().map(|it| it as usize),
            "required" => {
                wanted.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some())
            }
            "properties" => {
                for (key, schema) in wanted.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        problems.extend(self::problems(root, schema, value, &format!("{at}/{key}")));
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                let others = value.as_object().into_iter().flatten();
                let others = others.filter(|(key, _)| known.is_none_or(|known| !known.contains_key(*key)));
                for (key, value) in others {
                    if *wanted == false {
                        problems.push(format!("{at}/{key} is not known"));
                    } else {
                        problems.extend(self::problems(root, wanted, value, &format!("{at}/{key}")));
                    }
                }
                true
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    problems.extend(self::problems(root, wanted, item, &format!("{at}/{index}")));
                }
                true
            }
            "oneOf" => {
                let schemas = wanted.as_array().unwrap().iter();
                schemas.filter(|schema| self::problems(root, schema, value, at).is_empty()).count() == 1
            }
            unknown => panic!("the schema uses `{unknown}`, which this test does not know"),
        };
        if !fits {
            problems.push(format!("{at}: {keyword} {wanted}"));
        }
    }
    problems
}

fn has_type(value: &Value, wanted: &Value) -> bool {
    match wanted.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("`{other}` is no type"),
    }
}

#[test]
fn the_report_has_the_form_of_the_schema() {
    let schema = schema();
    let report: Value = serde_json::from_str(&judged().to_json().unwrap()).unwrap();
    assert_eq!(problems(&schema, &schema, &report, ""), Vec::<String>::new());
    // And the schema is one that refuses.
    type Change<'a> = &'a dyn Fn(&mut serde_json::Value);
    let changes: [Change<'_>; 6] = [
        &|it| it["schema"] = 5.into(),
        &|it| it["overall"] = "perhaps".into(),
        &|it| it["verdicts"][0]["outcome"] = 1.into(),
        &|it| it["runs"][1]["measurements"][0]["surplus"] = 1.into(),
        &|it| {
            let _ = it["host"].as_object_mut().unwrap().remove("kernel");
        },
        &|it| it["runs"][1]["measurements"][2]["doubts"][0]["kind"] = "whim".into(),
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut wrong = report.clone();
        change(&mut wrong);
        assert!(!problems(&schema, &schema, &wrong, "").is_empty(), "change {at} was not noticed");
    }
}

#[test]
fn the_schema_knows_the_version_it_is_of() {
    assert_eq!(schema()["properties"]["schema"]["const"], SCHEMA);
}

/// The file is what the tests of `tare-report` read. `TARE_UPDATE=1 cargo test -p tare-profiler` writes it anew.
#[test]
fn a_report_is_the_same_after_it_was_written_and_read() {
    let report = judged();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../report/tests/report.json");
    if std::env::var_os("TARE_UPDATE").is_some() {
        std::fs::write(&path, report.to_json().unwrap()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written, report.to_json().unwrap());
    assert_eq!(Report::parse(&written).unwrap(), report);
}

#[test]
fn the_terminal_has_everything_without_colour_in_110_columns() {
    let text = terminal::render(&judged(), terminal::WIDEST);
    for part in [
        "app, app:0.1.0 sha256:1111",
        "profile ci, runtime embedded 0.1.0",
        "Size\n",
        "Start-up under 0.5 CPU, 64MiB memory\n",
        "1.50 MB",
        "31,234 req/s",
        "28,000 req/s ?",
        "? may be better or worse",
        "doubt: open-90: no steady state in 20 windows: the later ones still vary by 20.0 %; raise `duration`",
        "Largest files",
        "CRASH: the server ended with status 101 under load",
        "  | thread 'main' panicked",
        "unreliable  throughput.rate@open-90",
        "FAIL: 2 passed, 1 failed, 1 unreliable, 1 not judged gates, and something went wrong",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(110), "{widest:?}\n{text}");
}

#[test]
fn a_measurement_without_gates_says_so() {
    let mut report = sample();
    judge(&mut report, &profile(""), None);
    assert_eq!(terminal::conclusion(&report), "Measured; the profile has no gates");
}

#[test]
fn markdown_has_no_markup_but_its_own() {
    let text = markdown::render(&judged());
    for part in [
        "## app: failed (crash, 1 of 5 gates)\n",
        "| `startup.warm.ready` (0.5 CPU, 64MiB memory) | **fail** | 4.20 ms is over the maximum of 4.00 ms |",
        "| `throughput.rate` | closed | 31,234 req/s | 30,609 req/s to 31,859 req/s |",
        "<details><summary>Under 0.5 CPU, 64MiB memory</summary>",
        "/app/server &lt;1&gt;",
        "Some CPU \\| with a bar",
        "**crash** in the throughput pass: the server ended with status 101 under load",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    // At most 60 lines are unfolded, however much is wrong.
    let mut worse = judged();
    let (verdict, event) = (worse.verdicts[2].clone(), worse.runs[1].events[0].clone());
    worse.verdicts.extend(std::iter::repeat_n(verdict, 200));
    worse.runs[1].events.extend(std::iter::repeat_n(event, 20));
    let run = worse.runs[1].clone();
    worse.runs.extend(std::iter::repeat_n(run, 20));
    for report in [&judged(), &worse] {
        let text = markdown::render(report);
        let mut folded = 0_usize;
        let unfolded = text.lines().filter(|line| {
            let counts = folded == 0;
            folded += line.matches("<details>").count();
            folded -= line.matches("</details>").count();
            counts
        });
        let lines = unfolded.count();
        assert!(lines <= 60, "{lines} lines unfolded\n{text}");
    }
    // Each row has the cells of its head.
    let mut columns = None;
    for line in text.lines() {
        let bars = line.replace("\\|", "").matches('|').count();
        if line.starts_with("| ") {
            assert_eq!(*columns.get_or_insert(bars), bars, "{line}");
        } else if !line.starts_with("|-") {
            columns = None;
        }
    }
}

#[test]
fn junit_has_a_case_for_every_verdict_and_event() {
    let text = junit::render(&judged());
    assert!(text.contains("<testsuite name=\"app\" timestamp=\"2026-11-24T00:00:00Z\" tests=\"6\" failures=\"2\" errors=\"1\" skipped=\"1\">"), "{text}");
    assert_eq!(text.matches("<testcase ").count(), 6);
    assert_eq!(text.matches("</testcase>").count(), 6);
    assert!(text.contains("<failure type=\"unreliable\" message=\"28,000 req/s is not under the minimum of 20,000 req/s, but no steady state"), "{text}");
    // XML cannot hold an escape character, and what a server prints is not XML.
    assert!(text.contains("panicked at &lt;src&gt;&#10;| &amp; `so` on\u{fffd}[0m</error>"), "{text}");
}

/// `TARE_REPORT=target/profiles/app/default/report.json cargo test --profile xtask -p tare-profiler --lib
/// how_long_a_report_takes -- --ignored --nocapture`
#[test]
#[ignore = "measures, and judges nothing: TARE_REPORT names a report.json"]
fn how_long_a_report_takes() {
    let text = std::fs::read_to_string(std::env::var("TARE_REPORT").unwrap()).unwrap();
    let report: Report = serde_json::from_str(&text).unwrap();
    let mut times: Vec<u128> = (0..21)
        .map(|_| {
            let begun = std::time::Instant::now();
            let mut judged = report.clone();
            judge(&mut judged, &profile("\"throughput.errors\" = { max = 0 }"), None);
            let written = [
                judged.to_json().unwrap(),
                markdown::render(&judged),
                junit::render(&judged),
                terminal::render(&judged, terminal::WIDEST),
            ];
            assert!(written.iter().all(|text| !text.is_empty()));
            begun.elapsed().as_micros()
        })
        .collect();
    times.sort_unstable();
    let text = format!("{} µs ({} to {})\n", times[10], times[0], times[20]);
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()).unwrap();
}
