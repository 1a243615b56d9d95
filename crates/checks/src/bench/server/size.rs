//! Bytes of the programs, as their images have them.

use std::fs;

use anyhow::Context as _;

use super::Contest;
use crate::bench::SAMPLE;
use crate::bench::report::{Bound, Goal, Part, Row, Table};
use crate::bench::stats::Series;

const LIMIT: u64 = 1_000_000;

pub(super) fn measure(contest: &Contest<'_>) -> anyhow::Result<Part> {
    let mut part = Part::new("size");
    let mut rows = Vec::new();
    for server in &contest.servers {
        let bytes = fs::metadata(&server.binary)
            .with_context(|| format!("cannot read {}", server.binary.display()))?
            .len();
        rows.push(Row { name: server.name.clone(), cells: vec![Series::bytes(bytes).into()] });
        if server.name == SAMPLE {
            let what = format!("{SAMPLE}, stripped, with its default features");
            part.goals.push(Goal::new(what, Bound::AtMost(LIMIT), Series::bytes(bytes)));
        }
    }
    part.tables.push(Table { columns: vec!["server", "program"], rows });
    Ok(part)
}
