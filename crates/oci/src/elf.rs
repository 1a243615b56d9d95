//! Facts of an ELF file, and the two things done to one: symbols stripped, audit data added.
//!
//! Pure: bytes in, bytes or facts out. What the audit data says is `audit`'s business.

use object::build;
use object::elf;
use object::endian::Endianness;
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _, SectionHeader as _};

/// The section that lists a binary's crates (cargo-auditable, PARSING.md).
pub const AUDIT_SECTION: &str = ".dep-v0";

/// No section is aligned to more: it is the largest page there is.
const MOST_ALIGNED: u64 = 1 << 30;

/// Why bytes are not a usable ELF file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// They do not begin as ELF does.
    #[error("not an ELF file")]
    NotElf,
    /// They begin so, and are damaged.
    #[error("a damaged ELF file: {0}")]
    Damaged(String),
    /// 32 bits.
    #[error("a 32-bit ELF file; images hold 64-bit ones")]
    Not64Bit,
    /// It is no program that Linux starts.
    #[error("{0}, not a program for Linux")]
    NotAProgram(String),
    /// Rewriting it failed.
    #[error("the ELF file cannot be rewritten: {0}")]
    Rewrite(String),
}

/// The processor a binary is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// x86-64.
    Amd64,
    /// AArch64, little-endian.
    Arm64,
    /// Another `e_machine`.
    Other(u16),
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Amd64 => f.write_str("amd64"),
            Self::Arm64 => f.write_str("arm64"),
            Self::Other(number) => write!(f, "e_machine {number}"),
        }
    }
}

/// What matters about a binary that goes into an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What it runs on.
    pub machine: Machine,
    /// The dynamic loader it asks for (PT_INTERP).
    pub interpreter: Option<String>,
    /// The shared libraries it asks for (DT_NEEDED).
    pub needed: Vec<String>,
    /// Folders to search for them (DT_RPATH), separated by colons.
    pub rpath: Option<String>,
    /// The newer form of the same (DT_RUNPATH).
    pub run_path: Option<String>,
    /// Whether it has a symbol table.
    pub symbols: bool,
    /// The length of its audit data, compressed as it is stored.
    pub audit_size: Option<u64>,
}

impl Facts {
    /// Whether it runs without any other file.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.interpreter.is_none() && self.needed.is_empty()
    }
}

/// Reads the facts of a program for Linux.
///
/// # Errors
/// As [`facts`], and when it is another kind of ELF file or one for another system ([`ElfError::NotAProgram`]).
pub fn program(data: &[u8]) -> Result<Facts, ElfError> {
    let facts = facts(data)?;
    let (header, endian) = header(data)?;
    let other = |what: &str| Err(ElfError::NotAProgram(what.to_owned()));
    match header.e_ident().os_abi {
        elf::ELFOSABI_SYSV | elf::ELFOSABI_GNU => {}
        elf::ELFOSABI_FREEBSD => return other("a file for FreeBSD"),
        elf::ELFOSABI_NETBSD => return other("a file for NetBSD"),
        elf::ELFOSABI_OPENBSD => return other("a file for OpenBSD"),
        elf::ELFOSABI_SOLARIS => return other("a file for Solaris"),
        elf::ELFOSABI_STANDALONE => return other("a file for no operating system"),
        abi => return other(&format!("a file for the operating system with the ABI number {}", abi.0)),
    }
    match header.e_type(endian) {
        elf::ET_EXEC => Ok(facts),
        elf::ET_REL => other("a relocatable object, as `cc -c` and `rustc --emit obj` write it"),
        elf::ET_CORE => other("a core dump"),
        // Programs and libraries are of one type: a program names its loader, or is marked as one.
        elf::ET_DYN => {
            let marks = marks(header, endian, data)?;
            let may_start = header.e_entry(endian) != 0 && !marks.has_name;
            if facts.interpreter.is_some() || marks.is_program || may_start {
                Ok(facts)
            } else {
                other("a shared library")
            }
        }
        kind => other(&format!("an ELF file of the type {}", kind.0)),
    }
}

