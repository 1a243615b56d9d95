//! Where an image came from: an in-toto statement with SLSA's provenance (slsa.dev/spec/v1.0/provenance).
//!
//! GitHub's own attestation says which workflow ran. This one says what the build was made of: the source, the compiler
//! and every package with its checksum.

use serde_json::{Value, json};
use tare_report::Verdict;

use crate::ci::Ci;
use crate::documents::sha256;
use crate::facts::ImageFacts;
use crate::http::encoded;
use crate::measured::{FoundReport, REPORT};
use crate::referrers::sorted;

/// in-toto statements, as a media type and as the payload of a signature.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The predicate of provenance.
pub const SLSA: &str = "https://slsa.dev/provenance/v1";
/// The predicate of CycloneDX.
pub const CYCLONEDX_PREDICATE: &str = "https://cyclonedx.org/bom";
/// The predicate of SPDX 2.3.
pub const SPDX_PREDICATE: &str = "https://spdx.dev/Document/v2.3";
/// The predicate of a signature that states nothing else (`cosign sign` 3).
pub const SIGNATURE_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

const BUILD_TYPE: &str = "https://crates.io/crates/xtask-tare/image/v1";

/// What is known of a build beside the image itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildFacts {
    /// As `rustc --version` says.
    pub rustc: Option<String>,
    /// The commit, where there is no CI that names one.
    pub commit: Option<String>,
    /// Targets of rustc, as in `x86_64-unknown-linux-musl`.
    pub targets: Vec<String>,
}

/// What is known of where an image comes from.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// What is known of the build.
    pub build: &'a BuildFacts,
    /// The run of CI.
    pub ci: Option<&'a Ci>,
    /// Reports of its profiles.
    pub reports: &'a [FoundReport],
}

/// An image that another one is built on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// `sha256:…`
    pub digest: String,
    /// Its reference, if it is known.
    pub name: Option<String>,
}

/// A statement about an image.
#[must_use]
pub fn statement(name: &str, digest: &str, predicate_type: &str, predicate: &Value) -> Vec<u8> {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": hex}}],
        "predicateType": predicate_type,
        "predicate": predicate,
    });
    sorted(statement).to_string().into_bytes()
}

/// Whether two statements say the same of an image.
///
/// The provenance of a repeated run names another run and reports that were measured again. Source, builder, compiler and
/// packages are the same, and so the first statement holds.
pub(crate) fn says_the_same(one: &[u8], other: &[u8]) -> bool {
    one == other || lasting(one).is_some_and(|lasting_one| lasting(other) == Some(lasting_one))
}

/// A provenance without what each run has of its own; none of another statement.
fn lasting(statement: &[u8]) -> Option<Value> {
    let mut statement: Value = serde_json::from_slice(statement).ok()?;
    if statement["predicateType"] != SLSA {
        return None;
    }
    let details = statement.pointer_mut("/predicate/runDetails")?.as_object_mut()?;
    details.remove("metadata");
    if let Some(byproducts) = details.get_mut("byproducts").and_then(Value::as_array_mut) {
        byproducts.retain(|one| one["mediaType"] != REPORT);
    }
    Some(statement)
}

/// The predicate of provenance for an image of these platforms.
#[must_use]
pub fn provenance(name: &str, images: &[ImageFacts], bases: &[Base], origin: Origin<'_>) -> Value {
    let Origin { build, ci, reports } = origin;
    let mut resolved = Vec::new();
    let commit = ci.map(|ci| &ci.commit).or(build.commit.as_ref());
    let source = ci.and_then(|ci| ci.source.as_ref());
    if let (Some(commit), Some(source)) = (commit, source) {
        resolved.push(json!({"uri": format!("git+{source}"), "digest": {"gitCommit": commit}}));
    }
    resolved.extend(bases.iter().map(|Base { digest, name }| {
        let uri =
            name.as_ref().map_or_else(|| format!("oci:{digest}"), |name| format!("oci:{name}@{digest}"));
        json!({"uri": uri, "digest": {"sha256": digest.replace("sha256:", "")}})
    }));
    let mut crates: Vec<(String, Option<&String>)> = images
        .iter()
        .flat_map(|image| &image.crates)
        .map(|one| (format!("pkg:cargo/{}@{}", one.name, encoded(&one.version)), one.checksum.as_ref()))
        .collect();
    crates.sort();
    crates.dedup();
    resolved.extend(crates.into_iter().map(|(uri, checksum)| match checksum {
        Some(checksum) => json!({"uri": uri, "digest": {"sha256": checksum}}),
        None => json!({"uri": uri}),
    }));
    let platforms: Vec<&String> = images.iter().map(|image| &image.platform).collect();
    let byproducts = images.iter().flat_map(|image| {
        let layer =
            |digest: &String| json!({"name": "layer", "digest": {"sha256": digest.replace("sha256:", "")}});
        image.layers.iter().map(move |facts| layer(&facts.digest))
    });
    let measured = |found: &FoundReport| {
        let gate = |verdict: &Verdict| json!({"gate": verdict.gate, "outcome": verdict.outcome.name()});
        json!({
            "name": "report",
            "mediaType": REPORT,
            "digest": {"sha256": sha256(&found.bytes).digest()},
            "annotations": {
                "profile": found.report.profile.name,
                "subject": found.report.target.digest,
                "verdict": found.report.overall.name(),
                "gates": found.report.verdicts.iter().map(gate).collect::<Vec<_>>(),
            },
        })
    };
    let byproducts = byproducts.chain(reports.iter().map(measured));
    let mut details = json!({
        "builder": {"id": ci.map_or("https://crates.io/crates/xtask-tare", |ci| &ci.builder)},
        "byproducts": byproducts.collect::<Vec<_>>(),
    });
    if let Some(run) = ci.and_then(|ci| ci.run.as_ref()) {
        details["metadata"] = json!({"invocationId": run});
    }
    let mut internal = json!({"tare": env!("CARGO_PKG_VERSION")});
    if let Some(rustc) = &build.rustc {
        internal["rustc"] = json!(rustc);
    }
    if !build.targets.is_empty() {
        internal["targets"] = json!(build.targets);
    }
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"image": name, "platforms": platforms},
            "internalParameters": internal,
            "resolvedDependencies": resolved,
        },
        "runDetails": details,
    })
}
