//! The servers that the sample server is compared with: they build, and they send the same answer.
//!
//! Only the two smallest: the others take minutes to build, and that they compile is found by clippy.

use anyhow::Context as _;

use crate::lab::context::{Context, SAMPLE, SAMPLE_PORT};
use crate::lab::expect::same;
use crate::lab::namespace::Isolated;

/// The bare loop, `floor`, sends the very bytes of the sample; hyper as it comes writes the names of fields in small letters,
/// which mean the same (RFC 9110, 5.1).
pub(super) fn answers(context: &Context<'_>) -> anyhow::Result<()> {
    let sample = answer(context, SAMPLE)?;
    anyhow::ensure!(sample.starts_with("HTTP/1.1 200 OK\r\n"), "the sample answers {sample:?}");
    same("the answer of the bare loop", &answer(context, "floor")?, &sample)?;
    let small = |answer: String| answer.to_ascii_lowercase();
    same("hyper's answer", &small(answer(context, "hyper")?), &small(sample))
}

/// What the server of an image sends for `/`, without the value of its date.
fn answer(context: &Context<'_>, name: &str) -> anyhow::Result<String> {
    let built = context.build(name, &format!("peer-{name}"), &[])?;
    let log = context.new_folder(&format!("peer-{name}-log"))?.join("log");
    let mut server = Isolated::start(&built.first()?.binary, &[], &[], &log)?;
    server.wait_for(SAMPLE_PORT, "/health")?;
    // The second request has the connection closed, which would show in the answer to a single one.
    let requests = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n\
                    GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answers = server.exchange(SAMPLE_PORT, requests).context("no answer")?;
    server.end()?;
    first_without_date(&answers).with_context(|| format!("{name} does not answer but sends {answers:?}"))
}

/// The first of several answers, head and body, its date left empty.
fn first_without_date(answers: &str) -> Option<String> {
    let (head, rest) = answers.split_once("\r\n\r\n")?;
    let field = |line: &str, name: &str| {
        let (own, value) = line.split_once(':')?;
        own.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    };
    let length = head.lines().find_map(|line| field(line, "content-length"))?;
    let body = rest.get(..length.parse().ok()?)?;
    let date = head.lines().find(|line| field(line, "date").is_some_and(|date| date.ends_with(" GMT")))?;
    let (name, _) = date.split_once(':')?;
    Some(format!("{}\r\n\r\n{body}", head.replace(date, &format!("{name}:"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_answers_the_first_is_taken_and_its_date_left_out() {
        let answer = |date: &str| format!("HTTP/1.1 200 OK\r\ndate:{date}\r\nContent-Length: 3\r\n\r\nok\n");
        let dated = answer(" Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(first_without_date(&format!("{dated}HTTP/1.1 404")), Some(answer("")));
        assert_eq!(first_without_date("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"), None);
        assert_eq!(first_without_date(dated.trim_end()), None);
        assert_eq!(first_without_date(""), None);
    }
}
