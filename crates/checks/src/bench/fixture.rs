//! Workspaces made for measuring: images of programs that were built before.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use super::Bench;
use super::scratch;
use tare_oci::digest::Digest;
use tare_tool::process::Cmd;

/// A cargo workspace without packages.
#[derive(Debug)]
pub(super) struct Fixture {
    root: PathBuf,
}

/// What `image --json` tells, as far as it is used here.
#[derive(Debug, Deserialize)]
pub(super) struct Built {
    pub(super) platforms: Vec<BuiltPlatform>,
    pub(super) layout: PathBuf,
    pub(super) timings: BuiltTimings,
}

#[derive(Debug, Deserialize)]
pub(super) struct BuiltPlatform {
    pub(super) binary: PathBuf,
    pub(super) size: u64,
    pub(super) layers: Vec<BuiltLayer>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BuiltLayer {
    pub(super) name: String,
    pub(super) digest: Digest,
    pub(super) cached: bool,
}

/// In milliseconds.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct BuiltTimings {
    pub(super) build: u64,
    pub(super) layers: u64,
    pub(super) output: u64,
}

impl Built {
    pub(super) fn parse(json: &[u8]) -> anyhow::Result<Self> {
        serde_json::from_slice(json).context("`image --json` printed something else")
    }

    pub(super) fn platform(&self) -> anyhow::Result<&BuiltPlatform> {
        self.platforms.first().context("the image has no platform")
    }
}

impl Fixture {
    pub(super) fn create(root: PathBuf) -> anyhow::Result<Self> {
        let fixture = Self { root };
        fixture.write(Path::new("Cargo.toml"), b"[workspace]\nresolver = \"3\"\n")?;
        Ok(fixture)
    }

    /// Defines an image of `program`.
    pub(super) fn image(&self, name: &str, definition: &str, program: &[u8]) -> anyhow::Result<()> {
        let definition = format!("[build]\noutput = \"{PROGRAM}\"\n{definition}");
        self.write(&Path::new("images").join(name).join("image.toml"), definition.as_bytes())?;
        self.program(name, program)
    }

    /// Changes the program of an image.
    pub(super) fn program(&self, name: &str, program: &[u8]) -> anyhow::Result<()> {
        self.write(&Path::new("images").join(name).join(PROGRAM), program)
    }

    pub(super) fn write(&self, path: &Path, content: &[u8]) -> anyhow::Result<()> {
        write(&self.root.join(path), content)
    }

    /// Removes everything that was built in it, layers that are kept for later too.
    pub(super) fn forget(&self) -> anyhow::Result<()> {
        let dir = self.root.join("target");
        scratch::remove(&dir).with_context(|| format!("cannot remove {}", dir.display()))
    }

    /// `cargo xtask …` in it, without cargo in between.
    pub(super) fn tare(&self, bench: &Bench<'_>) -> Cmd {
        bench.tare(&self.root)
    }

    /// Where an image's archive is written.
    pub(super) fn archive(&self, name: &str) -> PathBuf {
        self.root.join("target/images").join(name).join(format!("{name}.tar"))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.root
    }
}

/// What the program of an image is called.
const PROGRAM: &str = "server";

/// Writes a file with the folders it lies in.
pub(super) fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    make_executable(path).with_context(|| format!("cannot change {}", path.display()))
}

#[cfg(unix)]
fn make_executable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> std::io::Result<()> {
    Ok(())
}
