//! What is known of an image from its own bytes: files with their checksums, and the crates in its binaries.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::Deserialize;
use tare_oci::audit::{self, DependencyKind, VersionInfo};
use tare_oci::elf;
use tare_oci::reader::{ReadImage, Source, images, read_layer};

use crate::error::Error;

/// Larger binaries are not searched for their crates.
const BINARY_LIMIT: u64 = 512 << 20;

/// One image for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// `sha256:…` of its manifest.
    pub digest: String,
    /// `linux/amd64`
    pub platform: String,
    /// When it was made, as its configuration says: no clock is asked.
    pub created: Option<String>,
    /// Lowest first.
    pub layers: Vec<LayerFacts>,
    /// Of all its binaries, each once.
    pub crates: Vec<Crate>,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFacts {
    /// `sha256:…` of the blob.
    pub digest: String,
    /// Regular files, in the order of the tar.
    pub files: Vec<FileFacts>,
}

/// A file of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// Without a leading slash.
    pub path: String,
    /// 64 hexadecimal digits.
    pub sha256: String,
    /// 40 hexadecimal digits, which SPDX insists on.
    pub sha1: String,
}

/// A crate that was compiled into a binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `crates.io`, `git`, `local` or `registry`.
    pub source: String,
    /// Whether only build scripts and macros used it.
    pub is_build: bool,
    /// Whether it is the program itself.
    pub is_root: bool,
    /// Places in the list of those that it uses.
    pub dependencies: Vec<usize>,
    /// What Cargo.lock has of it: 64 hexadecimal digits.
    pub checksum: Option<String>,
    /// What its Cargo.toml says, as in `MIT OR Apache-2.0`.
    pub licence: Option<String>,
}

/// Reads every image of a layout or archive.
///
/// # Errors
/// When it cannot be read, or is no image.
pub fn read(source: &Source) -> Result<Vec<ImageFacts>, Error> {
    images(source)?.iter().map(|image| read_image(source, image)).collect()
}

/// The part of an image's configuration that is used.
#[derive(Deserialize)]
struct Configuration {
    os: String,
    architecture: String,
    created: Option<String>,
}

fn read_image(source: &Source, image: &ReadImage) -> Result<ImageFacts, Error> {
    let mut crates = Vec::new();
    let mut layers = Vec::new();
    for layer in &image.layers {
        let mut files = Vec::new();
        let facts = read_layer(source, layer, |entry, content| {
            if entry.kind != '-' {
                return Ok(());
            }
            let mut content = Digesting::new(content);
            if entry.mode & 0o111 != 0
                && entry.size <= BINARY_LIMIT
                && let Some(list) = audit_data(&mut content)?
            {
                merge(&mut crates, &list);
            }
            io::copy(&mut content, &mut io::sink())?;
            let (sha256, sha1) = content.finish();
            files.push(FileFacts { path: String::from_utf8_lossy(&entry.path).into_owned(), sha256, sha1 });
            Ok(())
        })?;
        layers.push(LayerFacts { digest: facts.digest.to_string(), files });
    }
    let Some((descriptor, _)) = &image.manifest else {
        return Err(Error::Input("an archive of docker has no manifest to describe".to_owned()));
    };
    let config: Configuration = tare_oci::input::from_json(&source.read(&image.config_file)?)
        .map_err(|error| Error::Input(format!("{} cannot be understood: {error}", image.config_file)))?;
    Ok(ImageFacts {
        digest: descriptor.digest.to_string(),
        platform: format!("{}/{}", config.os, config.architecture),
        created: config.created,
        layers,
        crates,
    })
}

/// The list of crates in a binary; none for what is no binary, or has none that can be understood.
fn audit_data(content: &mut impl Read) -> io::Result<Option<VersionInfo>> {
    let mut bytes = Vec::new();
    content.take(4).read_to_end(&mut bytes)?;
    if bytes != *b"\x7fELF" {
        return Ok(None);
    }
    content.read_to_end(&mut bytes)?;
    let Ok(Some(section)) = elf::audit_data(&bytes) else { return Ok(None) };
    Ok(audit::decode(section).ok())
}

/// Adds a binary's crates to those of others.
fn merge(crates: &mut Vec<Crate>, list: &VersionInfo) {
    let mut places = Vec::new();
    for package in &list.packages {
        let one = Crate {
            name: package.name.clone(),
            version: package.version.to_string(),
            source: package.source.clone().into(),
            is_build: package.kind == DependencyKind::Build,
            is_root: package.root,
            dependencies: vec![],
            checksum: None,
            licence: None,
        };
        let same = |other: &Crate| {
            (&other.name, &other.version, &other.source) == (&one.name, &one.version, &one.source)
        };
        let place = crates.iter().position(same).unwrap_or(crates.len());
        match crates.get_mut(place) {
            Some(known) => {
                known.is_build &= one.is_build;
                known.is_root |= one.is_root;
            }
            None => crates.push(one),
        }
        places.push(place);
    }
    for (package, place) in list.packages.iter().zip(&places) {
        let uses = package.dependencies.iter().filter_map(|at| places.get(*at).copied());
        let dependencies = &mut crates[*place].dependencies;
        dependencies.extend(uses);
        dependencies.sort_unstable();
        dependencies.dedup();
    }
}

/// What Cargo.lock and `cargo metadata` say of packages, which the binary does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packages(BTreeMap<(String, String), (Option<String>, Option<String>)>);

impl Packages {
    /// Enters a package.
    pub fn add(&mut self, name: &str, version: &str, checksum: Option<String>, licence: Option<String>) {
        self.0.insert((name.to_owned(), version.to_owned()), (checksum, licence));
    }

    /// Completes a list of crates. Those of other sources may have the same name and version: only those of a
    /// registry have checksums.
    pub fn complete(&self, crates: &mut [Crate]) {
        for one in crates {
            if let Some((checksum, licence)) = self.0.get(&(one.name.clone(), one.version.clone())) {
                one.checksum = checksum.clone().filter(|_| one.source != "local" && one.source != "git");
                one.licence.clone_from(licence);
            }
        }
    }
}

/// Passes everything on and digests it twice.
struct Digesting<R> {
    inner: R,
    sha256: ring::digest::Context,
    sha1: ring::digest::Context,
}

impl<R> Digesting<R> {
    fn new(inner: R) -> Self {
        use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
        Self { inner, sha256: Context::new(&SHA256), sha1: Context::new(&SHA1_FOR_LEGACY_USE_ONLY) }
    }

    fn finish(self) -> (String, String) {
        (hex(self.sha256.finish().as_ref()), hex(self.sha1.finish().as_ref()))
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.sha256.update(&buffer[..read]);
        self.sha1.update(&buffer[..read]);
        Ok(read)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
