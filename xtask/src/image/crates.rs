//! The crates of a binary: those that cargo compiled for it, with their dependencies from `cargo tree`.
//!
//! Neither makes cargo download more than the build did. `cargo metadata` would download the dependencies of all members
//! for all hosts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use cargo_metadata::semver::Version;
use cargo_metadata::{Artifact, PackageId, TargetKind};

use tare_oci::audit::{self, DependencyKind, Source, VersionInfo};

/// Why the crates of a binary cannot be listed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CratesError {
    /// cargo names a package in a way that The Cargo Book ("Package ID Specifications") does not have.
    #[error("cargo names a package `{0}`, which has no version")]
    Id(String),
    /// `cargo tree` printed something else than it was asked for.
    #[error("`cargo tree` printed `{0}`, which is no package")]
    Tree(String),
}

/// What cargo said while it compiled.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    kinds: BTreeMap<PackageId, DependencyKind>,
    waiting: BTreeSet<PackageId>,
}

impl Compiled {
    /// Notes what was compiled. Files below `TARGET/PROFILE` are for the binary, others run on this host:
    /// procedural macros, build scripts and what these need.
    pub(super) fn artifact(&mut self, artifact: &Artifact, target: &str, profile: &str) {
        let for_target = artifact.filenames.iter().any(|path| is_for(path.as_std_path(), target, profile));
        let kind = if for_target { DependencyKind::Runtime } else { DependencyKind::Build };
        let known = self.kinds.entry(artifact.package_id.clone()).or_insert(kind);
        *known = kind.max(*known);
        if artifact.target.kind.contains(&TargetKind::CustomBuild) {
            self.waiting.insert(artifact.package_id.clone());
        }
    }

    /// Notes that a package's build script ran to its end.
    pub(super) fn script_succeeded(&mut self, package: &PackageId) {
        self.waiting.remove(package);
    }

    /// Of the packages whose build scripts were compiled but have not succeeded, the names of those that
    /// compile C: they need the crate `cc` or `cmake`.
    pub(super) fn waiting_for_c(&self, tree: &Tree) -> Vec<String> {
        let waiting = self.waiting.iter().filter_map(|id| node(id).ok());
        let with_c = waiting.filter(|package| {
            let mut needed = tree.edges.get(package).into_iter().flatten();
            needed.any(|(name, ..)| matches!(name.as_str(), "cc" | "cmake"))
        });
        with_c.map(|(name, ..)| name).collect()
    }

    /// Whether a package's build script was compiled and has not succeeded.
    pub(super) fn is_waiting_for(&self, name: &str) -> bool {
        self.waiting.iter().filter_map(|id| name_and_version(id).ok()).any(|(waiting, _)| waiting == name)
    }

    /// Every package that was compiled, one a line.
    pub(super) fn text(&self) -> String {
        self.kinds.iter().map(|(id, kind)| format!("{id} {kind:?}\n")).collect()
    }

    /// The list of crates in format 1 of cargo-auditable, sorted by name, version and source.
    ///
    /// # Errors
    /// When cargo names a package in an unknown way.
    pub(super) fn list(&self, tree: &Tree, root: &PackageId) -> Result<VersionInfo, CratesError> {
        let mut named = Vec::new();
        for (id, kind) in &self.kinds {
            named.push((node(id)?, id, *kind));
        }
        named.sort();
        let places = |wanted: &Node| {
            let is = move |(place, (package, _, _)): (usize, &(Node, &PackageId, DependencyKind))| {
                (package == wanted).then_some(place)
            };
            named.iter().enumerate().filter_map(is).collect::<Vec<usize>>()
        };
        let packages = named
            .iter()
            .map(|(package, id, kind)| {
                let needed = tree.edges.get(package).into_iter().flatten();
                let dependencies: BTreeSet<usize> = needed.flat_map(places).collect();
                audit::Package {
                    name: package.0.clone(),
                    version: package.1.clone(),
                    source: source(id),
                    kind: *kind,
                    dependencies: dependencies.into_iter().collect(),
                    root: *id == root,
                }
            })
            .collect();
        Ok(VersionInfo { packages, format: 1 })
    }
}

