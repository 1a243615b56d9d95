//! Others' registries on loopback, to which `publish` pushes, and others' clients, which pull from them.
//!
//! | registry | reached by | referrers |
//! |---|---|---|
//! | Debian's docker-registry 2.8 | TLS with a private authority, a password | fallback tag |
//! | distribution 3 | plain HTTP | fallback tag |
//! | `crane registry serve` | plain HTTP | fallback tag |
//! | go-containerregistry's with its referrers API (`.ci/registry`) | TLS with a private authority, tokens | API, fallback tag |

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::docker::life;
use super::podman::Podman;
use super::umoci::Identity;
use crate::lab::context::{Built, Context, write};
use crate::lab::docker::{Docker, Store};
use crate::lab::expect::{at, json, poll, same};
use crate::lab::namespace::Isolated;
use crate::lab::tools::Tool;
use tare_tool::process::xshell::Cmd;
use tare_tool::process::{Execute as _, ProcessError, cmd};
use tare_tool::toolkit::Part;

/// `me:secret`, as `htpasswd -B` writes it, and in base64.
const HTPASSWD: &str = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
const BASIC: &str = "bWU6c2VjcmV0";

const TAG: &str = "1.0.0";
/// The media type of the configuration of artifacts.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// How a registry is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    name: &'static str,
    address: &'static str,
    is_tls: bool,
}

const DEBIAN: Kind = Kind { name: "docker-registry 2.8", address: "127.0.0.1:5001", is_tls: true };
const DISTRIBUTION: Kind = Kind { name: "distribution 3", address: "127.0.0.1:5002", is_tls: false };
const CRANE: Kind = Kind { name: "crane registry serve", address: "127.0.0.1:5003", is_tls: false };
const REFERRERS: Kind = Kind { name: "go-containerregistry", address: "127.0.0.1:5004", is_tls: true };

impl Kind {
    fn image(self) -> String {
        format!("{}/app", self.address)
    }
}

/// All of them in one namespace of networks, and what clients need.
struct Registries {
    running: Isolated,
    folder: PathBuf,
    publish: PathBuf,
}

/// What is pushed arrives in every registry, and others find it there with everything that refers to it.
pub(super) fn all(context: &Context<'_>) -> anyhow::Result<()> {
    let both = context.both()?;
    let registries = Registries::start(context)?;
    for kind in [DEBIAN, DISTRIBUTION, CRANE, REFERRERS] {
        registries.check(kind, both).with_context(|| kind.name)?;
    }
    registries.joined(both, context).context("images that are joined")?;
    registries.artifacts(both).context("the folder of artifacts")?;
    registries.refusals()?;
    registries.signatures(both).context("cosign")?;
    let config = registries.folder.join("distribution.yml");
    drop(registries.running);
    for store in [Store::Classic, Store::Containerd] {
        docker(context, store, &config, both)?;
    }
    podman(context, &config, both).context("podman")
}

