//! Credentials for a registry: where they are looked for, in which order, and in whose formats.
//!
//! Filled by hand: the crate `docker_credential` 1.4 reads one file only, knows no entries for a path
//! (`ghcr.io/team`, containers-auth.json(5)), takes an empty `identitytoken` for a token and an empty `auth` for an
//! error, and has no `registrytoken`.
//!
//! Secrets never appear in an error or a warning: [`Secret`] has neither `Debug` nor `Display`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use oci_spec::distribution::Reference;
use serde::Deserialize;
use tare_oci::input;
use tare_tool::environment::Environment;

/// A password or token.
#[derive(Clone, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// What is sent to the registry or its token server.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

/// What a registry or its token server is shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user with a password.
    Basic {
        /// The user.
        user: String,
        /// The password, or a token in its place.
        password: Secret,
    },
    /// A refresh token for the token server (docker: `identitytoken`).
    IdentityToken(Secret),
    /// A token that the registry itself takes (docker: `registrytoken`).
    RegistryToken(Secret),
}

impl Credential {
    /// `user:password` in base64, as RFC 7617 has it.
    pub(crate) fn basic(user: &str, password: &Secret) -> String {
        format!("Basic {}", BASE64.encode(format!("{user}:{}", password.reveal())))
    }
}

/// Where credentials may be found.
pub struct Keychain {
    env: Environment,
    given: Option<Credential>,
}

/// A file of docker or podman (docker's `config.json`, containers-auth.json(5)).
#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthFile {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<Secret>,
    #[serde(rename = "registrytoken")]
    registry_token: Option<Secret>,
}

/// What a credential helper answers (docker-credential-helpers, `credentials.Credentials`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: Secret,
}

/// Docker Hub's key in docker's files.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

impl Keychain {
    /// With what was given on the command line, which is used for every registry.
    #[must_use]
    pub fn new(env: Environment, given: Option<Credential>) -> Self {
        Self { env, given }
    }

    /// Finds the credential for a repository: the one that was given; else that of the first file that has one; else
    /// the CI's own, for the CI's own registry. What is broken on the way is a warning and is passed over.
    pub fn find(&self, reference: &Reference, warn: &dyn Fn(String)) -> Option<Credential> {
        if let Some(given) = &self.given {
            return Some(given.clone());
        }
        let from_file = self.files().iter().find_map(|path| {
            let file: AuthFile = match input::read(path) {
                Ok(bytes) => match input::from_json(&bytes) {
                    Ok(file) => file,
                    Err(error) => {
                        warn(format!("{} cannot be understood: {error}", path.display()));
                        return None;
                    }
                },
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
                Err(error) => {
                    warn(format!("cannot read {}: {error}", path.display()));
                    return None;
                }
            };
            file.find(reference, path, warn)
        });
        from_file.or_else(|| self.of_ci(reference.registry()))
    }

