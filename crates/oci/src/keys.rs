//! The keys of a JSON document as every reader sees them.
//!
//! Readers disagree about a key that stands twice: some take the first value, some the last. Go's `encoding/json`
//! also takes a key in any case for a field. Such a document is one image here and another elsewhere, so it is refused.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// What an error about such a document begins with.
pub(crate) const AMBIGUOUS: &str = "ambiguous key";

/// Maps whose keys belong to the image's author, where case distinguishes (image-spec config.md, annotations.md).
const OF_THE_AUTHOR: [&str; 4] = ["annotations", "exposedports", "labels", "volumes"];

/// A key as Go compares it with the names of fields (`encoding/json`, simple case folding).
pub(crate) fn fold(key: &str) -> String {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    key.chars().map(fold).collect()
}

/// Reads a document for its keys alone.
pub(crate) struct Unambiguous {
    /// Whether the keys of this map are the author's, not fields.
    authors: bool,
}

impl Unambiguous {
    /// For a whole document.
    pub(crate) fn document() -> Self {
        Self { authors: false }
    }
}

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Self::document())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let folded = fold(&key);
            let authors = !self.authors && OF_THE_AUTHOR.contains(&folded.as_str());
            if !seen.insert(if self.authors { key } else { folded }) {
                return Err(A::Error::custom(AMBIGUOUS));
            }
            map.next_value_seed(Self { authors })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_readers_would_take_for_another_is_refused_at_every_level() {
        let ambiguous = |text: &str| {
            let mut deserializer = serde_json::Deserializer::from_str(text);
            Unambiguous::document().deserialize(&mut deserializer).is_err()
        };
        for (text, refused) in [
            (r#"{"config": {}, "layers": []}"#, false),
            (r#"{"a": 1, "b": {"a": 2}, "c": [{"a": 1}, {"a": 2}]}"#, false),
            (r#"{"config": {"Labels": {"a": "", "A": ""}, "Volumes": {"/d": {}, "/D": {}}}}"#, false),
            (r#"{"config": {}, "config": null}"#, true),
            (r#"{"config": {}, "Config": {}}"#, true),
            (r#"{"config": {"digest": 1, "Digest": 2}}"#, true),
            (r#"[{"Config": "a", "config": "b"}]"#, true),
            (r#"{"layers": [], "layer\u017f": []}"#, true),
            (r#"{"kind": 1, "\u212aind": 2}"#, true),
            (r#"{"config": {"Labels": {"a": "", "a": ""}}}"#, true),
            (r#"{"config": {"Labels": {}, "labels": {}}}"#, true),
        ] {
            assert_eq!(ambiguous(text), refused, "{text}");
        }
    }
}
