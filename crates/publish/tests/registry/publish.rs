//! Tags that never move, those that move forward, and a run that writes nothing.

use oci_spec::image::Descriptor;
use semver::Version;
use tare_publish::publish::{Options, publish};
use tare_publish::tags::Naming;

use crate::images::{Layout, open};
use crate::server::{Quirks, TestRegistry};

#[test]
fn tags_of_versions_stay_and_others_move_forward() {
    let registry = TestRegistry::start(Quirks::default());
    let repository = open(&registry, "app", None);
    let one = Layout::of(&["amd64"], &[b"one"]);
    let other = Layout::of(&["amd64"], &[b"other"]);
    let release = |layout: &Layout, patch, options: Options<'_>| {
        let naming = Naming::Release(Version::new(1, 2, patch));
        publish(&layout.open(), &repository, &naming, &[], options, &())
    };
    let at = |tag: &str| registry.tag("app", tag);
    let (first, second) = (Some(one.root.clone()), Some(other.root.clone()));

    release(&one, 3, Options::default()).unwrap();
    for tag in ["1.2.3", "1.2", "1", "latest"] {
        assert_eq!(at(tag), first, "{tag}");
    }
    registry.store(|store| store.log.clear());
    let error = release(&other, 3, Options::default()).unwrap_err().to_string();
    assert!(error.contains("1.2.3 is sha256:") && error.contains("never moves"), "{error}");
    let dry_run = Options { dry_run: true, ..Options::default() };
    let planned = release(&other, 4, dry_run).unwrap();
    assert_eq!(planned.pushed.sent.iter().map(Descriptor::size).collect::<Vec<_>>(), [5]);
    assert_eq!(registry.count(|line| !line.starts_with("HEAD") && !line.starts_with("GET")), 0);

    // The same image is success, an older release leaves the tags of the newer one.
    assert_eq!(release(&one, 3, Options::default()).unwrap().pushed.sent, vec![]);
    release(&other, 1, Options::default()).unwrap();
    assert_eq!((at("1.2.1"), at("1.2"), at("latest")), (second.clone(), first.clone(), first));
    let move_tags = Options { move_tags: true, ..Options::default() };
    release(&other, 3, move_tags).unwrap();
    assert_eq!((at("1.2.3"), at("latest")), (second.clone(), second));
}
