//! What git says of a checkout: the revision and the time of the image.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Fixture, is_root, left_out};

/// 2024-01-01T00:00:00Z, and half a year later.
const FIRST: &str = "1704067200 +0000";
const SECOND: &str = "1719792000 +0000";

impl Fixture {
    /// Runs git in a folder; gives back what it prints.
    fn git(&self, dir: &Path, time: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        self.prepare(&mut command);
        command
            .current_dir(dir)
            .args(["-c", "user.name=A", "-c", "user.email=a@example.org"])
            .args(arguments)
            .env("GIT_AUTHOR_DATE", time)
            .env("GIT_COMMITTER_DATE", time);
        let run = self.run_command(command);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        run.stdout.trim().to_owned()
    }

    /// A repository with two commits; gives back the last one's revision.
    fn commits(&self) -> String {
        self.write(".gitignore", "target\n");
        self.git(self.root(), FIRST, &["init", "--quiet"]);
        for time in [FIRST, SECOND] {
            self.write("time", time);
            self.git(self.root(), time, &["add", "--all"]);
            self.git(self.root(), time, &["commit", "--quiet", "--message", "x"]);
        }
        self.git(self.root(), FIRST, &["rev-parse", "HEAD"])
    }

    /// A build in a folder without SOURCE_DATE_EPOCH: revision and time of the image, and the
    /// warnings.
    fn revision(&self, dir: &Path) -> (Option<String>, String, String) {
        let mut command = self.command(&["image", "app", "--quiet", "--json"]);
        command.current_dir(dir).env_remove("SOURCE_DATE_EPOCH");
        let run = self.run_command(command);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let summary: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        let annotation =
            |key: &str| summary["annotations"][format!("org.opencontainers.image.{key}")].as_str();
        let created = annotation("created").unwrap_or_default().to_owned();
        (annotation("revision").map(str::to_owned), created, run.stderr)
    }
}

fn quiet(revision: Option<&str>, created: &str) -> (Option<String>, String, String) {
    (revision.map(str::to_owned), created.to_owned(), String::new())
}

const EPOCH: &str = "1970-01-01T00:00:00Z";
const LAST: &str = "2024-07-01T00:00:00Z";

#[test]
fn without_git_there_is_no_revision_and_the_time_is_zero() {
    let fixture = Fixture::new();
    assert_eq!(fixture.revision(fixture.root()), quiet(None, EPOCH));
}

#[test]
fn a_repository_without_commits_is_no_problem() {
    let fixture = Fixture::new();
    fixture.git(fixture.root(), FIRST, &["init", "--quiet"]);
    assert_eq!(fixture.revision(fixture.root()), quiet(None, EPOCH));
}

#[test]
fn the_last_commit_gives_revision_and_time_and_changes_make_it_dirty() {
    let fixture = Fixture::new();
    let revision = fixture.commits();
    let clean = quiet(Some(&revision), LAST);
    assert_eq!(fixture.revision(fixture.root()), clean);
    // From a folder within, as it is when cargo is called there.
    assert_eq!(fixture.revision(&fixture.path("server/src")), clean);

    fixture.write("not-added", "x");
    assert_eq!(fixture.revision(fixture.root()), clean, "files that git does not track do not count");

    let dirty = quiet(Some(&format!("{revision}-dirty")), LAST);
    fixture.write("time", "changed");
    assert_eq!(fixture.revision(fixture.root()), dirty);
    fixture.write("time", SECOND);
    assert_eq!(fixture.revision(fixture.root()), clean);
    fs::remove_file(fixture.path("time")).unwrap();
    assert_eq!(fixture.revision(fixture.root()), dirty);
    fixture.write("time", SECOND);
    fixture.git(fixture.root(), FIRST, &["add", "not-added"]);
    assert_eq!(fixture.revision(fixture.root()), dirty, "what is added and not committed counts");
}

#[test]
fn source_date_epoch_comes_before_the_commit() {
    let fixture = Fixture::new();
    let revision = fixture.commits();
    fixture.succeeds(&["image", "app"]);
    let annotations = fixture.summary("app")["annotations"].clone();
    assert_eq!(annotations["org.opencontainers.image.created"], "2023-11-14T22:13:20Z");
    assert_eq!(annotations["org.opencontainers.image.revision"], *revision);
}

#[test]
fn a_shallow_clone_knows_its_commit() {
    let fixture = Fixture::new();
    let revision = fixture.commits();
    let clone = fixture.outside().join("clone");
    let origin = format!("file://{}", fixture.root().display());
    let arguments = ["clone", "--quiet", "--depth", "1", &origin, &clone.to_string_lossy()];
    fixture.git(fixture.outside(), FIRST, &arguments);
    assert_eq!(fixture.git(&clone, FIRST, &["rev-list", "--count", "HEAD"]), "1");
    assert_eq!(fixture.revision(&clone), quiet(Some(&revision), LAST));
}

