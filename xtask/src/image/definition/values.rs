//! Types for values of a definition that have a format of their own.

use std::fmt;
use std::str::FromStr;

use tare_oci::entry::Owner;

/// A value in a wrong format. The text describes the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

/// A port and its protocol, as `ExposedPorts` has them: `8080/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    number: u16,
    protocol: &'static str,
}

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

impl FromStr for Port {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error =
            || ValueError(format!("`{text}` is not a port: write 1 to 65535, or with a protocol `53/udp`"));
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = PROTOCOLS.into_iter().find(|known| *known == protocol).ok_or_else(error)?;
        match number.parse() {
            Ok(number) if number > 0 && !text.starts_with('+') => Ok(Self { number, protocol }),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// Names in the `/etc/passwd` of the default base layer, which get the number a runtime would find.
const KNOWN_USERS: [(&str, u32); 3] = [("root", 0), ("nonroot", 65532), ("nobody", 65534)];

/// A user and group that runtimes need no `/etc/passwd` for.
///
/// Kubernetes' `runAsNonRoot` cannot check a name, so names become numbers; only those that the default
/// base layer knows can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User(pub Owner);

impl FromStr for User {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let id = |text: &str| {
            let number = text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
            number.or_else(|| KNOWN_USERS.iter().find(|(name, _)| *name == text).map(|(_, id)| *id))
        };
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        match (id(user), id(group)) {
            (Some(uid), Some(gid)) => Ok(Self(Owner { uid, gid })),
            _ => Err(ValueError(format!(
                "`{text}` is not a user: write UID:GID in numbers (65534:65534), or root, nonroot or nobody"
            ))),
        }
    }
}

/// Permission bits, written in octal: `0755`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl FromStr for Mode {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        match u32::from_str_radix(digits, 8) {
            Ok(mode) if mode <= 0o7777 && !digits.starts_with('+') => Ok(Self(mode)),
            _ => Err(ValueError(format!("`{text}` is not a mode: write it in octal, such as \"0755\""))),
        }
    }
}

/// The modification time of files in a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileTime {
    /// [`Epoch::OF_FILES`](tare_oci::units::Epoch::OF_FILES), whatever the commit.
    #[default]
    Constant,
    /// `commit`: SOURCE_DATE_EPOCH, else the commit's, for files that a server sends Last-Modified of.
    Commit,
}

impl FromStr for FileTime {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "constant" => Ok(Self::Constant),
            "commit" => Ok(Self::Commit),
            _ => {
                Err(ValueError(format!("`{text}` is not a time of files: write \"constant\" or \"commit\"")))
            }
        }
    }
}

/// A signal by name or number, as `StopSignal` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal(pub String);

/// Those of signal(7) that every architecture has, without the `SIG` before each.
const SIGNALS: &str = "\
    ABRT ALRM BUS CHLD CONT FPE HUP ILL INT IO KILL PIPE POLL PROF PWR QUIT SEGV STOP SYS TERM TRAP \
    TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ";

impl FromStr for Signal {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.parse().is_ok_and(|number: u8| (1..=64).contains(&number));
        let realtime = text
            .strip_prefix("SIGRTMIN+")
            .or_else(|| text.strip_prefix("SIGRTMAX-"))
            .is_some_and(|offset| offset.parse().is_ok_and(|offset: u8| offset <= 30));
        let named =
            text.strip_prefix("SIG").is_some_and(|name| SIGNALS.split(' ').any(|known| known == name));
        if number || realtime || named {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError(format!("`{text}` is not a signal: write its name (SIGTERM) or number (15)")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_a_number_and_a_protocol() {
        for (text, shown) in [("8080", "8080/tcp"), ("53/udp", "53/udp"), ("65535/sctp", "65535/sctp")] {
            assert_eq!(text.parse::<Port>().unwrap().to_string(), shown);
        }
        for text in ["", "0", "65536", "80/http", "-1", "+80", "80/", "http", "80/TCP", "1-2"] {
            assert!(text.parse::<Port>().is_err(), "{text}");
        }
    }

    #[test]
    fn users_become_numbers() {
        for (text, uid, gid) in
            [("0", 0, 0), ("1000:100", 1000, 100), ("nobody", 65534, 65534), ("nonroot:0", 65532, 0)]
        {
            assert_eq!(text.parse(), Ok(User(Owner { uid, gid })));
        }
        for text in ["", ":", "1:", "-1", "+1", "www-data", "1:2:3", "4294967296"] {
            assert!(text.parse::<User>().is_err(), "{text}");
        }
    }

    #[test]
    fn modes_are_octal() {
        for (text, mode) in [("0755", 0o755), ("644", 0o644), ("0o1777", 0o1777), ("0", 0)] {
            assert_eq!(text.parse(), Ok(Mode(mode)));
        }
        for text in ["", "0799", "10000", "rwx", "-1", "+7", "0x1ff"] {
            assert!(text.parse::<Mode>().is_err(), "{text}");
        }
    }

    #[test]
    fn signals_are_those_of_linux() {
        for text in ["SIGTERM", "SIGRTMIN+3", "9", "64"] {
            assert_eq!(text.parse(), Ok(Signal(text.to_owned())));
        }
        for text in ["", "TERM", "SIGTERN", "0", "65", "SIGRTMIN+31", "sigterm"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }
}
