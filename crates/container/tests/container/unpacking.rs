//! Unpacking of malicious layers, and of valid layers that are hard to unpack correctly.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tare_container::roots::{Cache, Keep, Root};
use tare_container::target::Target;
use tare_container::unpack::{Bounds, unpack};
use tempfile::TempDir;

use crate::fixture::{as_root, possible, write_layout};

/// An entry of a layer: kind, path, link target or content, mode.
struct Entry<'a>(tar::EntryType, &'a str, &'a str, u32);

fn file<'a>(path: &'a str, content: &'a str) -> Entry<'a> {
    Entry(tar::EntryType::Regular, path, content, 0o644)
}

fn folder(path: &str) -> Entry<'_> {
    Entry(tar::EntryType::Directory, path, "", 0o755)
}

fn symlink<'a>(path: &'a str, target: &'a str) -> Entry<'a> {
    Entry(tar::EntryType::Symlink, path, target, 0o777)
}

fn hard_link<'a>(path: &'a str, target: &'a str) -> Entry<'a> {
    Entry(tar::EntryType::Link, path, target, 0o644)
}

/// A layer with names as they are, which the crate would clean.
fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for Entry(kind, path, content, mode) in entries {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        let is_file = *kind == tar::EntryType::Regular;
        if !is_file {
            let old = header.as_old_mut();
            old.linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        if matches!(kind, tar::EntryType::Char | tar::EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_size(if is_file { content.len() as u64 } else { 0 });
        header.set_cksum();
        tar.append(&header, if is_file { content.as_bytes() } else { &[] }).unwrap();
    }
    tar.into_inner().unwrap()
}

struct Unpacked {
    folder: TempDir,
    result: Result<PathBuf, String>,
}

impl Unpacked {
    fn of(layers: &[Vec<u8>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = folder.path().join("layout");
        write_layout(&layout, layers, &json!({}));
        let target = Target::resolve(layout.to_str().unwrap(), None, folder.path()).unwrap();
        let result = Cache::new(folder.path().join("cache"), Keep::default()).rootfs(&target);
        let result = result.map(|root| root.path().to_path_buf()).map_err(|error| {
            let source = std::error::Error::source(&error).and_then(std::error::Error::source);
            source.map_or_else(|| error.to_string(), ToString::to_string)
        });
        Self { folder, result }
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.result.as_ref().unwrap().join(path)).ok()
    }
}

#[test]
fn no_name_or_link_leads_out_of_the_root() {
    if !possible() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "untouched").unwrap();
    let (out, secret_path) = (outside.path().to_str().unwrap(), secret.to_str().unwrap());
    let up = "../../../../../../../../../../../../..";
    let (up_out, up_secret) = (format!("{up}{out}"), format!("{up}{secret_path}"));
    let through = "way/secret";

    // By name.
    for name in ["../x", "a/../../x", "/../x", "./../x"] {
        let unpacked = Unpacked::of(&[layer(&[file(name, "evil")])]);
        assert_eq!(unpacked.result.unwrap_err(), format!("{name}: a path that leads up"));
    }
    // Through a link, absolute or relative, of the same or a lower layer: it ends inside the root.
    for target in [out, &up_out] {
        let one = layer(&[symlink("way", target), file(through, "evil")]);
        let two = [layer(&[symlink("way", target)]), layer(&[file(through, "evil")])];
        for layers in [vec![one], two.to_vec()] {
            let unpacked = Unpacked::of(&layers);
            assert_eq!(fs::read_to_string(&secret).unwrap(), "untouched");
            // The folder that the link names inside the root is not there.
            assert!(unpacked.result.is_err(), "{:?}", unpacked.result);
        }
    }
    // The same with that folder there: written to, inside.
    let inner = format!("{}/", out.trim_start_matches('/'));
    let unpacked = Unpacked::of(&[layer(&[folder(&inner), symlink("way", out), file(through, "inside")])]);
    assert_eq!(unpacked.read(secret_path.trim_start_matches('/')), Some("inside".to_owned()));
    assert_eq!(fs::read_to_string(&secret).unwrap(), "untouched");
    // Over a link: the link is replaced and not followed.
    let unpacked = Unpacked::of(&[layer(&[symlink("link", secret_path)]), layer(&[file("link", "new")])]);
    assert_eq!(unpacked.read("link"), Some("new".to_owned()));
    assert_eq!(fs::read_to_string(&secret).unwrap(), "untouched");
    // By hard link.
    for (target, why) in [
        (secret_path, "stolen: a hard link to what is not there"),
        (up_secret.as_str(), "stolen: a path that leads up"),
        ("way/secret", "stolen: a hard link to what is not there"),
        ("etc", "stolen: a hard link to a folder"),
    ] {
        let unpacked =
            Unpacked::of(&[layer(&[folder("etc"), symlink("way", out), hard_link("stolen", target)])]);
        assert_eq!(unpacked.result.unwrap_err(), why);
    }
    // By whiteout, name or link.
    for name in ["way/.wh.secret", "way/.wh..wh..opq"] {
        let layers = [layer(&[symlink("way", out)]), layer(&[file(name, "")])];
        drop(Unpacked::of(&layers));
        assert_eq!(fs::read_to_string(&secret).unwrap(), "untouched");
    }
    for name in [".wh...", ".wh..", ".wh."] {
        let unpacked = Unpacked::of(&[layer(&[file(name, "")])]);
        assert_eq!(unpacked.result.unwrap_err(), format!("{name}: a whiteout of nothing"));
    }
}

