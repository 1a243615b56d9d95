//! Paths of the machine that builds, and what stands for them in a program.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, Package};

use crate::cargo_config::CargoConfig;
use crate::workspace::Workspace;
use tare_tool::environment::Environment;
use tare_tool::process::{Execute as _, Shell, cmd, shell_in};

/// Folders whose paths must not get into a program.
#[derive(Debug, Clone)]
pub(super) struct Remapped {
    /// Each with what stands for it. The last that fits counts, so the deeper ones come later.
    pub(super) folders: Vec<(PathBuf, String)>,
    /// Those of local packages outside the workspace's root.
    pub(super) outside: Vec<PathBuf>,
}

/// Finds the folders of a workspace.
pub(super) fn remapped(
    workspace: &Workspace,
    config: &CargoConfig<'_>,
    env: &Environment,
    sysroot: Option<&Path>,
) -> Remapped {
    let mut folders = vec![
        (workspace.root.clone(), "/src".to_owned()),
        // Generated code lies here, also when the user builds outside the workspace.
        (workspace.target_dir.clone(), "/src/target".to_owned()),
        (workspace.build_dir.clone(), "/src/target".to_owned()),
    ];
    if let Some(home) = env.cargo_home() {
        folders.push((home, "/cargo".to_owned()));
    }
    // With the component rust-src, the standard library's paths are those of this toolchain.
    let library = sysroot.map(|sysroot| sysroot.join("lib/rustlib/src/rust"));
    if let Some(library) = library.filter(|library| library.is_dir())
        && let Some(commit) = rustc_commit(config)
    {
        folders.push((library, format!("/rustc/{commit}")));
    }
    let local = outside(workspace, config, env, &|kind| kind != DependencyKind::Development);
    folders.extend(local.iter().map(|local| (local.folder.clone(), format!("/local/{}", local.title))));
    let outside = local.into_iter().map(|local| local.folder).collect();
    let vendored = config.tables(&["source"]).flat_map(|(table, file)| {
        let named = table.values().filter_map(|source| source.get("directory")?.as_str());
        named.map(|dir| (config.path(dir, file), "/cargo/vendor".to_owned())).collect::<Vec<_>>()
    });
    folders.extend(vendored.filter(|(dir, _)| !dir.starts_with(&workspace.root)));
    folders.sort_by_key(|(folder, _)| folder.components().count());
    folders.dedup();
    Remapped { folders, outside }
}

/// A local package outside the workspace's root.
#[derive(Debug, Clone)]
pub(crate) struct LocalPackage {
    /// The folder of its Cargo.toml.
    pub(crate) folder: PathBuf,
    /// The root of its cargo workspace.
    pub(crate) workspace: PathBuf,
    /// Where cargo builds that workspace.
    pub(crate) target_dir: PathBuf,
    /// Its name and version.
    title: String,
}

/// The local packages outside the workspace's root that cargo reads for a build, those for tests and examples among them.
///
/// # Errors
/// When the user's cargo configuration cannot be understood.
pub(crate) fn local_packages(workspace: &Workspace, env: &Environment) -> anyhow::Result<Vec<LocalPackage>> {
    let config = CargoConfig::read(&workspace.root, env)?;
    Ok(outside(workspace, &config, env, &|_| true))
}

/// The local packages outside the workspace's root that its packages may need: path dependencies of the wanted kinds,
/// `[patch]` and `paths`. cargo tells them only together with everything that would have to be downloaded, so each is
/// asked for.
fn outside(
    workspace: &Workspace,
    config: &CargoConfig<'_>,
    env: &Environment,
    is_wanted: &dyn Fn(DependencyKind) -> bool,
) -> Vec<LocalPackage> {
    let is_outside = |dir: &PathBuf| !dir.starts_with(&workspace.root);
    let mut waiting: Vec<PathBuf> = workspace.packages.iter().map(folder).collect();
    waiting.extend(workspace.packages.iter().flat_map(|package| path_dependencies(package, is_wanted)));
    waiting.extend(patches(&workspace.patch).map(|path| {
        let dir = workspace.root.join(path);
        crate::cargo_config::files::normalized(&dir)
    }));
    for (patch, file) in config.tables(&["patch"]) {
        waiting.extend(patches(patch).map(|path| config.path(path, file)));
    }
    waiting.extend(config.override_paths());

    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    while let Some(dir) = waiting.pop() {
        if !is_outside(&dir) || !seen.insert(dir.clone()) {
            continue;
        }
        // cargo says what is wrong with a package that cannot be read.
        let Some((package, metadata)) = package_in(&dir, env) else { continue };
        waiting.extend(path_dependencies(&package, is_wanted));
        found.push(LocalPackage {
            folder: dir,
            workspace: metadata.workspace_root.into(),
            target_dir: metadata.target_directory.into(),
            title: format!("{}-{}", package.name, package.version),
        });
    }
    found
}

fn folder(package: &Package) -> PathBuf {
    let manifest = package.manifest_path.as_std_path();
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

fn path_dependencies(package: &Package, is_wanted: &dyn Fn(DependencyKind) -> bool) -> Vec<PathBuf> {
    let needed = package.dependencies.iter().filter(|it| is_wanted(it.kind));
    needed.filter_map(|it| it.path.clone()).map(Into::into).collect()
}

/// The paths in a `[patch]` table.
fn patches(patch: &toml::Table) -> impl Iterator<Item = &str> {
    let packages = patch.values().filter_map(toml::Value::as_table).flat_map(toml::Table::values);
    packages.filter_map(|package| package.get("path")?.as_str())
}

fn package_in(dir: &Path, env: &Environment) -> Option<(Package, Metadata)> {
    let sh = shell_in(dir).ok()?;
    let (cargo, manifest) = (env.cargo(), dir.join("Cargo.toml"));
    let command =
        cmd!(sh, "{cargo} metadata --no-deps --offline --format-version 1 --manifest-path {manifest}");
    let printed = command.without_env(env.of_cargo_run()).capture().ok()?;
    let metadata: Metadata = serde_json::from_slice(&printed).ok()?;
    let package = metadata.packages.iter().find(|package| package.manifest_path.as_std_path() == manifest)?;
    Some((package.clone(), metadata))
}

fn rustc_commit(config: &CargoConfig<'_>) -> Option<String> {
    let rustc = config.rustc();
    let sh = Shell::new().ok()?;
    let output = cmd!(sh, "{rustc} -vV").capture_text().ok()?;
    output.lines().find_map(|line| line.strip_prefix("commit-hash: ")).map(str::to_owned)
}
