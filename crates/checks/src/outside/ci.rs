//! The files of docs/ci.md: the commands of their steps are taken out of the page and run with the variables that GitHub
//! Actions and GitLab CI set, against a registry on loopback. An image for another architecture is built and published, and
//! not profiled, which its own runner does in CI.
//!
//! `cargo xtask` is a function of the shell that calls the program itself. Of profiles only the sizes are measured, so that
//! no verdict depends on this machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::crane;
use crate::lab::context::{Context, write};
use crate::lab::expect::{at, json, same};
use crate::lab::namespace::Isolated;
use tare_oci::platform::{Platform, host_architecture};
use tare_tool::process::xshell::Cmd;
use tare_tool::process::{Execute as _, cmd};

const REGISTRY: &str = "127.0.0.1:5006";
/// Where GitLab's registry has the images of the project.
const PROJECT: &str = "127.0.0.1:5006/team/gitlab";
/// In the place of ghcr.io, which cannot be reached.
const REPOSITORY: &str = "127.0.0.1:5006/team/github";

/// One command of a workflow, with the variables of its step.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    env: Vec<(String, String)>,
    run: String,
}

/// The YAML of a section of the page.
fn block<'a>(page: &'a str, section: &str) -> anyhow::Result<&'a str> {
    let section = page.split("\n## ").find(|text| text.starts_with(section));
    let block =
        section.and_then(|text| text.split("```yaml\n").nth(1)).and_then(|text| text.split("```").next());
    block.context("docs/ci.md has no such file any more")
}

/// The lines below a key, which are indented more than it, without their indentation.
fn below<'a>(lines: &[&'a str], at: usize, indent: usize) -> Vec<&'a str> {
    let deeper = |line: &&&str| line.len() - line.trim_start().len() > indent;
    lines[at + 1..].iter().take_while(deeper).map(|line| line.trim()).collect()
}

/// The commands in the YAML of a workflow, in their order.
fn steps(yaml: &str) -> Vec<Step> {
    let lines: Vec<&str> = yaml.lines().collect();
    let (mut steps, mut env) = (Vec::new(), Vec::new());
    for (at, line) in lines.iter().enumerate() {
        let item = line.trim_start().strip_prefix("- ");
        let text = item.unwrap_or(line.trim_start());
        let indent = line.len() - text.len();
        if item.is_some() {
            env.clear();
        }
        if text == "env:" {
            let pair =
                |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
            env = below(&lines, at, indent).into_iter().filter_map(pair).collect();
        }
        let run = match text.strip_prefix("run: ") {
            Some(">-") => Some(below(&lines, at, indent).join(" ")),
            Some(command) => Some(command.to_owned()),
            // A script of GitLab.
            None => item.filter(|item| item.starts_with("cargo ")).map(str::to_owned),
        };
        steps.extend(run.map(|run| Step { env: env.clone(), run }));
    }
    steps
}

