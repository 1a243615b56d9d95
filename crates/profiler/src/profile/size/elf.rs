//! An ELF file as regions: every byte of it lies in exactly one section, header, table or gap.
//!
//! Pure, for 64 bits and little endian, as all platforms are that images are run on here. Damaged files end in an error,
//! and files made to waste time or memory are cut off.

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _, Sym as _};

type Header = elf::FileHeader64<LE>;

/// More sections than any linker writes without `-ffunction-sections` in an object file.
const SECTIONS_LIMIT: usize = 1 << 16;
/// Chromium with all symbols has about a million.
const SYMBOLS_LIMIT: usize = 1 << 21;
/// A section with a longer name is known by its beginning.
const SECTION_NAME_LIMIT: usize = 128;

/// A part of the file that is loaded (`PT_LOAD`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSize {
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

/// What was read of a file.
#[derive(Debug)]
pub(super) struct Elf<'a> {
    pub(super) data: &'a [u8],
    pub(super) segments: Vec<SegmentSize>,
    pub(super) sections: Vec<Section>,
    headers: &'a [elf::SectionHeader64<LE>],
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

fn damaged(error: object::read::Error) -> String {
    format!("damaged: {error}")
}

/// The text up to the next NUL, and no more than `limit` bytes of it.
fn text(strings: &[u8], offset: usize, limit: usize) -> &[u8] {
    let rest = strings.get(offset..).unwrap_or_default();
    let rest = &rest[..rest.len().min(limit)];
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    &rest[..end]
}

fn too_many(what: &str, count: usize, limit: usize) -> Result<(), String> {
    if count > limit { Err(format!("it has {count} {what}; no program has that many")) } else { Ok(()) }
}

impl<'a> Elf<'a> {
    /// Reads headers and tables.
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, String> {
        let header = Header::parse(data).map_err(damaged)?;
        // It may be of the other byte order.
        header.endian().map_err(damaged)?;
        let programs = header.program_headers(LE, data).map_err(damaged)?;
        too_many("segments", programs.len(), SECTIONS_LIMIT)?;
        let loads = programs.iter().filter(|segment| segment.p_type(LE) == elf::PT_LOAD);
        let segments = loads
            .map(|segment| {
                let flags = segment.p_flags(LE).0;
                let flag = |bit: u32, letter: char| if flags & bit != 0 { letter } else { '-' };
                SegmentSize {
                    flags: [flag(4, 'r'), flag(2, 'w'), flag(1, 'x')].iter().collect(),
                    file: segment.p_filesz(LE),
                    memory: segment.p_memsz(LE),
                }
            })
            .collect();
        let headers = header.section_headers(LE, data).map_err(damaged)?;
        too_many("sections", headers.len(), SECTIONS_LIMIT)?;
        let names = match headers.is_empty() {
            true => &[],
            false => {
                let at = header.shstrndx(LE, data).map_err(damaged)? as usize;
                headers.get(at).and_then(|section| section.data(LE, data).ok()).unwrap_or_default()
            }
        };
        let sections: Vec<Section> = headers
            .iter()
            .map(|section| {
                let name = text(names, section.sh_name(LE) as usize, SECTION_NAME_LIMIT);
                let flags = section.sh_flags(LE).0;
                let kind = section.sh_type(LE);
                Section {
                    name: String::from_utf8_lossy(name).into_owned(),
                    address: section.sh_addr(LE),
                    offset: section.sh_offset(LE),
                    size: section.sh_size(LE),
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
            table("[ELF header]", 0, size_of::<Header>() as u64),
            table("[program headers]", header.e_phoff(LE), size_of_val(programs) as u64),
            table("[section headers]", header.e_shoff(LE), size_of_val(headers) as u64),
        ];
        Ok(Self { data, segments, sections, headers, loaded, tables })
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
    pub(super) fn symbols(&self) -> Result<Vec<Symbol<'a>>, String> {
        let Some(table) = self.headers.iter().find(|header| header.sh_type(LE) == elf::SHT_SYMTAB) else {
            return Ok(Vec::new());
        };
        let symbols: &[elf::Sym64<LE>] = table.data_as_array(LE, self.data).map_err(damaged)?;
        too_many("symbols", symbols.len(), SYMBOLS_LIMIT)?;
        let strings = self.headers.get(table.sh_link(LE) as usize);
        let strings = strings.and_then(|strings| strings.data(LE, self.data).ok()).unwrap_or_default();
        let wanted = [elf::STT_FUNC, elf::STT_OBJECT, elf::STT_GNU_IFUNC, elf::STT_NOTYPE];
        let symbols = symbols.iter().filter(|symbol| {
            wanted.contains(&symbol.st_type())
                && !symbol.is_undefined(LE)
                && !symbol.is_absolute(LE)
                && symbol.st_size(LE) > 0
        });
        Ok(symbols
            .map(|symbol| Symbol {
                // One more than is ever read, so that a cut name is known as one.
                name: text(strings, symbol.st_name(LE) as usize, super::symbol::NAME_LIMIT + 1),
                address: symbol.st_value(LE),
                size: symbol.st_size(LE),
            })
            .collect())
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

    /// A number of 4 bytes at an offset of the file.
    pub(super) fn word(&self, offset: u64) -> Option<u32> {
        let rest = self.data.get(usize::try_from(offset).ok()?..)?;
        rest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }
}
