//! The definition of an image, `images/NAME/image.toml`: read, checked and completed with defaults.
//!
//! Faults of the definition itself are reported here with file, line and column. Missing packages and files are reported
//! when they are looked up.

pub mod base;
mod raw;
pub mod values;

use std::ops::Range;
use std::path::{Path, PathBuf};

use base::BaseDefinition;
use raw::{Place, RawBuild, RawConfig, RawDefinition, RawEntry, RawHealthcheck, RawLayer};
use values::{FileTime, Port, Signal, User};

use tare_oci::capabilities::Capabilities;
use tare_oci::entry::Owner;
use tare_oci::path::ImagePath;
use tare_oci::platform::Platform;
use tare_oci::spec::{Healthcheck, Map};
use tare_oci::units::Nanoseconds;
pub use tare_tool::document::{DefinitionError, Position};
use tare_tool::document::{Parsed, Places, Spanned};

/// The image's user when the definition names none: `nobody`, as the article has it.
pub const DEFAULT_USER: Owner = Owner { uid: 65534, gid: 65534 };
/// Where the CA bundle goes; OpenSSL, rustls-native-certs and Go look here.
pub const CA_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Where the time zones go (tzset(3)).
pub const ZONEINFO: &str = "/usr/share/zoneinfo";
/// The layer that changes with the distribution of certificates and users, if ever.
pub const BASE_LAYER: &str = "base";
/// The layer that changes with the shared libraries of the host.
pub const LIBRARIES_LAYER: &str = "libraries";
/// The layer that changes with the program.
pub const APPLICATION_LAYER: &str = "application";

/// An image to be built.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The folder's name under `images`, or the package's.
    pub name: String,
    /// The folder that relative paths of the definition start from.
    pub dir: PathBuf,
    /// The file it was read from; none when a package is built without one.
    pub file: Option<PathBuf>,
    /// Whether it is built when no image is named.
    pub default: bool,
    /// In the order they are to stand in the index.
    pub platforms: Vec<Platform>,
    /// The image below its layers.
    pub base: Option<BaseDefinition>,
    /// Where the program comes from.
    pub build: Build,
    /// Whether the program must run without any other file.
    pub static_: bool,
    /// How a container starts.
    pub config: RunConfig,
    /// Lowest first; the default layers are already among them.
    pub layers: Vec<LayerDefinition>,
}

/// Where the program comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Build {
    /// cargo builds it.
    Cargo(CargoBuild),
    /// A command builds it, or it is there already.
    Command {
        /// Program and arguments, run in the image's folder; empty if there is nothing to run.
        command: Vec<String>,
        /// The program it makes, relative to the image's folder.
        output: PathBuf,
        /// Whether the shared libraries that it needs are taken from this host.
        libs: bool,
    },
}

/// What cargo is to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CargoBuild {
    /// The package.
    pub package: String,
    /// One of its binaries; its only or default one if none is named.
    pub bin: Option<String>,
    /// A profile of the workspace, or `image`, which tare brings along.
    pub profile: String,
    /// Features to switch on.
    pub features: Vec<String>,
    /// Whether the default features are on.
    pub default_features: bool,
    /// Whether the list of crates goes into the binary.
    pub audit: bool,
}

/// How a container starts, as far as the definition says.
#[derive(Debug, Clone, Default)]
pub struct RunConfig {
    /// The command that is always run; the binary if none is named.
    pub entrypoint: Option<Vec<String>>,
    /// Its default arguments.
    pub cmd: Vec<String>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// The user of the container's process.
    pub user: Option<User>,
    /// The current directory.
    pub working_dir: Option<ImagePath>,
    /// Ports it listens on.
    pub exposed_ports: Vec<Port>,
    /// Paths that hold data.
    pub volumes: Vec<Volume>,
    /// Labels beyond those from Cargo.toml and git.
    pub labels: Map,
    /// The signal that asks it to stop.
    pub stop_signal: Option<Signal>,
    /// Docker's health check.
    pub healthcheck: Option<Healthcheck>,
}

