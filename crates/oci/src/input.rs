//! Opening the files that users and images name.
//!
//! Only regular files are opened: a FIFO would block, a device may never end. Files of a layout or a workspace
//! are opened inside their folder: a link that leads out of it is refused. Errors about JSON do not repeat it,
//! because it may be somebody else's secret.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use serde::de::{DeserializeOwned, DeserializeSeed as _};
use serde_json::Value;
use serde_json::error::Category;

use crate::keys::{AMBIGUOUS, Unambiguous};

/// Why a file that exists is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is something else than a regular file.
    #[error("it is a {0}, not a regular file")]
    NotRegular(&'static str),
    /// A link leads out of the folder that the file must be in.
    #[error("it is a link out of {}", .0.display())]
    Outside(PathBuf),
    /// It is larger than any such file.
    #[error("it has more than {0} bytes")]
    TooLong(u64),
}

impl Refusal {
    /// The refusal that an error of this module stands for.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotRegular(_) => "put a regular file, or a link to one, in its place",
            Self::TooLong(_) => "is it the right file? what people write is shorter",
            Self::Outside(_) => "replace the link by a copy of the file that it leads to",
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(io::ErrorKind::InvalidInput, refusal)
    }
}

/// Opens a regular file for reading.
///
/// # Errors
/// When it cannot be opened, or is no regular file or link to one ([`Refusal::NotRegular`]).
pub fn open(path: &Path) -> io::Result<File> {
    open_with(File::options().read(true), path)
}

/// Opens a regular file with these options.
///
/// # Errors
/// As [`open`].
pub fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // Checked before, because opening a device can have effects and a socket cannot be opened; and after,
    // because the path may lead elsewhere by then.
    check(&fs::metadata(path)?)?;
    open_checked(options, path, false)
}

/// Opens a regular file for appending, or makes it. A link in its place is refused and not followed.
///
/// # Errors
/// When there is something else than a regular file, or it cannot be made.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => check(&found?)?,
    }
    // Something else may have taken its place a moment ago.
    open_checked(File::options().create(true).append(true), path, true)
}

#[cfg_attr(not(unix), expect(unused_variables, reason = "there are no such flags elsewhere"))]
fn open_checked(options: &mut OpenOptions, path: &Path, no_link: bool) -> io::Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = if no_link { OFlags::NOFOLLOW } else { OFlags::empty() };
        options.custom_flags((flags | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    }
    let file = options.open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file.
///
/// # Errors
/// As [`open`], and when it cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a regular file of text.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    io::read_to_string(open(path)?)
}

/// Opens a regular file inside a folder for reading. Links are followed as long as they stay in the folder.
///
/// # Errors
/// As [`open`], and when a link leads out of the folder ([`Refusal::Outside`]).
pub fn open_inside(folder: &Path, path: &Path) -> io::Result<File> {
    let root = fs::canonicalize(folder)?;
    let file = fs::canonicalize(folder.join(path))?;
    let outside = || Refusal::Outside(folder.to_path_buf());
    let inside = file.strip_prefix(&root).map_err(|_| outside())?;
    check(&fs::metadata(&file)?)?;
    let file = open_resolved(&root, inside).map_err(|error| match error.kind() {
        // A link has taken the place of what was there a moment ago (openat2(2), RESOLVE_BENEATH).
        io::ErrorKind::CrossesDevices => outside().into(),
        _ => error,
    })?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file inside a folder.
///
/// # Errors
/// As [`open_inside`], and when it cannot be read.
pub fn read_inside(folder: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_inside(folder, path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Bytes that nobody writes into a definition or a file of configuration by hand.
const DEFINITION_LIMIT: u64 = 1 << 20;

/// Reads a definition: one in the workspace must not be a link out of it, as the repository may be somebody
/// else's. A path elsewhere is the user's own.
///
/// # Errors
/// As [`open`] and [`open_inside`], and when it is not UTF-8 or longer than 1 MiB ([`Refusal::TooLong`]).
pub fn read_definition(workspace: &Path, path: &Path) -> io::Result<String> {
    let named = without_dots(&std::path::absolute(path)?);
    let is_inside = named.starts_with(workspace)
        || fs::canonicalize(workspace).is_ok_and(|workspace| named.starts_with(workspace));
    let mut text = String::new();
    let file = if is_inside { open_inside(workspace, &named)? } else { open(path)? };
    file.take(DEFINITION_LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > DEFINITION_LIMIT {
        return Err(Refusal::TooLong(DEFINITION_LIMIT).into());
    }
    Ok(text)
}

/// The path without `.` and `..`, as cargo shows it.
#[must_use]
pub fn without_dots(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut clean, component| {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
        clean
    })
}

/// Opens a path without links below a folder. Where the kernel has openat2(2), links that appear meanwhile
/// cannot lead out either.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn open_resolved(root: &Path, inside: &Path) -> io::Result<File> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
    use rustix::io::{Errno, retry_on_intr};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = retry_on_intr(|| rustix::fs::openat(CWD, root, folder, Mode::empty()))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = retry_on_intr(|| rustix::fs::openat2(&folder, inside, flags, Mode::empty(), resolve));
    match opened {
        // Before Linux 5.6, or behind a filter of system calls that does not know it.
        Err(Errno::NOSYS | Errno::PERM) => {
            let flags = flags | OFlags::NOFOLLOW;
            let file = retry_on_intr(|| rustix::fs::openat(&folder, inside, flags, Mode::empty()))?;
            Ok(File::from(file))
        }
        opened => Ok(File::from(opened?)),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn open_resolved(root: &Path, inside: &Path) -> io::Result<File> {
    open(&root.join(inside))
}

fn check(metadata: &Metadata) -> Result<(), Refusal> {
    match kind(metadata.file_type()) {
        None => Ok(()),
        Some(kind) => Err(Refusal::NotRegular(kind)),
    }
}

/// What a file is that is not regular.
fn kind(kind: fs::FileType) -> Option<&'static str> {
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("directory"),
        () => Some(special_kind(kind)),
    }
}

/// The name of a file that is neither regular nor a directory or link.
#[cfg(unix)]
#[must_use]
pub fn special_kind(kind: fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_symlink() {
        "link"
    } else {
        "device"
    }
}

/// The name of a file that is neither regular nor a directory or link.
#[cfg(not(unix))]
#[must_use]
pub fn special_kind(_: fs::FileType) -> &'static str {
    "special file"
}

/// Why a document is not the JSON that it should be, and where. It never shows what stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        Self(without_content(&error))
    }
}

