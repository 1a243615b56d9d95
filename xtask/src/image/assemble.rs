//! Assembles an image from its definition, in memory and in the layer cache: program, plan, layers, image, index.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::annotations::annotations;
use super::base::tree::BaseTree;
use super::base::{BaseImage, BaseLayers};
use super::binary::{BuildContext, Program, program};
use super::cache::{CacheKey, LayerCache};
use super::definition::{Build, Definition};
use super::execution::{execution, user};
use super::rootfs;
use crate::git::GitFacts;
use tare_oci::blob::{BlobSource, FileError, Staging};
use tare_oci::compress::{Compression, Pool};
use tare_oci::image::{Base, Image, Index, Parts};
use tare_oci::layer::{self, Layer, LayerError, LayerPlan};
use tare_oci::platform::Platform;
use tare_oci::spec::Map;

/// How long the steps took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// cargo or the command, stripping and checking.
    pub build: u64,
    /// Planning, tar, compression, digests.
    pub layers: u64,
    /// Layout, archive and the rest.
    pub output: u64,
}

/// Milliseconds since then.
#[must_use]
pub fn milliseconds(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

/// A program of an image that was assembled.
#[derive(Debug, Clone)]
pub struct PlatformProgram {
    /// The platform.
    pub platform: Platform,
    /// The program.
    pub program: Program,
}

/// An image whose layers lie in the cache.
#[derive(Debug, Clone)]
pub struct Assembled {
    /// Manifests, configs and layers.
    pub index: Index,
    /// One for each platform.
    pub programs: Vec<PlatformProgram>,
    /// For each image and layer, in the order of the index: whether it was there already.
    pub cached: Vec<Vec<bool>>,
    /// Of the manifests.
    pub annotations: Map,
    /// How long it took.
    pub timings: Timings,
}

/// Builds the programs of all platforms. This takes long and needs no lock but cargo's.
///
/// # Errors
/// When one cannot be built or must not be shipped.
pub fn programs(
    context: BuildContext<'_>,
    definition: &Definition,
    platforms: &[Platform],
) -> anyhow::Result<(Vec<PlatformProgram>, u64)> {
    let started = Instant::now();
    let build = |platform: &Platform| {
        let program = program(context, definition, *platform)?;
        Ok(PlatformProgram { platform: *platform, program })
    };
    let programs = platforms.iter().map(build).collect::<anyhow::Result<_>>()?;
    Ok((programs, milliseconds(started)))
}

/// Where layers are written to and looked for.
#[derive(Clone, Copy)]
pub struct LayerStore<'a> {
    /// Where they are found again.
    pub cache: &'a LayerCache,
    /// Where they are written first.
    pub staging: &'a Staging,
    /// The threads that compress them.
    pub pool: &'a Pool,
    /// How they are compressed.
    pub compression: Compression,
}

