//! Compares two images on one host: measures them in turn, and says of each metric which is better, that they
//! are the same, or that nothing is known.
//!
//! Pure but for the closure that measures, so that its error rates are shown in tests on simulated machines.
//!
//! The order is A B, B A, A B, …: every pair is two neighbours in time, and a machine that slows down steadily
//! favours neither. What is judged is each pair's relative difference, by the exact signed-rank test. First A
//! is compared with itself, which shows how far apart equal things lie on this machine: a metric that cannot
//! be decided at this resolution is not measured for longer. Then only what is undecided is measured again, at
//! most [`Rules::looks`] times. Every metric at every look has an equal part of [`Rules::error`], so that the
//! chance of any false alarm in a whole comparison stays below it (Bonferroni), however often is looked.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use tare_tool::ui::table;

use super::metric::{self, Class, Direction, Metric, Pass};
use super::render::markdown::render_table;
use super::render::units::shown;
use super::size::{self, Change};
use super::stats;

/// One of the two images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Side {
    /// The one that is compared with.
    A,
    /// The one that is judged.
    B,
}

/// A metric and its case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Key {
    /// An id of the metric table.
    pub metric: &'static str,
    /// One case of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
}

impl Key {
    /// A metric without cases.
    #[must_use]
    pub fn new(metric: &'static str) -> Self {
        Self { metric, case: None }
    }

    /// Whether it counts errors. They are no matter of chance: what A never does is worse in B.
    fn counts_errors(&self) -> bool {
        self.metric.starts_with(metric::ERRORS)
    }

    pub(super) fn definition(&self) -> &'static Metric {
        metric::find(self.metric).unwrap_or(&metric::UNKNOWN)
    }

    /// What measures it.
    pub(super) fn pass(&self) -> Option<Pass> {
        metric::find(self.metric).map(|metric| metric.pass)
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.case {
            None => f.write_str(self.metric),
            Some(case) => write!(f, "{}@{case}", self.metric),
        }
    }
}

/// What one measuring of one side gave: the samples of every metric that was asked for.
pub type Samples = BTreeMap<Key, Vec<f64>>;

/// How carefully it is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// The difference that is to be found, as a part of A. One of less than half of it is not called one.
    pub resolution: f64,
    /// The chance of a false alarm in the whole comparison.
    pub error: f64,
    /// Pairs of A with itself, for the noise.
    pub calibration: usize,
    /// Pairs at each look.
    pub pairs: usize,
    /// How often is looked at most.
    pub looks: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { resolution: 0.05, error: 0.05, calibration: 8, pairs: 12, looks: 10 }
    }
}

/// What is known of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// B is better.
    Better,
    /// B differs by less than the resolution.
    Same,
    /// B is worse.
    Worse,
    /// It was measured as often as the rules allow and is still not known.
    Undecided,
    /// A alone varies too much on this machine.
    TooNoisy,
    /// It has no values that could be compared.
    NotMeasured,
}

impl Finding {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Same => "same",
            Self::Worse => "worse",
            Self::Undecided => "undecided",
            Self::TooNoisy => "too noisy",
            Self::NotMeasured => "not measured",
        }
    }
}

/// One metric of both images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Which.
    #[serde(flatten)]
    pub key: Key,
    /// What is known.
    pub finding: Finding,
    /// The median over A's measurings, the sum of errors; none if there are no values.
    pub a: Option<f64>,
    /// The same of B's.
    pub b: Option<f64>,
    /// B relative to A, from pairs: 0.05 is five percent more. None where A is 0 and B is not.
    pub change: Option<f64>,
    /// Pairs that were measured; 0 for exact metrics, which need none.
    pub pairs: usize,
}

