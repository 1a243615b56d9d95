//! The network namespace that the keeper enters before there is a container.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// Enters a new network namespace, in which loopback is up and the parameters have these values.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn new_network(parameters: &BTreeMap<String, String>) -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("no network namespace: {error}"))?;
    loopback_up().map_err(|error| format!("cannot set loopback up: {error}"))?;
    for (name, value) in parameters {
        // Those of the namespace of the process that opens them.
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        fs::write(&file, value).map_err(|error| format!("cannot set sysctl {name} to {value}: {error}"))?;
    }
    Ok(())
}

/// Sets the flag IFF_UP of the first interface, which in a new network is loopback (rtnetlink(7)).
fn loopback_up() -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const IFF_UP: u32 = 1;
    const LENGTH: u32 = 32;
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    let mut message = Vec::with_capacity(LENGTH as usize);
    // nlmsghdr: length, type, flags, sequence, port.
    message.extend(LENGTH.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    // ifinfomsg: family and padding, type, index, flags, and which of them are to change.
    message.extend([0; 4]);
    message.extend(1_i32.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    // nlmsgerr: the header, then a negated errno or 0.
    let mut answer = [0; 64];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match answer[..length].get(16..20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("an answer without a code")),
    }
}
