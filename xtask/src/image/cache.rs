//! The cache of written layers, under the digest of their inputs.
//!
//! An entry is a blob and a record with its descriptor. The folder is not trusted: blob and record are checked against
//! their digests on every use, and a damaged entry is written anew.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use tare_oci::blob::{FileError, Staging};
use tare_oci::compress::Compression;
use tare_oci::digest::{DiffId, Digest};
use tare_oci::input;
use tare_oci::layer::Layer;
use tare_oci::spec::Descriptor;

/// A version that changes whenever the bytes for a plan change.
const FORMAT: &str = concat!("tare ", env!("CARGO_PKG_VERSION"), " layers 7");

/// The digest of a layer's content and of the way it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheKey(Digest);

impl CacheKey {
    /// The key of a plan's fingerprint: with what the compressor makes of a sample, because versions of it differ.
    #[must_use]
    pub fn new(fingerprint: Digest, compression: Compression) -> Self {
        // A compressor that fails here fails again when it is to write the layer.
        let compressor =
            compression.fingerprint().map_or_else(|_| String::new(), |digest| digest.to_string());
        Self(Digest::of(format!("{FORMAT}\n{fingerprint}\n{compression}\n{compressor}\n").as_bytes()))
    }
}

impl CacheKey {
    /// The key of a layer of a base image, whose bytes are given.
    #[must_use]
    pub fn of_base(blob: Digest) -> Self {
        Self(Digest::of(format!("{FORMAT}\nbase {blob}\n").as_bytes()))
    }
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Record {
    descriptor: Descriptor,
    diff_id: DiffId,
    uncompressed_size: u64,
    /// The digest of the other fields and the key, which detects every changed bit.
    check: Digest,
}

impl Record {
    fn new(key: CacheKey, layer: &Layer) -> Self {
        let Layer { descriptor, diff_id, uncompressed_size, .. } = layer;
        let text = format!(
            "{}\n{}\n{}\n{}\n{diff_id}\n{uncompressed_size}\n",
            key.0,
            descriptor.media_type(),
            descriptor.digest(),
            descriptor.size()
        );
        Self {
            descriptor: descriptor.clone(),
            diff_id: *diff_id,
            uncompressed_size: *uncompressed_size,
            check: Digest::of(text.as_bytes()),
        }
    }
}

/// The folder of the entries.
#[derive(Debug, Clone)]
pub struct LayerCache {
    dir: PathBuf,
}

impl LayerCache {
    /// In a folder that [`Workspace::cache`](crate::workspace::Workspace::cache) has checked.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn paths(&self, key: CacheKey) -> (PathBuf, PathBuf) {
        let hex = key.0.hex();
        (self.dir.join(format!("{hex}.json")), self.dir.join(format!("{hex}.blob")))
    }

    /// The layer and its blob, if it was written before and is undamaged. The name is the caller's: it
    /// is no part of a layer's bytes.
    #[must_use]
    pub fn find(&self, key: CacheKey, name: &str) -> Option<(Layer, PathBuf)> {
        let (record_path, blob_path) = self.paths(key);
        let record: Record = serde_json::from_slice(&input::read(&record_path).ok()?).ok()?;
        let layer = Layer {
            name: name.to_owned(),
            descriptor: record.descriptor.clone(),
            diff_id: record.diff_id,
            uncompressed_size: record.uncompressed_size,
        };
        if Record::new(key, &layer) != record {
            return None;
        }
        let blob = input::open_with(File::options().read(true).write(true), &blob_path).ok()?;
        let (digest, size) = Digest::of_reader(&blob).ok()?;
        if Descriptor::new(layer.descriptor.media_type().clone(), size, digest) != layer.descriptor {
            return None;
        }
        // The least recently used entries are removed first. A read-only cache still works.
        let _ = blob.set_modified(SystemTime::now());
        Some((layer, blob_path))
    }

    /// What was noted about a layer, if it is undamaged.
    #[must_use]
    pub fn note(&self, key: CacheKey) -> Option<Vec<u8>> {
        let mut bytes = input::read(&self.note_path(key)).ok()?;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let note = bytes.split_off(end + 1);
        (bytes == check_line(&note)).then_some(note)
    }

    /// Keeps a note about a layer. It is removed together with the layer.
    ///
    /// # Errors
    /// When it cannot be written to the folder.
    pub fn keep_note(&self, key: CacheKey, note: &[u8], staging: &Staging) -> Result<(), FileError> {
        staging.write(&self.note_path(key), &[&check_line(note), note].concat())
    }