impl Row {
    fn not_measured(key: Key) -> Self {
        Self { key, finding: Finding::NotMeasured, a: None, b: None, change: None, pairs: 0 }
    }
}

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The difference that was to be found, as a part of A.
    pub resolution: f64,
    /// In the order of the metric table.
    pub rows: Vec<Row>,
    /// What changed in size, down to files, sections and crates.
    pub sizes: Vec<Change>,
    /// What a reader should know of how it was measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What a comparison comes to; the numbers are the program's exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// 0: B is the same or better in everything.
    NotWorse = 0,
    /// 1: B is worse in something.
    Worse = 1,
    /// 2: B is not known to be worse in anything, but not everything is known.
    CannotTell = 2,
}

impl Comparison {
    /// The whole in one word.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let has = |findings: &[Finding]| self.rows.iter().any(|row| findings.contains(&row.finding));
        if has(&[Finding::Worse]) {
            Outcome::Worse
        } else if self.rows.is_empty() || has(&[Finding::Undecided, Finding::TooNoisy, Finding::NotMeasured])
        {
            Outcome::CannotTell
        } else {
            Outcome::NotWorse
        }
    }

    /// The whole in a sentence.
    #[must_use]
    pub fn conclusion(&self) -> String {
        let of = |finding| {
            let keys: Vec<String> = self
                .rows
                .iter()
                .filter(|row| row.finding == finding)
                .map(|row| row.key.to_string())
                .collect();
            keys.join(", ")
        };
        let percent = format!("{:.0} %", self.resolution * 100.0);
        let mut parts = Vec::new();
        for (finding, text) in [
            (Finding::Worse, "B is worse in".to_owned()),
            (Finding::TooNoisy, format!("this machine is too noisy to find {percent} in")),
            (Finding::Undecided, format!("{percent} could be neither found nor ruled out in")),
            (Finding::NotMeasured, "there are no values of".to_owned()),
            (Finding::Better, "B is better in".to_owned()),
        ] {
            let keys = of(finding);
            if !keys.is_empty() {
                parts.push(format!("{text} {keys}"));
            }
        }
        match (parts.is_empty(), self.rows.is_empty()) {
            (_, true) => "nothing was compared".to_owned(),
            (true, _) => format!("A and B differ by less than {percent}"),
            _ => parts.join("; "),
        }
    }
}

/// Every relative difference of neighbours, B against A, and what the differences are of.
#[derive(Default)]
struct Pairs {
    a: Vec<f64>,
    b: Vec<f64>,
    differences: Vec<f64>,
}

impl Pairs {
    fn extend(&mut self, more: Self) {
        self.a.extend(more.a);
        self.b.extend(more.b);
        self.differences.extend(more.differences);
    }
}

/// `(b - a)` over the mean of both: defined at 0 too, and the same size whichever is greater.
fn difference(a: f64, b: f64) -> f64 {
    let middle = f64::midpoint(a.abs(), b.abs());
    if middle == 0.0 { 0.0 } else { (b - a) / middle }
}

/// The symmetric difference of a change: 0.05 more of A is 0.0488.
fn symmetric(change: f64) -> f64 {
    change / (1.0 + change / 2.0)
}

/// The change that a symmetric difference is of.
fn change(difference: f64) -> Option<f64> {
    (difference.abs() < 2.0).then(|| (2.0 + difference) / (2.0 - difference) - 1.0)
}

/// Compares the metrics of `keys`. `exact` are both images' exact figures (A's, B's); the closure measures a
/// pair, in this order or at the same time, and gives each one's samples of at least the metrics that it is
/// asked for.
///
/// A metric that can be neither better nor worse, and one that the measurings did not give, is not measured.
///
/// # Errors
/// What the closure returns.
pub fn compare<E>(
    keys: &[Key],
    exact: &BTreeMap<Key, (f64, f64)>,
    rules: &Rules,
    measure: impl FnMut([Side; 2], &[Key]) -> Result<[Samples; 2], E>,
) -> Result<Comparison, E> {
    compare_each(keys, exact, rules, |_| rules.resolution, measure)
}

