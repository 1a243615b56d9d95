//! Pushes that end correct, or fail with the tag unmoved.

use std::fs;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use oci_spec::image::Descriptor;
use tare_publish::credentials::{Credential, Keychain, Secret};
use tare_publish::error::Error;
use tare_publish::push::{Progress, Pushed, missing, push_content, tag};
use tare_publish::reference;
use tare_publish::registry::{Access, Repository};

use crate::images::{Layout, environment, noise, open, options};
use crate::server::{Answer, Quirks, Reaction, TestRegistry};

const MIB: usize = 1 << 20;

/// Pushes and tags `latest`.
fn publish(layout: &Layout, repository: &Repository) -> Result<Pushed, Error> {
    let content = layout.open();
    let mut pushed = push_content(&content, repository, None, &())?;
    let before = repository.head_manifest("latest")?;
    pushed.tags.push(tag(repository, content.root(), "latest", before)?);
    Ok(pushed)
}

/// The repository has every byte of the layout, and the tag stands at it.
fn assert_complete(registry: &TestRegistry, layout: &Layout, name: &str) {
    let content = layout.open();
    registry.store(|store| {
        for blob in content.blobs() {
            let stored = &store.blobs[&(name.to_owned(), blob.digest().to_string())];
            assert!(*stored == fs::read(layout.blob(blob.digest().as_ref())).unwrap());
        }
        for document in content.documents() {
            let stored = &store.manifests[&(name.to_owned(), document.descriptor.digest().to_string())];
            assert_eq!(*stored, (document.descriptor.media_type().to_string(), document.bytes.clone()));
        }
    });
    assert_eq!(registry.tag(name, "latest"), Some(layout.root.clone()));
}

#[test]
fn an_index_is_pushed_with_its_children_before_it_and_the_tag_last() {
    let registry = TestRegistry::start(Quirks::default());
    let layout = Layout::of(&["amd64", "arm64"], &[b"shared"]);
    let pushed = publish(&layout, &open(&registry, "team/app", None)).unwrap();
    assert_eq!((pushed.sent.len(), pushed.present, pushed.mounted), (5, 0, 0));
    assert_eq!(pushed.tags[0].before, None);
    assert_complete(&registry, &layout, "team/app");
    let writes: Vec<String> = registry.store(|store| {
        let is_write = |line: &&String| line.starts_with("PUT /v2/team/app/manifests/");
        store.log.iter().filter(is_write).map(|line| line[27..].to_owned()).collect()
    });
    assert_eq!(writes.len(), 4);
    assert_eq!(writes[2..], [layout.root.clone(), "latest".to_owned()]);
}

#[test]
fn an_image_that_is_there_costs_one_request_and_one_for_each_tag() {
    let registry = TestRegistry::start(Quirks::default());
    let layout = Layout::of(&["amd64"], &[b"layer"]);
    publish(&layout, &open(&registry, "app", None)).unwrap();
    registry.store(|store| store.log.clear());
    let pushed = publish(&layout, &open(&registry, "app", None)).unwrap();
    assert_eq!(
        (pushed.sent.len(), pushed.tags[0].before.as_ref().unwrap().as_ref()),
        (0, layout.root.as_str())
    );
    let expected =
        [format!("HEAD /v2/app/manifests/{}", layout.root), "HEAD /v2/app/manifests/latest".to_owned()];
    assert_eq!(registry.store(|store| store.log.clone()), expected);
}

#[test]
fn a_changed_layer_sends_itself_its_configuration_and_its_manifest() {
    let registry = TestRegistry::start(Quirks::default());
    let repository = open(&registry, "app", None);
    publish(&Layout::of(&["amd64"], &[b"base"]), &repository).unwrap();
    let changed = Layout::of(&["amd64"], &[b"base", b"application"]);
    let content = changed.open();
    // Nothing but this layer differs; the configuration has no diff ids here.
    let lacking = missing(&content, &repository).unwrap();
    assert_eq!(lacking.iter().map(Descriptor::size).collect::<Vec<_>>(), [11]);
    let pushed = publish(&changed, &repository).unwrap();
    assert_eq!((pushed.sent, pushed.present), (lacking, 3));
    assert_complete(&registry, &changed, "app");
}