    /// podman's files first, then docker's; REGISTRY_AUTH_FILE replaces them all.
    fn files(&self) -> Vec<PathBuf> {
        let variable = |name| self.env.get(name).map(PathBuf::from);
        if let Some(file) = variable("REGISTRY_AUTH_FILE") {
            return vec![file];
        }
        let home = variable("HOME").or_else(|| variable("USERPROFILE"));
        let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let runtime = variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
        let config = variable("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
        let docker = variable("DOCKER_CONFIG").or_else(|| in_home(".docker"));
        let files = [
            runtime,
            config.map(|dir| dir.join("containers/auth.json")),
            docker.map(|dir| dir.join("config.json")),
        ];
        files.into_iter().flatten().collect()
    }

    /// GITHUB_TOKEN is for GHCR and nobody else; GitLab names its registry.
    fn of_ci(&self, host: &str) -> Option<Credential> {
        let basic = |user: Option<String>, password: String| {
            Some(Credential::Basic { user: user?, password: Secret::new(password) })
        };
        if host == "ghcr.io" {
            let user = self.env.text("GITHUB_ACTOR").unwrap_or_else(|| "x-access-token".to_owned());
            return basic(Some(user), self.env.text("GITHUB_TOKEN")?);
        }
        if self.env.text("CI_REGISTRY").as_deref() != Some(host) {
            return None;
        }
        match self.env.text("CI_REGISTRY_PASSWORD") {
            Some(password) => basic(self.env.text("CI_REGISTRY_USER"), password),
            None => basic(Some("gitlab-ci-token".to_owned()), self.env.text("CI_JOB_TOKEN")?),
        }
    }
}

impl AuthFile {
    /// The helper that is named for the host, else the entry of the longest path, else the file's one store.
    fn find(&self, reference: &Reference, path: &Path, warn: &dyn Fn(String)) -> Option<Credential> {
        let host = reference.registry();
        let server = if host == "docker.io" { DOCKER_HUB_KEY } else { host };
        if let Some(helper) = self.helpers.get(server).or_else(|| self.helpers.get(host)) {
            return ask_helper(helper, server, warn);
        }
        let whole = format!("{host}/{}", reference.repository());
        let scopes = std::iter::successors(Some(whole.as_str()), |scope| {
            scope.rsplit_once('/').map(|(shorter, _)| shorter)
        });
        let urls = [format!("https://{host}"), format!("https://{host}/v1/"), format!("https://{host}/v2/")];
        let hub = (server != host).then_some(server);
        let keys = scopes.chain(urls.iter().map(String::as_str)).chain(hub);
        for key in keys {
            let Some(entry) = self.auths.get(key) else { continue };
            match entry.credential() {
                Ok(Some(credential)) => return Some(credential),
                // An entry without content says that the store has it.
                Ok(None) => {}
                Err(()) => {
                    warn(format!("{}: `auth` of {key} is not base64 of USER:PASSWORD", path.display()));
                }
            }
        }
        ask_helper(self.store.as_ref()?, server, warn)
    }
}

impl Entry {
    fn credential(&self) -> Result<Option<Credential>, ()> {
        let full = |secret: &Option<Secret>| secret.clone().filter(|secret| !secret.0.is_empty());
        if let Some(token) = full(&self.registry_token) {
            return Ok(Some(Credential::RegistryToken(token)));
        }
        if let Some(token) = full(&self.identity_token) {
            return Ok(Some(Credential::IdentityToken(token)));
        }
        if let Some(auth) = full(&self.auth) {
            let text = BASE64.decode(auth.0.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let (user, password) = text.as_deref().and_then(|text| text.split_once(':')).ok_or(())?;
            // docker pads with NUL.
            let password = Secret::new(password.trim_end_matches('\0').to_owned());
            return Ok(Some(Credential::Basic { user: user.to_owned(), password }));
        }
        let user = self.username.clone().filter(|user| !user.is_empty());
        Ok(user.zip(full(&self.password)).map(|(user, password)| Credential::Basic { user, password }))
    }
}

/// Asks `docker-credential-NAME get` for one server. A helper that has none, or fails, gives none.
fn ask_helper(name: &str, server: &str, warn: &dyn Fn(String)) -> Option<Credential> {
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        warn(format!("credential helper `{name}` is no name of a program"));
        return None;
    }
    let program = format!("docker-credential-{name}");
    let run = || {
        let mut command = Command::new(&program);
        let mut child =
            command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read says why by its exit code.
            let _ = writeln!(stdin, "{server}");
        }
        child.wait_with_output()
    };
    let output = match run() {
        Ok(output) => output,
        Err(error) => {
            warn(format!("cannot run {program}: {error}"));
            return None;
        }
    };
    if !output.status.success() {
        // Without credentials it answers in prose, on stdout (docker-credential-helpers, `errCredentialsNotFound`).
        if !String::from_utf8_lossy(&output.stdout).contains("credentials not found") {
            warn(format!("{program} failed ({}); it was asked for {server}", output.status));
        }
        return None;
    }
    let Ok(Answer { username, secret }) = serde_json::from_slice(&output.stdout) else {
        warn(format!("{program} answers no credentials for {server}"));
        return None;
    };
    Some(match username.as_str() {
        "<token>" => Credential::IdentityToken(secret),
        _ => Credential::Basic { user: username, password: secret },
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;

    use super::*;
    use crate::reference;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Environment { variables, current_dir: PathBuf::new(), parallelism: 1 }
    }

    /// As text, for comparison.
    fn show(credential: Option<Credential>) -> String {
        match credential {
            None => "none".to_owned(),
            Some(Credential::Basic { user, password }) => format!("{user}:{}", password.0),
            Some(Credential::IdentityToken(token)) => format!("identity {}", token.0),
            Some(Credential::RegistryToken(token)) => format!("registry {}", token.0),
        }
    }

    fn find(variables: &[(&str, &str)], image: &str) -> (String, Vec<String>) {
        let warnings = RefCell::new(vec![]);
        let keychain = Keychain::new(environment(variables), None);
        let image = reference::parse(image).unwrap();
        let found = keychain.find(&image, &|warning| warnings.borrow_mut().push(warning));
        (show(found), warnings.into_inner())
    }

    #[test]
    fn an_entry_is_found_by_its_longest_path_and_an_empty_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("auth.json");
        let auth = |text: &str| BASE64.encode(text);
        let content = format!(
            r#"{{"auths": {{
                "ghcr.io": {{"auth": "{}"}}, "ghcr.io/team": {{"auth": "{}"}}, "ghcr.io/team/app": {{"auth": ""}},
                "https://index.docker.io/v1/": {{"auth": "{}", "identitytoken": ""}},
                "https://old.example/v1/": {{"username": "o", "password": "p"}},
                "id.example": {{"auth": "{}", "identitytoken": "it"}},
                "direct.example": {{"registrytoken": "rt"}},
                "broken.example": {{"auth": "?secret?"}}
            }}}}"#,
            auth("host:a:b"),
            auth("team:p\0\0"),
            auth("hub:h"),
            auth("<token>:x")
        );
        fs::write(&file, content).unwrap();
        let variables = [("REGISTRY_AUTH_FILE", file.to_str().unwrap())];
        for (image, expected) in [
            ("ghcr.io/team/app", "team:p"),
            ("ghcr.io/team/other/app", "team:p"),
            ("ghcr.io/teams/app", "host:a:b"),
            ("app", "hub:h"),
            ("old.example/app", "o:p"),
            ("id.example/app", "identity it"),
            ("direct.example/app", "registry rt"),
            ("quay.io/app", "none"),
        ] {
            assert_eq!(find(&variables, image), (expected.to_owned(), vec![]), "{image}");
        }
        let warning = format!("{}: `auth` of broken.example is not base64 of USER:PASSWORD", file.display());
        assert_eq!(find(&variables, "broken.example/app"), ("none".to_owned(), vec![warning]));
    }

    #[test]
    fn files_are_read_in_order_and_broken_ones_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        let at = |path: &str| folder.path().join(path).to_str().unwrap().to_owned();
        let (run, home) = (at("run"), at("home"));
        let variables = [("XDG_RUNTIME_DIR", run.as_str()), ("HOME", home.as_str())];
        let entry =
            |user: &str| format!(r#"{{"auths":{{"a.example":{{"username":"{user}","password":"p"}}}}}}"#);
        let found = || find(&variables, "a.example/app");
        assert_eq!(found(), ("none".to_owned(), vec![]));
        write("home/.docker/config.json", &entry("docker"));
        assert_eq!(found().0, "docker:p");
        write("home/.config/containers/auth.json", &entry("podman"));
        assert_eq!(found().0, "podman:p");
        write("run/containers/auth.json", r#"{"auths": "secret"}"#);
        let (credential, warnings) = found();
        assert_eq!((credential.as_str(), warnings.len()), ("podman:p", 1));
        assert!(!warnings[0].contains("secret"), "{}", warnings[0]);
    }

    #[test]
    fn tokens_of_ci_are_for_its_own_registry_only() {
        let github = [("GITHUB_TOKEN", "t"), ("GITHUB_ACTOR", "me")];
        let gitlab = [("CI_REGISTRY", "r.example:5050"), ("CI_JOB_TOKEN", "j")];
        let login = [("CI_REGISTRY", "r.example"), ("CI_REGISTRY_USER", "u"), ("CI_REGISTRY_PASSWORD", "p")];
        for (variables, image, expected) in [
            (&github[..], "ghcr.io/me/app", "me:t"),
            (&github[..1], "ghcr.io/me/app", "x-access-token:t"),
            (&github, "quay.io/me/app", "none"),
            (&github, "app", "none"),
            (&gitlab, "r.example:5050/g/app", "gitlab-ci-token:j"),
            (&gitlab, "r.example/g/app", "none"),
            (&login, "r.example/g/app", "u:p"),
        ] {
            assert_eq!(find(variables, image).0, expected, "{image}");
        }
    }

    #[test]
    fn what_was_given_goes_before_everything() {
        let given = Credential::Basic { user: "u".to_owned(), password: Secret::new("p".to_owned()) };
        let keychain = Keychain::new(environment(&[("GITHUB_TOKEN", "t")]), Some(given));
        let image = reference::parse("ghcr.io/app").unwrap();
        assert_eq!(show(keychain.find(&image, &|_| panic!("a warning"))), "u:p");
    }
}