/// The same with a resolution for each metric, in place of the one of the rules.
///
/// # Errors
/// What the closure returns.
pub fn compare_each<E>(
    keys: &[Key],
    exact: &BTreeMap<Key, (f64, f64)>,
    rules: &Rules,
    resolution: impl Fn(&Key) -> f64,
    mut measure: impl FnMut([Side; 2], &[Key]) -> Result<[Samples; 2], E>,
) -> Result<Comparison, E> {
    let mut rows: Vec<Row> =
        exact.iter().filter_map(|(key, (a, b))| exact_row(key, *a, *b, resolution(key))).collect();
    let mut keys: Vec<Key> = keys.iter().filter(|key| !exact.contains_key(key)).cloned().collect();
    keys.sort_by_key(|key| (metric::position(key.metric), key.case.clone()));
    keys.dedup();
    let (keys, others): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(|key| {
        let metric = key.definition();
        metric.class != Class::Exact && metric.direction != Direction::Neither
    });
    rows.extend(others.into_iter().map(Row::not_measured));
    #[expect(clippy::cast_precision_loss, reason = "a few dozen metrics and looks")]
    let level = rules.error / (keys.len().max(1) * rules.looks.max(1)) as f64;
    let (errors, mut open): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(Key::counts_errors);
    let found = |key: &Key| symmetric(resolution(key));

    // A against itself; again for what seems too noisy, since a few disturbances look like that too.
    let enough = |key: &Key, pairs: Option<&Pairs>| {
        pairs.is_none_or(|pairs| may_tell(&pairs.differences, found(key), rules.pairs * rules.looks))
    };
    let mut noise = measure_pairs(&open, &errors, rules.calibration, [Side::A, Side::A], &mut measure)?;
    let again: Vec<Key> = open.iter().filter(|key| !enough(key, noise.get(*key))).cloned().collect();
    for (key, more) in measure_pairs(&again, &errors, rules.calibration, [Side::A, Side::A], &mut measure)? {
        noise.entry(key).or_default().extend(more);
    }
    open.retain(|key| {
        let pairs = noise.get(key);
        let Some(pairs) = pairs.filter(|pairs| !pairs.differences.is_empty()) else {
            rows.push(Row::not_measured(key.clone()));
            return false;
        };
        let decidable = enough(key, Some(pairs));
        if !decidable {
            let a: Vec<f64> = pairs.a.iter().chain(&pairs.b).copied().collect();
            let a = stats::median(&a);
            let key = key.clone();
            rows.push(Row { key, finding: Finding::TooNoisy, a, b: a, change: Some(0.0), pairs: 0 });
        }
        decidable
    });

    let mut all: BTreeMap<Key, Pairs> = BTreeMap::new();
    for look in 1..=rules.looks {
        // Errors are looked for once, and are counted whenever something else is measured again.
        let asked = if look == 1 { [open.clone(), errors.clone()].concat() } else { open.clone() };
        if asked.is_empty() {
            break;
        }
        for (key, more) in measure_pairs(&asked, &errors, rules.pairs, [Side::A, Side::B], &mut measure)? {
            all.entry(key).or_default().extend(more);
        }
        open.retain(|key| {
            let Some(pairs) = all.get(key) else {
                rows.push(Row::not_measured(key.clone()));
                return false;
            };
            let finding = judge(&pairs.differences, key.definition().direction, found(key), level);
            if finding == Finding::Undecided && look < rules.looks {
                return true;
            }
            rows.push(Row {
                key: key.clone(),
                finding,
                a: stats::median(&pairs.a),
                b: stats::median(&pairs.b),
                change: stats::centre(&pairs.differences).and_then(change),
                pairs: pairs.differences.len(),
            });
            false
        });
    }
    for key in errors {
        let found = found(&key);
        let of_a = noise.get(&key).is_some_and(|pairs| pairs.a.iter().chain(&pairs.b).sum::<f64>() > 0.0);
        rows.push(match all.get(&key) {
            Some(pairs) => errors_row(key, pairs, of_a, |differences, direction| {
                judge(differences, direction, found, level)
            }),
            None => Row::not_measured(key),
        });
    }
    rows.sort_by_key(|row| (metric::position(row.key.metric), row.key.case.clone()));
    Ok(Comparison { resolution: rules.resolution, rows, sizes: vec![], notes: vec![] })
}

