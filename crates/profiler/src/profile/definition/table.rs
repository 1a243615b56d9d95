//! `[[table]]`: a table over all images of a run, with figures that others claim beside the measured ones.

use std::collections::BTreeMap;

use serde::Deserialize;
use tare_tool::document::nearest;

use super::Problem;
use crate::profile::measurement::Measurement;
use crate::profile::metric::{self, Metric};

/// One table, with a row for each image.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TableDefinition {
    /// Its heading.
    pub title: String,
    /// Beside the column of names; never empty.
    pub columns: Vec<Column>,
}

/// One column of figures.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Column {
    /// Its heading.
    pub title: String,
    /// The figure, as `ID` or `ID@CASE`; none where there are only claims.
    pub metric: Option<String>,
    /// Claims of others by the name of the image, as they are shown.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
}

impl Column {
    /// The metric's id and its case, where one is named.
    fn key(&self) -> Option<(&str, Option<&str>)> {
        let metric = self.metric.as_deref()?;
        Some(metric.split_once('@').map_or((metric, None), |(id, case)| (id, Some(case))))
    }

    /// The row of the metric table.
    pub(crate) fn definition(&self) -> Option<&'static Metric> {
        metric::find(self.key()?.0)
    }

    /// Whether it shows this figure.
    pub(crate) fn is_about(&self, measurement: &Measurement) -> bool {
        self.key().is_some_and(|(id, case)| {
            id == measurement.metric && (case.is_none() || case == measurement.case.as_deref())
        })
    }
}

/// Whether every table can be filled.
pub(super) fn check(tables: &[TableDefinition], images: &[String]) -> Result<(), Problem> {
    for (number, table) in tables.iter().enumerate() {
        let problem = |key: &str, message: String| Problem::new(&format!("table.{number}.{key}"), message);
        if table.columns.is_empty() {
            return Err(problem("columns", format!("table `{}` has no columns", table.title)));
        }
        for (at, column) in table.columns.iter().enumerate() {
            let problem = |key: &str, message: String| problem(&format!("columns.{at}.{key}"), message);
            figure(column).map_err(|(message, hint)| Problem { hint, ..problem("metric", message) })?;
            if let Some(stranger) =
                column.claims.keys().find(|name| !images.is_empty() && !images.contains(name))
            {
                let hint = nearest(stranger, images).map(|near| format!("did you mean `{near}`?"));
                let message = format!("a claim about `{stranger}`, which is not among the profile's images");
                return Err(Problem { hint, ..problem("claims", message) });
            }
        }
    }
    Ok(())
}

/// Whether the column's figure is one of the metric table. The error has a hint where there is one.
fn figure(column: &Column) -> Result<(), (String, Option<String>)> {
    let Some((id, case)) = column.key() else { return Ok(()) };
    let Some(metric) = metric::find(id) else {
        let known: Vec<String> = metric::TABLE.iter().map(|metric| metric.id.to_owned()).collect();
        let list = format!("`{} profile --list-metrics` lists them", tare_tool::environment::command());
        let hint = nearest(id, &known).map_or(list.clone(), |near| format!("did you mean `{near}`? {list}"));
        return Err((format!("unknown metric `{id}`"), Some(hint)));
    };
    match (case, metric.cases) {
        (Some(_), None) => Err((format!("`{id}` has no cases"), None)),
        (None, Some(cases)) => {
            let hint = format!("write `{id}@CASE`; a case is a {cases}");
            Err((format!("`{id}` has several cases, and a cell one figure"), Some(hint)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{CpuLimit, parse};

    fn wrong(text: &str) -> (String, Option<String>) {
        let error = parse("t", Path::new("t.toml"), text, CpuLimit::cpus(1.0).unwrap()).unwrap_err();
        (error.to_string(), error.hint)
    }

    #[test]
    fn a_table_names_metrics_that_there_are_and_images_that_are_measured() {
        let of = |column: &str| {
            wrong(&format!(
                "images = [\"app\", \"gin\"]\n[[table]]\ntitle = \"T\"\n[[table.columns]]\ntitle = \"c\"\n{column}"
            ))
        };
        let list = "`cargo xtask profile --list-metrics` lists them";
        let hint = |text: &str| Some(text.to_owned());
        for (column, message, expected) in [
            (
                "metric = \"throughput.rat@closed\"",
                "t.toml:6:1: unknown metric `throughput.rat`",
                hint(&format!("did you mean `throughput.rate`? {list}")),
            ),
            ("metric = \"size.efficiency@x\"", "t.toml:6:1: `size.efficiency` has no cases", None),
            (
                "metric = \"throughput.rate\"",
                "t.toml:6:1: `throughput.rate` has several cases, and a cell one figure",
                hint(
                    "write `throughput.rate@CASE`; a case is a load case: closed, open-50, open-70, open-90",
                ),
            ),
            (
                "metric = \"size.efficiency\"\nclaims = { gim = \"1\" }",
                "t.toml:7:1: a claim about `gim`, which is not among the profile's images",
                hint("did you mean `gin`?"),
            ),
        ] {
            assert_eq!(of(column), (message.to_owned(), expected), "{column}");
        }
        assert_eq!(wrong("[[table]]\ntitle = \"T\"\ncolumns = []").0, "t.toml:3:1: table `T` has no columns");
    }
}
