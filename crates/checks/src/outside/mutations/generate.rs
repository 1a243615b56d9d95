//! Layouts and archives with one thing changed, from a small image that is made here. The same seed makes the same ones.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};
use tare_oci::compress::{Compression, Pool};
use tare_oci::digest::Digest;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A layout or an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Layout,
    Archive,
}

/// One changed image.
pub(super) struct Case {
    /// What is changed.
    pub(super) name: String,
    pub(super) form: Form,
    write: Write,
}

/// Writes an image to the first path; the second is the path of a secret, to which the image may point.
type Write = Box<dyn Fn(&Path, &Path) -> anyhow::Result<()>>;

impl Case {
    /// Writes it. `secret` is a file that it must not show.
    pub(super) fn write(&self, place: &Path, secret: &Path) -> anyhow::Result<()> {
        (self.write)(place, secret).with_context(|| format!("cannot write {}", place.display()))
    }
}

/// Marsaglia's xorshift64: which changes are tried depends on the seed alone.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// The image before its change, in parts.
#[derive(Clone)]
struct Image {
    tar: Vec<u8>,
    /// The layer as it is stored, if it is not the tar.
    blob: Option<Vec<u8>>,
    layer_type: String,
    config: Value,
    manifest: Value,
    index: Value,
}

/// The documents of an image before it is written. Digests and sizes are computed after a change, so they match it.
struct Documents {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
    index: Vec<u8>,
}

type Change = Box<dyn Fn(&mut Value)>;

impl Image {
    fn new() -> Self {
        let tar = tar(&[
            entry("etc/", b'5', b"", b""),
            entry("etc/passwd", b'0', b"", b"root:x:0:0:root:/root:/sbin/nologin\n"),
            entry("link", b'2', b"etc/passwd", b""),
            entry("hard", b'1', b"etc/passwd", b""),
        ]);
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": "2023-11-14T22:13:20Z",
            "config": { "User": "65534:65534", "Env": ["PATH=/bin"], "Entrypoint": ["/bin/app"],
                        "WorkingDir": "/", "ExposedPorts": { "8080/tcp": {} }, "Labels": { "a": "b" } },
            "rootfs": { "type": "layers", "diff_ids": [] },
            "history": [{ "created": "2023-11-14T22:13:20Z", "created_by": "a test" }],
        });
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": {}, "layers": [{}] });
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "platform": { "os": "linux", "architecture": "amd64" },
                "annotations": { "org.opencontainers.image.ref.name": "latest" },
            }],
        });
        Self { tar, blob: None, layer_type: LAYER.to_owned(), config, manifest, index }
    }

    fn with_tar(tar: Vec<u8>) -> Self {
        Self { tar, ..Self::new() }
    }

    /// The documents, each changed before its digest is taken.
    fn documents(&self, changes: [Option<&Change>; 3]) -> Documents {
        let of = |media_type: &str, bytes: &[u8]| json!({ "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len() });
        let layer = self.blob.clone().unwrap_or_else(|| self.tar.clone());
        let mut config = self.config.clone();
        config["rootfs"]["diff_ids"] = json!([Digest::of(&self.tar)]);
        let text = |mut document: Value, change: Option<&Change>| {
            if let Some(change) = change {
                change(&mut document);
            }
            document.to_string().into_bytes()
        };
        let config = text(config, changes[0]);
        let mut manifest = self.manifest.clone();
        manifest["config"] = of(CONFIG, &config);
        manifest["layers"][0] = of(&self.layer_type, &layer);
        let manifest = text(manifest, changes[1]);
        let mut index = self.index.clone();
        for (key, value) in of(MANIFEST, &manifest).as_object().into_iter().flatten() {
            index["manifests"][0][key] = value.clone();
        }
        let index = text(index, changes[2]);
        Documents { layer, config, manifest, index }
    }
}

impl Documents {
    /// The files of a layout by name.
    fn files(&self) -> Vec<(String, &[u8])> {
        let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
        let mut files: Vec<(String, &[u8])> = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#),
            ("index.json".to_owned(), &self.index),
        ];
        files
            .extend([&self.layer, &self.config, &self.manifest].map(|bytes| (blob(bytes), bytes.as_slice())));
        files
    }

    fn write(&self, place: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(place.join("blobs/sha256"))?;
        for (name, bytes) in self.files() {
            fs::write(place.join(name), bytes)?;
        }
        Ok(())
    }

    fn archive(&self) -> Vec<Vec<u8>> {
        let folders = [entry("blobs/", b'5', b"", b""), entry("blobs/sha256/", b'5', b"", b"")];
        let files = self.files();
        folders.into_iter().chain(files.iter().map(|(name, bytes)| entry(name, b'0', b"", bytes))).collect()
    }
}

