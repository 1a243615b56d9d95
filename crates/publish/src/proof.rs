//! What is published beside an image: SBOMs, provenance and signatures, as artifacts that refer to it and as files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use oci_spec::image::Descriptor;
use serde_json::{Value, json};

use crate::ci::Ci;
use crate::content::Content;
use crate::documents::sha256;
use crate::error::Error;
use crate::facts::ImageFacts;
use crate::provenance::{
    BuildFacts, CYCLONEDX_PREDICATE, IN_TOTO, SIGNATURE_PREDICATE, SLSA, SPDX_PREDICATE, provenance,
    statement,
};
use crate::referrers::Artifact;
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
    let predicate = provenance(name, images, signer.build.unwrap_or(&unknown), signer.ci);
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

/// Writes the artifacts, `publish.json`, a file of variables for GitLab's reports and `SHA256SUMS` into a folder.
///
/// # Errors
/// When one cannot be written.
pub fn write_files(folder: &Path, proofs: &[Proof], publish: &Value) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|source| Error::File {
        operation: "create",
        path: folder.to_path_buf(),
        source,
    })?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let dotenv = format!(
        "IMAGE={}\nIMAGE_DIGEST={}\n",
        text(&publish["repositories"][0]["repository"]),
        text(&publish["digest"])
    );
    let mut files = BTreeMap::from([
        ("publish.json", format!("{publish:#}\n").into_bytes()),
        ("publish.env", dotenv.into_bytes()),
    ]);
    for artifact in proofs.iter().flat_map(|proof| &proof.artifacts) {
        files.insert(&artifact.file_name, artifact.payload().to_vec());
    }
    let sums: String =
        files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes).digest())).collect();
    files.insert("SHA256SUMS", sums.into_bytes());
    for (name, bytes) in files {
        let path = folder.join(name);
        let written = tare_tool::private::replace_file(&path, &bytes);
        written.map_err(|source| Error::File { operation: "write", path, source })?;
    }
    Ok(())
}
