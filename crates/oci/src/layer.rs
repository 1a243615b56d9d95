//! Layers: what they will hold, as data; and the one pass that writes tar, diff id, compressed blob and
//! digest together.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use super::compress::{Compression, Pool};
use super::digest::{DiffId, Digest, Digesting};
use super::entry::{Content, Entry, EntryKind};
use super::spec::Descriptor;
use super::tar;
use crate::input;

/// Everything a layer will hold, before a byte of it is written.
#[derive(Clone, Debug)]
pub struct LayerPlan {
    /// What it is called in the definition, in tables and in the image's history.
    pub name: String,
    /// Sorted by path, each path once, parents before what lies in them.
    pub entries: Vec<Entry>,
}

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A file that goes into it cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that goes into it has another length than when the layer was planned.
    #[error("{path} changed while the layer was written: {planned} bytes were planned, {read} were read", path = path.display())]
    Changed {
        /// Which.
        path: PathBuf,
        /// Bytes planned.
        planned: u64,
        /// Bytes read; one more than planned if there are more.
        read: u64,
    },
    /// The layer cannot be written.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
}

/// A layer that was written: all that an image says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What it is called.
    pub name: String,
    /// Of the blob as stored.
    pub descriptor: Descriptor,
    /// Of its tar.
    pub diff_id: DiffId,
    /// Bytes of its tar.
    pub uncompressed_size: u64,
}

/// A layer that was just written.
#[derive(Debug)]
pub struct Packed<W> {
    /// What an image says about it.
    pub layer: Layer,
    /// The fingerprint of the bytes that were packed. It differs from the plan's own [`fingerprint`] if a
    /// file changed between the two readings.
    pub fingerprint: Digest,
    /// Where it was written to.
    pub out: W,
}

/// Writes a layer in one pass: tar → diff id → compressed → digest → `out`. The fingerprint of what it holds is computed
/// on the way.
///
/// # Errors
/// When a file cannot be read or is not as planned, or `out` cannot be written.
pub fn write<W: Write>(
    plan: &LayerPlan,
    compression: Compression,
    pool: &Pool,
    out: W,
) -> Result<Packed<W>, LayerError> {
    let length = tar_length(plan)?;
    let mut tar = pool.encoder(compression, length, Digesting::new(out));
    let fingerprint = write_tar(plan, &mut tar)?;
    let (blob, (diff_id, uncompressed_size)) = tar.finish().map_err(LayerError::Write)?;
    let (out, (digest, size)) = blob.finish();
    let layer = Layer {
        name: plan.name.clone(),
        descriptor: Descriptor::new(compression.media_type(), size, digest),
        diff_id: DiffId(diff_id),
        uncompressed_size,
    };
    Ok(Packed { layer, fingerprint, out })
}

/// How long the tar of a plan is, known before it is written.
fn tar_length(plan: &LayerPlan) -> Result<u64, LayerError> {
    let (mut length, mut written) = (0, Vec::new());
    for entry in &plan.entries {
        write_header(entry, &mut written)?;
        if let EntryKind::File(content) = &entry.kind {
            length += content.size();
            tar::write_padding(&mut written, content.size()).map_err(LayerError::Write)?;
        }
        length += written.len() as u64;
        written.clear();
    }
    tar::write_end(&mut written).map_err(LayerError::Write)?;
    Ok(length + written.len() as u64)
}

fn write_header(entry: &Entry, out: &mut impl Write) -> Result<(), LayerError> {
    let kind = match &entry.kind {
        EntryKind::Directory => tar::Kind::Directory,
        EntryKind::File(content) => tar::Kind::File(content.size()),
        EntryKind::Symlink(target) => tar::Kind::Symlink(target),
    };
    let header = tar::Header {
        path: entry.path.as_bytes(),
        kind,
        mode: entry.mode,
        uid: entry.owner.uid,
        gid: entry.owner.gid,
        mtime: entry.mtime.seconds(),
        capabilities: entry.capabilities.as_deref().copied(),
    };
    tar::write_header(out, &header).map_err(LayerError::Write)
}

