//! Linux capabilities by name (capabilities(7), include/uapi/linux/capability.h).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A capability. Its text has no `CAP_`, as in docker's options; both spellings are read, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

/// A set of capabilities.
pub type Capabilities = BTreeSet<Capability>;

/// No capability has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no capability: write it as in capabilities(7), for example \"NET_BIND_SERVICE\"")]
pub struct CapabilityError(String);

/// By number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Capability {
    /// Needed to create a container.
    #[cfg(any(target_os = "linux", test))]
    pub(crate) const SETPCAP: Self = Self(8);
    pub(crate) const NET_BIND_SERVICE: Self = Self(10);
    /// Needed to create a container, and what docker's filter of system calls depends on most.
    #[cfg(any(target_os = "linux", test))]
    pub(crate) const SYS_ADMIN: Self = Self(21);
    /// Makes device files, also of the host's disks.
    #[cfg(any(target_os = "linux", test))]
    pub(crate) const MKNOD: Self = Self(27);

    /// Its name without `CAP_`.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    /// Its bit in a set of the kernel (capget(2)).
    #[must_use]
    pub fn bit(self) -> u64 {
        1 << self.0
    }
}

/// The capabilities that docker gives a container by default.
#[must_use]
pub fn of_docker() -> Capabilities {
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
    .iter()
    .filter_map(|name| name.parse().ok())
    .collect()
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Capability {
    type Err = CapabilityError;

    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|it| *it == name).and_then(|at| u8::try_from(at).ok());
        number.map(Self).ok_or_else(|| CapabilityError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_round_trip_in_both_spellings() {
        for (number, name) in NAMES.iter().enumerate() {
            let capability: Capability = name.parse().unwrap();
            assert_eq!((capability.to_string(), capability.bit()), ((*name).to_owned(), 1 << number));
            assert_eq!(format!("cap_{}", name.to_lowercase()).parse(), Ok(capability));
        }
        assert_eq!(Capability::SYS_ADMIN.name(), "SYS_ADMIN");
        assert_eq!(Capability::SETPCAP.name(), "SETPCAP");
        assert_eq!(Capability::MKNOD.name(), "MKNOD");
        assert_eq!(Capability::NET_BIND_SERVICE.name(), "NET_BIND_SERVICE");
        assert_eq!("ALL".parse::<Capability>(), Err(CapabilityError("ALL".to_owned())));
    }

    #[test]
    fn docker_gives_fourteen() {
        assert_eq!(of_docker().len(), 14);
    }
}
