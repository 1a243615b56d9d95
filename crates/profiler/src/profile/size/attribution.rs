//! Which crate the bytes of a program belong to: every byte counts for one crate, or stays unattributed under the
//! name of its section. An estimate, as good as the symbols.
//!
//! Counted for a crate are
//! - what its symbols cover (code and data), by the rule of [`super::symbol::crate_of`];
//! - the unwinding records of its functions (`.eh_frame`, and their entries in `.eh_frame_hdr`).
//!
//! The rest (vtables and other tables of pointers, string literals, jump tables, exception tables, relocations, debug
//! information, padding) is unattributed.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::elf::{Elf, Of};
use super::symbol::{self, NAME_LIMIT, Named};

/// All names together that are read of one program.
const TEXT_LIMIT: usize = 512 << 20;
/// Functions that are listed; the sums are of all.
const FUNCTIONS_LISTED: usize = 200;
/// Entries of the table of unwinding records that are read; what a hostile file has beyond them stays unattributed.
const RECORDS_LIMIT: u64 = 1 << 22;
/// What is counted together when a symbol's name is not Rust's.
pub const NATIVE: &str = "[C, C++ and assembly]";

/// The share of one crate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrateSize {
    /// As in code, with underscores; [`NATIVE`] for what is not Rust.
    pub name: String,
    /// Bytes of machine code.
    pub code: u64,
    /// Bytes of unwinding records.
    pub unwind: u64,
    /// Bytes of named data.
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FunctionSize {
    /// Without the hash.
    pub name: String,
    /// The crate that it belongs to.
    pub krate: String,
    /// Bytes that its symbols cover.
    pub bytes: u64,
    /// How many symbols that were.
    pub copies: u64,
}

/// What a program is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    Data,
    Unwind,
}

/// Bytes of the file that belong to a symbol, given by its number.
#[derive(Debug, Clone, Copy)]
struct Claim {
    start: u64,
    end: u64,
    symbol: usize,
    class: Class,
}

/// Attributes `elf`'s bytes by the symbols of `named`: the same program before it was stripped, or itself.
/// None when there are no symbols.
pub(super) fn attribute(elf: &Elf<'_>, named: &Elf<'_>) -> Result<Option<Attribution>, String> {
    let symbols = named.symbols()?;
    if symbols.is_empty() {
        return Ok(None);
    }
    let (mut names, mut claims, mut extents) = (Vec::new(), Vec::new(), Vec::new());
    let mut text = 0_usize;
    for symbol in symbols {
        let Some((offset, section)) = elf.offset_of(symbol.address) else { continue };
        // No symbol is larger than the section it lies in.
        let left = section.size - (symbol.address - section.address);
        let size = symbol.size.min(left).min(elf.data.len() as u64 - offset);
        let name = name(symbol.name);
        text += name.function.len();
        if text > TEXT_LIMIT {
            return Err(format!("its names have more than {TEXT_LIMIT} bytes"));
        }
        let class = if section.exec { Class::Code } else { Class::Data };
        claims.push(Claim { start: offset, end: offset + size, symbol: names.len(), class });
        if section.exec {
            extents.push((symbol.address, symbol.address.saturating_add(size), names.len()));
        }
        names.push(name);
    }
    claim_unwinding(elf, extents, &mut claims);
    // Symbols are surer than records. Then by text, not by the order in the symbol table.
    let rank = |claim: &Claim| (claim.start, claim.class == Class::Unwind, Reverse(claim.end));
    let function = |claim: &Claim| &names[claim.symbol].function;
    claims.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| function(a).cmp(function(b))));
    Ok(Some(sums(elf, &names, &claims)))
}

pub(super) fn name(symbol: &[u8]) -> Named {
    let native = |name: &str| Named { function: name.to_owned(), krate: None };
    match std::str::from_utf8(symbol) {
        Err(_) => native(&String::from_utf8_lossy(&symbol[..symbol.len().min(NAME_LIMIT)])),
        Ok(symbol) if symbol.len() > NAME_LIMIT => native(&symbol[..symbol.floor_char_boundary(256)]),
        Ok(symbol) => symbol::rust(symbol).unwrap_or_else(|| native(symbol)),
    }
}

