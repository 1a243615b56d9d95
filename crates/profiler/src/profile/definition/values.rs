//! The values of a profile that are chosen from a few, each with one spelling.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// Not a load case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a load: write `closed`, a share of the capacity such as `70%`, or a rate such as `1000/s`"
)]
pub struct LoadError(String);

/// How much load one case of the throughput pass sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Load {
    /// Every connection sends as soon as it has its answer: finds the capacity.
    Closed,
    /// Requests at planned times, at so many percent of the closed loop's rate.
    Share(u32),
    /// Requests at planned times, so many in a second.
    Rate(u32),
}

impl Load {
    /// The case of its measurements: `closed`, `open-70`, `open-1000/s`.
    #[must_use]
    pub fn case(self) -> String {
        match self {
            Self::Closed => "closed".to_owned(),
            Self::Share(percent) => format!("open-{percent}"),
            Self::Rate(rate) => format!("open-{rate}/s"),
        }
    }
}

impl FromStr for Load {
    type Err = LoadError;

    fn from_str(text: &str) -> Result<Self, LoadError> {
        let number = |text: &str| {
            let text = text.trim_end();
            text.parse().ok().filter(|number| *number > 0 && text.bytes().all(|b| b.is_ascii_digit()))
        };
        let load = match (text.strip_suffix('%'), text.strip_suffix("/s")) {
            (Some(share), _) => number(share).filter(|share| *share < 100).map(Self::Share),
            (_, Some(rate)) => number(rate).map(Self::Rate),
            _ => (text == "closed").then_some(Self::Closed),
        };
        // At the capacity and above it latency only says how long the run was.
        load.ok_or_else(|| LoadError(text.to_owned()))
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Share(percent) => write!(f, "{percent}%"),
            Self::Rate(rate) => write!(f, "{rate}/s"),
        }
    }
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// RFC 9112.
    #[serde(rename = "http/1.1")]
    Http1,
    /// RFC 9113 with prior knowledge, without TLS.
    #[serde(rename = "h2")]
    H2,
}

/// What of an answer must be as before the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The status.
    Status,
    /// And the length, if it was the same twice.
    Length,
    /// And the body, if it was the same twice.
    Body,
}

impl From<Check> for tare_load::Check {
    fn from(check: Check) -> Self {
        match check {
            Check::Status => Self::Status,
            Check::Length => Self::Length,
            Check::Body => Self::Body,
        }
    }
}

/// How generator and server reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// The generator joins the container's network namespace.
    Loopback,
    /// Two namespaces and a pair of virtual interfaces (veth(4)).
    Veth,
}

impl Protocol {
    /// Its name in profiles.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::H2 => "h2",
        }
    }
}

impl Network {
    /// Its name in profiles.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Veth => "veth",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_round_trip_and_name_their_case() {
        for (text, load, case) in [
            ("closed", Load::Closed, "closed"),
            ("70%", Load::Share(70), "open-70"),
            ("1000/s", Load::Rate(1000), "open-1000/s"),
        ] {
            assert_eq!(text.parse(), Ok(load));
            assert_eq!((load.to_string().as_str(), load.case().as_str()), (text, case));
        }
        for text in ["", "open", "0%", "100%", "-5%", "1.5%", "0/s", "/s", "%", "70"] {
            assert_eq!(text.parse::<Load>(), Err(LoadError(text.to_owned())), "{text}");
        }
    }
}
