//! The arguments that rustc gets through `cargo xtask image` and through `cargo build`, in workspaces with different
//! configurations: all that differs is what tare says it adds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::cargo_cases::{CASES, Case};
use crate::lab::context::{Context, write};
use tare_tool::process::{Execute as _, cmd};

const TARGET: &str = "x86_64-unknown-linux-musl";

/// What every workspace begins with; a case writes over it.
const FILES: [(&str, &str); 6] = [
    (
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"server\", \"helper\"]\n[profile.dist]\ninherits = \"release\"\n",
    ),
    (
        "server/Cargo.toml",
        "[package]\nname = \"server\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[features]\ndefault = [\"less\"]\nless = []\n\
         more = []\n[dependencies]\nrenamed = { package = \"helper\", path = \"../helper\" }\n",
    ),
    ("server/src/main.rs", "fn main() {\n    renamed::hello();\n}\n"),
    ("helper/Cargo.toml", "[package]\nname = \"helper\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
    ("helper/src/lib.rs", "pub fn hello() {}\n"),
    ("../home/placeholder", ""),
];

/// Builds every case both ways.
pub(super) fn configurations(context: &Context<'_>) -> anyhow::Result<()> {
    let sysroot = cmd!(context.sh, "rustc --print sysroot").capture_text()?;
    let rustc = Path::new(&sysroot).join("bin/rustc");
    let folder = context.new_folder("cargo")?;
    let recorder = folder.join("rustc");
    // Queries of cargo have no crate, or one called `___`.
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in\n  *' --crate-name ___ '*) ;;\n  *' --crate-name '*) {{ printf '%s\\n' \"$@\"; echo; }} >> \
         \"$TARE_RECORD\" ;;\nesac\nexec '{}' \"$@\"\n",
        rustc.display()
    );
    write(&recorder, script.as_bytes())?;
    make_executable(&recorder)?;
    let mut differences = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let root = folder.join(format!("{number}/above/w"));
        let found =
            compare(context, case, &root, &recorder).with_context(|| format!("case `{}`", case.name))?;
        differences.extend(found.map(|difference| format!("{}: {difference}", case.name)));
    }
    anyhow::ensure!(differences.is_empty(), "rustc is called otherwise:\n  {}", differences.join("\n  "));
    Ok(())
}

