//! `[gates]`: metrics and their bounds. An id may be written in quotes or as a dotted key, which TOML takes apart.

use serde_json::{Map, Value};
use tare_oci::units::{ByteSize, Nanoseconds};
use tare_tool::document::nearest;

use super::Problem;
use crate::profile::measurement::Measurement;
use crate::profile::metric::{self, Direction, Metric, Unit};

/// A bound on one metric, in the metric's unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// An id of the metric table.
    pub metric: &'static str,
    /// One case of it; every case there is if none is named.
    pub case: Option<String>,
    /// The most that passes.
    pub max: Option<f64>,
    /// The least that passes.
    pub min: Option<f64>,
    /// By which part of the baseline's value it may be worse.
    pub max_regression: Option<f64>,
    /// Whether a doubtful figure may pass.
    pub allow_unreliable: bool,
}

impl Gate {
    /// As it stands in the profile: `ID` or `ID@CASE`.
    #[must_use]
    pub fn key(&self) -> String {
        match &self.case {
            None => self.metric.to_owned(),
            Some(case) => format!("{}@{case}", self.metric),
        }
    }

    /// The row of the metric table.
    pub(crate) fn definition(&self) -> &'static Metric {
        metric::find(self.metric).unwrap_or(&metric::UNKNOWN)
    }

    /// Whether its metric repeats exactly.
    pub(crate) fn is_exact(&self) -> bool {
        self.definition().class == metric::Class::Exact
    }

    /// Whether it bounds this figure.
    pub(crate) fn is_about(&self, measurement: &Measurement) -> bool {
        self.metric == measurement.metric && (self.case.is_none() || self.case == measurement.case)
    }
}

const KEYS: [&str; 4] = ["max", "min", "max-regression", "allow-unreliable"];

/// The gates in the order of the metric table.
pub(super) fn read(table: Map<String, Value>) -> Result<Vec<Gate>, Problem> {
    let mut gates = Vec::new();
    walk(&mut vec!["gates".to_owned()], table, &mut gates)?;
    gates.sort_by_key(|gate| metric::position(gate.metric));
    Ok(gates)
}

/// Tables under an id are longer ids (`latency` and `p99`), anything else is a bound.
fn walk(path: &mut Vec<String>, table: Map<String, Value>, gates: &mut Vec<Gate>) -> Result<(), Problem> {
    let (tables, bounds): (Vec<_>, Vec<_>) = table.into_iter().partition(|(_, value)| value.is_object());
    // An empty table is a gate without a bound, which is then refused by name.
    if path.len() > 1 && (!bounds.is_empty() || tables.is_empty()) {
        gates.push(gate(path, bounds)?);
    } else if let Some((key, _)) = bounds.first() {
        path.push(key.clone());
        return Err(not_a_table(path));
    }
    for (key, value) in tables {
        let Value::Object(inner) = value else { continue };
        path.push(key);
        walk(path, inner, gates)?;
        path.pop();
    }
    Ok(())
}

fn problem(path: &[String], message: String) -> Problem {
    Problem { key: path.to_vec(), message, hint: None }
}

fn not_a_table(path: &[String]) -> Problem {
    let id = path[1..].join(".");
    let example = format!("write `\"{id}\" = {{ max = … }}`, with `max`, `min` or `max-regression`");
    problem(path, format!("a gate is a table: {example}"))
}

