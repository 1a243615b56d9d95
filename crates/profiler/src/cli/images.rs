//! The images that a command is about: the workspace's, which xtask has built, and others by their place.

use std::path::Path;

use tare_container::target::{Location, Target};
use tare_tool::plan::{BASELINE, Plan, PlannedImage, WantedImages, is_reference};

use super::Outcome;
use super::arguments::ContainerArguments;
use super::stage::{self, Session};
use super::sudo;
use crate::profile::request::{Image, folder_name};

/// An image to measure.
pub(super) struct Subject {
    pub(super) image: Image,
    /// What finds it again.
    planned: PlannedImage,
}

/// An image of the workspace that is not in the plan.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be had without the xtask of a workspace")]
pub(super) struct NotBuilt {
    what: String,
}

impl NotBuilt {
    pub(super) fn new(what: String) -> Self {
        Self { what }
    }

    /// What to do about it.
    pub(super) fn hint(&self) -> String {
        format!(
            "call it as `{} profile`, or name a path: an OCI layout or an archive",
            tare_tool::environment::command()
        )
    }
}

/// The workspace's images among those that are named, and those in registries. The others must be there already.
pub(super) fn wanted(names: &[String]) -> anyhow::Result<(WantedImages, Vec<String>)> {
    let (own, others): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| is_own(name));
    let (pulled, others): (Vec<&String>, Vec<&String>) =
        others.into_iter().partition(|name| is_reference(name));
    for name in others {
        // What lies in a store is looked for when it is fetched.
        if let Location::Path { .. } = name.parse()? {
            Target::resolve(name, None, Path::new(""))?;
        }
    }
    let own = match own.as_slice() {
        [] => WantedImages::None,
        own => WantedImages::Named(own.iter().copied().cloned().collect()),
    };
    Ok((own, pulled.into_iter().cloned().collect()))
}

/// The images that are meant: as they were built where they are the workspace's own, and all of the plan's in root's
/// process.
pub(super) fn subjects(names: &[String], session: &Session) -> anyhow::Result<Vec<Subject>> {
    let temporary = stage::temporary(&session.cache())?;
    let planned: Vec<&PlannedImage> =
        session.plan.images.iter().filter(|image| !image.name.starts_with(BASELINE)).collect();
    if session.user().is_some() || names.is_empty() {
        if planned.is_empty() {
            return Err(NotBuilt { what: "the workspace's images".to_owned() }.into());
        }
        return planned.into_iter().map(|image| Subject::of(image.clone(), &temporary)).collect();
    }
    let subject = |name: &String| {
        if is_reference(name) {
            let Some(image) = planned.iter().find(|image| image.name == *name) else {
                return Err(NotBuilt { what: format!("image {name}") }.into());
            };
            return Subject::of(PlannedImage { name: folder_name(name), ..(*image).clone() }, &temporary);
        }
        if !is_own(name) {
            let image = PlannedImage { name: folder_name(name), location: name.clone(), platforms: vec![] };
            return Subject::of(image, &temporary);
        }
        match planned.iter().find(|image| image.name == *name) {
            Some(image) => Subject::of((*image).clone(), &temporary),
            None => Err(NotBuilt { what: format!("image {name}") }.into()),
        }
    };
    names.iter().map(subject).collect()
}

/// Which of the named images there are: the workspace's own may not have been built.
pub(super) fn built(names: &[String], session: &Session) -> (Vec<String>, Vec<String>) {
    let is_there = |name: &&String| !is_own(name) || session.plan.images.iter().any(|it| it.name == **name);
    let (there, gone): (Vec<&String>, Vec<&String>) = names.iter().partition(is_there);
    (there.into_iter().cloned().collect(), gone.into_iter().cloned().collect())
}

/// Those of a profile's images that could be built, and the names of the others.
pub(super) fn subjects_of_profile(
    names: &[String],
    session: &Session,
) -> anyhow::Result<(Vec<Subject>, Vec<String>)> {
    let temporary = stage::temporary(&session.cache())?;
    let planned = |name: &String| session.plan.images.iter().find(|image| image.name == *name);
    let subjects: Vec<Subject> = names
        .iter()
        .filter_map(planned)
        .map(|image| Subject::of(image.clone(), &temporary))
        .collect::<anyhow::Result<_>>()?;
    if subjects.is_empty() {
        return Err(NotBuilt { what: "the profile's images".to_owned() }.into());
    }
    Ok((subjects, names.iter().filter(|name| planned(name).is_none()).cloned().collect()))
}

impl Subject {
    fn of(mut planned: PlannedImage, temporary: &Path) -> anyhow::Result<Self> {
        let mut image = Image::open(&planned.location, temporary)?;
        // It is fetched once, by the process that was asked for it.
        if let Some(file) = image.target.fetched() {
            planned.location = file.to_string_lossy().into_owned();
        }
        let here = format!("linux/{}", image.target.config.image.architecture());
        let built = planned.platforms.iter().find(|it| it.platform == here);
        image.unstripped = built.and_then(|it| it.unstripped_binary.clone());
        image.name.clone_from(&planned.name);
        Ok(Self { image, planned })
    }
}

/// Has root's process do the rest.
pub(super) fn hand_over(
    common: &ContainerArguments,
    subjects: &[Subject],
    session: &Session,
) -> anyhow::Result<Outcome> {
    let plan = Plan {
        workspace: session.plan.workspace.clone(),
        keeper: session.keeper(common.runtime.unwrap_or_default()),
        images: subjects
            .iter()
            .map(|subject| &subject.planned)
            .chain(session.plan.images.iter().filter(|image| image.name.starts_with(BASELINE)))
            .cloned()
            .collect(),
        user: Some(sudo::this_user()?),
    };
    sudo::measure(&plan, session)
}

/// Whether a name is one of the workspace's images: it names no transport, and is neither a path nor an
/// archive here. (A folder here by that name is often the image's package.)
fn is_own(name: &str) -> bool {
    !name.contains([':', '/', '\\']) && !name.starts_with('.') && !Path::new(name).is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_workspace_are_no_paths_and_no_references() {
        for (name, own) in [("app", true), ("a/b", false), ("docker-daemon:a", false), (".", false)] {
            assert_eq!(is_own(name), own, "{name}");
        }
    }
}
