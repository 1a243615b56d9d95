//! What is published beside an image: SBOMs, provenance and signatures, as artifacts that refer to it and as files.

use std::collections::BTreeMap;

use oci_spec::image::Descriptor;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ci::Ci;
use crate::content::{Content, Document};
use crate::error::Error;
use crate::facts::ImageFacts;
use crate::measured::{FoundReport, artifact};
use crate::provenance::{
    Base, BuildFacts, CYCLONEDX_PREDICATE, IN_TOTO, Origin, SIGNATURE_PREDICATE, SLSA, SPDX_PREDICATE,
    provenance, says_the_same, statement,
};
use crate::referrers::{Artifact, payloads};
use crate::registry::Repository;
use crate::sbom::{CYCLONEDX, SPDX, cyclonedx, spdx};
use crate::sign::{BUNDLE, SigningKey, predicate_type};

/// The artifacts of one manifest or index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// What they refer to.
    pub subject: Descriptor,
    /// Each with its own file name.
    pub artifacts: Vec<Artifact>,
}

/// What proofs are made with.
#[derive(Clone, Copy, Default)]
pub struct Signer<'a> {
    /// The key, if there is one.
    pub key: Option<&'a SigningKey>,
    /// What is known of the build.
    pub build: Option<&'a BuildFacts>,
    /// The run of CI.
    pub ci: Option<&'a Ci>,
    /// Reports of the images' profiles.
    pub reports: &'a [FoundReport],
}

/// SBOMs for each image, and provenance of the whole; with a key each of them in a signed bundle too, and a signature
/// of the image itself.
///
/// # Errors
/// When the key cannot sign.
pub fn prove(
    name: &str,
    content: &Content<'_>,
    images: &[ImageFacts],
    signer: Signer<'_>,
) -> Result<Vec<Proof>, Error> {
    let mut proofs = Vec::new();
    for document in content.manifests() {
        let subject = &document.descriptor;
        let Some(image) = images.iter().find(|image| image.digest == subject.digest().as_ref()) else {
            continue;
        };
        let stem = format!("{name}-{}", image.platform.replace('/', "-"));
        let mut artifacts = Vec::new();
        for (kind, ending, predicate, bytes) in [
            (CYCLONEDX, "cdx", CYCLONEDX_PREDICATE, cyclonedx(name, image)),
            (SPDX, "spdx", SPDX_PREDICATE, spdx(name, image)),
        ] {
            if let Some(key) = signer.key {
                let contents = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let statement = statement(name, &image.digest, predicate, &contents);
                artifacts.push(bundle(subject, &format!("{stem}.{ending}"), key.sign(&statement)?)?);
            }
            artifacts.push(Artifact::new(
                subject,
                kind,
                &format!("{stem}.{ending}.json"),
                bytes,
                BTreeMap::new(),
            ));
        }
        proofs.push(Proof { subject: subject.clone(), artifacts });
    }
    let root = &content.root().descriptor;
    let digest = root.digest().as_ref();
    let unknown = BuildFacts::default();
    let origin = Origin { build: signer.build.unwrap_or(&unknown), ci: signer.ci, reports: signer.reports };
    let predicate = provenance(name, images, &bases(content)?, origin);
    let provenance = statement(name, digest, SLSA, &predicate);
    let artifacts = match signer.key {
        Some(key) => {
            let plain = statement(name, digest, SIGNATURE_PREDICATE, &json!({}));
            vec![
                bundle(root, &format!("{name}.provenance"), key.sign(&provenance)?)?,
                bundle(root, &format!("{name}.signature"), key.sign(&plain)?)?,
            ]
        }
        None => {
            let kind = BTreeMap::from([("in-toto.io/predicate-type".to_owned(), SLSA.to_owned())]);
            vec![Artifact::new(root, IN_TOTO, &format!("{name}.provenance.json"), provenance, kind)]
        }
    };
    match proofs.iter_mut().find(|proof| proof.subject.digest() == root.digest()) {
        Some(proof) => proof.artifacts.extend(artifacts),
        None => proofs.push(Proof { subject: root.clone(), artifacts }),
    }
    Ok(proofs)
}

