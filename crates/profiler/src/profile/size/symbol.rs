//! Which crate a symbol belongs to, by its name.

use std::fmt::{self, Write};

/// Longer names are not read. rustc's own limit for what it prints of a type is far below.
pub(super) const NAME_LIMIT: usize = 32 << 10;

/// What a name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// As people read it, without the hash.
    pub(super) function: String,
    /// The crate; none for what is not Rust.
    pub(super) krate: Option<String>,
}

/// Packages of the standard library and what it is linked with.
const STANDARD: [&str; 11] = [
    "std",
    "core",
    "alloc",
    "compiler_builtins",
    "panic_abort",
    "panic_unwind",
    "std_detect",
    "unwind",
    "proc_macro",
    "test",
    "portable_simd",
];

/// Whether a crate comes with the compiler.
pub(super) fn is_standard(krate: &str) -> bool {
    STANDARD.contains(&krate)
}

/// Takes so much text and no more: a few bytes of a v0 name can stand for megabytes.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > NAME_LIMIT {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// Reads the name of a Rust symbol, in the legacy or the v0 mangling (RFC 2603).
pub(super) fn rust(symbol: &str) -> Option<Named> {
    let demangled = rustc_demangle::try_demangle(symbol).ok()?;
    let mut full = Bounded(String::new());
    // C++ mangles in the same way, up to the hash that rustc appends.
    if symbol.trim_start_matches('_').starts_with("ZN") {
        write!(full, "{demangled}").ok()?;
        let (_, hash) = full.0.rsplit_once("::h")?;
        let hash = hash.split('.').next().unwrap_or_default();
        if hash.len() != 16 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        full.0.clear();
    }
    write!(full, "{demangled:#}").ok()?;
    let krate = crate_of(&full.0).map(str::to_owned);
    Some(Named { function: full.0, krate })
}

/// The crate that a demangled name is counted for: the first one named in it, where the standard
/// library's are passed over if any other is named.
///
/// So `<hyper::Body as http_body::Body>::poll` is hyper's, `alloc::vec::Vec<app::Row>::push` is app's
/// (nobody else asked for that copy), and `tokio::spawn::<app::main>` is tokio's. Legacy names seldom
/// have their type parameters: what tokio instantiates for app is then tokio's all the same, and what
/// `Vec` is instantiated for is alloc's.
pub(in crate::profile) fn crate_of(name: &str) -> Option<&str> {
    let mut standard = None;
    for krate in roots(name) {
        if !is_standard(krate) {
            return Some(krate);
        }
        standard = standard.or(Some(krate));
    }
    standard
}

/// The first parts of all paths in a name, in the order of the text.
fn roots(name: &str) -> impl Iterator<Item = &str> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let bytes = name.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let start = at;
            while at < bytes.len() && is_word(bytes[at]) {
                at += 1;
            }
            if at == start {
                at += 1;
                continue;
            }
            // A part of a path that began before: `a::b`, or `<T as Trait>::f`.
            let inner = bytes[..start].ends_with(b"::");
            let leads = bytes[at..].starts_with(b"::");
            if leads && !inner && !bytes[start].is_ascii_digit() && !is_primitive(&name[start..at]) {
                return Some(&name[start..at]);
            }
        }
        None
    })
}

fn is_primitive(word: &str) -> bool {
    const PRIMITIVES: [&str; 18] = [
        "bool", "char", "str", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128",
        "isize", "f32", "f64", "dyn",
    ];
    PRIMITIVES.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_counts_for_the_first_crate_that_is_not_the_standard_library() {
        for (name, krate) in [
            ("tokio::runtime::park::wake", Some("tokio")),
            ("<hyper::Body as http_body::Body>::poll", Some("hyper")),
            ("<alloc::vec::Vec<app::Row>>::push", Some("app")),
            ("core::ptr::drop_in_place::<core::option::Option<bytes::Bytes>>", Some("bytes")),
            ("tokio::spawn::<app::main::{closure#0}>", Some("tokio")),
            ("<&T as core::fmt::Debug>::fmt", Some("core")),
            ("<dyn core::any::Any>::type_id", Some("core")),
            ("core::num::<impl u8>::from_str", Some("core")),
            ("<u8 as serde::Serialize>::serialize", Some("serde")),
            ("<str>::find", None),
            ("main", None),
            ("", None),
        ] {
            assert_eq!(crate_of(name), krate, "{name}");
        }
    }

    #[test]
    fn both_manglings_are_read_and_cpp_is_not_taken_for_rust() {
        for (symbol, expected) in [
            ("_ZN4itoa13DECIMAL_PAIRS17hb17ca2ba7cc42da0E", Some(("itoa::DECIMAL_PAIRS", "itoa"))),
            (
                "_RNvNtNtCsaz6eC2DG7lh_3std9panicking11panic_count18GLOBAL_PANIC_COUNT",
                Some(("std::panicking::panic_count::GLOBAL_PANIC_COUNT", "std")),
            ),
            (
                "_ZN54_$LT$bytes..Bytes$u20$as$u20$core..ops..drop..Drop$GT$4drop17h0123456789abcdefE",
                Some(("<bytes::Bytes as core::ops::drop::Drop>::drop", "bytes")),
            ),
            ("_ZN3foo3barEv", None),
            ("_ZN3foo3barE", None),
            ("_ZN3foo18h0123456789abcdefgE", None),
            ("memcpy", None),
        ] {
            let expected = expected.map(|(function, krate)| Named {
                function: function.to_owned(),
                krate: Some(krate.to_owned()),
            });
            assert_eq!(rust(symbol), expected, "{symbol}");
        }
    }

    #[test]
    fn a_name_that_unfolds_without_end_is_given_up() {
        // Each tuple holds the one before it many times: the text grows eightfold with each.
        let mut name = "_RINvC1a1b".to_owned();
        for _ in 0..12 {
            name.push_str("Tmmmmmmmm");
        }
        assert_eq!(rust(&name), None);
        let folded = format!("_RINvC1a1bT{}E{}E", "m".repeat(64), "B8_".repeat(2000));
        assert!(rust(&folded).is_none_or(|named| named.function.len() <= NAME_LIMIT));
    }
}
