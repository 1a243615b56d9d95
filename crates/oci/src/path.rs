//! Paths in an image.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// An absolute path inside an image, kept without the leading slash. Empty is the root.
///
/// Bytes, not text: Linux file names need not be UTF-8. Cheap to clone, because a plan of a hundred
/// thousand files has each path in more than one place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImagePath(Arc<[u8]>);

/// Why a path cannot be in an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImagePathError {
    /// It does not start at the root.
    #[error("`{0}` is not absolute: start it with /")]
    Relative(String),
    /// It leaves the root, or says one place in two ways.
    #[error("`{0}` must not have empty, `.` or `..` components")]
    Component(String),
    /// Layers delete files by names of this kind (image-spec layer.md, "Whiteouts").
    #[error("`{0}` has a component that starts with .wh., which marks a deletion in an image layer")]
    Whiteout(String),
    /// No file system has such names.
    #[error("`{0}` has a component of more than 255 bytes, or a NUL")]
    Name(String),
}

impl ImagePath {
    /// The root directory.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::default())
    }

    /// From components, none of them empty.
    ///
    /// # Errors
    /// When a component is none.
    pub fn from_bytes(path: &[u8]) -> Result<Self, ImagePathError> {
        let shown = || format!("/{}", String::from_utf8_lossy(path));
        for component in path.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." | b".." => return Err(ImagePathError::Component(shown())),
                c if c.starts_with(b".wh.") => return Err(ImagePathError::Whiteout(shown())),
                c if c.len() > 255 || c.contains(&0) => return Err(ImagePathError::Name(shown())),
                _ => {}
            }
        }
        Ok(Self(path.into()))
    }

    /// The bytes without a leading slash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path with more components behind it.
    ///
    /// # Errors
    /// When one of them cannot be in an image.
    pub fn join(&self, relative: &[u8]) -> Result<Self, ImagePathError> {
        if self.0.is_empty() {
            return Self::from_bytes(relative);
        }
        Self::from_bytes(&[&self.0, &b"/"[..], relative].concat())
    }

    /// The directory it lies in; none for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// Whether the other path is this one or lies below it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match other.0.strip_prefix(&*self.0) {
            Some(rest) => self.0.is_empty() || rest.is_empty() || rest[0] == b'/',
            None => false,
        }
    }
}

impl FromStr for ImagePath {
    type Err = ImagePathError;

    fn from_str(text: &str) -> Result<Self, ImagePathError> {
        match text.strip_prefix('/') {
            None => Err(ImagePathError::Relative(text.to_owned())),
            Some("") => Ok(Self::root()),
            Some(rest) => Self::from_bytes(rest.strip_suffix('/').unwrap_or(rest).as_bytes()),
        }
    }
}

/// With the leading slash; bytes that are not UTF-8 are escaped.
impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/")?;
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_image_or_delete_from_it_are_refused() {
        use ImagePathError as E;
        let owned = |s: &str| s.to_owned();
        for (text, error) in [
            ("etc", E::Relative(owned("etc"))),
            ("", E::Relative(owned(""))),
            ("/etc/../x", E::Component(owned("/etc/../x"))),
            ("/etc//x", E::Component(owned("/etc//x"))),
            ("/./x", E::Component(owned("/./x"))),
            ("/a/.wh.b", E::Whiteout(owned("/a/.wh.b"))),
            ("/a\0", E::Name(owned("/a\0"))),
        ] {
            assert_eq!(text.parse::<ImagePath>(), Err(error), "{text:?}");
        }
        assert_eq!("/app/".parse::<ImagePath>().unwrap().as_bytes(), b"app");
        assert_eq!("/".parse(), Ok(ImagePath::root()));
    }

    #[test]
    fn containment_goes_by_components() {
        let path = |text: &str| text.parse::<ImagePath>().unwrap();
        assert!(path("/a").contains(&path("/a/b")) && path("/a").contains(&path("/a")));
        assert!(path("/").contains(&path("/a")) && !path("/a").contains(&path("/ab")));
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!((path("/a").parent(), path("/").parent()), (Some(path("/")), None));
    }

    #[test]
    fn names_that_are_not_utf8_are_shown_escaped() {
        assert_eq!(ImagePath::from_bytes(b"a/\xff\xc3\xa9").unwrap().to_string(), "/a/\\xffé");
    }
}
