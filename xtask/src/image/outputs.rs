//! The files of a build in `target/images/NAME/`: layout, archive, binaries and `NAME.json`; and loading into a daemon.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::assemble::{Assembled, PlatformProgram, Timings};
use tare_oci::blob::{FileError, Staging};
use tare_oci::compress::Compression;
use tare_oci::digest::{DiffId, Digest};
use tare_oci::input;
use tare_oci::reference::Reference;
use tare_oci::spec::{Descriptor, Map, MediaType};
use tare_oci::{archive, layout};
use tare_tool::exit::Hinted;
use tare_tool::process::{Execute as _, ProcessError, Shell, cmd};

/// Where the parts of one image are written.
#[derive(Debug, Clone)]
pub struct OutputPaths {
    /// `target/images/NAME`
    pub dir: PathBuf,
    /// `layout/`
    pub layout: PathBuf,
    /// `NAME.tar`
    pub archive: PathBuf,
    /// `NAME.json`
    pub summary: PathBuf,
}

impl OutputPaths {
    /// Below a folder for all images.
    #[must_use]
    pub fn new(images: &Path, name: &str) -> Self {
        let dir = images.join(name);
        Self {
            layout: dir.join("layout"),
            archive: dir.join(format!("{name}.tar")),
            summary: dir.join(format!("{name}.json")),
            dir,
        }
    }

    /// The folder of unfinished files.
    #[must_use]
    pub fn staging(&self) -> PathBuf {
        self.dir.join(".staging")
    }

    /// The stripped and the unstripped program of a platform.
    #[must_use]
    pub fn binaries(&self, of: &PlatformProgram) -> (PathBuf, PathBuf) {
        let dir = self.dir.join("bin").join(of.platform.architecture());
        let name = &of.program.binary.name;
        (dir.join(name), dir.join(format!("{name}.unstripped")))
    }
}

/// `NAME.json`: all that is known of a finished image. Fields are only ever added.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The image's name in the workspace.
    pub name: String,
    /// `repository@digest`
    pub reference: String,
    /// Of the manifest, or of the index where there are several platforms.
    pub digest: Digest,
    /// The media type of the manifest or index.
    pub media_type: MediaType,
    /// `repository:tag`
    pub tags: Vec<String>,
    /// How layers are compressed.
    pub compression: String,
    /// Of the manifests, and of the index.
    pub annotations: Map,
    /// In the order of the index.
    pub platforms: Vec<PlatformSummary>,
    /// The OCI layout's folder.
    pub layout: PathBuf,
    /// The archive.
    pub archive: PathBuf,
    /// Milliseconds.
    pub timings: Timings,
}

/// The image of one platform.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlatformSummary {
    /// `linux/amd64`
    pub platform: String,
    /// Of the manifest.
    pub digest: Digest,
    /// Of the config.
    pub image_id: Digest,
    /// Bytes of all layers as stored.
    pub size: u64,
    /// Bytes of all layers' tars.
    pub uncompressed_size: u64,
    /// The program as it is in the image.
    pub binary: PathBuf,
    /// The same with symbols, if there were any.
    pub unstripped_binary: Option<PathBuf>,
    /// Lowest first.
    pub layers: Vec<LayerSummary>,
}

/// One layer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerSummary {
    /// The layer's name in the definition.
    pub name: String,
    /// Of the blob.
    pub digest: Digest,
    /// Of the tar.
    pub diff_id: DiffId,
    /// Of the blob.
    pub media_type: MediaType,
    /// Bytes of the blob.
    pub size: u64,
    /// Bytes of the tar.
    pub uncompressed_size: u64,
    /// Whether it was written by an earlier run.
    pub cached: bool,
}

/// Makes the summary.
///
/// # Errors
/// None that an assembled image causes: one without any platform has no digest.
pub fn summary(
    name: &str,
    assembled: &Assembled,
    tags: &[Reference],
    compression: Compression,
    paths: &OutputPaths,
) -> Option<Summary> {
    let root = assembled.index.root()?;
    let repository = tags.first().map_or(name, Reference::repository);
    let platforms = assembled.index.images().iter().zip(&assembled.programs).zip(&assembled.cached);
    let digest = |descriptor: &Descriptor| Digest::try_from(descriptor.digest()).ok();
    let platforms = platforms
        .map(|((image, of), cached)| {
            let (binary, unstripped) = paths.binaries(of);
            let layers = image.layers.iter().zip(cached).map(|((layer, _), cached)| {
                Some(LayerSummary {
                    name: layer.name.clone(),
                    digest: digest(&layer.descriptor)?,
                    diff_id: layer.diff_id,
                    media_type: layer.descriptor.media_type().clone(),
                    size: layer.descriptor.size(),
                    uncompressed_size: layer.uncompressed_size,
                    cached: *cached,
                })
            });
            let layers = layers.collect::<Option<Vec<_>>>()?;
            Some(PlatformSummary {
                platform: image.platform.to_string(),
                digest: digest(&image.manifest.descriptor)?,
                image_id: digest(&image.config.descriptor)?,
                size: layers.iter().map(|layer| layer.size).sum(),
                uncompressed_size: layers.iter().map(|layer| layer.uncompressed_size).sum(),
                binary,
                unstripped_binary: of.program.unstripped.is_some().then_some(unstripped),
                layers,
            })
        })
        .collect::<Option<_>>()?;
    Some(Summary {
        name: name.to_owned(),
        reference: format!("{repository}@{}", root.digest()),
        digest: digest(root)?,
        media_type: root.media_type().clone(),
        tags: tags.iter().map(ToString::to_string).collect(),
        compression: compression.to_string(),
        annotations: assembled.annotations.clone(),
        platforms,
        layout: paths.layout.clone(),
        archive: paths.archive.clone(),
        timings: assembled.timings,
    })
}