impl Registries {
    fn start(context: &Context<'_>) -> anyhow::Result<Self> {
        let folder = context.new_folder("registries")?;
        certificates(context, &folder)?;
        let path = |name: &str| folder.join(name).display().to_string();
        write(&folder.join("htpasswd"), HTPASSWD.as_bytes())?;
        let entry = |kind: Kind| format!("\"{}\": {{\"auth\": \"{BASIC}\"}}", kind.address);
        let auth = format!("{{\"auths\": {{{}, {}}}}}", entry(DEBIAN), entry(REFERRERS));
        for name in ["config.json", "auth.json"] {
            write(&folder.join(name), auth.as_bytes())?;
        }
        let storage = |name: &str| format!("storage:\n  filesystem:\n    rootdirectory: {}\n", path(name));
        let debian = format!(
            "version: 0.1\nlog:\n  level: error\n{}http:\n  addr: {}\n  tls:\n    certificate: {}\n    key: {}\n\
             auth:\n  htpasswd:\n    realm: outside\n    path: {}\n",
            storage("debian"),
            DEBIAN.address,
            path("cert.pem"),
            path("key.pem"),
            path("htpasswd")
        );
        write(&folder.join("debian.yml"), debian.as_bytes())?;
        let distribution = format!(
            "version: 0.1\nlog:\n  level: error\n{}http:\n  addr: {}\n",
            storage("distribution"),
            DISTRIBUTION.address
        );
        write(&folder.join("distribution.yml"), distribution.as_bytes())?;
        let program = |name: &'static str| context.found.path(Tool::Program(name)).display().to_string();
        let script = format!(
            "{} serve {} & {} serve {} & {} registry serve --address {} & \
             exec {} -address {} -cert {} -key {} -user me -password secret",
            program("docker-registry"),
            path("debian.yml"),
            program("registry"),
            path("distribution.yml"),
            program("crane"),
            CRANE.address,
            program("referrers-registry"),
            REFERRERS.address,
            path("cert.pem"),
            path("key.pem")
        );
        let variables = [("OTEL_TRACES_EXPORTER", "none")];
        let mut running =
            Isolated::start(Path::new("sh"), &["-c", &script], &variables, &folder.join("log"))?;
        let publish = context.workspace.toolkit(context.env).build(Part::Publish, context.env, context.ui)?;
        for kind in [DEBIAN, DISTRIBUTION, CRANE, REFERRERS] {
            let (_, port) = kind.address.split_once(':').context("a port")?;
            poll("the registry's readiness", || {
                running.check_running()?;
                let connects = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
                Ok(running.inside("bash").args(["-c", &connects]).capture().ok())
            })
            .with_context(|| kind.name)?;
        }
        Ok(Self { running, folder, publish })
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// A client in the registries' network, which knows the private authority and the password.
    fn client(&self, program: &str) -> Cmd<'_> {
        self.running
            .inside(program)
            .env("SSL_CERT_FILE", self.folder.join("ca.pem"))
            .env("DOCKER_CONFIG", &self.folder)
            .env("REGISTRY_AUTH_FILE", self.folder.join("auth.json"))
            .env("HOME", &self.folder)
            .without_env(["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
    }

    fn tare(&self, kind: Kind, arguments: &[&str]) -> Cmd<'_> {
        let command = self.client(&self.publish.display().to_string()).args(arguments);
        let command = command.without_env(["GITHUB_ACTIONS", "GITLAB_CI"]);
        if kind.is_tls { command.arg("--ca-file").arg(self.folder.join("ca.pem")) } else { command }
    }

    fn publish(&self, kind: Kind, both: &Built) -> anyhow::Result<String> {
        let (layout, image) = (both.layout.display().to_string(), kind.image());
        let key = self.path("sign.pem");
        let arguments = [
            "publish",
            "app",
            "--from",
            &layout,
            "--to",
            &image,
            "--tag",
            TAG,
            "--proof",
            "--sign-key",
            &key,
        ];
        let artifacts = self.path("artifacts");
        Ok(self.tare(kind, &arguments).args(["--artifacts", &artifacts]).capture_text()?)
    }

    fn check(&self, kind: Kind, both: &Built) -> anyhow::Result<()> {
        let (image, digest) = (kind.image(), both.digest.to_string());
        let named = format!("{image}:{TAG}");
        let line = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        // Once, and again with nothing to do.
        for _ in 0..2 {
            same("what publish says", &self.publish(kind, both)?, &format!("{image}@{digest}"))?;
        }

        let crane = |arguments: &[&str]| self.client("crane").args(arguments).capture();
        same("crane's digest", &line(crane(&["digest", &named])?), &digest)?;
        for platform in &both.platforms {
            let of = format!("{image}@{}", platform.digest);
            same("crane's verdict", &line(crane(&["validate", "--remote", &of])?), &format!("PASS: {of}"))?;
        }

        let name = kind.name.replace(' ', "-");
        let target = format!("oci:{}:x", self.path(&format!("skopeo-{name}")));
        self.client("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", "--all"])
            .args([
                format!("--src-tls-verify={}", kind.is_tls),
                "--src-cert-dir".to_owned(),
                self.path("certs"),
            ])
            .args(["--authfile".to_owned(), self.path("auth.json"), format!("docker://{named}"), target])
            .capture()?;
        let index = self.folder.join(format!("skopeo-{name}/index.json"));
        let index = json("index.json", &fs::read(&index).with_context(|| index.display().to_string())?)?;
        same("skopeo's digest", at(&index, "/manifests/0/digest"), &digest.clone().into())?;

        let pulled = self.path(&format!("pulled-{name}"));
        let arguments = ["pull", &named, "--output", &pulled];
        same("what pull says", &self.tare(kind, &arguments).capture_text()?, &format!("{image}@{digest}"))?;

        // Referrers, as oras finds them: bundles of provenance and signature; SBOMs with bundles of their own.
        let first = both.first()?.digest.to_string();
        let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
        for (subject, expected) in [
            (&digest, vec![bundle, bundle]),
            (&first, vec!["application/spdx+json", "application/vnd.cyclonedx+json", bundle, bundle]),
        ] {
            let mut command =
                self.client("oras").args(["discover", "--format", "json", &format!("{image}@{subject}")]);
            command = if kind.is_tls {
                command.args([
                    "--ca-file",
                    &self.path("ca.pem"),
                    "--registry-config",
                    &self.path("auth.json"),
                ])
            } else {
                command.arg("--plain-http")
            };
            let found = json("oras", &command.capture()?)?;
            // Older versions called it otherwise, and newer ones say it twice.
            let list = found["referrers"].as_array().or_else(|| found["manifests"].as_array());
            let of = |it: &serde_json::Value| it["artifactType"].as_str().unwrap_or_default().to_owned();
            let mut kinds: Vec<String> = list.into_iter().flatten().map(of).collect();
            kinds.sort();
            // It lists the media type of the configuration (0.22.1).
            let listed = |expected: &str| if kind == REFERRERS { EMPTY } else { expected }.to_owned();
            same("the referrers that oras finds", &kinds, &expected.into_iter().map(listed).collect())?;
        }

        // None of them answers `OCI-Subject`, so the fallback tag is written, also beside the API.
        let tags: BTreeSet<String> =
            line(crane(&["ls", &image])?).lines().map(str::to_owned).filter(|tag| tag != TAG).collect();
        let fallback = |digest: &String| digest.replace(':', "-");
        let mut expected: BTreeSet<String> =
            both.platforms.iter().map(|it| fallback(&it.digest.to_string())).collect();
        expected.insert(fallback(&digest));
        same("tags", &tags, &expected)
    }

