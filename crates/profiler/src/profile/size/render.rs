//! The size pass as the tables of a report.

use tare_oci::units::ByteSize;

use crate::profile::metric::Pass;
use crate::profile::report::{Section, Table};

use super::{Change, ProgramSize, SizeResult, SymbolSource, WastedPath};

/// A name that is longer is cut: generic functions can fill a screen.
const NAME_SHOWN: usize = 100;

fn list(title: impl Into<String>, columns: &[&str], rows: Vec<Vec<String>>, numeric: &[usize]) -> Table {
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    Table { title: title.into(), columns, numeric: numeric.to_vec(), rows }
}

/// Names come from strangers: no control characters for the terminal, and not longer than a line.
pub(super) fn shown(name: &str) -> String {
    let mut out = String::new();
    for (at, character) in name.chars().enumerate() {
        if at == NAME_SHOWN {
            out.push('…');
            break;
        }
        if character.is_control() { out.extend(character.escape_default()) } else { out.push(character) }
    }
    out
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

/// Everything of one image, as a report has it; tables have at most so many rows.
#[must_use]
pub fn section(result: &SizeResult, rows: usize) -> Section {
    let (efficiency, files) = (result.waste.efficiency, result.bytes.files);
    let notes = vec![format!("{files} files; efficiency {efficiency:.4} as dive counts it")];
    let mut section = Section { pass: Pass::Size, notes, tables: vec![] };
    section.tables.extend([summary(result), layers(result), self::files(result), repeated(result)]);
    if let Some(program) = &result.program {
        self::program(program, &mut section);
    }
    section.notes.extend(result.doubts.iter().map(|doubt| shown(doubt)));
    section.tables.retain(|table| !table.rows.is_empty());
    section.tables.iter_mut().for_each(|table| table.rows.truncate(rows));
    section
}

/// What changed between two images, with at most so many rows of each kind.
#[must_use]
pub fn changes(changes: &[Change], rows: usize) -> Table {
    let of_kind = changes.chunk_by(|a, b| a.what == b.what).flat_map(|kind| kind.iter().take(rows));
    let rows = of_kind.map(|change| {
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
        let delta = format!("{:+}", change.delta());
        vec![change.what.to_owned(), shown(&change.name), bytes(change.before), bytes(change.after), delta]
    });
    list("What changed in size", &["what", "name", "A", "B", "change"], rows.collect(), &[2, 3, 4])
}

fn summary(result: &SizeResult) -> Table {
    let bytes = &result.bytes;
    let row = |name: &str, value: String, exact: u64| vec![name.to_owned(), value, exact.to_string()];
    let mut rows = vec![
        row("total (config and layers)", size(bytes.total), bytes.total),
        row("layers compressed", size(bytes.compressed), bytes.compressed),
        row("layers uncompressed", size(bytes.uncompressed), bytes.uncompressed),
        row("config", size(bytes.config), bytes.config),
    ];
    rows.extend(bytes.manifest.map(|manifest| row("manifest", size(manifest), manifest)));
    rows.push(row("on disk, in blocks of 4096", size(bytes.on_disk), bytes.on_disk));
    rows.push(row("content of files", size(bytes.content), bytes.content));
    rows.push(row("hidden by higher layers", size(result.waste.hidden), result.waste.hidden));
    let names = result.names.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    let title = format!(
        "Size of {} {}",
        if names.is_empty() { "the image" } else { &names },
        shown(&result.platform)
    );
    list(title, &["what", "size", "bytes"], rows, &[1, 2])
}

fn layers(result: &SizeResult) -> Table {
    let rows = result.layers.iter().enumerate().map(|(number, layer)| {
        vec![
            number.to_string(),
            size(layer.compressed),
            size(layer.uncompressed),
            size(layer.on_disk),
            size(layer.hidden),
            layer.files.to_string(),
            layer.encoding.clone(),
            layer.created_by.as_deref().map(shown).unwrap_or_default(),
        ]
    });
    let header = ["#", "compressed", "uncompressed", "on disk", "hidden", "files", "as", "made by"];
    list("Layers", &header, rows.collect(), &[0, 1, 2, 3, 4, 5])
}

fn files(result: &SizeResult) -> Table {
    let mut files: Vec<&super::FileSize> = result.files.iter().collect();
    files.sort_by(|a, b| (b.size, &a.path).cmp(&(a.size, &b.path)));
    let rows = files.iter().map(|file| {
        vec![size(file.size), size(file.on_disk), file.layer.to_string(), format!("/{}", shown(&file.path))]
    });
    list("Files", &["size", "on disk", "layer", "path"], rows.collect(), &[0, 1, 2])
}

fn repeated(result: &SizeResult) -> Table {
    let paths = &result.waste.paths;
    let row = |path: &WastedPath| {
        vec![size(path.bytes), path.layers.to_string(), format!("/{}", shown(&path.path))]
    };
    list("Stored more than once", &["bytes", "layers", "path"], paths.iter().map(row).collect(), &[0, 1])
}

fn program(program: &ProgramSize, section: &mut Section) {
    let path = format!("/{}", shown(&program.path));
    let rows = program.segments.iter();
    let rows = rows.map(|segment| vec![segment.flags.clone(), size(segment.file), size(segment.memory)]);
    let header = ["segment", "file", "memory"];
    section.tables.push(list(format!("Loaded segments of {path}"), &header, rows.collect(), &[1, 2]));
    let mut sections: Vec<&super::SectionSize> = program.sections.iter().collect();
    sections.sort_by_key(|row| std::cmp::Reverse((row.file, row.memory)));
    let rows = sections.iter().map(|section| {
        let share = percent(section.file, program.size);
        vec![shown(&section.name), section.file.to_string(), share, section.memory.to_string()]
    });
    let title = format!("Sections of {path} ({})", size(program.size));
    let header = ["section", "file", "share", "memory"];
    section.tables.push(list(title, &header, rows.collect(), &[1, 2, 3]));
    let Some(attribution) = &program.attribution else { return };
    let owned = attribution.crates.iter().map(|krate| {
        let parts = [krate.code, krate.unwind, krate.data].map(|bytes| bytes.to_string());
        (krate.total(), shown(&krate.name), parts)
    });
    let rest = attribution.unattributed.iter().map(|(name, bytes)| {
        // `[padding]` is in brackets already.
        let name = format!("[unattributed {}]", shown(name.trim_matches(['[', ']'])));
        (*bytes, name, ["-"; 3].map(str::to_owned))
    });
    let mut crates: Vec<_> = owned.chain(rest).collect();
    crates.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
    let row = |(bytes, name, parts): (u64, String, [String; 3])| {
        [vec![name, bytes.to_string(), percent(bytes, program.size)], parts.to_vec()].concat()
    };
    let header = ["crate", "bytes", "share", "code", "unwinding", "data"];
    let rows = crates.into_iter().map(row).collect();
    section.tables.push(list(format!("Crates of {path}"), &header, rows, &[1, 2, 3, 4, 5]));
    let from = match program.symbols {
        Some(SymbolSource::Unstripped) => "the symbols of the unstripped binary",
        _ => "its own symbols",
    };
    section.notes.push(format!("Crates of {path} are an estimate from {from}."));
    let rows = attribution.functions.iter().map(|function| {
        let (bytes, copies) = (function.bytes.to_string(), function.copies.to_string());
        vec![bytes, copies, shown(&function.krate), shown(&function.name)]
    });
    let header = ["bytes", "copies", "crate", "name"];
    section.tables.push(list(format!("Functions and data of {path}"), &header, rows.collect(), &[0, 1]));
    let rows = program.packages.iter().filter(|package| package.runtime).map(|package| {
        let (own, exclusive) = (package.own.to_string(), package.exclusive.to_string());
        vec![shown(&package.name), shown(&package.version), own, exclusive, shown(&package.brings.join(", "))]
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        let header = ["package", "version", "own", "with what only it brings", "brings"];
        section.tables.push(list(format!("What each dependency of {path} costs"), &header, rows, &[2, 3]));
        let note = "What a dependency costs is an estimate: what would go with the package, if nothing took its place.";
        section.notes.push(note.to_owned());
    }
}
