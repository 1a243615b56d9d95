//! docs/metrics.md: the metric table for people.

use std::fmt::Write as _;

use crate::profile::metric::{Pass, TABLE};

/// The whole table as docs/metrics.md has it.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Made from the metric table of `crates/report/src/metric/`; `cargo xtask profile --list-metrics` prints the same.\n\
         A gate names a metric by its id, and one case of it as `ID@CASE`.\n\
         Exact metrics repeat to the byte; noisy ones are compared by a test and a least effect.\n",
    );
    for pass in Pass::ALL {
        let _ = write!(
            text,
            "\n## {}\n\n| id | unit | class | better | value | meaning | cases |\n|---|---|---|---|---|---|---|\n",
            pass.name()
        );
        for metric in TABLE.iter().filter(|metric| metric.pass == pass) {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} | {} | {} |",
                metric.id,
                metric.unit.symbol(),
                metric.class.name(),
                metric.direction.name(),
                metric.statistic,
                metric.description,
                metric.cases.unwrap_or("")
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `TARE_UPDATE=1 cargo test -p tare-profiler` writes the file anew.
    #[test]
    fn the_documentation_is_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
        if std::env::var_os("TARE_UPDATE").is_some() {
            std::fs::write(&path, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written == markdown(), "docs/metrics.md is not the metric table: run with TARE_UPDATE=1");
    }
}
