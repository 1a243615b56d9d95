//! Images that the passes need beside the one that is measured.

use std::error::Error;
use std::path::{Path, PathBuf};

use tare_container::cleanup::Transient;
use tare_oci::blob::{BlobSource, Staging};
use tare_oci::compress::{Compression, Pool};
use tare_oci::entry::Entry;
use tare_oci::image::{Base, Image, Index, Parts};
use tare_oci::layer::{self, LayerPlan, Packed};
use tare_oci::layout;
use tare_oci::platform::Platform;
use tare_oci::spec::{Config, Map};
use tare_oci::units::Epoch;

/// Why an image cannot be written.
pub type WriteError = Box<dyn Error + Send + Sync>;

/// Writes an image of one uncompressed layer below `dir` as an OCI layout, and says where it is. An older one of that name
/// is replaced.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write(
    dir: &Path,
    name: &str,
    platform: Platform,
    entries: Vec<Entry>,
    execution: Config,
) -> Result<PathBuf, WriteError> {
    let place = dir.join(format!("{name}-{}", platform.architecture()));
    // Others may be doing the same.
    let folder = Transient::new(dir.join(format!(".{name}-{}", std::process::id())));
    let staging = Staging::create(folder.path().to_path_buf())?;
    let plan = LayerPlan { name: name.to_owned(), entries };
    let Packed { layer, out, .. } = layer::write(&plan, Compression::None, &Pool::start(1), Vec::new())?;
    let parts = Parts {
        platform,
        base: Base::default(),
        execution,
        healthcheck: None,
        author: None,
        created: Epoch::ZERO,
        annotations: Map::new(),
        layers: vec![(layer, BlobSource::Bytes(out.into()))],
    };
    let index = Index::new(vec![Image::new(parts)?], Map::new())?;
    layout::write(&index, &layout::index_json(&index, &[])?, &place, &staging)?;
    Ok(place)
}