/// How the calls of rustc differ, if they do.
fn compare(
    context: &Context<'_>,
    case: &Case,
    root: &Path,
    recorder: &Path,
) -> anyhow::Result<Option<String>> {
    for (path, content) in FILES.iter().chain(case.files) {
        let path = root.join(path);
        let parent = path.parent().unwrap_or(root);
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        write(&path, content.as_bytes())?;
    }
    let Case { build: (definition, arguments), profile, added, .. } = case;
    let image = root.join("images/server");
    fs::create_dir_all(&image).with_context(|| format!("cannot create {}", image.display()))?;
    write(
        &image.join("image.toml"),
        format!("[build]\npackage = \"server\"\nprofile = \"{profile}\"\n{definition}").as_bytes(),
    )?;
    let home = root.join("../home").canonicalize()?;
    let record = |name: &str| root.join(name);
    let (sh, cargo) = (&context.sh, context.env.cargo());
    let inherited = context.env.variables.keys().filter(|name| {
        let name = name.to_string_lossy();
        let prefixes =
            ["CARGO_PROFILE_", "CARGO_BUILD_", "CARGO_TARGET_", "CARGO_ENCODED", "CARGO_INCREMENTAL"];
        name == "RUSTFLAGS" || name == "RUSTC_WRAPPER" || prefixes.iter().any(|it| name.starts_with(it))
    });
    let inherited: Vec<_> = inherited.cloned().collect();

    let lock = cmd!(sh, "env -C {root} {cargo} generate-lockfile --offline --quiet");
    lock.without_env(context.env.of_cargo_run())
        .without_env(&inherited)
        .env("CARGO_HOME", &home)
        .capture()?;

    let ours = context.xtask(root).args(["image", "server", "--quiet", "--compression", "none"]);
    ours.without_env(&inherited)
        .env("CARGO_HOME", &home)
        .env("RUSTC", recorder)
        .env("TARE_RECORD", record("ours"))
        .envs(case.variables.iter().copied())
        .capture()?;

    let package = root.join("server/Cargo.toml");
    let configured = added.iter().flat_map(|key| ["--config".to_owned(), format!("profile.{profile}.{key}")]);
    let theirs =
        cmd!(sh, "env -C {root} {cargo} build --manifest-path {package} --bin server --target {TARGET}")
            .args(["--profile", profile, "--locked", "--offline", "--quiet"])
            .args(*arguments)
            .args(configured);
    theirs
        .without_env(context.env.of_cargo_run())
        .without_env(&inherited)
        .env("CARGO_HOME", &home)
        .env("RUSTC", recorder)
        .env("TARE_RECORD", record("theirs"))
        .env("CARGO_TARGET_DIR", root.join("plain"))
        .envs(case.variables.iter().copied())
        .capture()?;

    let calls = |name: &str| -> anyhow::Result<Vec<Vec<String>>> {
        let path = record(name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.split("\n\n").map(call).filter(|call| !call.is_empty()).collect())
    };
    let (ours, theirs) = (calls("ours")?, calls("theirs")?);
    // Two empty records would be equal too.
    anyhow::ensure!(theirs.len() > 1, "cargo called rustc {} times", theirs.len());
    let differs = |(ours, theirs): (&Vec<String>, &Vec<String>)| {
        (ours != theirs).then(|| format!("\n    tare:  {}\n    cargo: {}", ours.join(" "), theirs.join(" ")))
    };
    if ours.len() != theirs.len() {
        return Ok(Some(format!("{} calls in place of {}", ours.len(), theirs.len())));
    }
    Ok(ours.iter().zip(&theirs).find_map(differs))
}

/// The arguments of a call without what depends on folders or on how cargo reports, and without what tare adds.
fn call(text: &str) -> Vec<String> {
    const WITH_VALUE: [&str; 3] = ["--out-dir", "-L", "--extern"];
    const OF_C: [&str; 5] = ["metadata=", "extra-filename=", "incremental=", "strip=", "linker=rust-lld"];
    const ALONE: [&str; 4] = ["--error-format=", "--json=", "--diagnostic-width=", "--remap-path-prefix="];
    const ADDED: [&str; 3] =
        ["-Ctarget-feature=+crt-static", "-Clink-arg=--icf=all", "-Clink-arg=--pack-dyn-relocs=relr"];
    let mut words = text.lines().filter(|line| !line.is_empty()).peekable();
    let mut call = Vec::new();
    while let Some(word) = words.next() {
        let value = words.peek().copied().unwrap_or_default();
        let dropped_c = word == "-C" && OF_C.iter().any(|begin| value.starts_with(begin));
        if WITH_VALUE.contains(&word) || dropped_c {
            words.next();
        } else if !ADDED.contains(&word) && !ALONE.iter().any(|begin| word.starts_with(begin)) {
            call.push(word.to_owned());
        }
    }
    call
}

fn make_executable(path: &PathBuf) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let set = fs::set_permissions(path, fs::Permissions::from_mode(0o755));
    set.with_context(|| format!("cannot change the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_the_folder_and_what_tare_adds_is_left_out() {
        let text = "--crate-name\nserver\n-C\nmetadata=1\n-C\nopt-level=3\n--out-dir\n/t\n-C\nlinker=rust-lld\n--cfg\none\n\
            -Ctarget-feature=+crt-static\n--remap-path-prefix=/w=/src\n--json=a";
        assert_eq!(call(text), ["--crate-name", "server", "-C", "opt-level=3", "--cfg", "one"]);
    }

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let mut names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        names.sort_unstable();
        assert!(names.len() >= 40 && names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
