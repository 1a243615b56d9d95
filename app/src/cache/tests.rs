use std::future::Future;

use super::*;

/// A folder in one that goes with the test, which may remove it itself.
struct Folder(PathBuf, #[expect(dead_code, reason = "held until the end of the test")] tempfile::TempDir);

impl Folder {
    fn new(name: &str) -> Self {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join(name);
        fs::create_dir(&path).unwrap();
        Self(path, above)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn cache(&self, budget: u64, fresh: Duration, stale: Duration) -> Cache {
        Cache::new(self.0.clone(), budget, fresh, stale)
    }
}

const LONG: Duration = Duration::from_secs(3600);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tare_http::runtime().unwrap().block_on(future)
}

fn get(cache: &Cache, name: &str) -> (u16, String, String) {
    let response = block_on(cache.get(name, &Accepts::default()));
    let response = response.unwrap_or_else(|| Response::text(404, "not found\n"));
    let text = String::from_utf8_lossy(response.body.bytes()).into_owned();
    let status = response.fields.iter().find(|(name, _)| *name == "Cache-Status");
    (response.status, text, status.map(|(_, value)| value.clone()).unwrap_or_default())
}

fn found(text: &str, status: &str) -> (u16, String, String) {
    (200, text.to_owned(), format!("app; {status}"))
}

#[test]
fn fresh_file_is_served_without_a_look_at_the_folder() {
    let folder = Folder::new("fresh");
    folder.write("a.txt", "one");
    let cache = folder.cache(1 << 20, LONG, LONG);
    assert_eq!(get(&cache, "a.txt"), found("one", "fwd=miss; stored"));
    folder.write("a.txt", "two");
    assert_eq!(get(&cache, "a.txt"), found("one", "hit"));
}

#[test]
fn file_that_is_no_longer_fresh_is_read_again() {
    let folder = Folder::new("again");
    folder.write("a.txt", "one");
    let cache = folder.cache(1 << 20, Duration::ZERO, LONG);
    assert_eq!(get(&cache, "a.txt"), found("one", "fwd=miss; stored"));
    folder.write("a.txt", "two");
    assert_eq!(get(&cache, "a.txt"), found("two", "fwd=miss; stored"));
    fs::remove_file(folder.0.join("a.txt")).unwrap();
    assert_eq!(get(&cache, "a.txt").0, 404);
    assert_eq!(cache.counts().bytes, 0);
}

#[test]
fn while_the_folder_is_away_the_old_file_is_served_and_only_for_so_long() {
    let folder = Folder::new("away");
    folder.write("a.txt", "one");
    let cache = folder.cache(1 << 20, Duration::ZERO, LONG);
    assert_eq!(get(&cache, "a.txt"), found("one", "fwd=miss; stored"));
    fs::remove_dir_all(&folder.0).unwrap();
    assert_eq!(get(&cache, "a.txt"), found("one", "hit; ttl=-0"));
    assert_eq!(get(&cache, "b.txt").0, 503);
    std::thread::sleep(Duration::from_millis(2));
    cache.set_times(Duration::ZERO, Duration::ZERO);
    assert_eq!(get(&cache, "a.txt").0, 503);
    // It is back.
    fs::create_dir_all(&folder.0).unwrap();
    folder.write("a.txt", "two");
    assert_eq!(get(&cache, "a.txt"), found("two", "fwd=miss; stored"));
    let counts = Counts { hits: 0, misses: 2, stale: 1, failed: 2, bytes: cache.counts().bytes };
    assert_eq!(cache.counts(), counts);
}

#[test]
fn file_that_somebody_reads_again_for_too_long_is_stale_and_then_not_served() {
    let folder = Folder::new("hangs");
    folder.write("a.txt", "one");
    let cache = folder.cache(1 << 20, Duration::ZERO, LONG);
    assert_eq!(get(&cache, "a.txt"), found("one", "fwd=miss; stored"));
    // As if the folder hung for whoever is at it.
    assert!(cache.look_up("a.txt", 0).is_some_and(|(_, turn)| turn == Turn::Ours));
    assert_eq!(get(&cache, "a.txt"), found("one", "hit; ttl=-0"));
    fs::remove_dir_all(&folder.0).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    cache.set_times(Duration::ZERO, Duration::ZERO);
    assert_eq!(get(&cache, "a.txt").0, 503);
    let counts = Counts { hits: 0, misses: 1, stale: 1, failed: 1, bytes: cache.counts().bytes };
    assert_eq!(cache.counts(), counts);
}

#[test]
fn memory_is_bounded_and_what_was_asked_for_the_longest_ago_goes_first() {
    let folder = Folder::new("bounded");
    for name in ["a", "b", "c"] {
        folder.write(name, &"x".repeat(500));
    }
    folder.write("large", &"x".repeat(3000));
    let cache = folder.cache(2000, LONG, LONG);
    for name in ["a", "b", "a", "c"] {
        assert_eq!(get(&cache, name).0, 200);
    }
    assert!(cache.counts().bytes <= 2000);
    let text = "x".repeat(500);
    assert_eq!(get(&cache, "a"), found(&text, "hit"));
    assert_eq!(get(&cache, "c"), found(&text, "hit"));
    assert_eq!(get(&cache, "b"), found(&text, "fwd=miss; stored"));
    assert_eq!(get(&cache, "large").0, 503);
}

#[test]
fn client_that_has_a_file_is_told_so() {
    let folder = Folder::new("tag");
    folder.write("a.txt", &"what is said often is said short. ".repeat(100));
    let cache = folder.cache(1 << 20, LONG, LONG);
    let field = |response: &Response, name: &str| {
        let field = response.fields.iter().find(|(it, _)| *it == name);
        field.map(|(_, value)| value.clone())
    };
    let plain = block_on(cache.get("a.txt", &Accepts::default())).unwrap();
    let gzip = block_on(cache.get("a.txt", &Accepts::new(Some(b"gzip"), None))).unwrap();
    assert_eq!(field(&gzip, "Content-Encoding").as_deref(), Some("gzip"));
    let (plain, gzip) = (field(&plain, "ETag").unwrap(), field(&gzip, "ETag").unwrap());
    assert_ne!(plain, gzip);
    for (tag, encoding, expected) in [
        (&plain, None, 304),
        (&gzip, None, 200),
        (&gzip, Some(&b"gzip"[..]), 304),
        (&plain, Some(&b"gzip"[..]), 200),
    ] {
        let accepts = Accepts::new(encoding, Some(tag.as_bytes()));
        assert_eq!(block_on(cache.get("a.txt", &accepts)).unwrap().status, expected, "{tag} {encoding:?}");
    }
}

#[test]
fn folder_is_no_file() {
    let folder = Folder::new("folder");
    fs::create_dir(folder.0.join("sub")).unwrap();
    assert_eq!(get(&folder.cache(1 << 20, LONG, LONG), "sub").0, 404);
}
