//! TOML files that people write. Every value has a place, so that errors name file, line and column. An unknown key is
//! reported with the most similar known key.
//!
//! The keys are defined by each kind of file: image.toml and profiles.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
pub use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A definition that cannot be used, with the place in its file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}:{line}:{column}: {message}", path = path.display())]
pub struct DefinitionError {
    /// The file.
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The fault.
    pub message: String,
    /// What to do, if that is known.
    pub hint: Option<String>,
}

/// A place in a definition, for messages: both count from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A definition's text and the places in it.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    path: &'a Path,
    text: &'a str,
}

impl<'a> Places<'a> {
    /// The text of the file at `path`, which is only named in errors.
    #[must_use]
    pub fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text }
    }

    /// Reads the text into its raw form.
    ///
    /// # Errors
    /// When it is not TOML, has unknown keys, or values that their types refuse.
    pub fn read<T: de::DeserializeOwned>(&self) -> Result<T, DefinitionError> {
        toml::from_str(self.text).map_err(|error| self.toml_error(&error))
    }

    /// An error about the value at these bytes of the text.
    #[must_use]
    pub fn error(&self, span: Range<usize>, message: impl Into<String>) -> DefinitionError {
        let Position { line, column } = self.position(span.start);
        DefinitionError { path: self.path.to_path_buf(), line, column, message: message.into(), hint: None }
    }

    /// The place of a key, given as the keys and numbers of list items that lead to it; of the last one that is written
    /// where the others are not.
    #[must_use]
    pub fn key(&self, path: &[String]) -> Range<usize> {
        let mut place = 0..0;
        let document = DeTable::parse(self.text).ok().map(|table| DeValue::Table(table.into_inner()));
        let mut value = document.as_ref();
        for part in path {
            value = match (value, part.parse::<usize>()) {
                (Some(DeValue::Array(list)), Ok(number)) => list.get(number).map(Spanned::get_ref),
                // A list may be written as its only item.
                (Some(DeValue::Table(_)), Ok(_)) => value,
                (Some(DeValue::Table(table)), Err(_)) => {
                    let found = table.iter().find(|(key, _)| key.get_ref() == part);
                    place = found.map_or(place, |(key, _)| key.span());
                    found.map(|(_, value)| value.get_ref())
                }
                _ => None,
            }
        }
        place
    }

    /// Where a byte of the text is.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }

    /// An error about an unknown key, with the key that may have been meant.
    #[must_use]
    pub fn unknown(
        &self,
        span: Range<usize>,
        kind: &str,
        unknown: &str,
        known: &[String],
    ) -> DefinitionError {
        let mut error = self.error(span, format!("unknown {kind} `{unknown}`"));
        error.hint = Some(match nearest(unknown, known) {
            Some(nearest) => format!("did you mean `{nearest}`? the {kind}s here are {}", known.join(", ")),
            None => format!("the {kind}s here are {}", known.join(", ")),
        });
        error
    }

    fn toml_error(&self, error: &toml::de::Error) -> DefinitionError {
        let message = error.message().trim().replace('\n', "; ");
        let span = error.span().unwrap_or(0..0);
        match unknown_key(&message) {
            Some((unknown, known)) => self.unknown(span, "key", &unknown, &known),
            None => self.error(span, message),
        }
    }
}

/// The key and the known keys in serde's message about an unknown one
/// (`serde::de::Error::unknown_field`).
fn unknown_key(message: &str) -> Option<(String, Vec<String>)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    Some((quoted.next()?.to_owned(), quoted.map(str::to_owned).collect()))
}

/// The most similar name, if any is similar.
#[must_use]
pub fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let similarity = |other: &String| strsim::jaro_winkler(name, other);
    let best = known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    // Short names are alike by chance: cargo too suggests only what a third of the letters changes.
    let few = strsim::osa_distance(name, best) <= name.chars().count().max(3) / 3;
    let begins = name.starts_with(best.as_str()) || best.starts_with(name);
    (similarity(best) > 0.75 && (few || begins)).then_some(best.as_str())
}

