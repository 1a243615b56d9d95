//! The two steps of a part that needs images or the keeper, and the files that xtask and the part exchange.
//!
//! `PART plan --plan FILE --workspace FOLDER -- ARGUMENTS` checks the arguments and this host and writes a [`Wanted`].
//! xtask builds it, writes a [`Plan`] in its place, and becomes `PART run --plan FILE -- ARGUMENTS`. So a part calls
//! nothing back, and xtask does not know the arguments. [`Step::of`] reads what [`ask`] and xtask write.

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cache;
use crate::environment;
use crate::private::{self, FreshFolder, PrivateError};
use crate::process::{Execute as _, Shell, cmd};

/// What no plan is longer than.
const LIMIT: u64 = 1 << 20;

/// The step that a part is called for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Check the arguments and this host, and write a [`Wanted`].
    Plan {
        /// The file for it.
        plan: PathBuf,
        /// The folder of the workspace's Cargo.toml.
        workspace: PathBuf,
    },
    /// Execute the arguments, with the images that were built.
    Run {
        /// The file of the [`Plan`]; `-` is stdin.
        plan: PathBuf,
    },
    /// Both at once: the part was called by its own name, and nothing is built for it.
    Alone,
}

impl Step {
    /// Splits the arguments of a part's process, without its name, into the step and the part's own arguments.
    #[must_use]
    pub fn of(arguments: &[OsString]) -> (Self, &[OsString]) {
        let is = |at: usize, word: &str| arguments.get(at).is_some_and(|it| it == word);
        match arguments {
            [_, _, plan, _, workspace, _, own @ ..]
                if is(0, "plan") && is(1, "--plan") && is(3, "--workspace") && is(5, "--") =>
            {
                (Self::Plan { plan: plan.into(), workspace: workspace.into() }, own)
            }
            [_, _, plan, _, own @ ..] if is(0, "run") && is(1, "--plan") && is(3, "--") => {
                (Self::Run { plan: plan.into() }, own)
            }
            own => (Self::Alone, own),
        }
    }
}

/// The images and programs that the first step asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Images of the workspace.
    pub images: WantedImages,
    /// References of images in registries, which are fetched for this host's platform.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pulled: Vec<String>,
    /// The reference of an image that another one is judged by. It is fetched with the reports that are attached to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// Whether the second step makes containers with `tare-keeper`.
    pub keeper: bool,
    /// Whether only what went wrong is to be printed.
    pub quiet: bool,
}

/// Before the reference in the name of the planned image that is a baseline. Its reports lie in [`reports`] of its layout.
pub const BASELINE: &str = "baseline:";

/// The folder of the reports that were fetched with an image, beside its layout.
#[must_use]
pub fn reports(layout: &Path) -> PathBuf {
    layout.with_extension("reports")
}

/// Whether a name means an image in a registry: it begins with a host, as `ghcr.io/team/app:1.2` does, or with
/// `docker://`, and no file has that name. Docker Hub's short names are written with `docker.io/`.
#[must_use]
pub fn is_reference(name: &str) -> bool {
    if name.starts_with("docker://") {
        return true;
    }
    let Some((host, rest)) = name.split_once('/') else { return false };
    let begins = host.starts_with(|c: char| c.is_ascii_alphanumeric());
    // What is no port follows a transport's name, as in `docker-daemon:`.
    let is_host = match host.split_once(':') {
        Some((_, port)) => !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()),
        None => host == "localhost" || host.contains('.'),
    };
    begins && is_host && !rest.is_empty() && !name.contains('\\') && !Path::new(name).exists()
}

/// Which images of the workspace the second step needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WantedImages {
    /// None of them.
    None,
    /// All that are built without being named.
    Default,
    /// These.
    Named(Vec<String>),
    /// These, without those whose toolchain is not installed.
    Available(Vec<String>),
    /// These, without those that cannot be built, for whatever reason.
    Buildable(Vec<String>),
}

/// The images and programs that the second step gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The folders of the workspace.
    pub workspace: Folders,
    /// The program `tare-keeper`, if it was wanted.
    #[serde(default)]
    pub keeper: Option<PathBuf>,
    /// The images that were wanted.
    #[serde(default)]
    pub images: Vec<PlannedImage>,
    /// The user to whom the results belong, where root's process runs the plan for another user.
    #[serde(default)]
    pub user: Option<User>,
}

impl Plan {
    /// For a part that is called alone: the workspace is this folder, and nothing was built.
    #[must_use]
    pub fn alone(root: &Path) -> Self {
        let workspace = Folders { root: root.to_owned(), target_dir: root.join("target") };
        Self { workspace, keeper: None, images: vec![], user: None }
    }
}

/// Where a workspace is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folders {
    /// The folder of its Cargo.toml.
    pub root: PathBuf,
    /// Where cargo builds.
    pub target_dir: PathBuf,
}

impl Folders {
    /// A path as it is shown: relative to the workspace where it lies inside.
    #[must_use]
    pub fn show(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedImage {
    /// Its name in the workspace, or what reports call it.
    pub name: String,
    /// Its layout or archive.
    pub location: String,
    /// Its platforms.
    #[serde(default)]
    pub platforms: Vec<PlannedPlatform>,
}

/// One platform of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedPlatform {
    /// `linux/amd64`
    pub platform: String,
    /// The program with its symbols, if it has some.
    pub unstripped_binary: Option<PathBuf>,
}

/// A user with the groups of its processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "they are the fields of credentials(7)")]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// Reads what one of the steps wrote.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let mut text = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut text));
    read.with_context(|| format!("cannot read the plan {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no plan", path.display()))
}

