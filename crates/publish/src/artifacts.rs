//! The folder with everything that belongs to a published image: for later jobs, for releases, and for restoring what a
//! registry has lost.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use serde::Deserialize;
use serde_json::{Value, json};
use tare_oci::digest::Digest;

use crate::content::{Content, Document, blob_path};
use crate::documents;
use crate::error::Error;
use crate::proof::Proof;
use crate::referrers::Artifact;

/// What describes the others.
pub const PUBLISH_JSON: &str = "publish.json";

/// Writes into a folder: the artifacts, the image as a layout, `publish.json`, `publish.env` for GitLab's dotenv reports,
/// copies of further files, and `SHA256SUMS` of all of them.
///
/// # Errors
/// When something cannot be read or written.
pub fn write(
    folder: &Path,
    content: &Content<'_>,
    proofs: &[Proof],
    publish: &Value,
    copies: &[(String, PathBuf)],
) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(on("create", folder))?;
    let mut names = write_layout(content, folder)?;
    for (name, from) in copies {
        copy(from, &folder.join(name))?;
        names.push(name.clone());
    }
    let mut files = BTreeMap::from([
        (PUBLISH_JSON, format!("{publish:#}\n").into_bytes()),
        ("publish.env", dotenv(publish).into_bytes()),
    ]);
    for artifact in proofs.iter().flat_map(|proof| &proof.artifacts) {
        files.insert(&artifact.file_name, artifact.payload().to_vec());
    }
    for (name, bytes) in files {
        put(&folder.join(name), &bytes)?;
        names.push(name.to_owned());
    }
    names.sort();
    let mut sums = String::new();
    for name in names {
        let path = folder.join(&name);
        let file = tare_oci::input::open(&path).map_err(on("read", &path))?;
        let (digest, _) = Digest::of_reader(file).map_err(on("read", &path))?;
        sums.push_str(&format!("{}  {name}\n", digest.hex()));
    }
    put(&folder.join("SHA256SUMS"), sums.as_bytes())
}

/// `IMAGE`, `IMAGE_DIGEST` and `IMAGE_TAGS`, in lines without quotes (GitLab, `artifacts:reports:dotenv`).
fn dotenv(publish: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let first = &publish["repositories"][0];
    let tags = first["tags"].as_array().into_iter().flatten().map(|tag| text(&tag["tag"]));
    let tags = tags.collect::<Vec<_>>().join(" ");
    let (image, digest) = (text(&first["repository"]), text(&publish["digest"]));
    format!("IMAGE={image}\nIMAGE_DIGEST={digest}\nIMAGE_TAGS={tags}\n")
}

/// Writes `layout/`, and returns the names of its files.
fn write_layout(content: &Content<'_>, folder: &Path) -> Result<Vec<String>, Error> {
    let (staging, place) = (folder.join("layout.partial"), folder.join("layout"));
    remove(&staging)?;
    let blobs = staging.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(on("create", &blobs))?;
    let mut names = Vec::new();
    for blob in content.blobs() {
        let path = staging.join(blob_path(blob.digest()));
        let mut stream = content.read_from(blob.digest(), 0)?.take(blob.size());
        let written = File::create(&path).and_then(|mut file| io::copy(&mut stream, &mut file));
        written.map_err(on("write", &path))?;
        names.push(blob_path(blob.digest()));
    }
    for Document { descriptor, bytes } in content.documents() {
        let path = staging.join(blob_path(descriptor.digest()));
        fs::write(&path, bytes).map_err(on("write", &path))?;
        names.push(blob_path(descriptor.digest()));
    }
    let index = json!({
        "schemaVersion": 2, "mediaType": documents::INDEX, "manifests": [content.root().descriptor],
    });
    for (name, bytes) in
        [("oci-layout", tare_oci::layout::OCI_LAYOUT), ("index.json", index.to_string().as_bytes())]
    {
        let path = staging.join(name);
        fs::write(&path, bytes).map_err(on("write", &path))?;
        names.push(name.to_owned());
    }
    remove(&place)?;
    fs::rename(&staging, &place).map_err(on("write", &place))?;
    Ok(names.into_iter().map(|name| format!("layout/{name}")).collect())
}

/// Removes a layout that was written here before; anything else that has its name stays and is an error.
fn remove(layout: &Path) -> Result<(), Error> {
    let is_layout = layout.join("blobs").is_dir();
    match fs::symlink_metadata(layout) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(data) if data.is_dir() && is_layout => fs::remove_dir_all(layout).map_err(on("remove", layout)),
        Ok(_) => Err(Error::Input(format!("{} is no OCI layout", layout.display()))),
        Err(error) => Err(on("read", layout)(error)),
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let mut name = to.as_os_str().to_owned();
    name.push(".partial");
    let partial = PathBuf::from(name);
    let mut source = tare_oci::input::open(from).map_err(on("read", from))?;
    let copied = File::create(&partial).and_then(|mut file| io::copy(&mut source, &mut file));
    copied.map_err(on("write", &partial))?;
    fs::rename(&partial, to).map_err(on("write", to))
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    tare_tool::private::replace_file(path, bytes).map_err(on("write", path))
}

fn on(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_path_buf();
    move |source| Error::File { operation, path, source }
}

/// What of publish.json names the artifacts.
#[derive(Deserialize)]
struct Published {
    digest: String,
    artifacts: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    artifact_type: String,
    digest: String,
    subject: String,
    file: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The image that the `publish.json` of a folder is about.
///
/// # Errors
/// When it cannot be read.
pub fn digest(folder: &Path) -> Result<String, Error> {
    Ok(read_json(folder)?.digest)
}

/// The subjects of the artifacts that the `publish.json` of a folder names.
///
/// # Errors
/// When it cannot be read.
pub fn subjects(folder: &Path) -> Result<Vec<String>, Error> {
    let mut subjects: Vec<String> =
        read_json(folder)?.artifacts.into_iter().map(|entry| entry.subject).collect();
    subjects.sort();
    subjects.dedup();
    Ok(subjects)
}

/// The artifacts of one image, byte for byte as they were published.
///
/// # Errors
/// When a file is missing, or is not what was published.
pub fn read(folder: &Path, subject: &Descriptor) -> Result<Vec<Artifact>, Error> {
    let mut artifacts = Vec::new();
    for Entry { artifact_type, digest, subject: of, file, annotations } in read_json(folder)?.artifacts {
        if of != subject.digest().as_ref() {
            continue;
        }
        let path = folder.join(&file);
        if file.contains(['/', '\\']) || file.starts_with('.') {
            return Err(Error::Input(format!("{} names {file}", folder.join(PUBLISH_JSON).display())));
        }
        let payload = tare_oci::input::read(&path).map_err(on("read", &path))?;
        let artifact = Artifact::new(subject, &artifact_type, &file, payload, annotations);
        if artifact.manifest.descriptor.digest().as_ref() != digest {
            return Err(Error::Input(format!("{} is not what was published as {digest}", path.display())));
        }
        artifacts.push(artifact);
    }
    Ok(artifacts)
}

fn read_json(folder: &Path) -> Result<Published, Error> {
    let path = folder.join(PUBLISH_JSON);
    let bytes = tare_oci::input::read(&path).map_err(on("read", &path))?;
    let wrong = |error| Error::Input(format!("{} cannot be understood: {error}", path.display()));
    tare_oci::input::from_json(&bytes).map_err(wrong)
}
