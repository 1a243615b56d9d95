//! The contents of an image as CycloneDX 1.6 and SPDX 2.3: crates with their edges, and the files of every layer.
//!
//! Filled by hand: `cyclonedx-bom` 0.8 stops at 1.5 and `serde-spdx` writes maps in no order. The same image gives the
//! same bytes: identifiers come from its digest, and the time from its configuration.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::documents::sha256;
use crate::facts::{Crate, ImageFacts, hex};
use crate::http::encoded;
use crate::referrers::sorted;

/// The media type of CycloneDX in JSON, which scanners look for among referrers.
pub const CYCLONEDX: &str = "application/vnd.cyclonedx+json";
/// The media type of SPDX in JSON.
pub const SPDX: &str = "application/spdx+json";

const TOOL: &str = concat!("tare-", env!("CARGO_PKG_VERSION"));

/// `pkg:cargo/NAME@VERSION` (purl-spec, `cargo`).
fn purl(one: &Crate) -> String {
    format!("pkg:cargo/{}@{}", one.name, encoded(&one.version))
}

/// What a crate is called in the document: its purl, and its source where two crates have the same.
fn identifiers(crates: &[Crate]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let name = |one: &Crate| {
        let purl = purl(one);
        if seen.insert(purl.clone()) { purl } else { format!("{purl}#{}", one.source) }
    };
    crates.iter().map(name).collect()
}

/// The older way of writing alternatives (`MIT/Apache-2.0`) is no SPDX expression.
fn expression(licence: &str) -> String {
    licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ")
}