/// Plans and writes the layers of all platforms, and joins them. Of `bases` there is one for each platform, or none.
///
/// # Errors
/// When the content is not as the definition says, or a file cannot be read or written.
pub fn assemble(
    context: BuildContext<'_>,
    definition: &Definition,
    git: &GitFacts,
    (programs, build): (Vec<PlatformProgram>, u64),
    bases: &[BaseImage],
    store: LayerStore<'_>,
) -> anyhow::Result<Assembled> {
    let started = Instant::now();
    let created = context.created;
    let mut below = bases
        .iter()
        .map(|base| base.layers(store.cache, store.staging))
        .collect::<anyhow::Result<Vec<_>>>()
        .with_context(|| format!("image {}", definition.name))?;
    let none = BaseTree::default();
    let plan = |(at, of): (usize, &PlatformProgram)| {
        let tree = below.get(at).map_or(&none, |below| &below.tree);
        let base = rootfs::Base { tree, user: user(definition, bases.get(at).map(BaseImage::config)) };
        rootfs::plan(definition, &context.workspace.root, &of.program.binary, created, base)
    };
    let plans = programs.iter().enumerate().map(plan).collect::<anyhow::Result<Vec<_>>>()?;
    let written = write_layers(definition, &plans, store)?;

    let annotations = own_annotations(context, definition, git);
    let cannot = || format!("image {}: cannot serialise its documents", definition.name);
    let mut images = Vec::new();
    let mut cached = Vec::new();
    let mut below = below.drain(..);
    for (at, (of, (plan, layers))) in programs.iter().zip(plans.iter().zip(written)).enumerate() {
        let (base, base_cached) = base_parts(bases.get(at), below.next());
        let own = layers.iter().map(|layer| layer.cached);
        cached.push(base_cached.into_iter().chain(own).collect());
        let config = bases.get(at).map(BaseImage::config);
        let mut annotations = annotations.clone();
        annotations.extend(bases.get(at).map(BaseImage::annotations).unwrap_or_default());
        let authors = annotations.get("org.opencontainers.image.authors").cloned();
        let healthcheck = definition.config.healthcheck.clone();
        let parts = Parts {
            platform: of.platform,
            base,
            execution: execution(definition, &of.program.binary, plan, &annotations, config),
            healthcheck: healthcheck.or_else(|| config?.healthcheck.clone()),
            author: authors.or_else(|| config?.image.author().clone()),
            created,
            annotations,
            layers: layers.into_iter().map(|w| (w.layer, BlobSource::File(w.blob))).collect(),
        };
        images.push(Image::new(parts).with_context(cannot)?);
    }
    // The index has what is true of all its images.
    let mut annotations = annotations;
    let of_bases: Vec<Map> = bases.iter().map(BaseImage::annotations).collect();
    let common = of_bases
        .iter()
        .flatten()
        .filter(|(key, value)| of_bases.iter().all(|annotations| annotations.get(*key) == Some(*value)));
    annotations.extend(common.map(|(key, value)| (key.clone(), value.clone())));
    let index = Index::new(images, annotations.clone()).with_context(cannot)?;
    let timings = Timings { build, layers: milliseconds(started), output: 0 };
    Ok(Assembled { index, programs, cached, annotations, timings })
}

/// What an image takes over from its base, and whether each layer of it was in the cache.
fn base_parts(base: Option<&BaseImage>, layers: Option<BaseLayers>) -> (Base, Vec<bool>) {
    let (Some(base), Some(BaseLayers { layers, cached, .. })) = (base, layers) else {
        return (Base::default(), Vec::new());
    };
    let config = base.config();
    let history = config.image.history().clone().unwrap_or_default();
    (Base { layers, history, shell: config.shell.clone() }, cached)
}

#[derive(Clone)]
struct Written {
    layer: Layer,
    blob: PathBuf,
    cached: bool,
}

/// Writes every layer that is not in the cache, all at once: the pool bounds threads and memory.
/// Platforms share their equal layers.
fn write_layers(
    definition: &Definition,
    plans: &[Vec<LayerPlan>],
    store: LayerStore<'_>,
) -> anyhow::Result<Vec<Vec<Written>>> {
    let name = |plan: &LayerPlan| format!("image {}: layer {}", definition.name, plan.name);
    let all: Vec<&LayerPlan> = plans.iter().flatten().collect();
    let keys = in_parallel(&all, |plan| {
        let fingerprint = layer::fingerprint(plan).with_context(|| name(plan))?;
        Ok(CacheKey::new(fingerprint, store.compression))
    })?;
    let distinct: BTreeMap<CacheKey, &LayerPlan> = keys.iter().copied().zip(all).collect();
    let distinct: Vec<(CacheKey, &LayerPlan)> = distinct.into_iter().collect();
    let written = in_parallel(&distinct, |(key, plan)| {
        Ok((*key, find_or_pack(*key, plan, store).with_context(|| name(plan))?))
    })?;
    let written: BTreeMap<CacheKey, Written> = written.into_iter().collect();
    let mut keys = keys.into_iter();
    Ok(plans
        .iter()
        .map(|plans| {
            let named = plans.iter().zip(keys.by_ref());
            named
                .map(|(plan, key)| {
                    let mut written = written[&key].clone();
                    written.layer.name.clone_from(&plan.name);
                    written
                })
                .collect()
        })
        .collect())
}

