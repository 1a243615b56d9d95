//! Referrers that are listed afterwards, and none of others lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use oci_spec::image::{Descriptor, Digest};
use tare_publish::push::push_content;
use tare_publish::referrers::{Artifact, Listed, list, push_referrers};
use tare_publish::registry::Repository;

use crate::images::{Layout, open};
use crate::server::{Answer, Quirks, Reaction, TestRegistry};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn artifact(subject: &Descriptor, payload: &str) -> Artifact {
    Artifact::new(subject, "application/x-test", "test.json", payload.into(), BTreeMap::new())
}

fn pushed(registry: &TestRegistry) -> (Repository, Descriptor) {
    let layout = Layout::of(&["amd64"], &[b"layer"]);
    let repository = open(registry, "app", None);
    let content = layout.open();
    push_content(&content, &repository, None, &()).unwrap();
    (repository, content.root().descriptor.clone())
}

fn digests(repository: &Repository, subject: &Digest) -> Vec<String> {
    let mut digests: Vec<String> =
        list(repository, subject).unwrap().iter().map(|referrer| referrer.digest().to_string()).collect();
    digests.sort();
    digests
}

fn of(artifacts: &[Artifact]) -> Vec<String> {
    let mut digests: Vec<String> =
        artifacts.iter().map(|artifact| artifact.manifest.descriptor.digest().to_string()).collect();
    digests.sort();
    digests
}

#[test]
fn referrers_are_listed_by_the_api_or_in_one_write_at_the_fallback_tag() {
    for (referrers, subject, listed) in [
        (true, true, Listed::Api),
        (false, false, Listed::FallbackTag),
        // Says that it has entered them, and has no list.
        (false, true, Listed::FallbackTag),
        // Has a list and does not say so: clients that go by the specification read the tag.
        (true, false, Listed::FallbackTag),
    ] {
        let registry = TestRegistry::start(Quirks { referrers, subject, ..Quirks::default() });
        let (repository, image) = pushed(&registry);
        let artifacts = ["1", "2", "3"].map(|payload| artifact(&image, payload));
        assert_eq!(push_referrers(&repository, image.digest(), &artifacts).unwrap(), listed);
        assert_eq!(digests(&repository, image.digest()), of(&artifacts));
        let writes = registry.count(|line| line.starts_with("PUT /v2/app/manifests/sha256-"));
        assert_eq!(writes, usize::from(listed == Listed::FallbackTag));
        // Again: nothing is written to the tag.
        push_referrers(&repository, image.digest(), &artifacts).unwrap();
        assert_eq!(registry.count(|line| line.starts_with("PUT /v2/app/manifests/sha256-")), writes);
    }
}

/// Writes the fallback tag as another publisher does, between our reading and our writing.
#[test]
fn an_index_that_changes_between_reading_and_writing_loses_nothing() {
    let registry = Arc::new(std::sync::OnceLock::<TestRegistry>::new());
    let of_script = Arc::clone(&registry);
    let interferences = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&interferences);
    let scripted = TestRegistry::scripted(Quirks { etags: true, ..Quirks::default() }, move |head| {
        if head.is("PUT", "/manifests/sha256-") && counted.fetch_add(1, Ordering::SeqCst) < 2 {
            let number = counted.load(Ordering::SeqCst);
            let foreign = format!(
                r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"a/b","size":1,"digest":"sha256:{number:064x}"}}]}}"#
            );
            let tag = head.path.rsplit('/').next().unwrap().to_owned();
            of_script.get().unwrap().store(|store| {
                let digest = crate::server::digest(foreign.as_bytes());
                let named = ("app".to_owned(), format!("sha256:{number:064x}"));
                store.manifests.insert(named, ("a/b".to_owned(), b"{}".to_vec()));
                let key = ("app".to_owned(), digest.clone());
                store.manifests.insert(key, (INDEX.to_owned(), foreign.clone().into_bytes()));
                store.tags.insert(("app".to_owned(), tag), digest);
            });
        }
        None
    });
    let registry = registry.get_or_init(|| scripted);
    let (repository, image) = pushed(registry);
    let artifacts = ["1", "2"].map(|payload| artifact(&image, payload));
    push_referrers(&repository, image.digest(), &artifacts).unwrap();
    let mut expected = of(&artifacts);
    expected.push(format!("sha256:{:064x}", 2));
    expected.sort();
    assert_eq!(digests(&repository, image.digest()), expected);
}

#[test]
fn a_write_that_is_seen_late_is_waited_for_and_a_lost_one_is_an_error() {
    for (hidden, fails) in [(2, false), (u32::MAX, true)] {
        let mut left = hidden;
        let mut written = false;
        let registry = TestRegistry::scripted(Quirks::default(), move |head| {
            written |= head.is("PUT", "/manifests/sha256-");
            if written && head.is("GET", "/manifests/sha256-") && left > 0 {
                left -= 1;
                return Some(Reaction::Answer(Answer::error(404, "MANIFEST_UNKNOWN")));
            }
            None
        });
        let (repository, image) = pushed(&registry);
        let result = push_referrers(&repository, image.digest(), &[artifact(&image, "1")]);
        assert_eq!(result.is_err(), fails);
        if let Err(error) = result {
            assert!(error.to_string().contains("loses the referrers of"), "{error}");
        }
    }
}
