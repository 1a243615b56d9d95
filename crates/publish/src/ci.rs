//! What continuous integration says about this run, and the files that it reads afterwards.

use std::io::Write as _;
use std::path::PathBuf;

use serde::Deserialize;
use tare_tool::environment::Environment;

use crate::error::Error;

/// What the run is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// A tag of git.
    Tag(String),
    /// A commit on a branch.
    Branch {
        /// The branch.
        name: String,
        /// Whether it is the repository's default branch.
        is_default: bool,
    },
    /// A pull or merge request, whose code may be anybody's.
    Request,
    /// A timetable.
    Schedule,
}

/// A run of continuous integration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ci {
    /// What the run is for.
    pub trigger: Trigger,
    /// The commit.
    pub commit: String,
    /// Where its registry has images of this repository, as in `ghcr.io/team/app`; GitLab has none where the project's
    /// registry is off.
    pub repository: Option<String>,
    /// The web address of the source repository.
    pub source: Option<String>,
    /// What runs the steps: a workflow file at a commit, a runner.
    pub builder: String,
    /// The web address of this run.
    pub run: Option<String>,
}

impl Ci {
    /// Reads the variables of GitHub Actions or GitLab CI; `None` outside of both.
    ///
    /// # Errors
    /// When a variable that they always set is missing.
    pub fn read(env: &Environment) -> Result<Option<Self>, Error> {
        let is = |name: &str| env.text(name).as_deref() == Some("true");
        if is("GITHUB_ACTIONS") {
            return github(env).map(Some);
        }
        if is("GITLAB_CI") { gitlab(env).map(Some) } else { Ok(None) }
    }
}

fn need(env: &Environment, name: &str) -> Result<String, Error> {
    env.text(name).ok_or_else(|| Error::Input(format!("the variable {name} is not set")))
}

/// The part of an event's payload that is used.
#[derive(Deserialize)]
struct Event {
    repository: EventRepository,
}

#[derive(Deserialize)]
struct EventRepository {
    default_branch: String,
}

fn github(env: &Environment) -> Result<Ci, Error> {
    let name = need(env, "GITHUB_REF_NAME")?;
    let event = need(env, "GITHUB_EVENT_NAME")?;
    let trigger = match event.as_str() {
        // `pull_request_target` and a run after another workflow may have a fork's code too.
        "pull_request" | "pull_request_target" | "workflow_run" | "merge_group" => Trigger::Request,
        "schedule" => Trigger::Schedule,
        _ if env.text("GITHUB_REF_TYPE").as_deref() == Some("tag") => Trigger::Tag(name),
        _ => {
            let payload =
                env.get("GITHUB_EVENT_PATH").and_then(|path| tare_oci::input::read(path.as_ref()).ok());
            let event = payload.and_then(|bytes| serde_json::from_slice::<Event>(&bytes).ok());
            let is_default = event.is_some_and(|event| event.repository.default_branch == name);
            Trigger::Branch { name, is_default }
        }
    };
    let repository = need(env, "GITHUB_REPOSITORY")?;
    let server = env.text("GITHUB_SERVER_URL").unwrap_or_else(|| "https://github.com".to_owned());
    let source = format!("{server}/{repository}");
    let workflow = env.text("GITHUB_WORKFLOW_REF").map(|workflow| format!("{server}/{workflow}"));
    Ok(Ci {
        trigger,
        commit: need(env, "GITHUB_SHA")?,
        repository: Some(format!("ghcr.io/{}", repository.to_lowercase())),
        builder: workflow.unwrap_or_else(|| source.clone()),
        run: env.text("GITHUB_RUN_ID").map(|id| format!("{source}/actions/runs/{id}")),
        source: Some(source),
    })
}

fn gitlab(env: &Environment) -> Result<Ci, Error> {
    let source = env.text("CI_PIPELINE_SOURCE").unwrap_or_default();
    let trigger = match (source.as_str(), env.text("CI_COMMIT_TAG"), env.text("CI_COMMIT_BRANCH")) {
        ("schedule", ..) => Trigger::Schedule,
        (_, Some(tag), _) => Trigger::Tag(tag),
        ("merge_request_event" | "external_pull_request_event", ..) | (_, None, None) => Trigger::Request,
        (_, None, Some(name)) => {
            let is_default = env.text("CI_DEFAULT_BRANCH").as_ref() == Some(&name);
            Trigger::Branch { name, is_default }
        }
    };
    let project = env.text("CI_PROJECT_URL");
    let runner = env.text("CI_RUNNER_ID").zip(env.text("CI_SERVER_URL"));
    Ok(Ci {
        trigger,
        commit: need(env, "CI_COMMIT_SHA")?,
        repository: env.text("CI_REGISTRY_IMAGE"),
        builder: runner.map_or_else(|| "gitlab".to_owned(), |(id, server)| format!("{server}/runners/{id}")),
        run: env.text("CI_JOB_URL"),
        source: project,
    })
}

/// What the next steps of a workflow are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outputs {
    /// Repositories, the first one first.
    pub repositories: Vec<String>,
    /// The image's digest.
    pub digest: String,
    /// `REPOSITORY:TAG`
    pub tags: Vec<String>,
    /// publish.json in one line.
    pub json: String,
    /// The summary as Markdown.
    pub summary: String,
}