/// An identifier that the same digest always has (RFC 9562, version 8: bits of one's own choice).
fn uuid(digest: &str, purpose: &str) -> String {
    let hash = sha256(format!("{purpose} {digest}").as_bytes());
    let hex = hash.digest();
    format!("{}-{}-8{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

/// The image as a package of the ecosystem of images (purl-spec, `oci`).
fn image_purl(name: &str, image: &ImageFacts) -> String {
    let architecture = image.platform.split('/').nth(1).unwrap_or_default();
    format!("pkg:oci/{}@{}?arch={architecture}", encoded(&name.to_lowercase()), encoded(&image.digest))
}

/// The contents of one image as CycloneDX 1.6.
#[must_use]
pub fn cyclonedx(name: &str, image: &ImageFacts) -> Vec<u8> {
    let identifiers = identifiers(&image.crates);
    let mut components = Vec::new();
    for (one, identifier) in image.crates.iter().zip(&identifiers) {
        let mut component = json!({
            "type": if one.is_root { "application" } else { "library" },
            "bom-ref": identifier,
            "name": one.name,
            "version": one.version,
            "purl": purl(one),
            // What only build scripts and macros used is not in the image.
            "scope": if one.is_build { "excluded" } else { "required" },
        });
        if let Some(licence) = &one.licence {
            component["licenses"] = json!([{"expression": expression(licence)}]);
        }
        if let Some(checksum) = &one.checksum {
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        }
        components.push(component);
    }
    for (at, layer) in image.layers.iter().enumerate() {
        for (position, file) in layer.files.iter().enumerate() {
            components.push(json!({
                "type": "file",
                "bom-ref": format!("layer-{at}-file-{position}"),
                "name": format!("/{}", file.path),
                "hashes": [{"alg": "SHA-256", "content": file.sha256}],
                "properties": [{"name": "tare:layer", "value": layer.digest}],
            }));
        }
    }
    let roots: Vec<&String> =
        image.crates.iter().zip(&identifiers).filter(|(one, _)| one.is_root).map(|(_, id)| id).collect();
    let mut dependencies = vec![json!({"ref": "image", "dependsOn": roots})];
    for (one, identifier) in image.crates.iter().zip(&identifiers) {
        let uses: Vec<&String> = one.dependencies.iter().filter_map(|at| identifiers.get(*at)).collect();
        dependencies.push(json!({"ref": identifier, "dependsOn": uses}));
    }
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{}", uuid(&image.digest, "cyclonedx")),
        "version": 1,
        "metadata": {
            "tools": {"components": [
                {"type": "application", "name": "tare", "version": env!("CARGO_PKG_VERSION")}
            ]},
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": name,
                "version": image.digest,
                "purl": image_purl(name, image),
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    sorted(document).to_string().into_bytes()
}

/// The SHA-1 of all files' SHA-1 digests, sorted (SPDX 2.3, 7.9.3).
fn verification_code(image: &ImageFacts) -> String {
    let files = image.layers.iter().flat_map(|layer| &layer.files);
    let mut digests: Vec<&str> = files.map(|file| file.sha1.as_str()).collect();
    digests.sort_unstable();
    let all = digests.concat();
    hex(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, all.as_bytes()).as_ref())
}

/// The contents of one image as SPDX 2.3.
#[must_use]
pub fn spdx(name: &str, image: &ImageFacts) -> Vec<u8> {
    let relation = |from: &str, kind: &str, to: &str| json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to});
    let package = |id: &str, name: &str, version: &str, purpose: &str, purl: String| {
        json!({
            "SPDXID": id,
            "name": name,
            "versionInfo": version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION",
            "copyrightText": "NOASSERTION",
            "primaryPackagePurpose": purpose,
            "externalRefs": [
                {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
            ],
        })
    };
    let image_id = "SPDXRef-image";
    let mut packages = vec![package(image_id, name, &image.digest, "CONTAINER", image_purl(name, image))];
    packages[0]["checksums"] =
        json!([{"algorithm": "SHA256", "checksumValue": image.digest.replace("sha256:", "")}]);
    // Only a package whose files were analysed may contain files (SPDX 2.3, 7.8).
    packages[0]["filesAnalyzed"] = json!(true);
    packages[0]["packageVerificationCode"] =
        json!({"packageVerificationCodeValue": verification_code(image)});
    let mut relationships = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", image_id)];
    let id = |at: usize| format!("SPDXRef-crate-{at}");
    for (at, one) in image.crates.iter().enumerate() {
        let purpose = if one.is_root { "APPLICATION" } else { "LIBRARY" };
        let mut entry = package(&id(at), &one.name, &one.version, purpose, purl(one));
        if let Some(licence) = &one.licence {
            entry["licenseDeclared"] = json!(expression(licence));
        }
        if let Some(checksum) = &one.checksum {
            entry["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": checksum}]);
        }
        packages.push(entry);
        if one.is_root {
            relationships.push(relation(image_id, "CONTAINS", &id(at)));
        }
        for used in &one.dependencies {
            let is_build = image.crates.get(*used).is_some_and(|used| used.is_build);
            relationships.push(if is_build {
                relation(&id(*used), "BUILD_DEPENDENCY_OF", &id(at))
            } else {
                relation(&id(at), "DEPENDS_ON", &id(*used))
            });
        }
    }
    // A file that stands in several layers is that of the highest.
    let mut files = BTreeMap::new();
    for file in image.layers.iter().flat_map(|layer| &layer.files) {
        files.insert(&file.path, file);
    }
    let files: Vec<Value> = files
        .into_values()
        .enumerate()
        .map(|(at, file)| {
            let id = format!("SPDXRef-file-{at}");
            relationships.push(relation(image_id, "CONTAINS", &id));
            json!({
                "SPDXID": id,
                "fileName": format!("./{}", file.path),
                "checksums": [
                    {"algorithm": "SHA1", "checksumValue": file.sha1},
                    {"algorithm": "SHA256", "checksumValue": file.sha256},
                ],
                "licenseConcluded": "NOASSERTION",
                "copyrightText": "NOASSERTION",
            })
        })
        .collect();
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/{}-{}", encoded(name), uuid(&image.digest, "spdx")),
        "creationInfo": {"created": created(image), "creators": [format!("Tool: {TOOL}")]},
        "packages": packages,
        "files": files,
        "relationships": relationships,
    });
    sorted(document).to_string().into_bytes()
}

