//! Which image is published: one that was built for it, one that is there, or several joined.

use std::path::{Path, PathBuf};

use anyhow::bail;
use oci_spec::distribution::Reference;
use tare_tool::plan::{Plan, PlannedImage, PlannedPlatform};

use crate::content::Content;
use crate::provenance::BuildFacts;
use crate::reference::parse;
use crate::registry::Repository;

/// Where the image is.
pub(super) enum Origin<'a> {
    /// The layout or archive that was named.
    Path(PathBuf),
    /// What xtask built.
    Built(&'a PlannedImage),
    /// One archive or layout for each platform.
    Joined(&'a [PathBuf]),
    /// In a registry.
    Registry(Box<Reference>),
}

impl<'a> Origin<'a> {
    /// As the arguments of `--from` and `--join` say, else what was built.
    pub(super) fn new(
        from: Option<&str>,
        join: &'a [PathBuf],
        plan: Option<&'a Plan>,
    ) -> anyhow::Result<Self> {
        match (from, join, plan.and_then(|plan| plan.images.first())) {
            // A path is one that is there, or looks like nothing else.
            (Some(from), ..) if Path::new(from).exists() || from.starts_with(['.', '/', '~']) => {
                Ok(Self::Path(from.into()))
            }
            (Some(from), ..) => Ok(Self::Registry(Box::new(parse(from)?))),
            (None, [_, ..], _) => Ok(Self::Joined(join)),
            (None, [], Some(built)) => Ok(Self::Built(built)),
            (None, [], None) => bail!("name a layout, an archive or an image in a registry with --from"),
        }
    }

    pub(super) fn reference(&self) -> Option<&Reference> {
        if let Self::Registry(reference) = self { Some(reference) } else { None }
    }

    /// Its documents; `source` is the repository of its reference.
    pub(super) fn content<'r>(&self, source: Option<&'r Repository>) -> anyhow::Result<Content<'r>> {
        Ok(match (self, source) {
            (Self::Path(path), _) => Content::open(path)?,
            (Self::Built(image), _) => Content::open(Path::new(&image.location))?,
            (Self::Joined(paths), _) => Content::join(paths)?,
            (Self::Registry(reference), Some(source)) => {
                let wanted = reference.digest().or(reference.tag()).unwrap_or("latest");
                Content::fetch(source, wanted, None)?
            }
            (Self::Registry(reference), None) => bail!("{reference} cannot be opened"),
        })
    }

    /// What of the facts about this host's build is true of the image: joined images were built elsewhere, at the same
    /// commit.
    pub(super) fn build(&self, build: BuildFacts) -> BuildFacts {
        let Self::Built(image) = self else { return Self::unknown(build) };
        let target = |it: &PlannedPlatform| match it.platform.as_str() {
            "linux/amd64" => Some("x86_64-unknown-linux-musl".to_owned()),
            "linux/arm64" => Some("aarch64-unknown-linux-musl".to_owned()),
            _ => None,
        };
        BuildFacts { targets: image.platforms.iter().filter_map(target).collect(), ..build }
    }

    /// Without the compiler, which was another one, or none.
    pub(super) fn unknown(build: BuildFacts) -> BuildFacts {
        BuildFacts { rustc: None, targets: vec![], ..build }
    }

    /// Files that go into the folder of artifacts as they are: the archive, and programs with their symbols.
    pub(super) fn copies(&self, name: &str) -> Vec<(String, PathBuf)> {
        match self {
            Self::Path(path) if path.is_file() => vec![(format!("{name}.tar"), path.clone())],
            Self::Built(image) => {
                let archive = Path::new(&image.location).with_file_name(format!("{}.tar", image.name));
                let programs = image.platforms.iter().filter_map(|it| {
                    let platform = it.platform.replace('/', "-");
                    Some((format!("{name}-{platform}.unstripped"), it.unstripped_binary.clone()?))
                });
                let archive = archive.is_file().then(|| (format!("{name}.tar"), archive));
                archive.into_iter().chain(programs).collect()
            }
            _ => vec![],
        }
    }
}
