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

use crate::adapters::say;
use crate::fixture::{BOUND, World, as_root, inside, until, write_layout};

/// A server of Debian's.
struct Server {
    /// Of the folder with its packages and all that they depend on, as `.ci/packages` has it.
    name: &'static str,
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

const SERVERS: [Server; 8] = [
    Server {
        name: "nginx",
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
        name: "lighttpd",
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
        name: "apache2",
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
        name: "haproxy",
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
        name: "redis",
        command: &["/usr/bin/redis-server", "--dir", "/data"],
        user: "33:33",
        file: ("data/unused", ""),
        port: 6379,
        request: "PING\r\nQUIT\r\n",
        answer: "+PONG",
    },
    Server {
        name: "python3",
        command: &["/usr/bin/python3.11", "-m", "http.server", "--directory", "/www", "8080"],
        // Podman leaves ports below 1024 to root.
        user: "www-data",
        file: ("etc/unused", ""),
        port: 8080,
        request: GET,
        answer: "HTTP/1.0 200",
    },
    Server {
        name: "node",
        command: &["/usr/bin/node", "/server.js"],
        user: "www-data",
        file: (
            "server.js",
            "require('http').createServer((request, response) => response.end('page')).listen(8080)\n",
        ),
        port: 8080,
        request: GET,
        answer: "HTTP/1.1 200",
    },
    Server {
        name: "php-fpm",
        command: &["/usr/sbin/php-fpm8.2", "--nodaemonize", "--fpm-config", "/etc/php-fpm.conf"],
        user: "",
        file: (
            "etc/php-fpm.conf",
            "[global]\nerror_log = /proc/self/fd/2\npid = /run/php-fpm.pid\n[www]\nuser = www-data\n\
             group = www-data\nlisten = 9000\npm = static\npm.max_children = 1\nping.path = /ping\n",
        ),
        port: 9000,
        request: PING,
        // A record of type 6, FCGI_STDOUT, of request 1.
        answer: "\u{1}\u{6}\0\u{1}",
    },
];

/// FastCGI 1.0: the records FCGI_BEGIN_REQUEST (8 bytes: a responder that closes the connection), FCGI_PARAMS, its end,
/// and an empty FCGI_STDIN.
const PING: &str = concat!(
    "\u{1}\u{1}\0\u{1}\0\u{8}\0\0\0\u{1}\0\0\0\0\0\0",
    "\u{1}\u{4}\0\u{1}\0\u{3b}\0\0",
    "\u{b}\u{5}SCRIPT_NAME/ping\u{f}\u{5}SCRIPT_FILENAME/ping\u{e}\u{3}REQUEST_METHODGET",
    "\u{1}\u{4}\0\u{1}\0\0\0\0",
    "\u{1}\u{5}\0\u{1}\0\0\0\0",
);

/// An image of a package's files.
fn image(world: &World, packages: &Path, server: &Server) -> Target {
    let root = world.folder.path().join(server.name);
    for folder in ["etc", "run", "tmp", "www", "data", "var/lib/haproxy", "var/log"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for package in fs::read_dir(packages.join(server.name)).unwrap() {
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
    let layout = world.folder.path().join(format!("{}-layout", server.name));
    let execution = json!({"Entrypoint": server.command, "User": server.user, "Volumes": {"/data": {}}});
    write_layout(&layout, &[fs::read(layer).unwrap()], &execution);
    Target::resolve(layout.to_str().unwrap(), None, world.folder.path()).unwrap()
}

fn answers(runtime: &Runtime, image: &Target, server: &Server) {
    let spec = ContainerSpec { ports: vec![server.port], ..ContainerSpec::default() };
    let container = runtime.create(image, &spec).unwrap();
    container.start().unwrap();
    let what = || format!("{} by {}: {}", server.name, runtime.kind(), container.output_tail());
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

/// Calls a function with each name of a list in a variable.
fn named(variable: &str, call: impl FnMut(&str)) {
    let list = std::env::var(variable).unwrap();
    list.split(',').for_each(call);
}

#[test]
#[ignore = "started by `cargo xtask test --outside servers`, which says with what"]
fn servers_of_a_distribution_answer_by_every_runtime() {
    assert!(as_root());
    let packages = std::env::var_os("TARE_PACKAGES").unwrap();
    named("TARE_TEST_SERVERS", |name| {
        let server = SERVERS.iter().find(|server| server.name == name).unwrap();
        let world = World::new();
        let image = image(&world, Path::new(&packages), server);
        named("TARE_TEST_RUNTIMES", |kind| {
            let kind: RuntimeKind = kind.parse().unwrap();
            answers(&Runtime::open(kind, &world.options).unwrap(), &image, server);
            say(&format!("{name} answers by {kind}"));
        });
    });
}
