//! Whole images, made as others make them and as nobody should.

use std::fs;
use std::path::{Path, PathBuf};

use tare_oci::digest::Digest;
use tare_oci::reader::{ReadError, Source, images};
use tare_tool::process::{Execute as _, ProcessError, Shell, cmd};

use super::*;

/// A tar of files, folders, links: `(path, kind, content or target)`.
fn tar(entries: &[(&str, char, &[u8])]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = ::tar::Header::new_gnu();
        let target = String::from_utf8_lossy(content);
        let kind = match kind {
            'd' => ::tar::EntryType::Directory,
            'l' => ::tar::EntryType::Symlink,
            'h' => ::tar::EntryType::Link,
            'c' => ::tar::EntryType::Char,
            _ => ::tar::EntryType::Regular,
        };
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        if matches!(kind, ::tar::EntryType::Symlink | ::tar::EntryType::Link) {
            header.set_size(0);
            builder.append_link(&mut header, path, &*target).unwrap();
        } else {
            header.set_size(content.len() as u64);
            // Not `append_data`, which refuses the names that are of interest here.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn config(layers: &[Vec<u8>], execution: &str) -> String {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    let history: Vec<String> =
        (0..layers.len()).map(|at| format!(r#"{{"created_by":"step {at}"}}"#)).collect();
    format!(
        r#"{{"architecture":"amd64","os":"linux","config":{execution},"rootfs":{{"type":"layers","diff_ids":[{}]}},"history":[{}]}}"#,
        diff_ids.join(","),
        history.join(",")
    )
}

/// An OCI layout with uncompressed layers.
fn layout(dir: &Path, layers: &[Vec<u8>], execution: &str) -> PathBuf {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#, bytes.len())
    };
    let layer = |layer: &Vec<u8>| put("application/vnd.oci.image.layer.v1.tar", layer);
    let descriptors: Vec<String> = layers.iter().map(layer).collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        put("application/vnd.oci.image.config.v1+json", config(layers, execution).as_bytes()),
        descriptors.join(",")
    );
    let manifest = put("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{manifest}]}}"#);
    fs::write(dir.join("index.json"), index).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    dir.to_path_buf()
}

/// The same as `docker save` writes it.
fn docker_archive(dir: &Path, layers: &[Vec<u8>], execution: &str) -> PathBuf {
    let names: Vec<String> = (0..layers.len()).map(|at| format!("{at}/layer.tar")).collect();
    let manifest = format!(r#"[{{"Config":"c.json","RepoTags":["a:b"],"Layers":{names:?}}}]"#);
    let config = config(layers, execution);
    let mut files: Vec<(&str, char, &[u8])> =
        vec![("manifest.json", '-', manifest.as_bytes()), ("c.json", '-', config.as_bytes())];
    files.extend(names.iter().zip(layers).map(|(name, layer)| (name.as_str(), '-', layer.as_slice())));
    let path = dir.join("image.tar");
    fs::write(&path, tar(&files)).unwrap();
    path
}

fn sizes(path: &Path, unstripped: Option<&Path>) -> Result<SizeResult, SizeError> {
    let source = Source::open(path).unwrap();
    let image = images(&source).unwrap().remove(0);
    run(&source, &image, unstripped)
}

fn sizes_of_layers(layers: &[Vec<u8>]) -> Result<SizeResult, SizeError> {
    let dir = tempfile::tempdir().unwrap();
    sizes(&layout(dir.path(), layers, "{}"), None)
}

#[test]
fn an_image_of_two_layers_is_counted_in_every_way() {
    let lower = tar(&[
        ("etc/", 'd', b""),
        ("etc/a", '-', &[1; 5000]),
        ("etc/b", '-', &[2; 100]),
        ("etc/again", 'h', b"etc/a"),
        ("link", 'l', b"etc/a"),
    ]);
    let upper = tar(&[("etc/b", '-', &[3; 40]), ("etc/.wh.again", '-', b""), ("dev/null", 'c', b"")]);
    let layers = [lower, upper];
    let dir = tempfile::tempdir().unwrap();
    let from_layout = sizes(&layout(dir.path(), &layers, "{}"), None).unwrap();
    let config = config(&layers, "{}").len() as u64;
    let tars: u64 = layers.iter().map(|layer| layer.len() as u64).sum();
    let bytes = ImageBytes {
        compressed: tars,
        uncompressed: tars,
        config,
        manifest: from_layout.bytes.manifest,
        total: config + tars,
        // a: two blocks, b: one; /, dev and etc.
        on_disk: 6 * 4096,
        content: 5040,
        files: 4,
    };
    assert_eq!(from_layout.bytes, bytes);
    let rows: Vec<(&str, char, u64, u64, usize)> = from_layout
        .files
        .iter()
        .map(|file| (file.path.as_str(), file.kind, file.size, file.on_disk, file.layer))
        .collect();
    assert_eq!(
        rows,
        [
            ("dev/null", 'c', 0, 0, 1),
            ("etc/a", '-', 5000, 8192, 0),
            ("etc/b", '-', 40, 4096, 1),
            ("link", 'l', 0, 0, 0)
        ]
    );
    let per_layer: Vec<(u64, u64, u64)> =
        from_layout.layers.iter().map(|layer| (layer.on_disk, layer.files, layer.hidden)).collect();
    // Lower: a and b, / and etc. Upper: b, /, etc and dev.
    assert_eq!(per_layer, [(5 * 4096, 4, 100), (4 * 4096, 2, 0)]);
    assert_eq!(from_layout.waste.hidden, 100);
    // (5000 + 40) / (5000 + 100 + 40); `again` and `link` have no content.
    assert_eq!(from_layout.waste.efficiency, 5040.0 / 5140.0);
    let worst = WastedPath { path: "etc/b".to_owned(), bytes: 140, layers: 2 };
    assert_eq!(from_layout.waste.paths, [worst]);

    // A docker archive is the same image without manifest.
    let archive = sizes(&docker_archive(dir.path(), &layers, "{}"), None).unwrap();
    let expected = SizeResult {
        names: vec!["a:b".to_owned()],
        bytes: ImageBytes { manifest: None, ..bytes },
        ..from_layout
    };
    assert_eq!(archive, expected);
}

#[test]
fn a_sparse_file_is_as_large_as_unpackers_make_it() {
    // GNU's old format: 512 bytes stored at offset 1 MiB - 512 of a file of 1 MiB.
    let mut header = ::tar::Header::new_gnu();
    header.set_entry_type(::tar::EntryType::GNUSparse);
    header.set_path("sparse").unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(512);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.sparse[0].offset.copy_from_slice(b"00003777000\0");
    gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
    gnu.realsize.copy_from_slice(b"00004000000\0");
    header.set_cksum();
    let mut builder = ::tar::Builder::new(Vec::new());
    builder.append(&header, &[7; 512][..]).unwrap();
    let result = sizes_of_layers(&[builder.into_inner().unwrap()]).unwrap();
    assert_eq!((result.files[0].size, result.files[0].on_disk), (1 << 20, 1 << 20));
}

#[test]
fn hostile_layers_are_counted_or_refused() {
    // Names that climb out stay inside; links to nowhere and to themselves end.
    let climbing = tar(&[
        ("../../etc/passwd", '-', b"xx"),
        ("self", 'l', b"self"),
        ("self/file", '-', b"yyy"),
        ("hard", 'h', b"/no/where"),
        (".wh.", '-', b""),
        (".wh...", '-', b""),
        ("a/.wh..wh..opq", '-', b""),
        (".wh..wh.plnk/1", '-', b"aufs"),
    ]);
    let result = sizes_of_layers(&[climbing]).unwrap();
    let rows: Vec<(&str, u64)> = result.files.iter().map(|file| (file.path.as_str(), file.size)).collect();
    assert_eq!(rows, [(".wh..wh.plnk/1", 4), ("etc/passwd", 2), ("hard", 0), ("self/file", 3)]);

    let mut header = ::tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let mut builder = ::tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "d/".repeat(5000) + "f", &b""[..]).unwrap();
    let error = sizes_of_layers(&[builder.into_inner().unwrap()]).unwrap_err();
    let SizeError::Read(ReadError::Layer { source, .. }) = error else { panic!("{error:?}") };
    assert!(source.to_string().ends_with(": its name has 10001 bytes, more than 4095"), "{source}");

    assert!(matches!(sizes_of_layers(&[b"no tar".repeat(200)]), Err(SizeError::Read(_))));
}

#[test]
fn a_layer_that_is_not_as_long_as_the_manifest_says_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let layer = tar(&[("a", '-', b"1")]);
    let path = layout(dir.path(), std::slice::from_ref(&layer), "{}");
    let blob = path.join("blobs/sha256").join(Digest::of(&layer).hex());
    fs::write(blob, [layer.as_slice(), &[0; 512]].concat()).unwrap();
    let error = sizes(&path, None).unwrap_err();
    let said = layer.len();
    let what = format!("it has {} bytes, its descriptor says {said}", said + 512);
    let place = format!("blobs/sha256/{}", Digest::of(&layer).hex());
    assert_eq!(error.to_string(), format!("{place} is damaged: {what}"));
}

#[test]
fn an_entrypoint_is_found_as_a_shell_would_find_it() {
    let dir = tempfile::tempdir().unwrap();
    let elf = b"\x7fELFbroken";
    let layer = tar(&[("opt/bin/app", '-', elf), ("usr/bin/tool", 'l', b"../../opt/bin/app")]);
    for (execution, found) in [
        (r#"{"Entrypoint":["/opt/bin/app"]}"#, true),
        (r#"{"Cmd":["bin/app"],"WorkingDir":"/opt"}"#, true),
        (r#"{"Cmd":["tool"]}"#, true),
        (r#"{"Cmd":["app"],"Env":["PATH=/sbin:/opt/bin"]}"#, true),
        (r#"{"Cmd":["app"]}"#, false),
        (r#"{"Entrypoint":["/opt"]}"#, false),
        ("{}", false),
    ] {
        let result = sizes(&layout(dir.path(), std::slice::from_ref(&layer), execution), None).unwrap();
        let program = result.program.map(|program| program.path);
        assert_eq!(program.as_deref(), found.then_some("opt/bin/app"), "{execution}");
        let missing = result.doubts.iter().any(|doubt| doubt.ends_with("is not in the image"));
        assert_eq!(missing, !found && execution != "{}", "{execution}");
    }
}

/// This test as the program of an image, stripped, with the unstripped binary beside it.
#[cfg(target_os = "linux")]
fn image_of_this_test(dir: &Path) -> (PathBuf, PathBuf) {
    let unstripped = std::env::current_exe().unwrap();
    let list = r#"{"packages":[
        {"name":"tare-profiler","version":"0.1.0","source":"local","dependencies":[1,2],"root":true},
        {"name":"serde_json","version":"1.0.0","source":"crates.io","dependencies":[2]},
        {"name":"memchr","version":"2.0.0","source":"crates.io"}],"format":1}"#;
    let audit = tare_oci::audit::encode(&list.parse().unwrap()).unwrap();
    let stripped = tare_oci::elf::strip(&fs::read(&unstripped).unwrap(), Some(&audit)).unwrap();
    let layer = tar(&[("app", '-', &stripped)]);
    (layout(dir, &[layer], r#"{"Entrypoint":["/app"]}"#), unstripped)
}

/// What `size` and `readelf` of binutils say of the same file.
#[test]
#[cfg(target_os = "linux")]
fn sections_and_segments_are_those_of_binutils() {
    let dir = tempfile::tempdir().unwrap();
    let (image, _) = image_of_this_test(dir.path());
    let source = Source::open(&image).unwrap();
    let read = images(&source).unwrap().remove(0);
    let program_file = dir.path().join("app");
    read_layer(&source, &read.layers[0], |_, content| {
        io::copy(content, &mut fs::File::create(&program_file)?).map(drop)
    })
    .unwrap();
    let program = run(&source, &read, None).unwrap().program.unwrap();
    let sh = Shell::new().unwrap();
    let output = |name: &str, option: &str| match cmd!(sh, "{name} {option} {program_file}")
        .env("LC_ALL", "C")
        .capture()
    {
        Ok(output) => Some(String::from_utf8(output).unwrap()),
        Err(ProcessError::NotFound { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    if let Some(sizes) = output("size", "-A") {
        let mut theirs: Vec<(String, u64)> = sizes
            .lines()
            .filter(|line| line.starts_with('.'))
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                (words[0].to_owned(), words[1].parse().unwrap())
            })
            .collect();
        let real = program.sections.iter().filter(|row| row.name.starts_with('.') && row.name != ".shstrtab");
        let mut ours: Vec<(String, u64)> =
            real.map(|row| (row.name.clone(), row.file.max(row.memory))).collect();
        // Empty sections have no row of ours.
        theirs.retain(|(_, size)| *size > 0);
        theirs.sort();
        ours.sort();
        assert_eq!(ours, theirs);
        assert!(ours.len() > 10);
    }
    if let Some(headers) = output("readelf", "-lW") {
        let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap();
        let table = headers.lines().skip_while(|line| !line.contains("FileSiz")).skip(1);
        let rows = table.take_while(|line| !line.trim().is_empty()).filter(|line| !line.contains('['));
        let theirs: Vec<(u64, u64)> = rows
            .map(|line| line.split_whitespace().collect::<Vec<&str>>())
            .filter(|words| words[0] == "LOAD")
            .map(|words| (number(words[4]), number(words[5])))
            .collect();
        let ours: Vec<(u64, u64)> = program.segments.iter().map(|row| (row.file, row.memory)).collect();
        assert_eq!(ours, theirs);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn crates_functions_and_packages_come_from_the_unstripped_binary() {
    let dir = tempfile::tempdir().unwrap();
    let (image, unstripped) = image_of_this_test(dir.path());
    let result = sizes(&image, Some(&unstripped)).unwrap();
    assert_eq!(result.doubts, Vec::<String>::new());
    let program = result.program.as_ref().unwrap();
    assert_eq!(program.symbols, Some(SymbolSource::Unstripped));
    let attribution = program.attribution.as_ref().unwrap();
    let all: u64 = attribution.crates.iter().map(CrateSize::total).sum();
    assert_eq!(all + attribution.unattributed.values().sum::<u64>(), program.size);
    // A named function is as long as its symbol.
    let text = fs::read(&unstripped).unwrap();
    let elf = super::elf::Elf::parse(&text).unwrap();
    let longest = elf
        .symbols()
        .unwrap()
        .into_iter()
        .filter(|symbol| elf.offset_of(symbol.address).is_some_and(|(_, section)| section.exec))
        .max_by_key(|symbol| symbol.size)
        .unwrap();
    let name = super::symbol::rust(std::str::from_utf8(longest.name).unwrap()).unwrap();
    let row = attribution.functions.iter().find(|row| row.name == name.function).unwrap();
    assert!(row.bytes >= longest.size, "{row:?} {longest:?}");
    let packages: Vec<(&str, Vec<&str>)> = program
        .packages
        .iter()
        .map(|package| (package.name.as_str(), package.brings.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(packages[0], ("tare-profiler", vec!["serde_json", "memchr"]));
    assert!(program.packages.iter().any(|package| package.name == "serde_json" && package.own > 10_000));

    let missing = sizes(&image, Some(Path::new("/no/such/binary"))).unwrap_err();
    assert_eq!(missing.to_string(), "cannot read /no/such/binary");
}

#[test]
#[cfg(target_os = "linux")]
fn measurements_are_in_the_metric_table_and_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let (image, unstripped) = image_of_this_test(dir.path());
    let result = sizes(&image, Some(&unstripped)).unwrap();
    let list = measurements(&result);
    let mut keys: Vec<String> = list.iter().map(crate::profile::measurement::Measurement::key).collect();
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count);
    assert!(list.iter().all(|m| m.value >= 0.0 && crate::profile::metric::find(m.metric).is_some()));
    let of = |metric: &str| list.iter().filter(|m| m.metric == metric).map(|m| m.value).sum::<f64>();
    assert_eq!(of("size.binary.section"), of("size.binary.file"));
    assert_eq!(of("size.packages"), 3.0);
    // Every metric of the pass has a value for an image that has everything.
    let all = crate::profile::metric::TABLE.iter().filter(|m| m.pass == crate::profile::metric::Pass::Size);
    for metric in all {
        assert!(list.iter().any(|m| m.metric == metric.id), "{}", metric.id);
    }
}

#[test]
fn a_diff_tells_what_grew_and_an_image_does_not_differ_from_itself() {
    let base = tar(&[("a", '-', &[0; 100])]);
    let before = sizes_of_layers(&[base.clone(), tar(&[("b", '-', &[0; 10]), ("gone", '-', b"x")])]).unwrap();
    let after = sizes_of_layers(&[base, tar(&[("b", '-', &[0; 2000]), ("new", '-', b"xy")])]).unwrap();
    assert_eq!(diff(&before, &before), []);
    let changed = diff(&before, &after);
    let change = |what, name: &str, before, after| Change { what, name: name.to_owned(), before, after };
    let of = |what: &str| changed.iter().filter(|it| it.what == what).cloned().collect::<Vec<_>>();
    assert_eq!(
        of("file"),
        [
            change("file", "/b", Some(10), Some(2000)),
            change("file", "/new", None, Some(2)),
            change("file", "/gone", Some(1), None),
        ]
    );
    let layer = |result: &SizeResult| Some(result.layers[1].compressed);
    assert_eq!(of("layer"), [change("layer", "step 1", layer(&before), layer(&after))]);
    let rows = super::changes(&of("file"), 2).rows;
    assert_eq!(rows, [["file", "/b", "10", "2000", "+1990"], ["file", "/new", "-", "2", "+2"]]);
}

#[test]
fn names_of_strangers_have_no_control_characters_in_tables() {
    let result =
        sizes_of_layers(&[tar(&[("a|b\u{1b}", '-', b"1")]), tar(&[("a|b\u{1b}", '-', b"22")])]).unwrap();
    let tables = section(&result, 20).tables;
    let repeated = tables.iter().find(|table| table.title == "Stored more than once").unwrap();
    assert_eq!(repeated.rows, [["3 B", "2", "/a|b\\u{1b}"]]);
    assert!(!format!("{tables:?}").contains('\u{1b}'));
}
