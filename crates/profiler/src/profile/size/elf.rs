//! An ELF file as regions: every byte of it lies in exactly one section, header, table or gap.
//!
//! Pure, for 32 and 64 bits and both byte orders. Damaged files end in an error, and files made to waste
//! time or memory are cut off.

use object::elf;
use object::endian::Endianness;
use object::read::elf::{FileHeader, ProgramHeader as _, Rela as _, SectionHeader as _, Sym as _};
use serde::{Deserialize, Serialize};

/// More sections than any linker writes without `-ffunction-sections` in an object file.
const SECTIONS_LIMIT: usize = 1 << 16;
/// Chromium with all symbols has about a million.
const SYMBOLS_LIMIT: usize = 1 << 21;
/// A section with a longer name is known by its beginning.
const SECTION_NAME_LIMIT: usize = 128;

/// Why a program was not looked into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ElfError {
    /// It does not follow the format.
    #[error("damaged: {0}")]
    Damaged(String),
    /// More sections, segments or symbols than any linker writes.
    #[error("it has {count} {what}; no program has that many")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
    },
}

/// One program header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentSize {
    /// `LOAD`, `DYNAMIC`, `TLS`, … as readelf has it.
    pub kind: String,
    /// `rwx`, with `-` for what is missing.
    pub flags: String,
    /// Bytes in the file.
    pub file: u64,
    /// Bytes in memory.
    pub memory: u64,
}

/// A section, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) address: u64,
    pub(super) offset: u64,
    /// As the header has it: bytes in the file, or in memory alone (`.bss`).
    pub(super) size: u64,
    pub(super) kind: u32,
    /// Whether it has no bytes in the file.
    pub(super) nobits: bool,
    /// Whether it is loaded into memory.
    pub(super) alloc: bool,
    pub(super) exec: bool,
    pub(super) tls: bool,
}

impl Section {
    /// Where it lies in the file, cut at the file's end.
    pub(super) fn range(&self, file: u64) -> (u64, u64) {
        if self.nobits {
            return (0, 0);
        }
        let start = self.offset.min(file);
        (start, self.offset.saturating_add(self.size).min(file))
    }
}

/// Something with a name, a place and a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Symbol<'a> {
    pub(super) name: &'a [u8],
    pub(super) address: u64,
    pub(super) size: u64,
}

/// A word that is filled in when the program is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Relocation {
    /// Where its record lies in the file, and how long it is.
    pub(super) record: (u64, u64),
    /// The word's address.
    pub(super) word: u64,
    /// What it will point to.
    pub(super) target: u64,
}

/// What was read of a file.
#[derive(Debug)]
pub(super) struct Elf<'a> {
    pub(super) data: &'a [u8],
    pub(super) endian: Endianness,
    pub(super) bits64: bool,
    pub(super) machine: u16,
    pub(super) segments: Vec<SegmentSize>,
    pub(super) sections: Vec<Section>,
    pub(super) build_id: Option<Vec<u8>>,
    /// Of the sections with bytes in memory and file the numbers, by address.
    loaded: Vec<usize>,
    /// Header, program headers and section headers: name, start and end.
    tables: [(&'static str, u64, u64); 3],
}

/// A part of the file that no other region has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) of: Of,
}

/// What a region belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    /// By its number.
    Section(usize),
    /// By its name.
    Table(&'static str),
    /// Nothing: what aligns the rest.
    Gap,
}

fn damaged(error: object::read::Error) -> ElfError {
    ElfError::Damaged(error.to_string())
}

/// The text up to the next NUL, and no more than `limit` bytes of it.
fn text(strings: &[u8], offset: usize, limit: usize) -> &[u8] {
    let rest = strings.get(offset..).unwrap_or_default();
    let rest = &rest[..rest.len().min(limit)];
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    &rest[..end]
}

fn too_many(what: &'static str, count: usize, limit: usize) -> Result<(), ElfError> {
    if count > limit { Err(ElfError::TooMany { what, count }) } else { Ok(()) }
}

impl<'a> Elf<'a> {
    /// Reads headers and tables.
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, ElfError> {
        // EI_CLASS
        match data.get(4) {
            Some(1) => Self::parse_as::<elf::FileHeader32<Endianness>>(data, false),
            _ => Self::parse_as::<elf::FileHeader64<Endianness>>(data, true),
        }
    }

