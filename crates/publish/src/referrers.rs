//! Artifacts that refer to an image: SBOMs, provenance, signatures, reports (image-spec manifest.md, "Guidelines for
//! Artifact Usage"; distribution-spec, "Referrers").
//!
//! Filled by hand: no crate writes referrers, and other tools lose each other's where the registry has no referrers
//! API: they read the fallback tag's index, add one entry and write it back, once for each artifact. Here all entries
//! are merged in one write, under the condition that the index is still the one that was read where the registry gives
//! versions, and it is read back until they are seen.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use oci_spec::image::{Descriptor, Digest, MediaType};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use crate::content::Document;
use crate::documents::{INDEX, MANIFEST, is_index, sha256};
use crate::error::Error;
use crate::registry::{Condition, MANIFEST_LIMIT, Repository};
use crate::upload::{Upload, upload};

/// The content of `application/vnd.oci.empty.v1+json`.
const EMPTY: &[u8] = b"{}";
/// How often a lost entry is merged again.
const MERGES: u32 = 4;
/// How often the fallback tag is read back; some registries show a write only later.
const LOOKS: u32 = 6;

/// Something that refers to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Its manifest.
    pub manifest: Document,
    /// What kind it is, as in `application/spdx+json`.
    pub artifact_type: String,
    /// Of the manifest; copied into the list of referrers.
    pub annotations: BTreeMap<String, String>,
    /// What its file is called where it is written to a folder.
    pub file_name: String,
    payload: Vec<u8>,
}

impl Artifact {
    /// An artifact of one file.
    ///
    /// The layer's media type is the artifact's, because trivy expects that.
    #[must_use]
    pub fn new(
        subject: &Descriptor,
        artifact_type: &str,
        file_name: &str,
        payload: Vec<u8>,
        annotations: BTreeMap<String, String>,
    ) -> Self {
        let layer = json!({
            "mediaType": artifact_type,
            "digest": sha256(&payload).to_string(),
            "size": payload.len(),
            "annotations": {"org.opencontainers.image.title": file_name},
        });
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": artifact_type,
            "config": {
                "mediaType": MediaType::EmptyJSON.to_string(),
                "digest": sha256(EMPTY).to_string(),
                "size": EMPTY.len(),
                "data": "e30=",
            },
            "layers": [layer],
            "subject": {
                "mediaType": subject.media_type().to_string(),
                "digest": subject.digest().to_string(),
                "size": subject.size(),
            },
        });
        if !annotations.is_empty() {
            manifest["annotations"] = json!(annotations);
        }
        let manifest = Document::new(MANIFEST, sorted(manifest).to_string().into_bytes());
        Self {
            manifest,
            artifact_type: artifact_type.to_owned(),
            annotations,
            file_name: file_name.to_owned(),
            payload,
        }
    }

    /// Its file.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Its entry in a list of referrers.
    fn descriptor(&self) -> Value {
        let descriptor = &self.manifest.descriptor;
        let mut entry = json!({
            "mediaType": MANIFEST,
            "digest": descriptor.digest().to_string(),
            "size": descriptor.size(),
            "artifactType": self.artifact_type,
        });
        if !self.annotations.is_empty() {
            entry["annotations"] = json!(self.annotations);
        }
        entry
    }
}

/// With the keys of every object in order, also where `preserve_order` of serde_json is on.
pub(crate) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<String, Value> =
                map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// Where the registry lists referrers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// In its referrers API.
    Api,
    /// In the index at the fallback tag.
    FallbackTag,
}

/// Puts artifacts into the repository of their subject and sees that they are listed.
///
/// # Errors
/// When one is not taken, or is not listed afterwards.
pub fn push_referrers(
    repository: &Repository,
    subject: &Digest,
    artifacts: &[Artifact],
) -> Result<Listed, Error> {
    match listed_where(repository, subject, artifacts)? {
        Some(listed) => Ok(listed),
        None => restore_referrers(repository, subject, artifacts),
    }
}

