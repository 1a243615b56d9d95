//! The bytes of an image as a tree: layers, their files, and the sections and crates of the program.

use std::collections::BTreeMap;

use tare_report::{Package, Part};

use super::{ProgramSize, SizeResult};

/// Parts of one thing that stand by themselves; the smaller ones come together in one.
const PARTS: usize = 40;

/// The tree. Its bytes are those of files as they are unpacked: what archives add (headers, padding) is not in it, and a
/// file with several names counts once.
#[must_use]
pub fn parts(result: &SizeResult) -> Part {
    let mut layers: Vec<Vec<Part>> = vec![Vec::new(); result.layers.len()];
    for file in &result.files {
        let Some(layer) = layers.get_mut(file.layer) else { continue };
        let path = format!("/{}", super::render::shown(&file.path));
        let program = result.program.as_ref().filter(|program| program.path == file.path);
        layer.push(match program {
            Some(program) if program.size == file.size => Part { name: path, ..self::program(program) },
            _ => Part::leaf(path, file.size),
        });
    }
    let layers = layers.into_iter().zip(&result.layers).enumerate().map(|(at, (mut files, layer))| {
        files.push(Part::leaf("[hidden by higher layers]", layer.hidden));
        bounded(format!("layer {}", at + 1), files, "files")
    });
    Part::of("image", layers.collect())
}

/// The packages that run in the program, by name.
#[must_use]
pub fn built_from(result: &SizeResult) -> Vec<Package> {
    let packages =
        result.program.iter().flat_map(|program| &program.packages).filter(|package| package.runtime);
    let shown = |text: &str| super::render::shown(text);
    let packages = packages.map(|it| Package { name: shown(&it.name), version: shown(&it.version) });
    let mut packages: Vec<Package> = packages.collect();
    packages.sort();
    packages
}

/// Sections, and the crates of the largest section with code.
fn program(program: &ProgramSize) -> Part {
    let code = program.sections.iter().filter(|section| section.code).max_by_key(|section| section.file);
    let mut sections: BTreeMap<&str, u64> = BTreeMap::new();
    for section in &program.sections {
        *sections.entry(&section.name).or_default() += section.file;
    }
    let section = |(name, bytes): (&str, u64)| {
        let crates: Vec<Part> = match &program.attribution {
            Some(attribution) if code.is_some_and(|code| code.name == name) => attribution
                .crates
                .iter()
                .map(|it| Part::leaf(super::render::shown(&it.name), it.code))
                .collect(),
            _ => vec![],
        };
        let name = super::render::shown(name);
        // Code of other sections counts for crates too.
        match bytes.checked_sub(crates.iter().map(|part| part.bytes).sum()) {
            Some(rest) if !crates.is_empty() => {
                bounded(name, [crates, vec![Part::leaf("[no crate]", rest)]].concat(), "crates")
            }
            _ => Part::leaf(name, bytes),
        }
    };
    bounded(String::new(), sections.into_iter().map(section).collect(), "sections")
}

/// A part of the largest of these, and one for all others.
fn bounded(name: String, parts: Vec<Part>, what: &str) -> Part {
    let mut whole = Part::of(name, parts);
    if whole.parts.len() > PARTS {
        let rest = whole.parts.split_off(PARTS - 1);
        let bytes = rest.iter().map(|part| part.bytes).fold(0, u64::saturating_add);
        whole.parts.push(Part::leaf(format!("[{} smaller {what}]", rest.len()), bytes));
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_parts_come_together_and_nothing_is_lost() {
        let parts = (1..=100).map(|bytes| Part::leaf(format!("f{bytes}"), bytes)).collect();
        let whole = bounded("layer 1".to_owned(), parts, "files");
        assert_eq!((whole.bytes, whole.parts.len()), (5050, PARTS));
        assert_eq!(whole.parts[0], Part::leaf("f100", 100));
        assert_eq!(whole.parts[PARTS - 1], Part::leaf("[61 smaller files]", (1..=61).sum()));
    }
}
