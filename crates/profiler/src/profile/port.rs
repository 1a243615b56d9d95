//! Where the server of an image listens, among the ports that it exposes.

use tare_container::target::Target;
use tare_oci::spec::Healthcheck;

/// The port of a server whose image exposes none, and whose profile names none: the article's.
const DEFAULT: u16 = 60_000;
/// The ports of HTTP, the usual one first (RFC 9110, 4.2.1; IANA's http-alt).
const OF_HTTP: [u16; 2] = [80, 8080];

/// A port that is asked, and the others that could have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The port.
    pub number: u16,
    /// The others that the image exposes, lowest first.
    pub others: Vec<u16>,
    /// What named it, for a reader.
    by: &'static str,
}

impl Port {
    /// That of an image: what the profile names, else what its health check asks, else 80, 8080 or the lowest of those
    /// that it exposes.
    #[must_use]
    pub fn of(target: &Target, named: Option<u16>) -> Self {
        choose(named, target.config.healthcheck.as_ref(), target.exposed_ports())
    }

    /// Which of several was chosen, and how another one is; none where there was no choice.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        if self.others.is_empty() || self.by == PROFILE {
            return None;
        }
        let others: Vec<String> = self.others.iter().map(ToString::to_string).collect();
        Some(format!(
            "port {} is asked, {}; the image exposes {} too: `[ready] port` of the profile chooses",
            self.number,
            self.by,
            others.join(", ")
        ))
    }
}

const PROFILE: &str = "which the profile names";

fn choose(named: Option<u16>, check: Option<&Healthcheck>, exposed: impl Iterator<Item = u16>) -> Port {
    let mut exposed: Vec<u16> = exposed.collect();
    exposed.sort_unstable();
    exposed.dedup();
    let usual = || OF_HTTP.into_iter().find(|port| exposed.contains(port));
    let (number, by) = if let Some(port) = named {
        (port, PROFILE)
    } else if let Some(port) = check.and_then(of_healthcheck) {
        (port, "as by the image's health check")
    } else if let Some(port) = usual() {
        (port, "the usual one of HTTP")
    } else if let Some(port) = exposed.first() {
        (*port, "the lowest")
    } else {
        (DEFAULT, "the default")
    };
    exposed.retain(|port| *port != number);
    Port { number, others: exposed, by }
}

/// The port of the first address of this host in a health check, such as `curl -f http://localhost:3000/health`.
fn of_healthcheck(check: &Healthcheck) -> Option<u16> {
    let words =
        check.test.iter().flatten().flat_map(|part| part.split([' ', '"', '\'', '(', ')', '|', ';', '=']));
    let port = |word: &str| {
        let (secure, rest) = match word.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(_) => (true, ""),
            None => (false, word),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = ["localhost", "127.0.0.1", "[::1]", "0.0.0.0"]
            .into_iter()
            .find(|host| authority.starts_with(host))?;
        match authority[host.len()..].strip_prefix(':') {
            Some(port) => port.parse().ok(),
            None if !secure && word.contains("://") && authority == host => Some(80),
            None => None,
        }
    };
    words.filter_map(port).find(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(test: &[&str]) -> Healthcheck {
        Healthcheck {
            test: Some(test.iter().map(|part| (*part).to_owned()).collect()),
            ..Healthcheck::default()
        }
    }

    #[test]
    fn the_port_is_the_one_that_is_named_or_the_most_usual() {
        let curl = check(&["CMD-SHELL", "curl -f http://localhost:3000/health || exit 1"]);
        type Case<'a> = (Option<u16>, Option<&'a Healthcheck>, &'a [u16], u16, &'a [u16]);
        let cases: [Case<'_>; 10] = [
            (None, None, &[443, 80], 80, &[443]),
            (None, None, &[8080, 10000], 8080, &[10000]),
            (None, None, &[10000, 8080], 8080, &[10000]),
            (None, None, &[22, 8080], 8080, &[22]),
            (None, None, &[10443, 9000], 9000, &[10443]),
            (None, None, &[], 60_000, &[]),
            (None, Some(&curl), &[80, 3000], 3000, &[80]),
            (None, Some(&curl), &[], 3000, &[]),
            (Some(9000), Some(&curl), &[80, 3000], 9000, &[80, 3000]),
            (None, Some(&check(&["NONE"])), &[8443], 8443, &[]),
        ];
        for (named, check, exposed, number, others) in cases {
            let port = choose(named, check, exposed.iter().copied());
            assert_eq!(
                (port.number, port.others.as_slice()),
                (number, others),
                "{named:?} {check:?} {exposed:?}"
            );
        }
    }

    #[test]
    fn a_choice_is_said_with_what_was_not_chosen() {
        let note = |named, exposed: &[u16]| choose(named, None, exposed.iter().copied()).note();
        assert_eq!(
            note(None, &[443, 80]).unwrap(),
            "port 80 is asked, the usual one of HTTP; the image exposes 443 too: `[ready] port` of the profile chooses"
        );
        assert_eq!((note(None, &[443]), note(Some(1), &[443, 80]), note(None, &[])), (None, None, None));
    }

    #[test]
    fn a_health_check_names_a_port_of_this_host() {
        for (test, port) in [
            (vec!["CMD", "wget", "-q", "-O-", "http://127.0.0.1:8080/"], Some(8080)),
            (vec!["CMD-SHELL", "curl 'http://[::1]:9/x?u=http://localhost:7'"], Some(9)),
            (vec!["CMD-SHELL", "nc -z localhost:5432"], Some(5432)),
            (vec!["CMD-SHELL", "curl http://localhost/health"], Some(80)),
            (vec!["CMD-SHELL", "curl -k https://localhost/health"], None),
            (vec!["CMD-SHELL", "curl http://example.com:81/"], None),
            (vec!["CMD", "/app", "--check"], None),
            (vec!["NONE"], None),
        ] {
            assert_eq!(of_healthcheck(&check(&test)), port, "{test:?}");
        }
    }
}