fn layout(name: impl Into<String>, documents: Documents) -> Case {
    Case { name: name.into(), form: Form::Layout, write: Box::new(move |place, _| documents.write(place)) }
}

fn archive(name: impl Into<String>, bytes: Vec<u8>) -> Case {
    Case {
        name: name.into(),
        form: Form::Archive,
        write: Box::new(move |place, _| Ok(fs::write(place, &bytes)?)),
    }
}

/// A header and its content, up to a whole block.
fn entry(name: &str, flag: u8, link: &[u8], content: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
    block[100..108].copy_from_slice(if flag == b'5' { b"0000755\0" } else { b"0000644\0" });
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    block[136..148].copy_from_slice(b"00000000001\0");
    block[156] = flag;
    let link = &link[..link.len().min(100)];
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block.extend_from_slice(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

/// Puts the checksum into a header.
fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length =
            (1..=9).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
        bytes.extend_from_slice(format!("{} {key}=", length.unwrap_or(rest)).as_bytes());
        bytes.extend_from_slice(value);
        bytes.push(b'\n');
    }
    entry("pax", b'x', b"", &bytes)
}

fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

/// All of them.
pub(super) fn cases(seed: u64) -> anyhow::Result<Vec<Case>> {
    let mut random = Random(seed);
    let plain = || Image::new().documents([None; 3]);
    let mut cases = vec![layout("unchanged", plain()), archive("unchanged", tar(&plain().archive()))];
    documents(&mut random, &mut cases);
    tars(&mut random, &mut cases);
    compressions(&mut cases)?;
    blobs(&mut cases);
    archives(&mut random, &mut cases);
    Ok(cases)
}

