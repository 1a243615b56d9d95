//! The hints of errors.

use std::io;
use std::path::Path;

use tare_oci::blob::FileError;
use tare_oci::input::Refusal;
use tare_oci::reader::ReadError;
use tare_tool::exit;
use tare_tool::private::PrivateError;
use tare_tool::process::ProcessError;

const WRITE_ELSEWHERE: &str =
    "write elsewhere: `--output FOLDER` for the image, CARGO_TARGET_DIR for everything";

/// The hint of an error or of one of its causes. (An error that only passes another on has that one as its cause and
/// the same text; `transparent` would hide it from here.)
pub(super) fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(hint) = exit::hint(cause) {
        return Some(hint);
    }
    if let Some(hint) = cause.downcast_ref::<ReadError>().and_then(ReadError::hint) {
        return Some(hint.to_owned());
    }
    if let Some(FileError { operation, path, source }) = cause.downcast_ref() {
        return not_permitted(operation, path, source);
    }
    if let Some(PrivateError::File { operation, path, source }) = cause.downcast_ref() {
        return not_permitted(operation, path, source);
    }
    if let Some(ProcessError::Io { source, .. }) = cause.downcast_ref() {
        let denied = source.kind() == io::ErrorKind::PermissionDenied;
        return denied.then(|| "let this user execute the program: `chmod +x` sets the mode".to_owned());
    }
    let error = cause.downcast_ref::<io::Error>()?;
    let hint = match (Refusal::of(error), error.kind()) {
        (Some(refusal), _) => refusal.hint(),
        (_, io::ErrorKind::StorageFull) => "free some space; what was there before is unchanged",
        (_, io::ErrorKind::ReadOnlyFilesystem) => WRITE_ELSEWHERE,
        // Errors of writing name their operation, and are found above.
        (_, io::ErrorKind::PermissionDenied) => {
            "let this user read it: `ls -l` shows owner and mode, `chmod` changes the mode"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// The hint where the system forbids an operation on a file or folder.
fn not_permitted(operation: &str, path: &Path, source: &io::Error) -> Option<String> {
    let is_reading = operation.starts_with("read") || operation == "copy";
    match source.kind() {
        io::ErrorKind::PermissionDenied if is_reading => {
            Some(format!("let this user read {}: `chmod` changes its mode", path.display()))
        }
        io::ErrorKind::PermissionDenied => Some(WRITE_ELSEWHERE.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hint of an error and its causes, as the command line looks for it.
    fn found(error: &anyhow::Error) -> Option<String> {
        error.chain().find_map(hint)
    }

    #[test]
    fn permissions_to_read_write_and_execute_have_hints_of_their_own() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let path = Path::new("/w/images/app/data");
        let of_file = |operation| FileError::on(operation, path)(denied()).into();
        let read = "let this user read /w/images/app/data: `chmod` changes its mode".to_owned();
        let bare = "let this user read it: `ls -l` shows owner and mode, `chmod` changes the mode".to_owned();
        assert_eq!(found(&of_file("read")), Some(read.clone()));
        assert_eq!(found(&of_file("copy")), Some(read));
        for operation in ["create", "write", "lock", "open", "remove"] {
            assert_eq!(found(&of_file(operation)), Some(WRITE_ELSEWHERE.to_owned()), "{operation}");
        }
        assert_eq!(found(&anyhow::Error::from(denied()).context("cannot read x")), Some(bare));
        let program = ProcessError::Io { command: "./x".to_owned(), source: denied() };
        let execute = "let this user execute the program: `chmod +x` sets the mode".to_owned();
        assert_eq!(found(&program.into()), Some(execute));
    }
}
