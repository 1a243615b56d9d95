//! One program of an image: its segments, sections, and whose bytes it is made of.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tare_oci::{audit, elf as facts};

use super::SizeDoubt;
use super::attribution::{Attribution, CrateSize, NATIVE, attribute};
use super::dependencies::{PackageSize, packages};
use super::elf::{Elf, Section, SegmentSize};

/// One section, table of headers, or all the padding between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SectionSize {
    /// `.text`, or `[ELF header]`, `[program headers]`, `[section headers]`, `[padding]`.
    pub name: String,
    /// Bytes in the file. All of them sum to the file's size.
    pub file: u64,
    /// Bytes in memory; 0 for what is not loaded.
    pub memory: u64,
    /// Whether it holds machine code.
    pub code: bool,
}

impl SectionSize {
    /// Whether it takes memory and nothing of the file.
    #[must_use]
    pub fn is_zero_filled(&self) -> bool {
        self.memory > 0 && self.file == 0
    }
}

/// Where symbols came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SymbolSource {
    /// The program in the image has them.
    Itself,
    /// Its unstripped twin.
    Twin,
}

/// One ELF file of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramSize {
    /// From the root, without leading slash.
    pub path: String,
    /// Whether a container starts with it.
    pub entrypoint: bool,
    /// Bytes.
    pub size: u64,
    /// In the order of the file.
    pub segments: Vec<SegmentSize>,
    /// In the order of the file; then tables and padding.
    pub sections: Vec<SectionSize>,
    /// Where the symbols are from; none when there are none.
    pub symbols: Option<SymbolSource>,
    /// Whose bytes they are, by the symbols. An estimate.
    pub attribution: Option<Attribution>,
    /// The packages that the binary lists in `.dep-v0`; what takes most with it first.
    pub packages: Vec<PackageSize>,
}

impl ProgramSize {
    /// Crates with bytes that are not in the list of packages: the standard library and what it is built
    /// with, and libraries that are not called like their package. None where there is no list.
    #[must_use]
    pub fn crates_without_package(&self) -> Vec<&CrateSize> {
        if self.packages.is_empty() {
            return Vec::new();
        }
        let known: BTreeSet<String> =
            self.packages.iter().map(|package| package.name.replace('-', "_")).collect();
        let crates = self.attribution.iter().flat_map(|attribution| &attribution.crates);
        crates.filter(|krate| krate.name != NATIVE && !known.contains(&krate.name)).collect()
    }
}

/// Looks into a program. `twin` is the same one before it was stripped.
///
/// What cannot be told is left out, with a doubt that says why. Any bytes will do: damage is a doubt too.
pub fn program(
    path: &str,
    entrypoint: bool,
    data: &[u8],
    twin: Option<&[u8]>,
    doubts: &mut Vec<SizeDoubt>,
) -> ProgramSize {
    let mut program = ProgramSize {
        path: path.to_owned(),
        entrypoint,
        size: data.len() as u64,
        segments: Vec::new(),
        sections: Vec::new(),
        symbols: None,
        attribution: None,
        packages: Vec::new(),
    };
    let unreadable = |why: String| SizeDoubt::Unreadable { path: path.to_owned(), why };
    let elf = match Elf::parse(data) {
        Ok(elf) => elf,
        Err(error) => {
            doubts.push(unreadable(error.to_string()));
            return program;
        }
    };
    program.sections = sections(&elf);
    program.segments.clone_from(&elf.segments);
    let twin = twin.and_then(|twin| match Elf::parse(twin).map_err(|error| error.to_string()) {
        Ok(twin) => match difference(&elf, &twin) {
            None => Some(twin),
            Some(what) => {
                doubts.push(SizeDoubt::TwinDiffers { path: path.to_owned(), what });
                None
            }
        },
        Err(why) => {
            doubts.push(SizeDoubt::TwinDiffers { path: path.to_owned(), what: why });
            None
        }
    });
    let (named, source) = match &twin {
        Some(twin) => (twin, SymbolSource::Twin),
        None => (&elf, SymbolSource::Itself),
    };
    match attribute(&elf, named) {
        Ok(attribution) => {
            program.symbols = attribution.is_some().then_some(source);
            program.attribution = attribution;
        }
        Err(error) => doubts.push(unreadable(error.to_string())),
    }
    if let Ok(Some(section)) = facts::audit_data(data)
        && let Ok(list) = audit::decode(section)
    {
        let crates = program.attribution.iter().flat_map(|attribution| &attribution.crates);
        let bytes: BTreeMap<String, u64> = crates.map(|krate| (krate.name.clone(), krate.total())).collect();
        match packages(&list, &bytes) {
            Some(packages) => program.packages = packages,
            None => {
                doubts.push(unreadable(format!("its list of {} packages is too long", list.packages.len())));
            }
        }
    }
    program
}

/// `SHT_PROGBITS`: what the program itself gives a meaning to (System V ABI, "Sections").
const SHT_PROGBITS: u32 = 1;
/// `SHT_NOBITS`: the same without bytes in the file.
const SHT_NOBITS: u32 = 8;

fn sections(elf: &Elf<'_>) -> Vec<SectionSize> {
    let mut file = BTreeMap::new();
    for region in elf.regions() {
        *file.entry(region.of).or_insert(0) += region.end - region.start;
    }
    let mut rows = Vec::new();
    for (at, section) in elf.sections.iter().enumerate() {
        let file = file.remove(&super::elf::Of::Section(at)).unwrap_or(0);
        let memory = if section.alloc { section.size } else { 0 };
        // The first section header is a placeholder.
        if file > 0 || memory > 0 {
            rows.push(SectionSize { name: section.name.clone(), file, memory, code: section.exec });
        }
    }
    for (of, bytes) in file {
        rows.push(SectionSize { name: elf.region_name(of).to_owned(), file: bytes, memory: 0, code: false });
    }
    rows
}

