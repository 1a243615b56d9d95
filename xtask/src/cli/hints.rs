//! What to do about an error, where that is known.

use std::io;

use tare_oci::input::Refusal;
use tare_oci::reader::ReadError;
use tare_tool::exit;

/// The hint of an error or of one of its causes. (An error that only passes another on has that one as its cause and
/// the same text; `transparent` would hide it from here.)
pub(super) fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(hint) = exit::hint(cause) {
        return Some(hint);
    }
    if let Some(hint) = cause.downcast_ref::<ReadError>().and_then(ReadError::hint) {
        return Some(hint.to_owned());
    }
    let error = cause.downcast_ref::<io::Error>()?;
    let hint = match (Refusal::of(error), error.kind()) {
        (Some(refusal), _) => refusal.hint(),
        (_, io::ErrorKind::StorageFull) => "free some space; what was there before is unchanged",
        (_, io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) => {
            "write elsewhere: `--output FOLDER` for the image, CARGO_TARGET_DIR for everything"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}
