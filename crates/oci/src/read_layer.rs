//! Reading a layer through: its entries and their content, with its digest and diff id.

use std::io::{self, BufReader, Read};

use super::digest::{DiffId, Digest, Digesting};
use super::shown::shown;
use super::source::{BlobRef, Encoding, ReadError, Source};
use super::untar::{ReadEntry, Untar};

/// Entries in one layer; the largest distributions' images have a hundred thousand.
const ENTRIES_LIMIT: u64 = 1_000_000;

/// A blob of an image and where it is.
#[derive(Debug, Clone)]
pub struct LayerBlob {
    /// As the manifest has it; docker archives have none.
    pub descriptor: Option<BlobRef>,
    /// Its file in the source.
    pub file: String,
    /// As the config has it.
    pub diff_id: Option<DiffId>,
}

/// Digests and sizes of a layer, as computed from its bytes.
#[derive(Debug, Clone)]
pub struct LayerFacts {
    /// Of the blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// Of the tar.
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub uncompressed_size: u64,
    /// How it is compressed.
    pub encoding: Encoding,
}

/// Bytes that a layer of so many stored bytes may hold: 2 GiB, or 100 times what is stored if that is more (text
/// shrinks to a tenth, zeros to a thousandth), and no more than 64 GiB.
fn most_uncompressed(stored: u64) -> u64 {
    stored.saturating_mul(100).clamp(2 << 30, 64 << 30)
}

/// Reads a layer through, from the first byte to the last: every entry goes to `visit` together with
/// its content, and digest and diff id are computed on the way. Memory does not grow with the layer.
///
/// # Errors
/// When the blob is not what its descriptor says, cannot be read or decompressed, is no tar or holds more than any
/// real layer, and those of `visit`. A damaged blob is reported as such, whatever else was wrong with its content.
pub fn read_layer(
    source: &Source,
    layer: &LayerBlob,
    mut visit: impl FnMut(ReadEntry, &mut dyn Read) -> io::Result<()>,
) -> Result<LayerFacts, ReadError> {
    let error = |source| ReadError::Layer { name: layer.file.clone(), source };
    let (stream, stored) = match layer.descriptor {
        Some(blob) => (source.stream_blob(blob)?, blob.size),
        None => (source.stream(&layer.file)?, source.size(&layer.file).unwrap_or(0)),
    };
    let digest = layer.descriptor.map(|blob| blob.digest);
    let mut blob = BufReader::new(Digesting::like(stream, digest));
    let read = read_tar(&mut blob, layer.diff_id, most_uncompressed(stored), &mut visit);
    io::copy(&mut blob, &mut io::sink()).map_err(error)?;
    let (_, (digest, size)) = blob.into_inner().finish();
    if let Some(blob) = layer.descriptor {
        blob.check(&layer.file, digest, size)?;
    }
    let (encoding, diff_id, uncompressed_size) = read.map_err(error)?;
    Ok(LayerFacts { digest, size, diff_id, uncompressed_size, encoding })
}

fn read_tar(
    blob: &mut impl io::BufRead,
    diff_id: Option<DiffId>,
    most: u64,
    visit: &mut dyn FnMut(ReadEntry, &mut dyn Read) -> io::Result<()>,
) -> io::Result<(Encoding, DiffId, u64)> {
    let encoding = Encoding::of(blob.fill_buf()?);
    let tar: Box<dyn Read + '_> = match encoding {
        Encoding::Plain => Box::new(&mut *blob),
        Encoding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(&mut *blob)),
        Encoding::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(&mut *blob)?),
    };
    let tar = Bounded { inner: tar, most, left: most };
    let mut tar = Digesting::like(tar, diff_id.map(|DiffId(digest)| digest));
    let mut entries = Untar::new(&mut tar);
    let (mut left, mut holes_left) = (ENTRIES_LIMIT, most);
    while let Some(entry) = entries.next()? {
        left = left.checked_sub(1).ok_or_else(|| beyond(format!("more than {ENTRIES_LIMIT} entries")))?;
        if !entries.is_sparse() {
            visit(entry, &mut entries)?;
            continue;
        }
        // Holes are in no blob, so their length is what anybody wrote.
        let path: String = shown(&entry.path).chars().take(200).collect();
        let mut content = Bounded { inner: &mut entries, most, left: holes_left };
        visit(entry, &mut content)
            .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
        holes_left = content.left;
    }
    // Behind the end marker there may be padding, which the diff id covers too.
    io::copy(&mut tar, &mut io::sink())?;
    let (_, (diff_id, uncompressed_size)) = tar.finish();
    Ok((encoding, DiffId(diff_id), uncompressed_size))
}

