//! What each dependency brings along, from the graph of crates that a binary carries (`.dep-v0`).

use std::collections::BTreeMap;

use tare_oci::audit::{DependencyKind, VersionInfo};

/// The largest workspaces in use have a thousand packages. Beyond that nobody's share is computed.
const PACKAGES_LIMIT: usize = 4096;
/// Edges of that graph.
const EDGES_LIMIT: usize = 1 << 16;

/// One package of a binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageSize {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether it runs in the binary; otherwise it only helped to build it.
    pub runtime: bool,
    /// Bytes of the file that are counted for its crate. An estimate.
    pub own: u64,
    /// Bytes that would go with it: its own and those of all packages that only it brings in. An
    /// estimate, and no promise: what replaces it has a size too.
    pub exclusive: u64,
    /// The packages that only it brings in, in the order of the list.
    pub brings: Vec<String>,
}

/// Ranks the packages by what would go with them.
///
/// A package is brought in only by `p` if the root does not reach it without `p` (in terms of graphs: `p`
/// dominates it). `bytes` has the size of every crate by its name in code. A package whose library is
/// called otherwise than the package has no bytes here. Of two versions of a package the first has both's.
pub(super) fn packages(list: &VersionInfo, bytes: &BTreeMap<String, u64>) -> Option<Vec<PackageSize>> {
    let all = &list.packages;
    let edges: usize = all.iter().map(|package| package.dependencies.len()).sum();
    if all.len() > PACKAGES_LIMIT || edges > EDGES_LIMIT {
        return None;
    }
    let mut left = bytes.clone();
    let own: Vec<u64> =
        all.iter().map(|package| left.remove(&package.name.replace('-', "_")).unwrap_or(0)).collect();
    let reached = reachable(list, None);
    let mut sizes: Vec<PackageSize> = all
        .iter()
        .enumerate()
        .map(|(at, package)| {
            // Nothing hangs on one that nobody depends on in this binary.
            let without = if reached[at] { reachable(list, Some(at)) } else { reached.clone() };
            let gone: Vec<usize> =
                (0..all.len()).filter(|other| *other != at && reached[*other] && !without[*other]).collect();
            PackageSize {
                name: package.name.clone(),
                version: package.version.to_string(),
                runtime: package.kind == DependencyKind::Runtime,
                own: own[at],
                exclusive: gone.iter().map(|other| own[*other]).fold(own[at], u64::saturating_add),
                brings: gone.iter().map(|other| all[*other].name.clone()).collect(),
            }
        })
        .collect();
    sizes.sort_by(|a, b| {
        (b.exclusive, b.own, &a.name, &a.version).cmp(&(a.exclusive, a.own, &b.name, &b.version))
    });
    Some(sizes)
}

/// Which packages the root reaches, by dependencies that run in the binary, if one is taken away.
fn reachable(list: &VersionInfo, without: Option<usize>) -> Vec<bool> {
    let all = &list.packages;
    let mut reached = vec![false; all.len()];
    let mut queue: Vec<usize> = (0..all.len()).filter(|at| all[*at].root && Some(*at) != without).collect();
    for root in &queue {
        reached[*root] = true;
    }
    while let Some(at) = queue.pop() {
        for next in &all[at].dependencies {
            let runs = all.get(*next).is_some_and(|package| package.kind == DependencyKind::Runtime);
            if runs && Some(*next) != without && !reached[*next] {
                reached[*next] = true;
                queue.push(*next);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    /// app → http-kit → {bytes, log}, app → log, app → macros (only builds) → syn.
    const LIST: &str = r#"{"packages":[
        {"name":"app","version":"1.0.0","source":"local","dependencies":[2,3,4],"root":true},
        {"name":"bytes","version":"1.1.0","source":"crates.io"},
        {"name":"http-kit","version":"0.2.0","source":"crates.io","dependencies":[1,3]},
        {"name":"log","version":"0.4.0","source":"crates.io"},
        {"name":"macros","version":"3.0.0","source":"crates.io","kind":"build","dependencies":[5]},
        {"name":"syn","version":"3.0.0","source":"crates.io","kind":"build"}
    ],"format":1}"#;

    #[test]
    fn a_package_costs_itself_and_what_only_it_brings_in() {
        let bytes = [("app", 1), ("bytes", 20), ("http_kit", 300), ("log", 4000)];
        let bytes = bytes.map(|(name, size)| (name.to_owned(), size)).into();
        let sizes = packages(&LIST.parse().unwrap(), &bytes).unwrap();
        let rows: Vec<(&str, u64, u64, Vec<&str>)> = sizes
            .iter()
            .map(|size| {
                let brings = size.brings.iter().map(String::as_str).collect();
                (size.name.as_str(), size.own, size.exclusive, brings)
            })
            .collect();
        assert_eq!(
            rows,
            [
                ("app", 1, 4321, vec!["bytes", "http-kit", "log"]),
                ("log", 4000, 4000, vec![]),
                ("http-kit", 300, 320, vec!["bytes"]),
                ("bytes", 20, 20, vec![]),
                ("macros", 0, 0, vec![]),
                ("syn", 0, 0, vec![]),
            ]
        );
        let builds: Vec<&str> = sizes.iter().filter(|size| !size.runtime).map(|size| &*size.name).collect();
        assert_eq!(builds, ["macros", "syn"]);
    }
}
