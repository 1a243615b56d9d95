//! Variables by which crates compile C without paths of this machine.

use std::path::{Path, PathBuf};

use crate::cargo_config::CargoConfig;
use tare_oci::digest::Digest;

/// How C is compiled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CFlags {
    /// Variables with their values.
    pub(super) variables: [(String, String); 2],
    /// A file that the variables name, with its content.
    pub(super) file: Option<(PathBuf, String)>,
}

/// The flags for a target. Those with a space stand in a file in the folder `place`, because the crates `cc` (before
/// 1.2) and `cmake` split the variables at spaces and read no quotes; compilers do in a file (GCC manual, "Overall
/// Options", `@file`).
pub(super) fn c_flags(
    target: &str,
    remapped: &[(PathBuf, String)],
    config: &CargoConfig<'_>,
    place: &Path,
) -> CFlags {
    let flag = |(from, to): &(PathBuf, String)| format!("-ffile-prefix-map={}={to}", from.display());
    let has_space = |text: &str| text.contains(char::is_whitespace);
    let mut flags: Vec<String> = remapped.iter().map(flag).collect();
    let mut file = None;
    if flags.iter().any(|flag| has_space(flag)) {
        if has_space(&place.to_string_lossy()) {
            // The paths that remain are found in the finished program.
            flags.retain(|flag| !has_space(flag));
        } else {
            // All of them, because the last one that fits counts.
            let content: String = flags.iter().map(|flag| escaped(flag) + "\n").collect();
            let path = place.join(Digest::of(content.as_bytes()).hex());
            flags = vec![format!("@{}", path.display())];
            file = Some((path, content));
        }
    }
    let underscored = target.replace('-', "_");
    let variables = ["CFLAGS", "CXXFLAGS"].map(|name| {
        // The most special variable hides the others in older versions of cc, so it takes over what they say.
        let names = [
            format!("{name}_{target}"),
            format!("{name}_{underscored}"),
            format!("TARGET_{name}"),
            name.to_owned(),
        ];
        let of_user = names.iter().find_map(|name| config.child_variable(name)).unwrap_or_default();
        let words = of_user.split_whitespace().chain(flags.iter().map(String::as_str));
        (format!("{name}_{underscored}"), words.collect::<Vec<_>>().join(" "))
    });
    CFlags { variables, file }
}

/// A word as compilers read it in a file of arguments.
fn escaped(word: &str) -> String {
    let special = |c: char| c.is_whitespace() || "'\"\\".contains(c);
    word.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
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

    fn flags(folder: &str, place: &str, variables: &[(&str, &str)]) -> (String, Option<String>) {
        let dir = tempfile::tempdir().unwrap();
        let mut env = Environment {
            variables: variables.iter().map(|(k, v)| (k.into(), v.into())).collect(),
            current_dir: dir.path().into(),
            parallelism: 1,
        };
        env.variables.insert("CARGO_HOME".into(), dir.path().into());
        let config = CargoConfig::read(dir.path(), &env).unwrap();
        let remapped = [(folder.into(), "/src".to_owned()), ("/home/me/.cargo".into(), "/cargo".to_owned())];
        let CFlags { variables, file } =
            c_flags("x86_64-unknown-linux-musl", &remapped, &config, Path::new(place));
        let [(name, value), _] = variables;
        assert_eq!(name, "CFLAGS_x86_64_unknown_linux_musl");
        let Some((path, content)) = file else { return (value, None) };
        (value.replace(&format!("@{}", path.display()), "FILE"), Some(content))
    }

    #[test]
    fn paths_with_spaces_stand_in_a_file() {
        let map = "-ffile-prefix-map=/home/me/.cargo=/cargo";
        let plain = format!("-O1 -ffile-prefix-map=/w=/src {map}");
        assert_eq!(flags("/w", "/tmp/f", &[("CFLAGS", " -O1")]), (plain, None));
        let content = format!("-ffile-prefix-map=/my\\ w=/src\n{map}\n");
        let variables = [("TARGET_CFLAGS", "-DX=\"1\""), ("CFLAGS", "-O1")];
        assert_eq!(flags("/my w", "/tmp/f", &variables), ("-DX=\"1\" FILE".to_owned(), Some(content)));
        let content = format!("-ffile-prefix-map=/it\\'s\\ \\\\w=/src\n{map}\n");
        let variables = [("CFLAGS", "'-DX=1'"), ("CC_SHELL_ESCAPED_FLAGS", "1")];
        assert_eq!(flags("/it's \\w", "/tmp/f", &variables), ("'-DX=1' FILE".to_owned(), Some(content)));
        // The name of the file would be split too.
        assert_eq!(flags("/my w", "/my tmp/f", &[]), (map.to_owned(), None));
    }
}