/// The first thing in which a twin is another program: all code and data must be the same, at the same
/// addresses. `strip` and tare's own leave both alone; tables of dynamic symbols are rewritten, for they have
/// the numbers of sections in them.
fn difference(elf: &Elf<'_>, twin: &Elf<'_>) -> Option<String> {
    if elf.machine != twin.machine {
        return Some("it is for another processor".to_owned());
    }
    if let (Some(own), Some(other)) = (&elf.build_id, &twin.build_id)
        && own != other
    {
        return Some("its build id is another".to_owned());
    }
    let loaded = |elf: &Elf<'_>| -> Vec<Section> {
        let own = |section: &&Section| section.alloc && matches!(section.kind, SHT_PROGBITS | SHT_NOBITS);
        elf.sections.iter().filter(own).cloned().collect()
    };
    let (own, other) = (loaded(elf), loaded(twin));
    if own.is_empty() {
        return Some("the program in the image has no sections to compare".to_owned());
    }
    if own.len() != other.len() {
        return Some(format!("it has {} loaded sections, not {}", other.len(), own.len()));
    }
    own.iter().zip(&other).find_map(|(a, b)| {
        let same = (&a.name, a.address, a.size) == (&b.name, b.address, b.size)
            && (a.nobits || elf.bytes(a) == twin.bytes(b));
        (!same).then(|| format!("its section {} is another", a.name))
    })
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// This test itself: a program with symbols, and a shorter name for what follows.
    fn this_binary() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    fn sum(program: &ProgramSize) -> (u64, u64) {
        let attribution = program.attribution.as_ref().unwrap();
        let crates: u64 = attribution.crates.iter().map(super::super::CrateSize::total).sum();
        let rest: u64 = attribution.unattributed.values().sum();
        (program.sections.iter().map(|section| section.file).sum(), crates + rest)
    }

    #[test]
    fn every_byte_counts_once_with_own_symbols_and_with_those_of_the_twin() {
        let twin = this_binary();
        let stripped = facts::strip(&twin, None).unwrap();
        let mut doubts = Vec::new();
        let with_own = program("app", true, &twin, None, &mut doubts);
        let with_twin = program("app", true, &stripped, Some(&twin), &mut doubts);
        let without = program("app", true, &stripped, None, &mut doubts);
        assert_eq!(doubts, []);
        assert_eq!(sum(&with_own), (twin.len() as u64, twin.len() as u64));
        assert_eq!(sum(&with_twin), (stripped.len() as u64, stripped.len() as u64));
        assert_eq!(
            (with_own.symbols, with_twin.symbols),
            (Some(SymbolSource::Itself), Some(SymbolSource::Twin))
        );
        assert_eq!((without.symbols, without.attribution), (None, None));
        assert_eq!(without.sections, with_twin.sections);
        // What is loaded is the same, and so is whose it is.
        let crates = |program: &ProgramSize| program.attribution.clone().unwrap().crates;
        assert_eq!(crates(&with_own), crates(&with_twin));
        assert!(crates(&with_own).iter().any(|krate| krate.name == "tare_profiler" && krate.unwind > 0));
    }

    #[test]
    fn another_program_is_no_twin() {
        let twin = this_binary();
        let mut stripped = facts::strip(&twin, None).unwrap();
        let elf = Elf::parse(&stripped).unwrap();
        let at = elf.section(".text").unwrap().offset as usize;
        stripped[at] ^= 1;
        let mut doubts = Vec::new();
        let result = program("bin/app", true, &stripped, Some(&twin), &mut doubts);
        assert_eq!(result.attribution, None);
        let what = "its section .text is another".to_owned();
        assert_eq!(doubts, [SizeDoubt::TwinDiffers { path: "bin/app".to_owned(), what }]);
    }

    #[test]
    fn every_byte_counts_once_even_where_sections_overlap_or_lead_nowhere() {
        let original = this_binary();
        let elf = Elf::parse(&original).unwrap();
        // e_shoff
        let table = elf.word::<8>(0x28).unwrap() as usize;
        // sh_addr, sh_offset and sh_size are 16, 24 and 32 bytes into a header of 64.
        for (name, field, value) in [
            (".text", 16, u64::MAX - 4096),
            (".text", 24, u64::MAX),
            (".symtab", 32, 24 * 100),
            (".strtab", 24, 0),
            (".eh_frame_hdr", 24, 1),
            (".eh_frame", 16, 0),
            (".data.rel.ro", 32, u64::MAX),
        ] {
            let at = elf.sections.iter().position(|section| section.name == name).unwrap();
            let place = table + at * 64 + field;
            let mut changed = original.clone();
            changed[place..place + 8].copy_from_slice(&u64::to_le_bytes(value));
            let result = program("a", false, &changed, None, &mut Vec::new());
            let size = changed.len() as u64;
            assert_eq!(sum(&result), (size, size), "{name} {field} {value}");
        }
    }

    #[test]
    fn damage_is_a_doubt_and_no_panic() {
        let whole = this_binary();
        for bytes in [&b"\x7fELF"[..], b"\x7fELF\x01\x01\x01", &whole[..100], &whole[..whole.len() / 2]] {
            let mut doubts = Vec::new();
            let result = program("a", false, bytes, None, &mut doubts);
            assert_eq!((result.size, doubts.len()), (bytes.len() as u64, 1), "{doubts:?}");
        }
    }
}