/// Writes the tar, and gives back the fingerprint of what was written.
fn write_tar(plan: &LayerPlan, out: &mut impl Write) -> Result<Digest, LayerError> {
    let mut fingerprint = Fingerprint::new();
    let mut buffer = vec![0; 128 << 10];
    for entry in &plan.entries {
        write_header(entry, out)?;
        fingerprint.entry(entry)?;
        if let EntryKind::File(content) = &entry.kind {
            for_each_chunk(entry, content, &mut buffer, |chunk| {
                fingerprint.chunk(content, chunk)?;
                out.write_all(chunk).map_err(LayerError::Write)
            })?;
            tar::write_padding(out, content.size()).map_err(LayerError::Write)?;
        }
    }
    tar::write_end(out).map_err(LayerError::Write)?;
    Ok(fingerprint.finish())
}

/// Opens the content of an entry.
fn open<'a>(entry: &Entry, content: &'a Content) -> Result<Box<dyn Read + 'a>, LayerError> {
    match (content, entry.source()) {
        (_, Some(path)) => match input::open(&path) {
            Ok(file) => Ok(Box::new(file)),
            Err(source) => Err(LayerError::Read { path, source }),
        },
        (Content::Bytes(bytes), None) => Ok(Box::new(&***bytes)),
        (_, None) => Ok(Box::new(io::empty())),
    }
}

/// Passes a file's bytes on, exactly as many as were planned.
fn for_each_chunk(
    entry: &Entry,
    content: &Content,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    if let Content::Bytes(bytes) = content {
        return take(bytes);
    }
    let mut input = open(entry, content)?;
    let planned = content.size();
    let mut read = 0;
    loop {
        let length = loop {
            match input.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(LayerError::Read { path: entry.source().unwrap_or_default(), source });
                }
                Ok(length) => break length,
            }
        };
        read += length as u64;
        if read > planned || (length == 0 && read < planned) {
            return Err(LayerError::Changed { path: entry.source().unwrap_or_default(), planned, read });
        }
        if length == 0 {
            return Ok(());
        }
        take(&buffer[..length])?;
    }
}

/// The identity of a plan's bytes: two plans with one fingerprint are written as the same layer.
/// Covers every field of every entry and the content of every file, which are read for it.
///
/// # Errors
/// When a file cannot be read or is not as planned.
pub fn fingerprint(plan: &LayerPlan) -> Result<Digest, LayerError> {
    let mut fingerprint = Fingerprint::new();
    let mut buffer = vec![0; 128 << 10];
    for entry in &plan.entries {
        fingerprint.entry(entry)?;
        if let EntryKind::File(content) = &entry.kind {
            for_each_chunk(entry, content, &mut buffer, |chunk| fingerprint.chunk(content, chunk))?;
        }
    }
    Ok(fingerprint.finish())
}

/// A fingerprint while the entries of a plan are read, in their order.
struct Fingerprint(Digesting<io::Sink>);

impl Fingerprint {
    fn new() -> Self {
        Self(Digesting::new(io::sink()))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        // Lengths go first, so that no two sequences of fields read alike.
        self.0
            .write_all(&(bytes.len() as u64).to_le_bytes())
            .and_then(|()| self.0.write_all(bytes))
            .map_err(LayerError::Write)
    }

    /// Everything of an entry but the content of its file.
    fn entry(&mut self, entry: &Entry) -> Result<(), LayerError> {
        self.put(entry.path.as_bytes())?;
        self.put(&entry.mode.to_le_bytes())?;
        self.put(&entry.mtime.seconds().to_le_bytes())?;
        self.put(&entry.owner.uid.to_le_bytes())?;
        self.put(&entry.owner.gid.to_le_bytes())?;
        self.put(entry.capabilities.as_deref().map(|c| c.to_xattr()).as_ref().map_or(&[], |x| &x[..]))?;
        match &entry.kind {
            EntryKind::Directory => self.put(b"directory"),
            EntryKind::Symlink(target) => {
                self.put(b"symlink")?;
                self.put(target)
            }
            EntryKind::File(content) => {
                self.put(b"file")?;
                self.put(&content.size().to_le_bytes())?;
                match content {
                    Content::Bytes(bytes) => self.put(bytes.digest().to_string().as_bytes()),
                    Content::File(..) | Content::InTree(..) => Ok(()),
                }
            }
        }
    }

    /// A part of a file's content. The digest of what is in memory is known, and was put already.
    fn chunk(&mut self, content: &Content, chunk: &[u8]) -> Result<(), LayerError> {
        match content {
            Content::Bytes(_) => Ok(()),
            Content::File(..) | Content::InTree(..) => self.0.write_all(chunk).map_err(LayerError::Write),
        }
    }