/// An exact metric needs no test, and is the same where it differs by less than the resolution.
#[expect(clippy::float_cmp, reason = "exact metrics are whole numbers, or one quotient of two")]
fn exact_row(key: &Key, a: f64, b: f64, resolution: f64) -> Option<Row> {
    let within = a == b || (a != 0.0 && ((b - a) / a).abs() < resolution);
    let worse = match key.definition().direction {
        Direction::Lower => b > a,
        Direction::Higher => b < a,
        Direction::Neither => return None,
    };
    let finding = match (within, worse) {
        (true, _) => Finding::Same,
        (_, true) => Finding::Worse,
        (_, false) => Finding::Better,
    };
    Some(Row {
        key: key.clone(),
        finding,
        a: Some(a),
        b: Some(b),
        change: change(difference(a, b)),
        pairs: 0,
    })
}

/// Errors over all pairs. One of B is enough, unless A has some too: beside B, or beside itself (`of_a`). How
/// many more is then a matter of chance again, and is judged.
fn errors_row(key: Key, pairs: &Pairs, of_a: bool, judge: impl Fn(&[f64], Direction) -> Finding) -> Row {
    let (a, b): (f64, f64) = (pairs.a.iter().sum(), pairs.b.iter().sum());
    let finding = match (a > 0.0, b > 0.0) {
        (false, false) => Finding::Same,
        (true, false) => Finding::Better,
        (false, true) if !of_a => Finding::Worse,
        _ => judge(&pairs.differences, key.definition().direction),
    };
    let change = change(difference(a, b));
    Row { key, finding, a: Some(a), b: Some(b), change, pairs: pairs.differences.len() }
}

/// Measures pairs of neighbours, the second side first in every other pair. What they say of `others` is kept
/// too.
fn measure_pairs<E>(
    keys: &[Key],
    others: &[Key],
    count: usize,
    sides: [Side; 2],
    measure: &mut impl FnMut([Side; 2], &[Key]) -> Result<[Samples; 2], E>,
) -> Result<BTreeMap<Key, Pairs>, E> {
    let mut all: BTreeMap<Key, Pairs> = BTreeMap::new();
    if keys.is_empty() {
        return Ok(all);
    }
    for pair in 0..count {
        let [a, b] = if pair % 2 == 0 {
            measure(sides, keys)?
        } else {
            let [b, a] = measure([sides[1], sides[0]], keys)?;
            [a, b]
        };
        for key in keys.iter().chain(others.iter().filter(|other| !keys.contains(other))) {
            let middle = |samples: &Samples| samples.get(key).and_then(|samples| stats::median(samples));
            if let (Some(a), Some(b)) = (middle(&a), middle(&b)) {
                let pairs = all.entry(key.clone()).or_default();
                pairs.a.push(a);
                pairs.b.push(b);
                pairs.differences.push(difference(a, b));
            }
        }
    }
    Ok(all)
}

/// Whether a difference of this size may show in so many pairs as noisy as these.
///
/// The spread is that of the middle (1.4826 MAD is a normal distribution's standard deviation). A difference of
/// four standard errors of the mean is found about nine times in ten: three to be certain at the levels in
/// use, one not to miss it. The spread of sixteen pairs may well be half as large again as it really is, and
/// who gives up finds nothing: only where half of it would still be too much is the machine too noisy.
fn may_tell(differences: &[f64], found: f64, pairs: usize) -> bool {
    let spread = 1.4826 * stats::mad(differences).unwrap_or(f64::INFINITY);
    #[expect(clippy::cast_precision_loss, reason = "a few dozen pairs")]
    let error = spread / (pairs as f64).sqrt();
    2.0 * error <= found
}

