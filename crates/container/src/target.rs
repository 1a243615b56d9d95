//! Finds the image that a user names: a path, an archive, or a name in the store of docker or podman.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tare_oci::digest::Digest;
use tare_oci::reader::{self, ReadError, ReadImage, Source};
use tare_oci::spec::Configuration;
use tare_tool::cache;
use tare_tool::process::{Execute as _, ProcessError, Shell, cmd};

use super::cleanup::Transient;
use super::error::ContainerError;

/// One image for one platform, opened and checked as far as its documents go. Layers are checked when they
/// are unpacked.
#[derive(Debug, Clone)]
pub struct Target {
    /// As it was named.
    pub name: String,
    /// Of the manifest; archives by docker may have none.
    pub digest: Option<Digest>,
    /// Of the config.
    pub image_id: Digest,
    /// The image's configuration.
    pub config: Configuration,
    /// Its layers and configuration, not yet read.
    pub image: ReadImage,
    /// Where its blobs are read from.
    pub source: Arc<Source>,
    /// The folder of an archive out of another tool's store.
    temporary: Option<Arc<Transient>>,
}

/// Where an image lies, in skopeo's names (containers-transports(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A layout, an OCI archive or a docker archive; its content shows which.
    Path {
        /// Where.
        path: PathBuf,
        /// Which of several images in it.
        tag: Option<String>,
    },
    /// In docker's store.
    DockerDaemon(String),
    /// In podman's.
    ContainersStorage(String),
}

impl FromStr for Location {
    type Err = ContainerError;

    fn from_str(text: &str) -> Result<Self, ContainerError> {
        let registry = || {
            let name = text.strip_prefix("docker://").unwrap_or(text);
            ContainerError::new(format_args!(
                "`{name}` is no path, and images are not pulled from registries here"
            ))
            .with_hint(format!(
                "fetch it first, for example with `skopeo copy docker://{name} oci-archive:image.tar` or `docker pull {name}`, then name `image.tar` or `docker-daemon:{name}`"
            ))
        };
        if let Some(name) = text.strip_prefix("docker-daemon:") {
            return Ok(Self::DockerDaemon(name.to_owned()));
        }
        if let Some(name) = text.strip_prefix("containers-storage:") {
            return Ok(Self::ContainersStorage(name.to_owned()));
        }
        if text.starts_with("docker://") {
            return Err(registry());
        }
        let prefixes = ["oci:", "oci-archive:", "docker-archive:"];
        let prefixed = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix));
        let path = prefixed.unwrap_or(text);
        if Path::new(path).exists() {
            return Ok(Self::Path { path: path.into(), tag: None });
        }
        match path.rsplit_once(':') {
            Some((path, tag)) if Path::new(path).exists() => {
                Ok(Self::Path { path: path.into(), tag: Some(tag.to_owned()) })
            }
            // The text can only be a path, so the error is about a path.
            _ if prefixed.is_some() || text.starts_with(['.', '/']) => {
                Ok(Self::Path { path: path.into(), tag: None })
            }
            _ => Err(registry()),
        }
    }
}

pub use tare_oci::platform::host_architecture;

impl Target {
    /// Finds the image that a user names: a path, or `oci:PATH[:TAG]`, `oci-archive:`, `docker-archive:`,
    /// `docker-daemon:REF`, `containers-storage:REF`. What comes out of a store lies in `temporary` as long
    /// as the target is used. `architecture` is Go's name of another than this host's.
    ///
    /// # Errors
    /// When there is no such image, none for the architecture, or its documents are damaged.
    pub fn resolve(name: &str, architecture: Option<&str>, temporary: &Path) -> Result<Self, ContainerError> {
        let sh = Shell::new().map_err(|error| not_in_store(name, error.into()))?;
        match name.parse()? {
            Location::Path { path, tag } => Self::open(name, &path, tag.as_deref(), architecture, None),
            Location::DockerDaemon(reference) => {
                let save = |out: &Path| cmd!(sh, "docker save --output {out} {reference}").capture();
                Self::out_of_store(name, save, temporary, architecture)
            }
            Location::ContainersStorage(reference) => {
                let format = "oci-archive";
                let save = |out: &Path| {
                    cmd!(sh, "podman save --quiet --format {format} --output {out} {reference}").capture()
                };
                Self::out_of_store(name, save, temporary, architecture)
            }
        }
    }

    fn out_of_store(
        name: &str,
        save: impl FnOnce(&Path) -> Result<Vec<u8>, ProcessError>,
        temporary: &Path,
        architecture: Option<&str>,
    ) -> Result<Self, ContainerError> {
        let folder = temporary_folder(temporary)?;
        let path = folder.path().join(FETCHED);
        save(&path).map_err(|error| not_in_store(name, error))?;
        Self::open(name, &path, None, architecture, Some(Arc::new(folder)))
    }

    fn open(
        name: &str,
        path: &Path,
        tag: Option<&str>,
        architecture: Option<&str>,
        temporary: Option<Arc<Transient>>,
    ) -> Result<Self, ContainerError> {
        let read = |source| unreadable(name, source);
        let source = Source::open(path).map_err(read)?;
        let images = reader::images(&source).map_err(read)?;
        let image = choose(name, images, tag, architecture)?;
        Ok(Self {
            name: name.to_owned(),
            digest: image.manifest.as_ref().map(|(descriptor, _)| descriptor.digest),
            image_id: image.image_id,
            config: image.config.clone(),
            image,
            source: Arc::new(source),
            temporary,
        })
    }

