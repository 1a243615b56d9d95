//! The values of a profile that are written as text or as a number, each with one spelling in and one out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tare_report::limits::{CpuLimit, DEFAULT_PERIOD};

/// What is wrong with a value's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a load case.
    #[error(
        "`{0}` is not a load: write `closed`, a share of the capacity such as `70%`, or a rate such as `1000/s`"
    )]
    Load(String),
    /// Not a protocol.
    #[error("`{0}` is not a protocol: write `http/1.1` or `h2`")]
    Protocol(String),
    /// Not a network.
    #[error("`{0}` is not a network: write `loopback` or `veth`")]
    Network(String),
    /// Not a number of CPUs.
    #[error("`{0}` is not a number of CPUs, such as `2` or `0.25`")]
    Cpus(String),
}

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
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError::Load(text.to_owned());
        let number = |text: &str| -> Result<u32, ValueError> {
            let text = text.trim_end();
            if !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(error());
            }
            text.parse().ok().filter(|number| *number > 0).ok_or_else(error)
        };
        if text == "closed" {
            Ok(Self::Closed)
        } else if let Some(share) = text.strip_suffix('%') {
            // Above the capacity latency only tells how long the run was.
            number(share).and_then(|share| if share < 100 { Ok(Self::Share(share)) } else { Err(error()) })
        } else if let Some(rate) = text.strip_suffix("/s") {
            number(rate).map(Self::Rate)
        } else {
            Err(error())
        }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RFC 9112.
    Http1,
    /// RFC 9113 with prior knowledge, without TLS.
    H2,
}

impl FromStr for Protocol {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "http/1.1" => Ok(Self::Http1),
            "h2" => Ok(Self::H2),
            _ => Err(ValueError::Protocol(text.to_owned())),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "http/1.1",
            Self::H2 => "h2",
        })
    }
}

/// How generator and server reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// The generator joins the container's network namespace.
    Loopback,
    /// Two namespaces and a pair of virtual interfaces (veth(4)).
    Veth,
}

impl FromStr for Network {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "loopback" => Ok(Self::Loopback),
            "veth" => Ok(Self::Veth),
            _ => Err(ValueError::Network(text.to_owned())),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Veth => "veth",
        })
    }
}

/// No kernel has more (`NR_CPUS` of x86_64 ends at 8192).
const MOST_CPUS: u32 = 8192;

/// CPU time in thousandths of a CPU: 250 is a quarter of one. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpus(u32);

impl Cpus {
    /// A number of CPUs; none if it is not more than half a thousandth, or beyond what any machine has.
    #[must_use]
    pub fn new(cpus: f64) -> Option<Self> {
        let thousandths = (cpus * 1000.0).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
        (1.0..=f64::from(MOST_CPUS) * 1000.0).contains(&thousandths).then_some(Self(thousandths as u32))
    }

    /// In thousandths of a CPU.
    #[must_use]
    pub fn thousandths(self) -> u32 {
        self.0
    }

    /// As a number of CPUs.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

/// The quota that makes so many CPUs, in the kernel's default period.
impl From<Cpus> for CpuLimit {
    fn from(cpus: Cpus) -> Self {
        Self { quota: u64::from(cpus.thousandths()) * (DEFAULT_PERIOD / 1000), period: DEFAULT_PERIOD }
    }
}

impl FromStr for Cpus {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.parse().ok().and_then(Self::new);
        number.ok_or_else(|| ValueError::Cpus(text.to_owned()))
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// Serialised as they are written.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(Load, Protocol, Network);

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
            assert_eq!(text.parse::<Load>(), Err(ValueError::Load(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn no_cpu_is_no_limit() {
        assert_eq!("0.25".parse(), Ok(Cpus(250)));
        assert_eq!(Cpus(250).to_string(), "0.25");
        assert_eq!(Cpus(2000).to_string(), "2");
        for text in ["0", "0.0001", "-1", "NaN", "inf", "", "1e9"] {
            assert_eq!(text.parse::<Cpus>(), Err(ValueError::Cpus(text.to_owned())), "{text}");
        }
    }
}
