//! Writes the samples that the fuzzer starts from into `corpus/`: small, whole, and of every kind that is
//! met, so that it has something to break.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tiny_elf::Elf;
use tare_oci::audit;
use tare_oci::elf::strip;
use tare_oci::blob::BlobSource;
use tare_oci::compress::{Compression, Pool};
use tare_oci::image::{Image, Index, Parts};
use tare_oci::capabilities::Capabilities;
use tare_oci::entry::{Content, Entry, EntryKind, InMemory, Owner};
use tare_oci::layer::{self, LayerPlan, Packed};
use tare_oci::platform::Platform;
use tare_oci::spec::Config;
use tare_oci::{archive, layout};
use tare_oci::units::Epoch;
use xtask_tare_fuzz::CUT;

#[path = "../xtask/tests/command/tiny_elf.rs"]
mod tiny_elf;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result {
    let programs = programs()?;
    let tars = tars(&programs[0])?;
    write("elf", &programs)?;
    write("size", &programs)?;
    write("definition", &definitions())?;
    write("settings", &settings())?;
    write("request", &requests())?;
    write("response", &responses())?;
    write("layout", &layouts(&tars)?)?;
    write("archive", &archives(&programs[0], &tars)?)
}

/// One of every framing; what the first byte means stands in the target.
fn responses() -> Vec<Vec<u8>> {
    let answers = [
        "\x40HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHelloHTTP/1.1 204 N\r\n\r\n",
        "\x60HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nHel\r\n2;a=b\r\nlo\r\n0\r\nx: y\r\n\r\n",
        "\x20HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nHello",
        "\x21HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
    ];
    answers.map(|answer| answer.as_bytes().to_vec()).to_vec()
}

/// Settings of every kind.
fn settings() -> Vec<Vec<u8>> {
    let shown = app::config::Layers::new().show();
    [shown.as_str(), "port = 1 # one\nlinger = '5m'\npin = true\n", "a.b = [1, {c = 2}]\n"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}

/// Heads, and a chunked body without one.
fn requests() -> Vec<Vec<u8>> {
    let parts = [
        "GET /a?b HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\nAccept-Encoding: br;q=1, gzip\r\n\r\n",
        "POST http://a/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
        "5;a=b;c=\"\\\"d\"\r\nhello\r\n00A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
    ];
    parts.map(|text| text.as_bytes().to_vec()).to_vec()
}

fn write(target: &str, samples: &[Vec<u8>]) -> Result {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&dir)?;
    for (number, sample) in samples.iter().enumerate() {
        fs::write(dir.join(format!("sample-{number}")), sample)?;
    }
    writeln!(std::io::stdout(), "{}: {} samples", dir.display(), samples.len())?;
    Ok(())
}

/// The first lists its crates.
fn programs() -> Result<Vec<Vec<u8>>> {
    let crates = r#"{"packages":[{"name":"a","version":"1.0.0","source":"local","root":true}],"format":1}"#;
    let mut programs = vec![with_audit_data(&audit::encode(&crates.parse()?)?)];
    // What cannot be rewritten is a sample too.
    programs.extend(strip(&programs[0], None));
    programs.extend([Elf::STATIC, Elf::STATIC_ARM64, Elf::DYNAMIC, Elf::NEEDS_LIBRARY].map(Elf::bytes));
    Ok(programs)
}

/// A program of no code with the sections `.dep-v0` and `.shstrtab` (System V ABI, "Sections").
fn with_audit_data(data: &[u8]) -> Vec<u8> {
    const NAMES: &[u8] = b"\0.dep-v0\0.shstrtab\0";
    let data_at = 64;
    let names_at = data_at + data.len();
    let sections_at = (names_at + NAMES.len()).next_multiple_of(8);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for value in [0, 0, sections_at as u64] {
        file.extend_from_slice(&value.to_le_bytes());
    }
    file.extend_from_slice(&[0; 4]);
    for value in [64_u16, 56, 0, 64, 3, 2] {
        file.extend_from_slice(&value.to_le_bytes());
    }
    file.extend_from_slice(data);
    file.extend_from_slice(NAMES);
    file.resize(sections_at, 0);
    for (name, kind, at, size) in
        [(0_u32, 0_u32, 0, 0), (1, 1, data_at, data.len()), (9, 3, names_at, NAMES.len())]
    {
        file.extend_from_slice(&name.to_le_bytes());
        file.extend_from_slice(&kind.to_le_bytes());
        for value in [0, 0, at as u64, size as u64, 0, u64::from(kind != 0), 0] {
            file.extend_from_slice(&value.to_le_bytes());
        }
    }
    file
}