#[test]
fn a_checkout_without_git_on_path_is_built_with_a_warning() {
    let fixture = Fixture::new();
    fixture.commits();
    let mut command = fixture.command(&["image", "app", "--quiet"]);
    command.env("PATH", fixture.path("images")).env_remove("SOURCE_DATE_EPOCH");
    let run = fixture.run_command(command);
    let warning = "warning: the image has no revision and no commit time, and so another digest than elsewhere: `git` is not installed or not on PATH\n";
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), warning));
    let summary = fixture.summary("app");
    assert_eq!(summary["annotations"]["org.opencontainers.image.created"], EPOCH);
    assert_eq!(summary["annotations"].get("org.opencontainers.image.revision"), None);
}

#[test]
fn a_broken_repository_is_built_with_a_warning() {
    let fixture = Fixture::new();
    fixture.commits();
    fs::remove_file(fixture.path(".git/HEAD")).unwrap();
    let run = fixture.run(&[OsStr::new("image"), OsStr::new("--quiet")]);
    assert_eq!(run.code, Some(0));
    let begins =
        "warning: the image has no revision and no commit time, and so another digest than elsewhere: `git ";
    assert!(run.stderr.starts_with(begins) && run.stderr.contains("not a git repository"), "{}", run.stderr);
}

/// git sets these for hooks, which may call us in a folder of the repository.
#[test]
fn variables_of_hooks_do_not_lead_to_another_repository() {
    let fixture = Fixture::new();
    let revision = fixture.commits();
    let other = fixture.outside().join("other");
    fixture.git(fixture.outside(), FIRST, &["init", "--quiet", &other.to_string_lossy()]);
    let git = |path: &str| fixture.path(".git").join(path).to_string_lossy().into_owned();
    let other = |path: &str| other.join(path).to_string_lossy().into_owned();
    for variables in [
        &[("GIT_DIR", ".git".to_owned())][..],
        &[("GIT_DIR", git(""))],
        &[("GIT_INDEX_FILE", ".git/index".to_owned()), ("GIT_PREFIX", "server/".to_owned())],
        &[("GIT_DIR", other(".git")), ("GIT_WORK_TREE", other("")), ("GIT_INDEX_FILE", other(".git/index"))],
        &[("GIT_OBJECT_DIRECTORY", other(".git/objects")), ("GIT_COMMON_DIR", other(".git"))],
    ] {
        for folder in ["", "server/src"] {
            let mut command = fixture.command(&["image", "app", "--quiet", "--json"]);
            command
                .current_dir(fixture.path(folder))
                .env_remove("SOURCE_DATE_EPOCH")
                .envs(variables.iter().cloned());
            let run = fixture.run_command(command);
            let summary: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
            let annotation =
                |key: &str| summary["annotations"][format!("org.opencontainers.image.{key}")].clone();
            let found = (annotation("revision"), annotation("created"), run.stderr.as_str());
            assert_eq!(found, (revision.as_str().into(), LAST.into(), ""), "{folder} {variables:?}");
        }
    }
}

#[test]
fn linked_worktrees_and_submodules_have_their_own_revision() {
    let fixture = Fixture::new();
    // The workspace is in a folder of its repository.
    let (top, workspace) = (fixture.root().to_path_buf(), fixture.path("rust"));
    fs::create_dir(&workspace).unwrap();
    for name in ["Cargo.toml", "Cargo.lock", "server", "images"] {
        fs::rename(fixture.path(name), workspace.join(name)).unwrap();
    }
    fixture.git(&top, FIRST, &["init", "--quiet"]);
    fixture.write(".gitignore", "target\n");
    fixture.git(&top, FIRST, &["add", "--all"]);
    fixture.git(&top, FIRST, &["commit", "--quiet", "--message", "x"]);
    let revision = fixture.git(&top, FIRST, &["rev-parse", "HEAD"]);
    let first = "2024-01-01T00:00:00Z";
    assert_eq!(fixture.revision(&workspace), quiet(Some(&revision), first));

    let parent = top.parent().unwrap().to_path_buf();
    let worktree = parent.join("worktree");
    fixture.git(&top, FIRST, &["worktree", "add", "--quiet", &worktree.to_string_lossy()]);
    assert_eq!(fixture.revision(&worktree.join("rust/server")), quiet(Some(&revision), first));

    // The workspace is in a submodule of another repository, which has a commit of its own.
    let outer = parent.join("outer");
    fs::create_dir(&outer).unwrap();
    fixture.git(&outer, SECOND, &["init", "--quiet"]);
    let url = top.to_string_lossy().into_owned();
    let allow = "protocol.file.allow=always";
    fixture.git(&outer, SECOND, &["-c", allow, "submodule", "--quiet", "add", &url, "inner"]);
    fixture.git(&outer, SECOND, &["commit", "--quiet", "--message", "y"]);
    let inner = outer.join("inner/rust");
    assert_eq!(fixture.revision(&inner), quiet(Some(&revision), first));
    fs::write(inner.join("server/src/main.rs"), "fn main() {}\n").unwrap();
    assert_eq!(fixture.revision(&inner), quiet(Some(&format!("{revision}-dirty")), first));
}

