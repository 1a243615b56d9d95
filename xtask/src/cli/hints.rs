//! What to do about an error, where that is known.

use std::io;

use tare_tool::exit;
use tare_tool::process::ProcessError;

use crate::image::binary::BinaryError;
use crate::image::cargo::CargoError;
use crate::image::rootfs::RootfsErrorKind;
use crate::workspace::WorkspaceError;
use tare_oci::input::Refusal;
use tare_oci::reader::ReadError;

use super::image::NameError;

/// The hint of the error or the first of its causes that has one. (An error that only passes another on
/// has that one as its cause and the same text; `transparent` would hide it from here.)
pub(super) fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(of_cause)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(hint) = exit::hint(cause) {
        return Some(hint);
    }
    if let Some(error) = cause.downcast_ref::<NameError>() {
        return error.hint();
    }
    if let Some(error) = cause.downcast_ref::<RootfsErrorKind>() {
        return error.hint();
    }
    if let Some(error) = cause.downcast_ref::<CargoError>() {
        return of_cargo(error);
    }
    if let Some(error) = cause.downcast_ref::<BinaryError>() {
        return of_binary(error);
    }
    if let Some(error) = cause.downcast_ref::<WorkspaceError>() {
        return match error {
            WorkspaceError::SourceDateEpoch(_) => Some(
                "unset it to use the commit's time, or set it to the output of `git log -1 --format=%ct`"
                    .to_owned(),
            ),
            _ => None,
        };
    }
    if let Some(hint) = cause.downcast_ref::<ReadError>().and_then(ReadError::hint) {
        return Some(hint.to_owned());
    }
    let error = cause.downcast_ref::<io::Error>()?;
    if let Some(refusal) = Refusal::of(error) {
        return Some(refusal.hint().to_owned());
    }
    match error.kind() {
        io::ErrorKind::StorageFull => Some("free some space; what was there before is unchanged".to_owned()),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Some(
            "write elsewhere: `--output FOLDER` for the image, CARGO_TARGET_DIR for everything".to_owned(),
        ),
        _ => None,
    }
}

fn of_cargo(error: &CargoError) -> Option<String> {
    match error {
        CargoError::NoPackage { hint, .. }
        | CargoError::NoBin { hint, .. }
        | CargoError::NoFeature { hint, .. }
        | CargoError::NoTarget { hint, .. } => Some(hint.clone()),
        CargoError::WhichBin { .. } => Some("name one: `bin = \"…\"` under [build] in image.toml".to_owned()),
        CargoError::NoProfile { profile, .. } => {
            Some(format!("add [profile.{profile}] to the workspace's Cargo.toml, or leave `profile` out"))
        }
        CargoError::Build { hint, .. } => hint.clone(),
        _ => None,
    }
}

fn of_binary(error: &BinaryError) -> Option<String> {
    match error {
        BinaryError::Dynamic { .. } => Some(
            "build for a *-linux-musl target with crt-static, or set `libs = \"auto\"` under [build] to take the libraries of this host, or `static = false` and bring them along"
                .to_owned(),
        ),
        BinaryError::Unaudited { .. } => {
            Some("set `audit = false` under [build] if the image is to go without".to_owned())
        }
        BinaryError::Elf { .. } => Some("set `static = false` under [build] if the program is a script".to_owned()),
        // A command that is itself missing has a hint of its own.
        BinaryError::Command { source: ProcessError::Failed { .. }, .. } if error.is_missing_tool() => {
            Some("install the program that the build command did not find".to_owned())
        }
        BinaryError::Libraries { source, .. } => Some(source.hint.to_owned()),
        BinaryError::Machine { .. } => {
            Some("the build command finds the platform asked for in TARGETARCH".to_owned())
        }
        _ => None,
    }
}
