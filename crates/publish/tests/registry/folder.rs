//! The folder of artifacts, and what it restores.

use std::collections::BTreeMap;
use std::fs;

use tare_publish::artifacts;
use tare_publish::ci::{Ci, Trigger};
use tare_publish::content::Content;
use tare_publish::measured::FoundReport;
use tare_publish::proof::{Proof, Signer, prove, reuse};
use tare_publish::publish::{Options, publish, to_json};
use tare_publish::referrers::{Artifact, list, missing, restore_referrers};
use tare_publish::sign::SigningKey;
use tare_publish::tags::{Naming, Tag};
use tare_report::Report;

use crate::images::{Layout, open};
use crate::server::{Quirks, TestRegistry, digest};

fn proof(content: &Content<'_>, text: &str) -> Artifact {
    let annotations = BTreeMap::from([("tare.profile".to_owned(), text.to_owned())]);
    let subject = &content.root().descriptor;
    Artifact::new(subject, "application/x-test", &format!("{text}.json"), text.into(), annotations)
}

#[test]
fn the_folder_has_everything_with_sums_and_restores_what_a_registry_lost() {
    for referrers in [true, false] {
        let registry = TestRegistry::start(Quirks { referrers, subject: referrers, ..Quirks::default() });
        let repository = open(&registry, "app", None);
        let layout = Layout::of(&["amd64"], &[b"layer"]);
        let content = layout.open();
        let subject = content.root().descriptor.clone();
        let artifacts = vec![proof(&content, "one"), proof(&content, "two")];
        let proofs = [Proof { subject: subject.clone(), artifacts: artifacts.clone() }];
        let naming = Naming::Tags(vec![Tag::named("main")]);
        let published = publish(&content, &repository, &naming, &proofs, Options::default(), &()).unwrap();
        let json = to_json(&content, &proofs, &[("r/app".to_owned(), Ok(published))]);
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("program");
        fs::write(&copy, "program").unwrap();
        let target = folder.path().join("artifacts");
        // Twice: what is there is replaced.
        for _ in 0..2 {
            let copies = [("app.unstripped".to_owned(), copy.clone())];
            artifacts::write(&target, &content, &proofs, &json, &copies).unwrap();
        }
        let sums = fs::read_to_string(target.join("SHA256SUMS")).unwrap();
        let listed: Vec<&str> = sums.lines().map(|line| &line[66..]).collect();
        for line in sums.lines() {
            let bytes = fs::read(target.join(&line[66..])).unwrap();
            assert_eq!(digest(&bytes)[7..], line[..64], "{line}");
        }
        let others = ["app.unstripped", "one.json", "publish.env", "publish.json", "two.json"];
        for name in others.iter().chain(&["layout/index.json", "layout/oci-layout"]) {
            assert!(listed.contains(name), "{name} is not in {listed:?}");
        }
        assert_eq!(listed.len(), others.len() + 2 + 4);
        assert_eq!(
            Content::open(&target.join("layout")).unwrap().root().descriptor.digest(),
            subject.digest()
        );
        let env = fs::read_to_string(target.join("publish.env")).unwrap();
        let expected =
            format!("IMAGE={}\nIMAGE_DIGEST={}\nIMAGE_TAGS=main\n", repository.name(), subject.digest());
        assert_eq!(env, expected);

        // A registry that forgets one.
        assert_eq!(artifacts::digest(&target).unwrap(), layout.root);
        assert_eq!(artifacts::subjects(&target).unwrap(), std::slice::from_ref(&layout.root));
        let read = artifacts::read(&target, &subject).unwrap();
        assert_eq!(read, artifacts);
        let lost = artifacts[1].manifest.descriptor.digest().to_string();
        registry.store(|store| store.manifests.remove(&("app".to_owned(), lost.clone())));
        assert_eq!(missing(&repository, subject.digest(), &read).unwrap(), [artifacts[1].clone()]);
        restore_referrers(&repository, subject.digest(), &read).unwrap();
        assert_eq!(missing(&repository, subject.digest(), &read).unwrap(), []);
        assert_eq!(list(&repository, subject.digest()).unwrap().len(), 2);

        fs::write(target.join("one.json"), "changed").unwrap();
        let error = artifacts::read(&target, &subject).unwrap_err().to_string();
        assert!(error.contains("one.json is not what was published as sha256:"), "{error}");
    }
}

