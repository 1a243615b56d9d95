//! Any image starts as it starts under `docker run`: the same answers from every runtime that works here, and from
//! docker itself.

use std::path::Path;

use serde_json::json;
use tare_container::capability::of_docker;
use tare_container::life::Exit;
use tare_container::limits::Limits;
use tare_container::spec::{ContainerSpec, Network};
use tare_container::target::Target;
use tare_container::{Capabilities, Runtime, RuntimeKind, Tightening};

use crate::adapters::{open, say};
use crate::fixture::{BOUND, World, as_root, possible, program, write_layout};

/// A file, folder or link of a layer with its owner and mode.
type Entry<'a> = (&'a str, tar::EntryType, u32, u64, &'a str);

fn image(world: &World, execution: &serde_json::Value, entries: &[Entry<'_>]) -> Target {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind, mode, owner, content: &[u8], link: &str| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        if link.is_empty() {
            tar.append_data(&mut header, path, content).unwrap();
        } else {
            header.set_size(0);
            tar.append_link(&mut header, path, link).unwrap();
        }
    };
    add("program", tar::EntryType::Regular, 0o755, 0, &std::fs::read(program()).unwrap(), "");
    for (path, kind, mode, owner, content) in entries {
        match kind {
            tar::EntryType::Symlink => add(path, *kind, *mode, *owner, b"", content),
            _ => add(path, *kind, *mode, *owner, content.as_bytes(), ""),
        }
    }
    let name = format!(
        "layout-{}",
        tare_oci::digest::Digest::of(format!("{execution}{entries:?}").as_bytes()).short()
    );
    let layout = world.folder.path().join(name);
    write_layout(&layout, &[tar.into_inner().unwrap()], execution);
    Target::resolve(layout.to_str().unwrap(), None, world.folder.path()).unwrap()
}

const FOLDER: tar::EntryType = tar::EntryType::Directory;
const FILE: tar::EntryType = tar::EntryType::Regular;
const LINK: tar::EntryType = tar::EntryType::Symlink;

/// What the program prints with these arguments before it ends.
fn output(runtime: &Runtime, image: &Target, spec: ContainerSpec, arguments: &[&str]) -> String {
    let args = std::iter::once("/program").chain(arguments.iter().copied()).map(str::to_owned).collect();
    let container = runtime.create(image, &ContainerSpec { args: Some(args), ..spec }).unwrap();
    container.start().unwrap();
    let exit = container.wait(BOUND).unwrap();
    let output = container.output_tail();
    let expected = Exit { code: Some(0), signal: None, oom_killed: false };
    assert_eq!(exit, Some(expected), "{output}");
    container.remove().unwrap();
    output
}

fn with(tightening: Tightening) -> ContainerSpec {
    ContainerSpec { tightening, ..ContainerSpec::default() }
}

/// Calls a function with every runtime that works here.
fn by_all(check: impl Fn(&Runtime, &World)) {
    if !possible() || !as_root() {
        return;
    }
    for kind in RuntimeKind::ALL {
        let world = World::new();
        match open(kind, &world) {
            Ok(runtime) => check(&runtime, &world),
            Err(why) => say(&format!("left out: {kind}: {why}")),
        }
        assert_eq!(std::fs::read_dir(&world.options.state).into_iter().flatten().count(), 0, "{kind}");
        let layers = world.options.cache.join("layers");
        let left = std::fs::read_dir(&layers).into_iter().flatten().flatten().map(|it| it.file_name());
        assert_eq!(left.filter(|name| name != "lock").count(), 0, "{kind}");
    }
}

