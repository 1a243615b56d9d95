//! `publish --check-referrers`: whether everything that was attached to an image is still listed, and putting back what
//! is not.

use std::path::Path;

use anyhow::bail;
use tare_tool::exit::Outcome;

use super::Session;
use crate::artifacts;
use crate::reference::parse;
use crate::referrers::{Listed, missing, restore_referrers};
use crate::registry::Access;

pub(super) fn check(
    reference: &str,
    folder: &Path,
    dry_run: bool,
    session: &Session,
) -> anyhow::Result<Outcome> {
    let reference = parse(reference)?;
    let access = if dry_run { Access::Pull } else { Access::Push };
    let repository = session.open(&reference, access, None)?;
    let wanted = reference.digest().or(reference.tag()).unwrap_or("latest");
    let Some(image) = repository.head_manifest(wanted)? else {
        bail!("{} has no image {wanted}", repository.name())
    };
    let published = artifacts::digest(folder)?;
    if published != image.as_ref() {
        bail!(
            "{} is about {published}, and {}:{wanted} is {image}",
            folder.join(artifacts::PUBLISH_JSON).display(),
            repository.name()
        );
    }
    let (mut total, mut lacking) = (0, 0);
    for subject in artifacts::subjects(folder)? {
        let Some(manifest) = repository.manifest(&subject)? else {
            bail!("{} has no image {subject}", repository.name())
        };
        let all = artifacts::read(folder, &manifest.descriptor)?;
        let lost = missing(&repository, manifest.descriptor.digest(), &all)?;
        total += all.len();
        lacking += lost.len();
        for artifact in &lost {
            session.ui.status("Missing", &format!("{} of {subject}", artifact.file_name));
        }
        if !lost.is_empty() && !dry_run {
            let place = match restore_referrers(&repository, manifest.descriptor.digest(), &all)? {
                Listed::Api => "the referrers API",
                Listed::FallbackTag => "the fallback tag",
            };
            session.ui.status("Restored", &format!("{} referrers in {place}", lost.len()));
        }
    }
    session
        .ui
        .result(&format!("{} of {total} referrers are listed", total - if dry_run { lacking } else { 0 }))?;
    Ok(if dry_run && lacking > 0 { Outcome::GateFailed } else { Outcome::Done })
}