#[test]
fn devices_are_for_dev_alone_and_unknown_kinds_are_refused() {
    if !possible() {
        return;
    }
    for kind in [tar::EntryType::Char, tar::EntryType::Block] {
        let unpacked = Unpacked::of(&[layer(&[Entry(kind, "disk", "", 0o666)])]);
        assert_eq!(unpacked.result.unwrap_err(), "disk: a device outside /dev");
        // Distributions' images have these; a container gets a /dev of its own over them.
        let unpacked = Unpacked::of(&[layer(&[folder("dev"), Entry(kind, "dev/null", "", 0o666)])]);
        assert!(!unpacked.result.unwrap().join("dev/null").exists());
    }
    let unpacked = Unpacked::of(&[layer(&[Entry(tar::EntryType::Fifo, "pipe", "", 0o600)])]);
    assert!(unpacked.result.unwrap().join("pipe").exists());
}

#[test]
fn set_user_id_is_kept_and_out_of_reach_of_others() {
    if !possible() {
        return;
    }
    let unpacked = Unpacked::of(&[layer(&[Entry(tar::EntryType::Regular, "su", "x", 0o4755)])]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&unpacked.result.as_ref().unwrap().join("su")), 0o4755);
    assert_eq!(mode(&unpacked.folder.path().join("cache")), 0o700);
}

#[test]
fn size_and_number_are_bounded() {
    if !possible() {
        return;
    }
    assert_eq!(Bounds::for_compressed(10 << 20).bytes, 2 << 30, "10 GiB of zeros in 10 MB are refused");
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    write_layout(&layout, &[layer(&[file("a", "12345"), file("b", "12345"), file("c", "")])], &json!({}));
    let target = Target::resolve(layout.to_str().unwrap(), None, folder.path()).unwrap();
    for (bytes, entries, expected) in
        [(10, 3, None), (9, 3, Some("b: too many bytes for its size")), (10, 2, Some("c: too many entries"))]
    {
        let root = tempfile::tempdir().unwrap();
        let result = unpack(&target, root.path(), Bounds { bytes, entries }, as_root());
        let error = result.err().map(|error| error.source().unwrap().source().unwrap().to_string());
        assert_eq!(error.as_deref(), expected);
    }
}