#[test]
fn a_root_server_writes_changes_owners_and_drops_its_rights() {
    by_all(|runtime, world| {
        let image = image(world, &json!({}), &[("var/log", FOLDER, 0o755, 0, "")]);
        let words = [
            "make=/var/cache",
            "write=/var/log/x",
            "chown=/var/log/x",
            "owner=/var/log/x",
            "become=7",
            "write=/y",
        ];
        let expected = "done\nwritten\ndone\n1:1 644\n[0, 0, 0]\nPermissionDenied\n";
        assert_eq!(output(runtime, &image, ContainerSpec::default(), &words), expected, "{}", runtime.kind());
        // Another container of the image sees nothing of it.
        let again = output(runtime, &image, ContainerSpec::default(), &["read=/var/log/x"]);
        assert_eq!(again, "NotFound\n", "{}", runtime.kind());
    });
}

#[test]
fn system_calls_answer_as_under_docker() {
    by_all(|runtime, world| {
        let image = image(world, &json!({}), &[]);
        let calls =
            ["call=mount", "call=keyctl", "call=new-user-namespace", "call=bpf", "call=clone3", "call=umask"];
        let expected = match runtime.kind() {
            // Podman's own filter lets more through.
            RuntimeKind::Podman => "mount 14\nkeyctl 22\nnew-user-namespace 0\nbpf 1\nclone3 22\numask 0\n",
            _ => "mount 1\nkeyctl 1\nnew-user-namespace 1\nbpf 1\nclone3 38\numask 0\n",
        };
        assert_eq!(output(runtime, &image, ContainerSpec::default(), &calls), expected, "{}", runtime.kind());
        let ordinary = json!({"User": "65532"});
        let image = self::image(world, &ordinary, &[]);
        assert_eq!(output(runtime, &image, ContainerSpec::default(), &calls), expected, "{}", runtime.kind());
    });
}

#[test]
fn a_user_who_is_not_root_binds_port_80_and_opens_devices() {
    by_all(|runtime, world| {
        // Podman leaves ports below 1024 to root.
        let port =
            if runtime.kind() == RuntimeKind::Podman { "bind=0.0.0.0:8080" } else { "bind=0.0.0.0:80" };
        let image = image(world, &json!({"User": "65532:65532"}), &[]);
        let words = [
            port,
            "open=/dev/null",
            "open=/dev/zero",
            "open=/dev/full",
            "open=/dev/random",
            "open=/dev/urandom",
            "open=/dev/ptmx",
            "write=/dev/shm/x",
            "owner=/dev/mqueue",
            "read=/dev/stdin",
            "write=/dev/stdout",
            "write=/dev/stderr",
            "write=/dev/fd/1",
        ];
        let found = output(runtime, &image, ContainerSpec::default(), &words);
        // What it wrote to its own output is in between.
        let mut found: Vec<&str> = found.lines().map(|line| line.trim_start_matches('x')).collect();
        // docker ends the last line.
        found.truncate(13);
        let expected = [&["done"; 7][..], &["written", "0:0 1777", ""], &["written"; 3]].concat();
        assert_eq!(found, expected, "{}", runtime.kind());
    });
}

#[test]
fn a_volume_begins_with_the_images_files() {
    by_all(|runtime, world| {
        let execution = json!({"Volumes": {"/www": {}, "/www/sub": {}, "/new": {}}});
        let entries = [
            ("www", FOLDER, 0o750, 33, ""),
            ("www/index.html", FILE, 0o640, 33, "page"),
            ("www/sub", FOLDER, 0o755, 0, ""),
            ("www/sub/deep", FILE, 0o644, 0, "deep"),
        ];
        let image = image(world, &execution, &entries);
        let words = [
            "read=/www/index.html",
            "owner=/www/index.html",
            "owner=/www",
            "read=/www/sub/deep",
            "write=/www/x",
            "write=/new/x",
        ];
        let expected = "page\n33:33 640\n33:33 750\ndeep\nwritten\nwritten\n";
        for read_only in [false, true] {
            let spec = with(Tightening { read_only: Some(read_only), ..Tightening::default() });
            let kind = runtime.kind();
            assert_eq!(output(runtime, &image, spec, &words), expected, "{kind}, read-only {read_only}");
        }
        if runtime.kind().is_daemon() {
            return;
        }
        // Of the program's own folder too, and not where docker itself fails.
        let image =
            self::image(world, &json!({"Volumes": {"/": {}, "/app": {}}}), &[("app/x", FILE, 0o644, 0, "x")]);
        assert_eq!(output(runtime, &image, ContainerSpec::default(), &["read=/app/x"]), "x\n");
    });
}

