//! Virtual interfaces between containers and the host.
//!
//! By the program `ip`: it is on every Linux host, its errors say what is wrong, and it is called before a
//! container starts, so its few milliseconds are in no figure. (A crate for netlink would bring an async
//! runtime or several hundred lines of ours.) The usual case, loopback alone, needs none of this.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tare_tool::process::{Execute as _, ProcessError, Shell, cmd};

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// `ip` failed.
    #[error("cannot set the network up")]
    Ip(#[from] ProcessError),
    /// Every network that could be used is.
    #[error("all networks from 10.231.0.0/24 to 10.231.255.0/24 are in use")]
    NoneFree,
    /// A bridge holds only so many.
    #[error("a bridge takes 200 containers")]
    Full,
}

/// A bridge that containers are put on. Dropped, it is removed.
#[derive(Debug)]
pub struct Bridge {
    name: String,
    network: u8,
    /// The last byte of the address that the next container gets.
    next: Mutex<u8>,
}

/// One end in a container. Dropped, it is removed (with the container it went already).
#[derive(Debug)]
pub(crate) struct Pair {
    host: String,
    pub(crate) address: Ipv4Addr,
    /// It stays as long as somebody is on it.
    _bridge: Arc<Bridge>,
}

/// All names begin so, followed by the hexadecimal id of the process that made them, for a sweep to find them
/// (an interface's name has 15 bytes at most).
pub(crate) const PREFIX: &str = "tare";

impl PartialEq for Bridge {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Bridge {}

impl Bridge {
    /// Makes a bridge with an address of this host, in a network that nothing here uses.
    ///
    /// # Errors
    /// When `ip` fails, or all networks are in use.
    pub fn create() -> Result<Self, NetworkError> {
        let routes = fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
        let used = used_networks(&routes);
        let mut error = NetworkError::NoneFree;
        for network in (0..=u8::MAX).filter(|network| !used.contains(network)) {
            let name = format!("{PREFIX}{:x}b{network:02x}", std::process::id());
            match ip(&["link", "add", &name, "type", "bridge"]) {
                Ok(()) => {}
                // Another container of this process has just taken it.
                Err(failed @ NetworkError::Ip(ProcessError::Failed { .. })) => {
                    error = failed;
                    if interfaces().contains(&name) {
                        continue;
                    }
                    break;
                }
                Err(failed) => return Err(failed),
            }
            // From here on it is removed when something fails.
            let bridge = Self { name, network, next: Mutex::new(2) };
            ip(&["addr", "add", &format!("10.231.{network}.1/24"), "dev", &bridge.name])?;
            ip(&["link", "set", &bridge.name, "up"])?;
            return Ok(bridge);
        }
        Err(error)
    }

    /// Puts a container on it, by the id of a process in its network namespace.
    pub(crate) fn join(self: &Arc<Self>, pid: i32) -> Result<Pair, NetworkError> {
        let last = {
            let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let last = *next;
            if last > 201 {
                return Err(NetworkError::Full);
            }
            *next += 1;
            last
        };
        let address = Ipv4Addr::new(10, 231, self.network, last);
        let host = format!("{PREFIX}{:x}v{:02x}{last:02x}", std::process::id(), self.network);
        let process = pid.to_string();
        let inside = |arguments: &[&str]| -> Result<(), NetworkError> {
            let sh = Shell::new().map_err(ProcessError::from)?;
            cmd!(sh, "nsenter --net --target {process} ip {arguments...}").capture()?;
            Ok(())
        };
        ip(&["link", "add", &host, "type", "veth", "peer", "name", "eth0", "netns", &process])?;
        let pair = Pair { host, address, _bridge: Arc::clone(self) };
        ip(&["link", "set", &pair.host, "master", &self.name, "up"])?;
        inside(&["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        inside(&["link", "set", "eth0", "up"])?;
        Ok(pair)
    }
}

impl Pair {
    /// Joins a container and this host.
    pub(crate) fn create(pid: i32) -> Result<Self, NetworkError> {
        Arc::new(Bridge::create()?).join(pid)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        remove_link(&self.host);
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        remove_link(&self.name);
    }
}

/// What is gone already needs no more; what stays a sweep removes.
pub(crate) fn remove_link(name: &str) {
    if interfaces().iter().any(|it| it == name) {
        let _ = ip(&["link", "delete", name]);
    }
}

/// The interfaces that this thread sees. (`/sys/class/net` has those of the network it was mounted in.)
pub(crate) fn interfaces() -> Vec<String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

fn ip(arguments: &[&str]) -> Result<(), NetworkError> {
    let sh = Shell::new().map_err(ProcessError::from)?;
    cmd!(sh, "ip {arguments...}").capture()?;
    Ok(())
}

/// The third bytes of routes in 10.231.0.0/16, from `/proc/net/route`, where addresses are hexadecimal
/// numbers of this host's byte order.
fn used_networks(routes: &str) -> BTreeSet<u8> {
    let destinations = routes.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
    let bytes = destinations.filter_map(|text| u32::from_str_radix(text, 16).ok()).map(u32::to_ne_bytes);
    bytes.filter(|bytes| bytes[..2] == [10, 231]).map(|bytes| bytes[2]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_in_use_are_left_alone() {
        let route = |address: [u8; 4]| format!("eth0\t{:08X}\t00000000\t0001\n", u32::from_ne_bytes(address));
        let text = format!(
            "Iface\tDestination\tGateway\n{}{}{}short\n",
            route([0, 0, 0, 0]),
            route([10, 231, 4, 0]),
            route([10, 1, 7, 0])
        );
        assert_eq!(used_networks(&text), BTreeSet::from([4]));
    }
}