/// The same, also where they are listed already: what a registry has deleted and still lists is stored again.
///
/// # Errors
/// As [`push_referrers`].
pub fn restore_referrers(
    repository: &Repository,
    subject: &Digest,
    artifacts: &[Artifact],
) -> Result<Listed, Error> {
    let mut entered = true;
    for artifact in artifacts {
        for bytes in [EMPTY, &artifact.payload] {
            let digest = sha256(bytes);
            let open = |offset: u64| {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Box::new(std::io::Cursor::new(bytes[from..].to_vec())) as Box<dyn std::io::Read>)
            };
            let blob = Upload { digest: &digest, size: bytes.len() as u64, open: &open, progress: &|_| () };
            upload(repository, &blob, None)?;
        }
        let Document { descriptor, bytes } = &artifact.manifest;
        let answered =
            repository.put_manifest(descriptor.digest().as_ref(), MANIFEST, bytes, &Condition::Always)?;
        entered &= answered.as_deref() == Some(subject.as_ref());
    }
    // GHCR once answered an empty list for referrers that it had taken.
    if entered && contains_all(&from_api(repository, subject)?.unwrap_or_default(), artifacts) {
        return Ok(Listed::Api);
    }
    enter_fallback(repository, subject, artifacts)?;
    Ok(Listed::FallbackTag)
}

/// Where all of these are listed already.
fn listed_where(
    repository: &Repository,
    subject: &Digest,
    artifacts: &[Artifact],
) -> Result<Option<Listed>, Error> {
    if contains_all(&from_api(repository, subject)?.unwrap_or_default(), artifacts) {
        return Ok(Some(Listed::Api));
    }
    let Some(fallback) = repository.manifest(&fallback_tag(subject))? else { return Ok(None) };
    let listed = parse_index(&fallback.bytes, "the fallback tag")?;
    Ok(contains_all(&listed, artifacts).then_some(Listed::FallbackTag))
}

/// The artifacts that neither the API nor the fallback tag lists, or that are listed and not there.
///
/// # Errors
/// When the registry cannot be asked.
pub fn missing(
    repository: &Repository,
    subject: &Digest,
    artifacts: &[Artifact],
) -> Result<Vec<Artifact>, Error> {
    let listed = list(repository, subject)?;
    let mut lost = Vec::new();
    for artifact in artifacts {
        let digest = artifact.manifest.descriptor.digest().as_ref();
        let is_listed = contains_all(&listed, std::slice::from_ref(artifact));
        if !is_listed || repository.head_manifest(digest)?.is_none() {
            lost.push(artifact.clone());
        }
    }
    Ok(lost)
}

/// The files of the referrers that are of this type. What others attached and has several files is left out.
///
/// The type is read from each manifest: go-containerregistry lists the media type of the configuration in its place.
///
/// # Errors
/// When one cannot be fetched, or is not what its digest says.
pub fn payloads(
    repository: &Repository,
    subject: &Digest,
    artifact_type: &str,
) -> Result<Vec<(Digest, Vec<u8>)>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Manifest {
        artifact_type: Option<String>,
        #[serde(default)]
        layers: Vec<Descriptor>,
    }
    let mut found = Vec::new();
    for referrer in list(repository, subject)? {
        let listed = referrer.artifact_type().as_ref().map(ToString::to_string);
        if listed.is_some_and(|listed| listed != artifact_type && listed != MediaType::EmptyJSON.to_string())
        {
            continue;
        }
        let Some(manifest) = repository.manifest(referrer.digest().as_ref())? else { continue };
        let wrong = |error| Error::Registry(format!("{} cannot be understood: {error}", referrer.digest()));
        let read: Manifest = tare_oci::input::from_json(&manifest.bytes).map_err(wrong)?;
        if let (Some(layer), true) = (
            read.layers.first(),
            read.layers.len() == 1 && read.artifact_type.as_deref() == Some(artifact_type),
        ) {
            found.push((referrer.digest().clone(), small_blob(repository, layer.digest())?));
        }
    }
    Ok(found)
}

/// A blob that is a document.
fn small_blob(repository: &Repository, digest: &Digest) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let (stream, _) = repository.http().retrying(|| repository.blob_from(digest, 0))?;
    let read = stream.take(MANIFEST_LIMIT).read_to_end(&mut bytes);
    read.map_err(|error| Error::Exchange {
        request: format!("GET {}", repository.url(&format!("blobs/{digest}"))),
        source: ureq::Error::Io(error),
    })?;
    if &sha256(&bytes) != digest {
        return Err(Error::Registry(format!("{} answers other bytes for {digest}", repository.name())));
    }
    Ok(bytes)
}

