//! Connections that are cut anywhere, and publishers that meet each other.

use std::collections::BTreeMap;
use std::ops::Range;

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

/// A registry that cuts a quarter of the connections at a random byte of the request or the answer.
fn cutting(seed: u64, quirks: Quirks) -> TestRegistry {
    let mut random = fastrand::Rng::with_seed(seed);
    TestRegistry::scripted(quirks, move |_| match random.u8(..16) {
        0 | 1 => Some(Reaction::CutRequest(random.usize(..210_000))),
        2 | 3 => Some(Reaction::CutAnswer(random.usize(..300))),
        _ => None,
    })
}

fn two_images() -> [Layout; 2] {
    [noise(200_000), noise(150_000)].map(|layer| Layout::of(&["amd64"], &[&layer, b"small"]))
}

/// One after the other, two for each seed.
fn push_in_turn(seeds: Range<u64>) {
    let images = two_images();
    let (mut succeeded, all) = (0, 2 * (seeds.end - seeds.start));
    for seed in seeds {
        let registry = cutting(seed, Quirks::default());
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
    // Each request is sent up to six times.
    assert!(succeeded * 10 > all * 8, "{succeeded} of {all}");
}

#[test]
fn wherever_connections_are_cut_the_tag_stands_at_a_whole_image() {
    push_in_turn(0..50);
}

#[test]
#[ignore = "500 pushes: cargo test -p tare-publish --test registry -- --ignored"]
fn of_500_pushes_with_cut_connections_none_leaves_a_broken_image() {
    push_in_turn(1_000..1_250);
}

/// Both push another image to the same tag, and attach something to it.
fn push_at_once(seeds: Range<u64>) {
    let images = two_images();
    for seed in seeds {
        let registry = cutting(seed, Quirks { etags: true, ..Quirks::default() });
        std::thread::scope(|scope| {
            for image in &images {
                let registry = &registry;
                scope.spawn(move || {
                    let repository = open(registry, "app", None);
                    let content = image.open();
                    let subject = content.root().descriptor.clone();
                    let artifact = Artifact::new(
                        &subject,
                        "application/x-test",
                        "test.json",
                        b"x".to_vec(),
                        BTreeMap::new(),
                    );
                    let result = push_content(&content, &repository, None, &())
                        .and_then(|_| {
                            push_referrers(&repository, subject.digest(), std::slice::from_ref(&artifact))
                        })
                        .and_then(|_| tag(&repository, content.root(), "latest", None));
                    if result.is_ok() {
                        let digest = artifact.manifest.descriptor.digest().to_string();
                        let tag = subject.digest().as_ref().replace(':', "-");
                        let listed = registry.store(|store| {
                            let at = &store.tags[&("app".to_owned(), tag)];
                            String::from_utf8(store.manifests[&("app".to_owned(), at.clone())].1.clone())
                                .unwrap()
                        });
                        assert!(listed.contains(&digest), "seed {seed}: {listed}");
                    }
                });
            }
        });
        if let Some(digest) = registry.tag("app", "latest") {
            assert!(images.iter().any(|image| image.root == digest), "seed {seed}");
            assert_whole(&registry, &digest);
        }
    }
}

#[test]
fn two_publishers_at_once_leave_the_tag_at_one_whole_image() {
    push_at_once(0..10);
}

#[test]
#[ignore = "500 pushes: cargo test -p tare-publish --test registry -- --ignored"]
fn of_500_pushes_by_two_publishers_none_leaves_a_broken_image() {
    push_at_once(1_000..1_250);
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