/// A folder in which the commands run, with the workspace's target folder.
struct Runner<'a> {
    context: &'a Context<'a>,
    running: Isolated,
    folder: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Runner<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn run(&self, step: &Step) -> anyhow::Result<()> {
        self.context.ui.status("Running", &step.run);
        let script = format!("cargo() {{ shift; \"$XTASK\" \"$@\"; }}\n{}", step.run);
        let command: Cmd<'_> =
            self.running.inside("env").arg("-C").arg(&self.folder).args(["sh", "-euc", &script]);
        let variables = self.variables.iter().map(|(name, value)| (*name, value.as_str()));
        let own = step.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        command
            .without_env(self.context.env.of_cargo_run())
            .without_env(["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
            .env("XTASK", &self.context.program)
            // As `cargo xtask` has it: the workspace is found from there.
            .env("CARGO_MANIFEST_DIR", self.context.workspace.root.join("xtask"))
            .env("HOME", &self.folder)
            .envs(self.context.env.get("HOME").map(|home| ("CARGO_HOME", Path::new(home).join(".cargo"))))
            .envs(self.context.env.get("HOME").map(|home| ("RUSTUP_HOME", Path::new(home).join(".rustup"))))
            .envs(self.context.env.cargo_home().map(|home| ("CARGO_HOME", home)))
            .envs(self.context.env.get("RUSTUP_HOME").map(|home| ("RUSTUP_HOME", PathBuf::from(home))))
            .envs(variables)
            .envs(own)
            .capture()
            .with_context(|| step.run.clone())?;
        Ok(())
    }

    /// What a tag of the registry leads to.
    fn digest(&self, reference: &str) -> anyhow::Result<String> {
        Ok(self.running.inside("crane").args(["digest", reference]).capture_text()?)
    }
}

/// The steps of both files.
pub(super) fn pages(context: &Context<'_>) -> anyhow::Result<()> {
    let root = &context.workspace.root;
    let page = fs::read_to_string(root.join("docs/ci.md")).context("cannot read docs/ci.md")?;
    let sh = &context.sh;
    let commit = cmd!(sh, "git -C {root} rev-parse HEAD").capture_text()?.trim().to_owned();
    let (workflow, pipeline) = (block(&page, "GitHub Actions")?, block(&page, "GitLab CI")?);
    github(workflow, &commit, runner(context, "github")?).context("GitHub Actions")?;
    gitlab(pipeline, &commit, runner(context, "gitlab")?).context("GitLab CI")
}

/// A registry, and a folder for the commands.
fn runner<'a>(context: &'a Context<'a>, name: &str) -> anyhow::Result<Runner<'a>> {
    let folder = context.new_folder(name)?;
    std::os::unix::fs::symlink(&context.workspace.target_dir, folder.join("target"))
        .context("cannot link the target folder")?;
    let running = crane::serve(context, REGISTRY, &folder)?;
    Ok(Runner { context, running, folder, variables: Vec::new() })
}

fn github(yaml: &str, commit: &str, mut runner: Runner<'_>) -> anyhow::Result<()> {
    let file = |name: &str| runner.path(name).display().to_string();
    write(&runner.path("event.json"), br#"{"repository": {"default_branch": "main"}}"#)?;
    let variables = [
        ("GITHUB_ACTIONS", "true".to_owned()),
        ("GITHUB_EVENT_NAME", "push".to_owned()),
        ("GITHUB_EVENT_PATH", file("event.json")),
        ("GITHUB_REF", "refs/heads/main".to_owned()),
        ("GITHUB_REF_NAME", "main".to_owned()),
        ("GITHUB_REF_TYPE", "branch".to_owned()),
        ("GITHUB_REPOSITORY", "Team/App".to_owned()),
        ("GITHUB_SHA", commit.to_owned()),
        ("GITHUB_RUN_ID", "1".to_owned()),
        ("GITHUB_SERVER_URL", "https://github.com".to_owned()),
        ("GITHUB_WORKFLOW_REF", "Team/App/.github/workflows/image.yml@refs/heads/main".to_owned()),
        ("GITHUB_OUTPUT", file("output")),
        ("GITHUB_STEP_SUMMARY", file("summary.md")),
    ];
    runner.variables.extend(variables);
    let (image, publish) = yaml.split_once("\n  publish:\n").context("the workflow has no job `publish`")?;
    let lines: Vec<&str> = image.lines().collect();
    let uploaded = lines.iter().position(|line| line.trim() == "path: |").context("nothing is uploaded")?;
    let uploaded = below(&lines, uploaded, lines[uploaded].len() - "path: |".len());
    for platform in Platform::ALL {
        let name = platform.architecture();
        for Step { env, run } in steps(image) {
            let mut run = run.replace("${{ matrix.platform }}", &platform.to_string());
            if run.starts_with("cargo xtask profile") {
                if !is_here(platform) {
                    continue;
                }
                run += " --pass size";
            }
            runner.run(&Step { env, run })?;
        }
        // The artifact has paths below the folder that they have in common.
        for path in &uploaded {
            let below = path.strip_prefix("target/").context("what is uploaded is not in target/")?;
            let place = runner.path(&format!("built/app-{name}/{below}"));
            fs::create_dir_all(place.parent().unwrap_or(&place))?;
            let (sh, from) = (&runner.context.sh, runner.path(path));
            cmd!(sh, "cp -R {from} {place}").capture()?;
        }
    }
    let mut outputs: Vec<(String, String)> = Vec::new();
    for Step { env, mut run } in steps(publish) {
        let with_outputs = |text: &str| {
            let name = |(name, _): &(String, String)| format!("${{{{ steps.publish.outputs.{name} }}}}");
            outputs.iter().fold(text.to_owned(), |text, output| text.replace(&name(output), &output.1))
        };
        // A token of nobody, for a registry that is not asked.
        let env = env
            .into_iter()
            .map(|(name, value)| (name, with_outputs(&value).replace("${{ github.token }}", "x")));
        let env = env.collect();
        for platform in Platform::ALL.into_iter().filter(|platform| !is_here(*platform)) {
            let report =
                format!(" --report built/app-{}/profiles/app/ci/report.json", platform.architecture());
            anyhow::ensure!(!run.contains(" --join ") || run.contains(&report), "`{run}` has no {report}");
            run = run.replace(&report, "");
        }
        if run.contains(" --join ") {
            run += &format!(" --to {REPOSITORY}");
        }
        runner.run(&Step { env, run })?;
        outputs = read_outputs(&fs::read_to_string(runner.path("output")).context("no GITHUB_OUTPUT")?);
    }
    let output = |name: &str| outputs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    same("the output `image`", &output("image"), &Some(REPOSITORY.to_owned()))?;
    let digest = output("digest").context("there is no output `digest`")?;
    let tags = ["main".to_owned(), format!("sha-{}", &commit[..12])];
    for tag in &tags {
        same(tag, &runner.digest(&format!("{REPOSITORY}:{tag}"))?, &digest)?;
    }
    let named: Vec<String> = tags.iter().map(|tag| format!("{REPOSITORY}:{tag}")).collect();
    same("the output `tags`", &output("tags"), &Some(named.join("\n")))?;
    let published = json("publish.json", output("json").unwrap_or_default().as_bytes())?;
    same("the output `json`", at(&published, "/digest"), &digest.clone().into())?;
    let summary = fs::read_to_string(runner.path("summary.md")).context("there is no summary")?;
    anyhow::ensure!(
        summary.contains(&digest) && summary.contains("size.image.compressed"),
        "summary: {summary}"
    );
    sums(&runner)
}

/// Whether this host can run it.
fn is_here(platform: Platform) -> bool {
    platform.architecture() == host_architecture()
}

/// The values that a step has appended to GITHUB_OUTPUT.
fn read_outputs(text: &str) -> Vec<(String, String)> {
    let mut outputs = Vec::new();
    let mut lines = text.lines();
    while let Some((name, delimiter)) = lines.next().and_then(|line| line.split_once("<<")) {
        let value: Vec<&str> = lines.by_ref().take_while(|line| *line != delimiter).collect();
        outputs.push((name.to_owned(), value.join("\n")));
    }
    outputs
}

fn gitlab(yaml: &str, commit: &str, mut runner: Runner<'_>) -> anyhow::Result<()> {
    runner.variables.extend([
        ("GITLAB_CI", "true".to_owned()),
        ("CI_PIPELINE_SOURCE", "push".to_owned()),
        ("CI_COMMIT_BRANCH", "main".to_owned()),
        ("CI_DEFAULT_BRANCH", "main".to_owned()),
        ("CI_COMMIT_SHA", commit.to_owned()),
        ("CI_REGISTRY_IMAGE", PROJECT.to_owned()),
        ("CI_PROJECT_URL", "https://gitlab.example/team/app".to_owned()),
        ("CI_SERVER_URL", "https://gitlab.example".to_owned()),
        ("CI_RUNNER_ID", "7".to_owned()),
        ("CI_JOB_URL", "https://gitlab.example/team/app/-/jobs/1".to_owned()),
    ]);
    for step in steps(yaml) {
        runner.run(&step)?;
    }
    let env = fs::read_to_string(runner.path("published/publish.env")).context("there is no dotenv file")?;
    let digest = runner.digest(&format!("{PROJECT}:main"))?;
    let expected = format!("IMAGE={PROJECT}\nIMAGE_DIGEST={digest}\nIMAGE_TAGS=main sha-{}\n", &commit[..12]);
    same("publish.env", &env, &expected)?;
    sums(&runner)
}

/// The folder of artifacts is whole.
fn sums(runner: &Runner<'_>) -> anyhow::Result<()> {
    let (sh, folder) = (&runner.context.sh, runner.path("published"));
    cmd!(sh, "env -C {folder} sha256sum --check --quiet SHA256SUMS").capture()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_the_variables_of_their_own_step() {
        let yaml = "jobs:\n  a:\n    steps:\n      - run: one\n      - id: x\n        env:\n          A: 1\n          B: \"2\"\n        \
            run: >-\n          two\n          --more\n      - name: y\n        run: three\n";
        let step = |env: &[(&str, &str)], run: &str| Step {
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            run: run.to_owned(),
        };
        let expected =
            [step(&[], "one"), step(&[("A", "1"), ("B", "\"2\"")], "two --more"), step(&[], "three")];
        assert_eq!(steps(yaml), expected);
        assert_eq!(steps("a:\n  script:\n    - cargo xtask x\n"), [step(&[], "cargo xtask x")]);
    }

    #[test]
    fn every_command_of_the_page_is_found() {
        let page = include_str!("../../../../docs/ci.md");
        for (section, count) in [("GitHub Actions", 4), ("GitLab CI", 3)] {
            let found = steps(block(page, section).unwrap());
            assert!(found.iter().all(|step| step.run.starts_with("cargo xtask ")), "{found:?}");
            assert_eq!(found.len(), count, "{section}");
        }
    }
}