#[test]
fn names_resolve_whatever_the_image_has_in_etc() {
    by_all(|runtime, world| {
        if runtime.kind().is_daemon() {
            // Without a network docker knows no more than localhost.
            return;
        }
        for entries in [
            &[][..],
            &[("etc", FOLDER, 0o755, 0, ""), ("etc/hosts", FILE, 0o644, 0, "192.0.2.1 localhost\n")],
            &[("etc", FOLDER, 0o755, 0, ""), ("etc/hosts", LINK, 0o777, 0, "../proc/self/status")],
            &[("etc", LINK, 0o777, 0, "/no/such/folder")],
            &[("real", FOLDER, 0o755, 0, ""), ("etc", LINK, 0o777, 0, "real")],
            &[("etc", FOLDER, 0o755, 0, ""), ("etc/hosts", FOLDER, 0o755, 0, "")],
        ] {
            let image = image(world, &json!({"User": "65532"}), entries);
            for read_only in [false, true] {
                let spec = with(Tightening { read_only: Some(read_only), ..Tightening::default() });
                let words = ["resolve=localhost", "resolve=", "read=/etc/resolv.conf"];
                let found = output(runtime, &image, spec, &words);
                let found: Vec<&str> = found.lines().collect();
                let (kind, own) = (runtime.kind(), "127.0.0.1");
                assert!(found[0].contains(own) && found[1] == own, "{kind}: {entries:?}: {found:?}");
                assert_eq!(found[2], "options timeout:1 attempts:1", "{kind}");
            }
        }
    });
}