/// Every referrer of an image, from the API and the fallback tag.
///
/// # Errors
/// When the registry cannot be asked.
pub fn list(repository: &Repository, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
    let mut found = from_api(repository, subject)?.unwrap_or_default();
    if let Some(fallback) = repository.manifest(&fallback_tag(subject))? {
        let known: Vec<Digest> = found.iter().map(|referrer| referrer.digest().clone()).collect();
        let more = parse_index(&fallback.bytes, "the fallback tag")?.into_iter();
        found.extend(more.filter(|referrer| !known.contains(referrer.digest())));
    }
    Ok(found)
}

/// A referrer with what its manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// Its manifest.
    pub descriptor: Descriptor,
    /// What kind it is.
    pub artifact_type: String,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Every referrer of an image, with its type and annotations. They are read from each manifest where the list has not
/// both: go-containerregistry lists the type of the configuration, and no annotations.
///
/// # Errors
/// When the registry cannot be asked, or a manifest is not what its digest says.
pub fn describe(repository: &Repository, subject: &Digest) -> Result<Vec<Referrer>, Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Manifest {
        artifact_type: Option<String>,
        annotations: Option<BTreeMap<String, String>>,
    }
    let mut found = Vec::new();
    for descriptor in list(repository, subject)? {
        let listed = descriptor.artifact_type().as_ref().map(ToString::to_string);
        let listed = listed.filter(|it| *it != MediaType::EmptyJSON.to_string());
        let annotations: Option<BTreeMap<String, String>> =
            descriptor.annotations().clone().map(|all| all.into_iter().collect());
        let mut read = Manifest { artifact_type: listed, annotations };
        if (read.artifact_type.is_none() || read.annotations.is_none())
            && let Some(manifest) = repository.manifest(descriptor.digest().as_ref())?
        {
            let wrong =
                |error| Error::Registry(format!("{} cannot be understood: {error}", descriptor.digest()));
            read = tare_oci::input::from_json(&manifest.bytes).map_err(wrong)?;
        }
        let artifact_type = read.artifact_type.unwrap_or_else(|| "unknown".to_owned());
        found.push(Referrer { descriptor, artifact_type, annotations: read.annotations.unwrap_or_default() });
    }
    Ok(found)
}

fn from_api(repository: &Repository, subject: &Digest) -> Result<Option<Vec<Descriptor>>, Error> {
    let pages = match repository.pages(&repository.url(&format!("referrers/{subject}")), INDEX) {
        Ok(pages) => pages,
        // Registries that do not know the path answer all kinds of refusals.
        Err(Error::Refused(refusal)) if !refusal.is_transient() => None,
        Err(error) => return Err(error),
    };
    let Some(pages) = pages else { return Ok(None) };
    let mut referrers = Vec::new();
    for page in pages {
        // A page of HTML instead of a 404 (GHCR).
        let Ok(page) = parse_index(&page, "the list of referrers") else { return Ok(None) };
        referrers.extend(page);
    }
    Ok(Some(referrers))
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

fn parse_index(bytes: &[u8], name: &str) -> Result<Vec<Descriptor>, Error> {
    let wrong = |error| Error::Registry(format!("{name} cannot be understood: {error}"));
    let Index { manifests } = tare_oci::input::from_json(bytes).map_err(wrong)?;
    Ok(manifests)
}

fn contains_all(referrers: &[Descriptor], artifacts: &[Artifact]) -> bool {
    let has = |artifact: &Artifact| {
        let digest = artifact.manifest.descriptor.digest();
        referrers.iter().any(|referrer| referrer.digest() == digest)
    };
    artifacts.iter().all(has)
}

/// `sha256-…` (distribution-spec, "Referrers Tag Schema").
fn fallback_tag(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm(), subject.digest())
}

fn enter_fallback(repository: &Repository, subject: &Digest, artifacts: &[Artifact]) -> Result<(), Error> {
    let tag = fallback_tag(subject);
    for _ in 0..MERGES {
        let current = repository.manifest(&tag)?;
        let condition = match &current {
            None => Condition::Absent,
            Some(current) => current.etag.clone().map_or(Condition::Always, Condition::Unchanged),
        };
        if let Some(current) = &current
            && !is_index(current.descriptor.media_type().as_ref())
        {
            return Err(Error::Registry(format!("{}:{tag} is no list of referrers", repository.name())));
        }
        if let Some(merged) = merge(current.as_ref().map(|current| current.bytes.as_slice()), artifacts)? {
            match repository.put_manifest(&tag, INDEX, &merged, &condition) {
                // Another writer was faster.
                Err(error) if error.status() == Some(412) => continue,
                result => result?,
            };
        }
        if is_seen(repository, &tag, artifacts)? {
            return Ok(());
        }
    }
    let name = repository.name();
    Err(Error::Registry(format!(
        "{name} loses the referrers of {subject}: they are stored, and {name}:{tag} does not list them"
    )))
}