    /// Joining two builds, each for one platform, gives the same index as one build for both platforms.
    fn joined(&self, both: &Built, context: &Context<'_>) -> anyhow::Result<()> {
        let mut archives = Vec::new();
        for platform in &both.platforms {
            let folder = self.folder.join(platform.platform.replace('/', "-"));
            let command = context.xtask(&context.workspace.root).args(["image", "app", "--quiet", "--json"]);
            let output =
                command.args(["--platform", &platform.platform, "--output"]).arg(&folder).capture()?;
            let built = json("`image --json`", &output)?;
            archives.push(at(&built, "/archive").as_str().context("no archive")?.to_owned());
        }
        let image = format!("{}/joined", CRANE.address);
        let arguments = [
            &["publish", "app", "--to", &image, "--tag", TAG, "--join"],
            &[&archives[0][..], &archives[1]][..],
        ];
        let said = self.tare(CRANE, &arguments.concat()).capture_text()?;
        same("what publish --join says", &said, &format!("{image}@{}", both.digest))
    }

    /// The sums are right, and the SBOMs are what their standards say.
    fn artifacts(&self, both: &Built) -> anyhow::Result<()> {
        let folder = self.folder.join("artifacts");
        let sh = &self.running.sh;
        cmd!(sh, "env -C {folder} sha256sum --check --quiet SHA256SUMS").capture()?;
        for platform in &both.platforms {
            let stem = format!("app-{}", platform.platform.replace('/', "-"));
            let files = ["cdx", "spdx"].map(|kind| folder.join(format!("{stem}.{kind}.json")));
            cmd!(sh, "validate-sbom {files...}").capture()?;
        }
        Ok(())
    }

    /// Without the authority, and with a wrong password.
    fn refusals(&self) -> anyhow::Result<()> {
        let image = format!("{}:x", DEBIAN.image());
        let fails = |command: Cmd<'_>, expected: &str| match command.capture() {
            Err(ProcessError::Failed { stderr, .. }) => {
                anyhow::ensure!(stderr.contains(expected), "no `{expected}` in: {stderr}");
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(_) => anyhow::bail!("it is not refused"),
        };
        let other = self.path("other-ca.pem");
        let publish = self.publish.display().to_string();
        let words = ["pull", &image, "--output", "nowhere", "--ca-file", &other];
        let without = self.client(&publish).without_env(["SSL_CERT_FILE"]).args(words);
        fails(without, "hint: a private certificate authority is named with --ca-file FILE")?;
        write(
            &self.folder.join("wrong.json"),
            b"{\"auths\": {\"127.0.0.1:5001\": {\"auth\": \"bWU6d3Jvbmc=\"}}}",
        )?;
        let wrong = self.tare(DEBIAN, &words[..4]).env("REGISTRY_AUTH_FILE", self.folder.join("wrong.json"));
        fails(wrong, "401 UNAUTHORIZED: authentication required")
    }

