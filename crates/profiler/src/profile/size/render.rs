//! The size pass for people: the same tables for a terminal and as Markdown.

use tare_oci::units::ByteSize;
use tare_tool::ui::table;

use crate::profile::metric::Pass;
use crate::profile::report::{Section, Table};

use super::diff::{Change, SizeDiff, bare};
use super::{ProgramSize, SizeResult, SymbolSource};

/// Rows of a table that can be long.
const SHOWN: usize = 25;
/// A name that is longer is cut: generic functions can fill a screen.
const NAME_SHOWN: usize = 100;

/// A heading, and a table or a few lines below.
struct Part {
    title: String,
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// Columns of numbers.
    right: Vec<usize>,
    /// What the reader should know about the table.
    notes: Vec<String>,
}

impl Part {
    fn new(
        title: impl Into<String>,
        header: &[&'static str],
        rows: Vec<Vec<String>>,
        right: &[usize],
    ) -> Self {
        let (title, header, right) = (title.into(), header.to_vec(), right.to_vec());
        Self { title, header, rows, right, notes: Vec::new() }
    }

    fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Cuts the rows, and says so.
    fn cut(mut self) -> Self {
        let more = self.rows.len().saturating_sub(SHOWN);
        self.rows.truncate(SHOWN);
        if more > 0 { self.note(format!("… and {more} more")) } else { self }
    }
}

/// Names come from strangers: no control characters for the terminal, and not longer than a line.
fn shown(name: &str) -> String {
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
    let mut section = Section { pass: Pass::Size, notes: Vec::new(), tables: Vec::new() };
    for mut part in parts(result) {
        part.rows.truncate(rows);
        section.notes.extend(part.notes);
        if !part.rows.is_empty() {
            section.tables.push(Table {
                title: part.title,
                columns: part.header.into_iter().map(str::to_owned).collect(),
                numeric: part.right,
                rows: part.rows,
            });
        }
    }
    section
}

/// Everything of one image, as tables for a terminal.
#[must_use]
pub fn text(result: &SizeResult) -> String {
    as_text(&parts(result))
}

/// Everything of one image, as Markdown.
#[must_use]
pub fn markdown(result: &SizeResult) -> String {
    as_markdown(&parts(result))
}

/// What changed between two images, as tables for a terminal.
#[must_use]
pub fn diff_text(diff: &SizeDiff) -> String {
    as_text(&diff_parts(diff))
}

/// What changed between two images, as Markdown: for a pull request.
#[must_use]
pub fn diff_markdown(diff: &SizeDiff) -> String {
    as_markdown(&diff_parts(diff))
}

fn as_text(parts: &[Part]) -> String {
    let blocks = parts.iter().map(|part| {
        let mut lines = vec![part.title.clone()];
        if !part.rows.is_empty() {
            lines.push(table(&part.header, &part.rows, &part.right));
        }
        lines.extend(part.notes.iter().map(|note| format!("  {note}")));
        lines.join("\n")
    });
    blocks.collect::<Vec<_>>().join("\n\n")
}

fn as_markdown(parts: &[Part]) -> String {
    // What Markdown or HTML would take for its own.
    let escaped = |text: &str| -> String {
        text.chars()
            .flat_map(|c| {
                let special =
                    matches!(c, '|' | '\\' | '`' | '*' | '_' | '<' | '>' | '[' | ']' | '&' | '#' | '@' | '~');
                special.then_some('\\').into_iter().chain([c])
            })
            .collect()
    };
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let blocks = parts.iter().map(|part| {
        let mut lines = vec![format!("#### {}", escaped(&part.title)), String::new()];
        if !part.rows.is_empty() {
            let header: Vec<String> = part.header.iter().map(|cell| (*cell).to_owned()).collect();
            lines.push(line(&header));
            let rule = |at: usize| if part.right.contains(&at) { "--:" } else { "---" }.to_owned();
            lines.push(line(&(0..header.len()).map(rule).collect::<Vec<_>>()));
            for row in &part.rows {
                lines.push(line(&row.iter().map(|cell| escaped(cell)).collect::<Vec<_>>()));
            }
        }
        for note in &part.notes {
            lines.extend([String::new(), escaped(note)]);
        }
        lines.join("\n")
    });
    blocks.collect::<Vec<_>>().join("\n\n")
}

fn parts(result: &SizeResult) -> Vec<Part> {
    let mut parts = vec![summary(result), layers(result), files(result)];
    if !result.waste.paths.is_empty() {
        let rows =
            result.waste.paths.iter().map(|path| {
                vec![size(path.bytes), path.layers.to_string(), format!("/{}", shown(&path.path))]
            });
        parts.push(
            Part::new("Stored more than once", &["bytes", "layers", "path"], rows.collect(), &[0, 1]).cut(),
        );
    }
    for program in &result.programs {
        self::program(program, &mut parts);
    }
    if !result.doubts.is_empty() {
        let mut doubts = Part::new("Left out", &[], Vec::new(), &[]);
        doubts.notes = result.doubts.iter().map(|doubt| shown(&doubt.to_string())).collect();
        parts.push(doubts);
    }
    parts
}

fn summary(result: &SizeResult) -> Part {
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
    Part::new(title, &["what", "size", "bytes"], rows, &[1, 2])
        .note(format!("{} files; efficiency {:.4} as dive counts it", bytes.files, result.waste.efficiency))
}

fn layers(result: &SizeResult) -> Part {
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
    Part::new("Layers", &header, rows.collect(), &[0, 1, 2, 3, 4, 5])
}

fn files(result: &SizeResult) -> Part {
    let mut files: Vec<&super::FileSize> = result.files.iter().collect();
    files.sort_by(|a, b| (b.size, &a.path).cmp(&(a.size, &b.path)));
    let rows = files.iter().map(|file| {
        vec![size(file.size), size(file.on_disk), file.layer.to_string(), format!("/{}", shown(&file.path))]
    });
    Part::new("Files", &["size", "on disk", "layer", "path"], rows.collect(), &[0, 1, 2]).cut()
}

fn program(program: &ProgramSize, parts: &mut Vec<Part>) {
    let path = format!("/{}", shown(&program.path));
    let rows = program.segments.iter().map(|segment| {
        vec![shown(&segment.kind), segment.flags.clone(), size(segment.file), size(segment.memory)]
    });
    parts.push(Part::new(
        format!("Segments of {path}"),
        &["segment", "flags", "file", "memory"],
        rows.collect(),
        &[2, 3],
    ));
    let mut sections: Vec<&super::SectionSize> = program.sections.iter().collect();
    sections.sort_by_key(|row| std::cmp::Reverse((row.file, row.memory)));
    let rows = sections.iter().map(|section| {
        vec![
            shown(&section.name),
            section.file.to_string(),
            percent(section.file, program.size),
            section.memory.to_string(),
        ]
    });
    let header = ["section", "file", "share", "memory"];
    parts.push(
        Part::new(
            format!("Sections of {path} ({})", size(program.size)),
            &header,
            rows.collect(),
            &[1, 2, 3],
        )
        .cut(),
    );
    let Some(attribution) = &program.attribution else { return };
    let from = match program.symbols {
        Some(SymbolSource::Twin) => "the unstripped twin's symbols",
        _ => "its own symbols",
    };
    let mut rows: Vec<(u64, Vec<String>)> = attribution
        .crates
        .iter()
        .map(|krate| {
            let numbers = [krate.code, krate.unwind, krate.data].map(|bytes| bytes.to_string());
            let share = percent(krate.total(), program.size);
            let row = [vec![shown(&krate.name), krate.total().to_string(), share], numbers.to_vec()].concat();
            (krate.total(), row)
        })
        .collect();
    rows.extend(attribution.unattributed.iter().map(|(name, bytes)| {
        let name = format!("[unattributed {}]", shown(bare(name)));
        let none = ["-"; 3].map(str::to_owned).to_vec();
        (*bytes, [vec![name, bytes.to_string(), percent(*bytes, program.size)], none].concat())
    }));
    rows.sort_by(|a, b| (b.0, &a.1[0]).cmp(&(a.0, &b.1[0])));
    let rows = rows.into_iter().map(|(_, row)| row).collect();
    let header = ["crate", "bytes", "share", "code", "unwinding", "data"];
    let mut part = Part::new(format!("Whose bytes {path} is made of"), &header, rows, &[1, 2, 3, 4, 5])
        .cut()
        .note(format!("An estimate from {from}."));
    let strays = program.crates_without_package();
    if !strays.is_empty() {
        let names = strays.iter().map(|krate| shown(&krate.name)).collect::<Vec<_>>().join(", ");
        let bytes = strays.iter().map(|krate| krate.total()).sum();
        part = part.note(format!(
            "{} are of crates that no package is named after: {names}. The standard library brings them, or \
             a package calls its library otherwise.",
            size(bytes)
        ));
    }
    parts.push(part);
    let rows = attribution.functions.iter().map(|function| {
        vec![
            function.bytes.to_string(),
            function.copies.to_string(),
            shown(&function.krate),
            shown(&function.name),
        ]
    });
    let header = ["bytes", "copies", "crate", "name"];
    parts.push(Part::new(format!("Functions and data of {path}"), &header, rows.collect(), &[0, 1]).cut());
    let rows = program.packages.iter().filter(|package| package.runtime).map(|package| {
        vec![
            shown(&package.name),
            shown(&package.version),
            package.own.to_string(),
            package.exclusive.to_string(),
            shown(&package.brings.join(", ")),
        ]
    });
    let header = ["package", "version", "own", "with what only it brings", "brings"];
    let packages: Vec<Vec<String>> = rows.collect();
    if !packages.is_empty() {
        parts.push(
            Part::new(format!("What each dependency of {path} costs"), &header, packages, &[2, 3])
                .cut()
                .note("An estimate: what would go with the package, if nothing took its place."),
        );
    }
}

fn diff_parts(diff: &SizeDiff) -> Vec<Part> {
    if diff.is_empty() {
        return vec![Part::new("Size: nothing changed", &[], Vec::new(), &[])];
    }
    let mut parts = vec![changes("Size", &diff.totals)];
    let mut add = |title: String, list: &[Change]| {
        if !list.is_empty() {
            parts.push(changes(&title, list).cut());
        }
    };
    add("Layers, compressed".to_owned(), &diff.layers);
    add("Files".to_owned(), &diff.files);
    for program in &diff.programs {
        let path = format!("/{}", shown(&program.path));
        add(format!("Sections of {path}"), &program.sections);
        add(format!("Crates of {path} (an estimate)"), &program.crates);
        add(format!("Functions of {path}"), &program.functions);
    }
    parts
}

fn changes(title: &str, changes: &[Change]) -> Part {
    let rows = changes.iter().map(|change| {
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
        let delta = change.delta();
        let share = match change.before {
            None => "new".to_owned(),
            Some(_) if change.after.is_none() => "gone".to_owned(),
            Some(0) => "-".to_owned(),
            Some(before) => format!("{:+.1} %", delta as f64 * 100.0 / before as f64),
        };
        vec![shown(&change.name), bytes(change.before), bytes(change.after), format!("{delta:+}"), share]
    });
    Part::new(title, &["what", "before", "after", "change", ""], rows.collect(), &[1, 2, 3, 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_names_stay_in_their_cell() {
        let change = Change { name: "a|b\x1b[2J\n`<i>".to_owned(), before: None, after: Some(3) };
        let part = [changes("T", &[change])];
        let expected = "#### T\n\n| what | before | after | change |  |\n| --- | --: | --: | --: | --: |\n\
            | a\\|b\\\\u{1b}\\[2J\\\\n\\`\\<i\\> | - | 3 | +3 | new |";
        assert_eq!(as_markdown(&part), expected);
        assert!(!as_text(&part).contains('\x1b'));
    }
}
