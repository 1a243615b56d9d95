//! Whose bytes a program is made of: every byte counts for one crate, or stays without owner under the
//! name of its section. An estimate, as good as the symbols.
//!
//! Counted for a crate are
//! - what its symbols cover (code and data), by the rule of [`super::symbol::crate_of`];
//! - the unwinding records of its functions (`.eh_frame`, and their entries in `.eh_frame_hdr`);
//! - words that point to its functions, in vtables above all (`.data.rel.ro`, `.got`), and the records that
//!   relocate them;
//! - the places in its source that panics name: the record in `.data.rel.ro` and the path in `.rodata`.
//!
//! The rest (string literals, jump tables, exception tables, debug information, padding) has no owner that
//! could be told without disassembling.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::elf::{Elf, ElfError, Of};
use super::symbol::{self, NAME_LIMIT, Named};

/// All names together that are read of one program.
const TEXT_LIMIT: usize = 512 << 20;
/// Functions that are listed; the sums are of all.
const FUNCTIONS_LISTED: usize = 200;
/// A path of a source file is not longer.
const FILE_NAME_LIMIT: u64 = 1024;
/// Claims on one program; what a file made of pointers claims beyond them stays without owner.
const CLAIMS_LIMIT: usize = 1 << 22;
/// What is counted together when a symbol's name is not Rust's, nor Go's.
pub const NATIVE: &str = "[C, C++ and assembly]";

/// The share of one crate; of Go programs, of one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CrateSize {
    /// As in code, with underscores; [`NATIVE`] for what is not Rust.
    pub name: String,
    /// Bytes of machine code.
    pub code: u64,
    /// Bytes of unwinding records.
    pub unwind: u64,
    /// Bytes of named data, pointers and relocations.
    pub data: u64,
}

impl CrateSize {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.code + self.unwind + self.data
    }
}

/// A function or a piece of data; all copies of a generic one together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionSize {
    /// Without the hash.
    pub name: String,
    /// Whose it is.
    #[serde(rename = "crate")]
    pub krate: String,
    /// Bytes that its symbols cover.
    pub bytes: u64,
    /// How many symbols that were.
    pub copies: u64,
}

/// What a program is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attribution {
    /// Largest first.
    pub crates: Vec<CrateSize>,
    /// The largest, largest first.
    pub functions: Vec<FunctionSize>,
    /// What no crate owns, by section, largest first. With the crates it sums to the file's size.
    pub unattributed: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Code,
    Unwind,
    Data,
}

/// Bytes of the file that somebody owns.
#[derive(Debug, Clone, Copy)]
struct Claim {
    start: u64,
    end: u64,
    krate: usize,
    function: Option<usize>,
    class: Class,
}

/// A symbol's extent in memory, and whose it is.
#[derive(Debug, Clone, Copy)]
struct Extent {
    start: u64,
    end: u64,
    krate: usize,
}

/// Numbers for names, in the order of their first use.
#[derive(Default)]
struct Names(BTreeMap<String, usize>);

impl Names {
    fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.0.get(name) {
            return *number;
        }
        let number = self.0.len();
        self.0.insert(name.to_owned(), number);
        number
    }

    fn into_list(self) -> Vec<String> {
        let mut list = vec![String::new(); self.0.len()];
        for (name, number) in self.0 {
            list[number] = name;
        }
        list
    }
}

struct Book<'a, 'e> {
    elf: &'e Elf<'a>,
    crates: Names,
    claims: Vec<Claim>,
    /// Sorted by address, without overlap.
    extents: Vec<Extent>,
}

/// Attributes `elf`'s bytes by the symbols of `named`: the same program before it was stripped, or itself.
/// None when there are no symbols.
pub(super) fn attribute(elf: &Elf<'_>, named: &Elf<'_>) -> Result<Option<Attribution>, ElfError> {
    let symbols = named.symbols()?;
    if symbols.is_empty() {
        return Ok(None);
    }
    let is_go = named.section(".gopclntab").or_else(|| named.section(".go.buildinfo")).is_some();
    let mut functions = Names::default();
    let mut book = Book { elf, crates: Names::default(), claims: Vec::new(), extents: Vec::new() };
    let mut copies: Vec<u64> = Vec::new();
    let mut text = 0_usize;
    for symbol in symbols {
        let Some((offset, section)) = elf.offset_of(symbol.address) else { continue };
        // No symbol is larger than the section it lies in.
        let left = section.size - (symbol.address - section.address);
        let size = symbol.size.min(left).min(elf.data.len() as u64 - offset);
        let named = name(symbol.name, is_go);
        text += named.function.len();
        if text > TEXT_LIMIT {
            return Err(ElfError::TooMany { what: "bytes of names", count: text });
        }
        let krate = book.crates.number(named.krate.as_deref().unwrap_or(NATIVE));
        let function = functions.number(&named.function);
        copies.resize(copies.len().max(function + 1), 0);
        copies[function] += 1;
        let class = if section.exec { Class::Code } else { Class::Data };
        book.claims.push(Claim { start: offset, end: offset + size, krate, function: Some(function), class });
        if section.exec {
            let end = symbol.address.saturating_add(size);
            book.extents.push(Extent { start: symbol.address, end, krate });
        }
    }
    book.sort_extents();
    book.claim_unwinding();
    book.claim_pointers();
    Ok(Some(book.close(functions, &copies)))
}