#[test]
fn damaged_layers_and_documents_are_named_and_leave_nothing() {
    if !possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    let honest = layer(&[file("a", "12345")]);
    write_layout(&layout, std::slice::from_ref(&honest), &json!({}));
    let digest = tare_oci::digest::Digest::of(&honest);
    let blob = layout.join("blobs/sha256").join(digest.hex());
    let target = Target::resolve(layout.to_str().unwrap(), None, folder.path()).unwrap();
    let cache = folder.path().join("cache");
    let mut changed = honest.clone();
    changed[512] ^= 1;
    fs::write(&blob, &changed).unwrap();
    let place = format!("blobs/sha256/{}", digest.hex());
    let unpack = || {
        let error = Cache::new(&cache, Keep::default()).rootfs(&target).unwrap_err();
        error.source().unwrap().to_string()
    };
    let found = tare_oci::digest::Digest::of(&changed);
    assert_eq!(unpack(), format!("{place} is damaged: its digest is {found}"));
    // Cut off.
    fs::write(&blob, &honest[..700]).unwrap();
    let size = honest.len();
    assert_eq!(unpack(), format!("{place} is damaged: it has 700 bytes, its descriptor says {size}"));
    let left: Vec<_> = fs::read_dir(&cache).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
    // The config.
    let config = target.image_id.hex();
    let path = layout.join("blobs/sha256").join(&config);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("linux", "linux ").replacen("linux ", "linux", 1) + " ").unwrap();
    let said = text.len();
    let what =
        format!("blobs/sha256/{config} is damaged: it has {} bytes, its descriptor says {said}", said + 1);
    assert_eq!(refusal(&layout), what);
}

/// Why an image is refused.
fn refusal(image: &Path) -> String {
    let error = Target::resolve(image.to_str().unwrap(), None, image.parent().unwrap()).unwrap_err();
    let source = error.source().unwrap();
    match source.source() {
        Some(cause) => format!("{source}: {cause}"),
        None => source.to_string(),
    }
}

#[test]
fn what_would_hang_or_show_a_file_of_the_host_or_be_two_images_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "root:$6$hunter2:19000").unwrap();
    let layout = folder.path().join("layout");
    write_layout(&layout, &[layer(&[file("a", "1")])], &json!({}));
    let image = layout.to_str().unwrap();
    let config = Target::resolve(image, None, folder.path()).unwrap().image_id;
    let path = layout.join("blobs/sha256").join(config.hex());
    let mkfifo = |path: &Path| {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };

    let archive = folder.path().join("archive");
    mkfifo(&archive);
    let fifo = |path: &Path| format!("cannot read {}: it is a FIFO, not a regular file", path.display());
    assert_eq!(refusal(&archive), fifo(&archive));
    fs::rename(&path, folder.path().join("config")).unwrap();
    mkfifo(&path);
    assert_eq!(refusal(&layout), fifo(&path));
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&secret, &path).unwrap();
    let out = format!("cannot read {}: it is a link out of {image}", path.display());
    assert_eq!(refusal(&layout), out);
    fs::remove_file(&path).unwrap();
    fs::rename(folder.path().join("config"), &path).unwrap();

    let index = layout.join("index.json");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, text.replacen('{', r#"{"layers": [], "#, 1)).unwrap();
    assert_eq!(refusal(&layout), "index.json contradicts itself: it is an index with the field `layers`");
    fs::write(&index, text).unwrap();
    assert!(Target::resolve(image, None, folder.path()).is_ok());
}

/// A lower layer, and an upper one that changes it in every way that there is.
fn difficult() -> [Vec<u8>; 2] {
    let lower = layer(&[
        folder("keep"),
        file("keep/old", "old"),
        folder("opaque"),
        file("opaque/old", "old"),
        folder("opaque/deep"),
        file("opaque/deep/old", "old"),
        file("gone", "x"),
        folder("tree"),
        file("tree/leaf", "x"),
        file("was-file", "x"),
        folder("was-folder"),
        file("was-folder/x", "x"),
        file("one", "shared"),
        hard_link("two", "one"),
        folder("usr"),
        folder("usr/lib"),
        symlink("lib", "usr/lib"),
    ]);
    let upper = layer(&[
        file("keep/new", "new"),
        // The marker comes after what it must not hide.
        folder("opaque"),
        file("opaque/new", "new"),
        folder("opaque/deep"),
        file("opaque/deep/new", "new"),
        file("opaque/.wh..wh..opq", ""),
        file(".wh.gone", ""),
        file(".wh.tree", ""),
        file(".wh.never-was", ""),
        folder("was-file"),
        file("was-file/x", "now a folder"),
        file("was-folder", "now a file"),
        // A file that replaces one of two names leaves the other alone.
        file("one", "changed"),
        file("lib/through", "through"),
        // A whiteout is about lower layers.
        file("both", "stays"),
        file(".wh.both", ""),
    ]);
    [lower, upper]
}

