//! Bytes and times as text.

/// A number of bytes in decimal units (1 kB = 1000 B).
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        n if n < 1_000 => format!("{n} B"),
        n if n < 1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        n if n < 1_000_000_000 => format!("{:.2} MB", n as f64 / 1e6),
        n => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// To the byte, in the unit that gives the smallest whole number: `64MiB`, `512MB`, `1001B`.
pub(crate) fn exact(bytes: u64) -> String {
    const UNITS: [(&str, u64); 7] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
        ("B", 1),
    ];
    let whole = UNITS.iter().filter(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor));
    let (unit, factor) = whole.min_by_key(|(_, factor)| bytes / factor).unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// A time in µs, in milliseconds: `50ms`.
pub(crate) fn milliseconds(micros: u64) -> String {
    format!("{}ms", micros as f64 / 1e3)
}