fn name(symbol: &[u8], is_go: bool) -> Named {
    let native = |name: &str| Named { function: name.to_owned(), krate: None };
    let Ok(symbol) = std::str::from_utf8(symbol) else {
        return native(&String::from_utf8_lossy(&symbol[..symbol.len().min(NAME_LIMIT)]));
    };
    if symbol.len() > NAME_LIMIT {
        let cut = symbol.floor_char_boundary(256);
        return native(&symbol[..cut]);
    }
    if is_go {
        return symbol::go(symbol).unwrap_or_else(|| native(symbol));
    }
    symbol::rust(symbol).unwrap_or_else(|| native(symbol))
}

impl Book<'_, '_> {
    /// Several symbols may cover the same bytes: aliases, and functions folded into one. The first and
    /// largest stays.
    fn sort_extents(&mut self) {
        self.extents.sort_by_key(|extent| (extent.start, std::cmp::Reverse(extent.end), extent.krate));
        let mut end = 0;
        self.extents.retain(|extent| {
            let keep = extent.start >= end;
            if keep {
                end = extent.end;
            }
            keep
        });
    }

    fn owner(&self, address: u64) -> Option<usize> {
        let after = self.extents.partition_point(|extent| extent.start <= address);
        let extent = self.extents.get(after.checked_sub(1)?)?;
        (address < extent.end).then_some(extent.krate)
    }

    fn claim(&mut self, start: u64, size: u64, krate: usize, class: Class) {
        let end = start.saturating_add(size).min(self.elf.data.len() as u64);
        if self.claims.len() >= CLAIMS_LIMIT {
            return;
        }
        self.claims.push(Claim { start, end, krate, function: None, class });
    }

    /// `.eh_frame_hdr` is a table of functions and the records about them (LSB core, "Exception Frames"),
    /// in the one encoding that linkers write: version 1, 4-byte numbers relative to the table.
    fn claim_unwinding(&mut self) {
        let elf = self.elf;
        let Some(table) = elf.section(".eh_frame_hdr").filter(|section| section.alloc) else { return };
        let bytes = elf.bytes(table);
        // DW_EH_PE_udata4 for the count, DW_EH_PE_datarel | DW_EH_PE_sdata4 for the entries.
        if bytes.len() < 12 || bytes[0] != 1 || bytes[2] != 0x03 || bytes[3] != 0x3b {
            return;
        }
        let relative = |offset: u64| {
            let number = elf.word::<4>(offset)? as u32;
            Some(table.address.wrapping_add_signed(i64::from(number.cast_signed())))
        };
        for entry in 0..(bytes.len() as u64 - 12) / 8 {
            let offset = table.offset + 12 + entry * 8;
            let Some((function, record)) = relative(offset).zip(relative(offset + 4)) else { return };
            let Some(krate) = self.owner(function) else { continue };
            self.claim(offset, 8, krate, Class::Unwind);
            let Some((record, section)) = elf.offset_of(record) else { continue };
            let length = elf.word::<4>(record).unwrap_or(0);
            // 0xffffffff announces a longer length, which nobody writes for a function.
            let end = section.offset.saturating_add(section.size);
            if length < u64::from(u32::MAX) && record + 4 + length <= end {
                self.claim(record, 4 + length, krate, Class::Unwind);
            }
        }
    }

    /// Words that point to a function, or to the path of a source file.
    fn claim_pointers(&mut self) {
        let elf = self.elf;
        if !elf.bits64 {
            return;
        }
        for relocation in elf.relocations() {
            let Some((word, _)) = elf.offset_of(relocation.word) else { continue };
            if let Some(krate) = self.claim_pointer(word, relocation.target) {
                self.claim(relocation.record.0, relocation.record.1, krate, Class::Data);
            }
        }
        for section in &elf.sections {
            let holds_pointers = section.name.starts_with(".data.rel.ro") || section.name.starts_with(".got");
            if !holds_pointers || !section.alloc || section.nobits {
                continue;
            }
            for at in 0..elf.bytes(section).len() as u64 / 8 {
                let offset = section.offset + at * 8;
                if let Some(target) = elf.word::<8>(offset).filter(|target| *target != 0) {
                    self.claim_pointer(offset, target);
                }
            }
        }
    }

