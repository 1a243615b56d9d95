//! Virtual interfaces between containers and the host.
//!
//! They are created by the program `ip`, which every Linux host has and whose errors are clear. It runs before a container
//! starts, so its few milliseconds are in no figure. (A crate for netlink would bring an async runtime or several hundred
//! lines of our own.) The usual case, loopback alone, needs no interfaces.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tare_tool::process::{Execute as _, Shell, cmd, xshell};

use super::cleanup;
use super::error::ContainerError;

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
    /// It stays as long as a container is on it.
    _bridge: Arc<Bridge>,
}

/// All names begin so, followed by the hexadecimal id of the process that made them, for a sweep to find them
/// (an interface's name has 15 bytes at most).
const PREFIX: &str = "tare";

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
    pub fn create() -> Result<Self, ContainerError> {
        let _making = cleanup::making();
        Self::make()
    }

    fn make() -> Result<Self, ContainerError> {
        let routes = fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
        let used = used_networks(&routes);
        let mut error = ContainerError::new("all networks from 10.231.0.0/24 to 10.231.255.0/24 are in use");
        for network in (0..=u8::MAX).filter(|network| !used.contains(network)) {
            let name = format!("{PREFIX}{:x}b{network:02x}", std::process::id());
            match ip(&["link", "add", &name, "group", &group(), "type", "bridge"]) {
                Ok(()) => {}
                // Another container of this process has just taken it.
                Err(failed) if interfaces().contains(&name) => {
                    error = failed;
                    continue;
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
    pub(crate) fn join(self: &Arc<Self>, pid: i32) -> Result<Pair, ContainerError> {
        let last = {
            let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let last = *next;
            if last > 201 {
                return Err(ContainerError::new("a bridge takes 200 containers"));
            }
            *next += 1;
            last
        };
        let address = Ipv4Addr::new(10, 231, self.network, last);
        let host = format!("{PREFIX}{:x}v{:02x}{last:02x}", std::process::id(), self.network);
        let process = pid.to_string();
        let inside =
            |arguments: &[&str]| run(|sh| cmd!(sh, "nsenter --net --target {process} ip {arguments...}"));
        ip(&[
            "link",
            "add",
            &host,
            "group",
            &group(),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &process,
        ])?;
        let pair = Pair { host, address, _bridge: Arc::clone(self) };
        ip(&["link", "set", &pair.host, "master", &self.name, "up"])?;
        inside(&["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        inside(&["link", "set", "eth0", "up"])?;
        Ok(pair)
    }
}

impl Pair {
    /// Joins a container and this host.
    pub(crate) fn create(pid: i32) -> Result<Self, ContainerError> {
        // Within the creation of a container, which holds the guard.
        Arc::new(Bridge::make()?).join(pid)
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

/// Interfaces that do not exist any more need no removal; a later clean-up removes the rest.
fn remove_link(name: &str) {
    if interfaces().iter().any(|it| it == name) {
        let _ = ip(&["link", "delete", name]);
    }
}

/// The interfaces that this thread sees. (`/sys/class/net` has those of the network it was mounted in.)
fn interfaces() -> Vec<String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// Removes the interfaces of dead processes, and returns their names. `is_dead` is called with the pid namespace of the
/// process that made one, and its id there: runs in two containers may share a network, and number their processes apart.
pub(crate) fn sweep(is_dead: impl Fn(u64, u32) -> bool) -> Vec<String> {
    if !interfaces().iter().any(|name| link_owner(name).is_some()) {
        return Vec::new();
    }
    let links = run_for_text(&["-oneline", "link", "show"]).unwrap_or_default();
    let mut names = Vec::new();
    for (name, namespace) in links.lines().filter_map(name_and_namespace) {
        if link_owner(&name).is_some_and(|pid| is_dead(namespace, pid)) {
            remove_link(&name);
            names.push(name);
        }
    }
    names
}

/// The process that made an interface, by its name: `tare`, its id in hexadecimal, `b` or `v`, and digits.
/// `b` is a digit too, so the kind is looked for at its place from the end.
fn link_owner(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?;
    let pid = match rest.len() {
        length if length >= 6 && rest.as_bytes()[length - 5] == b'v' => &rest[..length - 5],
        length if length >= 4 && rest.as_bytes()[length - 3] == b'b' => &rest[..length - 3],
        _ => return None,
    };
    u32::from_str_radix(pid, 16).ok()
}

/// The bit of a pid namespace's number that a group has no place for. The kernel sets it in all of them
/// (include/linux/proc_ns.h).
const NOT_IN_A_GROUP: u64 = 0x8000_0000;

/// The group of the interfaces that processes of this pid namespace make: its number, as far as a group has bits.
fn group() -> String {
    (super::group::numbering() & !NOT_IN_A_GROUP).to_string()
}

fn run_for_text(arguments: &[&str]) -> Option<String> {
    let sh = Shell::new().ok()?;
    cmd!(sh, "ip {arguments...}").capture_text().ok()
}

/// The name, and the pid namespace by the group, in a line that `ip -oneline link show` prints:
/// `7: tare1b00: <…> mtu 1500 … group 1879048530 …` or `8: tare1v0002@if3: <…> …`. None of an interface in no group, which a
/// process made that no namespace is known of.
fn name_and_namespace(line: &str) -> Option<(String, u64)> {
    let name = line.split(": ").nth(1)?.split('@').next()?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "group").skip(1);
    Some((name.to_owned(), words.next()?.parse::<u64>().ok()? | NOT_IN_A_GROUP))
}

fn ip(arguments: &[&str]) -> Result<(), ContainerError> {
    run(|sh| cmd!(sh, "ip {arguments...}"))
}

fn run(command: impl Fn(&Shell) -> xshell::Cmd<'_>) -> Result<(), ContainerError> {
    let done = Shell::new().map_err(Into::into).and_then(|sh| command(&sh).capture());
    done.map(drop).map_err(|error| ContainerError::new("cannot set the network up").because(error))
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

    #[test]
    fn interfaces_name_the_namespace_of_their_owner() {
        let of = |name: &str, group: &str| {
            let line =
                format!("3: {name}: <BROADCAST> mtu 1500 state DOWN group {group} qlen 1000\\    link/ether");
            name_and_namespace(&line)
        };
        let namespace = 4_026_532_178;
        assert_eq!(of("tare1b00", "1879048530"), Some(("tare1b00".to_owned(), namespace)));
        assert_eq!(of("tare1v0002@if3", "1879048530"), Some(("tare1v0002".to_owned(), namespace)));
        assert_eq!(of("tare1b00", "default"), None);
        assert_eq!(name_and_namespace("3: tare1b00: <BROADCAST> mtu 1500"), None);
    }

    #[test]
    fn interfaces_name_their_owner() {
        for (name, pid) in [
            ("tare1bb07", Some(0x1b)),
            ("tareb0bb07", Some(0xb0b)),
            ("tare400000v0702", Some(0x40_0000)),
            ("tare", None),
            ("eth0", None),
            ("tare-br", None),
        ] {
            assert_eq!(link_owner(name), pid, "{name}");
        }
    }
}
