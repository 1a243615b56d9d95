//! README's section "In your workspace", word for word, in an empty folder.
//!
//! Files and commands are taken out of README. git maps the URL of the repository to a repository with the files of
//! this checkout, whether they are committed or not.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::lab::context::{Context, write};
use crate::lab::expect::same;
use tare_tool::process::xshell::Cmd;
use tare_tool::process::{Execute as _, Shell, cmd, shell_in};

/// The package that the section's commands make and build.
const PACKAGE: &str = "server";

/// A step of the section.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// A file and its content.
    Write(String, String),
    /// A line of a shell.
    Run(String),
}

/// The steps of README's section: a block behind a line with a path is a file, and one without a language is commands.
fn steps(readme: &str) -> anyhow::Result<Vec<Step>> {
    let section = readme.split("\n## ").find(|section| section.starts_with("In your workspace\n"));
    let section = section.context("README.md has no section `In your workspace`")?;
    // What follows is about more than an empty folder has.
    let (section, _) = section.split_once("\n### ").unwrap_or((section, ""));
    let mut steps = Vec::new();
    let parts: Vec<&str> = section.split("```").collect();
    for pair in parts.chunks_exact(2) {
        let (language, content) = pair[1].split_once('\n').unwrap_or((pair[1], ""));
        let before = pair[0].trim_end().lines().last().unwrap_or_default();
        let path = before.strip_prefix('`').and_then(|line| line.split_once('`')).map(|(path, _)| path);
        match (language, path) {
            ("", _) => steps.extend(content.lines().map(|line| Step::Run(line.to_owned()))),
            (_, Some(path)) => steps.push(Step::Write(path.to_owned(), content.to_owned())),
            _ => anyhow::bail!("README.md: no path stands before this block:\n{content}"),
        }
    }
    Ok(steps)
}

/// An empty folder becomes a workspace that builds an image of its server.
pub(super) fn workspace(context: &Context<'_>) -> anyhow::Result<()> {
    let root = &context.workspace.root;
    let readme = fs::read_to_string(root.join("README.md")).context("cannot read README.md")?;
    let folder = context.new_folder("readme")?;
    let config = repository(context, &folder)?;
    let home = cargo_home(context, &folder)?;
    let workspace = folder.join("workspace");
    fs::create_dir(&workspace)?;
    // Kept from run to run, because it compiles all of this tool again.
    let target = context.workspace.target_dir.join("outside/readme");
    let sh = shell_in(&workspace)?;
    let with_environment = |command: Cmd<'_>| {
        command
            .without_env(context.env.of_cargo_run())
            .env("CARGO_HOME", &home)
            .env("CARGO_TARGET_DIR", &target)
            // cargo's own git does not read GIT_CONFIG_GLOBAL.
            .env("CARGO_NET_GIT_FETCH_WITH_CLI", "true")
            .env("GIT_CONFIG_GLOBAL", &config)
            .capture_text()
    };
    let mut printed = String::new();
    for step in steps(&readme)? {
        match step {
            Step::Write(path, content) => write(&workspace.join(path), content.as_bytes())?,
            Step::Run(line) => {
                context.ui.status("Running", &line);
                printed = with_environment(cmd!(sh, "sh -c {line}"))?;
            }
        }
    }
    anyhow::ensure!(printed.starts_with(&format!("{PACKAGE}@sha256:")), "the last command printed {printed}");
    let xtask = |arguments: &str| with_environment(cmd!(sh, "sh -c {arguments}"));
    let verdict = xtask(&format!("cargo xtask inspect {PACKAGE} --validate"))?;
    anyhow::ensure!(verdict.starts_with("valid: "), "it is not valid: {verdict}");
    // A part comes out of the checkout that cargo made of the repository.
    let help = xtask("cargo xtask deploy --help")?;
    anyhow::ensure!(help.contains("--repository"), "deploy --help prints {help}");
    let program = target.join("images").join(PACKAGE).join("bin");
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let program = program.join(architecture).join(PACKAGE);
    same("what the program prints", &cmd!(sh, "{program}").capture_text()?, &"Hello, world!".to_owned())
}

/// Makes a repository of this checkout's files, and a git configuration that maps the published URL to it.
fn repository(context: &Context<'_>, folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let root = &context.workspace.root;
    let package = context.workspace.package("xtask-tare").context("there is no package xtask-tare")?;
    let url = package.repository.as_deref().context("xtask-tare has no `repository`")?;
    let (repository, config) = (folder.join("repository.git"), folder.join("gitconfig"));
    let text = format!(
        "[user]\nname = A\nemail = a@example.org\n[url \"file://{}\"]\ninsteadOf = {url}\n",
        repository.display()
    );
    write(&config, text.as_bytes())?;
    let sh = Shell::new()?;
    for command in [
        cmd!(sh, "git init --quiet --bare {repository}"),
        cmd!(sh, "git --git-dir {repository} --work-tree {root} add --all {root}"),
        cmd!(sh, "git --git-dir {repository} --work-tree {root} commit --quiet --message checkout"),
    ] {
        command.env("GIT_CONFIG_GLOBAL", &config).capture()?;
    }
    Ok(config)
}

/// A CARGO_HOME with the user's registries and configuration, whose checkouts of git are its own.
fn cargo_home(context: &Context<'_>, folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let (home, own) =
        (folder.join("cargo-home"), context.env.cargo_home().context("there is no CARGO_HOME")?);
    fs::create_dir(&home)?;
    for name in ["registry", "config.toml", "bin"] {
        if own.join(name).exists() {
            std::os::unix::fs::symlink(own.join(name), home.join(name))?;
        }
    }
    Ok(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_commands_are_found_in_order() {
        let readme = "# x\n```\nno\n```\n\n## In your workspace\n\nText.\n\n```\ncargo new server\n```\n\n\
            `a/b.toml`, with words:\n\n```toml\n[a]\n```\n\n```\none\ntwo\n```\n### More\n\n```toml\nx\n```\n\n## Next\n";
        let run = |line: &str| Step::Run(line.to_owned());
        let expected = vec![
            run("cargo new server"),
            Step::Write("a/b.toml".to_owned(), "[a]\n".to_owned()),
            run("one"),
            run("two"),
        ];
        assert_eq!(steps(readme).unwrap(), expected);
    }
}
