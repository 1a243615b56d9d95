//! The figures of the size pass in the form that gates, baselines and reports read.

use std::collections::BTreeMap;

use super::{ProgramSize, SizeResult};
use crate::profile::measurement::Measurement;

/// Every figure of the metric table that this image has. All are exact; those of crates are exact counts by
/// a rule that only estimates which crate the bytes belong to.
#[must_use]
pub fn measurements(result: &SizeResult) -> Vec<Measurement> {
    let exact = |metric, value: u64| Measurement::exact(metric, value as f64);
    let bytes = &result.bytes;
    let regular = result.files.iter().filter(|file| matches!(file.kind, '-' | 'h')).count() as u64;
    let mut list = vec![
        exact("size.image.compressed", bytes.total),
        exact("size.image.uncompressed", bytes.uncompressed),
        exact("size.image.on-disk", bytes.on_disk),
        exact("size.image.layers", result.layers.len() as u64),
        exact("size.image.files", regular),
        exact("size.wasted", result.waste.hidden),
        Measurement::exact("size.efficiency", result.waste.efficiency),
    ];
    for (number, layer) in result.layers.iter().enumerate() {
        let case = (number + 1).to_string();
        list.push(exact("size.layer.compressed", layer.compressed).of_case(&case));
        list.push(exact("size.layer.uncompressed", layer.uncompressed).of_case(case));
    }
    if let Some(program) = &result.program {
        list.extend(of_program(program));
    }
    list
}

fn of_program(program: &ProgramSize) -> Vec<Measurement> {
    let exact = |metric, value: u64| Measurement::exact(metric, value as f64);
    let sum = |of: &dyn Fn(&super::SectionSize) -> u64| {
        program.sections.iter().map(of).fold(0, u64::saturating_add)
    };
    let loaded = |row: &super::SectionSize| row.memory > 0;
    let mut list = vec![
        exact("size.binary.file", program.size),
        exact("size.binary.text", sum(&|row| if row.code { row.file } else { 0 })),
        exact("size.binary.data", sum(&|row| if loaded(row) && !row.code { row.file } else { 0 })),
        exact("size.binary.bss", sum(&|row| if row.is_zero_filled() { row.memory } else { 0 })),
    ];
    // A section's name may occur twice, and one case must not.
    let mut by_case: BTreeMap<(&'static str, &str), u64> = BTreeMap::new();
    let mut add = |metric, case, bytes: u64| {
        let sum = by_case.entry((metric, case)).or_default();
        *sum = sum.saturating_add(bytes);
    };
    for row in program.sections.iter().filter(|row| row.file > 0) {
        add("size.binary.section", &row.name, row.file);
    }
    let rights: Vec<(String, u64)> = program
        .segments
        .iter()
        .map(|segment| (segment.flags.replace('-', "").to_uppercase(), segment.file))
        .collect();
    for (rights, bytes) in &rights {
        add("size.binary.segment", rights, *bytes);
    }
    if let Some(attribution) = &program.attribution {
        for krate in &attribution.crates {
            add("size.binary.crate", &krate.name, krate.total());
        }
        for function in &attribution.functions {
            add("size.binary.function", &function.name, function.bytes);
        }
    }
    list.extend(by_case.into_iter().map(|((metric, case), bytes)| exact(metric, bytes).of_case(case)));
    if !program.packages.is_empty() {
        list.push(exact("size.packages", program.packages.len() as u64));
    }
    list
}