type NameAndVersion = (String, Version);

/// A package as `cargo tree` and its id both tell it: a local package may have the name and version of another.
type Node = (String, Version, Place);

/// Where a package is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Local,
    Git,
    Registry,
}

/// Who needs whom in a build, without what only tests need.
#[derive(Debug, Default)]
pub(super) struct Tree {
    edges: BTreeMap<Node, BTreeSet<Node>>,
}

impl Tree {
    /// What to call cargo with besides what is built.
    pub(super) const ARGUMENTS: [&str; 8] =
        ["--edges", "normal,build", "--prefix", "depth", "--format", "|{p}", "--color", "never"];

    /// Reads what cargo prints for [`Self::ARGUMENTS`]: one package a line with its depth in front, as in
    /// `2|syn v3.0.10`. Below a package that was shown already there is nothing, and it is said once more
    /// only in the end of the line.
    ///
    /// # Errors
    /// When a line is something else.
    pub(super) fn parse(output: &str) -> Result<Self, CratesError> {
        let mut tree = Self::default();
        let mut above: Vec<Node> = Vec::new();
        for line in output.lines() {
            let unknown = || CratesError::Tree(line.to_owned());
            let (depth, package) = line.split_once('|').ok_or_else(unknown)?;
            let depth: usize = depth.parse().map_err(|_| unknown())?;
            let mut words = package.split(' ');
            let name = words.next().unwrap_or_default().to_owned();
            let version = words.next().and_then(|version| version.strip_prefix('v')).ok_or_else(unknown)?;
            let package = (name, version.parse().map_err(|_| unknown())?, place_in(package));
            if depth > above.len() {
                return Err(unknown());
            }
            above.truncate(depth);
            if let Some(parent) = above.last() {
                tree.edges.entry(parent.clone()).or_default().insert(package.clone());
            }
            above.push(package);
        }
        Ok(tree)
    }

    /// Whether a package of one name needs one of the other directly.
    pub(super) fn needs(&self, name: &str, needed: &str) -> bool {
        let mut of_name = self.edges.iter().filter(|((known, ..), _)| known == name);
        of_name.any(|(_, edges)| edges.iter().any(|(known, ..)| known == needed))
    }

    /// The names on the shortest way from a package to one of a name, both included.
    pub(super) fn path(&self, root: &PackageId, name: &str) -> Option<Vec<String>> {
        let root = node(root).ok()?;
        let mut seen = BTreeSet::from([root.clone()]);
        let mut ways = VecDeque::from([vec![root]]);
        while let Some(way) = ways.pop_front() {
            let last = way.last()?;
            if last.0 == name {
                return Some(way.into_iter().map(|(name, ..)| name).collect());
            }
            for next in self.edges.get(last).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    ways.push_back(way.iter().chain([next]).cloned().collect());
                }
            }
        }
        None
    }
}

/// Where a package is from that `cargo tree` shows as `NAME vVERSION (PLACE)`.
fn place_in(shown: &str) -> Place {
    let is_path = |text: &str| text.starts_with('/') || text.get(1..3).is_some_and(|drive| drive == ":\\");
    let mut notes = shown.split(" (").skip(1);
    match notes.find_map(|note| {
        let local = is_path(note).then_some(Place::Local);
        local.or_else(|| (note.contains("://") && !note.starts_with("registry")).then_some(Place::Git))
    }) {
        Some(place) => place,
        None => Place::Registry,
    }
}

fn node(id: &PackageId) -> Result<Node, CratesError> {
    let (name, version) = name_and_version(id)?;
    let place = match source(id) {
        Source::Local => Place::Local,
        Source::Git => Place::Git,
        _ => Place::Registry,
    };
    Ok((name, version, place))
}

/// The name in a package's id; the whole id if it has none.
pub(super) fn name(id: &PackageId) -> String {
    name_and_version(id).map_or_else(|_| id.repr.clone(), |(name, _)| name)
}