/// `.eh_frame_hdr` is a table of functions and the records about them (LSB core, "Exception Frames"),
/// in the one encoding that linkers write: version 1, 4-byte numbers relative to the table. `extents` are the
/// functions in memory: from, to, the number of the symbol.
fn claim_unwinding(elf: &Elf<'_>, mut extents: Vec<(u64, u64, usize)>, claims: &mut Vec<Claim>) {
    let Some(table) = elf.section(".eh_frame_hdr").filter(|section| section.alloc) else { return };
    let bytes = elf.bytes(table);
    // DW_EH_PE_udata4 for the count, DW_EH_PE_datarel | DW_EH_PE_sdata4 for the entries.
    if bytes.len() < 12 || bytes[0] != 1 || bytes[2] != 0x03 || bytes[3] != 0x3b {
        return;
    }
    // Several symbols may cover the same bytes: aliases, and functions folded into one. The largest stays.
    extents.sort_by_key(|(start, end, symbol)| (*start, Reverse(*end), *symbol));
    let mut covered = 0;
    extents.retain(|(start, end, _)| {
        let keep = *start >= covered;
        covered = if keep { *end } else { covered };
        keep
    });
    let owner = |address: u64| {
        let after = extents.partition_point(|(start, ..)| *start <= address);
        let (_, end, symbol) = extents.get(after.checked_sub(1)?)?;
        (address < *end).then_some(*symbol)
    };
    let relative = |offset: u64| {
        let number = elf.word(offset)?.cast_signed();
        Some(table.address.wrapping_add_signed(number.into()))
    };
    let file = elf.data.len() as u64;
    for entry in 0..((bytes.len() as u64 - 12) / 8).min(RECORDS_LIMIT) {
        let offset = table.offset + 12 + entry * 8;
        let Some((function, record)) = relative(offset).zip(relative(offset + 4)) else { return };
        let Some(symbol) = owner(function) else { continue };
        claims.push(Claim { start: offset, end: offset + 8, symbol, class: Class::Unwind });
        let Some((start, section)) = elf.offset_of(record) else { continue };
        let length = elf.word(start).unwrap_or(0);
        let end = start + 4 + u64::from(length);
        // The greatest length announces a longer one, which nobody writes for a function.
        if length < u32::MAX && end <= section.offset.saturating_add(section.size).min(file) {
            claims.push(Claim { start, end, symbol, class: Class::Unwind });
        }
    }
}

/// Gives every byte to its first claim, and what is left to its section.
fn sums(elf: &Elf<'_>, names: &[Named], claims: &[Claim]) -> Attribution {
    let mut crates: BTreeMap<&str, CrateSize> = BTreeMap::new();
    let mut functions: BTreeMap<&str, FunctionSize> = BTreeMap::new();
    let mut owned: Vec<(u64, u64)> = Vec::with_capacity(claims.len());
    let mut at = 0;
    for claim in claims {
        let Named { function, krate } = &names[claim.symbol];
        let krate = krate.as_deref().unwrap_or(NATIVE);
        let start = claim.start.max(at);
        let bytes = claim.end.saturating_sub(start);
        let share = crates.entry(krate).or_default();
        match claim.class {
            Class::Code => share.code += bytes,
            Class::Data => share.data += bytes,
            Class::Unwind => share.unwind += bytes,
        }
        if claim.class != Class::Unwind {
            let row = functions.entry(function).or_default();
            krate.clone_into(&mut row.krate);
            row.bytes += bytes;
            row.copies += 1;
        }
        if bytes > 0 {
            owned.push((start, claim.end));
            at = claim.end;
        }
    }
    let mut crates: Vec<CrateSize> =
        crates.into_iter().map(|(name, share)| CrateSize { name: name.to_owned(), ..share }).collect();
    crates.retain(|krate| krate.total() > 0);
    crates.sort_by_key(|krate| Reverse(krate.total()));
    let mut functions: Vec<FunctionSize> =
        functions.into_iter().map(|(name, row)| FunctionSize { name: name.to_owned(), ..row }).collect();
    functions.retain(|function| function.bytes > 0);
    functions.sort_by_key(|function| Reverse(function.bytes));
    functions.truncate(FUNCTIONS_LISTED);
    Attribution { crates, functions, unattributed: unattributed(elf, &owned) }
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
