//! What the user's own cargo configuration says: about a target its linker and rustflags.
//!
//! cargo does not tell (`cargo config get` is unstable), so the files are read here by cargo's rules
//! (The Cargo Book, "Configuration", "Hierarchical structure" and "build.rustflags").

use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use cargo_metadata::cargo_platform::{self, Cfg};

use crate::workspace::read_toml;
use tare_tool::environment::Environment;

/// The configuration of one target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TargetConfig {
    /// Whether the user says how to link: by a linker, or by flags for one.
    pub(crate) own_linker: bool,
    /// The flags that cargo would pass to rustc.
    pub(crate) rustflags: Vec<String>,
}

/// Every file that counts for a workspace, the most general first, so that what deeper files say comes later, as
/// cargo joins it.
fn files(root: &Path, env: &Environment) -> anyhow::Result<Vec<toml::Table>> {
    let mut dirs: Vec<PathBuf> = root.ancestors().map(|dir| dir.join(".cargo")).collect();
    dirs.reverse();
    if let Some(home) = env.cargo_home().filter(|home| !dirs.contains(home)) {
        dirs.insert(0, home);
    }
    // The name without ending is older and wins.
    let candidates = dirs.iter().map(|dir| [dir.join("config"), dir.join("config.toml")]);
    let paths = candidates.filter_map(|names| names.into_iter().find(|path| path.is_file()));
    paths.map(|path| read_toml(&path)).collect()
}

/// Reads what counts for a target.
pub(crate) fn of_target(root: &Path, env: &Environment, target: &str) -> anyhow::Result<TargetConfig> {
    Ok(evaluate(&files(root, env)?, env, target))
}

fn evaluate(files: &[toml::Table], env: &Environment, target: &str) -> TargetConfig {
    let in_env = target.to_uppercase().replace('-', "_");
    let tables: Vec<&toml::Table> = files.iter().flat_map(|file| target_tables(file, target)).collect();
    let mut rustflags = user_rustflags(files, &tables, env, &in_env);
    rustflags.retain(|flag| !flag.is_empty());
    let named = env.get(&format!("CARGO_TARGET_{in_env}_LINKER")).is_some()
        || tables.iter().any(|table| table.contains_key("linker"));
    let by_flags = rustflags.iter().any(|flag| flag.contains("link-arg") || flag.contains("linker"));
    TargetConfig { own_linker: named || by_flags, rustflags }
}

/// One source alone counts, the first that says anything.
fn user_rustflags(
    files: &[toml::Table],
    tables: &[&toml::Table],
    env: &Environment,
    in_env: &str,
) -> Vec<String> {
    if let Some(flags) = env.text("CARGO_ENCODED_RUSTFLAGS") {
        return flags.split('\u{1f}').map(str::to_owned).collect();
    }
    let words = |flags: String| flags.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if let Some(flags) = env.text("RUSTFLAGS") {
        return words(flags);
    }
    let mut of_target: Vec<String> = tables.iter().flat_map(|table| flags(table.get("rustflags"))).collect();
    of_target.extend(env.text(&format!("CARGO_TARGET_{in_env}_RUSTFLAGS")).map(words).unwrap_or_default());
    if !of_target.is_empty() {
        return of_target;
    }
    let build = files.iter().filter_map(|file| file.get("build"));
    let mut of_build: Vec<String> = build.flat_map(|build| flags(build.get("rustflags"))).collect();
    of_build.extend(env.text("CARGO_BUILD_RUSTFLAGS").map(words).unwrap_or_default());
    of_build
}

/// A list of flags, or one string of them.
fn flags(value: Option<&toml::Value>) -> Vec<String> {
    match value {
        Some(toml::Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        Some(toml::Value::Array(list)) => {
            list.iter().filter_map(|flag| flag.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    }
}

/// `[target.<triple>]` and every `[target.'cfg(…)']` that holds for it.
fn target_tables<'a>(file: &'a toml::Table, target: &str) -> Vec<&'a toml::Table> {
    let Some(targets) = file.get("target").and_then(toml::Value::as_table) else { return Vec::new() };
    let cfgs = cfgs(target);
    let applies = |name: &str| {
        cargo_platform::Platform::from_str(name).is_ok_and(|platform| platform.matches(target, &cfgs))
    };
    targets.iter().filter(|(name, _)| applies(name)).filter_map(|(_, table)| table.as_table()).collect()
}

/// What `rustc --print cfg` says of a musl target, as far as configurations ask for it.
fn cfgs(target: &str) -> Vec<Cfg> {
    let arch = target.split('-').next().unwrap_or_default();
    let text = format!(
        "unix\ntarget_os=\"linux\"\ntarget_family=\"unix\"\ntarget_env=\"musl\"\ntarget_arch=\"{arch}\"\n\
         target_endian=\"little\"\ntarget_pointer_width=\"64\"\ntarget_vendor=\"unknown\""
    );
    text.lines().filter_map(|cfg| cfg.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "x86_64-unknown-linux-musl";

    fn with(file: &str, variables: &[(&str, &str)]) -> TargetConfig {
        let env = Environment {
            variables: variables.iter().map(|(k, v)| (k.into(), v.into())).collect(),
            current_dir: PathBuf::new(),
            parallelism: 1,
        };
        evaluate(&[file.parse().unwrap()], &env, TARGET)
    }

    #[test]
    fn nothing_said_leaves_everything_to_us() {
        assert_eq!(with("", &[]), TargetConfig::default());
        assert_eq!(with("[target.aarch64-apple-darwin]\nlinker = \"x\"", &[]), TargetConfig::default());
    }

    #[test]
    fn a_linker_is_found_wherever_cargo_would_find_it() {
        let own = |file, variables: &[(&str, &str)]| with(file, variables).own_linker;
        assert!(own("[target.x86_64-unknown-linux-musl]\nlinker = \"clang\"", &[]));
        assert!(own("[target.'cfg(target_os = \"linux\")']\nlinker = \"clang\"", &[]));
        assert!(!own("[target.'cfg(windows)']\nlinker = \"link\"", &[]));
        assert!(own("", &[("CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER", "cc")]));
        assert!(own("[build]\nrustflags = [\"-Clink-arg=-fuse-ld=mold\"]", &[]));
        assert!(own("", &[("RUSTFLAGS", "-C linker=cc")]));
    }

    #[test]
    fn one_source_of_rustflags_counts() {
        let file = "[build]\nrustflags = [\"-a\"]\n[target.'cfg(unix)']\nrustflags = \"-b -c\"\n";
        assert_eq!(with(file, &[]).rustflags, ["-b", "-c"]);
        assert_eq!(with(file, &[("RUSTFLAGS", "-d")]).rustflags, ["-d"]);
        let encoded = [("RUSTFLAGS", "-d"), ("CARGO_ENCODED_RUSTFLAGS", "-e\u{1f}x y")];
        assert_eq!(with(file, &encoded).rustflags, ["-e", "x y"]);
        assert_eq!(with("[build]\nrustflags = [\"-a\"]", &[]).rustflags, ["-a"]);
    }
}
