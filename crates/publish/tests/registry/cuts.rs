//! Connections that are cut anywhere, and publishers that meet each other.

use std::collections::BTreeMap;

use tare_publish::push::{push_content, tag};
use tare_publish::referrers::{Artifact, list, push_referrers};

use crate::images::{Layout, noise, open};
use crate::server::{Quirks, Reaction, TestRegistry};

/// Everything that a manifest in the registry names is there.
pub(crate) fn assert_whole(registry: &TestRegistry, digest: &str) {
    let named: Vec<String> = registry.store(|store| {
        let (_, bytes) = &store.manifests[&("app".to_owned(), digest.to_owned())];
        assert_eq!(crate::server::digest(bytes), digest);
        let document: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let layers = document["layers"].as_array().unwrap().iter().chain([&document["config"]]);
        layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    });
    for digest in named {
        registry.store(|store| {
            let blob = &store.blobs[&("app".to_owned(), digest.clone())];
            assert_eq!(crate::server::digest(blob), digest);
        });
    }
}

#[test]
fn wherever_connections_are_cut_the_tag_stands_at_a_whole_image() {
    let images = [noise(200_000), noise(150_000)].map(|layer| Layout::of(&["amd64"], &[&layer, b"small"]));
    let mut succeeded = 0;
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let registry = TestRegistry::scripted(Quirks::default(), move |_| match random.u8(..16) {
            0 | 1 => Some(Reaction::CutRequest(random.usize(..210_000))),
            2 | 3 => Some(Reaction::CutAnswer(random.usize(..300))),
            _ => None,
        });
        let repository = open(&registry, "app", None);
        let mut stands = None;
        for image in &images {
            let content = image.open();
            let result = push_content(&content, &repository, None, &())
                .and_then(|_| tag(&repository, content.root(), "latest", None));
            let now = registry.tag("app", "latest");
            match &result {
                Ok(_) => {
                    succeeded += 1;
                    assert_eq!(now.as_ref(), Some(&image.root), "seed {seed}");
                }
                // The answer to the tag's write may have been lost.
                Err(_) => assert!(now == stands || now.as_ref() == Some(&image.root), "seed {seed}: {now:?}"),
            }
            if let Some(digest) = &now {
                assert_whole(&registry, digest);
            }
            stands = now;
        }
    }
    // A quarter of the requests is cut, and each is sent up to six times.
    assert!(succeeded > 80, "{succeeded} of 100");
}

#[test]
fn two_publishers_at_once_lose_none_of_each_others_referrers() {
    let registry = TestRegistry::start(Quirks { etags: true, ..Quirks::default() });
    let layout = Layout::of(&["amd64"], &[b"layer"]);
    let content = layout.open();
    let repository = open(&registry, "app", None);
    push_content(&content, &repository, None, &()).unwrap();
    let image = content.root().descriptor.clone();
    let artifacts = ["1", "2"]
        .map(|text| Artifact::new(&image, "application/x-test", "test.json", text.into(), BTreeMap::new()));
    std::thread::scope(|scope| {
        for artifact in &artifacts {
            let (image, registry) = (&image, &registry);
            scope.spawn(move || {
                let repository = open(registry, "app", None);
                push_referrers(&repository, image.digest(), std::slice::from_ref(artifact)).unwrap();
            });
        }
    });
    let listed = list(&repository, image.digest()).unwrap();
    for artifact in &artifacts {
        let digest = artifact.manifest.descriptor.digest();
        assert!(listed.iter().any(|referrer| referrer.digest() == digest));
    }
}