/// The reports of these images, as artifacts of the manifests that they are about.
#[must_use]
pub fn attach_reports(name: &str, content: &Content<'_>, reports: &[FoundReport]) -> Vec<Proof> {
    let of = |document: &Document| {
        let subject = &document.descriptor;
        let own = reports.iter().filter(|found| found.report.target.digest == subject.digest().as_ref());
        let artifacts: Vec<Artifact> = own.map(|found| artifact(subject, name, found)).collect();
        (!artifacts.is_empty()).then(|| Proof { subject: subject.clone(), artifacts })
    };
    content.manifests().filter_map(of).collect()
}

/// Replaces provenance and bundles by those of the repository that say the same, bundles only where this key has signed
/// them. Each signature is another one (ECDSA), and each run of CI has its own address, so that every repeated run would
/// add its own.
///
/// # Errors
/// When the repository cannot be asked.
pub fn reuse(proofs: &mut [Proof], repository: &Repository, key: Option<&SigningKey>) -> Result<(), Error> {
    for Proof { subject, artifacts } in proofs {
        for kind in [IN_TOTO, BUNDLE] {
            if !artifacts.iter().any(|artifact| artifact.artifact_type == kind) {
                continue;
            }
            let known = payloads(repository, subject.digest(), kind)?;
            for artifact in artifacts.iter_mut().filter(|artifact| artifact.artifact_type == kind) {
                let is_same = |known: &[u8]| match key {
                    _ if kind == IN_TOTO => says_the_same(known, artifact.payload()),
                    Some(key) => key.has_signed(known, artifact.payload()),
                    None => false,
                };
                if let Some((_, same)) = known.iter().find(|(_, known)| is_same(known)) {
                    let Artifact { artifact_type, file_name, annotations, .. } = artifact.clone();
                    *artifact = Artifact::new(subject, &artifact_type, &file_name, same.clone(), annotations);
                }
            }
        }
    }
    Ok(())
}

/// Adds proofs to those of the same images.
pub fn merge(proofs: &mut Vec<Proof>, more: Vec<Proof>) {
    for proof in more {
        match proofs.iter_mut().find(|known| known.subject.digest() == proof.subject.digest()) {
            Some(known) => known.artifacts.extend(proof.artifacts),
            None => proofs.push(proof),
        }
    }
}

/// The images that these images are built on, as their annotations say (image-spec annotations.md).
fn bases(content: &Content<'_>) -> Result<Vec<Base>, Error> {
    #[derive(Deserialize)]
    struct Manifest {
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    let mut bases = Vec::new();
    for document in content.manifests() {
        let wrong = |error| Error::Input(format!("{}: {error}", document.descriptor.digest()));
        let Manifest { mut annotations } = tare_oci::input::from_json(&document.bytes).map_err(wrong)?;
        if let Some(digest) = annotations.remove("org.opencontainers.image.base.digest") {
            let base = Base { digest, name: annotations.remove("org.opencontainers.image.base.name") };
            if !bases.contains(&base) {
                bases.push(base);
            }
        }
    }
    Ok(bases)
}

/// A bundle that somebody signed, with the annotations by which cosign finds it.
///
/// # Errors
/// When it is none, or about another image.
pub fn bundle(subject: &Descriptor, stem: &str, bytes: Vec<u8>) -> Result<Artifact, Error> {
    let kind = predicate_type(&bytes, subject.digest().as_ref())?;
    let annotations = [
        ("dev.sigstore.bundle.content", "dsse-envelope"),
        ("dev.sigstore.bundle.predicateType", kind.as_str()),
    ];
    let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Ok(Artifact::new(subject, BUNDLE, &format!("{stem}.sigstore.json"), bytes, BTreeMap::from(annotations)))
}
