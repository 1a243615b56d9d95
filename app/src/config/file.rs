//! The file: TOML, of which settings need no more than names and single values. Pure: text goes in.

use toml::de::{DeTable, DeValue};

/// `name = value`, or whatever else names something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment<'a> {
    pub(super) name: String,
    /// The text that the setting's own reader takes; none for tables, lists and what else no setting is.
    pub(super) value: Option<String>,
    /// The value as it stands in the file.
    pub(super) written: &'a str,
    /// Where the name begins, in bytes.
    pub(super) at: usize,
}

/// Reads the assignments, in the order of their names.
///
/// # Errors
/// With the place in bytes and what is wrong, when it is no TOML, or names something twice.
pub(super) fn assignments(text: &str) -> Result<Vec<Assignment<'_>>, (usize, String)> {
    let table = DeTable::parse(text).map_err(|error| {
        // The parser's message may go over several lines.
        let message = error.message().split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        (error.span().map_or(0, |span| span.start), message)
    })?;
    let found = table
        .into_inner()
        .into_iter()
        .map(|(name, value)| {
            let written = text.get(value.span()).unwrap_or_default();
            let value = match value.into_inner() {
                DeValue::String(value) => Some(value.into_owned()),
                // As it is written, so that no other notation of a number is taken.
                DeValue::Integer(_) | DeValue::Boolean(_) => Some(written.to_owned()),
                _ => None,
            };
            Assignment { at: name.span().start, name: name.into_inner().into_owned(), value, written }
        })
        .collect();
    Ok(found)
}