/// A folder has two names where a lower layer has a link to it. A whiteout by one spares what its own layer has by
/// the other.
#[test]
fn whiteouts_follow_links_of_lower_layers_and_spare_their_own_layer() {
    if !possible() {
        return;
    }
    let below = || {
        layer(&[
            folder("usr"),
            folder("usr/lib"),
            file("usr/lib/old", "old"),
            file("usr/lib/both", "old"),
            symlink("lib", "usr/lib"),
        ])
    };
    let of = |upper: &[u8]| Unpacked::of(&[below(), upper.to_vec()]);
    let unpacked =
        of(&layer(&[file("usr/lib/both", "new"), file("lib/.wh.both", ""), file("lib/.wh.old", "")]));
    assert_eq!(unpacked.read("usr/lib/both").as_deref(), Some("new"));
    assert_eq!(unpacked.read("usr/lib/old"), None);
    let unpacked = of(&layer(&[file("lib/both", "new"), file("usr/lib/.wh..wh..opq", "")]));
    assert_eq!(unpacked.read("lib/both").as_deref(), Some("new"));
    assert_eq!(unpacked.read("usr/lib/old"), None);
}

#[test]
fn layers_lie_over_each_other_as_the_specification_says() {
    if !possible() {
        return;
    }
    let unpacked = Unpacked::of(&difficult());
    let expected = [
        ("keep/old", Some("old")),
        ("keep/new", Some("new")),
        ("opaque/old", None),
        ("opaque/new", Some("new")),
        ("opaque/deep/old", None),
        ("opaque/deep/new", Some("new")),
        ("gone", None),
        ("tree/leaf", None),
        ("was-file/x", Some("now a folder")),
        ("was-folder", Some("now a file")),
        ("one", Some("changed")),
        ("two", Some("shared")),
        ("usr/lib/through", Some("through")),
        ("both", Some("stays")),
    ];
    for (path, content) in expected {
        assert_eq!(unpacked.read(path).as_deref(), content, "{path}");
    }
    let root = unpacked.result.unwrap();
    assert!(!root.join("tree").exists() && fs::read_link(root.join("lib")).unwrap() == Path::new("usr/lib"));
    assert_eq!(fs::metadata(root.join("keep")).unwrap().mtime(), 1_700_000_000);
}

#[test]
fn runs_at_the_same_time_share_one_root() {
    if !possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    write_layout(&layout, &[layer(&[file("a", "1")])], &json!({}));
    let (layout, cache) = (layout.to_str().unwrap().to_owned(), folder.path().join("cache"));
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let (layout, cache, temporary) = (layout.clone(), cache.clone(), folder.path().to_path_buf());
            std::thread::spawn(move || {
                let target = Target::resolve(&layout, None, &temporary).unwrap();
                let cache = Cache::new(cache, Keep::default());
                cache.rootfs(&target).unwrap().path().to_path_buf()
            })
        })
        .collect();
    let roots: Vec<PathBuf> = runs.into_iter().map(|run| run.join().unwrap()).collect();
    assert!(roots.iter().all(|root| root == &roots[0]));
    let mut text = String::new();
    fs::File::open(roots[0].join("a")).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "1");
}

