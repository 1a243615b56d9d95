//! Assembles an image from its definition, in memory and in the layer cache: program, plan, layers, image, index.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::annotations::annotations;
use super::binary::{BuildContext, Program, program};
use super::cache::{CacheKey, LayerCache};
use super::definition::{Build, CA_CERTIFICATES, DEFAULT_USER, Definition};
use super::rootfs::{self, Binary};
use crate::git::GitFacts;
use tare_oci::blob::{BlobSource, FileError, Staging};
use tare_oci::compress::{Compression, Pool};
use tare_oci::entry::{Content, EntryKind};
use tare_oci::image::{Image, Index, Parts};
use tare_oci::layer::{self, Layer, LayerError, LayerPlan};
use tare_oci::platform::Platform;
use tare_oci::spec::{Config, Map, unless_empty};

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

/// Plans and writes the layers of all platforms, and joins them.
///
/// # Errors
/// When the content is not as the definition says, or a file cannot be read or written.
pub fn assemble(
    context: BuildContext<'_>,
    definition: &Definition,
    git: &GitFacts,
    (programs, build): (Vec<PlatformProgram>, u64),
    store: LayerStore<'_>,
) -> anyhow::Result<Assembled> {
    let started = Instant::now();
    let created = context.created;
    let plans = programs
        .iter()
        .map(|of| rootfs::plan(definition, &context.workspace.root, &of.program.binary, created))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let written = write_layers(definition, &plans, store)?;

    let annotations = own_annotations(context, definition, git);
    let cannot = || format!("image {}: cannot serialise its documents", definition.name);
    let mut images = Vec::new();
    let mut cached = Vec::new();
    for (of, (plan, layers)) in programs.iter().zip(plans.iter().zip(written)) {
        cached.push(layers.iter().map(|layer| layer.cached).collect());
        let parts = Parts {
            platform: of.platform,
            execution: execution(definition, &of.program.binary, plan, &annotations),
            healthcheck: definition.config.healthcheck.clone(),
            author: annotations.get("org.opencontainers.image.authors").cloned(),
            created,
            annotations: annotations.clone(),
            layers: layers.into_iter().map(|w| (w.layer, BlobSource::File(w.blob))).collect(),
        };
        images.push(Image::new(parts).with_context(cannot)?);
    }
    let index = Index::new(images, annotations.clone()).with_context(cannot)?;
    let timings = Timings { build, layers: milliseconds(started), output: 0 };
    Ok(Assembled { index, programs, cached, annotations, timings })
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

/// The execution parameters of the definition, completed with defaults.
fn execution(definition: &Definition, binary: &Binary, plan: &[LayerPlan], annotations: &Map) -> Config {
    let config = &definition.config;
    let entries = || plan.iter().flat_map(|layer| &layer.entries);
    let binary_path = entries().find(|entry| {
        matches!(&entry.kind, EntryKind::File(Content::Bytes(bytes)) if std::sync::Arc::ptr_eq(bytes, &binary.bytes))
    });
    // docker adds a PATH of its own, other runtimes add none, and what is started without one fails in
    // ways that are hard to see.
    let mut env =
        vec![("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned())];
    if entries().any(|entry| entry.path.to_string() == CA_CERTIFICATES) {
        env.push(("SSL_CERT_FILE".to_owned(), CA_CERTIFICATES.to_owned()));
    }
    for (name, value) in &config.env {
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.clone_from(value),
            None => env.push((name.clone(), value.clone())),
        }
    }
    let mut labels = annotations.clone();
    labels.extend(config.labels.clone());
    let listed = |words: Vec<String>| (!words.is_empty()).then_some(words);
    let entrypoint = match &config.entrypoint {
        Some(words) => words.clone(),
        None => binary_path.map(|entry| entry.path.to_string()).into_iter().collect(),
    };
    let mut execution = Config::default();
    execution
        .set_user(Some(config.user.map_or(DEFAULT_USER, |user| user.0).to_string()))
        .set_exposed_ports(listed(config.exposed_ports.iter().map(ToString::to_string).collect()))
        .set_env(listed(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()))
        .set_entrypoint(listed(entrypoint))
        .set_cmd(listed(config.cmd.clone()))
        .set_volumes(listed(config.volumes.iter().map(|volume| volume.path.to_string()).collect()))
        .set_working_dir(Some(config.working_dir.as_ref().map_or("/".to_owned(), ToString::to_string)))
        .set_labels(unless_empty(labels))
        .set_stop_signal(config.stop_signal.as_ref().map(|signal| signal.0.clone()));
    execution
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_oci::digest::DiffId;
    use tare_oci::entry::{Entry, Owner};
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