    fn note_path(&self, key: CacheKey) -> PathBuf {
        self.dir.join(format!("{}.note", key.0.hex()))
    }

    /// Keeps a layer that was just written.
    ///
    /// # Errors
    /// When it cannot be moved to the folder.
    pub fn keep(
        &self,
        key: CacheKey,
        layer: &Layer,
        blob: &Path,
        staging: &Staging,
    ) -> Result<PathBuf, FileError> {
        let (record_path, blob_path) = self.paths(key);
        let record = serde_json::to_vec(&Record::new(key, layer))
            .map_err(io::Error::from)
            .map_err(FileError::on("write", &record_path))?;
        staging.publish(blob, &blob_path)?;
        staging.write(&record_path, &record)?;
        Ok(blob_path)
    }
}

/// The first line of a note, which detects every changed bit of the rest.
fn check_line(note: &[u8]) -> Vec<u8> {
    format!("{}\n", Digest::of(note)).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use tare_oci::spec::MediaType;

    struct Fixture {
        _dir: tempfile::TempDir,
        cache: LayerCache,
        staging: Staging,
        key: CacheKey,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let cache = LayerCache::new(dir.path().join("cache"));
            fs::create_dir(&cache.dir).unwrap();
            let staging = Staging::create(dir.path().join("staging")).unwrap();
            let key = CacheKey::new(Digest::of(b"plan"), Compression::default());
            Self { cache, staging, key, _dir: dir }
        }

        fn keep(&self, key: CacheKey, content: &[u8]) -> (Layer, PathBuf) {
            let layer = Layer {
                name: "base".into(),
                descriptor: Descriptor::new(
                    MediaType::ImageLayerGzip,
                    content.len() as u64,
                    Digest::of(content),
                ),
                diff_id: DiffId(Digest::of(b"tar")),
                uncompressed_size: 99,
            };
            let (_, path) = self.staging.file().unwrap();
            fs::write(&path, content).unwrap();
            let blob = self.cache.keep(key, &layer, &path, &self.staging).unwrap();
            (layer, blob)
        }
    }

    #[test]
    fn what_was_kept_is_found_under_its_key_only() {
        let fixture = Fixture::new();
        assert_eq!(fixture.cache.find(fixture.key, "base"), None);
        let (layer, blob) = fixture.keep(fixture.key, b"content");
        assert_eq!(fixture.cache.find(fixture.key, "base"), Some((layer, blob)));
        let other = CacheKey::new(Digest::of(b"plan"), Compression::None);
        assert_eq!(fixture.cache.find(other, "base"), None);
    }

    #[test]
    fn a_damaged_note_is_none() {
        let fixture = Fixture::new();
        let note = || fixture.cache.note(fixture.key);
        assert_eq!(note(), None);
        fixture.cache.keep_note(fixture.key, b"a\nb", &fixture.staging).unwrap();
        assert_eq!(note(), Some(b"a\nb".to_vec()));
        let path = fixture.cache.note_path(fixture.key);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert_eq!(note(), None, "byte {at}");
        }
    }

    #[test]
    fn every_damaged_bit_is_noticed() {
        let fixture = Fixture::new();
        let (_, blob) = fixture.keep(fixture.key, b"content");
        for path in [blob.clone(), blob.with_extension("json")] {
            let good = fs::read(&path).unwrap();
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 1;
                fs::write(&path, &bad).unwrap();
                assert_eq!(fixture.cache.find(fixture.key, "base"), None, "byte {at} of {}", path.display());
            }
            fs::write(&path, &good[..good.len() - 1]).unwrap();
            assert_eq!(fixture.cache.find(fixture.key, "base"), None);
            fs::write(&path, &good).unwrap();
        }
        assert!(fixture.cache.find(fixture.key, "base").is_some());
    }

    #[test]
    fn finding_a_layer_keeps_it_longer_than_others() {
        let fixture = Fixture::new();
        let keys = [b"1", b"2", b"3"].map(|plan| CacheKey::new(Digest::of(plan), Compression::None));
        for (at, key) in keys.iter().enumerate() {
            let (_, blob) = fixture.keep(*key, &[at as u8; 10]);
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at as u64);
            for file in [blob.with_extension("json"), blob] {
                File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
            }
        }
        fixture.cache.find(keys[0], "base").unwrap();
        let record = fs::metadata(fixture.cache.paths(keys[0]).0).unwrap().len();
        tare_tool::cache::prune(&[&fixture.cache.dir], 2 * (10 + record));
        let found = keys.map(|key| fixture.cache.find(key, "base").is_some());
        assert_eq!(found, [true, false, true]);
    }
}
