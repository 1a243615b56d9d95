//! What the size pass measures.

use super::{Class, Direction, Metric, Pass, Unit};

pub(super) const SIZE: [Metric; 18] = [
    size(
        "size.image.compressed",
        Unit::Bytes,
        Direction::Lower,
        None,
        "What is transferred: configuration and compressed layers",
    ),
    size("size.image.uncompressed", Unit::Bytes, Direction::Lower, None, "The tar archives of all layers"),
    size(
        "size.image.on-disk",
        Unit::Bytes,
        Direction::Lower,
        None,
        "The files of the merged root file system, in whole blocks of 4096 bytes",
    ),
    size("size.image.layers", Unit::Count, Direction::Lower, None, "Layers"),
    size(
        "size.image.files",
        Unit::Count,
        Direction::Lower,
        None,
        "Regular files in the merged root file system",
    ),
    size(
        "size.layer.compressed",
        Unit::Bytes,
        Direction::Lower,
        Some("layer, counted from 1, lowest first"),
        "A layer as it is transferred",
    ),
    size(
        "size.layer.uncompressed",
        Unit::Bytes,
        Direction::Lower,
        Some("layer, counted from 1, lowest first"),
        "A layer's tar archive",
    ),
    size(
        "size.wasted",
        Unit::Bytes,
        Direction::Lower,
        None,
        "Bytes of files that a higher layer replaces or removes",
    ),
    size(
        "size.efficiency",
        Unit::Share,
        Direction::Higher,
        None,
        "The least size of every path over the sum of all its sizes, as dive computes it",
    ),
    size("size.binary.file", Unit::Bytes, Direction::Lower, None, "The file that the entrypoint runs"),
    size("size.binary.text", Unit::Bytes, Direction::Lower, None, "Bytes in its executable sections"),
    size(
        "size.binary.data",
        Unit::Bytes,
        Direction::Lower,
        None,
        "Bytes in its other sections that are loaded from the file",
    ),
    size(
        "size.binary.bss",
        Unit::Bytes,
        Direction::Lower,
        None,
        "Bytes that are zero at the start and not in the file",
    ),
    size(
        "size.binary.section",
        Unit::Bytes,
        Direction::Lower,
        Some("section name"),
        "One section's bytes in the file",
    ),
    size(
        "size.binary.segment",
        Unit::Bytes,
        Direction::Lower,
        Some("segment: R, RX, RW, …"),
        "The bytes in the file of all loaded segments with these rights",
    ),
    size(
        "size.binary.crate",
        Unit::Bytes,
        Direction::Lower,
        Some("crate name"),
        "Bytes of the functions of one crate; an estimate, for generic code belongs to two",
    ),
    size(
        "size.binary.function",
        Unit::Bytes,
        Direction::Lower,
        Some("function name"),
        "Bytes of one function, all its instances together",
    ),
    size(
        "size.packages",
        Unit::Count,
        Direction::Lower,
        None,
        "Packages in the list that cargo-auditable's format keeps in the binary",
    ),
];

/// What stands for an id that is not in the table; no pass measures it.
pub const UNKNOWN: Metric = size("unknown", Unit::Count, Direction::Neither, None, "Not in the metric table");

const fn size(
    id: &'static str,
    unit: Unit,
    direction: Direction,
    cases: Option<&'static str>,
    description: &'static str,
) -> Metric {
    Metric {
        id,
        pass: Pass::Size,
        unit,
        class: Class::Exact,
        direction,
        statistic: "counted",
        description,
        cases,
    }
}