#[test]
fn what_was_used_longest_ago_goes_and_what_is_in_use_stays() {
    if !possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = |name: &str| {
        let layout = folder.path().join(name);
        write_layout(&layout, &[layer(&[file("name", name)])], &json!({}));
        Target::resolve(layout.to_str().unwrap(), None, folder.path()).unwrap()
    };
    let cache = folder.path().join("cache");
    let a_day = Duration::from_secs(24 * 60 * 60);
    let use_ = |name: &str, keep| Cache::new(&cache, keep).rootfs(&image(name)).unwrap();
    let everything = Keep { bytes: u64::MAX, age: 100 * a_day };
    let unused_for = |root: &Root, days: u32| {
        let record = fs::File::options().append(true).open(root.path().with_extension("used")).unwrap();
        record.set_modified(record.metadata().unwrap().modified().unwrap() - days * a_day).unwrap();
    };
    let left = || {
        let names = fs::read_dir(&cache).unwrap().map(|it| it.unwrap().path());
        let mut names: Vec<String> =
            names.filter_map(|it| fs::read_to_string(it.join("name")).ok()).collect();
        names.sort();
        names.join(" ")
    };
    // Made in the order of their names, and used last in another.
    let [a, b, c] = ["a", "b", "c"].map(|name| use_(name, everything));
    unused_for(&a, 3);
    unused_for(&b, 2);
    unused_for(&c, 9);
    let of_one: u64 = fs::read_to_string(a.path().with_extension("used")).unwrap().parse().unwrap();
    // By size: two may stay. The oldest, `c`, is in use.
    drop((a, b));
    let d = use_("d", Keep { bytes: 2 * of_one, ..everything });
    assert_eq!(left(), "c d");
    // By age: a use makes it young.
    unused_for(&d, 8);
    drop((c, d));
    drop(use_("d", everything));
    let e = use_("e", Keep { age: 5 * a_day, ..everything });
    assert_eq!(left(), "d e");
    // However little is kept, what was asked for is there.
    drop(e);
    let f = use_("f", Keep { bytes: 0, age: Duration::ZERO });
    assert_eq!(left(), "f");
    // Nothing is left of the others.
    let mut names: Vec<_> = fs::read_dir(&cache).unwrap().map(|it| it.unwrap().path()).collect();
    names.sort();
    let mut expected = vec![cache.join("lock"), f.path().to_path_buf(), f.path().with_extension("used")];
    expected.sort();
    assert_eq!(names, expected);
}

/// What two unpackers must agree about, by path: everything but what only one of them claims.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    // The first name of every file that has several.
    let mut first: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let mut paths: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|it| it.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let data = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            let content = if data.is_file() {
                let same = first.entry(data.ino()).or_insert_with(|| name.clone());
                format!("{:?} {:?}", same, fs::read(&path).unwrap())
            } else if data.is_symlink() {
                format!("-> {:?}", fs::read_link(&path).unwrap())
            } else {
                folders.push(path.clone());
                String::new()
            };
            let facts = (data.mode(), data.uid(), data.gid(), data.mtime());
            found.insert(name, format!("{facts:?} {content}"));
        }
    }
    found
}

#[test]
fn umoci_unpacks_the_same() {
    if !as_root() || std::process::Command::new("umoci").arg("--version").output().is_err() {
        let why = b"left out: umoci is not installed, or this is not root\n";
        std::io::Write::write_all(&mut std::io::stderr(), why).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    let [lower, upper] = difficult();
    let directory = tar::EntryType::Directory;
    let modes = layer(&[
        Entry(directory, "tmp", "", 0o1777),
        Entry(directory, "closed", "", 0o500),
        Entry(tar::EntryType::Regular, "closed/program", "#!", 0o6755),
        hard_link("closed/again", "closed/program"),
        Entry(directory, "opaque", "", 0o700),
        file("opaque/third", "third"),
    ]);
    write_layout(&layout, &[lower, upper, modes], &json!({}));
    // umoci names images.
    let index = layout.join("index.json");
    let mut named: serde_json::Value = serde_json::from_str(&fs::read_to_string(&index).unwrap()).unwrap();
    named["manifests"][0]["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    fs::write(&index, named.to_string()).unwrap();
    let bundle = folder.path().join("bundle");
    let umoci = std::process::Command::new("umoci")
        .args(["unpack", "--image", &format!("{}:latest", layout.display())])
        .arg(&bundle)
        .output()
        .unwrap();
    assert!(umoci.status.success(), "{}", String::from_utf8_lossy(&umoci.stderr));
    let target = Target::resolve(layout.to_str().unwrap(), None, folder.path()).unwrap();
    let root = Cache::new(folder.path().join("cache"), Keep::default()).rootfs(&target).unwrap();
    let (ours, mut theirs) = (tree(root.path()), tree(&bundle.join("rootfs")));
    // It empties this folder after it has set its time, and does not set it again.
    let emptied = Path::new("opaque/deep");
    assert!(theirs[emptied].starts_with("(16877, 0, 0, "), "{}", theirs[emptied]);
    theirs.insert(emptied.to_path_buf(), ours[emptied].clone());
    assert_eq!(ours, theirs);
}
