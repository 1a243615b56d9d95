//! What a definition takes into an image: files, trees and links, and those that are refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use crate::support::{Fixture, PREBUILT, is_root, left_out, path_of, system};

/// A definition with one layer more, which has these entries.
fn with_entries(entries: &str) -> String {
    format!("{PREBUILT}[[layers]]\nname = \"more\"\nentries = [\n{entries}\n]\n")
}

const STATIC_TREE: &str = "{ tree = \"/static\", from = \"static\" },";

#[test]
fn files_that_are_not_there_or_not_what_they_should_be_are_refused() {
    let fixture = Fixture::new();
    fs::write(fixture.outside().join("secret"), "x").unwrap();
    symlink(fixture.outside(), fixture.path("images/app/way-out")).unwrap();
    fixture.write("images/app/folder/file", "x");
    let hint = "hint: `from` is relative to the image's folder\n";
    let outside = "hint: copy it into the workspace, so that every checkout has it\n";
    let at = "images/app/image.toml:6:1: layer more:";
    for (entry, says) in [
        (
            "{ file = \"/etc/app.toml\" }",
            format!(
                "error: {at} cannot read ROOT/images/app/app.toml: No such file or directory (os error 2)\n{hint}"
            ),
        ),
        (
            "{ tree = \"/static\", from = \"statics\" }",
            format!(
                "error: {at} cannot read ROOT/images/app/statics: No such file or directory (os error 2)\n{hint}"
            ),
        ),
        (
            "{ file = \"/x\", from = \"folder\" }",
            format!("error: {at} ROOT/images/app/folder is not a file\n"),
        ),
        (
            "{ tree = \"/x\", from = \"folder/file\" }",
            format!("error: {at} ROOT/images/app/folder/file is not a folder\n"),
        ),
        (
            "{ file = \"/x\", from = \"../../../secret\" }",
            format!("error: {at} ROOT/images/app/../../../secret is outside the workspace\n{outside}"),
        ),
        (
            "{ file = \"/x\", from = \"/etc/passwd\" }",
            format!("error: {at} /etc/passwd is outside the workspace\n{outside}"),
        ),
        (
            "{ file = \"/x\", from = \"way-out/secret\" }",
            format!("error: {at} ROOT/images/app/way-out/secret is outside the workspace\n{outside}"),
        ),
        (
            "{ tree = \"/x\", from = \"way-out\" }",
            format!("error: {at} ROOT/images/app/way-out is outside the workspace\n{outside}"),
        ),
    ] {
        fixture.refuses_definitions(&[(&with_entries(entry), &says)]);
        fs::remove_dir_all(fixture.path("target")).unwrap();
    }
}

#[test]
fn two_entries_cannot_be_one_path_and_nothing_lies_below_a_file() {
    let fixture = Fixture::new();
    fixture.write("images/app/static/app.toml", "x");
    fixture.write("images/app/a", "x");
    let at = "images/app/image.toml";
    let twice = format!(
        "error: {at}:6:1: layer more: /etc/passwd is written twice: by layer base and by layer more (line 6)\n"
    );
    let in_tree = format!(
        "error: {at}:7:1: layer more: /static/app.toml is written twice: by layer more (line 6) and by layer more (line 7)\n"
    );
    let two_layers = format!(
        "error: {at}:8:12: layer c: /x is written twice: by layer b (line 5) and by layer c (line 8)\n"
    );
    let below = format!(
        "error: {at}:7:1: layer more: /x/y/z cannot be in the image: /x is not a directory but written by layer more (line 6)\n"
    );
    let below_link = format!(
        "error: {at}:7:1: layer more: /x/y cannot be in the image: /x is not a directory but written by layer more (line 6)\n"
    );
    let below_binary = format!(
        "error: {at}:6:1: layer more: /app/server/x cannot be in the image: /app/server is not a directory but written by layer application\n"
    );
    let volume = format!(
        "error: {at}:4:21: layer application: /app/server cannot be a volume: it is not a directory but written by layer application\n"
    );
    fixture.refuses_definitions(&[
        (&format!("{PREBUILT}[config]\nvolumes = [\"/data\", \"/app/server\"]\n"), &volume),
        (&with_entries("{ file = \"/etc/passwd\", from = \"a\" }"), &twice),
        (&with_entries(&format!("{STATIC_TREE}\n{{ file = \"/static/app.toml\", from = \"a\" }}")), &in_tree),
        (
            &format!(
                "{PREBUILT}[[layers]]\nname = \"b\"\nentries = [{{ dir = \"/x\" }}]\n[[layers]]\nname = \"c\"\nentries = [{{ dir = \"/x\" }}]\n"
            ),
            &two_layers,
        ),
        (&with_entries("{ file = \"/x\", from = \"a\" },\n{ dir = \"/x/y/z\" }"), &below),
        (&with_entries("{ symlink = \"/x\", to = \"/tmp\" },\n{ dir = \"/x/y\" }"), &below_link),
        (&with_entries("{ file = \"/app/server/x\", from = \"a\" }"), &below_binary),
    ]);
}

