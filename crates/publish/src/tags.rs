//! Which tags an image is given.
//!
//! | run | tags |
//! |---|---|
//! | git tag `vX.Y.Z`, `NAME-vX.Y.Z` or `NAME/vX.Y.Z` | `X.Y.Z`, which never moves; `X.Y`, `X` (not at 0.x) and `latest` where this is the highest release of them |
//! | git tag of a pre-release | its version alone |
//! | default branch | the branch, `sha-` and 12 digits of the commit |
//! | another branch | the branch |
//! | schedule | `nightly` |
//! | pull or merge request | none |

use semver::Version;

use crate::ci::{Ci, Trigger};
use crate::error::Error;
use crate::reference::is_tag;

/// A tag to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The tag.
    pub name: String,
    /// Whether it never moves from the image that it stands at.
    pub is_fixed: bool,
}

impl Tag {
    /// A tag that was asked for. That of a whole version never moves.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), is_fixed: version_of_tag(name).is_some() }
    }
}

/// What the tags of an image follow from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// These.
    Tags(Vec<Tag>),
    /// A release: which tags move depends on the releases that the registry has.
    Release(Version),
    /// Nothing is published, and why.
    Nothing(&'static str),
}

/// The naming that a run of CI asks for. `version` is that of Cargo.toml, which a release must have.
///
/// # Errors
/// When a git tag names no version, another image's, or another version than Cargo.toml.
pub fn of_ci(ci: &Ci, image: &str, version: Option<&str>) -> Result<Naming, Error> {
    let moving = |name: String| Tag { name, is_fixed: false };
    Ok(match &ci.trigger {
        Trigger::Request => Naming::Nothing("a pull request publishes nothing"),
        Trigger::Schedule => Naming::Tags(vec![moving("nightly".to_owned())]),
        Trigger::Branch { name, is_default } => {
            let mut tags = vec![moving(slug(name))];
            if *is_default {
                let digits: String = ci.commit.chars().take(12).collect();
                tags.push(moving(format!("sha-{digits}")));
            }
            Naming::Tags(tags)
        }
        Trigger::Tag(tag) => {
            let text = tag.strip_prefix(image).and_then(|rest| rest.strip_prefix(['-', '/'])).unwrap_or(tag);
            let text = text.strip_prefix('v').unwrap_or(text);
            let release = Version::parse(text).map_err(|_| {
                let what = format!(
                    "the git tag `{tag}` names no version of {image}, such as v1.2.3 or {image}-v1.2.3"
                );
                Error::Input(format!("{what}: name the tags with --tag"))
            })?;
            if let Some(version) = version
                && version != text
            {
                return Err(Error::Input(format!(
                    "the git tag is `{tag}`, but Cargo.toml has version {version}"
                )));
            }
            Naming::Release(release)
        }
    })
}

/// The tags of a release, with those that move where no higher release among the registry's tags has them.
#[must_use]
pub fn of_release(version: &Version, existing: &[String]) -> Vec<Tag> {
    // `+` is no character of tags.
    let full = version.to_string().replace('+', "-");
    let mut tags = vec![Tag { name: full, is_fixed: true }];
    if !version.pre.is_empty() {
        return tags;
    }
    let Version { major, minor, .. } = *version;
    let releases: Vec<Version> =
        existing.iter().filter_map(|tag| version_of_tag(tag)).filter(|other| other.pre.is_empty()).collect();
    let highest = |among: &dyn Fn(&Version) -> bool| {
        releases.iter().filter(|other| among(other)).all(|other| other.cmp_precedence(version).is_le())
    };
    let mut add = |name: String| tags.push(Tag { name, is_fixed: false });
    if highest(&|other| (other.major, other.minor) == (major, minor)) {
        add(format!("{major}.{minor}"));
    }
    if major > 0 && highest(&|other| other.major == major) {
        add(major.to_string());
    }
    if highest(&|_| true) {
        add("latest".to_owned());
    }
    tags
}