/// Parses a document.
///
/// # Errors
/// When it is not JSON, or not of this form.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    Ok(serde_json::from_slice(bytes)?)
}

/// Parses a document; none if a key stands twice in it, or in two cases: readers would see different values.
///
/// # Errors
/// When it is not JSON.
pub fn from_unambiguous_json(bytes: &[u8]) -> Result<Option<Value>, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    match Unambiguous::document().deserialize(&mut deserializer) {
        Ok(()) => from_json(bytes).map(Some),
        Err(error) if error.to_string().starts_with(AMBIGUOUS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The message of an error without the values that it quotes. Those of syntax errors quote none.
fn without_content(error: &serde_json::Error) -> String {
    let message = error.to_string();
    // The names of missing fields are ours, the other numbers are lengths.
    let is_ours = ["missing field `", "duplicate field `", "invalid length "]
        .iter()
        .any(|start| message.starts_with(start));
    if error.classify() != Category::Data || is_ours {
        return message;
    }
    // `invalid type: string "secret", expected u64 at line 1 column 9` (serde::de::Error, Unexpected)
    for start in ["invalid type: ", "invalid value: ", "unknown variant ", "unknown field "] {
        if let Some(found) = message.strip_prefix(start)
            && let Some((found, expected)) = found.rsplit_once(", expected ")
        {
            let end = found.find(|c: char| !c.is_ascii_alphabetic() && c != ' ').unwrap_or(found.len());
            return format!("{}, expected {expected}", format!("{start}{}", &found[..end]).trim_end());
        }
    }
    match error.line() {
        // Of a value that was parsed before, which has no place any more.
        0 => "a value of another form".to_owned(),
        line => format!("a value of another form at line {line} column {}", error.column()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Document {
        #[serde(rename = "number")]
        _number: u8,
        #[serde(default, rename = "variant")]
        _variant: Option<Variant>,
        #[serde(default, rename = "digest")]
        _digest: Option<crate::digest::Digest>,
    }

    #[derive(Debug, serde::Deserialize)]
    enum Variant {
        One,
    }

    #[test]
    fn errors_about_json_say_where_and_what_but_not_what_stands_there() {
        for (text, says) in [
            ("root:*:19:0", "expected value at line 1 column 1"),
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{}{}", "trailing characters at line 1 column 3"),
            (r#"{"number": "secret"}"#, "invalid type: string, expected u8"),
            (r#"{"number": "a, expected secret"}"#, "invalid type: string, expected u8"),
            (r#"{"number": 4711}"#, "invalid value: integer, expected u8"),
            (r#"{"number": true}"#, "invalid type: boolean, expected u8"),
            (r#"{"number": null}"#, "invalid type: null, expected u8"),
            (r#"{"number": [1]}"#, "invalid type: sequence, expected u8"),
            ("{}", "missing field `number`"),
            (r#"{"secret": 1}"#, "unknown field, expected one of `number`, `variant`, `digest`"),
            (r#"{"number": 1, "variant": "secret"}"#, "unknown variant, expected `One`"),
            (r#"{"number": 1, "digest": "secret"}"#, "a value of another form"),
        ] {
            let typed = |value: Option<Value>| Ok(serde_json::from_value::<Document>(value.unwrap())?);
            let error: JsonError = from_unambiguous_json(text.as_bytes()).and_then(typed).unwrap_err();
            assert_eq!(error.to_string(), says, "{text}");
        }
    }

    #[test]
    fn files_that_are_there_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "content").unwrap();
        assert_eq!(read(&file).unwrap(), b"content");
        assert_eq!(read_to_string(&file).unwrap(), "content");
        assert_eq!(read(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        let refused = read(dir.path()).unwrap_err();
        assert_eq!(Refusal::of(&refused), Some(&Refusal::NotRegular("directory")));
        assert_eq!(refused.to_string(), "it is a directory, not a regular file");
    }

    #[cfg(unix)]
    mod unix {
        use std::os::unix::fs::symlink;
        use std::os::unix::net::UnixListener;

        use super::*;

        fn text_inside(folder: &Path, path: &str) -> Result<String, Option<Refusal>> {
            let text = |mut file: File| {
                let mut text = String::new();
                file.read_to_string(&mut text).map(|_| text)
            };
            open_inside(folder, Path::new(path)).and_then(text).map_err(|error| Refusal::of(&error).cloned())
        }

        #[test]
        #[expect(clippy::disallowed_methods, reason = "no portable call makes a FIFO")]
        fn what_is_no_regular_file_is_refused_by_its_kind_at_once() {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            let fifo = std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap();
            assert!(fifo.success());
            let _socket = UnixListener::bind(path("socket")).unwrap();
            fs::create_dir(path("directory")).unwrap();
            symlink("/dev/zero", path("device")).unwrap();
            symlink("fifo", path("link")).unwrap();
            for (name, kind) in [
                ("fifo", "FIFO"),
                ("socket", "socket"),
                ("directory", "directory"),
                ("device", "device"),
                ("link", "FIFO"),
            ] {
                let refused = Some(Refusal::NotRegular(kind));
                assert_eq!(Refusal::of(&read(&path(name)).unwrap_err()).cloned(), refused, "{name}");
                if name != "device" {
                    assert_eq!(text_inside(dir.path(), name), Err(refused), "{name}");
                }
            }
        }

        #[test]
        fn links_are_followed_inside_a_folder_and_not_out_of_it() {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("folder");
            fs::create_dir_all(folder.join("deep")).unwrap();
            fs::write(dir.path().join("secret"), "secret").unwrap();
            fs::write(folder.join("file"), "content").unwrap();
            symlink("../file", folder.join("deep/relative")).unwrap();
            symlink(folder.join("file"), folder.join("absolute")).unwrap();
            symlink("deep", folder.join("way")).unwrap();
            symlink("../secret", folder.join("out")).unwrap();
            symlink(dir.path(), folder.join("up")).unwrap();
            symlink("none", folder.join("dangling")).unwrap();
            let content = || Ok("content".to_owned());
            let outside = || Err(Some(Refusal::Outside(folder.clone())));
            for (path, expected) in [
                ("file", content()),
                ("deep/relative", content()),
                ("way/relative", content()),
                ("absolute", content()),
                ("out", outside()),
                ("up/secret", outside()),
                ("../secret", outside()),
                ("dangling", Err(None)),
                ("none", Err(None)),
            ] {
                assert_eq!(text_inside(&folder, path), expected, "{path}");
            }
            // The folder itself may be named by a link.
            symlink("folder", dir.path().join("link")).unwrap();
            assert_eq!(text_inside(&dir.path().join("link"), "way/relative"), content());
        }

        #[cfg(target_os = "linux")]
        #[test]
        fn a_link_that_appears_after_the_check_does_not_lead_out() {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().canonicalize().unwrap().join("folder");
            fs::create_dir(&folder).unwrap();
            fs::write(dir.path().join("secret"), "secret").unwrap();
            symlink("../secret", folder.join("file")).unwrap();
            // As `open_inside` calls it once it has seen a regular file there.
            assert!(open_resolved(&folder, Path::new("file")).is_err());
        }

        #[test]
        fn a_definition_of_the_workspace_is_no_link_out_of_it() {
            let dir = tempfile::tempdir().unwrap();
            let workspace = dir.path().join("workspace");
            fs::create_dir(&workspace).unwrap();
            fs::write(dir.path().join("elsewhere.toml"), "a = 1").unwrap();
            symlink("../elsewhere.toml", workspace.join("link.toml")).unwrap();
            let read =
                |path: &Path| read_definition(&workspace, path).map_err(|error| Refusal::of(&error).cloned());
            let refused = Err(Some(Refusal::Outside(workspace.clone())));
            assert_eq!(read(&workspace.join("link.toml")), refused);
            assert_eq!(read(&workspace.join("none/../link.toml")), refused);
            assert_eq!(read(&workspace.join("../elsewhere.toml")), Ok("a = 1".to_owned()));
            assert_eq!(read(&dir.path().join("elsewhere.toml")), Ok("a = 1".to_owned()));
        }
    }
}
