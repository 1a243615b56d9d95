//! This program in the place of rustc, where a local package lies outside the workspace's root.
//!
//! cargo hashes the absolute path of such a package into `-C metadata`, which names its symbols and types, and those of
//! every crate that needs it: the program would depend on the folder that it is built in (cargo,
//! `SourceId::stable_hash`). The wrapper passes everything on to rustc with other metadata.

use std::ffi::{OsStr, OsString};

use tare_oci::digest::Digest;
use tare_tool::environment::Environment;
use tare_tool::process::{Execute as _, ProcessError, Shell, cmd};

/// Makes this program a wrapper. Its value is the user's own wrapper, or empty.
pub(super) const VARIABLE: &str = "TARE_RUSTC_WRAPPER";

/// Runs rustc as cargo asks for it, if this process was started for that, and gives back its exit code.
///
/// # Errors
/// When rustc cannot be started.
pub fn run(env: &Environment, arguments: impl Iterator<Item = OsString>) -> Option<Result<u8, ProcessError>> {
    let own = env.variables.get(OsStr::new(VARIABLE))?.clone();
    let manifest_dir = env.text("CARGO_MANIFEST_DIR").unwrap_or_default();
    let package = format!("{:?} {:?}", env.text("CARGO_PKG_NAME"), env.text("CARGO_PKG_VERSION"));
    let arguments = with_own_metadata(arguments.collect(), &manifest_dir, &package);
    let mut words = Vec::new();
    words.extend(Some(own).filter(|own| !own.is_empty()));
    words.extend(arguments);
    let (program, arguments) = words.split_first()?;
    let run = || {
        let sh = Shell::new()?;
        cmd!(sh, "{program} {arguments...}").replace()
    };
    Some(run())
}

/// The arguments for a crate of the target with metadata that say the same without paths: name, version, folder, kinds
/// and `cfg`s. What runs on this host is not in the program and stays as it is.
fn with_own_metadata(mut arguments: Vec<OsString>, manifest_dir: &str, package: &str) -> Vec<OsString> {
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let Some(at) = words.iter().position(|word| word.starts_with("metadata=")) else { return arguments };
    if !words.iter().any(|word| word == "--target") {
        return arguments;
    }
    let mut folder = manifest_dir.to_owned();
    for word in &words {
        let map = word.strip_prefix("--remap-path-prefix=").and_then(|map| map.rsplit_once('='));
        if let Some(((from, to), rest)) = map.and_then(|map| Some((map, manifest_dir.strip_prefix(map.0)?)))
            && (rest.is_empty() || rest.starts_with('/'))
        {
            folder = format!("{to}{}", &manifest_dir[from.len()..]);
        }
    }
    let mut text = format!("{package}\n{folder}\n");
    for pair in words.windows(2) {
        if ["--crate-name", "--crate-type", "--cfg", "--target", "--edition"].contains(&pair[0].as_str()) {
            text.push_str(&format!("{} {}\n", pair[0], pair[1]));
        }
    }
    let hex = Digest::of(text.as_bytes()).hex();
    arguments[at] = format!("metadata={}", hex.get(..16).unwrap_or(&hex)).into();
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_depend_on_the_crate_and_not_on_its_folder() {
        let metadata = |root: &str, version: &str, extra: &[&str]| {
            let map = format!("--remap-path-prefix={root}=/local/x-1.0.0");
            let mut words = vec!["rustc", "--crate-name", "x", "-C", "metadata=123", &map];
            words.extend(extra);
            let words = words.into_iter().map(OsString::from).collect();
            with_own_metadata(words, &format!("{root}/x"), version)[4].to_string_lossy().into_owned()
        };
        let target = ["--target", "t"];
        let one = metadata("/one", "1.0.0", &target);
        assert_eq!(one.len(), "metadata=".len() + 16);
        assert_eq!(metadata("/two/deep", "1.0.0", &target), one);
        assert_ne!(metadata("/one", "2.0.0", &target), one);
        assert_ne!(metadata("/one", "1.0.0", &["--target", "t", "--cfg", "feature=\"a\""]), one);
        assert_eq!(metadata("/one", "1.0.0", &[]), "metadata=123", "for this host");
    }

    #[test]
    fn calls_without_metadata_are_passed_on() {
        let words: Vec<OsString> = ["rustc", "-vV", "--target"].map(Into::into).into();
        assert_eq!(with_own_metadata(words.clone(), "/w", ""), words);
    }
}
