//! The TCP ports on which a network's processes listen, from `/proc/PID/net/tcp` and `tcp6` (proc_pid_net(5)).

use std::collections::BTreeSet;
use std::fs;

/// The ports of the network of a process; none where its files cannot be read, as when it has ended.
pub(crate) fn ports(pid: i32) -> Option<BTreeSet<u16>> {
    let read = |name| fs::read_to_string(format!("/proc/{pid}/net/{name}"));
    let mut ports = parse(&read("tcp").ok()?);
    // There is none where the host has no IPv6.
    ports.extend(parse(&read("tcp6").unwrap_or_default()));
    Some(ports)
}

fn parse(table: &str) -> BTreeSet<u16> {
    /// TCP_LISTEN of include/net/tcp_states.h.
    const LISTEN: &str = "0A";
    let port = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let (_, port) = local.rsplit_once(':').filter(|_| state == LISTEN)?;
        u16::from_str_radix(port, 16).ok()
    };
    table.lines().filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_both_families_are_found_and_connections_are_not() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n\
            \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 1\n\
            \x20  1: 0100007F:1F91 0100007F:C350 01 00000000:00000000 00:00000000 00000000  0 0 2\n\
            \x20  2: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0 0 0\n\
            short\n";
        assert_eq!(parse(table), BTreeSet::from([80, 8080]));
        assert_eq!(ports(i32::MAX), None);
    }
}