#[test]
fn blobs_of_another_repository_are_mounted_or_sent_in_the_session_that_opens_instead() {
    for mounts in [true, false] {
        let registry = TestRegistry::start(Quirks { mounts, ..Quirks::default() });
        let layout = Layout::of(&["amd64"], &[b"layer"]);
        publish(&layout, &open(&registry, "base", None)).unwrap();
        registry.store(|store| store.log.clear());
        let repository = open(&registry, "app", Some("base"));
        let content = layout.open();
        let pushed = push_content(&content, &repository, Some("base"), &()).unwrap();
        tag(&repository, content.root(), "latest", None).unwrap();
        assert_eq!((pushed.mounted, pushed.sent.len()), if mounts { (3, 0) } else { (0, 3) });
        assert_eq!(registry.count(|line| line.starts_with("POST")), 3);
        assert_complete(&registry, &layout, "app");
    }
}

#[test]
fn every_way_of_taking_large_blobs_is_found() {
    let layer = noise(9 * MIB + 5);
    let layout = Layout::of(&["amd64"], &[&layer]);
    let d = Quirks::default;
    for (name, quirks, patches) in [
        ("whole", d(), 0),
        ("GHCR: PATCH up to 4 MiB", Quirks { put_limit: 5 * MIB, patch_limit: 4 * MIB, ..d() }, 3),
        ("1 MiB", Quirks { put_limit: MIB, patch_limit: MIB, ..d() }, 12),
        ("ECR: PATCH answered 201", Quirks { put_limit: MIB, patch_status: 201, ..d() }, 3),
        ("least length of a chunk", Quirks { put_limit: MIB, min_chunk: 6 * MIB, ..d() }, 2),
        ("relative location", Quirks { put_limit: MIB, relative_locations: true, ..d() }, 3),
        ("no state of uploads", Quirks { put_limit: MIB, state_status: 404, ..d() }, 3),
    ] {
        let registry = TestRegistry::start(quirks);
        publish(&layout, &open(&registry, "app", None)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_complete(&registry, &layout, "app");
        assert_eq!(registry.count(|line| line.starts_with("PATCH")), patches, "{name}");
    }
}

#[test]
fn a_blob_that_is_taken_neither_whole_nor_in_chunks_is_an_error() {
    let layout = Layout::of(&["amd64"], &[&noise(2 * MIB)]);
    for (quirks, expected) in [
        (Quirks { put_limit: MIB, patch_limit: 1000, ..Quirks::default() }, "neither whole nor in chunks"),
        (Quirks { put_limit: MIB, patch_status: 405, ..Quirks::default() }, "loses each upload"),
    ] {
        let registry = TestRegistry::start(quirks);
        let error = publish(&layout, &open(&registry, "app", None)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(registry.tag("app", "latest"), None);
    }
}

/// Counts bytes.
#[derive(Default)]
struct Bytes {
    total: AtomicU64,
    sent: AtomicI64,
}

impl Progress for Bytes {
    fn start(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }
    fn advance(&self, bytes: i64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[test]
fn a_cut_upload_goes_on_where_the_registry_stands() {
    let layer = noise(3 * MIB);
    let layout = Layout::of(&["amd64"], &[&layer]);
    let content = layout.open();
    for cut in [0, 1, 2, MIB, 3 * MIB - 1, 3 * MIB] {
        let mut left = 1;
        let registry = TestRegistry::scripted(Quirks::default(), move |head| {
            let is_layer =
                head.method == "PUT" && head.headers.get("content-length")? == &(3 * MIB).to_string();
            (is_layer && std::mem::take(&mut left) > 0).then_some(Reaction::CutRequest(cut))
        });
        let bytes = Bytes::default();
        let repository = open(&registry, "app", None);
        push_content(&content, &repository, None, &bytes).unwrap();
        tag(&repository, content.root(), "latest", None).unwrap();
        assert_complete(&registry, &layout, "app");
        let total = bytes.total.into_inner().cast_signed();
        assert_eq!(bytes.sent.into_inner(), total, "cut at {cut}");
    }
}

#[test]
fn an_answer_that_is_lost_is_no_second_upload() {
    let layout = Layout::of(&["amd64"], &[&noise(MIB)]);
    let mut left = 1;
    let registry = TestRegistry::scripted(Quirks::default(), move |head| {
        let is_layer = head.method == "PUT" && head.headers.get("content-length")? == &MIB.to_string();
        (is_layer && std::mem::take(&mut left) > 0).then_some(Reaction::CutAnswer(7))
    });
    publish(&layout, &open(&registry, "app", None)).unwrap();
    assert_complete(&registry, &layout, "app");
    assert_eq!(registry.count(|line| line.starts_with("POST")), 3);
}

#[test]
fn a_registry_that_is_busy_is_asked_again_for_everything_and_as_late_as_it_says() {
    for (method, part) in [
        ("HEAD", "/blobs/sha256"),
        ("POST", "/blobs/uploads/"),
        ("PUT", "/blobs/uploads/"),
        ("HEAD", "/manifests/"),
        ("PUT", "/manifests/sha256"),
        ("PUT", "/manifests/latest"),
    ] {
        for (status, asked) in [(429, Some("7")), (503, None), (500, None), (408, Some("1"))] {
            let layout = Layout::of(&["amd64"], &[b"layer"]);
            let mut left = 2;
            let registry = TestRegistry::scripted(Quirks::default(), move |head| {
                if !head.is(method, part) || left == 0 {
                    return None;
                }
                left -= 1;
                let answer = Answer::error(status, "TOOMANYREQUESTS");
                Some(Reaction::Answer(match asked {
                    Some(seconds) => answer.header("Retry-After", seconds),
                    None => answer,
                }))
            });
            let (options, pauses) = options();
            let reference = reference::parse(&registry.reference("app")).unwrap();
            let keychain = Keychain::new(environment(), None);
            let repository =
                Repository::open(&reference, Access::Push, None, &keychain, &options, &|_| ()).unwrap();
            publish(&layout, &repository).unwrap_or_else(|error| panic!("{method} {part} {status}: {error}"));
            assert_complete(&registry, &layout, "app");
            let pauses = pauses.lock().unwrap();
            let least = asked.map_or(0.2, |seconds| seconds.parse().unwrap());
            assert_eq!(pauses.len(), 2, "{method} {part} {status}");
            assert!(pauses.iter().all(|pause| pause.as_secs_f64() >= least), "{pauses:?}");
        }
    }
}

#[test]
fn a_refusal_is_repeated_in_the_registrys_words_and_leaves_the_tag() {
    let old = Layout::of(&["amd64"], &[b"old"]);
    for (method, part) in [("POST", "/blobs/uploads/"), ("PUT", "/blobs/"), ("PUT", "/manifests/sha256")] {
        let mut armed = false;
        let (switch, armed_now) = std::sync::mpsc::channel();
        let registry = TestRegistry::scripted(Quirks::default(), move |head| {
            armed |= armed_now.try_recv().is_ok();
            (armed && head.is(method, part)).then(|| Reaction::Answer(Answer::error(403, "DENIED")))
        });
        let repository = open(&registry, "app", None);
        publish(&old, &repository).unwrap();
        switch.send(()).unwrap();
        let error = publish(&Layout::of(&["amd64"], &[b"new"]), &repository).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with(&format!("{method} http://127.0.0.1:")), "{said}");
        assert!(said.ends_with(" was refused: 403 DENIED: as scripted"), "{said}");
        assert_eq!(registry.tag("app", "latest"), Some(old.root.clone()));
    }
}

#[test]
fn a_file_that_changed_since_its_digest_was_taken_is_not_published() {
    let layout = Layout::of(&["amd64"], &[b"layer of an image"]);
    let content = layout.open();
    let blob = content.blobs().iter().find(|blob| blob.size() == 17).unwrap();
    fs::write(layout.blob(blob.digest().as_ref()), b"LAYER OF AN IMAGE").unwrap();
    let registry = TestRegistry::start(Quirks::default());
    let error = push_content(&content, &open(&registry, "app", None), None, &()).unwrap_err();
    assert!(error.to_string().contains("DIGEST_INVALID"), "{error}");
    fs::write(layout.blob(&layout.root), b"{}").unwrap();
    let error = tare_publish::content::Content::open(layout.path()).err().unwrap().to_string();
    assert_eq!(error, format!("{} is damaged: it is not what its descriptor says", layout.root));
}

fn log_in(registry: &TestRegistry, user: &str, password: &str) -> Repository {
    let (options, _) = options();
    let reference = reference::parse(&registry.reference("app")).unwrap();
    let password = Secret::new(password.to_owned());
    let keychain = Keychain::new(environment(), Some(Credential::Basic { user: user.to_owned(), password }));
    Repository::open(&reference, Access::Push, None, &keychain, &options, &|_| ()).unwrap()
}

#[test]
fn tokens_are_fetched_once_and_again_when_they_expire() {
    for expired_status in [401, 403] {
        let quirks = Quirks { login: Some(("me", "secret")), expired_status, ..Quirks::default() };
        let registry = TestRegistry::start(quirks);
        let layout = Layout::of(&["amd64"], &[b"layer"]);
        let content = layout.open();
        let repository = log_in(&registry, "me", "secret");
        push_content(&content, &repository, None, &()).unwrap();
        assert_eq!(registry.count(|line| line == "GET /token"), 1);
        registry.store(|store| store.token += 1);
        tag(&repository, content.root(), "latest", None).unwrap();
        assert_complete(&registry, &layout, "app");
        assert_eq!(registry.count(|line| line == "GET /token"), 2);

        let error = publish(&layout, &log_in(&registry, "me", "wrong-secret")).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("/token was refused: 401") && !said.contains("wrong-secret"), "{said}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn credentials_are_never_sent_to_another_host() {
    let storage = TestRegistry::start(Quirks::default());
    let elsewhere = format!("http://localhost:{}/v2/app/manifests/latest", storage.address.port());
    let registry =
        TestRegistry::scripted(Quirks { login: Some(("me", "secret")), ..Quirks::default() }, move |head| {
            let authorized = head.headers.contains_key("authorization");
            let redirected = authorized && head.is("GET", "/manifests/latest");
            redirected.then(|| Reaction::Answer(Answer::of(307).header("Location", elsewhere.as_str())))
        });
    let other = Layout::of(&["amd64"], &[b"layer"]);
    publish(&other, &open(&storage, "app", None)).unwrap();
    let manifest = log_in(&registry, "me", "secret").manifest("latest").unwrap().unwrap();
    assert_eq!(manifest.descriptor.digest().as_ref(), other.root);
    assert!(registry.store(|store| store.authorizations.iter().any(Option::is_some)));
    assert!(storage.store(|store| store.authorizations.iter().all(Option::is_none)));
}

#[test]
fn all_pages_of_tags_are_read() {
    let registry = TestRegistry::start(Quirks::default());
    let repository = open(&registry, "app", None);
    assert_eq!(repository.tags().unwrap(), Vec::<String>::new());
    let layout = Layout::of(&["amd64"], &[]);
    let content = layout.open();
    push_content(&content, &repository, None, &()).unwrap();
    let tags = ["1.0", "1.1", "2.0", "2.1", "latest"];
    for name in tags {
        tag(&repository, content.root(), name, None).unwrap();
    }
    assert_eq!(repository.tags().unwrap(), tags);
}