#[test]
fn links_of_an_image_lead_nowhere_outside() {
    by_all(|runtime, world| {
        let outside = world.folder.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let link = format!("../../../../../../../..{}", outside.display());
        let entries = [
            ("etc", LINK, 0o777, 0, outside.to_str().unwrap()),
            ("data", LINK, 0o777, 0, &*link),
            ("mem", LINK, 0o777, 0, outside.to_str().unwrap()),
        ];
        let image = image(world, &json!({"Volumes": {"/data": {}}, "WorkingDir": "/data/work"}), &entries);
        for read_only in [false, true] {
            let spec = with(Tightening {
                read_only: Some(read_only),
                tmpfs: vec!["/mem".to_owned()],
                ..Tightening::default()
            });
            let found = output(runtime, &image, spec, &["write=/data/x", "write=/mem/x"]);
            assert_eq!(found, "written\nwritten\n", "{}", runtime.kind());
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{}", runtime.kind());
    });
}

#[test]
fn a_profile_and_an_images_labels_tighten() {
    by_all(|runtime, world| {
        let labels = json!({"Labels": {"tare.read-only": "true", "tare.capabilities": "NET_BIND_SERVICE"}});
        let tight = image(world, &labels, &[]);
        let words = ["write=/x", "write=/tmp/x", "become=7", "call=mount"];
        let expected = "ReadOnlyFilesystem\nwritten\n[1, 1, 1]\nmount 1\n";
        assert_eq!(output(runtime, &tight, ContainerSpec::default(), &words), expected, "{}", runtime.kind());
        let loose = Tightening {
            read_only: Some(false),
            capabilities: Some(of_docker()),
            user: Some("65532".to_owned()),
            tmpfs: vec!["/run".to_owned()],
            ..Tightening::default()
        };
        let words = ["write=/x", "write=/run/x"];
        let found = output(runtime, &tight, with(loose), &words);
        assert_eq!(found, "PermissionDenied\nwritten\n", "{}", runtime.kind());
        let sysctls = [("net.core.somaxconn".to_owned(), "77".to_owned())].into();
        let spec = with(Tightening { sysctls, ..Tightening::default() });
        let found = output(runtime, &tight, spec, &["read=/proc/sys/net/core/somaxconn"]);
        assert_eq!(found, "77\n", "{}", runtime.kind());
        let none = Tightening { capabilities: Some(Capabilities::new()), ..Tightening::default() };
        let found = output(runtime, &tight, with(none), &["chown=/program"]);
        assert!(["PermissionDenied\n", "ReadOnlyFilesystem\n"].contains(&found.as_str()), "{found}");
    });
}

#[test]
fn written_files_are_no_memory_of_the_server() {
    if !possible() || !as_root() {
        return;
    }
    let world = World::new();
    let runtime = world.runtime();
    let image = image(&world, &json!({}), &[]);
    let limits = Limits { memory: Some(16 << 20), ..Limits::default() };
    let args = Some(vec!["/program".to_owned(), "fill=/big".to_owned(), "sleep".to_owned()]);
    let spec = ContainerSpec { args, limits, ..ContainerSpec::default() };
    let container = runtime.create(&image, &spec).unwrap();
    assert!(!container.writes_to_memory());
    container.start().unwrap();
    crate::fixture::until("the file", || container.output_tail() == "64\n");
    let counters = container.counters().unwrap();
    assert!(counters.memory_anon.unwrap() < 2 << 20, "{counters:?}");
    assert_eq!(counters.memory_shmem, Some(0));
    assert_eq!(container.oom_kills(), 0);
}

#[test]
fn a_failed_start_names_what_the_image_lacks() {
    by_all(|runtime, world| {
        if runtime.kind().is_daemon() {
            return;
        }
        let entries = [("run.sh", FILE, 0o755, 0, "#!/bin/bash -e\necho\n"), ("bin", FOLDER, 0o755, 0, "")];
        let image = image(world, &json!({}), &entries);
        for (program, advice) in [
            (
                "/run.sh",
                "/run.sh needs /bin/bash, which is not in the image: add it, or build the program statically (musl)",
            ),
            ("/none", "/none is not in the image: name its program with its whole path"),
        ] {
            let spec = ContainerSpec { args: Some(vec![program.to_owned()]), ..ContainerSpec::default() };
            let created = runtime.create(&image, &spec);
            let started = created.and_then(|container| container.start().map(|()| container));
            let found = match started {
                Err(error) => error.hint().map(str::to_owned),
                // runc lets a program run before it knows that it cannot.
                Ok(container) => {
                    container.wait(BOUND).unwrap().unwrap();
                    container.advice(&container.output_tail())
                }
            };
            assert_eq!(found.as_deref(), Some(advice), "{}", runtime.kind());
        }
    });
}

/// The file may be the program, so it does not make room.
#[test]
fn a_file_in_place_of_the_working_directory_is_named() {
    by_all(|runtime, world| {
        if runtime.kind().is_daemon() {
            return;
        }
        let image = image(world, &json!({"WorkingDir": "/program"}), &[]);
        let spec = ContainerSpec { args: Some(vec!["/program".to_owned()]), ..ContainerSpec::default() };
        let error = runtime.create(&image, &spec).unwrap_err().to_string();
        let expected = "cannot make the folder program: Not a directory (os error 20)";
        assert!(error.ends_with(expected), "{}: {error}", runtime.kind());
    });
}

#[test]
fn the_networks_of_host_and_container_have_their_own_ports() {
    if !possible() || !as_root() {
        return;
    }
    let before = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let world = World::new();
    for kind in [RuntimeKind::Embedded, RuntimeKind::Runc] {
        let Ok(runtime) = open(kind, &world) else { continue };
        let image = image(&world, &json!({}), &[]);
        let spec = ContainerSpec { network: Network::Host, ..ContainerSpec::default() };
        let read = ["read=/proc/sys/net/ipv4/ip_unprivileged_port_start"];
        assert_eq!(output(&runtime, &image, spec, &read), before);
        assert_eq!(output(&runtime, &image, ContainerSpec::default(), &read), "0\n");
    }
    assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap(), before);
    assert!(!Path::new("/program").exists());
}