/// SPDX wants whole seconds in UTC (2.3, 6.9); another form is not guessed at.
fn created(image: &ImageFacts) -> &str {
    let is_plain = |text: &&str| {
        let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
        text.chars().map(digits).eq("0000-00-00T00:00:00Z".chars())
    };
    image.created.as_deref().filter(is_plain).unwrap_or("1970-01-01T00:00:00Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{FileFacts, LayerFacts};

    fn image() -> ImageFacts {
        let one = |name: &str, source: &str, is_build, dependencies: &[usize]| Crate {
            name: name.to_owned(),
            version: "1.0.0+x".to_owned(),
            source: source.to_owned(),
            is_build,
            is_root: name == "app",
            dependencies: dependencies.to_vec(),
            checksum: (source == "crates.io").then(|| "ab".repeat(32)),
            licence: Some("MIT/Apache-2.0".to_owned()),
        };
        let file = FileFacts { path: "app/app".to_owned(), sha256: "cd".repeat(32), sha1: "ef".repeat(20) };
        ImageFacts {
            digest: format!("sha256:{}", "01".repeat(32)),
            platform: "linux/arm64".to_owned(),
            created: Some("2026-01-02T03:04:05Z".to_owned()),
            layers: vec![LayerFacts { digest: format!("sha256:{}", "02".repeat(32)), files: vec![file] }],
            crates: vec![
                one("app", "local", false, &[1, 2, 3]),
                one("serde", "crates.io", false, &[]),
                one("serde", "git", false, &[]),
                one("cc", "crates.io", true, &[]),
            ],
        }
    }

    #[test]
    fn cyclonedx_has_crates_files_and_edges() {
        let document: Value = serde_json::from_slice(&cyclonedx("app", &image())).unwrap();
        assert_eq!(document["serialNumber"], "urn:uuid:06e13c17-2c06-8ab6-a883-2ba28f01bb87");
        let references = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|one| one["bom-ref"].as_str().unwrap().to_owned()).collect()
        };
        let serde = "pkg:cargo/serde@1.0.0%2Bx";
        let expected = [
            "pkg:cargo/app@1.0.0%2Bx",
            serde,
            "pkg:cargo/serde@1.0.0%2Bx#git",
            "pkg:cargo/cc@1.0.0%2Bx",
            "layer-0-file-0",
        ];
        assert_eq!(references(&document["components"]), expected);
        assert_eq!(document["components"][3]["scope"], "excluded");
        assert_eq!(document["components"][1]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(document["dependencies"][0], json!({"ref": "image", "dependsOn": [expected[0]]}));
        assert_eq!(document["dependencies"][1]["dependsOn"], json!(expected[1..4]));
    }

    #[test]
    fn spdx_has_packages_files_and_relationships() {
        let document: Value = serde_json::from_slice(&spdx("app", &image())).unwrap();
        assert_eq!(document["creationInfo"]["created"], "2026-01-02T03:04:05Z");
        let relations: Vec<String> = document["relationships"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                let word = |key: &str| one[key].as_str().unwrap().replace("SPDXRef-", "");
                [word("spdxElementId"), word("relationshipType"), word("relatedSpdxElement")].join(" ")
            })
            .collect();
        let expected = [
            "DOCUMENT DESCRIBES image",
            "image CONTAINS crate-0",
            "crate-0 DEPENDS_ON crate-1",
            "crate-0 DEPENDS_ON crate-2",
            "crate-3 BUILD_DEPENDENCY_OF crate-0",
            "image CONTAINS file-0",
        ];
        assert_eq!(relations, expected);
        assert_eq!(document["files"][0]["fileName"], "./app/app");
        let code = &document["packages"][0]["packageVerificationCode"]["packageVerificationCodeValue"];
        let of_one = ring::digest::digest(
            &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
            image().layers[0].files[0].sha1.as_bytes(),
        );
        assert_eq!(*code, hex(of_one.as_ref()));
        let odd = ImageFacts { created: Some("2026-01-02T03:04:05.6+01:00".to_owned()), ..image() };
        assert_eq!(created(&odd), "1970-01-01T00:00:00Z");
    }
}