#[test]
fn the_revision_is_the_workspaces_where_its_xtask_is_a_submodule() {
    let fixture = Fixture::new();
    fixture.git(fixture.root(), FIRST, &["init", "--quiet"]);
    fixture
        .write("xtask/Cargo.toml", "[package]\nname = \"xtask\"\nversion = \"0.0.0\"\nedition = \"2024\"\n");
    fixture.write("xtask/src/main.rs", "fn main() {}\n");
    fixture.write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"server\", \"xtask\"]\n");
    fixture.git(&fixture.path("xtask"), FIRST, &["init", "--quiet"]);
    fixture.git(&fixture.path("xtask"), FIRST, &["add", "--all"]);
    fixture.git(&fixture.path("xtask"), FIRST, &["commit", "--quiet", "--message", "xtask"]);
    let revision = fixture.commits();
    let mut command = fixture.command(&["image", "app", "--quiet"]);
    command.env("CARGO_MANIFEST_DIR", fixture.path("xtask"));
    let run = fixture.run_command(command);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(fixture.summary("app")["annotations"]["org.opencontainers.image.revision"], *revision);
}

#[test]
fn a_checkout_of_another_user_is_built_with_a_warning_that_says_so() {
    if !is_root() {
        return left_out("a checkout of another user");
    }
    let fixture = Fixture::new();
    let revision = fixture.commits();
    for path in [fixture.root().to_path_buf(), fixture.path(".git")] {
        std::os::unix::fs::chown(path, Some(1001), None).unwrap();
    }
    let run = fixture.run(&["image", "app", "--quiet"]);
    let warning = "warning: the image has no revision and no commit time, and so another digest than elsewhere: \
        ROOT belongs to another user; `git config --global --add safe.directory ROOT` lets git read it\n";
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), warning));
    // As CI has it.
    let mut command = fixture.command(&["image", "app", "--quiet"]);
    command
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*");
    assert_eq!(fixture.run_command(command).stderr, "");
    assert_eq!(fixture.summary("app")["annotations"]["org.opencontainers.image.revision"], *revision);
}

#[test]
fn the_origin_is_the_source_without_its_password() {
    let fixture = Fixture::new();
    fixture.commits();
    let origin = "https://user:secret@git.example/team/app.git";
    fixture.git(fixture.root(), FIRST, &["remote", "add", "origin", origin]);
    fixture.succeeds(&["image", "app"]);
    let summary = fixture.summary("app");
    assert_eq!(summary["annotations"]["org.opencontainers.image.source"], "https://git.example/team/app");
    let layout = files_with(&fixture.path("target/images"), b"secret");
    assert_eq!(layout, Vec::<String>::new());
}

/// The files below a folder that hold these bytes.
fn files_with(dir: &Path, bytes: &[u8]) -> Vec<String> {
    let names = crate::support::files(dir).into_iter().filter(|(_, digest)| digest.is_some());
    let holds = |name: &String| {
        let content = fs::read(dir.join(name)).unwrap();
        content.windows(bytes.len()).any(|window| window == bytes)
    };
    names.map(|(name, _)| name).filter(holds).collect()
}

#[test]
fn layers_keep_their_digests_from_commit_to_commit_unless_a_file_asks_for_the_commits_time() {
    let fixture = Fixture::new();
    fixture.write("images/app/page.html", "page");
    let definition = |mtime: &str| {
        format!(
            "[build]\noutput = \"server\"\n[[layers]]\nname = \"site\"\n{mtime}entries = [{{ file = \"/page.html\" }}]\n"
        )
    };
    // The layers' digests and times at each of two commits that change no file of the image.
    let at_both_commits = |mtime: &str| {
        fixture.image("app", &definition(mtime));
        [FIRST, SECOND].map(|time| {
            fixture.write("time", format!("{time} {mtime}"));
            fixture.git(fixture.root(), time, &["add", "--all"]);
            fixture.git(fixture.root(), time, &["commit", "--quiet", "--message", "x"]);
            let mut command = fixture.command(&["image", "app", "--quiet", "--json"]);
            command.env_remove("SOURCE_DATE_EPOCH");
            let run = fixture.run_command(command);
            assert_eq!(run.code, Some(0), "{}", run.stderr);
            let summary: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
            let layers = summary["platforms"][0]["layers"].as_array().unwrap().clone();
            let digest = |layer: &serde_json::Value| layer["digest"].as_str().unwrap().to_owned();
            let created = summary["annotations"]["org.opencontainers.image.created"].clone();
            (layers.iter().map(digest).collect::<Vec<_>>(), created)
        })
    };
    fixture.commits();
    let [(first, created), (second, later)] = at_both_commits("");
    assert_eq!(first.len(), 3);
    assert_eq!(first, second);
    assert_ne!(created, later);
    let [(first, _), (second, _)] = at_both_commits("mtime = \"commit\"\n");
    assert_eq!(first[..2], second[..2]);
    assert_ne!(first[2], second[2]);
}