/// The pointers (RFC 6901) of every value in a document.
fn pointers(document: &Value, at: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match document {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.replace('/', "~1"), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (key, value) in children {
        let pointer = format!("{at}/{key}");
        found.push(pointer.clone());
        pointers(value, &pointer, found);
    }
}

fn remove(document: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
    match document.pointer_mut(parent) {
        Some(Value::Object(fields)) => drop(fields.remove(&key.replace("~1", "/"))),
        Some(Value::Array(items)) => drop(key.parse().map(|at: usize| items.remove(at))),
        _ => {}
    }
}

/// Two random changes of every value in config, manifest and index.
fn documents(random: &mut Random, cases: &mut Vec<Case>) {
    let base = Image::new().documents([None; 3]);
    let texts = [("config", &base.config), ("manifest", &base.manifest), ("index", &base.index)];
    for (which, (name, text)) in texts.into_iter().enumerate() {
        let document: Value = serde_json::from_slice(text).unwrap_or_default();
        let mut found = Vec::new();
        pointers(&document, "", &mut found);
        // Others find the image by its name.
        found.retain(|pointer| !pointer.contains("annotations"));
        for pointer in found {
            let values =
                [Value::Null, json!(-1), json!(7), json!("x"), json!([]), json!({}), json!([[]]), json!("")];
            let first = random.below(values.len());
            for at in
                [Some(first), if random.below(2) == 0 { None } else { Some((first + 3) % values.len()) }]
            {
                let (pointer, value) = (pointer.clone(), at.map(|at| values[at].clone()));
                let shown = value.as_ref().map_or("removed".to_owned(), Value::to_string);
                let case = format!("{name}{pointer}: {shown}");
                let change: Change = Box::new(move |document| match &value {
                    Some(value) => {
                        if let Some(place) = document.pointer_mut(&pointer) {
                            place.clone_from(value);
                        }
                    }
                    None => remove(document, &pointer),
                });
                let mut changes = [None; 3];
                changes[which] = Some(&change);
                cases.push(layout(case, Image::new().documents(changes)));
            }
        }
    }
}

/// Layers whose headers are wrong, or mean different things to different programs.
fn tars(random: &mut Random, cases: &mut Vec<Case>) {
    let file = || entry("a", b'0', b"", b"");
    let hidden = || entry("hidden", b'0', b"", b"");
    let mut negative = file();
    negative[124..136].fill(0xff);
    seal(&mut negative);
    let listed: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("size -1", vec![pax(&[("size", b"-1")]), file(), hidden()]),
        ("size +512", vec![pax(&[("size", b"+512")]), file(), hidden()]),
        ("size of no number", vec![pax(&[("size", b"x")]), file()]),
        ("size of 2^64", vec![pax(&[("size", b"18446744073709551616")]), file()]),
        ("size of 2^63-1", vec![pax(&[("size", b"9223372036854775807")]), file()]),
        ("size twice", vec![pax(&[("size", b"512"), ("size", b"0")]), file(), hidden()]),
        ("uid -5", vec![pax(&[("uid", b"-5")]), file()]),
        ("mtime of no number", vec![pax(&[("mtime", b"1e99")]), file()]),
        ("mtime before 1970", vec![pax(&[("mtime", b"-1.5")]), file()]),
        ("path twice", vec![pax(&[("path", b"b"), ("path", b"../evil")]), file()]),
        ("path empty", vec![pax(&[("path", b"")]), file()]),
        ("path with NUL", vec![pax(&[("path", b"a\0b")]), file()]),
        ("path with a line feed", vec![pax(&[("path", b"a\nb")]), file()]),
        ("xattr with a line feed", vec![pax(&[("SCHILY.xattr.user.a", b"\n\n")]), file()]),
        ("record without a length", vec![entry("x", b'x', b"", b"path=a\n"), file()]),
        ("record too long", vec![entry("x", b'x', b"", b"99 path=a\n"), file()]),
        ("record without an end", vec![entry("x", b'x', b"", b"8 path=a\n"), file()]),
        (
            "sparse in pax, form 1.0",
            vec![
                pax(&[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.name", b"e"),
                    ("GNU.sparse.realsize", b"10"),
                ]),
                entry("GNUSparseFile.0/e", b'0', b"", &[&b"1\n2\n3\n"[..], &[0; 506], b"abc"].concat()),
            ],
        ),
        (
            "sparse in pax, form 0.1",
            vec![
                pax(&[
                    ("GNU.sparse.size", b"10"),
                    ("GNU.sparse.numblocks", b"1"),
                    ("GNU.sparse.map", b"2,3"),
                    ("GNU.sparse.name", b"e"),
                ]),
                entry("GNUSparseFile.0/e", b'0', b"", b"abc"),
            ],
        ),
        (
            "sparse in pax without a map",
            vec![
                pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.name", b"../e")]),
                file(),
            ],
        ),
        ("two pax headers", vec![pax(&[("path", b"b")]), pax(&[("path", b"c")]), file()]),
        ("pax alone", vec![pax(&[("path", b"b")])]),
        ("global comment", vec![entry("g", b'g', b"", b"13 comment=a\n"), file()]),
        ("global path", vec![entry("g", b'g', b"", b"10 path=b\n"), file()]),
        ("long name of GNU's", vec![entry("L", b'L', b"", b"long\0"), file()]),
        ("path and long name", vec![pax(&[("path", b"b")]), entry("L", b'L', b"", b"c\0"), file()]),
        ("folder with content", vec![entry("d/", b'5', b"", &[0; 512]), hidden()]),
        ("link with content", vec![entry("l", b'2', b"a", &[7; 512]), hidden()]),
        ("zeros before an entry", vec![file(), vec![0; 512], hidden()]),
        ("negative size in the header", vec![negative]),
        ("path upwards", vec![entry("../evil", b'0', b"", b"x")]),
        ("path from the root", vec![entry("/a", b'0', b"", b"x")]),
        ("hard link upwards", vec![entry("h", b'1', b"../../../../etc/passwd", b"")]),
        ("hard link to nothing", vec![entry("h", b'1', b"nothing", b"")]),
        ("link to nothing", vec![entry("l", b'2', b"", b"")]),
        ("path twice in the layer", vec![entry("a", b'0', b"", b"1"), entry("a", b'0', b"", b"2")]),
        ("unknown type", vec![entry("a", b'Z', b"", b"")]),
        ("without a name", vec![entry("", b'0', b"", b"")]),
        ("whiteout", vec![entry(".wh.a", b'0', b"", b""), entry("d/.wh..wh..opq", b'0', b"", b"")]),
        ("pipe", vec![entry("pipe", b'6', b"", b"")]),
    ];
    for (name, entries) in listed {
        cases.push(layout(format!("layer: {name}"), Image::with_tar(tar(&entries)).documents([None; 3])));
    }
    let whole = Image::new().tar;
    for length in [0, 100, 512, 1023, 1500, whole.len() - 1024, whole.len() - 512, whole.len() - 1] {
        let cut = Image::with_tar(whole[..length].to_vec());
        cases.push(layout(format!("layer: {length} of its bytes"), cut.documents([None; 3])));
    }
    for number in 0..24 {
        let mut flipped = whole.clone();
        // A header is five blocks of six here, and its first 265 bytes mean something.
        let (block, at) = ([0, 512, 1536, 2048][random.below(4)], random.below(265));
        flipped[block + at] ^= 1 << random.below(8);
        let sealed = number % 2 == 0;
        if sealed {
            seal(&mut flipped[block..block + 512]);
        }
        let name = format!(
            "layer: a bit of byte {at} of the header at {block}{}",
            if sealed { ", sealed" } else { "" }
        );
        cases.push(layout(name, Image::with_tar(flipped).documents([None; 3])));
    }
}