/// The version that a tag stands for, if it is a whole one.
fn version_of_tag(tag: &str) -> Option<Version> {
    Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

/// A branch as a tag: lower case, everything else than letters and digits one `-`.
fn slug(branch: &str) -> String {
    let lower = branch.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug: String = words.collect::<Vec<_>>().join("-").chars().take(63).collect();
    let slug = slug.trim_end_matches('-').to_owned();
    if is_tag(&slug) { slug } else { "branch".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ci(trigger: Trigger) -> Ci {
        let commit = "0123456789abcdef".to_owned();
        Ci { trigger, commit, repository: None, source: None, builder: String::new(), run: None }
    }

    fn names(tags: &[Tag]) -> Vec<&str> {
        tags.iter().map(|tag| tag.name.as_str()).collect()
    }

    #[test]
    fn tags_of_a_release_move_only_forward() {
        for (version, existing, expected) in [
            ("1.2.3", &[][..], &["1.2.3", "1.2", "1", "latest"][..]),
            ("1.2.3", &["1.2.2", "1.2", "1", "latest", "main"], &["1.2.3", "1.2", "1", "latest"]),
            ("1.2.3", &["1.2.3"], &["1.2.3", "1.2", "1", "latest"]),
            ("1.2.3", &["1.2.4"], &["1.2.3"]),
            ("1.2.3", &["1.3.0"], &["1.2.3", "1.2"]),
            ("1.4.9", &["2.0.0"], &["1.4.9", "1.4", "1"]),
            ("1.4.9", &["2.0.0-rc.1"], &["1.4.9", "1.4", "1", "latest"]),
            ("1.9.0", &["1.10.0"], &["1.9.0", "1.9"]),
            ("0.3.0", &["0.2.0"], &["0.3.0", "0.3", "latest"]),
            ("2.0.0-rc.1", &[], &["2.0.0-rc.1"]),
            ("1.0.0+build.5", &[], &["1.0.0-build.5", "1.0", "1", "latest"]),
        ] {
            let existing: Vec<String> = existing.iter().map(|tag| (*tag).to_owned()).collect();
            let tags = of_release(&Version::parse(version).unwrap(), &existing);
            assert_eq!(names(&tags), expected, "{version} with {existing:?}");
            assert_eq!(tags.iter().filter(|tag| tag.is_fixed).count(), 1);
        }
    }

    #[test]
    fn a_run_says_which_tags_there_are() {
        let branch = |name: &str, is_default| Trigger::Branch { name: name.to_owned(), is_default };
        for (trigger, expected) in [
            (branch("main", true), &["main", "sha-0123456789ab"][..]),
            (branch("Feature/#12 größer", false), &["feature-12-gr-er"]),
            (branch("ø", false), &["branch"]),
            (Trigger::Schedule, &["nightly"]),
        ] {
            let Naming::Tags(tags) = of_ci(&ci(trigger), "app", None).unwrap() else { panic!("no tags") };
            assert_eq!(names(&tags), expected);
        }
        assert!(matches!(of_ci(&ci(Trigger::Request), "app", None), Ok(Naming::Nothing(_))));
    }

    #[test]
    fn a_release_has_the_version_of_cargo_toml() {
        for (tag, version, expected) in [
            ("v1.2.3", Some("1.2.3"), Ok("1.2.3")),
            ("1.2.3", None, Ok("1.2.3")),
            ("app-v1.2.3", Some("1.2.3"), Ok("1.2.3")),
            ("app/v1.2.3-rc.1", None, Ok("1.2.3-rc.1")),
            ("v1.2.4", Some("1.2.3"), Err("the git tag is `v1.2.4`, but Cargo.toml has version 1.2.3")),
            (
                "other-v1.2.3",
                None,
                Err(
                    "the git tag `other-v1.2.3` names no version of app, such as v1.2.3 or app-v1.2.3: name the tags with --tag",
                ),
            ),
        ] {
            let naming = of_ci(&ci(Trigger::Tag(tag.to_owned())), "app", version);
            let naming = naming.map_err(|error| error.to_string());
            let expected = expected.map(|version| Naming::Release(Version::parse(version).unwrap()));
            assert_eq!(naming, expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn a_named_tag_is_fixed_where_it_is_a_whole_version() {
        for (name, fixed) in [("1.2.3", true), ("v1.2.3-rc.1", true), ("1.2", false), ("latest", false)] {
            assert_eq!(Tag::named(name).is_fixed, fixed, "{name}");
        }
    }
}