    fn claim_pointer(&mut self, word: u64, target: u64) -> Option<usize> {
        if let Some(krate) = self.owner(target) {
            self.claim(word, 8, krate, Class::Data);
            return Some(krate);
        }
        // `core::panic::Location`: a path's address and length, line and column.
        let length = self.elf.word::<8>(word.checked_add(8)?)?;
        if !(4..=FILE_NAME_LIMIT).contains(&length) {
            return None;
        }
        let (start, section) = self.elf.offset_of(target)?;
        if section.exec {
            return None;
        }
        let path = self.elf.data.get(start as usize..(start + length) as usize)?;
        let path = std::str::from_utf8(path).ok().filter(|path| path.ends_with(".rs"))?;
        let krate = self.crates.number(&symbol::crate_of_file(path)?);
        self.claim(word, 24, krate, Class::Data);
        self.claim(start, length, krate, Class::Data);
        Some(krate)
    }

    /// Gives every byte to its first claim, and what is left to its section.
    fn close(mut self, functions: Names, copies: &[u64]) -> Attribution {
        let crate_names = self.crates.into_list();
        let function_names = functions.into_list();
        self.claims.sort_by(|a, b| {
            let function = |claim: &Claim| claim.function.map(|number| &function_names[number]);
            // A name before none: symbols are surer than pointers. Then by text, not by the order in the
            // symbol table.
            let rank = |claim: &Claim| (claim.start, claim.function.is_none(), std::cmp::Reverse(claim.end));
            rank(a).cmp(&rank(b)).then_with(|| function(a).cmp(&function(b)))
        });
        let mut crates: Vec<CrateSize> =
            crate_names.into_iter().map(|name| CrateSize { name, code: 0, unwind: 0, data: 0 }).collect();
        let mut sizes: Vec<(u64, usize)> = vec![(0, 0); function_names.len()];
        let mut owned: Vec<(u64, u64)> = Vec::with_capacity(self.claims.len());
        let mut at = 0;
        for claim in &self.claims {
            let start = claim.start.max(at);
            if let Some(function) = claim.function {
                sizes[function].1 = claim.krate;
            }
            if claim.end <= start {
                continue;
            }
            let bytes = claim.end - start;
            match claim.class {
                Class::Code => crates[claim.krate].code += bytes,
                Class::Unwind => crates[claim.krate].unwind += bytes,
                Class::Data => crates[claim.krate].data += bytes,
            }
            if let Some(function) = claim.function {
                sizes[function].0 += bytes;
            }
            owned.push((start, claim.end));
            at = claim.end;
        }
        let mut functions: Vec<FunctionSize> = function_names
            .into_iter()
            .zip(sizes)
            .zip(copies)
            .filter(|((_, (bytes, _)), _)| *bytes > 0)
            .map(|((name, (bytes, krate)), copies)| FunctionSize {
                name,
                krate: crates[krate].name.clone(),
                bytes,
                copies: *copies,
            })
            .collect();
        functions.sort_by(|a, b| (b.bytes, &a.name).cmp(&(a.bytes, &b.name)));
        functions.truncate(FUNCTIONS_LISTED);
        crates.retain(|krate| krate.total() > 0);
        crates.sort_by(|a, b| (b.total(), &a.name).cmp(&(a.total(), &b.name)));
        Attribution { crates, functions, unattributed: unattributed(self.elf, &owned) }
    }
}

/// Bytes that are in no claim, by the name of their region.
fn unattributed(elf: &Elf<'_>, owned: &[(u64, u64)]) -> BTreeMap<String, u64> {
    let mut left: BTreeMap<Of, u64> = BTreeMap::new();
    let mut next = owned.iter().copied().peekable();
    for region in elf.regions() {
        let mut bytes = region.end - region.start;
        while let Some((start, end)) = next.peek().copied() {
            if start >= region.end {
                break;
            }
            bytes -= end.min(region.end).saturating_sub(start.max(region.start));
            if end > region.end {
                break;
            }
            next.next();
        }
        *left.entry(region.of).or_default() += bytes;
    }
    let mut named = BTreeMap::new();
    for (of, bytes) in left.into_iter().filter(|(_, bytes)| *bytes > 0) {
        *named.entry(elf.region_name(of).to_owned()).or_default() += bytes;
    }
    named
}