fn definitions() -> Vec<Vec<u8>> {
    [
        "platforms = [\"linux/amd64\", \"linux/arm64\"]\n[build]\npackage = \"a\"\nbin = \"b\"\nprofile = \"c\"\nfeatures = [\"d\"]\ndefault-features = false\naudit = true\nstatic = false\n",
        "[build]\ncommand = [\"make\"]\noutput = \"out/server\"\n",
        "[config]\nentrypoint = [\"/a\"]\ncmd = [\"b\"]\nenv = { A = \"1\" }\nuser = \"1:2\"\nworking-dir = \"/\"\nexposed-ports = [80, \"53/udp\"]\nvolumes = [\"/v\"]\nlabels = { a = \"b\" }\nstop-signal = \"SIGTERM\"\nhealthcheck = { test = [\"CMD\", \"/a\"], interval = \"1m30s\", timeout = \"3s\", start-period = \"5s\", start-interval = \"1s\", retries = 3 }\n",
        "[[layers]]\nname = \"base\"\nentries = [{ ca-certificates = true }, { zoneinfo = \"/z\" }, { skeleton = true }]\n[[layers]]\nname = \"b\"\nentries = [{ binary = true, mode = \"0555\", owner = 0, capabilities = \"cap_chown=ep\" }, { dir = \"/d\" }, { file = \"/f\", from = \"g\" }, { symlink = \"/s\", to = \"t\" }, { tree = \"/t\", from = \"u\" }]\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Tars of every kind of entry and header.
fn tars(program: &[u8]) -> Result<Vec<Vec<u8>>> {
    let plan = plan(program)?;
    let ours = layer::write(&plan, Compression::None, &Pool::start(1), Vec::new())?.out;
    let mut gnu = tar::Builder::new(Vec::new());
    let header = |kind| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(0);
        header
    };
    for kind in
        [tar::EntryType::Directory, tar::EntryType::Char, tar::EntryType::Fifo, tar::EntryType::Regular]
    {
        gnu.append_data(&mut header(kind), "long/".repeat(30) + "name", &b""[..])?;
    }
    gnu.append_link(&mut header(tar::EntryType::Link), "hard", "to/".repeat(50))?;
    let mut sparse = header(tar::EntryType::GNUSparse);
    if let Some(gnu) = sparse.as_gnu_mut() {
        gnu.realsize = *b"00000001000\0";
        gnu.sparse[0].offset = *b"00000001000\0";
        gnu.sparse[0].numbytes = *b"00000000000\0";
    }
    gnu.append_data(&mut sparse, "sparse", &b""[..])?;
    Ok(vec![ours, gnu.into_inner()?])
}

fn plan(program: &[u8]) -> Result<LayerPlan> {
    let entry = |path: &str, kind, mode| -> Result<Entry> {
        Ok(Entry {
            path: path.parse()?,
            kind,
            mode,
            owner: Owner { uid: 3_000_000, gid: 0 },
            mtime: Epoch::ZERO,
            capabilities: None,
        })
    };
    let capabilities = "cap_net_raw=ep".parse::<Capabilities>().ok().map(Into::into);
    let program = EntryKind::File(Content::Bytes(InMemory::new(program.into())));
    let entries = vec![
        entry("/app", EntryKind::Directory, 0o755)?,
        Entry { capabilities, ..entry("/app/größe", program, 0o555)? },
        entry("/link", EntryKind::Symlink(b"app".as_slice().into()), 0o777)?,
    ];
    Ok(LayerPlan { name: "a".to_owned(), entries })
}

/// In the form of the target `layout`: manifest, config, layer.
fn layouts(tars: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"@1","size":#1},"layers":[{"mediaType":"MEDIA-TYPE","digest":"@2","size":#2}]}"#;
    const CONFIG: &str = r#"{"created":"2023-11-14T22:13:20Z","architecture":"amd64","os":"linux","config":{"User":"1:2","ExposedPorts":{"8080/tcp":{}},"Env":["A=1"],"Entrypoint":["/a"],"Healthcheck":{"Test":["CMD","/a"],"Interval":1}},"rootfs":{"type":"layers","diff_ids":["~2"]},"history":[{"created_by":"x"}]}"#;
    let mut layouts = Vec::new();
    for tar in tars {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(tar)?;
        let zstd = zstd::bulk::compress(tar, 1)?;
        for (compression, layer) in [
            (Compression::None, tar.clone()),
            (Compression::Gzip(1), gzip.finish()?),
            (Compression::Zstd(1), zstd),
        ] {
            let manifest = MANIFEST.replace("MEDIA-TYPE", compression.media_type().as_ref());
            layouts.push([manifest.as_bytes(), CONFIG.as_bytes(), &layer].join(CUT));
        }
    }
    Ok(layouts)
}

/// Of ours, and of docker before it knew layouts.
fn archives(program: &[u8], tars: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let plan = plan(program)?;
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/samples");
    fs::create_dir_all(&dir)?;
    let mut archives = Vec::new();
    for compression in [Compression::None, Compression::Gzip(1)] {
        let Packed { layer, out, .. } = layer::write(&plan, compression, &Pool::start(1), Vec::new())?;
        let blob: PathBuf = dir.join("layer");
        fs::write(&blob, out)?;
        let parts = Parts {
            platform: Platform::LinuxAmd64,
            base: Default::default(),
            execution: Config::default(),
            healthcheck: None,
            author: None,
            created: Epoch::ZERO,
            annotations: Default::default(),
            layers: vec![(layer, BlobSource::File(blob))],
        };
        let index = Index::new(vec![Image::new(parts)?], Default::default())?;
        let tags = ["app:1".parse()?];
        let json = layout::index_json(&index, &tags)?;
        let mut bytes = Vec::new();
        archive::write(&index, &json, &tags, &mut bytes)?;
        archives.push(bytes);
    }
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let manifest = br#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    let mut docker = tar::Builder::new(Vec::new());
    for (path, bytes) in [("a/layer.tar", &tars[1][..]), ("c.json", config), ("manifest.json", manifest)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        docker.append_data(&mut header, path, bytes)?;
    }
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    docker.append_link(&mut link, "b/layer.tar", "../a/layer.tar")?;
    archives.push(docker.into_inner()?);
    Ok(archives)
}