#[test]
fn a_tree_with_a_link_that_leaves_it_is_refused() {
    let hint = "hint: replace it by what it points to, or write a `symlink` entry\n";
    for (link, target) in [
        ("link", "../app.toml"),
        ("link", "../static/file"),
        ("sub/link", "../../file"),
        ("link", "/etc/passwd"),
        ("link", "/static/../etc/passwd"),
        ("link", "/"),
        ("link", "/statics"),
    ] {
        let fixture = Fixture::new();
        fixture.write("images/app/static/sub/file", "x");
        symlink(target, fixture.path(format!("images/app/static/{link}"))).unwrap();
        let says = format!(
            "error: images/app/image.toml:6:1: layer more: ROOT/images/app/static/{link} links to {target}, which is outside the tree\n{hint}"
        );
        fixture.refuses_definitions(&[(&with_entries(STATIC_TREE), &says)]);
    }
}

#[test]
fn links_within_a_tree_are_kept_as_they_are() {
    let fixture = Fixture::new();
    fixture.write("images/app/static/file", "x");
    fixture.write("images/app/static/sub/file", "y");
    let long = format!("{}file", "./".repeat(60));
    for (link, target) in [
        ("a", "file"),
        ("b", "sub/../file"),
        ("c", "/static/file"),
        ("d", "nothing-there"),
        ("e", long.as_str()),
        ("sub/up", "../file"),
        ("sub/whole", ".."),
    ] {
        symlink(target, fixture.path(format!("images/app/static/{link}"))).unwrap();
    }
    fixture.write("images/app/image.toml", with_entries(STATIC_TREE));
    fixture.succeeds(&["image"]);
    let e = format!("l0777 0:0 static/e -> {long} \"\"");
    let expected = [
        "d0755 0:0 static/ \"\"",
        "l0777 0:0 static/a -> file \"\"",
        "l0777 0:0 static/b -> sub/../file \"\"",
        "l0777 0:0 static/c -> /static/file \"\"",
        "l0777 0:0 static/d -> nothing-there \"\"",
        &e,
        "-0644 0:0 static/file \"x\"",
        "d0755 0:0 static/sub/ \"\"",
        "-0644 0:0 static/sub/file \"y\"",
        "l0777 0:0 static/sub/up -> ../file \"\"",
        "l0777 0:0 static/sub/whole -> .. \"\"",
    ];
    assert_eq!(fixture.listing("app", "static"), expected);
}

#[test]
fn what_is_neither_file_nor_folder_nor_link_is_refused() {
    for kind in ["FIFO", "socket", "device"] {
        let fixture = Fixture::new();
        fixture.write("images/app/static/sub/file", "x");
        let path = fixture.path("images/app/static/sub/special");
        // Kept until the end of the round: the socket must be one when it is met.
        let _socket = match kind {
            "FIFO" => {
                system("mkfifo", &[path.as_os_str()]);
                None
            }
            "socket" => Some(UnixListener::bind(&path).unwrap()),
            _ if is_root() => {
                system("mknod", &[path.as_os_str(), "c".as_ref(), "1".as_ref(), "3".as_ref()]);
                None
            }
            _ => {
                left_out("a device node in a tree");
                continue;
            }
        };
        let says = format!(
            "error: images/app/image.toml:6:1: layer more: ROOT/images/app/static/sub/special is a {kind}, which cannot go into an image\n\
             hint: remove it, or name the files one by one\n"
        );
        let named = "error: images/app/image.toml:6:1: layer more: ROOT/images/app/static/sub/special is not a file\n";
        fixture.refuses_definitions(&[
            (&with_entries(STATIC_TREE), &says),
            (&with_entries("{ file = \"/x\", from = \"static/sub/special\" }"), named),
        ]);
    }
}

