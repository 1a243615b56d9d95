//! Images that are kept beside a baseline, to be measured again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tare_container::target::Target;
use tare_oci::blob::Staging;
use tare_oci::reader::ReadError;

/// Why an image is not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The copy cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Copies an image to `place`, where [`Image::open`](super::request::Image::open) opens it: as an OCI layout of its own,
/// or the docker archive that it is in. What was there is replaced.
///
/// # Errors
/// When it cannot be read or written.
pub fn keep(target: &Target, place: &Path) -> Result<(), KeepError> {
    let on = |path: &Path| {
        let path = path.to_path_buf();
        move |source| KeepError::Write { path, source }
    };
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let staging = place.with_file_name(format!(".{name}.staging"));
    // Emptied, and for this user alone.
    Staging::create(staging.clone()).map_err(|error| on(&error.path)(error.source))?;
    let new = staging.join("image");
    match &target.image.manifest {
        None => {
            fs::copy(target.source.path(), &new).map_err(on(&new))?;
        }
        Some((manifest, document)) => {
            fs::create_dir_all(new.join("blobs/sha256")).map_err(on(&new))?;
            let file = tare_oci::blob::blob_path(&manifest.digest);
            let layers = target.image.layers.iter().map(|layer| &layer.file);
            for file in [&file, &target.image.config_file].into_iter().chain(layers) {
                let to = new.join(file);
                let mut out = fs::File::create(&to).map_err(on(&to))?;
                io::copy(&mut target.source.stream(file)?, &mut out).map_err(on(&to))?;
            }
            let media_type = document
                .media_type()
                .as_ref()
                .map_or_else(|| "application/vnd.oci.image.manifest.v1+json".to_owned(), ToString::to_string);
            let index = serde_json::json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [
                    { "mediaType": media_type, "digest": manifest.digest.to_string(), "size": manifest.size }
                ],
            });
            for (name, text) in [
                ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#.to_owned()),
                ("index.json", index.to_string()),
            ] {
                fs::write(new.join(name), text).map_err(on(&new.join(name)))?;
            }
        }
    }
    let removed = if place.is_dir() { fs::remove_dir_all(place) } else { fs::remove_file(place) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(on(place)(error)),
        _ => {}
    }
    fs::rename(&new, place).map_err(on(place))?;
    fs::remove_dir_all(&staging).map_err(on(&staging))
}