fn gate(path: &[String], bounds: Vec<(String, Value)>) -> Result<Gate, Problem> {
    let name = path[1..].join(".");
    let (id, case) = match name.split_once('@') {
        None => (name.as_str(), None),
        Some((id, case)) => (id, Some(case.to_owned())),
    };
    let within = |key: &str| [path, &[key.to_owned()]].concat();
    let Some(metric) = metric::find(id) else {
        // `size.efficiency = 3` is a key `efficiency` under `size`.
        let bare = bounds.iter().find(|(key, _)| metric::find(&format!("{id}.{key}")).is_some());
        if let Some((key, _)) = bare {
            return Err(not_a_table(&within(key)));
        }
        let known: Vec<String> = metric::TABLE.iter().map(|metric| metric.id.to_owned()).collect();
        let list = format!("`{} profile --list-metrics` lists them", tare_tool::environment::command());
        let hint = nearest(id, &known).map_or(list.clone(), |it| format!("did you mean `{it}`? {list}"));
        return Err(Problem { hint: Some(hint), ..problem(path, format!("unknown metric `{id}`")) });
    };
    if case.is_some() && metric.cases.is_none() {
        return Err(problem(path, format!("`{id}` has no cases")));
    }
    let mut gate =
        Gate { metric: metric.id, case, max: None, min: None, max_regression: None, allow_unreliable: false };
    for (key, value) in bounds {
        let wrong = |message: String| problem(&within(&key), message);
        let bound = || {
            let expected = || wrong(format!("a bound of `{id}` is {}", expected(metric.unit)));
            bound(&value, metric).filter(|bound| bound.is_finite() && *bound >= 0.0).ok_or_else(expected)
        };
        match key.as_str() {
            "max" => gate.max = Some(bound()?),
            "min" => gate.min = Some(bound()?),
            "max-regression" if metric.direction == Direction::Neither => {
                let why = "is neither better nor worse when it changes: use `max` and `min`";
                return Err(wrong(format!("`{id}` {why}")));
            }
            "max-regression" => {
                let share =
                    if value.as_f64() == Some(0.0) { Some(0.0) } else { value.as_str().and_then(percent) };
                let expected = || wrong("`max-regression` is a share such as \"5%\"".to_owned());
                gate.max_regression = Some(share.ok_or_else(expected)?);
            }
            "allow-unreliable" => {
                let expected = || wrong("`allow-unreliable` is true or false".to_owned());
                gate.allow_unreliable = value.as_bool().ok_or_else(expected)?;
            }
            unknown => {
                let known = KEYS.map(str::to_owned);
                let list = format!("the keys here are {}", KEYS.join(", "));
                let hint = nearest(unknown, &known).map(|it| format!("did you mean `{it}`? {list}"));
                let hint = Some(hint.unwrap_or(list));
                return Err(Problem { hint, ..wrong(format!("unknown key `{unknown}`")) });
            }
        }
    }
    if gate.max.is_none() && gate.min.is_none() && gate.max_regression.is_none() {
        return Err(problem(path, format!("the gate of `{}` has no bound", gate.key())));
    }
    if gate.min.zip(gate.max).is_some_and(|(min, max)| min > max) {
        return Err(problem(path, format!("nothing passes the gate of `{}`: min is above max", gate.key())));
    }
    Ok(gate)
}

/// What a bound in this unit looks like.
fn expected(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "a size with a unit, such as \"5MB\"",
        Unit::Nanoseconds => "a duration with a unit, such as \"20ms\"",
        Unit::PerSecond => "a rate, such as 10000",
        Unit::Share => "a share, such as \"5%\" or 0.05",
        Unit::Count => "a number, such as 3",
    }
}

/// A bound in the unit of its metric.
fn bound(value: &Value, metric: &Metric) -> Option<f64> {
    let Some(text) = value.as_str() else {
        let plain = matches!(metric.unit, Unit::Count | Unit::PerSecond | Unit::Share);
        // Nothing is nothing in every unit.
        return value.as_f64().filter(|number| plain || *number == 0.0);
    };
    match metric.unit {
        #[expect(clippy::cast_precision_loss, reason = "a bound beyond 2^53 bytes is none")]
        Unit::Bytes => text.parse::<ByteSize>().ok().map(|size| size.0 as f64),
        Unit::Nanoseconds => nanoseconds(text),
        Unit::PerSecond => text.strip_suffix("/s").and_then(|number| number.trim_end().parse().ok()),
        Unit::Share => percent(text),
        Unit::Count => text.parse().ok(),
    }
}

/// A duration as elsewhere, or with decimals and one unit (`2.5ms`), as figures are shown.
fn nanoseconds(text: &str) -> Option<f64> {
    if let Ok(whole) = text.parse::<Nanoseconds>() {
        #[expect(clippy::cast_precision_loss, reason = "a bound beyond 2^53 nanoseconds is none")]
        return Some(whole.0 as f64);
    }
    let letters = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..letters].parse().ok()?;
    let factor = match text[letters..].trim_start() {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    Some(number * factor)
}

/// `5%` as 0.05.
fn percent(text: &str) -> Option<f64> {
    let number: f64 = text.strip_suffix('%')?.trim_end().parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number / 100.0)
}
