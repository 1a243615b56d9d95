//! The program of an image: its segments, sections, and the crates its bytes belong to.

use std::collections::BTreeMap;

use tare_oci::{audit, elf as facts};

use super::attribution::{Attribution, attribute};
use super::dependencies::{PackageSize, packages};
use super::elf::{Elf, Section, SegmentSize};

/// One section, table of headers, or all the padding between.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SymbolSource {
    /// The program in the image has them.
    Itself,
    /// The same program before it was stripped.
    Unstripped,
}

/// The ELF file that a container starts with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProgramSize {
    /// From the root, without leading slash.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// In the order of the file.
    pub segments: Vec<SegmentSize>,
    /// In the order of the file; then tables and padding.
    pub sections: Vec<SectionSize>,
    /// Where the symbols are from; none when there are none.
    pub symbols: Option<SymbolSource>,
    /// Which crates the bytes belong to, by the symbols. An estimate.
    pub attribution: Option<Attribution>,
    /// The packages that the binary lists in `.dep-v0`; what takes most with it first.
    pub packages: Vec<PackageSize>,
}

/// Looks into a program. `unstripped` is the same one before it was stripped.
///
/// What cannot be found out is left out, with a doubt that says why. Any bytes will do: damage is a doubt too.
pub fn program(path: &str, data: &[u8], unstripped: Option<&[u8]>, doubts: &mut Vec<String>) -> ProgramSize {
    let mut program =
        ProgramSize { path: path.to_owned(), size: data.len() as u64, ..ProgramSize::default() };
    let unreadable = |why: String| format!("/{path} is not looked into: {why}");
    let elf = match Elf::parse(data) {
        Ok(elf) => elf,
        Err(why) => {
            doubts.push(unreadable(why));
            return program;
        }
    };
    program.sections = sections(&elf);
    program.segments.clone_from(&elf.segments);
    let same = |bytes| {
        let unstripped = Elf::parse(bytes)?;
        difference(&elf, &unstripped).map_or(Ok(unstripped), Err)
    };
    let unstripped = unstripped.and_then(|bytes| {
        let why = |what: String| {
            format!("the unstripped binary of /{path} is not the program in the image: {what}; its symbols are not used")
        };
        same(bytes).map_err(|what| doubts.push(why(what))).ok()
    });
    let (named, source) = match &unstripped {
        Some(unstripped) => (unstripped, SymbolSource::Unstripped),
        None => (&elf, SymbolSource::Itself),
    };
    match attribute(&elf, named) {
        Ok(attribution) => {
            program.symbols = attribution.is_some().then_some(source);
            program.attribution = attribution;
        }
        Err(why) => doubts.push(unreadable(why)),
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

/// The first thing in which the unstripped binary is another program: all code and data must be the same, at the same
/// addresses. `strip` and tare's own leave both alone; tables of dynamic symbols are rewritten, for they have
/// the numbers of sections in them.
fn difference(elf: &Elf<'_>, unstripped: &Elf<'_>) -> Option<String> {
    let loaded = |elf: &Elf<'_>| -> Vec<Section> {
        let own = |section: &&Section| section.alloc && matches!(section.kind, SHT_PROGBITS | SHT_NOBITS);
        elf.sections.iter().filter(own).cloned().collect()
    };
    let (own, other) = (loaded(elf), loaded(unstripped));
    if own.is_empty() {
        return Some("the program in the image has no sections to compare".to_owned());
    }
    if own.len() != other.len() {
        return Some(format!("it has {} loaded sections, not {}", other.len(), own.len()));
    }
    own.iter().zip(&other).find_map(|(a, b)| {
        let same = (&a.name, a.address, a.size) == (&b.name, b.address, b.size)
            && (a.nobits || elf.bytes(a) == unstripped.bytes(b));
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
    fn every_byte_counts_once_with_own_symbols_and_with_those_of_the_unstripped_binary() {
        let unstripped = this_binary();
        let stripped = facts::strip(&unstripped, None).unwrap();
        let mut doubts = Vec::new();
        let with_own = program("app", &unstripped, None, &mut doubts);
        let with_unstripped = program("app", &stripped, Some(&unstripped), &mut doubts);
        let without = program("app", &stripped, None, &mut doubts);
        assert_eq!(doubts, Vec::<String>::new());
        assert_eq!(sum(&with_own), (unstripped.len() as u64, unstripped.len() as u64));
        assert_eq!(sum(&with_unstripped), (stripped.len() as u64, stripped.len() as u64));
        assert_eq!(
            (with_own.symbols, with_unstripped.symbols),
            (Some(SymbolSource::Itself), Some(SymbolSource::Unstripped))
        );
        assert_eq!((without.symbols, without.attribution), (None, None));
        assert_eq!(without.sections, with_unstripped.sections);
        // What is loaded is the same, and so are the crates that it belongs to.
        let crates = |program: &ProgramSize| program.attribution.clone().unwrap().crates;
        assert_eq!(crates(&with_own), crates(&with_unstripped));
        assert!(crates(&with_own).iter().any(|krate| krate.name == "tare_profiler" && krate.unwind > 0));
    }

    #[test]
    fn another_program_gives_no_symbols() {
        let unstripped = this_binary();
        let mut stripped = facts::strip(&unstripped, None).unwrap();
        let elf = Elf::parse(&stripped).unwrap();
        let at = elf.section(".text").unwrap().offset as usize;
        stripped[at] ^= 1;
        let mut doubts = Vec::new();
        let result = program("bin/app", &stripped, Some(&unstripped), &mut doubts);
        assert_eq!(result.attribution, None);
        let doubt = "the unstripped binary of /bin/app is not the program in the image: its section .text is another; its symbols are not used";
        assert_eq!(doubts, [doubt]);
    }

    #[test]
    fn every_byte_counts_once_even_where_sections_overlap_or_lead_nowhere() {
        let original = this_binary();
        let elf = Elf::parse(&original).unwrap();
        // e_shoff
        let table = u64::from_le_bytes(*original[0x28..].first_chunk().unwrap()) as usize;
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
            let result = program("a", &changed, None, &mut Vec::new());
            let size = changed.len() as u64;
            assert_eq!(sum(&result), (size, size), "{name} {field} {value}");
        }
    }

    #[test]
    fn damage_is_a_doubt_and_no_panic() {
        let whole = this_binary();
        for bytes in [&b"\x7fELF"[..], b"\x7fELF\x01\x01\x01", &whole[..100], &whole[..whole.len() / 2]] {
            let mut doubts = Vec::new();
            let result = program("a", bytes, None, &mut doubts);
            assert_eq!((result.size, doubts.len()), (bytes.len() as u64, 1), "{doubts:?}");
        }
    }
}
