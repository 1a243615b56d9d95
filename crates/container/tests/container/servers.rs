//! Servers as a distribution ships them, started as `docker run` starts them: they begin as root, write pid files and
//! logs, change owners, drop root's rights and bind port 80.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tare_container::spec::ContainerSpec;
use tare_container::target::Target;
use tare_container::{Runtime, RuntimeKind};

use crate::adapters::{open, say};
use crate::fixture::{BOUND, World, as_root, inside, until, write_layout};

/// A server of a Debian package.
struct Server {
    /// Of the folder with the package and all that it depends on.
    package: &'static str,
    command: &'static [&'static str],
    user: &'static str,
    /// Where, and what, it is configured with.
    file: (&'static str, &'static str),
    port: u16,
    /// What it is asked, and how the answer begins.
    request: &'static str,
    answer: &'static str,
}

const GET: &str = "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n";

const SERVERS: [Server; 6] = [
    Server {
        package: "nginx-light",
        command: &["/usr/sbin/nginx", "-g", "daemon off;"],
        user: "",
        file: (
            "etc/nginx/nginx.conf",
            "user www-data;\nevents {}\nhttp {\n access_log /dev/stdout;\n error_log /dev/stderr;\n \
             server { listen 80; root /www; }\n}\n",
        ),
        port: 80,
        request: GET,
        answer: "HTTP/1.1 200",
    },
    Server {
        package: "lighttpd",
        command: &["/usr/sbin/lighttpd", "-D", "-f", "/etc/lighttpd/lighttpd.conf"],
        user: "",
        file: (
            "etc/lighttpd/lighttpd.conf",
            "server.document-root = \"/www\"\nserver.port = 80\nserver.username = \"www-data\"\n\
             server.groupname = \"www-data\"\nindex-file.names = (\"index.html\")\n\
             server.pid-file = \"/run/lighttpd.pid\"\n",
        ),
        port: 80,
        request: GET,
        answer: "HTTP/1.0 200",
    },
    Server {
        package: "apache2",
        command: &["/usr/sbin/apache2", "-DFOREGROUND", "-f", "/etc/apache2/apache2.conf"],
        user: "",
        file: (
            "etc/apache2/apache2.conf",
            "LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\n\
             LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n\
             LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so\n\
             Listen 80\nUser www-data\nGroup www-data\nServerName localhost\nDocumentRoot /www\n\
             PidFile /run/apache2.pid\nErrorLog /dev/stderr\n<Directory /www>\nRequire all granted\n</Directory>\n",
        ),
        port: 80,
        request: GET,
        answer: "HTTP/1.1 200",
    },
    Server {
        package: "haproxy",
        command: &["/usr/sbin/haproxy", "-f", "/etc/haproxy/haproxy.cfg"],
        user: "",
        file: (
            "etc/haproxy/haproxy.cfg",
            "global\n user www-data\n group www-data\n chroot /var/lib/haproxy\ndefaults\n mode http\n \
             timeout client 5s\n timeout server 5s\n timeout connect 5s\nfrontend all\n bind :80\n \
             http-request return status 200 content-type text/plain string page\n",
        ),
        port: 80,
        request: GET,
        answer: "HTTP/1.1 200",
    },
    Server {
        package: "redis-server",
        command: &["/usr/bin/redis-server", "--dir", "/data"],
        user: "33:33",
        file: ("data/unused", ""),
        port: 6379,
        request: "PING\r\nQUIT\r\n",
        answer: "+PONG",
    },
    Server {
        package: "python3-minimal",
        command: &["/usr/bin/python3.11", "-m", "http.server", "--directory", "/www", "80"],
        user: "www-data",
        file: ("etc/unused", ""),
        port: 80,
        request: GET,
        answer: "HTTP/1.0 200",
    },
];

/// An image of a package's files.
fn image(world: &World, packages: &Path, server: &Server) -> Target {
    let root = world.folder.path().join(server.package);
    for folder in ["etc", "run", "tmp", "www", "data", "var/lib/haproxy", "var/log"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for package in fs::read_dir(packages.join(server.package)).unwrap() {
        let package = package.unwrap().path();
        if package.extension().is_some_and(|it| it == "deb") {
            assert!(Command::new("dpkg-deb").arg("-x").args([&package, &root]).status().unwrap().success());
        }
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\n")
        .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nwww-data:x:33:\n").unwrap();
    fs::write(root.join("www/index.html"), "page").unwrap();
    fs::write(root.join(server.file.0), server.file.1).unwrap();
    std::os::unix::fs::chown(root.join("data"), Some(33), Some(33)).unwrap();
    let layer = world.folder.path().join("layer.tar");
    let mut tar = Command::new("tar");
    tar.args(["--numeric-owner", "-C"]).arg(&root).arg("-cf").arg(&layer).arg(".");
    assert!(tar.status().unwrap().success());
    let layout = world.folder.path().join(format!("{}-layout", server.package));
    let execution = json!({"Entrypoint": server.command, "User": server.user, "Volumes": {"/data": {}}});
    write_layout(&layout, &[fs::read(layer).unwrap()], &execution);
    Target::resolve(layout.to_str().unwrap(), None, world.folder.path()).unwrap()
}

fn answers(runtime: &Runtime, image: &Target, server: &Server) {
    let spec = ContainerSpec { ports: vec![server.port], ..ContainerSpec::default() };
    let container = runtime.create(image, &spec).unwrap();
    container.start().unwrap();
    let what = || format!("{} by {}: {}", server.package, runtime.kind(), container.output_tail());
    let endpoint = container.endpoint(server.port).unwrap();
    let (request, expected) = (server.request, server.answer);
    until(&what(), || {
        assert_eq!(container.wait(std::time::Duration::ZERO).unwrap(), None, "{}", what());
        let ask = move || {
            let mut stream = TcpStream::connect_timeout(&endpoint.address, BOUND).ok()?;
            stream.set_read_timeout(Some(BOUND)).ok()?;
            stream.write_all(request.as_bytes()).ok()?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).ok()?;
            Some(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer = match &endpoint.network_namespace {
            Some(network) => inside(network, ask),
            None => ask(),
        };
        answer.is_some_and(|answer| {
            assert!(answer.starts_with(expected), "{}: {answer}", what());
            true
        })
    });
    container.remove().unwrap();
}

#[test]
#[ignore = "needs the folder TARE_PACKAGES, with the Debian packages of each server in a folder of its name"]
fn servers_of_a_distribution_answer_by_every_runtime() {
    assert!(as_root());
    let packages = std::env::var_os("TARE_PACKAGES").unwrap();
    for server in &SERVERS {
        if !Path::new(&packages).join(server.package).is_dir() {
            say(&format!("left out: {}: no packages", server.package));
            continue;
        }
        let world = World::new();
        let image = image(&world, Path::new(&packages), server);
        for kind in RuntimeKind::ALL {
            match open(kind, &world) {
                Ok(runtime) => {
                    answers(&runtime, &image, server);
                    say(&format!("{} answers by {kind}", server.package));
                }
                Err(why) => say(&format!("left out: {kind}: {why}")),
            }
        }
    }
}
