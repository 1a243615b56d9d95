//! File capabilities (capabilities(7)): setcap's spelling and the kernel's bytes.

use std::fmt;
use std::str::FromStr;

/// File capabilities, written as for setcap: `cap_net_bind_service,cap_net_raw=ep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Capabilities {
    permitted: u64,
    inheritable: u64,
    effective: bool,
}

/// Why a text is no set of capabilities.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapabilitiesError {
    /// No names or no flags.
    #[error("`{0}` is not a set of capabilities: write NAME[,NAME…]=ep, as for setcap")]
    Form(String),
    /// The kernel has no capability of that name.
    #[error("`{0}` is not a capability of Linux")]
    Unknown(String),
}

/// In the order of their numbers in linux/capability.h, without the `cap_` before each.
const CAPABILITY_NAMES: &str = "\
    chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable \
    net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio \
    sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config \
    mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm \
    block_suspend audit_read perfmon bpf checkpoint_restore";

impl Capabilities {
    /// `struct vfs_cap_data` of revision 2 (linux/capability.h), little-endian: magic and effective
    /// bit, then permitted and inheritable, low words first.
    #[must_use]
    pub fn to_xattr(self) -> [u8; 20] {
        const VFS_CAP_REVISION_2: u32 = 0x0200_0000;
        let words = [
            VFS_CAP_REVISION_2 | u32::from(self.effective),
            self.permitted as u32,
            self.inheritable as u32,
            (self.permitted >> 32) as u32,
            (self.inheritable >> 32) as u32,
        ];
        let mut bytes = [0; 20];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

impl FromStr for Capabilities {
    type Err = CapabilitiesError;

    fn from_str(text: &str) -> Result<Self, CapabilitiesError> {
        let form = || CapabilitiesError::Form(text.to_owned());
        let (names, flags) = text.split_once(['=', '+']).ok_or_else(form)?;
        let mut set = 0;
        for name in names.split(',') {
            let name = name.trim().to_ascii_lowercase();
            let plain = name.strip_prefix("cap_").unwrap_or_default();
            let number = CAPABILITY_NAMES.split(' ').position(|known| known == plain);
            set |= 1 << number.ok_or(CapabilitiesError::Unknown(name))?;
        }
        // `=+ep` is how getcap used to print it.
        let flags = flags.strip_prefix('+').unwrap_or(flags);
        if flags.is_empty() || !flags.bytes().all(|flag| b"eip".contains(&flag)) {
            return Err(form());
        }
        let capabilities = Self {
            permitted: if flags.contains('p') { set } else { 0 },
            inheritable: if flags.contains('i') { set } else { 0 },
            effective: flags.contains('e'),
        };
        // An effective bit without a permitted or inheritable set gives nothing.
        if capabilities.permitted | capabilities.inheritable == 0 { Err(form()) } else { Ok(capabilities) }
    }
}

/// setcap's spelling, names in the kernel's order.
impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.permitted | self.inheritable;
        let names: Vec<String> = CAPABILITY_NAMES
            .split(' ')
            .enumerate()
            .filter(|(number, _)| set >> number & 1 == 1)
            .map(|(_, name)| format!("cap_{name}"))
            .collect();
        write!(f, "{}=", names.join(","))?;
        for (flag, on) in [("e", self.effective), ("i", self.inheritable != 0), ("p", self.permitted != 0)] {
            f.write_str(if on { flag } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_round_trip_in_setcaps_spelling() {
        for text in ["cap_net_bind_service=ep", "cap_chown,cap_bpf=eip", "cap_net_raw=i"] {
            assert_eq!(text.parse::<Capabilities>().unwrap().to_string(), text);
        }
        assert_eq!("CAP_NET_RAW+ep".parse::<Capabilities>(), "cap_net_raw=ep".parse());
        assert_eq!("cap_net_raw=+ep".parse::<Capabilities>(), "cap_net_raw=ep".parse());
        for text in ["", "cap_net_raw", "cap_net_raw=", "cap_net_raw=x", "cap_net_raw=e"] {
            assert_eq!(text.parse::<Capabilities>(), Err(CapabilitiesError::Form(text.to_owned())));
        }
        assert_eq!("cap_x=p".parse::<Capabilities>(), Err(CapabilitiesError::Unknown("cap_x".into())));
    }
}
