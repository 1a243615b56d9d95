//! The base of an image: found in a layout, an archive or a registry, and read for one platform.
//!
//! Its blobs go into the image as they are. Its layers are read once, to check their diff ids and to list their files;
//! the layer cache keeps both.

mod layers;
pub mod tree;

use std::path::PathBuf;

use anyhow::Context as _;

use super::cache::LayerCache;
use super::definition::Definition;
use super::definition::base::{BaseDefinition, BaseReference, RegistryReference};
use super::pins::Pins;
use crate::pulled;
use crate::workspace::Workspace;
use tare_oci::blob::{BlobSource, Staging};
use tare_oci::digest::Digest;
use tare_oci::input::without_dots;
use tare_oci::layer::Layer;
use tare_oci::platform::Platform;
use tare_oci::reader::{ReadImage, Source, contents};
use tare_oci::shown::shown;
use tare_oci::spec::{Configuration, Map};
use tare_tool::environment::Environment;
use tare_tool::exit::Hinted;
use tare_tool::ui::Ui;
use tree::BaseTree;

/// A base image for one platform, whose documents were read.
#[derive(Debug)]
pub struct BaseImage {
    /// Its reference, if it is from a registry.
    pub name: Option<String>,
    /// Of the manifest or index that the reference names; of the platform's manifest in a layout or archive. An archive of
    /// docker has none.
    pub digest: Option<Digest>,
    /// The layout in the cache, if it is from a registry.
    pub cached: Option<PathBuf>,
    source: Source,
    image: ReadImage,
}

/// The layers of a base image, checked, with their files.
#[derive(Debug)]
pub struct BaseLayers {
    /// Lowest first, each with its blob.
    pub layers: Vec<(Layer, BlobSource)>,
    /// Whether each was in the cache.
    pub cached: Vec<bool>,
    /// What a container of the image has.
    pub tree: BaseTree,
}

impl BaseImage {
    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Configuration {
        &self.image.config
    }

    /// The annotations that name it (image-spec annotations.md).
    #[must_use]
    pub fn annotations(&self) -> Map {
        let entry = |key: &str, value: String| (format!("org.opencontainers.image.base.{key}"), value);
        let name = self.name.clone().map(|name| entry("name", name));
        let digest = self.digest.map(|digest| entry("digest", digest.to_string()));
        name.into_iter().chain(digest).collect()
    }

    /// Reads its layers, out of the cache where they are in it.
    ///
    /// # Errors
    /// When one is not what the image's documents say, or cannot be in an image of this kind.
    pub fn layers(&self, cache: &LayerCache, staging: &Staging) -> anyhow::Result<BaseLayers> {
        let read = layers::read(&self.source, &self.image, cache, staging);
        read.with_context(|| format!("base {}", self.source.path().display()))
    }
}

/// Finds the base of an image for each platform; nothing where the definition names none.
///
/// # Errors
/// When there is no such image, it is not for the platform, or its tag has no digest in `images/lock.toml`.
pub fn find(
    definition: &Definition,
    platforms: &[Platform],
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<Vec<BaseImage>> {
    let Some(base) = &definition.base else { return Ok(Vec::new()) };
    let find = |platform: &Platform| find_one(definition, base, *platform, workspace, env, ui);
    let place = || place(definition, base, workspace);
    let found = platforms.iter().map(find).collect::<anyhow::Result<Vec<_>>>().with_context(place)?;
    if let Some(count) = found.iter().map(|base| base.config().on_build.len()).find(|count| *count > 0) {
        ui.warning(&format!("{}: the base's {count} ONBUILD instructions are not executed", place()));
    }
    Ok(found)
}

/// The base as a dry run shows it.
///
/// # Errors
/// When its tag has no digest in `images/lock.toml`.
pub fn display(
    definition: &Definition,
    base: &BaseDefinition,
    workspace: &Workspace,
) -> anyhow::Result<String> {
    Ok(match &base.reference {
        BaseReference::Path(path) => workspace.show(&without_dots(&definition.dir.join(path))),
        BaseReference::Registry(reference) => {
            let digest = pinned(reference, definition, workspace);
            format!("{}@{}", reference.name, digest.with_context(|| place(definition, base, workspace))?)
        }
    })
}

/// The place of the key in its definition, as errors name it.
fn place(definition: &Definition, base: &BaseDefinition, workspace: &Workspace) -> String {
    let file = definition.file.as_deref().unwrap_or(&definition.dir);
    format!("{}:{}:{}", workspace.show(file), base.place.line, base.place.column)
}

/// The digest of a reference: the definition's own, else that of `images/lock.toml`.
fn pinned(
    reference: &RegistryReference,
    definition: &Definition,
    workspace: &Workspace,
) -> anyhow::Result<Digest> {
    if let Some(digest) = reference.digest {
        return Ok(digest);
    }
    Pins::read(&workspace.root)?.bases.get(&reference.name).copied().ok_or_else(|| {
        let hint = format!(
            "pin the digest that the tag has now: {} update {}; or write it in image.toml: {}@sha256:…",
            tare_tool::environment::command(),
            definition.name,
            reference.name
        );
        Hinted::new(format!("base {} has no digest in images/lock.toml", reference.name), hint).into()
    })
}

fn find_one(
    definition: &Definition,
    base: &BaseDefinition,
    platform: Platform,
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<BaseImage> {
    let platform = platform.to_string();
    let (layout, name, digest) = match &base.reference {
        BaseReference::Path(path) => (without_dots(&definition.dir.join(path)), None, None),
        BaseReference::Registry(reference) => {
            let digest = pinned(reference, definition, workspace)?;
            let layout = pulled::image((&reference.at(digest), digest), &platform, workspace, env, ui)?;
            (layout, Some(reference.name.clone()), Some(digest))
        }
    };
    let source = Source::open(&layout).context("base")?;
    let images = contents(&source)?.images;
    let there: Vec<String> = images.iter().map(|image| image.config.platform()).collect();
    // `linux/arm64` is every variant of it.
    let is_wanted = |image: &ReadImage| {
        let rest = image.config.platform();
        rest.strip_prefix(&platform).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut wanted = images.into_iter().filter(is_wanted);
    let (image, other) = (wanted.next(), wanted.next());
    let shown_layout = workspace.show(&layout);
    if other.is_some() {
        let hint = "make a layout of the one that is meant, such as with `skopeo copy`";
        let message = format!("base {shown_layout} holds several images for {platform}");
        return Err(Hinted::new(message, hint).into());
    }
    let image = image.with_context(|| {
        format!("base {shown_layout} has no image for {platform}, but for {}", shown(there.join(", ")))
    })?;
    let cached = name.is_some().then_some(layout);
    let digest = digest.or(image.manifest.as_ref().map(|(blob, _)| blob.digest));
    Ok(BaseImage { name, digest, cached, source, image })
}