#[test]
fn a_repeated_run_keeps_the_bundles_that_say_the_same() {
    use base64::Engine as _;
    let folder = tempfile::tempdir().unwrap();
    let key = |name: &str| {
        let algorithm = &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let random = ring::rand::SystemRandom::new();
        let key = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let text = base64::engine::general_purpose::STANDARD.encode(key);
        let path = folder.path().join(name);
        fs::write(&path, format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"))
            .unwrap();
        SigningKey::read(&path).unwrap()
    };
    let (mine, theirs) = (key("mine.pem"), key("theirs.pem"));
    let wrong = Quirks {
        referrers: true,
        subject: true,
        listed_type: Some("application/vnd.oci.empty.v1+json"),
        ..Quirks::default()
    };
    let layout = Layout::of(&["amd64"], &[b"layer"]);
    let content = layout.open();
    let subject = content.root().descriptor.digest().clone();
    for quirks in [Quirks::default(), wrong] {
        let registry = TestRegistry::start(quirks);
        let repository = open(&registry, "app", None);
        for (key, expected) in [(&mine, 2), (&mine, 2), (&theirs, 4), (&mine, 4)] {
            let signer = Signer { key: Some(key), ..Signer::default() };
            let mut proofs = prove("app", &content, &[], signer).unwrap();
            reuse(&mut proofs, &repository, Some(key)).unwrap();
            publish(&content, &repository, &Naming::Nothing(""), &proofs, Options::default(), &()).unwrap();
            assert_eq!(list(&repository, &subject).unwrap().len(), expected);
            assert_eq!(missing(&repository, &subject, &proofs[0].artifacts).unwrap(), []);
        }
    }
}

/// Each run has its own address and its own measurements, and the same source, builder and packages.
#[test]
fn a_repeated_run_of_ci_keeps_the_provenance_that_is_there() {
    let layout = Layout::of(&["amd64"], &[b"layer"]);
    let content = layout.open();
    let subject = content.root().descriptor.digest().clone();
    let registry = TestRegistry::start(Quirks::default());
    let repository = open(&registry, "app", None);
    let ci = |commit: &str, run: &str| Ci {
        trigger: Trigger::Schedule,
        commit: commit.to_owned(),
        repository: None,
        source: Some("https://example.com/app".to_owned()),
        builder: "workflow".to_owned(),
        run: Some(format!("https://example.com/runs/{run}")),
    };
    let report = |taken: &str| {
        let mut report = Report::parse(include_str!("../../../report/tests/report.json")).unwrap();
        (report.target.digest, report.taken) = (layout.root.clone(), taken.to_owned());
        let bytes = report.to_json().unwrap().into_bytes();
        FoundReport::parse("report.json".into(), bytes).unwrap()
    };
    for (commit, run, expected) in [("1", "a", 1), ("1", "b", 1), ("2", "c", 2), ("1", "d", 2)] {
        let (ci, reports) = (ci(commit, run), [report(run)]);
        let signer = Signer { ci: Some(&ci), reports: &reports, ..Signer::default() };
        let mut proofs = prove("app", &content, &[], signer).unwrap();
        reuse(&mut proofs, &repository, None).unwrap();
        publish(&content, &repository, &Naming::Nothing(""), &proofs, Options::default(), &()).unwrap();
        assert_eq!(list(&repository, &subject).unwrap().len(), expected, "{commit} {run}");
    }
}
