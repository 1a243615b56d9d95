//! One image to several places: checks first, then content, then what refers to it, then tags.

use std::sync::{Mutex, PoisonError};

use oci_spec::distribution::Reference;
use oci_spec::image::{Descriptor, Digest};
use serde_json::{Value, json};

use crate::content::{Content, platform_name};
use crate::error::Error;
use crate::proof::Proof;
use crate::push::{MovedTag, Progress, Pushed, missing, push_content, tag};
use crate::referrers::{Listed, push_referrers};
use crate::registry::Repository;
use crate::tags::{Naming, Tag, of_release};

/// What holds for every destination.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// A repository of the same registry, from which blobs may be taken.
    pub mount_from: Option<&'a str>,
    /// Whether tags of versions may move.
    pub move_tags: bool,
    /// Whether nothing is to be written.
    pub dry_run: bool,
    /// Locked while tags are moved.
    pub tagging: Option<&'a Mutex<()>>,
}

/// What became of one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// `ghcr.io/team/app`
    pub repository: String,
    /// What was sent, or in a dry run what would be.
    pub pushed: Pushed,
    /// Where referrers are listed, if there are any.
    pub listed: Option<Listed>,
}

/// Publishes to one repository.
///
/// # Errors
/// When a tag of a version stands at another image, or something is not taken. Tags are moved last: until then every
/// tag stands where it stood.
pub fn publish(
    content: &Content<'_>,
    repository: &Repository,
    naming: &Naming,
    proofs: &[Proof],
    options: Options<'_>,
    progress: &dyn Progress,
) -> Result<Published, Error> {
    let tags: Vec<Tag> = match naming {
        Naming::Tags(tags) => tags.clone(),
        Naming::Release(version) => of_release(version, &repository.tags()?),
        Naming::Nothing(_) => vec![],
    };
    let root = content.root();
    let digest = root.descriptor.digest();
    let mut before = Vec::new();
    for Tag { name, is_fixed } in &tags {
        let stands = repository.head_manifest(name)?;
        if let (true, false, Some(other)) = (*is_fixed, options.move_tags, &stands)
            && other != digest
        {
            return Err(Error::Input(format!(
                "{}:{name} is {other} already: the tag of a version never moves (--move-tag overrides)",
                repository.name()
            )));
        }
        before.push(MovedTag { tag: name.clone(), before: stands });
    }
    let name = repository.name();
    if options.dry_run {
        let pushed = Pushed { sent: missing(content, repository)?, tags: before, ..Pushed::default() };
        return Ok(Published { repository: name, pushed, listed: None });
    }
    // What a tag stands at is there, with everything that it names.
    let is_there = before.iter().any(|moved| moved.before.as_ref() == Some(digest));
    let mut pushed = if is_there {
        Pushed { present: content.blobs().len(), ..Pushed::default() }
    } else {
        push_content(content, repository, options.mount_from, progress)?
    };
    let mut listed = None;
    for Proof { subject, artifacts } in proofs {
        listed = Some(push_referrers(repository, subject.digest(), artifacts)?);
    }
    let _held = options.tagging.map(|tagging| tagging.lock().unwrap_or_else(PoisonError::into_inner));
    for MovedTag { tag: name, before } in before {
        pushed.tags.push(tag(repository, root, &name, before)?);
    }
    Ok(Published { repository: name, pushed, listed })
}

/// Where a reference that was given leads: its repository, and its tag if it has one.
///
/// # Errors
/// When it names a digest: what is published has its own.
pub fn destination(text: &str) -> Result<(Reference, Option<Tag>), Error> {
    let reference = crate::reference::parse(text)?;
    if reference.digest().is_some() {
        return Err(Error::Input(format!("{text} names a digest; what is published has its own")));
    }
    // `latest` may have been added by the parser.
    let last = text.rsplit('/').next().unwrap_or(text);
    let tag = reference.tag().filter(|_| last.contains(':')).map(Tag::named);
    Ok((reference, tag))
}

/// `publish.json`: every digest of what was published.
#[must_use]
pub fn to_json(
    content: &Content<'_>,
    proofs: &[Proof],
    results: &[(String, Result<Published, Error>)],
) -> Value {
    let root = &content.root().descriptor;
    let platforms = platforms(content).into_iter();
    let platforms =
        platforms.map(|(platform, digest)| json!({"platform": platform, "digest": digest.to_string()}));
    let artifacts = proofs.iter().flat_map(|proof| {
        proof.artifacts.iter().map(|artifact| {
            json!({
                "artifactType": artifact.artifact_type,
                "digest": artifact.manifest.descriptor.digest().to_string(),
                "subject": proof.subject.digest().to_string(),
                "file": artifact.file_name,
                "annotations": artifact.annotations,
            })
        })
    });
    let repositories = results.iter().map(|(name, result)| match result {
        Err(error) => json!({"repository": name, "error": error.to_string()}),
        Ok(Published { repository, pushed, listed }) => {
            let tag = |moved: &MovedTag| {
                let before = moved.before.as_ref().map(Digest::to_string);
                json!({"tag": moved.tag, "before": before})
            };
            let listed = listed.map(|listed| match listed {
                Listed::Api => "api",
                Listed::FallbackTag => "fallback-tag",
            });
            json!({
                "repository": repository,
                "bytesSent": pushed.sent.iter().map(Descriptor::size).sum::<u64>(),
                "tags": pushed.tags.iter().map(tag).collect::<Vec<_>>(),
                "referrers": listed,
            })
        }
    });
    json!({
        "digest": root.digest().to_string(),
        "mediaType": root.media_type().to_string(),
        "size": root.size(),
        "platforms": platforms.collect::<Vec<_>>(),
        "artifacts": artifacts.collect::<Vec<_>>(),
        "repositories": repositories.collect::<Vec<_>>(),
    })
}

/// The platforms of an index with their images' digests.
fn platforms(content: &Content<'_>) -> Vec<(String, Digest)> {
    let of = |document: &crate::content::Document| {
        let platform = document.descriptor.platform().as_ref()?;
        Some((platform_name(platform), document.descriptor.digest().clone()))
    };
    content.manifests().filter_map(of).collect()
}

/// The result as a table in Markdown.
#[must_use]
pub fn to_markdown(name: &str, json: &Value) -> String {
    use std::fmt::Write as _;
    let text = |value: &Value| value.as_str().unwrap_or("–").to_owned();
    let mut out = format!(
        "### {name}\n\n`{}`\n\n| repository | tag | before |\n|---|---|---|\n",
        text(&json["digest"])
    );
    for repository in json["repositories"].as_array().into_iter().flatten() {
        let name = text(&repository["repository"]);
        if let Some(error) = repository["error"].as_str() {
            let _ = writeln!(out, "| {name} | failed | {} |", error.replace(['\n', '|'], " "));
        }
        for tag in repository["tags"].as_array().into_iter().flatten() {
            let _ = writeln!(out, "| {name} | `{}` | `{}` |", text(&tag["tag"]), text(&tag["before"]));
        }
    }
    for artifact in json["artifacts"].as_array().into_iter().flatten() {
        let annotations = artifact["annotations"].as_object();
        let figures = annotations.into_iter().flatten().filter_map(|(key, value)| {
            let key = key.strip_prefix("tare.")?;
            Some(format!("| {key} | {} |\n", text(value).replace('|', " ")))
        });
        let figures: String = figures.collect();
        if !figures.is_empty() {
            let _ = write!(out, "\n| {} | |\n|---|---|\n{figures}", text(&artifact["file"]));
        }
    }
    out
}
