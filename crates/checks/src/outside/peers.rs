//! The servers that the sample is compared with give the same answers. Each runs out of its unpacked image as `nobody`,
//! with nothing of this host but the kernel.
//!
//! axum and actix-web are left out, because they take minutes to build; clippy checks that they compile.

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
    peers(context, &["rocket", "hyperlane"])
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
    let requests = CONTRACT.map(|(path, ..)| {
        // A connection that is not kept would end before the last answer.
        let close = if path == "/ready" { "Connection: close\r\n" } else { "" };
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n")
    });
    let sent = server.exchange(SAMPLE_PORT, &requests.concat()).context("no answer")?;
    server.end()?;
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
struct Answer {
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
