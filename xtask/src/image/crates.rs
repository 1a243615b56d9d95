//! The crates of a binary, from cargo's graph of them and from what cargo did compile.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind as CargoKind, Metadata, Package, PackageId, TargetKind};

use crate::audit::{self, DependencyKind, Source, VersionInfo};

/// Crates below `root` whose build scripts use the crate `cc` or `cmake`, by name.
pub(super) fn crates_with_c(graph: &Metadata, root: &PackageId) -> Vec<String> {
    let kinds = dependency_kinds(graph, root);
    let name_of = |id: &PackageId| {
        graph.packages.iter().find(|package| package.id == *id).map(|package| package.name.to_string())
    };
    let nodes = graph.resolve.iter().flat_map(|resolve| &resolve.nodes);
    let uses_c = nodes.filter(|node| {
        kinds.get(&node.id) == Some(&DependencyKind::Runtime)
            && node.deps.iter().any(|dep| {
                dep.dep_kinds.iter().any(|kind| kind.kind == CargoKind::Build)
                    && name_of(&dep.pkg).is_some_and(|name| matches!(name.as_str(), "cc" | "cmake"))
            })
    });
    let mut names: Vec<String> = uses_c.filter_map(|node| name_of(&node.id)).collect();
    names.sort();
    names
}

/// Every package below `root` and whether it is in the binary or only builds it. Procedural macros and
/// what they need only build it.
fn dependency_kinds<'a>(graph: &'a Metadata, root: &'a PackageId) -> BTreeMap<&'a PackageId, DependencyKind> {
    let nodes: BTreeMap<&PackageId, &cargo_metadata::Node> =
        graph.resolve.iter().flat_map(|resolve| &resolve.nodes).map(|node| (&node.id, node)).collect();
    let macros: BTreeSet<&PackageId> = graph
        .packages
        .iter()
        .filter(|package| package.targets.iter().any(|target| target.kind.contains(&TargetKind::ProcMacro)))
        .map(|package| &package.id)
        .collect();
    let mut kinds = BTreeMap::from([(root, DependencyKind::Runtime)]);
    let mut queue = vec![root];
    while let Some(id) = queue.pop() {
        let kind = kinds[id];
        for dep in nodes.get(id).map(|node| node.deps.as_slice()).unwrap_or_default() {
            let has = |wanted: CargoKind| dep.dep_kinds.iter().any(|info| info.kind == wanted);
            let own = if has(CargoKind::Normal) && !macros.contains(&dep.pkg) {
                DependencyKind::Runtime
            } else if has(CargoKind::Normal) || has(CargoKind::Build) {
                DependencyKind::Build
            } else {
                continue;
            };
            let kind = own.min(kind);
            if kinds.get(&dep.pkg).is_none_or(|known| kind > *known) {
                kinds.insert(&dep.pkg, kind);
                queue.push(&dep.pkg);
            }
        }
    }
    kinds
}