fn beyond(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A reader that fails where it would give more than it may.
struct Bounded<R> {
    inner: R,
    most: u64,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let what = || {
            beyond(format!("more than {} bytes uncompressed, which no real layer of its size has", self.most))
        };
        self.left = self.left.checked_sub(length as u64).ok_or_else(what)?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gives_no_more_than_it_may() {
        let read = |most| io::copy(&mut Bounded { inner: &b"12345"[..], most, left: most }, &mut io::sink());
        assert_eq!(read(5).unwrap(), 5);
        let says = "more than 4 bytes uncompressed, which no real layer of its size has";
        assert_eq!(read(4).unwrap_err().to_string(), says);
        assert_eq!([0, 1 << 30, u64::MAX].map(most_uncompressed), [2 << 30, 64 << 30, 64 << 30]);
    }

    /// The same form as docker reads it; what is only counted is not read.
    #[test]
    fn the_holes_of_sparse_files_are_bounded_where_they_are_read() {
        let records: Vec<u8> =
            [("major", "1"), ("minor", "0"), ("name", "bomb"), ("size", "1152921504606846976")]
                .iter()
                .flat_map(|(key, value)| {
                    crate::tar::pax_record(format!("GNU.sparse.{key}").as_bytes(), value.as_bytes())
                })
                .collect();
        let mut tar = Vec::new();
        let mut part = |kind, name: &str, content: &[u8]| {
            let mut header = ::tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_path(name).unwrap();
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.extend_from_slice(header.as_bytes());
            tar.extend_from_slice(content);
            tar.resize(tar.len().next_multiple_of(512), 0);
        };
        part(::tar::EntryType::XHeader, "pax", &records);
        part(::tar::EntryType::Regular, "GNUSparseFile.0/bomb", &[&b"0\n"[..], &[0; 510]].concat());
        crate::tar::write_end(&mut tar).unwrap();
        let mut sizes = Vec::new();
        let mut visit = |entry: ReadEntry, _: &mut dyn Read| {
            sizes.push(entry.size);
            Ok(())
        };
        read_tar(&mut &tar[..], None, 1 << 20, &mut visit).unwrap();
        assert_eq!(sizes, [1 << 60]);
        let mut visit = |_: ReadEntry, content: &mut dyn Read| io::copy(content, &mut io::sink()).map(drop);
        let error = read_tar(&mut &tar[..], None, 1 << 20, &mut visit).unwrap_err();
        let says = "bomb: more than 1048576 bytes uncompressed, which no real layer of its size has";
        assert_eq!(error.to_string(), says);
    }

    #[test]
    fn zstd_layers_of_several_and_of_skippable_frames_are_read() {
        let mut tar = Vec::new();
        crate::tar::write_end(&mut tar).unwrap();
        let frame = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
        let (first, second) = (frame(&tar[..100]), frame(&tar[100..]));
        // RFC 8878, 3.1.2: a magic number, a length of four bytes, and what is skipped.
        let skippable = [&b"\x5a\x2a\x4d\x18\x03\0\0\0"[..], b"xyz"].concat();
        for frames in [
            vec![&first, &second],
            vec![&skippable, &first, &second],
            vec![&first, &skippable, &second],
            vec![&first, &second, &skippable],
            vec![&skippable, &skippable, &first, &second, &skippable],
        ] {
            let blob: Vec<u8> = frames.into_iter().flatten().copied().collect();
            let read = read_tar(&mut &blob[..], None, 1 << 20, &mut |_, _| Ok(())).unwrap();
            assert_eq!(read, (Encoding::Zstd, DiffId(Digest::of(&tar)), 1024));
        }
    }
}