    fn finish(self) -> Digest {
        self.0.finish().1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{InMemory, Owner};
    use crate::spec::MediaType;
    use crate::units::Epoch;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry {
            path: path.parse().unwrap(),
            kind,
            mode: 0o644,
            owner: Owner::default(),
            mtime: Epoch::OF_FILES,
            capabilities: None,
        }
    }

    fn plan(entries: Vec<Entry>) -> LayerPlan {
        LayerPlan { name: "test".into(), entries }
    }

    fn bytes(content: &[u8]) -> EntryKind {
        EntryKind::File(Content::Bytes(InMemory::new(content.into())))
    }

    #[test]
    fn one_pass_yields_tar_diff_id_and_digest() {
        let plan = plan(vec![
            Entry { mode: 0o755, ..entry("/a", EntryKind::Directory) },
            entry("/a/f", bytes(b"hello")),
            entry("/a/l", EntryKind::Symlink(b"f".as_slice().into())),
        ]);
        let pool = Pool::start(1);
        let packed = |compression| write(&plan, compression, &pool, Vec::new()).unwrap();
        let Packed { layer, out: blob, .. } = packed(Compression::Gzip(6));
        let Packed { layer: raw, out: tar, .. } = packed(Compression::None);
        let expected = Descriptor::new(MediaType::ImageLayerGzip, blob.len() as u64, Digest::of(&blob));
        assert_eq!(layer.descriptor, expected);
        assert_eq!((layer.diff_id, raw.diff_id), (DiffId(Digest::of(&tar)), DiffId(Digest::of(&tar))));
        assert_eq!(layer.uncompressed_size, tar.len() as u64);
        let names: Vec<String> = ::tar::Archive::new(&tar[..])
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["a/", "a/f", "a/l"]);
    }

    #[test]
    fn a_file_that_changes_length_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "12345").unwrap();
        for (planned, read) in [(4, 5), (6, 5)] {
            let file = EntryKind::File(Content::File(path.as_path().into(), planned));
            let plan = plan(vec![entry("/f", file)]);
            let error = write(&plan, Compression::None, &Pool::start(1), Vec::new()).unwrap_err();
            assert!(
                matches!(&error, LayerError::Changed { planned: p, read: r, .. } if (*p, *r) == (planned, read)),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_changes_at_the_same_length_has_the_fingerprint_of_what_was_packed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let plan = plan(vec![
            entry("/f", EntryKind::File(Content::File(path.as_path().into(), 5))),
            entry("/memory", bytes(b"x")),
        ]);
        std::fs::write(&path, "first").unwrap();
        let first = fingerprint(&plan).unwrap();
        let packed = || write(&plan, Compression::None, &Pool::start(1), Vec::new()).unwrap();
        assert_eq!(packed().fingerprint, first);

        std::fs::write(&path, "other").unwrap();
        let Packed { fingerprint: of_packed, out, .. } = packed();
        assert!(out.windows(5).any(|window| window == b"other"));
        assert_ne!(of_packed, first);
        assert_eq!(of_packed, fingerprint(&plan).unwrap());
    }

    #[test]
    fn every_field_is_part_of_the_fingerprint() {
        let base = entry("/f", bytes(b"x"));
        let of = |entry: Entry| fingerprint(&plan(vec![entry])).unwrap();
        let variants = [
            base.clone(),
            entry("/g", bytes(b"x")),
            entry("/f", bytes(b"y")),
            entry("/f", EntryKind::Directory),
            entry("/f", EntryKind::Symlink(b"x".as_slice().into())),
            Entry { mode: 0o600, ..base.clone() },
            Entry { owner: Owner { uid: 1, gid: 0 }, ..base.clone() },
            Entry { owner: Owner { uid: 0, gid: 1 }, ..base.clone() },
            Entry { capabilities: Some(Box::new("cap_chown=ep".parse().unwrap())), ..base.clone() },
        ];
        let mut prints: Vec<Digest> = variants.into_iter().map(of).collect();
        prints.push(fingerprint(&plan(vec![Entry { mtime: Epoch::ZERO, ..base.clone() }])).unwrap());
        let distinct: std::collections::BTreeSet<&Digest> = prints.iter().collect();
        assert_eq!(distinct.len(), prints.len());
        assert_eq!(of(base), prints[0]);
    }
}
