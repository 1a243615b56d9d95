//! The names that `--tag` gives to an image.

use std::str::FromStr;

use tare_oci::reference::{Reference, ReferenceError, is_version};

/// The argument of `--tag`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TagArgument {
    /// `:1.2`: a tag beside the image's own name.
    Tag(String),
    /// `[REGISTRY/]NAME[:TAG]`: another name.
    Name(Reference),
}

/// Why a text is no argument of `--tag`.
#[derive(Debug, thiserror::Error)]
pub(super) enum TagError {
    /// It would become the name of the image, such as `v1:latest`.
    #[error("`{0}` looks like a version; write `:{0}` for a tag, or NAME:{0}")]
    Version(String),
    /// It is no reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

impl FromStr for TagArgument {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        if let Some(tag) = text.strip_prefix(':') {
            // Whether it is a tag does not depend on the name.
            let reference: Reference = format!("name:{tag}").parse().map_err(|error| match error {
                ReferenceError::Tag(_) => ReferenceError::Tag(text.to_owned()),
                other => other,
            })?;
            return Ok(Self::Tag(reference.tag().to_owned()));
        }
        if is_version(text) {
            return Err(TagError::Version(text.to_owned()));
        }
        Ok(Self::Name(text.parse()?))
    }
}

impl TagArgument {
    /// The full reference of an image that is called `name` where nothing else is said.
    pub(super) fn reference(&self, name: &str) -> Result<Reference, ReferenceError> {
        match self {
            Self::Tag(tag) => format!("{name}:{tag}").parse(),
            Self::Name(reference) => Ok(reference.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_begins_with_a_colon_and_a_name_may_have_one() {
        for (text, reference) in [
            (":v1", "app:v1"),
            (":1.2.3-rc1", "app:1.2.3-rc1"),
            ("app", "app:latest"),
            ("web:v1", "web:v1"),
            ("7zip", "7zip:latest"),
            ("v8engine", "v8engine:latest"),
            ("1.2.3.4:5000/web", "1.2.3.4:5000/web:latest"),
            ("10.0.0.1/web:v1", "10.0.0.1/web:v1"),
        ] {
            let argument: TagArgument = text.parse().unwrap();
            assert_eq!(argument.reference("app").unwrap().to_string(), reference, "{text}");
        }
    }

    #[test]
    fn a_version_alone_is_refused_with_what_was_meant() {
        for text in ["v1", "1.2.3", "1.2.3-rc1"] {
            let error = text.parse::<TagArgument>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("`{text}` looks like a version; write `:{text}` for a tag, or NAME:{text}")
            );
        }
    }

    #[test]
    fn what_is_no_tag_is_named_as_it_was_written() {
        for text in [":", ":.x", ":a b", ":a:b"] {
            let expected = ReferenceError::Tag(text.to_owned()).to_string();
            assert_eq!(text.parse::<TagArgument>().unwrap_err().to_string(), expected);
        }
        assert!(":a@sha256:0".parse::<TagArgument>().is_err());
    }
}