/// What the dynamic section of a position-independent file says about its use.
#[derive(Default)]
struct Marks {
    /// DF_1_PIE in DT_FLAGS_1.
    is_program: bool,
    /// DT_SONAME.
    has_name: bool,
}

fn marks(header: &elf::FileHeader64<Endianness>, endian: Endianness, data: &[u8]) -> Result<Marks, ElfError> {
    let mut marks = Marks::default();
    for segment in header.program_headers(endian, data).map_err(damaged)? {
        for entry in segment.dynamic(endian, data).map_err(damaged)?.into_iter().flatten() {
            let flags = elf::DF_1_PIE.0;
            match entry.tag(endian) {
                elf::DT_FLAGS_1 => marks.is_program |= entry.val(endian) & flags != 0,
                elf::DT_SONAME => marks.has_name = true,
                _ => {}
            }
        }
    }
    Ok(marks)
}

fn header(data: &[u8]) -> Result<(&elf::FileHeader64<Endianness>, Endianness), ElfError> {
    if !data.starts_with(&elf::ELFMAG) {
        return Err(ElfError::NotElf);
    }
    if data.get(..5).is_some_and(|magic| magic == b"\x7fELF\x01") {
        return Err(ElfError::Not64Bit);
    }
    let header = elf::FileHeader64::<Endianness>::parse(data).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    Ok((header, endian))
}

fn damaged(error: object::read::Error) -> ElfError {
    ElfError::Damaged(error.to_string())
}

/// Reads the facts.
///
/// # Errors
/// When the bytes are not a 64-bit ELF file.
pub fn facts(data: &[u8]) -> Result<Facts, ElfError> {
    let (header, endian) = header(data)?;
    let machine = match header.e_machine(endian) {
        elf::EM_X86_64 => Machine::Amd64,
        elf::EM_AARCH64 if header.is_little_endian() => Machine::Arm64,
        other => Machine::Other(other.0),
    };
    let segments = header.program_headers(endian, data).map_err(damaged)?;
    let mut interpreter = None;
    for segment in segments {
        if let Some(path) = segment.interpreter(endian, data).map_err(damaged)? {
            interpreter = Some(String::from_utf8_lossy(path).into_owned());
        }
    }
    let sections = header.sections(endian, data).map_err(damaged)?;
    let (mut needed, mut rpath, mut run_path) = (Vec::new(), None, None);
    if let Some((entries, link)) = sections.dynamic(endian, data).map_err(damaged)? {
        let strings = sections.strings(endian, data, link).map_err(damaged)?;
        for entry in entries {
            let string = || -> Result<String, ElfError> {
                Ok(String::from_utf8_lossy(entry.string(endian, strings).map_err(damaged)?).into_owned())
            };
            match entry.tag(endian) {
                elf::DT_NEEDED => needed.push(string()?),
                elf::DT_RPATH => rpath = Some(string()?),
                elf::DT_RUNPATH => run_path = Some(string()?),
                _ => {}
            }
        }
    }
    let symbols = sections.iter().any(|section| section.sh_type(endian) == elf::SHT_SYMTAB);
    let audit_size = sections
        .section_by_name(endian, AUDIT_SECTION.as_bytes())
        .map(|(_, section)| section.sh_size(endian));
    Ok(Facts { machine, interpreter, needed, rpath, run_path, symbols, audit_size })
}

/// The audit data of a binary, compressed as it is stored.
///
/// # Errors
/// When the bytes are not a 64-bit ELF file.
pub fn audit_data(data: &[u8]) -> Result<Option<&[u8]>, ElfError> {
    let (header, endian) = header(data)?;
    let sections = header.sections(endian, data).map_err(damaged)?;
    match sections.section_by_name(endian, AUDIT_SECTION.as_bytes()) {
        Some((_, section)) => section.data(endian, data).map(Some).map_err(damaged),
        None => Ok(None),
    }
}

