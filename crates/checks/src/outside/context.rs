//! What every check is given: the images that it looks at, built by the program that runs now, and a
//! folder to work in.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;
use tempfile::TempDir;

use super::expect::json;
use super::fixtures;
use super::namespace::remove_cgroups;
use super::tools::Found;
use crate::host;
use tare_oci::digest::{DiffId, Digest};
use tare_oci::platform::Platform;
use tare_oci::reader::{ReadImage, Source, images};
use tare_tool::environment::Environment;
use tare_tool::process::Cmd;
use tare_tool::ui::Ui;
use xtask_tare::workspace::Workspace;

/// The sample image of the workspace.
pub(super) const SAMPLE: &str = "app";
/// Where its server listens when it is not told otherwise.
pub(super) const SAMPLE_PORT: u16 = 60_000;

/// What `--json` says of an image, as far as it is needed here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Built {
    pub(super) digest: Digest,
    pub(super) platforms: Vec<BuiltPlatform>,
    pub(super) layout: PathBuf,
    pub(super) archive: PathBuf,
}

/// The same of one platform.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BuiltPlatform {
    /// `linux/amd64`
    pub(super) platform: String,
    pub(super) digest: Digest,
    pub(super) image_id: Digest,
    pub(super) binary: PathBuf,
    pub(super) layers: Vec<BuiltLayer>,
}

/// The same of one layer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BuiltLayer {
    pub(super) digest: Digest,
    pub(super) diff_id: DiffId,
}

impl Built {
    /// A platform's image, in the order of the index.
    pub(super) fn platform(&self, number: usize) -> anyhow::Result<&BuiltPlatform> {
        self.platforms.get(number).with_context(|| format!("the image has no platform {number}"))
    }

    /// The only or first one.
    pub(super) fn first(&self) -> anyhow::Result<&BuiltPlatform> {
        self.platform(0)
    }

    /// Its documents, read back by our reader.
    pub(super) fn read(&self) -> anyhow::Result<(Source, ReadImage)> {
        let source = Source::open(&self.layout)?;
        let image = images(&source)?.into_iter().next().context("the layout holds no image")?;
        Ok((source, image))
    }

    /// `docker-archive:` and the like with the archive, and what follows it.
    pub(super) fn archive_as(&self, transport: &str, rest: &str) -> String {
        format!("{transport}:{}{rest}", self.archive.display())
    }

    /// `oci:` and the like with the layout, and what follows it.
    pub(super) fn layout_as(&self, transport: &str, rest: &str) -> String {
        format!("{transport}:{}{rest}", self.layout.display())
    }
}

impl BuiltPlatform {
    /// Of every layer, lowest first.
    pub(super) fn diff_ids(&self) -> Vec<String> {
        self.layers.iter().map(|layer| layer.diff_id.to_string()).collect()
    }
}

/// What every check is given.
pub(super) struct Context<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) env: &'a Environment,
    pub(super) ui: Ui,
    pub(super) found: &'a Found,
    program: PathBuf,
    sample: OnceCell<Built>,
    both: OnceCell<Built>,
    fixtures: OnceCell<PathBuf>,
    folder: TempDir,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        workspace: &'a Workspace,
        env: &'a Environment,
        ui: Ui,
        found: &'a Found,
    ) -> anyhow::Result<Self> {
        sweep();
        let folder = tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir();
        Ok(Self {
            workspace,
            env,
            ui,
            found,
            program: crate::xtask()?,
            sample: OnceCell::new(),
            both: OnceCell::new(),
            fixtures: OnceCell::new(),
            folder: folder.context("cannot create a temporary folder")?,
        })
    }

    /// Removes everything.
    pub(super) fn close(self) -> anyhow::Result<()> {
        let path = self.folder.path().to_path_buf();
        self.folder.close().with_context(|| format!("cannot remove {}", path.display()))
    }

    /// The folder that everything lies in; its name is part of the names of what is not a file.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The last part of that folder's name, which nobody else uses.
    pub(super) fn unique(&self) -> String {
        self.folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A new folder in it.
    pub(super) fn new_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// A new folder in it, called so or, where another check has that already, with a number.
    pub(super) fn unused_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let is_free = |name: &String| !self.folder.path().join(name).exists();
        let mut names =
            std::iter::once(name.to_owned()).chain((2..).map(|number| format!("{name}-{number}")));
        self.new_folder(&names.find(is_free).unwrap_or_default())
    }

    /// The program of `cargo xtask`.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// The same, for the workspace in a folder.
    pub(super) fn xtask(&self, workspace: &Path) -> Cmd {
        Cmd::new(&self.program).current_dir(workspace).without_env(self.env.of_cargo_run())
    }

    /// Builds an image of the workspace into a folder of its own.
    pub(super) fn build(&self, name: &str, folder: &str, arguments: &[&str]) -> anyhow::Result<Built> {
        let command = self.xtask(&self.workspace.root);
        self.build_with(command, name, folder, arguments)
    }

    /// Builds one of the made-up images into a folder of its own.
    pub(super) fn fixture(&self, name: &str, folder: &str, arguments: &[&str]) -> anyhow::Result<Built> {
        let workspace = match self.fixtures.get() {
            Some(folder) => folder,
            None => {
                let folder = self.new_folder("fixtures")?;
                let written = fixtures::write(&folder, &self.sample()?.first()?.binary);
                written.with_context(|| format!("cannot write {}", folder.display()))?;
                self.fixtures.get_or_init(|| folder)
            }
        };
        let command = self
            .xtask(workspace)
            .without_env(["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"])
            .env("SOURCE_DATE_EPOCH", fixtures::TIME.to_string());
        self.build_with(command, name, folder, arguments)
    }

    fn build_with(
        &self,
        command: Cmd,
        name: &str,
        folder: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Built> {
        let output = command
            .args(["image", name, "--json", "--platform", &host().to_string()])
            .args(arguments)
            .arg("--output")
            .arg(self.folder.path().join(folder))
            .read()?;
        Ok(serde_json::from_value(json("`image --json`", &output)?)?)
    }

    /// The sample image for this host.
    pub(super) fn sample(&self) -> anyhow::Result<&Built> {
        if let Some(built) = self.sample.get() {
            return Ok(built);
        }
        self.ui.status("Building", &format!("{SAMPLE} for {}", host()));
        let built = self.build(SAMPLE, "sample", &[])?;
        Ok(self.sample.get_or_init(|| built))
    }

    /// The sample image for all platforms; this host's is first.
    pub(super) fn both(&self) -> anyhow::Result<&Built> {
        if let Some(built) = self.both.get() {
            return Ok(built);
        }
        let other = Platform::ALL.into_iter().find(|platform| *platform != host()).unwrap_or(host());
        self.ui.status("Building", &format!("{SAMPLE} for {} and {other}", host()));
        let built = self.build(SAMPLE, "both", &["--platform", &other.to_string()])?;
        Ok(self.both.get_or_init(|| built))
    }
}

/// How the folders of all runs are called, followed by the id of the process.
const PREFIX: &str = "tare-outside-";

/// Removes what runs have left that were killed: their processes ended with them, their folders and empty
/// control groups did not.
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