/// Name and version in `KIND+URL#NAME@VERSION`; the name is left out where the URL ends with it.
fn name_and_version(id: &PackageId) -> Result<NameAndVersion, CratesError> {
    let parse = || {
        let (url, fragment) = id.repr.rsplit_once('#')?;
        let path = url.split('?').next()?;
        let (name, version) = match fragment.rsplit_once('@') {
            Some(both) => both,
            None => (path.trim_end_matches('/').rsplit('/').next()?, fragment),
        };
        Some((name.to_owned(), version.parse().ok()?))
    };
    parse().ok_or_else(|| CratesError::Id(id.repr.clone()))
}

fn source(id: &PackageId) -> Source {
    let url = id.repr.rsplit_once('#').map_or(id.repr.as_str(), |(url, _)| url);
    match url {
        "registry+https://github.com/rust-lang/crates.io-index" | "sparse+https://index.crates.io/" => {
            Source::CratesIo
        }
        _ if url.starts_with("path+") => Source::Local,
        _ if url.starts_with("git+") => Source::Git,
        _ => Source::Registry,
    }
}

/// Whether a file lies in a folder `TARGET/PROFILE`, where cargo puts what is not for this host.
fn is_for(path: &Path, target: &str, profile: &str) -> bool {
    let parts: Vec<_> = path.components().map(std::path::Component::as_os_str).collect();
    parts.windows(2).any(|pair| pair[0] == target && pair[1] == profile)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn id(repr: &str) -> PackageId {
        PackageId { repr: repr.to_owned() }
    }

    fn artifact(id: &str, kind: &str, file: &str) -> Artifact {
        let artifact = json!({
            "package_id": id, "manifest_path": "/w/Cargo.toml", "features": [], "filenames": [file],
            "executable": null, "fresh": false,
            "profile": {"opt_level": "3", "debug_assertions": false, "overflow_checks": false, "test": false},
            "target": {"name": "any", "kind": [kind], "crate_types": [kind], "src_path": "/w/src/lib.rs", "edition": "2024"},
        });
        serde_json::from_value(artifact).unwrap()
    }

    /// server → lib → (build) cc, server → derive! → syn, server → syn
    fn compiled() -> Compiled {
        let mut compiled = Compiled::default();
        let host = "/t/image/deps/x.rlib";
        let target = "/t/T/image/deps/x.rlib";
        for (package, kind, file) in [
            (format!("{CRATES_IO}#syn@3.0.0"), "lib", target),
            (format!("{CRATES_IO}#syn@3.0.0"), "lib", host),
            ("sparse+https://own.registry/#derive@1.0.0".to_owned(), "proc-macro", "/t/image/deps/x.so"),
            (format!("{CRATES_IO}#cc@1.0.0"), "lib", host),
            ("git+https://host/lib?rev=abc#1.0.0".to_owned(), "custom-build", "/t/image/build/lib-1/x"),
            ("git+https://host/lib?rev=abc#1.0.0".to_owned(), "lib", target),
            ("path+file:///w/app#server@0.1.0".to_owned(), "bin", "/t/T/image/server"),
        ] {
            compiled.artifact(&artifact(&package, kind, file), "T", "image");
        }
        compiled
    }

    const TREE: &str = "0|server v0.1.0 (/w/app)\n1|derive v1.0.0 (proc-macro) (registry `own`)\n\
        2|syn v3.0.0\n1|lib v1.0.0 (https://host/lib?rev=abc#abcdef01)\n2|cc v1.0.0\n1|syn v3.0.0 (*)\n";

    #[test]
    fn the_list_has_what_was_compiled_and_says_what_only_builds() {
        let list =
            compiled().list(&Tree::parse(TREE).unwrap(), &id("path+file:///w/app#server@0.1.0")).unwrap();
        let shown: Vec<String> = list
            .packages
            .iter()
            .map(|p| {
                format!(
                    "{} {} {:?} {:?} {:?} {}",
                    p.name, p.version, p.source, p.kind, p.dependencies, p.root
                )
            })
            .collect();
        let expected = [
            "cc 1.0.0 CratesIo Build [] false",
            "derive 1.0.0 Registry Build [4] false",
            "lib 1.0.0 Git Runtime [0] false",
            "server 0.1.0 Local Runtime [1, 2, 4] true",
            "syn 3.0.0 CratesIo Runtime [] false",
        ];
        assert_eq!(shown, expected);
        assert_eq!(list.format, 1);
    }

    #[test]
    fn crates_that_compile_c_are_named_until_they_have() {
        let tree = Tree::parse(TREE).unwrap();
        let mut compiled = compiled();
        assert_eq!(compiled.waiting_for_c(&tree), ["lib"]);
        compiled.script_succeeded(&id("git+https://host/lib?rev=abc#1.0.0"));
        assert_eq!(compiled.waiting_for_c(&tree), Vec::<String>::new());
    }

    #[test]
    fn a_local_package_may_be_called_like_one_of_a_registry() {
        let tree = "0|itoa v1.0.0 (/w a/itoa)\n1|itoa v1.0.0\n2|log v1.0.0 (proc-macro) (https://host/log?rev=a#b)\n";
        let tree = Tree::parse(tree).unwrap();
        let mut compiled = Compiled::default();
        let (local, registry) = (id("path+file:///w%20a/itoa#1.0.0"), id(&format!("{CRATES_IO}#itoa@1.0.0")));
        for package in [&local, &registry] {
            compiled.artifact(&artifact(&package.repr, "lib", "/t/T/image/x.rlib"), "T", "image");
        }
        let list = compiled.list(&tree, &local).unwrap();
        let shown: Vec<_> =
            list.packages.iter().map(|p| (p.source.clone(), p.dependencies.clone(), p.root)).collect();
        assert_eq!(shown, [(Source::Local, vec![1], true), (Source::CratesIo, vec![], false)]);
        let names = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(tree.path(&local, "log"), names(&["itoa", "itoa", "log"]));
        assert_eq!(tree.path(&registry, "itoa"), names(&["itoa"]));
        assert_eq!(tree.path(&local, "gone"), None);
        assert!(tree.needs("itoa", "log") && !tree.needs("log", "itoa"));
    }

    #[test]
    fn packages_are_named_as_the_cargo_book_says() {
        for (repr, expected) in [
            ("path+file:///w/server#1.2.3", "server 1.2.3"),
            ("path+file:///w/a%23b/server#1.2.3", "server 1.2.3"),
            ("path+file:///C:/w/x#server@0.1.0-rc.1+b", "server 0.1.0-rc.1+b"),
            ("git+https://host/regex.git?branch=main#regex@1.4.3", "regex 1.4.3"),
            ("git+ssh://git@host/regex#1.4.3", "regex 1.4.3"),
            ("sparse+https://own.registry/index/#a@1.0.0", "a 1.0.0"),
        ] {
            let (name, version) = name_and_version(&id(repr)).unwrap();
            assert_eq!(format!("{name} {version}"), expected, "{repr}");
        }
        for repr in ["server 1.2.3 (path+file:///w)", "path+file:///w/server", "path+file:///w/server#new"] {
            assert!(matches!(name_and_version(&id(repr)), Err(CratesError::Id(named)) if named == repr));
        }
    }

    #[test]
    fn lines_that_are_no_packages_are_refused() {
        for line in ["", "app v1.0.0", "x|app v1.0.0", "0|app", "0|app 1.0.0", "0|app vnew", "1|app v1.0.0"] {
            assert!(matches!(Tree::parse(&format!("{line}\n")), Err(CratesError::Tree(_))), "{line}");
        }
    }

    #[test]
    fn what_is_compiled_for_the_host_lies_elsewhere() {
        for (path, expected) in [
            ("/t/T/image/deps/a.rlib", true),
            ("/t/T/image/server", true),
            ("/t/image/deps/a.so", false),
            ("/w/T/target/image/deps/a.so", false),
            ("/w/T/target/T/image/deps/a.rlib", true),
        ] {
            assert_eq!(is_for(Path::new(path), "T", "image"), expected, "{path}");
        }
    }
}
