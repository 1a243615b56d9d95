//! One index of images that were built apart, as by one job of CI for each platform.
//!
//! The images' own bytes stay as they are, so that what was measured and signed is what is published.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, Platform};
use serde::Deserialize;
use serde_json::json;

use super::{Content, Document, Index, Origin, platform_name};
use crate::documents::{INDEX, is_index};
use crate::error::Error;
use crate::referrers::sorted;

/// The platform of what is no image, such as buildx's attestations; there may be several.
const UNKNOWN: &str = "unknown/unknown";
/// What a layout's index.json calls an image, which is not the image's own.
const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];

#[derive(Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Content<'_> {
    /// Makes one index of the images in several layouts or archives, in their order. Archives of several platforms
    /// bring all of theirs. The index has the annotations that all images have in common, which makes it byte for byte
    /// the one that a single build of all platforms writes.
    ///
    /// # Errors
    /// When one cannot be read, does not say what it is for, or two are for the same platform.
    pub fn join(paths: &[PathBuf]) -> Result<Self, Error> {
        let (mut sources, mut manifests) = (Vec::new(), Vec::new());
        let mut taken: BTreeMap<String, &Path> = BTreeMap::new();
        for path in paths {
            let content = Self::open(path)?;
            for manifest in content.images()? {
                let platform = manifest.platform().as_ref().map_or_else(|| UNKNOWN.to_owned(), platform_name);
                if platform != UNKNOWN
                    && let Some(other) = taken.insert(platform.clone(), path)
                {
                    let (one, other) = (other.display(), path.display());
                    let what = format!("{one} and {other} both have an image for {platform}");
                    return Err(Error::Input(what));
                }
                manifests.push(manifest);
            }
            let Origin::Files(more) = content.origin else { continue };
            sources.extend(more);
        }
        let index = Document::new(INDEX, index_bytes(&manifests, &BTreeMap::new()));
        let mut content = Content { origin: Origin::Files(sources), documents: vec![], blobs: vec![] };
        content.collect(&index.descriptor, Some(index.bytes), super::DEPTH_LIMIT)?;
        let common = content.common_annotations()?;
        if !common.is_empty() {
            content.documents.pop();
            content.documents.push(Document::new(INDEX, index_bytes(&manifests, &common)));
        }
        Ok(content)
    }

    /// The entries of its images, each with its platform and without the names of a layout.
    fn images(&self) -> Result<Vec<Descriptor>, Error> {
        let root = self.root();
        if is_index(root.descriptor.media_type().as_ref()) {
            let wrong = |error| Error::Input(format!("{}: {error}", root.descriptor.digest()));
            let Index { manifests } = tare_oci::input::from_json(&root.bytes).map_err(wrong)?;
            return Ok(manifests.into_iter().map(without_names).collect());
        }
        let platform = match root.descriptor.platform() {
            Some(platform) => platform.clone(),
            None => self.configured_platform()?,
        };
        let mut image = without_names(root.descriptor.clone());
        image.set_platform(Some(platform));
        Ok(vec![image])
    }

    /// What its only image's configuration says that it is for.
    pub(super) fn configured_platform(&self) -> Result<Platform, Error> {
        let Some(config) = self.blobs.first() else {
            return Err(Error::Input(format!("{} has no configuration", self.root().descriptor.digest())));
        };
        let wrong = |error: &dyn std::fmt::Display| {
            Error::Input(format!("the configuration {} cannot be read: {error}", config.digest()))
        };
        let mut bytes = Vec::new();
        let mut stream = self.read_from(config.digest(), 0)?.take(crate::registry::MANIFEST_LIMIT);
        stream.read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
        tare_oci::input::from_json(&bytes).map_err(|error| wrong(&error))
    }

    fn common_annotations(&self) -> Result<BTreeMap<String, String>, Error> {
        let mut common: Option<BTreeMap<String, String>> = None;
        for Document { descriptor, bytes } in self.manifests() {
            let wrong = |error| Error::Input(format!("{}: {error}", descriptor.digest()));
            let Annotated { annotations } = tare_oci::input::from_json(bytes).map_err(wrong)?;
            match &mut common {
                None => common = Some(annotations),
                Some(common) => common.retain(|key, value| annotations.get(key) == Some(value)),
            }
        }
        Ok(common.unwrap_or_default())
    }
}

fn without_names(mut image: Descriptor) -> Descriptor {
    if let Some(annotations) = image.annotations().clone() {
        let own: HashMap<String, String> =
            annotations.into_iter().filter(|(key, _)| !NAMES.contains(&key.as_str())).collect();
        image.set_annotations((!own.is_empty()).then_some(own));
    }
    image
}

fn index_bytes(manifests: &[Descriptor], annotations: &BTreeMap<String, String>) -> Vec<u8> {
    let mut index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    if !annotations.is_empty() {
        index["annotations"] = json!(annotations);
    }
    sorted(index).to_string().into_bytes()
}