/// A path that holds data.
#[derive(Debug, Clone)]
pub struct Volume {
    /// The path.
    pub path: ImagePath,
    /// Its place in the definition.
    pub place: Position,
}

/// One layer.
#[derive(Debug, Clone)]
pub struct LayerDefinition {
    /// Its name.
    pub name: String,
    /// Its entries.
    pub entries: Vec<EntryDefinition>,
}

/// One entry of a layer.
#[derive(Debug, Clone)]
pub struct EntryDefinition {
    /// What and where.
    pub what: What,
    /// Permission bits; of the files, for a tree.
    pub mode: Option<u32>,
    /// The owner; root by default.
    pub owner: Owner,
    /// The modification time of everything it makes.
    pub mtime: FileTime,
    /// File capabilities.
    pub capabilities: Option<Capabilities>,
    /// Its place in the definition; none for a default.
    pub place: Option<Position>,
}

/// The kind of an entry.
#[derive(Debug, Clone)]
pub enum What {
    /// An empty directory.
    Dir(ImagePath),
    /// A file of the workspace.
    File {
        /// Where it goes.
        path: ImagePath,
        /// Relative to the image's folder.
        from: PathBuf,
    },
    /// A symbolic link.
    Symlink {
        /// Where it goes.
        path: ImagePath,
        /// Where it points, verbatim.
        to: String,
    },
    /// A folder of the workspace with everything in it.
    Tree {
        /// Where it goes.
        path: ImagePath,
        /// Relative to the image's folder.
        from: PathBuf,
    },
    /// The program; none for its usual place, `/app/` and its name.
    Binary(Option<ImagePath>),
    /// Mozilla's root certificates as PEM.
    CaCertificates(ImagePath),
    /// The IANA time zones.
    Zoneinfo(ImagePath),
    /// Users, groups and `/tmp`: what programs expect of any system.
    Skeleton,
    /// The shared libraries that the program needs.
    Libraries,
}

impl EntryDefinition {
    /// An entry as the defaults have it.
    fn default_for(what: What) -> Self {
        Self {
            what,
            mode: None,
            owner: Owner::default(),
            mtime: FileTime::default(),
            capabilities: None,
            place: None,
        }
    }
}

/// The cargo profile of an image whose definition names none.
pub const DEFAULT_PROFILE: &str = "image";

/// Reads the text of `file`.
///
/// # Errors
/// When it is not TOML, has unknown keys, or values that cannot be.
pub fn parse(name: &str, file: &Path, text: &str) -> Result<Definition, DefinitionError> {
    let at = Maker(Places::new(file, text));
    let raw: RawDefinition = at.0.read()?;
    let dir = file.parent().unwrap_or(Path::new("")).to_path_buf();
    let static_ = raw.build.static_;
    let build = at.build(name, raw.build)?;
    let base = raw.base.map(|base| {
        let place = at.0.position(base.span().start);
        BaseDefinition { reference: base.into_inner().0, place }
    });
    let has_base = base.is_some();
    let libs = matches!(build, Build::Command { libs: true, .. });
    let platforms = match raw.platforms {
        None => vec![Platform::LinuxAmd64],
        Some(list) => {
            let span = list.span();
            let list: Vec<Platform> = list.into_inner().into_iter().map(|platform| platform.0).collect();
            if let Some(problem) = problem_with_platforms(&list) {
                return Err(at.error(span, problem));
            }
            list
        }
    };
    Ok(Definition {
        name: name.to_owned(),
        dir,
        file: Some(file.to_path_buf()),
        default: raw.default.unwrap_or(true),
        platforms,
        static_: static_.unwrap_or(!libs),
        base,
        build,
        config: at.config(raw.config)?,
        layers: with_default_layers(at.layers(raw.layers)?, libs, has_base),
    })
}

/// The fault of a list of platforms, if there is one.
#[must_use]
pub fn problem_with_platforms(platforms: &[Platform]) -> Option<String> {
    let twice = platforms.iter().enumerate().find(|(at, platform)| platforms[..*at].contains(platform));
    match (platforms, twice) {
        ([], _) => Some("an image needs a platform".to_owned()),
        (_, Some((_, platform))) => Some(format!("{platform} stands twice")),
        _ => None,
    }
}