    fn parse_as<H: FileHeader<Endian = Endianness>>(data: &'a [u8], bits64: bool) -> Result<Self, ElfError> {
        let header = H::parse(data).map_err(damaged)?;
        let endian = header.endian().map_err(damaged)?;
        let programs = header.program_headers(endian, data).map_err(damaged)?;
        too_many("segments", programs.len(), SECTIONS_LIMIT)?;
        let segments = programs
            .iter()
            .map(|segment| {
                let flags = segment.p_flags(endian).0;
                let flag = |bit: u32, letter: char| if flags & bit != 0 { letter } else { '-' };
                SegmentSize {
                    kind: segment_kind(segment.p_type(endian).0),
                    flags: [flag(4, 'r'), flag(2, 'w'), flag(1, 'x')].iter().collect(),
                    file: segment.p_filesz(endian).into(),
                    memory: segment.p_memsz(endian).into(),
                }
            })
            .collect();
        let headers = header.section_headers(endian, data).map_err(damaged)?;
        too_many("sections", headers.len(), SECTIONS_LIMIT)?;
        let names = match headers.is_empty() {
            true => &[],
            false => {
                let at = header.shstrndx(endian, data).map_err(damaged)? as usize;
                headers.get(at).and_then(|section| section.data(endian, data).ok()).unwrap_or_default()
            }
        };
        let mut build_id = None;
        let sections: Vec<Section> = headers
            .iter()
            .map(|section| {
                let name = text(names, section.sh_name(endian) as usize, SECTION_NAME_LIMIT);
                if name == b".note.gnu.build-id" {
                    build_id = section.data(endian, data).ok().map(<[u8]>::to_vec);
                }
                let flags: u64 = section.sh_flags(endian).0;
                let kind = section.sh_type(endian);
                Section {
                    name: String::from_utf8_lossy(name).into_owned(),
                    address: section.sh_addr(endian).into(),
                    offset: section.sh_offset(endian).into(),
                    size: section.sh_size(endian).into(),
                    kind: kind.0,
                    nobits: kind == elf::SHT_NOBITS || kind == elf::SHT_NULL,
                    alloc: flags & elf::SHF_ALLOC.0 != 0,
                    exec: flags & elf::SHF_EXECINSTR.0 != 0,
                    tls: flags & elf::SHF_TLS.0 != 0,
                }
            })
            .collect();
        // Thread-local sections have addresses, but nothing lies there.
        let is_loaded =
            |section: &Section| section.alloc && !section.nobits && !section.tls && section.size > 0;
        let mut loaded: Vec<usize> = (0..sections.len()).filter(|at| is_loaded(&sections[*at])).collect();
        loaded.sort_by_key(|at| sections[*at].address);
        let length = data.len() as u64;
        let table = |name, offset: u64, size: u64| {
            (name, offset.min(length), offset.saturating_add(size).min(length))
        };
        let tables = [
            table("[ELF header]", 0, size_of::<H>() as u64),
            table("[program headers]", header.e_phoff(endian).into(), size_of_val(programs) as u64),
            table("[section headers]", header.e_shoff(endian).into(), size_of_val(headers) as u64),
        ];
        let machine = header.e_machine(endian).0;
        Ok(Self { data, endian, bits64, machine, segments, sections, build_id, loaded, tables })
    }

