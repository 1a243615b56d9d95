//! Workspaces to run the program in, and programs to put into images.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) use crate::tiny_elf::Elf;
use serde_json::Value;
use tare_oci::digest::Digest;
use tare_oci::reader::{ReadEntry, Source, images, read_layer};

/// The time of everything in the images: 2023-11-14T22:13:20Z.
pub(crate) const TIME: &str = "1700000000";

/// The definition of an image whose program is there already.
pub(crate) const PREBUILT: &str = "[build]\noutput = \"server\"\n";

/// A workspace with one package, `server`, and the image `app`; it goes when this is dropped.
pub(crate) struct Fixture {
    _dir: tempfile::TempDir,
    root: PathBuf,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::at("workspace")
    }

    /// In a folder of this name, which may be a path.
    pub(crate) fn at(folder: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The folder for temporary files may be a link, and the program shows where it leads.
        let root = dir.path().canonicalize().unwrap().join(folder);
        let fixture = Self { _dir: dir, root };
        fixture.write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"server\"]\n");
        fixture.write("Cargo.lock", "version = 4\n\n[[package]]\nname = \"server\"\nversion = \"1.2.3\"\n");
        fixture.write(
            "server/Cargo.toml",
            "[package]\nname = \"server\"\nversion = \"1.2.3\"\nedition = \"2024\"\n",
        );
        fixture.write("server/src/main.rs", "fn main() {\n    println!(\"hello\");\n}\n");
        fixture.image("app", PREBUILT);
        fixture
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// The folder above the workspace.
    pub(crate) fn outside(&self) -> &Path {
        self.root.parent().unwrap()
    }

    pub(crate) fn write(&self, relative: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Defines an image, with a static program `server` beside its definition.
    pub(crate) fn image(&self, name: &str, definition: &str) {
        self.write(format!("images/{name}/image.toml"), definition);
        self.write(format!("images/{name}/server"), Elf::STATIC.bytes());
    }

    /// The program, started in the workspace, with nothing of the caller's environment that changes
    /// what it does.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        self.prepare(&mut command);
        command.args(arguments);
        command
    }

    /// Gives a command the workspace and the environment that [`Self::command`] has.
    pub(crate) fn prepare(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            let changes = ["CARGO_", "GIT_", "RUSTFLAGS", "SOURCE_DATE_EPOCH", "CFLAGS", "CC_"];
            if name != "CARGO_HOME" && changes.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(&*name);
            }
        }
        command
            .current_dir(&self.root)
            .env("CARGO", env!("CARGO"))
            .env("SOURCE_DATE_EPOCH", TIME)
            // The fixture is no checkout, wherever the folder for temporary files is.
            .env("GIT_CEILING_DIRECTORIES", self.outside())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
    }

    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Run {
        self.run_command(self.command(arguments))
    }

    /// Runs a command and shows the workspace as `ROOT` and the folder above it as `OUTSIDE`.
    pub(crate) fn run_command(&self, mut command: Command) -> Run {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).replace(&*self.root.to_string_lossy(), "ROOT");
            text.replace(&*self.outside().to_string_lossy(), "OUTSIDE")
        };
        Run { code: status.code(), stdout: text(&stdout), stderr: text(&stderr) }
    }

    /// Runs what must succeed, and gives back its stdout.
    pub(crate) fn succeeds<A: AsRef<OsStr>>(&self, arguments: &[A]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        run.stdout
    }

    /// Runs what must be refused: exit code 2, nothing on stdout, no file of an image changed, created
    /// or left behind. Gives back its stderr.
    pub(crate) fn refuses<A: AsRef<OsStr>>(&self, arguments: &[A]) -> String {
        self.refuses_command(self.command(arguments))
    }

    pub(crate) fn refuses_command(&self, command: Command) -> String {
        let before = self.written();
        let run = self.run_command(command);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{}", run.stderr);
        assert_eq!(self.written(), before, "{}", run.stderr);
        run.stderr
    }

    /// Every definition of the table is refused with its text on stderr, when there is no image yet
    /// and when there is one, which stays as it is.
    pub(crate) fn refuses_definitions(&self, table: &[(&str, &str)]) {
        for earlier in [false, true] {
            if earlier {
                self.write("images/app/image.toml", PREBUILT);
                self.succeeds(&["image", "app"]);
            }
            assert_eq!(self.written().is_empty(), !earlier);
            for (definition, says) in table {
                self.write("images/app/image.toml", definition);
                assert_eq!(self.refuses(&["image", "app"]), *says, "{definition}");
            }
        }
    }

    /// What stands below `target/images` and is no layer cache or lock: files with their digests, and
    /// folders for unfinished files.
    pub(crate) fn written(&self) -> BTreeMap<String, Option<Digest>> {
        let mut written = files(&self.path("target/images"));
        let kept = |path: &str| !path.starts_with(".cache/layers/") && !path.starts_with(".cache/locks/");
        written.retain(|path, digest| kept(path) && (digest.is_some() || path.contains("staging/")));
        written.remove(".cache/staging/");
        written
    }

    /// The summary that a run left.
    pub(crate) fn summary(&self, name: &str) -> Value {
        let path = self.path(format!("target/images/{name}/{name}.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    pub(crate) fn layout(&self, name: &str) -> PathBuf {
        self.path(format!("target/images/{name}/layout"))
    }

    /// Every entry of the image's layers with its content, lowest layer first.
    pub(crate) fn entries(&self, name: &str) -> Vec<(ReadEntry, Vec<u8>)> {
        let source = Source::open(&self.layout(name)).unwrap();
        let mut entries = Vec::new();
        for image in images(&source).unwrap() {
            for layer in image.layers {
                read_layer(&source, &layer, |entry, content| {
                    let mut bytes = Vec::new();
                    content.read_to_end(&mut bytes)?;
                    entries.push((entry, bytes));
                    Ok(())
                })
                .unwrap();
            }
        }
        entries
    }

    /// The entries below a path of the image, as `ls` might show them.
    pub(crate) fn listing(&self, name: &str, below: &str) -> Vec<String> {
        let entries = self.entries(name).into_iter();
        let below = entries.filter(|(entry, _)| entry.path.starts_with(below.as_bytes()));
        below
            .map(|(entry, content)| {
                let ReadEntry { kind, mode, owner: (uid, gid), link, .. } = entry;
                let path = String::from_utf8_lossy(&entry.path).into_owned();
                let link = link.map(|link| format!(" -> {}", String::from_utf8_lossy(&link)));
                format!(
                    "{kind}{mode:04o} {uid}:{gid} {path}{} {:?}",
                    link.unwrap_or_default(),
                    String::from_utf8_lossy(&content)
                )
            })
            .collect()
    }

    /// What `inspect --validate` says of a layout, archive or name, and its exit code.
    pub(crate) fn validate(&self, image: impl AsRef<Path>) -> (Option<i32>, String) {
        let image = image.as_ref();
        let run = self.run(&[OsStr::new("inspect"), OsStr::new("--validate"), image.as_os_str()]);
        (run.code, if run.stderr.is_empty() { run.stdout } else { run.stderr })
    }
}

/// Everything below a folder by its path from there: files with their digests, folders with a slash
/// behind their names.
pub(crate) fn files(dir: &Path) -> BTreeMap<String, Option<Digest>> {
    fn walk(dir: &Path, at: &str, found: &mut BTreeMap<String, Option<Digest>>) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        for entry in entries {
            let entry = entry.unwrap();
            let path = format!("{at}{}", entry.file_name().to_string_lossy());
            if entry.file_type().unwrap().is_dir() {
                let path = format!("{path}/");
                walk(&entry.path(), &path, found);
                found.insert(path, None);
            } else {
                let is_file = fs::metadata(entry.path()).is_ok_and(|it| it.is_file());
                found.insert(path, is_file.then(|| Digest::of(&fs::read(entry.path()).unwrap())));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, "", &mut found);
    found
}

/// The file of a digest in a layout.
pub(crate) fn blob(layout: &Path, digest: &Value) -> PathBuf {
    let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    layout.join("blobs/sha256").join(hex)
}

/// Bytes that no compression makes smaller, the same for the same seed (xorshift64, Marsaglia 2003).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A path whose name need not be UTF-8.
pub(crate) fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Runs one of the system's programs, which must succeed.
pub(crate) fn system(program: &str, arguments: &[&OsStr]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether the tests run as root, who alone can mount and make device nodes.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Says that a test was left out, also where the test's own output is not shown.
pub(crate) fn left_out(what: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "left out: {what}: it needs root").unwrap();
}