/// The names in a hint that names more.
const SHOWN: usize = 20;

/// A hint about a name that is not among those that are known: the most similar one, and which there are.
#[must_use]
pub fn suggestion(name: &str, known: &[String]) -> String {
    let meant = nearest(name, known).map(|name| format!("did you mean `{name}`?"));
    let mut list = format!("there are: {}", known.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "));
    if known.len() > SHOWN {
        list.push_str(&format!(" and {} more", known.len() - SHOWN));
    }
    match (meant, known.len()) {
        (Some(meant), 1) => meant,
        (Some(meant), _) => format!("{meant} {list}"),
        (None, _) => list,
    }
}

/// A string in the form that its type parses.
#[derive(Debug, Clone)]
pub struct Parsed<T>(pub T);

impl<'de, T> Deserialize<'de> for Parsed<T>
where
    T: FromStr<Err: fmt::Display>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text { numbers: false, form: PhantomData }).map(Self)
    }
}

/// The same where a number can only mean one thing, as for a port or a user id. (A mode is not such a
/// place: TOML would read 755 in decimal.)
#[derive(Debug, Clone)]
pub struct ParsedOrNumber<T>(pub T);

impl<'de, T> Deserialize<'de> for ParsedOrNumber<T>
where
    T: FromStr<Err: fmt::Display>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text { numbers: true, form: PhantomData }).map(Self)
    }
}

struct Text<T> {
    numbers: bool,
    form: PhantomData<T>,
}

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.numbers { "a string or a number" } else { "a string" })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        if self.numbers {
            number.to_string().parse().map_err(E::custom)
        } else {
            Err(E::invalid_type(de::Unexpected::Signed(number), &self))
        }
    }
}

/// Environment variables: a table, which is ordered by name, or a list of `NAME=VALUE` as the image spec
/// has it, which keeps its order.
#[derive(Debug, Clone, Default)]
pub struct Env(pub Vec<(String, String)>);

impl<'de> Deserialize<'de> for Env {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableOrList;

        fn pair<E: de::Error>(name: String, value: String) -> Result<(String, String), E> {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                let text = format!("{name}={value}").escape_debug().to_string();
                return Err(E::custom(format!(
                    "`env`: `{text}` has no name that an environment variable can have"
                )));
            }
            Ok((name, value))
        }

        impl<'de> Visitor<'de> for TableOrList {
            type Value = Env;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of names and values, or a list of `NAME=VALUE`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Env, A::Error> {
                let mut env = Vec::new();
                while let Some((name, value)) = map.next_entry()? {
                    env.push(pair(name, value)?);
                }
                Ok(Env(env))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Env, A::Error> {
                let mut env: Vec<(String, String)> = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    let Some((name, value)) = text.split_once('=') else {
                        return Err(de::Error::custom(format!("`{text}` is not NAME=VALUE")));
                    };
                    if env.iter().any(|(known, _)| known == name) {
                        return Err(de::Error::custom(format!("`{name}` stands twice")));
                    }
                    env.push(pair(name.to_owned(), value.to_owned())?);
                }
                Ok(Env(env))
            }
        }

        deserializer.deserialize_any(TableOrList)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_is_similar_is_suggested_and_nothing_is_said_twice() {
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (name, known, expected) in [
            ("aap", "app", "did you mean `app`?"),
            ("serve", "server other", "did you mean `server`? there are: server, other"),
            ("web", "app worker", "there are: app, worker"),
            ("api", "app apt", "did you mean `app`? there are: app, apt"),
            ("application", "app", "did you mean `app`?"),
            ("shop-backend", "shop-frontend", "there are: shop-frontend"),
        ] {
            let hint = suggestion(name, &names(known));
            let either = hint.replace("`apt`", "`app`");
            assert_eq!(either, expected, "{name}");
        }
        let many: Vec<String> = (0..30).map(|number| format!("n{number:02}")).collect();
        assert!(suggestion("x", &many).ends_with("n18, n19 and 10 more"));
    }
}