/// The list of crates in a binary: of the packages below `root`, those that cargo did compile (the
/// graph alone also has what other members of the workspace switch on).
///
/// Sorted by name, version and source; format 1 of cargo-auditable: procedural macros count as
/// build dependencies.
pub(super) fn crates_in(graph: &Metadata, root: &PackageId, compiled: &BTreeSet<PackageId>) -> VersionInfo {
    let kinds = dependency_kinds(graph, root);
    let mut packages: Vec<&Package> = graph
        .packages
        .iter()
        .filter(|package| kinds.contains_key(&package.id) && compiled.contains(&package.id))
        .collect();
    packages.sort_by(|a, b| (&a.name, &a.version, &a.id.repr).cmp(&(&b.name, &b.version, &b.id.repr)));
    let places: BTreeMap<&PackageId, usize> =
        packages.iter().enumerate().map(|(place, package)| (&package.id, place)).collect();
    let nodes: BTreeMap<&PackageId, &cargo_metadata::Node> =
        graph.resolve.iter().flat_map(|resolve| &resolve.nodes).map(|node| (&node.id, node)).collect();
    let dependencies = |id: &PackageId| {
        let deps = nodes.get(id).map(|node| node.deps.as_slice()).unwrap_or_default();
        let not_only_dev =
            deps.iter().filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind != CargoKind::Development));
        let places: BTreeSet<usize> = not_only_dev.filter_map(|dep| places.get(&dep.pkg)).copied().collect();
        places.into_iter().collect()
    };
    let packages = packages
        .iter()
        .map(|package| audit::Package {
            name: package.name.to_string(),
            version: package.version.clone(),
            source: match package.source.as_ref().map(|source| source.repr.as_str()) {
                None => Source::Local,
                Some(source) if source.contains("github.com/rust-lang/crates.io-index") => Source::CratesIo,
                Some("sparse+https://index.crates.io/") => Source::CratesIo,
                Some(source) if source.starts_with("git+") => Source::Git,
                Some(_) => Source::Registry,
            },
            kind: kinds[&package.id],
            dependencies: dependencies(&package.id),
            root: package.id == *root,
        })
        .collect();
    VersionInfo { packages, format: 1 }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn id(name: &str) -> String {
        format!("registry+https://github.com/rust-lang/crates.io-index#{name}@1.0.0")
    }

    fn package(name: &str, source: Option<&str>, kind: &str) -> Value {
        json!({
            "name": name, "version": "1.0.0", "id": id(name), "source": source, "dependencies": [],
            "features": {}, "manifest_path": "Cargo.toml", "edition": "2024",
            "targets": [{"name": name, "kind": [kind], "crate_types": [kind], "src_path": "src/lib.rs", "edition": "2024"}],
        })
    }

    fn node(name: &str, deps: &[(&str, &str)]) -> Value {
        let kind = |kind: &str| if kind == "normal" { Value::Null } else { json!(kind) };
        let deps: Vec<Value> = deps
            .iter()
            .map(|(dep, of)| {
                json!({"name": dep, "pkg": id(dep), "dep_kinds": [{"kind": kind(of), "target": null}]})
            })
            .collect();
        json!({"id": id(name), "dependencies": [], "deps": deps, "features": []})
    }

    /// server → lib → (build) cc, server → derive! → syn, server → (dev) probe, other → unused
    fn graph() -> Metadata {
        const CRATES_IO: Option<&str> = Some("registry+https://github.com/rust-lang/crates.io-index");
        let graph = json!({
            "packages": [
                package("server", None, "bin"),
                package("lib", Some("git+https://host/lib#abc"), "lib"),
                package("cc", CRATES_IO, "lib"),
                package("derive", CRATES_IO, "proc-macro"),
                package("syn", Some("sparse+https://own.registry/"), "lib"),
                package("probe", CRATES_IO, "lib"),
                package("unused", CRATES_IO, "lib"),
            ],
            "resolve": {"root": null, "nodes": [
                node("server", &[("lib", "normal"), ("derive", "normal"), ("probe", "dev"), ("unused", "normal")]),
                node("lib", &[("cc", "build")]),
                node("cc", &[]),
                node("derive", &[("syn", "normal")]),
                node("syn", &[]),
                node("probe", &[]),
                node("unused", &[]),
            ]},
            "workspace_members": [id("server")], "workspace_root": "/w", "target_directory": "/w/target",
            "version": 1,
        });
        serde_json::from_value(graph).unwrap()
    }

    fn package_id(name: &str) -> PackageId {
        PackageId { repr: id(name) }
    }

    #[test]
    fn the_list_has_what_was_compiled_and_says_what_only_builds() {
        let compiled = ["server", "lib", "cc", "derive", "syn", "probe"].map(package_id).into();
        let list = crates_in(&graph(), &package_id("server"), &compiled);
        let shown: Vec<String> = list
            .packages
            .iter()
            .map(|p| format!("{} {:?} {:?} {:?} {}", p.name, p.source, p.kind, p.dependencies, p.root))
            .collect();
        let expected = [
            "cc CratesIo Build [] false",
            "derive CratesIo Build [4] false",
            "lib Git Runtime [0] false",
            "server Local Runtime [1, 2] true",
            "syn Registry Build [] false",
        ];
        assert_eq!(shown, expected);
        assert_eq!(list.format, 1);
    }

    #[test]
    fn crates_that_compile_c_are_found_by_what_builds_them() {
        assert_eq!(crates_with_c(&graph(), &package_id("server")), ["lib"]);
    }
}