/// The name of the section that a byte of the file lies in, if it lies in one.
#[must_use]
pub fn section_at(data: &[u8], offset: u64) -> Option<String> {
    let (header, endian) = header(data).ok()?;
    let sections = header.sections(endian, data).ok()?;
    let lies_in = |section: &&elf::SectionHeader64<Endianness>| {
        let range = section.file_range(endian);
        range.is_some_and(|(start, size)| offset.checked_sub(start).is_some_and(|within| within < size))
    };
    let section = sections.iter().find(lies_in)?;
    let name = sections.section_name(endian, section).ok()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// The binary without symbols and debug information, with audit data.
///
/// Everything that is loaded stays at its offset and address. Of the other sections `.comment` stays,
/// which names the compiler, notes, which probes and tracers look for (`.note.stapsdt`), and audit data that the
/// linker already put there.
///
/// # Errors
/// When the bytes are not a 64-bit ELF file or cannot be rewritten.
pub fn strip(data: &[u8], audit: Option<&[u8]>) -> Result<Vec<u8>, ElfError> {
    header(data)?;
    let rewrite = |error: build::Error| ElfError::Rewrite(error.to_string());
    let mut builder = build::elf::Builder::read64(data).map_err(rewrite)?;
    for symbol in &mut builder.symbols {
        symbol.delete = true;
    }
    let mut audited = false;
    for section in &mut builder.sections {
        // 0 means the same as 1 (System V ABI, "Sections"), but not to the crate, which subtracts from it.
        section.sh_addralign = section.sh_addralign.max(1);
        if !section.sh_addralign.is_power_of_two() || section.sh_addralign > MOST_ALIGNED {
            return Err(ElfError::Rewrite(format!("a section is aligned to {} bytes", section.sh_addralign)));
        }
        // The crate would fill up to there. One without bytes may begin where the next aligned one would.
        if section.is_alloc() && section.sh_offset > data.len() as u64 + MOST_ALIGNED {
            return Err(ElfError::Rewrite(format!("a section begins at byte {}", section.sh_offset)));
        }
        audited |= *section.name == *AUDIT_SECTION.as_bytes();
        let kept = [&b".comment"[..], b".shstrtab", AUDIT_SECTION.as_bytes()];
        let is_note = section.sh_type == elf::SHT_NOTE;
        if !section.is_alloc() && !is_note && !kept.contains(&section.name.as_slice()) {
            section.delete = true;
        }
    }
    builder.delete_orphan_symbols();
    if let (Some(audit), false) = (audit, audited) {
        let section = builder.sections.add();
        section.name = AUDIT_SECTION.as_bytes().into();
        section.sh_type = elf::SHT_PROGBITS;
        section.sh_addralign = 1;
        section.data = build::elf::SectionData::Data(audit.to_vec().into());
    }
    builder.set_section_sizes();
    let mut stripped = Vec::with_capacity(data.len());
    builder.write(&mut stripped).map_err(rewrite)?;
    Ok(stripped)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test binary itself: a dynamic executable with symbols.
    #[expect(clippy::disallowed_methods, reason = "the program of these tests is an ELF file at hand")]
    fn this_binary() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_dynamic_binary_is_told_from_a_static_one() {
        let facts = facts(&this_binary()).unwrap();
        assert!(!facts.is_static() && facts.symbols);
        assert_eq!(facts.interpreter.is_some(), cfg!(not(target_env = "musl")));
        assert_eq!(facts.audit_size, None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn stripping_keeps_what_is_loaded_and_adds_audit_data() {
        let original = this_binary();
        let stripped = strip(&original, Some(b"audit")).unwrap();
        let expected = Facts { symbols: false, audit_size: Some(5), ..facts(&original).unwrap() };
        assert_eq!(facts(&stripped).unwrap(), expected);
        assert_eq!(audit_data(&stripped).unwrap(), Some(&b"audit"[..]));
        let again = strip(&stripped, Some(b"other")).unwrap();
        assert_eq!(again, stripped, "audit data that is there stays");
    }

    #[test]
    fn what_is_not_elf_is_refused() {
        for data in [&b""[..], b"#!/bin/sh\n", &[0; 64]] {
            assert_eq!(facts(data), Err(ElfError::NotElf), "{data:?}");
            assert_eq!(strip(data, None), Err(ElfError::NotElf), "{data:?}");
        }
        assert!(matches!(facts(b"\x7fELF"), Err(ElfError::Damaged(_))));
        assert_eq!(facts(b"\x7fELF\x01\x01\x01"), Err(ElfError::Not64Bit));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_linux_does_not_start_is_refused_by_its_kind() {
        const OS_ABI: usize = 7;
        const TYPE: usize = 16;
        let original = this_binary();
        assert_eq!(program(&original), facts(&original));
        for (at, value, kind) in [
            (OS_ABI, 9, "a file for FreeBSD"),
            (OS_ABI, 2, "a file for NetBSD"),
            (OS_ABI, 12, "a file for OpenBSD"),
            (OS_ABI, 255, "a file for no operating system"),
            (OS_ABI, 97, "a file for the operating system with the ABI number 97"),
            (TYPE, 1, "a relocatable object, as `cc -c` and `rustc --emit obj` write it"),
            (TYPE, 4, "a core dump"),
        ] {
            let mut changed = original.clone();
            changed[at] = value;
            let refused = program(&changed).unwrap_err();
            assert_eq!(refused, ElfError::NotAProgram(kind.to_owned()));
            assert_eq!(refused.to_string(), format!("{kind}, not a program for Linux"));
        }
        // GNU's number, which binaries with indirect functions have.
        let mut gnu = original.clone();
        gnu[OS_ABI] = 3;
        assert!(program(&gnu).is_ok());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_shared_library_is_refused_and_a_static_program_is_not() {
        const ENTRY: usize = 24;
        let mut library = this_binary();
        let (parsed, endian) = header(&library).unwrap();
        let segments = parsed.e_phoff(endian) as usize;
        let count = usize::from(parsed.e_phnum(endian));
        for segment in 0..count {
            let at = segments + 56 * segment;
            // PT_INTERP becomes PT_NULL.
            if library[at..at + 4] == 3_u32.to_le_bytes() {
                library[at..at + 4].fill(0);
            }
        }
        // A position-independent program without a loader, by its mark.
        assert!(program(&library).is_ok());
        // DT_FLAGS_1, without the mark.
        let tag = 0x6fff_fffb_u64.to_le_bytes();
        let found = library.windows(8).enumerate().filter(|(_, window)| *window == tag);
        let places: Vec<usize> = found.map(|(at, _)| at).collect();
        for at in places {
            library[at + 8..at + 16].fill(0);
        }
        assert!(program(&library).is_ok(), "it has an entry point");
        library[ENTRY..ENTRY + 8].fill(0);
        let refused = ElfError::NotAProgram("a shared library".to_owned());
        assert_eq!(program(&library).unwrap_err(), refused);
    }

    /// This binary with another number in the header of one of its sections, stripped.
    #[cfg(target_os = "linux")]
    fn strip_with(section: usize, field: usize, value: u64) -> Result<(), ElfError> {
        let mut changed = this_binary();
        let (header, endian) = header(&changed).unwrap();
        let at = header.e_shoff(endian) as usize + 64 * section + field;
        changed[at..at + 8].copy_from_slice(&value.to_le_bytes());
        strip(&changed, None).map(drop)
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn sections_aligned_to_nothing_or_to_nonsense_do_not_stop_the_process() {
        const SH_ADDRALIGN: usize = 48;
        assert_eq!(strip_with(1, SH_ADDRALIGN, 0), Ok(()));
        for nonsense in [3, 1 << 40] {
            let error = ElfError::Rewrite(format!("a section is aligned to {nonsense} bytes"));
            assert_eq!(strip_with(1, SH_ADDRALIGN, nonsense), Err(error));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn sections_far_beyond_the_file_do_not_stop_the_process() {
        const SH_OFFSET: usize = 24;
        let data = this_binary();
        let (header, endian) = header(&data).unwrap();
        // Some are read, and refused for that; others, as the names of dynamic symbols, only copied.
        let mut refused = 0;
        for section in 1..usize::from(header.e_shnum(endian)) {
            refused += usize::from(strip_with(section, SH_OFFSET, 0x2d_0000_0228).is_err());
        }
        assert!(refused > 10, "{refused}");
    }
}