#[test]
fn a_name_that_deletes_from_lower_layers_is_refused() {
    let fixture = Fixture::new();
    fixture.write("images/app/static/.wh.passwd", "");
    let whiteout = "has a component that starts with .wh., which marks a deletion in an image layer\n";
    let in_tree = format!("error: images/app/image.toml:6:1: layer more: `/static/.wh.passwd` {whiteout}");
    let named = format!("error: images/app/image.toml:6:10: `/etc/.wh.passwd` {whiteout}");
    fixture.refuses_definitions(&[
        (&with_entries(STATIC_TREE), &in_tree),
        (&with_entries("{ file = \"/etc/.wh.passwd\" }"), &named),
    ]);
}

#[test]
fn names_that_are_not_utf8_and_long_paths_are_kept_to_the_byte() {
    let fixture = Fixture::new();
    let folder = "d".repeat(150);
    let name = "f".repeat(300 - "static/".len() - folder.len() - 1);
    let long = format!("static/{folder}/{name}");
    assert_eq!(long.len(), 300);
    fixture.write(format!("images/app/{long}"), "long");
    fixture.write(path_of(b"images/app/static/caf\xe9"), "latin 1");
    fixture.write("images/app/static/café", "utf-8");
    symlink(path_of(b"caf\xe9"), fixture.path("images/app/static/link")).unwrap();
    fixture.write("images/app/image.toml", with_entries(STATIC_TREE));
    fixture.succeeds(&["image"]);

    let entries = fixture.entries("app").into_iter();
    let below = entries.filter(|(entry, _)| entry.path.starts_with(b"static/"));
    let found: Vec<_> = below.map(|(entry, content)| (entry.path, entry.link, content)).collect();
    let folder = format!("static/{folder}/");
    let entry = |path: &[u8], link: Option<&[u8]>, content: &[u8]| {
        (path.to_vec(), link.map(<[u8]>::to_vec), content.to_vec())
    };
    let expected = [
        entry(b"static/", None, b""),
        entry(b"static/caf\xc3\xa9", None, b"utf-8"),
        entry(b"static/caf\xe9", None, b"latin 1"),
        entry(folder.as_bytes(), None, b""),
        entry(long.as_bytes(), None, b"long"),
        entry(b"static/link", Some(b"caf\xe9"), b""),
    ];
    assert_eq!(found, expected);
    assert_eq!(fixture.validate("app").0, Some(0));
}

#[test]
fn modes_and_owners_are_those_of_the_definition_and_else_the_same_everywhere() {
    let fixture = Fixture::new();
    for (path, mode) in [("file", 0o600), ("script", 0o700), ("sub/file", 0o666)] {
        let path = fixture.path(format!("images/app/static/{path}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let entries = format!(
        "{STATIC_TREE}\n\
         {{ tree = \"/own\", from = \"static\", mode = \"0440\", owner = \"1000:100\" }},\n\
         {{ dir = \"/static/sub\", mode = \"0700\", owner = 7 }},\n\
         {{ file = \"/static/named\", from = \"static/file\", mode = \"4755\", capabilities = \"cap_net_raw=ep\" }},"
    );
    fixture.write("images/app/image.toml", with_entries(&entries));
    fixture.succeeds(&["image"]);
    let own = [
        "d0550 1000:100 own/ \"\"",
        "-0440 1000:100 own/file \"x\"",
        "-0440 1000:100 own/script \"x\"",
        "d0550 1000:100 own/sub/ \"\"",
        "-0440 1000:100 own/sub/file \"x\"",
    ];
    assert_eq!(fixture.listing("app", "own"), own);
    let usual = [
        "d0755 0:0 static/ \"\"",
        "-0644 0:0 static/file \"x\"",
        "-4755 0:0 static/named \"x\"",
        "-0755 0:0 static/script \"x\"",
        "d0700 7:7 static/sub/ \"\"",
        "-0644 0:0 static/sub/file \"x\"",
    ];
    assert_eq!(fixture.listing("app", "static"), usual);
    let entries = fixture.entries("app");
    let named = entries.iter().find(|(entry, _)| entry.path == b"static/named").unwrap();
    // Revision 2 with the effective bit; 13 is cap_net_raw.
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    assert_eq!(named.0.attributes, [(b"SCHILY.xattr.security.capability".to_vec(), capability)]);
}