    /// The archive that it was fetched into out of another tool's store, if it was.
    #[must_use]
    pub fn fetched(&self) -> Option<PathBuf> {
        self.temporary.as_ref().map(|folder| folder.path().join(FETCHED))
    }

    /// The TCP ports that the image exposes.
    pub fn exposed_ports(&self) -> impl Iterator<Item = u16> {
        self.config.execution.exposed_ports().iter().flatten().filter_map(|port| match port.split_once('/') {
            None | Some((_, "tcp")) => port.split('/').next()?.parse().ok(),
            Some(_) => None,
        })
    }
}

/// An image that cannot be read.
pub(crate) fn unreadable(name: &str, source: ReadError) -> ContainerError {
    match source.hint() {
        Some(hint) => ContainerError::new(name).because(source).with_hint(hint),
        None => ContainerError::new(name).because(source),
    }
}

/// An image that its tool does not hand out.
fn not_in_store(name: &str, error: ProcessError) -> ContainerError {
    ContainerError::new(format_args!("cannot get {name} out of its store")).because(error)
}

/// The name of an archive in its folder.
const FETCHED: &str = "image.tar";

/// A folder for one archive and the unfinished file that docker's client keeps beside it.
fn temporary_folder(parent: &Path) -> Result<Transient, ContainerError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = Transient::new(parent.join(format!("{}-{number}", std::process::id())));
    let path = folder.path();
    // Of a dead process that had our id.
    cache::remove(path)
        .and_then(|()| std::fs::create_dir(path))
        .map_err(ContainerError::on("create", path))?;
    Ok(folder)
}

/// The one image that a tag and this host leave.
fn choose(
    name: &str,
    mut images: Vec<ReadImage>,
    tag: Option<&str>,
    architecture: Option<&str>,
) -> Result<ReadImage, ContainerError> {
    if let Some(tag) = tag {
        images.retain(|image| {
            image.names.iter().any(|it| it == tag || it.rsplit_once(':').is_some_and(|(_, end)| end == tag))
        });
    }
    if images.is_empty() {
        return Err(ContainerError::new(format_args!("{name} holds no image")));
    }
    let wanted = architecture.unwrap_or(host_architecture());
    let platform =
        |image: &ReadImage| format!("{}/{}", image.config.image.os(), image.config.image.architecture());
    let has: Vec<String> = images.iter().map(platform).collect();
    images.retain(|image| platform(image) == format!("linux/{wanted}"));
    match images.as_slice() {
        [image] => Ok(image.clone()),
        [] => {
            let has_all = has.join(", ");
            let message = format!("{name} is for {has_all}, and this host is linux/{wanted}");
            Err(ContainerError::new(message).with_hint(foreign_hint(&has, &|path| Path::new(path).exists())))
        }
        many => {
            let named = |it: &ReadImage| it.names.first().map_or("(unnamed)", String::as_str).to_owned();
            let found: Vec<String> = many.iter().map(named).collect();
            let message = format!("{name} holds several images: {}", found.join(", "));
            Err(ContainerError::new(message).with_hint(format!("choose one: {name}:TAG")))
        }
    }
}

/// What to do with images for other hosts alone: an emulator may be registered (binfmt_misc).
fn foreign_hint(has: &[String], exists: &dyn Fn(&str) -> bool) -> String {
    for platform in has {
        let Some(architecture) = platform.strip_prefix("linux/") else { continue };
        let emulator = match architecture {
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            other => other,
        };
        if exists(&format!("/proc/sys/fs/binfmt_misc/qemu-{emulator}")) {
            return format!(
                "qemu-{emulator} is registered here: `--platform {platform}` runs it emulated, which shows that it works and not how fast it is"
            );
        }
    }
    "build or fetch it for this host; or install qemu-user-static to run it emulated".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_names_is_found_where_skopeo_would() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a:b");
        std::fs::write(&path, "").unwrap();
        let path = path.to_str().unwrap();
        let here =
            |path: &str, tag: Option<&str>| Location::Path { path: path.into(), tag: tag.map(str::to_owned) };
        for (text, expected) in [
            (path.to_owned(), here(path, None)),
            (format!("oci:{path}:v1"), here(path, Some("v1"))),
            (format!("oci-archive:{path}"), here(path, None)),
            ("docker-archive:/no/such".to_owned(), here("/no/such", None)),
            ("./no-such".to_owned(), here("./no-such", None)),
            ("docker-daemon:app:1".to_owned(), Location::DockerDaemon("app:1".to_owned())),
            ("containers-storage:app".to_owned(), Location::ContainersStorage("app".to_owned())),
        ] {
            assert_eq!(text.parse::<Location>().unwrap(), expected, "{text}");
        }
        for text in ["docker://nginx:1", "nginx:1", "ghcr.io/a/b"] {
            let error = text.parse::<Location>().unwrap_err();
            assert!(error.to_string().ends_with("images are not pulled from registries here"), "{text}");
            assert!(error.hint().unwrap().contains("skopeo copy docker://"), "{text}");
        }
    }

    #[test]
    fn an_emulator_is_offered_only_where_one_is_registered() {
        let has = ["linux/arm64".to_owned()];
        let registered = foreign_hint(&has, &|path| path == "/proc/sys/fs/binfmt_misc/qemu-aarch64");
        assert!(registered.contains("--platform linux/arm64"), "{registered}");
        let not = foreign_hint(&has, &|_| false);
        assert!(not.contains("install qemu-user-static"), "{not}");
    }
}