/// Appends to the files that the variables of GitHub Actions name, as far as they are set.
///
/// # Errors
/// When one cannot be written.
pub fn write_github(env: &Environment, outputs: &Outputs) -> Result<(), Error> {
    let Outputs { repositories, digest, tags, json, summary } = outputs;
    if let Some(path) = env.get("GITHUB_OUTPUT") {
        // A value could hold a delimiter that is known in advance.
        let delimiter = format!("tare-{:032x}", fastrand::u128(..));
        let image = repositories.first().map_or("", String::as_str);
        let values = [("image", image), ("digest", digest), ("tags", &tags.join("\n")), ("json", json)];
        let lines = values.map(|(name, value)| format!("{name}<<{delimiter}\n{value}\n{delimiter}\n"));
        append(path.into(), &lines.concat())?;
    }
    if let Some(path) = env.get("GITHUB_STEP_SUMMARY") {
        append(path.into(), summary)?;
    }
    if let Some(path) = env.get("GITHUB_ARTIFACTS") {
        // The index alone: attestations of it are pushed for exactly one subject.
        let lines = repositories.iter().map(|name| format!("oci://{name}@{digest}\n"));
        append(path.into(), &lines.collect::<String>())?;
    }
    Ok(())
}

fn append(path: PathBuf, text: &str) -> Result<(), Error> {
    let file = tare_oci::input::open_or_create(&path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| Error::File { operation: "write", path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Environment { variables, current_dir: PathBuf::new(), parallelism: 1 }
    }

    #[test]
    fn triggers_of_github_and_gitlab() {
        let folder = tempfile::tempdir().unwrap();
        let event = folder.path().join("event.json");
        std::fs::write(&event, r#"{"repository": {"default_branch": "main"}}"#).unwrap();
        let github = |event_name, kind, name| {
            vec![
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", event_name),
                ("GITHUB_REF_TYPE", kind),
                ("GITHUB_REF_NAME", name),
                ("GITHUB_SHA", "c"),
                ("GITHUB_REPOSITORY", "Team/App"),
                ("GITHUB_EVENT_PATH", event.to_str().unwrap()),
            ]
        };
        let gitlab = |source, name, value| {
            vec![
                ("GITLAB_CI", "true"),
                ("CI_PIPELINE_SOURCE", source),
                (name, value),
                ("CI_DEFAULT_BRANCH", "main"),
                ("CI_COMMIT_SHA", "c"),
                ("CI_REGISTRY_IMAGE", "r.example/team/app"),
            ]
        };
        let branch = |name: &str, is_default| Trigger::Branch { name: name.to_owned(), is_default };
        for (variables, trigger) in [
            (github("push", "branch", "main"), branch("main", true)),
            (github("workflow_dispatch", "branch", "fix"), branch("fix", false)),
            (github("push", "tag", "v1.0.0"), Trigger::Tag("v1.0.0".to_owned())),
            (github("pull_request", "branch", "1/merge"), Trigger::Request),
            (github("pull_request_target", "branch", "main"), Trigger::Request),
            (github("schedule", "branch", "main"), Trigger::Schedule),
            (gitlab("push", "CI_COMMIT_BRANCH", "main"), branch("main", true)),
            (gitlab("push", "CI_COMMIT_BRANCH", "fix"), branch("fix", false)),
            (gitlab("push", "CI_COMMIT_TAG", "v1"), Trigger::Tag("v1".to_owned())),
            (gitlab("merge_request_event", "CI_MERGE_REQUEST_IID", "1"), Trigger::Request),
            (gitlab("schedule", "CI_COMMIT_BRANCH", "main"), Trigger::Schedule),
        ] {
            let ci = Ci::read(&environment(&variables)).unwrap().unwrap();
            assert_eq!(ci.trigger, trigger, "{variables:?}");
            let repository = if ci.builder == "gitlab" { "r.example/team/app" } else { "ghcr.io/team/app" };
            assert_eq!(ci.repository.as_deref(), Some(repository));
        }
        assert_eq!(Ci::read(&environment(&[("CI", "true")])).unwrap(), None);
        let error = Ci::read(&environment(&[("GITHUB_ACTIONS", "true")])).unwrap_err().to_string();
        assert_eq!(error, "the variable GITHUB_REF_NAME is not set");
    }

    #[test]
    fn outputs_are_appended_and_no_value_can_end_another() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (output, artifacts) = (at("output"), at("artifacts"));
        let env = environment(&[("GITHUB_OUTPUT", &output), ("GITHUB_ARTIFACTS", &artifacts)]);
        let outputs = Outputs {
            repositories: vec!["ghcr.io/a".to_owned(), "quay.io/a".to_owned()],
            digest: "sha256:00".to_owned(),
            tags: vec!["ghcr.io/a:1".to_owned(), "ghcr.io/a:2".to_owned()],
            json: "{}".to_owned(),
            summary: String::new(),
        };
        std::fs::write(&output, "before=1\n").unwrap();
        write_github(&env, &outputs).unwrap();
        let text = std::fs::read_to_string(&output).unwrap();
        let delimiter = text.lines().nth(1).unwrap().strip_prefix("image<<").unwrap();
        let expected = "before=1\nimage<<EOF\nghcr.io/a\nEOF\ndigest<<EOF\nsha256:00\nEOF\n\
                        tags<<EOF\nghcr.io/a:1\nghcr.io/a:2\nEOF\njson<<EOF\n{}\nEOF\n";
        assert_eq!(text.replace(delimiter, "EOF"), expected);
        assert_eq!(delimiter.len(), 37);
        let text = std::fs::read_to_string(&artifacts).unwrap();
        assert_eq!(text, "oci://ghcr.io/a@sha256:00\noci://quay.io/a@sha256:00\n");
    }
}
