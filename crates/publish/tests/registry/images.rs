//! Layouts to publish.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tare_publish::content::Content;
use tare_publish::credentials::Keychain;
use tare_publish::registry::{Access, Repository};
use tare_publish::{HttpOptions, Retry, reference};
use tare_tool::environment::Environment;

use crate::server::{TestRegistry, digest};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A layout on disk.
pub(crate) struct Layout {
    folder: tempfile::TempDir,
    /// Of the image itself.
    pub(crate) root: String,
}

impl Layout {
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn open(&self) -> Content<'static> {
        Content::open(self.path()).unwrap()
    }

    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.path().join("blobs").join(digest.replace(':', "/"))
    }

    fn put(folder: &Path, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(&digest[7..]), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// One image for each platform, with these layers beside one of its own.
    pub(crate) fn of(platforms: &[&str], layers: &[&[u8]]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let mut manifests = Vec::new();
        for platform in platforms {
            let config = json!({"architecture": platform, "os": "linux", "config": {},
                "rootfs": {"type": "layers", "diff_ids": []}});
            let own = format!("layer for {platform}");
            let layers: Vec<Value> = layers
                .iter()
                .copied()
                .chain([own.as_bytes()])
                .map(|bytes| Self::put(path, LAYER, bytes))
                .collect();
            let config = Self::put(path, CONFIG, config.to_string().as_bytes());
            let manifest =
                json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
            let mut manifest = Self::put(path, MANIFEST, manifest.to_string().as_bytes());
            manifest["platform"] = json!({"architecture": platform, "os": "linux"});
            manifests.push(manifest);
        }
        let root = if let [only] = manifests.as_slice() {
            only.clone()
        } else {
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
            Self::put(path, INDEX, index.to_string().as_bytes())
        };
        let top = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [root]});
        fs::write(path.join("index.json"), top.to_string()).unwrap();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let root = root["digest"].as_str().unwrap().to_owned();
        Self { folder, root }
    }
}

/// Bytes that differ everywhere.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..length).map(byte).collect()
}

/// Options whose pauses take no time and are recorded.
pub(crate) fn options() -> (HttpOptions, Arc<Mutex<Vec<Duration>>>) {
    let pauses = Arc::new(Mutex::new(vec![]));
    let record = Arc::clone(&pauses);
    let sleep = Arc::new(move |pause| record.lock().unwrap().push(pause));
    let retry = Retry { sleep, ..Retry::default() };
    (HttpOptions { retry, ..HttpOptions::default() }, pauses)
}

pub(crate) fn environment() -> Environment {
    Environment { variables: Default::default(), current_dir: PathBuf::new(), parallelism: 1 }
}

pub(crate) fn open(registry: &TestRegistry, name: &str, mount_from: Option<&str>) -> Repository {
    let (options, _) = options();
    let reference = reference::parse(&registry.reference(name)).unwrap();
    let keychain = Keychain::new(environment(), None);
    let warn = |warning| panic!("{warning}");
    Repository::open(&reference, Access::Push, mount_from, &keychain, &options, &warn).unwrap()
}