/// What differences of B against A say at this level of certainty.
fn judge(differences: &[f64], direction: Direction, found: f64, level: f64) -> Finding {
    let test = |shift: f64| {
        let shifted: Vec<f64> = differences.iter().map(|difference| difference - shift).collect();
        stats::signed_rank(&shifted)
    };
    let Some(centre) = stats::centre(differences) else { return Finding::Undecided };
    let (more, less) = match direction {
        Direction::Higher => (Finding::Better, Finding::Worse),
        Direction::Lower | Direction::Neither => (Finding::Worse, Finding::Better),
    };
    // Nothing but equal pairs: no test has anything to count.
    if differences.iter().all(|difference| *difference == 0.0) {
        return Finding::Same;
    }
    let nothing = test(0.0);
    if centre >= found / 2.0 && nothing.above <= level / 2.0 {
        more
    } else if centre <= -found / 2.0 && nothing.below <= level / 2.0 {
        less
    } else if test(found).below <= level / 2.0 && test(-found).above <= level / 2.0 {
        // Two one-sided tests: it is neither as much more nor as much less.
        Finding::Same
    } else {
        Finding::Undecided
    }
}

fn cells(row: &Row) -> [String; 6] {
    let unit = row.key.definition().unit;
    let change = match (row.finding, row.change) {
        (Finding::TooNoisy | Finding::NotMeasured, _) => "-".to_owned(),
        (_, Some(change)) => format!("{:+.1} %", change * 100.0),
        (_, None) => "from nothing".to_owned(),
    };
    let pairs = if row.pairs == 0 { String::new() } else { row.pairs.to_string() };
    let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| shown(value, unit));
    let b = row.b.filter(|_| row.finding != Finding::TooNoisy);
    [row.key.to_string(), row.finding.name().to_owned(), cell(row.a), cell(b), change, pairs]
}

/// Changes in size that are shown of each kind; the JSON has all.
const CHANGES: usize = 10;
const HEADER: [&str; 6] = ["metric", "B is", "A", "B", "change", "pairs"];

/// The comparison in a terminal.
#[must_use]
pub fn terminal(comparison: &Comparison) -> String {
    let rows: Vec<Vec<String>> = comparison.rows.iter().map(|row| cells(row).into()).collect();
    let mut text = table(&HEADER, &rows, &[2, 3, 4, 5]) + "\n\n";
    if !comparison.sizes.is_empty() {
        let sizes = size::changes(&comparison.sizes, CHANGES);
        let columns: Vec<&str> = sizes.columns.iter().map(String::as_str).collect();
        let _ = writeln!(text, "{}\n{}\n", sizes.title, table(&columns, &sizes.rows, &sizes.numeric));
    }
    text + &comparison.conclusion() + "\n"
}

/// The comparison for a pull request.
#[must_use]
pub fn markdown(comparison: &Comparison) -> String {
    let mut text =
        format!("{}\n\n| {} |\n|---|---|---:|---:|---:|---:|\n", comparison.conclusion(), HEADER.join(" | "));
    for row in &comparison.rows {
        let [key, finding, rest @ ..] = cells(row);
        // A case may be any name that an image holds.
        let key = key.replace('|', "\\|").replace('`', "'");
        let finding = if row.finding == Finding::Worse { format!("**{finding}**") } else { finding };
        let _ = writeln!(text, "| `{key}` | {finding} | {} |", rest.join(" | "));
    }
    if !comparison.sizes.is_empty() {
        render_table(&mut text, &size::changes(&comparison.sizes, CHANGES));
    }
    text
}

/// The comparison as JSON, with its outcome.
///
/// # Errors
/// Never for what [`compare`] makes; serde leaves the possibility.
pub fn json(comparison: &Comparison) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Document<'a> {
        schema: u32,
        outcome: Outcome,
        conclusion: String,
        #[serde(flatten)]
        comparison: &'a Comparison,
    }
    let document = Document {
        schema: 1,
        outcome: comparison.outcome(),
        conclusion: comparison.conclusion(),
        comparison,
    };
    serde_json::to_string_pretty(&document).map(|text| text + "\n")
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