/// Writes the file that the other step reads.
///
/// # Errors
/// When the file cannot be written, or a path in it is not Unicode.
pub fn write<T: Serialize>(path: &Path, plan: &T) -> anyhow::Result<()> {
    let cannot = || format!("cannot write the plan {}", path.display());
    let text = serde_json::to_vec(plan).with_context(cannot)?;
    Ok(private::replace_file(path, &text).map_err(PrivateError::on("write the plan", path))?)
}

/// How the first step ended.
#[derive(Debug)]
pub enum Planned {
    /// Images and programs to build. The second step reads the file, into which they are written.
    Wanted(Wanted, PathBuf),
    /// There is no second step, as after an error or `--help`: the exit code.
    Ended(u8),
}

/// Has a part plan, with this process's own stdout and stderr. The plan lies below `folder`, which is for this user
/// alone and which nothing else may use.
///
/// # Errors
/// When the part cannot be run, or its file cannot be read.
pub fn ask(part: &Path, root: &Path, arguments: &[OsString], folder: &Path) -> anyhow::Result<Planned> {
    private::own_folder(folder)?;
    cache::sweep(folder, cache::UNUSED);
    let own = FreshFolder::create(folder, "")?;
    let file = own.path().join("plan.json");
    let sh = Shell::new()?;
    let code = cmd!(sh, "{part} plan --plan {file} --workspace {root} -- {arguments...}")
        .env(environment::COMMAND_VARIABLE, environment::command())
        .exit_code()?;
    if code != 0 || !file.exists() {
        return Ok(Planned::Ended(code));
    }
    let wanted = read(&file)?;
    // The second step replaces this process, so a later call removes the file.
    let file = own.keep().join("plan.json");
    Ok(Planned::Wanted(wanted, file))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// A part that does this. `$3` is the plan's file.
    fn part(folder: &Path, does: &str) -> PathBuf {
        let path = folder.join("part");
        // By another process: no program can be run that a child of another test's holds open for writing.
        let sh = Shell::new().unwrap();
        cmd!(sh, "install -m 755 /dev/stdin {path}")
            .run_with_input(|stdin| write!(stdin, "#!/bin/sh\n{does}\n"))
            .unwrap();
        path
    }

    #[test]
    fn the_step_is_split_from_the_parts_own_arguments() {
        let words = |text: &str| text.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        let plan = Step::Plan { plan: "f".into(), workspace: "/w".into() };
        for (arguments, step, own) in [
            ("plan --plan f --workspace /w -- profile app", plan.clone(), "profile app"),
            ("plan --plan f --workspace /w --", plan, ""),
            ("run --plan - -- run app -- x", Step::Run { plan: "-".into() }, "run app -- x"),
            ("run app --plan f", Step::Alone, "run app --plan f"),
            ("profile app", Step::Alone, "profile app"),
            ("", Step::Alone, ""),
        ] {
            assert_eq!(Step::of(&words(arguments)), (step, &words(own)[..]), "{arguments}");
        }
    }

    #[test]
    fn a_reference_begins_with_a_host() {
        for (name, expected) in [
            ("ghcr.io/team/app:1", true),
            ("localhost/app", true),
            ("127.0.0.1:5000/app@sha256:00", true),
            ("docker://app", true),
            ("app", false),
            ("team/app", false),
            ("./app.tar", false),
            ("../a.b/c", false),
            ("/a.b/c", false),
            ("docker-daemon:ghcr.io/app", false),
            ("oci:a/b", false),
            ("C:/images/app", false),
            ("src/plan.rs", false),
        ] {
            assert_eq!(is_reference(name), expected, "{name}");
        }
    }

    #[test]
    fn a_part_says_what_it_wants_or_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let plans = folder.path().join("plans");
        let words = ["profile".into(), "app".into()];
        let asked = |does: &str| ask(&part(folder.path(), does), Path::new("/w"), &words, &plans);

        let wanted = r#"{"images":{"named":["app"]},"keeper":true,"quiet":false}"#;
        let does = format!(
            "test \"$1 $2 $4 $5 $6 $7 $8\" = 'plan --plan --workspace /w -- profile app' && echo '{wanted}' >$3"
        );
        let Planned::Wanted(wanted, file) = asked(&does).unwrap() else { panic!("nothing is wanted") };
        let images = WantedImages::Named(vec!["app".to_owned()]);
        assert_eq!(wanted, Wanted { images, pulled: vec![], baseline: None, keeper: true, quiet: false });
        // Nobody else can change what the second step reads.
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o7777, 0o700);
        let workspace = Folders { root: "/w".into(), target_dir: "/t".into() };
        let plan = Plan { workspace, keeper: Some("/k".into()), images: vec![], user: None };
        write(&file, &plan).unwrap();
        assert_eq!(read::<Plan>(&file).unwrap(), plan);

        for (does, code) in [("exit 3", 3), ("exit 0", 0), ("echo '{}' >$3; exit 1", 1), ("kill -9 $$", 255)]
        {
            let Planned::Ended(ended) = asked(does).unwrap() else { panic!("{does}: something is wanted") };
            assert_eq!(ended, code, "{does}");
        }
        // Of these nothing is left.
        assert_eq!(fs::read_dir(&plans).unwrap().count(), 1);
        let error = asked("echo '{}' >$3").unwrap_err().to_string();
        assert!(error.ends_with("plan.json is no plan"), "{error}");
    }
}
