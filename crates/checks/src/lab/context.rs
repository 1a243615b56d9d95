//! The images that checks and benchmarks use, built by the `xtask` beside this program, and a working folder.

use std::cell::OnceCell;
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;
use tempfile::TempDir;

use super::expect::json;
use super::namespace::remove_cgroups;
use super::tools::{Found, Tool};
use crate::host;
use tare_oci::platform::Platform;
use tare_oci::reader::{ReadImage, Source, images};
use tare_tool::environment::Environment;
use tare_tool::process::xshell::Cmd;
use tare_tool::process::{Execute as _, Shell, cmd, shell_in};
use tare_tool::ui::Ui;
use xtask_tare::image::outputs::{PlatformSummary, Summary};
use xtask_tare::workspace::Workspace;

/// The sample image of the workspace.
pub(crate) const SAMPLE: &str = "app";
/// The port on which its server listens by default.
pub(crate) const SAMPLE_PORT: u16 = 60_000;

/// A built image, as `image --json` describes it.
#[derive(Debug, Deserialize)]
pub(crate) struct Built(Summary);

impl Deref for Built {
    type Target = Summary;

    fn deref(&self) -> &Summary {
        &self.0
    }
}

impl Built {
    /// The image of the first platform, which is this host's.
    pub(crate) fn first(&self) -> anyhow::Result<&PlatformSummary> {
        self.platforms.first().context("the image has no platform")
    }

    /// The diff ids of its layers, lowest first.
    pub(crate) fn diff_ids(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.first()?.layers.iter().map(|layer| layer.diff_id.to_string()).collect())
    }

    /// Its documents, read back by our reader.
    pub(crate) fn read(&self) -> anyhow::Result<(Source, ReadImage)> {
        let source = Source::open(&self.layout)?;
        let image = images(&source)?.into_iter().next().context("the layout holds no image")?;
        Ok((source, image))
    }

    /// The archive behind a transport such as `docker-archive`, and what follows it.
    pub(crate) fn archive_as(&self, transport: &str, rest: &str) -> String {
        format!("{transport}:{}{rest}", self.archive.display())
    }

    /// The layout behind a transport such as `oci`, and what follows it.
    pub(crate) fn layout_as(&self, transport: &str, rest: &str) -> String {
        format!("{transport}:{}{rest}", self.layout.display())
    }
}

/// A cargo workspace without packages: images of programs that were built before.
#[derive(Debug)]
pub(crate) struct MadeUp {
    pub(crate) root: PathBuf,
}

/// The beginning of an image's definition in a [`MadeUp`] workspace, before its layers.
pub(crate) const PREBUILT: &str = "[build]\noutput = \"server\"\n";

impl MadeUp {
    fn create(root: PathBuf) -> anyhow::Result<Self> {
        write(&root.join("Cargo.toml"), b"[workspace]\nresolver = \"3\"\n")?;
        Ok(Self { root })
    }

    /// Defines an image of a program, and gives back where the program lies.
    pub(crate) fn image(&self, name: &str, definition: &str, program: &[u8]) -> anyhow::Result<PathBuf> {
        let folder = self.folder(name);
        write(&folder.join("image.toml"), definition.as_bytes())?;
        let place = folder.join("server");
        write(&place, program)?;
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
        Ok(place)
    }

    /// The folder of an image's definition.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.root.join("images").join(name)
    }
}

/// Writes a file with the folders it lies in.
pub(crate) fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, content))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// What every check and benchmark is given.
pub(crate) struct Context<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) env: &'a Environment,
    pub(crate) ui: Ui,
    pub(crate) found: Found,
    /// In the workspace.
    pub(crate) sh: Shell,
    /// The program of `cargo xtask`.
    pub(crate) program: PathBuf,
    sample: OnceCell<Built>,
    both: OnceCell<Built>,
    folder: TempDir,
}

impl<'a> Context<'a> {
    /// Looks for the tools that are needed.
    pub(crate) fn new<'b>(
        tools: impl Iterator<Item = &'b Tool>,
        workspace: &'a Workspace,
        env: &'a Environment,
        ui: Ui,
    ) -> anyhow::Result<Self> {
        sweep();
        let folder = tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir();
        Ok(Self {
            workspace,
            env,
            ui,
            found: Found::probe(tools, env),
            sh: shell_in(&workspace.root)?,
            program: crate::xtask()?,
            sample: OnceCell::new(),
            both: OnceCell::new(),
            folder: folder.context("cannot create a temporary folder")?,
        })
    }

    /// Removes everything.
    pub(crate) fn close(self) -> anyhow::Result<()> {
        let path = self.folder.path().to_path_buf();
        self.folder.close().with_context(|| format!("cannot remove {}", path.display()))
    }

    /// The folder that everything lies in; its name is part of the names of what is not a file.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The last part of that folder's name, which nobody else uses.
    pub(crate) fn unique(&self) -> String {
        self.folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A new folder in it: with a number in its name where the name is taken.
    pub(crate) fn new_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let mut path = self.folder().join(name);
        for number in 2.. {
            if !path.exists() {
                break;
            }
            path = self.folder().join(format!("{name}-{number}"));
        }
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// A new workspace of made-up images.
    pub(crate) fn made_up(&self, name: &str) -> anyhow::Result<MadeUp> {
        MadeUp::create(self.new_folder(name)?)
    }

    /// `cargo xtask` in a workspace, without cargo in between.
    pub(crate) fn xtask(&self, root: &Path) -> Cmd<'_> {
        let (sh, xtask) = (&self.sh, &self.program);
        let command = cmd!(sh, "env -C {root} {xtask}").without_env(self.env.of_cargo_run());
        if root == self.workspace.root {
            command
        } else {
            command.without_env(["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"])
        }
    }

    /// Builds an image of the workspace for this host into a folder of its own.
    pub(crate) fn build(&self, name: &str, folder: &str, arguments: &[&str]) -> anyhow::Result<Built> {
        self.ui.status("Building", &format!("{name} {}", arguments.join(" ")));
        self.build_with(self.xtask(&self.workspace.root), name, folder, arguments)
    }

    /// The same by a command that begins with `xtask`.
    pub(crate) fn build_with(
        &self,
        command: Cmd<'_>,
        name: &str,
        folder: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Built> {
        let output = command
            .args(["image", name, "--json", "--quiet", "--platform", &host().to_string()])
            .args(arguments)
            .arg("--output")
            .arg(self.folder().join(folder))
            .capture()?;
        Ok(serde_json::from_value(json("`image --json`", &output)?)?)
    }

    /// The sample image for this host.
    pub(crate) fn sample(&self) -> anyhow::Result<&Built> {
        once(&self.sample, || self.build(SAMPLE, "sample", &[]))
    }

    /// The sample image for all platforms; this host's is first.
    pub(crate) fn both(&self) -> anyhow::Result<&Built> {
        let other = Platform::ALL.into_iter().find(|platform| *platform != host()).unwrap_or(host());
        once(&self.both, || self.build(SAMPLE, "both", &["--platform", &other.to_string()]))
    }
}

/// The value of a cell, made when it is first asked for.
fn once<T>(cell: &OnceCell<T>, make: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<&T> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = make()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}

/// The beginning of the names of all runs' folders; the id of the process follows.
const PREFIX: &str = "tare-outside-";

/// Removes what killed runs have left: their processes ended with them, their folders and empty control groups
/// did not.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let id = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let ended = id.is_some_and(|id| id.parse::<u32>().is_ok() && !Path::new("/proc").join(id).exists());
        if ended {
            remove_cgroups(&name);
            // What cannot be removed is somebody else's.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