fn compressed(bytes: &[u8], compression: Compression) -> anyhow::Result<Vec<u8>> {
    use std::io::Write as _;
    let pool = Pool::start(1);
    let mut encoder = pool.encoder(compression, bytes.len() as u64, Vec::new());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.0)
}

/// Layers that are compressed, in several parts or damaged.
fn compressions(cases: &mut Vec<Case>) -> anyhow::Result<()> {
    let tar = Image::new().tar;
    let halves = tar.split_at(tar.len() / 2);
    for (suffix, compression) in [("gzip", Compression::Gzip(6)), ("zstd", Compression::Zstd(3))] {
        let whole = compressed(&tar, compression)?;
        let parts = [compressed(halves.0, compression)?, compressed(halves.1, compression)?].concat();
        let skippable = b"\x50\x2a\x4d\x18\x04\0\0\0skip";
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x10;
        let mut variants = vec![
            ("whole", whole.clone()),
            ("in two parts", parts),
            ("cut short", whole[..whole.len() - 9].to_vec()),
            ("with a flipped bit", flipped),
            ("with bytes behind it", [&whole[..], b"behind"].concat()),
        ];
        if suffix == "zstd" {
            variants.push(("with a frame to skip first", [&skippable[..], &whole].concat()));
            variants.push(("with a frame to skip last", [&whole[..], skippable].concat()));
        }
        for (name, blob) in variants {
            let image = Image { blob: Some(blob), layer_type: format!("{LAYER}+{suffix}"), ..Image::new() };
            cases.push(layout(format!("{suffix} {name}"), image.documents([None; 3])));
        }
    }
    let image = Image { layer_type: format!("{LAYER}+gzip"), ..Image::new() };
    cases.push(layout("a tar called gzip", image.documents([None; 3])));
    Ok(())
}