/// Completes the layers: a layer called `base` replaces the default one; without it the default base
/// goes lowest, unless a base image brings users and `/tmp`. A layer with a `binary` entry replaces the default application layer; without it that
/// goes right above the base, and with `libs` the libraries between them.
fn with_default_layers(mut layers: Vec<LayerDefinition>, libs: bool, has_base: bool) -> Vec<LayerDefinition> {
    if !has_base && !layers.iter().any(|layer| layer.name == BASE_LAYER) {
        let certificates = What::CaCertificates(usual(CA_CERTIFICATES));
        let entries = [What::Skeleton, certificates].map(EntryDefinition::default_for).into();
        layers.insert(0, LayerDefinition { name: BASE_LAYER.to_owned(), entries });
    }
    let has_binary =
        |layer: &LayerDefinition| layer.entries.iter().any(|e| matches!(e.what, What::Binary(_)));
    if !layers.iter().any(has_binary) {
        let at = layers.iter().position(|layer| layer.name == BASE_LAYER).map_or(0, |base| base + 1);
        let entries = vec![EntryDefinition::default_for(What::Binary(None))];
        layers.insert(at, LayerDefinition { name: APPLICATION_LAYER.to_owned(), entries });
    }
    if libs {
        let entries = vec![EntryDefinition::default_for(What::Libraries)];
        let at = layers.iter().position(|layer| layer.name == BASE_LAYER).map_or(0, |base| base + 1);
        layers.insert(at, LayerDefinition { name: LIBRARIES_LAYER.to_owned(), entries });
    }
    layers
}

/// The shortest time of a health check that docker starts a container with, in nanoseconds (moby,
/// `MinimumDuration`).
const LEAST_HEALTH_TIME: u64 = 1_000_000;

/// A path that is written in this file.
fn usual(path: &str) -> ImagePath {
    path.parse().unwrap_or(ImagePath::root())
}

/// Converts raw definitions. Errors need the places of the values.
struct Maker<'a>(Places<'a>);