/// Reads the tag until it lists the artifacts, or gives up.
fn is_seen(repository: &Repository, tag: &str, artifacts: &[Artifact]) -> Result<bool, Error> {
    for look in 0..LOOKS {
        if let Some(current) = repository.manifest(tag)?
            && contains_all(&parse_index(&current.bytes, tag)?, artifacts)
        {
            return Ok(true);
        }
        if look + 1 < LOOKS {
            repository.http().wait(Duration::from_millis(250) * 2_u32.pow(look));
        }
    }
    Ok(false)
}

/// The index with the artifacts that it lacks, or `None` where it has them all. What others wrote stays as it is, byte
/// for byte.
fn merge(current: Option<&[u8]>, artifacts: &[Artifact]) -> Result<Option<Vec<u8>>, Error> {
    let wrong = |error: serde_json::Error| Error::Registry(format!("the list of referrers is none: {error}"));
    let mut fields: BTreeMap<String, Box<RawValue>> = match current {
        Some(bytes) => serde_json::from_slice(bytes).map_err(wrong)?,
        None => {
            let empty = json!({"schemaVersion": 2, "mediaType": INDEX});
            serde_json::from_str(&empty.to_string()).map_err(wrong)?
        }
    };
    let mut entries: Vec<Box<RawValue>> = match fields.get("manifests") {
        Some(entries) => serde_json::from_str(entries.get()).map_err(wrong)?,
        None => vec![],
    };
    let known =
        current.map(|bytes| parse_index(bytes, "the list of referrers")).transpose()?.unwrap_or_default();
    let before = entries.len();
    for artifact in artifacts {
        if !contains_all(&known, std::slice::from_ref(artifact)) {
            entries.push(to_raw_value(&sorted(artifact.descriptor())).map_err(wrong)?);
        }
    }
    if entries.len() == before {
        return Ok(None);
    }
    fields.insert("manifests".to_owned(), to_raw_value(&entries).map_err(wrong)?);
    serde_json::to_vec(&fields).map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(payload: &str) -> Artifact {
        let subject = Descriptor::new(MediaType::ImageManifest, 2, sha256(EMPTY));
        let annotations =
            BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]);
        Artifact::new(&subject, "application/spdx+json", "app.spdx.json", payload.into(), annotations)
    }

    #[test]
    fn an_artifact_is_a_manifest_with_an_empty_configuration_and_a_subject() {
        let artifact = artifact("x");
        let expected = r#"{"annotations":{"a":"1","b":"2"},"artifactType":"application/spdx+json","config":{"data":"e30=","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","mediaType":"application/vnd.oci.empty.v1+json","size":2},"layers":[{"annotations":{"org.opencontainers.image.title":"app.spdx.json"},"digest":"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","mediaType":"application/spdx+json","size":1}],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2,"subject":{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","mediaType":"application/vnd.oci.image.manifest.v1+json","size":2}}"#;
        assert_eq!(String::from_utf8(artifact.manifest.bytes).unwrap(), expected);
    }

    #[test]
    fn entries_of_others_stay_byte_for_byte() {
        let foreign = format!(
            r#"{{ "size":  7,"x-unknown" : [1.50, {{"b":1,"a":2}}], "digest":"{}","mediaType":"text/plain" }}"#,
            sha256(b"x")
        );
        let current = format!(r#"{{"schemaVersion": 2, "y": 1e2, "manifests": [{foreign}]}}"#);
        let (one, other) = (artifact("1"), artifact("2"));
        let merged = merge(Some(current.as_bytes()), &[one.clone(), other.clone()]).unwrap().unwrap();
        let text = String::from_utf8(merged.clone()).unwrap();
        assert!(text.contains(&foreign) && text.contains(r#""y":1e2"#), "{text}");
        assert!(contains_all(&parse_index(&merged, "").unwrap(), &[one.clone(), other.clone()]));
        assert_eq!(merge(Some(&merged), &[one.clone(), other]).unwrap(), None);
        assert!(merge(None, &[one]).unwrap().is_some());
        assert!(merge(Some(b"{\"manifests\": 1}"), &[]).is_err());
    }
}
