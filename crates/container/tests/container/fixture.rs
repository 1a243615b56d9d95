//! An image with one small static program, compiled once per run of the tests, and a runtime to run it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::json;
use tare_container::Cleanup;
use tare_container::choice::Facts;
use tare_container::life::Container;
use tare_container::rights::Rights;
use tare_container::spec::ContainerSpec;
use tare_container::target::{Target, host_architecture};
use tare_container::{Options, Runtime, RuntimeKind};
use tare_oci::digest::Digest;
use tempfile::TempDir;

/// Nothing here waits longer for what has to come.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// The program of the image, which executes its arguments.
const PROGRAM: &str = include_str!("program.rs");

/// The folder that lives as long as the tests run, with the program and `tare-keeper` in it.
fn built() -> &'static (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).to_path_buf();
        if let Some(program) = std::env::var_os("TARE_TEST_PROGRAM") {
            return (program.into(), keeper(&folder));
        }
        // A test may start these tests again, which must not take the program away from others.
        let own = tempfile::tempdir_in(&folder).unwrap();
        let (source, unfinished) = (own.path().join("program.rs"), own.path().join("program"));
        fs::write(&source, PROGRAM).unwrap();
        let program = folder.join("program");
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let compiled = Command::new(rustc)
            .args(["--edition", "2024", "-O", "-C", "linker=rust-lld", "--target", &target, "-o"])
            .arg(&unfinished)
            .arg(&source)
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        fs::rename(&unfinished, &program).unwrap();
        (program, keeper(&folder))
    })
}

/// The program that images of tests run.
pub(crate) fn program() -> &'static Path {
    &built().0
}

/// As cargo built it beside the tests, or as TARE_KEEPER says.
fn keeper(folder: &Path) -> PathBuf {
    if let Some(path) = std::env::var_os("TARE_KEEPER") {
        return path.into();
    }
    let target = folder.parent().unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "tare-keeper",
            "--profile",
            "xtask",
            "--target-dir",
        ])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    target.join("xtask/tare-keeper")
}

/// Whether containers can be made here at all; says so if not.
pub(crate) fn possible() -> bool {
    let facts = Facts::gather(None, None);
    let possible = facts.root || facts.delegated && Rights::of_this_process() == Rights::Namespace;
    if !possible {
        let mut stderr = std::io::stderr();
        let why =
            "as an ordinary user containers need a delegated group, and `unshare --user --map-root-user`";
        let _ = writeln!(stderr, "left out: {why}");
    }
    possible
}

/// Tests that need root.
pub(crate) fn as_root() -> bool {
    tare_container::rights::is_root()
}

/// A world of its own for one test.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) options: Options,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            cache: folder.path().join("cache"),
            state: folder.path().join("state"),
            keeper: Some(built().1.clone()),
            path: std::env::var_os("PATH"),
            cleanup: Cleanup::default(),
        };
        Self { folder, options }
    }

    pub(crate) fn runtime(&self) -> Runtime {
        Runtime::open(RuntimeKind::Embedded, &self.options).unwrap()
    }

    /// The image of the program.
    pub(crate) fn image(&self) -> Target {
        self.image_with(&json!({"Entrypoint": ["/program"], "ExposedPorts": {"8080/tcp": {}}}))
    }

    pub(crate) fn image_with(&self, execution: &serde_json::Value) -> Target {
        let program = fs::read(&built().0).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        add(&mut tar, "program", 0o755, &program);
        add(&mut tar, "not-executable", 0o644, b"text");
        let layers = [tar.into_inner().unwrap()];
        let layout = self.folder.path().join("layout");
        write_layout(&layout, &layers, execution);
        Target::resolve(layout.to_str().unwrap(), None, self.folder.path()).unwrap()
    }

    /// Creates and starts a container of the program with arguments.
    pub(crate) fn run(&self, runtime: &Runtime, spec: ContainerSpec, arguments: &[&str]) -> Container {
        let args = std::iter::once("/program").chain(arguments.iter().copied()).map(str::to_owned);
        let spec = ContainerSpec { args: Some(args.collect()), ..spec };
        let container = runtime.create(&self.image(), &spec).unwrap();
        container.start().unwrap();
        container
    }
}

/// Writes an image whose program answers over HTTP, for tests of the command line.
#[test]
#[ignore = "called by the virtual machine, which says where to"]
fn an_image_for_others() {
    let folder = std::env::var("TARE_TEST_IMAGE").unwrap();
    let execution = json!({"Entrypoint": ["/program", "http=8080"], "ExposedPorts": {"8080/tcp": {}}});
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, "program", 0o755, &fs::read(&built().0).unwrap());
    write_layout(Path::new(&folder), &[tar.into_inner().unwrap()], &execution);
}

pub(crate) fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    tar.append_data(&mut header, path, content).unwrap();
}

/// Writes an OCI layout of these uncompressed layers.
pub(crate) fn write_layout(layout: &Path, layers: &[Vec<u8>], execution: &serde_json::Value) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let stored: Vec<_> = layers.iter().map(|layer| put(layer)).collect();
    let diff_ids: Vec<&str> = stored.iter().map(|(digest, _)| digest.as_str()).collect();
    let config = json!({
        "architecture": host_architecture(), "os": "linux", "config": execution,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let (config, config_size) = put(config.to_string().as_bytes());
    let layers: Vec<_> = stored
        .iter()
        .map(|(digest, size)| {
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size})
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size,
        },
        "layers": layers,
    });
    let (manifest, size) = put(manifest.to_string().as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": size},
    ]});
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Waits until something is the case.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !is() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs something in a network namespace, on a thread of its own.
pub(crate) fn inside<T: Send + 'static>(netns: &Path, action: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(netns).unwrap();
    let run = move || {
        rustix::thread::move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&file),
            Some(rustix::thread::LinkNameSpaceType::Network),
        )
        .unwrap();
        action()
    };
    std::thread::spawn(run).join().unwrap()
}

/// What a server answers to a connection, once there is one.
pub(crate) fn answer(address: SocketAddr) -> String {
    let mut text = String::new();
    until("an answer", || {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, BOUND) else { return false };
        stream.set_read_timeout(Some(BOUND)).unwrap();
        text.clear();
        stream.read_to_string(&mut text).is_ok() && !text.is_empty()
    });
    text
}