    /// The bytes of a section, cut at the file's end.
    pub(super) fn bytes(&self, section: &Section) -> &'a [u8] {
        let (start, end) = section.range(self.data.len() as u64);
        self.data.get(start as usize..end as usize).unwrap_or_default()
    }

    /// The first section of this name.
    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The file in regions that touch each other and do not overlap, from the first byte to the last.
    /// Where sections overlap, which only damaged files have, the byte is the first one's.
    pub(super) fn regions(&self) -> Vec<Region> {
        let length = self.data.len() as u64;
        let sections = self.sections.iter().enumerate().map(|(at, section)| {
            let (start, end) = section.range(length);
            Region { start, end, of: Of::Section(at) }
        });
        let tables = self.tables.iter().map(|(name, start, end)| Region {
            start: *start,
            end: *end,
            of: Of::Table(name),
        });
        let mut claimed: Vec<Region> =
            sections.chain(tables).filter(|region| region.start < region.end).collect();
        claimed.sort_by_key(|region| (region.start, region.end, region.of));
        let mut regions = Vec::with_capacity(claimed.len() * 2);
        let mut at = 0;
        for region in claimed {
            if region.start > at {
                regions.push(Region { start: at, end: region.start, of: Of::Gap });
            }
            let start = region.start.max(at);
            if region.end > start {
                regions.push(Region { start, ..region });
                at = region.end;
            }
        }
        if at < length {
            regions.push(Region { start: at, end: length, of: Of::Gap });
        }
        regions
    }

    /// What a region is called.
    pub(super) fn region_name(&self, of: Of) -> &str {
        match of {
            Of::Section(at) => &self.sections[at].name,
            Of::Table(name) => name,
            Of::Gap => "[padding]",
        }
    }

    /// Every named thing with a size. Thread-local ones are left out: their address is an offset.
    pub(super) fn symbols(&self) -> Result<Vec<Symbol<'a>>, ElfError> {
        if self.bits64 {
            self.symbols_as::<elf::FileHeader64<Endianness>>()
        } else {
            self.symbols_as::<elf::FileHeader32<Endianness>>()
        }
    }

    fn symbols_as<H: FileHeader<Endian = Endianness>>(&self) -> Result<Vec<Symbol<'a>>, ElfError> {
        let Some(table) = self.sections.iter().position(|section| section.kind == elf::SHT_SYMTAB.0) else {
            return Ok(Vec::new());
        };
        let endian = self.endian;
        let header = H::parse(self.data).map_err(damaged)?;
        let headers = header.section_headers(endian, self.data).map_err(damaged)?;
        let symbols: &[H::Sym] = headers[table].data_as_array(endian, self.data).map_err(damaged)?;
        too_many("symbols", symbols.len(), SYMBOLS_LIMIT)?;
        let link = headers[table].sh_link(endian) as usize;
        let strings = headers.get(link).and_then(|s| s.data(endian, self.data).ok()).unwrap_or_default();
        let wanted = [elf::STT_FUNC, elf::STT_OBJECT, elf::STT_GNU_IFUNC, elf::STT_NOTYPE];
        let symbols = symbols.iter().filter(|symbol| {
            wanted.contains(&symbol.st_type())
                && !symbol.is_undefined(endian)
                && !symbol.is_absolute(endian)
                && symbol.st_size(endian).into() > 0
        });
        Ok(symbols
            .map(|symbol| Symbol {
                // One more than is ever read, so that a cut name is known as one.
                name: text(strings, symbol.st_name(endian) as usize, super::symbol::NAME_LIMIT + 1),
                address: symbol.st_value(endian).into(),
                size: symbol.st_size(endian).into(),
            })
            .collect())
    }

    /// The relocations that only add the address where the program is loaded, of 64-bit files with
    /// addends. (Those packed as RELR, and programs that cannot be moved, have the target in the word.)
    pub(super) fn relocations(&self) -> Vec<Relocation> {
        let relative = match self.machine {
            machine if machine == elf::EM_X86_64.0 => elf::R_X86_64_RELATIVE,
            machine if machine == elf::EM_AARCH64.0 => elf::R_AARCH64_RELATIVE,
            _ => return Vec::new(),
        };
        let mut relocations = Vec::new();
        let tables = self.sections.iter().filter(|s| s.kind == elf::SHT_RELA.0 && s.alloc && self.bits64);
        for section in tables {
            let bytes = self.bytes(section);
            let count = bytes.len() / size_of::<elf::Rela64<Endianness>>();
            let Ok((records, _)) = object::pod::slice_from_bytes::<elf::Rela64<Endianness>>(bytes, count)
            else {
                continue;
            };
            for (at, record) in records.iter().enumerate().take(SYMBOLS_LIMIT) {
                if record.r_type(self.endian, false) == relative {
                    let size = size_of_val(record) as u64;
                    relocations.push(Relocation {
                        record: (section.offset + at as u64 * size, size),
                        word: record.r_offset(self.endian),
                        target: record.r_addend(self.endian).cast_unsigned(),
                    });
                }
            }
        }
        relocations
    }

    /// Where an address of memory lies in the file.
    pub(super) fn offset_of(&self, address: u64) -> Option<(u64, &Section)> {
        let after = self.loaded.partition_point(|at| self.sections[*at].address <= address);
        let section = &self.sections[self.loaded[after.checked_sub(1)?]];
        if address - section.address >= section.size {
            return None;
        }
        let offset = section.offset.checked_add(address - section.address)?;
        (offset < self.data.len() as u64).then_some((offset, section))
    }

    /// A number of 4 or 8 bytes at an offset of the file.
    pub(super) fn word<const N: usize>(&self, offset: u64) -> Option<u64> {
        let start = usize::try_from(offset).ok()?;
        let bytes = self.data.get(start..start.checked_add(N)?)?;
        let mut wide = [0; 8];
        if self.endian == Endianness::Little {
            wide[..N].copy_from_slice(bytes);
            Some(u64::from_le_bytes(wide))
        } else {
            wide[8 - N..].copy_from_slice(bytes);
            Some(u64::from_be_bytes(wide))
        }
    }
}

/// Names as in readelf, without `GNU_` and the like being translated.
fn segment_kind(kind: u32) -> String {
    let known = match elf::ProgramType(kind) {
        elf::PT_NULL => "NULL",
        elf::PT_LOAD => "LOAD",
        elf::PT_DYNAMIC => "DYNAMIC",
        elf::PT_INTERP => "INTERP",
        elf::PT_NOTE => "NOTE",
        elf::PT_PHDR => "PHDR",
        elf::PT_TLS => "TLS",
        elf::PT_GNU_EH_FRAME => "GNU_EH_FRAME",
        elf::PT_GNU_STACK => "GNU_STACK",
        elf::PT_GNU_RELRO => "GNU_RELRO",
        elf::PT_GNU_PROPERTY => "GNU_PROPERTY",
        _ => return format!("{kind:#x}"),
    };
    known.to_owned()
}