impl Maker<'_> {
    fn error(&self, span: Range<usize>, message: impl Into<String>) -> DefinitionError {
        self.0.error(span, message)
    }

    fn build(&self, name: &str, raw: RawBuild) -> Result<Build, DefinitionError> {
        if let Some(libs) = &raw.libs {
            if raw.output.is_none() {
                return Err(self.error(
                    libs.span(),
                    "`libs` has a meaning only with `output`: what cargo builds is static",
                ));
            }
            if raw.static_ == Some(true) {
                return Err(self.error(libs.span(), "a program with `static = true` needs no `libs`"));
            }
        }
        let cargo_only = [
            ("package", raw.package.is_some()),
            ("bin", raw.bin.is_some()),
            ("profile", raw.profile.is_some()),
            ("features", raw.features.is_some()),
            ("default-features", raw.default_features.is_some()),
            ("audit", raw.audit == Some(true)),
        ];
        match (raw.command, raw.output) {
            (None, None) => Ok(Build::Cargo(CargoBuild {
                package: raw.package.map_or_else(|| name.to_owned(), Spanned::into_inner),
                bin: raw.bin.map(Spanned::into_inner),
                profile: raw.profile.unwrap_or_else(|| DEFAULT_PROFILE.to_owned()),
                features: raw.features.unwrap_or_default(),
                default_features: raw.default_features.unwrap_or(true),
                audit: raw.audit.unwrap_or(true),
            })),
            (Some(command), None) => Err(DefinitionError {
                hint: Some("add `output = \"PATH\"`, relative to the image's folder".to_owned()),
                ..self.error(command.span(), "`command` needs `output`, the program that it makes")
            }),
            (command, Some(output)) => {
                if let Some((key, _)) = cargo_only.iter().find(|(_, used)| *used) {
                    let message =
                        format!("`output` is a program that cargo does not build: `{key}` has no meaning");
                    return Err(self.error(output.span(), message));
                }
                let command = match command {
                    Some(command) if command.get_ref().is_empty() => {
                        return Err(self.error(command.span(), "`command` is empty"));
                    }
                    command => command.map(Spanned::into_inner).unwrap_or_default(),
                };
                Ok(Build::Command { command, output: output.into_inner(), libs: raw.libs.is_some() })
            }
        }
    }

    fn config(&self, raw: RawConfig) -> Result<RunConfig, DefinitionError> {
        let cmd = raw.cmd.unwrap_or_default();
        if let Some(entrypoint) = &raw.entrypoint
            && entrypoint.get_ref().first().or(cmd.first()).is_none_or(String::is_empty)
        {
            return Err(self.error(entrypoint.span(), "`entrypoint` and `cmd` name no program"));
        }
        if let Some(volume) = raw.volumes.iter().find(|volume| volume.get_ref().0.as_bytes().is_empty()) {
            return Err(self.error(volume.span(), "`/` cannot be a volume: it would hide the image"));
        }
        if let Some((name, _)) = raw.labels.iter().find(|(name, _)| name.get_ref().trim().is_empty()) {
            return Err(self.error(name.span(), "a label needs a name"));
        }
        let volume = |volume: Spanned<Parsed<ImagePath>>| {
            let place = self.0.position(volume.span().start);
            Volume { path: volume.into_inner().0, place }
        };
        Ok(RunConfig {
            entrypoint: raw.entrypoint.map(Spanned::into_inner),
            cmd,
            env: raw.env.0,
            user: raw.user.map(|user| user.0),
            working_dir: raw.working_dir.map(|path| path.0),
            exposed_ports: raw.exposed_ports.into_iter().map(|port| port.0).collect(),
            volumes: raw.volumes.into_iter().map(volume).collect(),
            labels: raw.labels.into_iter().map(|(name, value)| (name.into_inner(), value)).collect(),
            stop_signal: raw.stop_signal.map(|signal| signal.0),
            healthcheck: raw.healthcheck.map(|check| self.healthcheck(check)).transpose()?,
        })
    }

    fn healthcheck(&self, raw: RawHealthcheck) -> Result<Healthcheck, DefinitionError> {
        let words = raw.test.get_ref();
        let valid = match words.first().map(String::as_str) {
            Some("NONE") => words.len() == 1,
            Some("CMD") => words.len() > 1,
            Some("CMD-SHELL") => words.len() == 2,
            _ => false,
        };
        if !valid {
            let error = self.error(
                raw.test.span(),
                "a health check is [\"CMD\", program, argument…], [\"CMD-SHELL\", line] or [\"NONE\"]",
            );
            let hint =
                "the image has no shell: let the binary check itself, [\"CMD\", \"/app/NAME\", \"--health\"]";
            return Err(DefinitionError { hint: Some(hint.to_owned()), ..error });
        }
        let nanoseconds = |value: Option<Spanned<Parsed<Nanoseconds>>>| {
            let Some(value) = value else { return Ok(None) };
            let nanoseconds = value.get_ref().0.0;
            if (1..LEAST_HEALTH_TIME).contains(&nanoseconds) {
                return Err(self.error(value.span(), "docker takes 0, its own default, or at least 1ms"));
            }
            Ok(Some(nanoseconds))
        };
        Ok(Healthcheck {
            test: Some(raw.test.into_inner()),
            interval: nanoseconds(raw.interval)?,
            timeout: nanoseconds(raw.timeout)?,
            start_period: nanoseconds(raw.start_period)?,
            start_interval: nanoseconds(raw.start_interval)?,
            retries: raw.retries,
        })
    }

    fn layers(&self, raw: Vec<RawLayer>) -> Result<Vec<LayerDefinition>, DefinitionError> {
        let mut layers: Vec<LayerDefinition> = Vec::new();
        for layer in raw {
            let span = layer.name.span();
            let name = layer.name.into_inner();
            if name.is_empty() || name.contains(|c: char| c.is_control()) {
                return Err(self.error(span, "a layer needs a name"));
            }
            if layers.iter().any(|known| known.name == name) {
                return Err(self.error(span, format!("there are two layers called `{name}`")));
            }
            let of_layer = layer.mtime.map(|time| time.0).unwrap_or_default();
            let entries = layer
                .entries
                .into_iter()
                .map(|entry| self.entry(entry, of_layer))
                .collect::<Result<_, _>>()?;
            layers.push(LayerDefinition { name, entries });
        }
        Ok(layers)
    }

    fn entry(&self, raw: Spanned<RawEntry>, of_layer: FileTime) -> Result<EntryDefinition, DefinitionError> {
        let span = raw.span();
        let raw = raw.into_inner();
        let error = |message: &str| self.error(span.clone(), message);
        let place = |place: Place, path: &str| match place {
            Place::Usual => usual(path),
            Place::At(path) => path,
        };
        let (mut from, mut to) = (raw.from, raw.to);
        let kinds: [Option<Result<What, DefinitionError>>; 8] = [
            raw.dir.map(|Parsed(path)| Ok(What::Dir(path))),
            raw.file.map(|Parsed(path)| {
                let name = path.to_string();
                let same_name = || PathBuf::from(name.rsplit('/').next().unwrap_or_default());
                Ok(What::File { from: from.take().unwrap_or_else(same_name), path })
            }),
            raw.symlink.map(|Parsed(path)| {
                let to = to.take().filter(|to| !to.is_empty() && !to.contains('\0'));
                Ok(What::Symlink { path, to: to.ok_or_else(|| error("a symlink needs `to`"))? })
            }),
            raw.tree.map(|Parsed(path)| {
                Ok(What::Tree { path, from: from.take().ok_or_else(|| error("a tree needs `from`"))? })
            }),
            raw.binary.map(|binary| match binary {
                Place::Usual => Ok(What::Binary(None)),
                Place::At(path) => Ok(What::Binary(Some(path))),
            }),
            raw.ca_certificates.map(|it| Ok(What::CaCertificates(place(it, CA_CERTIFICATES)))),
            raw.zoneinfo.map(|it| Ok(What::Zoneinfo(place(it, ZONEINFO)))),
            raw.skeleton.map(|it| match it {
                Place::Usual => Ok(What::Skeleton),
                Place::At(_) => Err(error("`skeleton` has its own places: write `skeleton = true`")),
            }),
        ];
        let mut kinds = kinds.into_iter().flatten();
        let (Some(what), None) = (kinds.next(), kinds.next()) else {
            return Err(error(
                "an entry has exactly one of dir, file, symlink, tree, binary, ca-certificates, zoneinfo, skeleton",
            ));
        };
        let what = what?;
        let file_path = match &what {
            What::File { path, .. } | What::Symlink { path, .. } | What::CaCertificates(path) => Some(path),
            What::Binary(path) => path.as_ref(),
            _ => None,
        };
        let is_skeleton = matches!(what, What::Skeleton);
        let may_have_capabilities = matches!(what, What::File { .. } | What::Binary(_));
        let is_symlink = matches!(what, What::Symlink { .. });
        let problems = [
            (from.is_some(), "`from` has a meaning only for file and tree"),
            (to.is_some(), "`to` has a meaning only for symlink"),
            (file_path.is_some_and(|path| path.as_bytes().is_empty()), "`/` is a directory"),
            (
                raw.capabilities.is_some() && !may_have_capabilities,
                "`capabilities` has a meaning only for file and binary",
            ),
            (
                is_skeleton && (raw.mode.is_some() || raw.owner.is_some()),
                "`skeleton` has its own modes and owners",
            ),
            (is_skeleton && raw.mtime.is_some(), "`skeleton` has its own times"),
            (is_symlink && raw.mode.is_some(), "a symlink has no mode of its own"),
        ];
        if let Some((_, problem)) = problems.into_iter().find(|(there_is, _)| *there_is) {
            return Err(error(problem));
        }
        Ok(EntryDefinition {
            what,
            mode: raw.mode.map(|mode| mode.0.0),
            owner: raw.owner.map(|owner| owner.0.0).unwrap_or_default(),
            mtime: raw.mtime.map_or(of_layer, |time| time.0),
            capabilities: raw.capabilities.map(|capabilities| capabilities.0),
            place: Some(self.0.position(span.start)),
        })
    }
}

#[cfg(test)]
mod tests;