/// Files of a layout that are missing, damaged, or links out of it.
fn blobs(cases: &mut Vec<Case>) {
    type Act = fn(&Path, &Path) -> std::io::Result<()>;
    let acts: [(&str, Act); 5] = [
        ("missing", |path, _| fs::remove_file(path)),
        ("cut short", |path, _| {
            let bytes = fs::read(path)?;
            fs::write(path, &bytes[..bytes.len() / 2])
        }),
        ("flipped", |path, _| {
            let mut bytes = fs::read(path)?;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes)
        }),
        ("a link to a secret", |path, secret| {
            fs::remove_file(path)?;
            symlink(secret, path)
        }),
        ("a folder", |path, _| {
            fs::remove_file(path)?;
            fs::create_dir(path)
        }),
    ];
    for (what, act) in acts {
        for (place, shown) in
            ["oci-layout", "index.json", "the layer", "the config", "the manifest"].iter().enumerate()
        {
            let write = move |folder: &Path, secret: &Path| {
                let documents = Image::new().documents([None; 3]);
                documents.write(folder)?;
                let name = documents.files()[place].0.clone();
                Ok(act(&folder.join(name), secret)?)
            };
            cases.push(Case { name: format!("{shown}: {what}"), form: Form::Layout, write: Box::new(write) });
        }
    }
}

/// Archives with entries that lead out, stand twice, or are damaged.
fn archives(random: &mut Random, cases: &mut Vec<Case>) {
    let documents = Image::new().documents([None; 3]);
    let whole = tar(&documents.archive());
    let with = |name: &str, added: Vec<u8>, first: bool| {
        let mut entries = documents.archive();
        entries.insert(if first { 0 } else { entries.len() }, added);
        archive(format!("archive: {name}"), tar(&entries))
    };
    let empty_index = br#"{"schemaVersion":2,"manifests":[]}"#;
    cases.push(with("../evil", entry("../evil", b'0', b"", b"x"), false));
    cases.push(with("a/../../evil", entry("a/../../evil", b'0', b"", b"x"), true));
    cases.push(with("index.json twice", entry("index.json", b'0', b"", empty_index), false));
    cases.push(with("./index.json first", entry("./index.json", b'0', b"", empty_index), true));
    cases.push(with("x/../index.json", entry("x/../index.json", b'0', b"", empty_index), false));
    cases.push(with("another folder", entry("more/", b'5', b"", b""), false));
    cases.push(with("another file", entry("more", b'0', b"", b"x"), false));
    cases.push(with("a hard link out", entry("more", b'1', b"../../../../etc/passwd", b""), false));
    cases.push(with("size -1", [pax(&[("size", b"-1")]), entry("more", b'0', b"", b"")].concat(), false));
    cases.push(with("manifest.json of nothing", entry("manifest.json", b'0', b"", b"[]"), false));
    for name in ["index.json", "oci-layout"] {
        let write = move |place: &Path, secret: &Path| {
            let documents = Image::new().documents([None; 3]);
            let mut entries = documents.archive();
            let at = 2 + documents.files().iter().position(|(file, _)| file == name).unwrap_or(0);
            let target = secret.display().to_string();
            entries[at] = entry(name, b'2', target.as_bytes(), b"");
            Ok(fs::write(place, tar(&entries))?)
        };
        let name = format!("archive: {name} is a link to a secret");
        cases.push(Case { name, form: Form::Archive, write: Box::new(write) });
    }
    for length in [0, 511, 1536, whole.len() / 2, whole.len() - 1024] {
        cases.push(archive(format!("archive: {length} of its bytes"), whole[..length].to_vec()));
    }
    for number in 0..12 {
        let mut flipped = whole.clone();
        let (block, at) = (512 * random.below(3), random.below(265));
        flipped[block + at] ^= 1 << random.below(8);
        if number % 2 == 0 {
            seal(&mut flipped[block..block + 512]);
        }
        cases.push(archive(format!("archive: a bit of byte {} ({number})", block + at), flipped));
    }
}
