//! podman loads archives of every compression, and keeps every property that OCI defines.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::docker::expected_config;
use super::fixtures::{FULL, ODD, fixture, folder_name};
use super::rootfs::{Allowed, compare, of_folder, of_image};
use crate::lab::context::{Built, Context, SAMPLE};
use crate::lab::expect::{at, json, same};
use crate::lab::namespace::{Isolated, in_namespaces};
use crate::lab::tools::Tool;
use tare_tool::process::xshell::Cmd;
use tare_tool::process::{Execute as _, Shell};

const STORAGE: &str = "storage.conf";

/// podman with a store of its own. It always writes below `/run`, so that is its own too.
pub(super) struct Podman<'a> {
    sh: &'a Shell,
    program: PathBuf,
    folder: PathBuf,
}

impl<'a> Podman<'a> {
    pub(super) fn new(context: &'a Context<'_>) -> anyhow::Result<Self> {
        let folder = context.new_folder("podman")?;
        let program = context.found.path(Tool::Program("podman"));
        // Files as they are unpacked, on any file system, and nothing stays mounted.
        let path = |name: &str| folder.join(name).display().to_string();
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = {:?}\nrunroot = {:?}\n",
            path("root"),
            path("run")
        );
        let place = folder.join(STORAGE);
        fs::write(&place, storage).with_context(|| format!("cannot write {}", place.display()))?;
        Ok(Self { sh: &context.sh, program, folder })
    }

    /// A program that calls it.
    pub(super) fn client(&self, program: &Path) -> Cmd<'a> {
        self.with_store(in_namespaces(self.sh, program)).without_env(["CONTAINERS_CONF"])
    }

    fn with_store<'b>(&self, command: Cmd<'b>) -> Cmd<'b> {
        let storage = self.folder.join(STORAGE);
        command.env("CONTAINERS_STORAGE_CONF", storage).without_env(["CONTAINER_HOST", "STORAGE_DRIVER"])
    }

    /// The command of a program that runs containers by it, by runc and without systemd: crun refuses to run beside
    /// hierarchies of both cgroup versions.
    pub(super) fn configured<'b>(&self, command: Cmd<'b>) -> anyhow::Result<Cmd<'b>> {
        let place = self.folder.join("containers.conf");
        let text = "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
        fs::write(&place, text).with_context(|| format!("cannot write {}", place.display()))?;
        Ok(self.with_store(command).env("CONTAINERS_CONF", place))
    }

    fn command(&self, arguments: &[&str]) -> Cmd<'a> {
        self.client(&self.program)
            .args(["--cgroup-manager", "cgroupfs"])
            .args(arguments)
            .env("HOME", &self.folder)
    }

    pub(super) fn load(&self, archive: &Path) -> anyhow::Result<String> {
        let archive = archive.display().to_string();
        Ok(self.command(&["load", "--quiet", "--input", &archive]).capture_text()?)
    }

    /// Runs an image until the end of the process, in namespaces of its own.
    pub(super) fn start(&self, image: &str) -> anyhow::Result<Isolated> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let arguments = [
            "--cgroup-manager",
            "cgroupfs",
            "run",
            "--rm",
            "--network=host",
            // Its cgroups would outlive the namespaces.
            "--cgroups=disabled",
            "--pull=never",
            image,
        ];
        let env = [("CONTAINERS_STORAGE_CONF", &*path(STORAGE)), ("HOME", &*path(""))];
        Isolated::start(&self.program, &arguments, &env, &self.folder.join("log"))
    }

    /// Removes an image from the store.
    pub(super) fn remove(&self, image: &str) -> anyhow::Result<()> {
        self.command(&["image", "rm", image]).capture()?;
        Ok(())
    }

    /// Writes an image in one of its forms.
    pub(super) fn save(&self, format: &str, place: &Path, name: &str) -> anyhow::Result<()> {
        let place = place.display().to_string();
        self.command(&["save", "--quiet", "--format", format, "--output", &place, name]).capture()?;
        Ok(())
    }

    fn inspect(&self, name: &str) -> anyhow::Result<serde_json::Value> {
        let output = self.command(&["image", "inspect", name]).capture()?;
        Ok(at(&json("podman", &output)?, "/0").clone())
    }
}

/// The whole of it.
pub(super) fn load(context: &Context<'_>) -> anyhow::Result<()> {
    let podman = Podman::new(context)?;
    for compression in ["none", "gzip", "gzip:6", "zstd"] {
        content(&podman, context, compression)?;
    }
    parameters(&podman, &fixture(context, FULL, "podman-full", &[])?, FULL)?;

    // The sample, loaded by ourselves. There is no network, and nothing is left to compile.
    let sample = context.sample()?;
    podman
        .client(&context.program)
        .args(["image", SAMPLE, "--quiet", "--offline", "--load", "podman", "--output"])
        .arg(context.folder().join("podman-loaded"))
        .without_env(context.env.of_cargo_run())
        .capture()?;
    let facts = podman.inspect("app:latest")?;
    same("image id of the sample", at(&facts, "/Id"), &sample.first()?.image_id.hex().into())?;
    podman.command(&["image", "rm", "app:latest"]).capture()?;

    // Of several platforms it takes this host's, and remembers the index.
    let both = context.both()?;
    same("loaded", &podman.load(&both.archive)?, &"Loaded image: docker.io/library/app:latest".to_owned())?;
    let facts = podman.inspect("app:latest")?;
    same("image id", at(&facts, "/Id"), &both.first()?.image_id.hex().into())?;
    same("digest", at(&facts, "/Digest"), &both.digest.to_string().into())
}

/// It makes the root before it unpacks the first layer, and later writes into it.
const ALLOWED: Allowed = Allowed { extra: &[], other_time: &[""] };

fn content(podman: &Podman<'_>, context: &Context<'_>, compression: &str) -> anyhow::Result<()> {
    let folder = folder_name(&format!("podman-{compression}"));
    let built = fixture(context, ODD, &folder, &["--compression", compression])?;
    podman.load(&built.archive)?;
    let facts = podman.inspect("odd:latest")?;
    same("digest", at(&facts, "/Digest"), &built.digest.to_string().into())?;
    same("layers", at(&facts, "/RootFS/Layers"), &built.diff_ids()?.into())?;
    let root = PathBuf::from(podman.command(&["image", "mount", "odd:latest"]).capture_text()?);
    let (source, image) = built.read()?;
    compare(&format!("podman, {compression}"), &of_folder(&root)?, &of_image(&source, &image)?, &ALLOWED)?;
    podman.command(&["image", "umount", "odd:latest"]).capture()?;
    // Layers that it knows it would not unpack again.
    podman.command(&["image", "rm", "odd:latest"]).capture()?;
    Ok(())
}

fn parameters(podman: &Podman<'_>, built: &Built, name: &str) -> anyhow::Result<()> {
    podman.load(&built.archive)?;
    let facts = podman.inspect(&format!("{name}:latest"))?;
    same("image id", at(&facts, "/Id"), &built.first()?.image_id.hex().into())?;
    let mut expected = expected_config(built)?;
    // "HEALTHCHECK is not supported for OCI image format and will be ignored", says buildah.
    let removed = expected.as_object_mut().and_then(|config| config.remove("Healthcheck"));
    removed.context("the image has no health check")?;
    same("parameters", at(&facts, "/Config"), &expected)
}