    /// cosign verifies with the key, and with no other.
    fn signatures(&self, both: &Built) -> anyhow::Result<()> {
        let verify = |key: &str, kind: &str, subject: &str| {
            let of = format!("{}@{subject}", DISTRIBUTION.image());
            self.client("cosign")
                .args(["verify-attestation", "--key", &self.path(key), "--insecure-ignore-tlog=true"])
                .args(["--type", kind, &of])
                .capture()
        };
        let (index, first) = (both.digest.to_string(), both.first()?.digest.to_string());
        for (kind, subject) in
            [("slsaprovenance1", &index), ("cyclonedx", &first), ("https://spdx.dev/Document/v2.3", &first)]
        {
            verify("sign.pub", kind, subject).with_context(|| kind)?;
            anyhow::ensure!(verify("other.pub", kind, subject).is_err(), "{kind} is verified by another key");
        }
        Ok(())
    }
}

/// A private authority with a certificate for this machine, another authority, and keys to sign with.
fn certificates(context: &Context<'_>, folder: &Path) -> anyhow::Result<()> {
    let openssl = |arguments: &str| -> anyhow::Result<()> {
        let sh = &context.sh;
        let words = arguments.split(' ');
        cmd!(sh, "env -C {folder} openssl {words...}").capture()?;
        Ok(())
    };
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for name in ["ca", "other-ca"] {
        openssl(&format!("req -x509 {ec} -keyout {name}.key -out {name}.pem -subj /CN={name} -days 2"))?;
    }
    openssl(&format!("req {ec} -keyout key.pem -out request.pem -subj /CN=localhost"))?;
    write(&folder.join("names"), b"subjectAltName=IP:127.0.0.1,DNS:localhost\n")?;
    openssl(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem",
    )?;
    for name in ["sign", "other"] {
        openssl(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.pem"))?;
        openssl(&format!("pkey -in {name}.pem -pubout -out {name}.pub"))?;
    }
    // skopeo takes a folder of authorities.
    let authority = fs::read(folder.join("ca.pem")).context("cannot read the authority")?;
    write(&folder.join("certs/ca.crt"), &authority)
}

/// A daemon pulls what was pushed to distribution's folder, and runs it.
fn docker(context: &Context<'_>, store: Store, config: &Path, both: &Built) -> anyhow::Result<()> {
    let mut docker = Docker::start(context, store)?;
    let log = || fs::File::create(context.folder().join("distribution.log")).context("cannot create a log");
    let registry = context.found.path(Tool::Program("registry")).display().to_string();
    let serving = docker
        .daemon
        .inside(&registry)
        .arg("serve")
        .arg(config)
        .env("OTEL_TRACES_EXPORTER", "none")
        .start_beside(log()?, log()?)?;
    let named = format!("{}:{TAG}", DISTRIBUTION.image());
    poll("a pull", || Ok(docker.command(&["pull", "--quiet", &named]).capture().ok()))?;
    let facts = json("docker", &docker.command(&["image", "inspect", &named]).capture()?)?;
    let expected = format!("{}@{}", DISTRIBUTION.image(), both.digest);
    same("docker's digest", at(&facts, "/0/RepoDigests/0"), &expected.into())?;
    life(&mut docker, &named, "/app/app", &Identity::new(65534, 65534), false)?;
    drop(serving);
    docker.daemon.end()
}

/// podman pulls it.
fn podman(context: &Context<'_>, config: &Path, both: &Built) -> anyhow::Result<()> {
    const SCRIPT: &str = "registry=$1 config=$2 image=$3; shift 3; \"$registry\" serve \"$config\" >/dev/null 2>&1 & \
        for i in $(seq 200); do \"$@\" pull --quiet --tls-verify=false \"$image\" >/dev/null 2>&1 && break; sleep 0.1; done; \
        \"$@\" image inspect \"$image\"";
    let podman = Podman::new(context)?;
    let named = format!("{}:{TAG}", DISTRIBUTION.image());
    let output = podman
        .client(Path::new("sh"))
        .args(["-c", SCRIPT, "sh"])
        .arg(context.found.path(Tool::Program("registry")))
        .arg(config)
        .arg(&named)
        .arg(context.found.path(Tool::Program("podman")))
        .args(["--cgroup-manager", "cgroupfs"])
        .env("OTEL_TRACES_EXPORTER", "none")
        .capture()?;
    let facts = json("podman", &output)?;
    same("podman's digest", at(&facts, "/0/Digest"), &both.digest.to_string().into())
}
