//! Variables by which the crate `cc` compiles C without paths of this machine.

use std::path::{Path, PathBuf};

use crate::cargo_config::CargoConfig;

/// The variables for a target. `lock` is the text of Cargo.lock.
pub(super) fn c_flags(
    target: &str,
    remapped: &[(PathBuf, String)],
    config: &CargoConfig<'_>,
    lock: &str,
) -> Vec<(String, String)> {
    const ESCAPED: &str = "CC_SHELL_ESCAPED_FLAGS";
    let underscored = target.replace('-', "_");
    let has_space = |path: &Path| path.to_string_lossy().contains(char::is_whitespace);
    let by_user = config.child_variable(ESCAPED).is_some_and(|value| !["0", "false"].contains(&&*value));
    let escaped = by_user || (remapped.iter().any(|(path, _)| has_space(path)) && reads_quotes(lock));
    let mut variables: Vec<(String, String)> = ["CFLAGS", "CXXFLAGS"]
        .map(|name| {
            // The most special variable hides the others in older versions, so it takes over what they say.
            let names = [
                format!("{name}_{target}"),
                format!("{name}_{underscored}"),
                format!("TARGET_{name}"),
                name.to_owned(),
            ];
            let value = names.iter().find_map(|name| config.child_variable(name)).unwrap_or_default();
            let mut words: Vec<String> = match escaped && !by_user {
                true => value.split_whitespace().map(quoted).collect(),
                false => value.split_whitespace().map(str::to_owned).collect(),
            };
            for (from, to) in remapped {
                let flag = format!("-ffile-prefix-map={}={to}", from.display());
                match (escaped, has_space(from)) {
                    (true, _) => words.push(quoted(&flag)),
                    (false, false) => words.push(flag),
                    // It would be split at the space.
                    (false, true) => {}
                }
            }
            (format!("{name}_{underscored}"), words.join(" "))
        })
        .into();
    variables.extend(escaped.then(|| (ESCAPED.to_owned(), "1".to_owned())));
    variables
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.,:+@%".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Whether everything in a lock file that reads these variables can read quotes: `cc` does since 1.2 when it is asked
/// to, `cmake` passes them on without.
fn reads_quotes(lock: &str) -> bool {
    let lock: toml::Table = lock.parse().unwrap_or_default();
    let packages = lock.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    packages
        .filter_map(|package| Some((package.get("name")?.as_str()?, package.get("version")?.as_str()?)))
        .all(|(name, version)| match name {
            "cmake" => false,
            "cc" => {
                !version.starts_with("0.") && !version.starts_with("1.0.") && !version.starts_with("1.1.")
            }
            _ => true,
        })
}

/// Names under which the crate `cc` looks for a C compiler.
pub(super) fn compilers(target: &str) -> Vec<String> {
    let arch = target.split('-').next().unwrap_or_default();
    let mut names = vec![format!("{arch}-linux-musl-gcc")];
    if arch == std::env::consts::ARCH {
        names.push("musl-gcc".to_owned());
    }
    names
}

/// Variables that name a C compiler for the crate `cc`.
pub(super) fn compiler_variables(target: &str) -> [String; 3] {
    [format!("CC_{}", target.replace('-', "_")), format!("CC_{target}"), "TARGET_CC".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_tool::environment::Environment;

    fn flags(folder: &str, variables: &[(&str, &str)], lock: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let mut env = Environment {
            variables: variables.iter().map(|(k, v)| (k.into(), v.into())).collect(),
            current_dir: dir.path().into(),
            parallelism: 1,
        };
        env.variables.insert("CARGO_HOME".into(), dir.path().into());
        let config = CargoConfig::read(dir.path(), &env).unwrap();
        let remapped = [(folder.into(), "/src".to_owned()), ("/home/me/.cargo".into(), "/cargo".to_owned())];
        let variables = c_flags("x86_64-unknown-linux-musl", &remapped, &config, lock);
        let shown = variables.into_iter().map(|(name, value)| format!("{name}: {value}"));
        shown.filter(|line| !line.starts_with("CXX")).collect()
    }

    const NEW: &str = "[[package]]\nname = \"cc\"\nversion = \"1.2.3\"\n";

    #[test]
    fn paths_with_spaces_are_quoted_where_quotes_are_read() {
        let map = "-ffile-prefix-map=/home/me/.cargo=/cargo";
        let plain = [format!("CFLAGS_x86_64_unknown_linux_musl: -O1 -ffile-prefix-map=/w=/src {map}")];
        assert_eq!(flags("/w", &[("CFLAGS", " -O1")], NEW), plain);
        let quoted = [
            format!("CFLAGS_x86_64_unknown_linux_musl: '-DX=\"1\"' '-ffile-prefix-map=/my w=/src' {map}"),
            "CC_SHELL_ESCAPED_FLAGS: 1".to_owned(),
        ];
        assert_eq!(flags("/my w", &[("TARGET_CFLAGS", "-DX=\"1\""), ("CFLAGS", "-O1")], NEW), quoted);
        let by_user = [
            format!("CFLAGS_x86_64_unknown_linux_musl: '-DX=1' '-ffile-prefix-map=/it'\\''s w=/src' {map}"),
            "CC_SHELL_ESCAPED_FLAGS: 1".to_owned(),
        ];
        let variables = [("CFLAGS", "'-DX=1'"), ("CC_SHELL_ESCAPED_FLAGS", "1")];
        assert_eq!(flags("/it's w", &variables, ""), by_user);
        // These would take the quotes for a part of the path.
        let unquoted = [format!("CFLAGS_x86_64_unknown_linux_musl: {map}")];
        for other in [
            "[[package]]\nname = \"cc\"\nversion = \"1.0.83\"\n",
            "[[package]]\nname = \"cmake\"\nversion = \"0.1.5\"\n",
        ] {
            assert_eq!(flags("/my w", &[], &format!("{NEW}{other}")), unquoted);
        }
    }
}