/// A finished file that is not in its place yet.
#[derive(Debug)]
pub struct Finished {
    written: PathBuf,
    place: PathBuf,
}

/// Writes the programs of all platforms, into files that are not in their places yet.
///
/// # Errors
/// When a file cannot be written.
pub fn write_binaries(
    programs: &[PlatformProgram],
    paths: &OutputPaths,
    staging: &Staging,
) -> Result<Vec<Finished>, FileError> {
    let mut finished = Vec::new();
    for of in programs {
        let (binary, unstripped) = paths.binaries(of);
        let dir = binary.parent().unwrap_or(&paths.dir);
        fs::create_dir_all(dir).map_err(FileError::on("create", dir))?;
        let bytes = &of.program.binary.bytes;
        let written = write_executable(staging, &binary, |path| fs::write(path, &***bytes))?;
        finished.push(Finished { written, place: binary });
        if let Some(source) = &of.program.unstripped {
            // cargo changes its file in place with the next build, so this is no hard link.
            let written = write_executable(staging, &unstripped, |path| fs::copy(source, path).map(drop))?;
            finished.push(Finished { written, place: unstripped });
        }
    }
    Ok(finished)
}

/// Writes layout and archive, and puts them and the binaries into their places.
///
/// # Errors
/// When a file cannot be written. The files of an earlier run are then unchanged.
pub fn write(
    assembled: &Assembled,
    binaries: Vec<Finished>,
    tags: &[Reference],
    paths: &OutputPaths,
    staging: &Staging,
) -> Result<(), FileError> {
    let json_error = |error| FileError::on("write", &paths.layout)(io::Error::other(error));
    let index_json = layout::index_json(&assembled.index, tags).map_err(json_error)?;
    // Everything is written into files that are not finished first: when the disk is full, nothing has
    // changed yet.
    let (file, written) = staging.file()?;
    archive::write(&assembled.index, &index_json, tags, file)
        .map_err(FileError::on("write", &paths.archive))?;
    let mut finished = binaries;
    finished.push(Finished { written, place: paths.archive.clone() });
    layout::write(&assembled.index, &index_json, &paths.layout, staging)?;
    finished.iter().try_for_each(|file| staging.publish(&file.written, &file.place))
}

/// Writes an executable file that is to go to `place`, and gives back where it lies until then.
fn write_executable(
    staging: &Staging,
    place: &Path,
    write: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<PathBuf, FileError> {
    let (file, path) = staging.file()?;
    drop(file);
    write(&path).and_then(|()| make_executable(&path)).map_err(FileError::on("write", place))?;
    Ok(path)
}

#[cfg(unix)]
fn make_executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Loads an archive with docker or podman.
///
/// # Errors
/// When the program is missing or refuses it, no daemon answers, or the daemon cannot read the compression.
pub fn load(program: &str, archive: &Path, compression: Compression) -> anyhow::Result<()> {
    let sh = Shell::new()?;
    if program == "docker" {
        let version = cmd!(sh, "docker version").args(["--format", "{{.Server.Version}}"]).capture_text();
        if let Some(problem) = problem_with_docker(version, compression, archive) {
            return Err(problem.into());
        }
    }
    // Through a pipe, because a client may be confined to some folders (docker as a snap is).
    cmd!(sh, "{program} load --quiet").run_with_input(|stdin| {
        let mut file = input::open(archive)?;
        io::copy(&mut file, stdin).map(drop)
    })?;
    Ok(())
}

/// Why the docker whose server has this version cannot load an archive. A client that answers otherwise, as podman's
/// does, is let try.
fn problem_with_docker(
    version: Result<String, ProcessError>,
    compression: Compression,
    archive: &Path,
) -> Option<Hinted> {
    /// Of 20.10 to 23; there is none between them.
    const FIRST_WITH_ZSTD: u32 = 23;
    let built = archive.display();
    match version {
        Ok(version) => {
            let major: u32 = version.split('.').next()?.parse().ok()?;
            let unreadable = matches!(compression, Compression::Zstd(_)) && major < FIRST_WITH_ZSTD;
            unreadable.then(|| {
                Hinted::new(
                    format!("docker {version} cannot read layers in zstd; the image is built: {built}"),
                    "leave out `--compression zstd`, or load it into docker 23 or later, or podman",
                )
            })
        }
        Err(ProcessError::Failed { stderr, .. }) if stderr.contains("permission denied") => {
            Some(Hinted::new(
                format!("this user may not talk to the docker daemon; the image is built: {built}"),
                "add the user to the group docker, or run `docker load -i` of that file as root",
            ))
        }
        Err(ProcessError::Failed { stderr, .. }) if stderr.to_lowercase().contains("daemon") => {
            Some(Hinted::new(
                format!("no docker daemon answers; the image is built: {built}"),
                "start docker or set DOCKER_HOST, then run `docker load -i` of that file; podman needs no daemon: --load podman",
            ))
        }
        Err(_) => None,
    }
}
