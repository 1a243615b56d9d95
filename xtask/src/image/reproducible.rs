//! `--verify-reproducible`: builds the same checkout twice, in different folders and with different CARGO_HOMEs, and
//! compares every byte.

mod copy;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use self::copy::{Originals, copy_file, copy_folder, mirrored};
use crate::workspace::Workspace;
use tare_oci::blob::FileError;
use tare_oci::compare::{Difference, first_difference};
use tare_oci::input;
use tare_oci::reader::Source;
use tare_oci::units::Epoch;
use tare_tool::environment::{self, Environment};
use tare_tool::private::FreshFolder;
use tare_tool::process::{Execute as _, cmd, shell_in};
use tare_tool::ui::Ui;

/// Builds the image twice with the program that runs now, called with `arguments`, and compares. Both builds find the
/// layouts of `bases` in their caches.
///
/// # Errors
/// When a checkout cannot be copied or a build fails.
pub fn verify(
    workspace: &Workspace,
    env: &Environment,
    name: &str,
    (arguments, bases): (&[OsString], &[PathBuf]),
    created: Epoch,
    ui: Ui,
) -> anyhow::Result<Option<Difference>> {
    // Programs that are built here run as this user, so nobody else may write to the folder.
    let temporary = FreshFolder::create(&std::env::temp_dir(), "tare-reproducible-")?;
    let temporary = temporary.path();
    let program = environment::this_program().context("cannot find this program")?;
    // Of different length and depth, as two people's are.
    let folders = [temporary.join("one"), temporary.join("another/folder/of/somebody/else")];
    let own_home = env.cargo_home();
    // Its configuration may include files by relative paths.
    let tree_of_home = temporary.join("another/cargo-home");
    let home = own_home.as_deref().map_or_else(|| tree_of_home.clone(), |own| mirrored(own, &tree_of_home));
    let homes = [None, Some(home)];
    let originals = Originals::find(workspace, env)?;
    let mut outputs = Vec::new();
    for (folder, home) in folders.iter().zip(&homes) {
        originals.copy(folder, temporary)?;
        let checkout = mirrored(&workspace.root, folder);
        let output = folder.join("output");
        for base in bases {
            let cache = checkout.join("target/images/.cache/pulled");
            copy_folder(base, &cache.join(base.file_name().unwrap_or_default()), base, &|_| false)?;
        }
        let shown = home
            .as_ref()
            .map_or("your CARGO_HOME".to_owned(), |home| format!("CARGO_HOME {}", home.display()));
        ui.status("Building", &format!("{name} in {} with {shown}", checkout.display()));
        let sh = shell_in(&checkout)?;
        let mut command = cmd!(sh, "{program} {arguments...} --output {output}")
            .without_env(env.of_cargo_run())
            .without_env(["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"])
            // Each its own, whatever folder the configuration above names for all.
            .env("CARGO_TARGET_DIR", checkout.join("target"))
            .env("CARGO_MANIFEST_DIR", &checkout)
            .env("SOURCE_DATE_EPOCH", created.seconds().to_string());
        if let Some(home) = home {
            if let Some(own) = &own_home {
                originals.copy_home_configuration(&tree_of_home)?;
                seed_cargo_home(own, home, &checkout.join("Cargo.lock"))?;
            }
            command = command.env("CARGO_HOME", home);
        }
        // Its digest is not our result.
        let failed = || format!("the build in {} failed", checkout.display());
        command.run_with_input(|_| Ok(())).with_context(failed)?;
        outputs.push(output.join(name).join("layout"));
    }
    Ok(first_difference(&Source::open(&outputs[0])?, &Source::open(&outputs[1])?)?)
}

/// Gives a new CARGO_HOME what cargo would download into it again: the index and the packed crates of the lock file; and
/// the credentials for what is missing, which is downloaded.
fn seed_cargo_home(own: &Path, home: &Path, lock: &Path) -> Result<(), FileError> {
    fs::create_dir_all(home).map_err(FileError::on("create", home))?;
    let credentials = own.join("credentials.toml");
    if credentials.is_file() {
        copy_file(&credentials, &home.join("credentials.toml"), own)?;
    }
    let wanted = locked_crates(&input::read_to_string(lock).unwrap_or_default());
    for (kind, skip) in [
        ("registry/index", (&|_: &Path| false) as &dyn Fn(&Path) -> bool),
        ("registry/cache", &|path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".crate") && !wanted.contains(&*name)
        }),
        ("git/db", &|_: &Path| false),
    ] {
        let from = own.join(kind);
        if from.is_dir() {
            copy_folder(&from, &home.join(kind), own, skip)?;
        }
    }
    Ok(())
}

/// The file names of the crates in a lock file.
fn locked_crates(lock: &str) -> BTreeSet<String> {
    let lock: toml::Table = lock.parse().unwrap_or_default();
    let packages = lock.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    let text = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
    packages
        .filter_map(|package| Some(format!("{}-{}.crate", text(package, "name")?, text(package, "version")?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_names_the_crates_to_take_along() {
        let lock = "version = 4\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n[[package]]\nname = \"b\"\nversion = \"2.0.0-rc\"\n";
        let expected = ["a-1.0.0.crate", "b-2.0.0-rc.crate"].map(str::to_owned);
        assert_eq!(locked_crates(lock), expected.into());
    }
}
