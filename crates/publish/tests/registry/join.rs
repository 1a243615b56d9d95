//! One index of images that were built apart.

use std::path::PathBuf;

use tare_publish::content::Content;
use tare_publish::push::{push_content, tag};

use crate::images::{Layout, open};
use crate::server::{Quirks, TestRegistry};

fn join(layouts: &[&Layout]) -> Result<Content<'static>, String> {
    let paths: Vec<PathBuf> = layouts.iter().map(|layout| layout.path().to_path_buf()).collect();
    Content::join(&paths).map_err(|error| error.to_string())
}

fn digests(content: &Content<'_>) -> Vec<String> {
    content.manifests().map(|image| image.descriptor.digest().to_string()).collect()
}

#[test]
fn images_are_joined_with_their_own_bytes_and_have_no_tags_of_their_own() {
    let (amd64, arm64) = (Layout::of(&["amd64"], &[b"shared"]), Layout::of(&["arm64"], &[b"shared"]));
    let joined = join(&[&amd64, &arm64]).unwrap();
    assert_eq!(digests(&joined), [amd64.root.clone(), arm64.root.clone()]);
    let registry = TestRegistry::start(Quirks::default());
    let repository = open(&registry, "app", None);
    let pushed = push_content(&joined, &repository, None, &()).unwrap();
    tag(&repository, joined.root(), "1.2.0", None).unwrap();
    // The shared layer once; a configuration and a layer for each.
    assert_eq!(pushed.sent.len(), 5);
    for image in [&amd64, &arm64] {
        let content = image.open();
        let stored =
            registry.store(|store| store.manifests[&("app".to_owned(), image.root.clone())].1.clone());
        assert_eq!(stored, content.root().bytes);
    }
    let tags: Vec<String> = registry.store(|store| store.tags.keys().map(|(_, tag)| tag.clone()).collect());
    assert_eq!(tags, ["1.2.0"]);
    assert_eq!(registry.tag("app", "1.2.0"), Some(joined.root().descriptor.digest().to_string()));
}

#[test]
fn the_index_has_the_platforms_in_their_order_and_no_names_of_layouts() {
    let both = Layout::of(&["s390x", "riscv64"], &[b"x"]);
    let joined = join(&[&Layout::of(&["arm64"], &[b"x"]), &both, &Layout::of(&["amd64"], &[b"x"])]).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&joined.root().bytes).unwrap();
    let of = |manifest: &serde_json::Value| {
        assert_eq!(
            manifest.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["digest", "mediaType", "platform", "size"]
        );
        manifest["platform"]["architecture"].as_str().unwrap().to_owned()
    };
    let platforms: Vec<String> = index["manifests"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(platforms, ["arm64", "s390x", "riscv64", "amd64"]);
}

#[test]
fn two_images_for_one_platform_are_an_error() {
    let (one, other) = (Layout::of(&["amd64", "arm64"], &[b"1"]), Layout::of(&["arm64"], &[b"2"]));
    let error = join(&[&one, &other]).err().unwrap();
    let expected =
        format!("{} and {} both have an image for linux/arm64", one.path().display(), other.path().display());
    assert_eq!(error, expected);
}
