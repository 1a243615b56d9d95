//! Pulls that end whole, or leave what was there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tare_publish::content::Content;
use tare_publish::pull::pull;
use tare_publish::push::{push_content, tag};

use crate::images::{Layout, noise, open};
use crate::server::{Answer, Quirks, Reaction, TestRegistry};

/// A registry with an image at `latest`.
fn filled(
    layout: &Layout,
    script: impl FnMut(&crate::server::Head) -> Option<Reaction> + Send + 'static,
) -> TestRegistry {
    let registry = TestRegistry::scripted(Quirks::default(), script);
    let repository = open(&registry, "app", None);
    let content = layout.open();
    push_content(&content, &repository, None, &()).unwrap();
    tag(&repository, content.root(), "latest", None).unwrap();
    registry
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            let inner = self::files(&entry.path()).into_iter();
            files.extend(inner.map(|(path, bytes)| (format!("{name}/{path}"), bytes)));
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    files
}

#[test]
fn what_was_pushed_comes_back_and_a_second_pull_fetches_no_blob() {
    let layout = Layout::of(&["amd64", "arm64"], &[b"shared"]);
    let registry = filled(&layout, |_| None);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("a/layout");
    let repository = open(&registry, "app", None);
    let pulled = pull(&repository, "latest", None, &target, &()).unwrap();
    assert_eq!(pulled.digest.as_ref(), layout.root);
    let (mut theirs, mut ours) = (files(layout.path()), files(&target));
    let index = String::from_utf8(ours.remove("index.json").unwrap()).unwrap();
    assert!(index.contains(r#""org.opencontainers.image.ref.name":"latest""#), "{index}");
    theirs.remove("index.json");
    assert_eq!(ours, theirs);
    assert_eq!(Content::open(&target).unwrap().root().descriptor.digest().as_ref(), layout.root);
    assert_eq!(pull(&repository, &layout.root, None, &target, &()).unwrap().fetched, 0);
    assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
}

#[test]
fn one_platform_is_chosen_and_replaces_the_others() {
    let layout = Layout::of(&["amd64", "arm64"], &[b"shared"]);
    let registry = filled(&layout, |_| None);
    let folder = tempfile::tempdir().unwrap();
    let repository = open(&registry, "app", None);
    pull(&repository, "latest", None, folder.path(), &()).unwrap();
    pull(&repository, "latest", Some("linux/arm64"), folder.path(), &()).unwrap();
    let content = Content::open(folder.path()).unwrap();
    assert_eq!((content.documents().len(), content.blobs().len()), (1, 3));
    assert_eq!(fs::read_dir(folder.path().join("blobs/sha256")).unwrap().count(), 4);
    let error = pull(&repository, "latest", Some("linux/s390x"), folder.path(), &()).unwrap_err().to_string();
    assert!(error.ends_with("has no image for linux/s390x, but for linux/amd64, linux/arm64"), "{error}");
    let manifest = content.root().descriptor.digest().as_ref();
    pull(&repository, manifest, Some("linux/arm64"), folder.path(), &()).unwrap();
    let error = pull(&repository, manifest, Some("linux/amd64"), folder.path(), &()).unwrap_err().to_string();
    assert_eq!(error, "the image is for linux/arm64");
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let layout = Layout::of(&["amd64"], &[&noise(300_000)]);
    let mut cuts = vec![200_000, 100_000, 50, 0];
    let registry = filled(&layout, move |head| {
        let is_layer = head.is("GET", "/blobs/") && !cuts.is_empty();
        is_layer.then(|| Reaction::CutAnswer(cuts.pop().unwrap()))
    });
    let folder = tempfile::tempdir().unwrap();
    pull(&open(&registry, "app", None), "latest", None, folder.path(), &()).unwrap();
    assert_eq!(Content::open(folder.path()).unwrap().root().descriptor.digest().as_ref(), layout.root);
}

#[test]
fn a_registry_without_ranges_begins_again() {
    let layout = Layout::of(&["amd64"], &[&noise(300_000)]);
    let bytes = noise(300_000);
    let mut cut = false;
    let registry = filled(&layout, move |head| {
        if head.headers.contains_key("range") {
            return Some(Reaction::Answer(Answer { status: 200, headers: vec![], body: bytes.clone() }));
        }
        let is_layer = head.is("GET", &format!("/blobs/{}", crate::server::digest(&bytes)));
        (is_layer && !std::mem::replace(&mut cut, true)).then_some(Reaction::CutAnswer(100_000))
    });
    let folder = tempfile::tempdir().unwrap();
    pull(&open(&registry, "app", None), "latest", None, folder.path(), &()).unwrap();
    Content::open(folder.path()).unwrap();
}

#[test]
fn what_is_not_what_its_digest_says_leaves_the_layout_that_was_there() {
    let (old, new) = (Layout::of(&["amd64"], &[b"old layer"]), Layout::of(&["amd64"], &[b"new layer"]));
    let layer = crate::server::digest(b"new layer");
    for (part, body, expected) in [
        (format!("/blobs/{layer}"), "NEW LAYER", "answers other bytes for"),
        (format!("/blobs/{layer}"), "new layer and more", "answers more than the 9 bytes"),
        (format!("/blobs/{layer}"), "new", "answers fewer than the 9 bytes"),
        (format!("/manifests/{}", new.root), "{}", "has a manifest with the digest"),
        ("/manifests/latest".to_owned(), "<html>", "was answered with no manifest"),
        (
            "/manifests/latest".to_owned(),
            r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#,
            "missing field",
        ),
    ] {
        let (switch, armed) = std::sync::mpsc::channel::<()>();
        let mut is_armed = false;
        let at = part.clone();
        let registry = filled(&new, move |head| {
            is_armed |= armed.try_recv().is_ok();
            let answer = || Answer { status: 200, headers: vec![], body: body.as_bytes().to_vec() };
            (is_armed && head.is("GET", &at)).then(|| Reaction::Answer(answer()))
        });
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("layout");
        let repository = open(&registry, "app", None);
        let content = old.open();
        push_content(&content, &repository, None, &()).unwrap();
        pull(&repository, &old.root, None, &target, &()).unwrap();
        let before = files(folder.path());
        switch.send(()).unwrap();
        let reference = if part.ends_with("latest") { "latest" } else { &new.root };
        let error = pull(&repository, reference, None, &target, &()).unwrap_err().to_string();
        assert!(error.contains(expected), "{part}: {error}");
        assert_eq!(files(folder.path()), before);
    }
}

#[test]
fn an_image_that_is_not_there_and_a_folder_of_something_else_are_refused() {
    let layout = Layout::of(&["amd64"], &[b"layer"]);
    let registry = filled(&layout, |_| None);
    let repository = open(&registry, "app", None);
    let folder = tempfile::tempdir().unwrap();
    let error = pull(&repository, "1.0", None, &folder.path().join("new"), &()).unwrap_err().to_string();
    assert_eq!(error, format!("{}/app has no image 1.0", registry.address));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::write(folder.path().join("letter.txt"), "dear").unwrap();
    let error = pull(&repository, "latest", None, folder.path(), &()).unwrap_err().to_string();
    assert_eq!(error, format!("{} holds something else than an OCI layout", folder.path().display()));
    assert_eq!(files(folder.path()).len(), 1);
}