/// The layer of a key from the cache, or else packed now. Files may have changed since the key was computed:
/// the cache keeps a layer under the key of the bytes that are in it.
fn find_or_pack(key: CacheKey, plan: &LayerPlan, store: LayerStore<'_>) -> anyhow::Result<Written> {
    if let Some((layer, blob)) = store.cache.find(key, &plan.name) {
        return Ok(Written { layer, blob, cached: true });
    }
    let (file, path) = store.staging.file()?;
    let packed = layer::write(plan, store.compression, store.pool, file).map_err(|error| match error {
        LayerError::Write(source) => FileError::on("write", &path)(source).into(),
        error => anyhow::Error::from(error),
    })?;
    let key = CacheKey::new(packed.fingerprint, store.compression);
    let blob = store.cache.keep(key, &packed.layer, &path, store.staging)?;
    Ok(Written { layer: packed.layer, blob, cached: false })
}

/// A thread for each item; an image has a handful of layers.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    // One of them, as where only the program has changed, does not need to wait for a thread.
    if let [item] = items {
        return Ok(vec![work(item)?]);
    }
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(move || work(item))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// The annotations from Cargo.toml and git. Labels of the definition replace those with the same keys.
fn own_annotations(context: BuildContext<'_>, definition: &Definition, git: &GitFacts) -> Map {
    let package = match &definition.build {
        Build::Cargo(build) => context.workspace.package(&build.package),
        Build::Command { .. } => None,
    };
    let metadata = &context.workspace.metadata;
    let mut map = annotations(&definition.name, package, metadata, git, context.created);
    for (key, value) in &definition.config.labels {
        if key.starts_with("org.opencontainers.image.") {
            map.insert(key.clone(), value.clone());
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_oci::digest::DiffId;
    use tare_oci::entry::{Content, Entry, EntryKind, Owner};
    use tare_oci::units::Epoch;

    #[test]
    fn a_file_that_changes_between_key_and_packing_is_kept_under_the_key_of_what_was_packed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        let kind = EntryKind::File(Content::File(file.as_path().into(), 5));
        let entry = Entry {
            path: "/f".parse().unwrap(),
            kind,
            mode: 0o644,
            owner: Owner::default(),
            mtime: Epoch::OF_FILES,
            capabilities: None,
        };
        let plan = LayerPlan { name: "files".to_owned(), entries: vec![entry] };
        std::fs::create_dir(dir.path().join("cache")).unwrap();
        let cache = LayerCache::new(dir.path().join("cache"));
        let staging = Staging::create(dir.path().join("staging")).unwrap();
        let (pool, compression) = (Pool::start(1), Compression::None);
        let store = LayerStore { cache: &cache, staging: &staging, pool: &pool, compression };
        let key = || CacheKey::new(layer::fingerprint(&plan).unwrap(), compression);
        let build = |key| find_or_pack(key, &plan, store).ok().unwrap();

        std::fs::write(&file, "first").unwrap();
        let first = key();
        std::fs::write(&file, "other").unwrap();
        let other = build(first);
        let tar = std::fs::read(&other.blob).unwrap();
        assert!(tar.windows(5).any(|window| window == b"other"));
        assert_eq!(other.layer.diff_id, DiffId(tare_oci::digest::Digest::of(&tar)));

        // The next build, of the file as it is now, finds that layer.
        let again = build(key());
        assert_eq!((again.cached, &again.layer), (true, &other.layer));
        // A build of the file as it was before is not given the other one's content.
        std::fs::write(&file, "first").unwrap();
        let restored = build(first);
        assert!(!restored.cached);
        assert_ne!(restored.layer.diff_id, other.layer.diff_id);
        assert_eq!(cache.find(first, "files").unwrap().0, restored.layer);
    }
}
