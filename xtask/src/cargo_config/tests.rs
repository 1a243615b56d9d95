//! What cargo would take from files and environment; `cargo xtask test --outside cargo` asks cargo itself.

use std::fs;

use super::*;

const TARGET: &str = "x86_64-unknown-linux-musl";

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment {
        variables: variables.iter().map(|(k, v)| (k.into(), v.into())).collect(),
        current_dir: PathBuf::new(),
        parallelism: 1,
    }
}

/// The configuration of files, from the lowest precedence to the highest.
fn with<'a>(files: &[&str], env: &'a Environment) -> CargoConfig<'a> {
    let file =
        |text: &&str| ConfigFile { path: "/w/.cargo/config.toml".into(), table: text.parse().unwrap() };
    CargoConfig { files: files.iter().map(file).collect(), env, root: "/w".into() }
}

fn flags(files: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    with(files, &environment(variables)).rustflags(TARGET)
}

#[test]
fn a_linker_is_found_wherever_cargo_would_find_it() {
    let own = |file, variables: &[(&str, &str)]| with(&[file], &environment(variables)).has_linker(TARGET);
    assert!(!own("", &[]));
    assert!(!own("[target.aarch64-apple-darwin]\nlinker = \"x\"", &[]));
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
    let build = "[build]\nrustflags = [\"-a\"]\n";
    let own = "[target.x86_64-unknown-linux-musl]\nrustflags = [\"-t\"]\n";
    let in_build = ("CARGO_BUILD_RUSTFLAGS", "-e  -f");
    let in_target = ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS", "-g");
    for (files, variables, expected) in [
        (&[][..], &[][..], &[][..]),
        (&[file], &[], &["-b", "-c"]),
        (&[file], &[("RUSTFLAGS", " -d\t  -e ")], &["-d", "-e"]),
        (&[file], &[("RUSTFLAGS", "-d"), ("CARGO_ENCODED_RUSTFLAGS", "-e\u{1f}x y")], &["-e", "x y"]),
        // Set to nothing means no flags.
        (&[file], &[("RUSTFLAGS", "")], &[]),
        (&[file], &[("RUSTFLAGS", "-d"), ("CARGO_ENCODED_RUSTFLAGS", "")], &[]),
        (&[build], &[], &["-a"]),
        (&[build], &[in_build], &["-a", "-e", "-f"]),
        (&[build], &[in_build, in_target], &["-g"]),
        // The triple's own come before those of `cfg(…)`, which are sorted by their text.
        (&[file, own], &[in_target], &["-t", "-g", "-b", "-c"]),
        (
            &["[target.'cfg(unix)']\nrustflags = [\"-u\"]\n[target.'cfg(all())']\nrustflags = [\"-l\"]\n"],
            &[],
            &["-l", "-u"],
        ),
        // An empty list is as good as none.
        (&[build, "[target.x86_64-unknown-linux-musl]\nrustflags = []\n"], &[], &["-a"]),
        // Lists join, strings replace.
        (&[build, "[build]\nrustflags = [\"-z\"]\n"], &[], &["-a", "-z"]),
        (&["[build]\nrustflags = \"-a -b\"", "[build]\nrustflags = \"-z\"\n"], &[], &["-z"]),
        (&["[target.aarch64-unknown-linux-musl]\nrustflags = [\"-a\"]\n"], &[], &[]),
    ] {
        assert_eq!(flags(files, variables), expected, "{files:?} {variables:?}");
    }
}

#[test]
fn one_value_is_that_of_the_environment_or_the_highest_file() {
    let key = ["profile", "image", "codegen-units"];
    let env = environment(&[("CARGO_PROFILE_RELEASE_LTO", "true")]);
    let config = with(&["[profile.image]\ncodegen-units = 2", "[profile.image]\ncodegen-units = 4"], &env);
    let file = Origin::File("/w/.cargo/config.toml".into());
    assert_eq!(config.scalar(&key), Some((toml::Value::Integer(4), file)));
    let variable = Origin::Variable("CARGO_PROFILE_RELEASE_LTO".to_owned());
    assert_eq!(config.scalar(&["profile", "release", "lto"]), Some((toml::Value::Boolean(true), variable)));
    assert_eq!(config.scalar(&["profile", "image", "lto"]), None);
    assert!(config.has_table(&["profile", "release"]) && config.has_table(&["profile", "image"]));
    assert!(!config.has_table(&["profile", "dist"]));
}

#[test]
fn variables_of_env_reach_children_unless_they_are_set() {
    let file = "[env]\nA = \"file\"\nB = { value = \"forced\", force = true }\nC = \"file\"\n";
    let env = environment(&[("A", "own"), ("B", "own")]);
    let config = with(&[file], &env);
    let variable = |name| config.child_variable(name);
    assert_eq!(
        ["A", "B", "C", "D"].map(variable),
        [Some("own".to_owned()), Some("forced".to_owned()), Some("file".to_owned()), None]
    );
}

#[test]
fn included_files_come_before_the_file_that_includes_them() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("home/config.toml", "[build]\nrustflags = [\"home\"]");
    write(
        "w/.cargo/config.toml",
        "include = [\"a.toml\", { path = \"../deep/b.toml\" }, { path = \"gone.toml\", optional = true }]\n[build]\nrustflags = [\"own\"]\n",
    );
    write("w/.cargo/a.toml", "[build]\nrustflags = [\"a\"]\n");
    write("w/deep/b.toml", "include = [\"c.toml\"]\n[build]\nrustflags = [\"b\"]\n");
    write("w/deep/c.toml", "[build]\nrustflags = [\"c\"]\n");
    write("w/server/.cargo/config", "[build]\nrustflags = [\"server\"]\n");
    let home = dir.path().join("home");
    let env = environment(&[("CARGO_HOME", home.to_str().unwrap())]);
    let flags = |root: &str| CargoConfig::read(&dir.path().join(root), &env).map(|it| it.rustflags(TARGET));
    assert_eq!(flags("w").unwrap(), ["home", "a", "c", "b", "own"]);
    assert_eq!(flags("w/server").unwrap(), ["home", "a", "c", "b", "own", "server"]);

    write("w/deep/c.toml", "include = [\"b.toml\"]\n");
    let error = format!("{:#}", flags("w").unwrap_err());
    assert!(error.ends_with("w/deep/b.toml includes itself"), "{error}");
    for (include, says) in [
        ("include = [\"gone.toml\"]", "w/.cargo/gone.toml"),
        ("include = \"a.toml\"", "`include` is no list"),
        ("include = [{ optional = true }]", "`include` has an entry without path"),
    ] {
        write("w/.cargo/config.toml", include);
        let error = format!("{:#}", flags("w").unwrap_err());
        assert!(error.contains(says), "{error}");
    }
}
