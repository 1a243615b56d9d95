//! Docker daemons of two generations: with the classic image store, and with the image store of containerd.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::binaries::healthy;
use super::fixtures::{FULL, ODD, fixture, folder_name, full_config};
use super::rootfs::{Allowed, compare, of_folder, of_image};
use super::umoci::Identity;
use crate::lab::context::{Built, Context, SAMPLE, SAMPLE_PORT};
use crate::lab::docker::{Docker, Store};
use crate::lab::expect::{at, json, poll, same};
use tare_tool::process::{Execute as _, ProcessError, cmd};

/// A daemon's description of an image or container.
fn inspect(docker: &Docker, kind: &str, name: &str) -> anyhow::Result<Value> {
    let output = docker.command(&[kind, "inspect", name]).capture()?;
    Ok(at(&json("docker", &output)?, "/0").clone())
}

/// The id that a daemon gives to an image of one platform or several.
fn id(docker: &Docker, built: &Built) -> anyhow::Result<Value> {
    Ok(match docker.store {
        Store::Classic => built.first()?.image_id.to_string().into(),
        Store::Containerd => built.digest.to_string().into(),
    })
}

/// Docker 20.10.
pub(super) fn classic(context: &Context<'_>) -> anyhow::Result<()> {
    everything(context, Store::Classic)
}

/// Docker 29.
pub(super) fn containerd(context: &Context<'_>) -> anyhow::Result<()> {
    everything(context, Store::Containerd)
}

fn everything(context: &Context<'_>, store: Store) -> anyhow::Result<()> {
    let mut docker = Docker::start(context, store)?;
    let name = |what: &str| format!("docker-{store:?}-{what}").to_lowercase();

    // Every parameter, and a life from start to stop.
    let full = fixture(context, FULL, &name("full"), &[])?;
    same("loaded", &docker.load(&full.archive)?, &format!("Loaded image: {FULL}:latest"))?;
    parameters(&docker, &full).context("parameters")?;
    life(&mut docker, FULL, "/srv/server", &Identity::new(65532, 65533), true).context("life of `full`")?;

    // The sample, loaded by ourselves.
    let command = docker.client(context.xtask(&context.workspace.root));
    let folder = context.folder().join(name("loaded"));
    command.args(["image", SAMPLE, "--quiet", "--load", "docker", "--output"]).arg(folder).capture()?;
    let sample = context.sample()?;
    let facts = inspect(&docker, "image", "app:latest")?;
    same("id of the sample", at(&facts, "/Id"), &id(&docker, sample)?)?;
    same("layers of the sample", at(&facts, "/RootFS/Layers"), &sample.diff_ids()?.into())?;
    let nobody = Identity::new(65534, 65534);
    life(&mut docker, SAMPLE, "/app/app", &nobody, false).context("life of the sample")?;
    docker.read(&["image", "rm", "app:latest"])?;

    // Several platforms in one archive.
    let both = context.both()?;
    same("loaded", &docker.load(&both.archive)?, &format!("Loaded image: {SAMPLE}:latest"))?;
    let facts = inspect(&docker, "image", "app:latest")?;
    same("id of both", at(&facts, "/Id"), &id(&docker, both)?)?;
    let architecture = both.first()?.platform.trim_start_matches("linux/").to_owned();
    same("architecture", at(&facts, "/Architecture"), &architecture.into())?;
    life(&mut docker, SAMPLE, "/app/app", &nobody, false).context("life of the sample for both platforms")?;

    // Every compression, and the content that comes out; gzip:6 writes several members.
    for compression in ["none", "gzip", "gzip:6", "zstd"] {
        let folder = name(&folder_name(compression));
        let odd = fixture(context, ODD, &folder, &["--compression", compression])?;
        if compression == "zstd" && store == Store::Classic {
            refuses(&docker, &odd.archive)?;
        } else {
            docker.load(&odd.archive)?;
            same("id", at(&inspect(&docker, "image", "odd:latest")?, "/Id"), &id(&docker, &odd)?)?;
            content(&mut docker, &odd).with_context(|| format!("content, {compression}"))?;
            docker.read(&["image", "rm", "odd:latest"])?;
        }
    }

    // Every tag.
    let tags = ["registry.example/team/app:1.0", "registry.example:5000/app:latest", "other:2"];
    let arguments: Vec<&str> = tags.iter().flat_map(|tag| ["--tag", tag]).collect();
    let tagged = context.build(SAMPLE, &name("tagged"), &arguments)?;
    docker.load(&tagged.archive)?;
    for tag in tags {
        same(tag, at(&inspect(&docker, "image", tag)?, "/Id"), &id(&docker, &tagged)?)?;
    }
    docker.daemon.end()
}

/// What a daemon should say of the parameters of `full`: what its definition says, and the variables and
/// labels that every image gets, as they stand in the image's own config.
pub(super) fn expected_config(full: &Built) -> anyhow::Result<Value> {
    let (_, image) = full.read()?;
    let config = &image.config.document["config"];
    let mut expected = full_config();
    for name in ["Env", "Labels"] {
        let (all, said) = (&config[name], &expected[name]);
        let variables = said.as_array().into_iter().flatten();
        let labels = said.as_object().into_iter().flatten();
        let complete = variables.into_iter().all(|item| all.as_array().is_some_and(|all| all.contains(item)))
            && labels.into_iter().all(|(label, value)| all.get(label) == Some(value));
        anyhow::ensure!(complete, "{name} is {all}, without {said}");
        expected[name] = all.clone();
    }
    Ok(expected)
}

/// Without what means nothing: old daemons list every field there is.
fn without_empty(config: &Value) -> Value {
    let fields = config.as_object().into_iter().flatten();
    let said = fields.filter(|(_, value)| {
        !(value.is_null() || **value == json!("") || **value == json!(false) || **value == json!([]))
    });
    Value::Object(said.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn parameters(docker: &Docker, full: &Built) -> anyhow::Result<()> {
    let facts = inspect(docker, "image", "full:latest")?;
    same("id", at(&facts, "/Id"), &id(docker, full)?)?;
    same("layers", at(&facts, "/RootFS/Layers"), &full.diff_ids()?.into())?;
    same("created", at(&facts, "/Created"), &"2023-11-14T22:13:20Z".into())?;
    let mut expected = expected_config(full)?;
    if docker.store == Store::Classic {
        let removed = expected["Healthcheck"].as_object_mut().and_then(|check| check.remove("StartInterval"));
        removed.context("the image has no start interval")?;
    }
    same("parameters", &without_empty(at(&facts, "/Config")), &expected)
}

/// Run, asked, found healthy, stopped; as strictly as docker can.
pub(super) fn life(
    docker: &mut Docker,
    image: &str,
    program: &str,
    identity: &Identity,
    becomes_healthy: bool,
) -> anyhow::Result<()> {
    let id = docker.read(&[
        "run",
        "--detach",
        "--read-only",
        "--network=host",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--pull=never",
        image,
    ])?;
    same("the answer", &docker.daemon.wait_for(SAMPLE_PORT, "/health")?, &healthy())?;
    let process = docker.daemon.process_of(program).context("the server's process is not there")?;
    same("its identity", &Identity::of(process)?, identity)?;
    if becomes_healthy {
        poll("healthy", || {
            let facts = inspect(docker, "container", &id)?;
            let status = at(&facts, "/State/Health/Status").as_str().unwrap_or_default();
            anyhow::ensure!(status != "unhealthy", "it is unhealthy: {}", at(&facts, "/State/Health"));
            Ok((status == "healthy").then_some(()))
        })?;
    }
    docker.read(&["stop", &id])?;
    let facts = inspect(docker, "container", &id)?;
    let state = ["Status", "ExitCode", "OOMKilled", "Error"].map(|field| facts["State"][field].clone());
    same("its end", &state, &[json!("exited"), json!(0), json!(false), json!("")])?;
    // The server talks on stderr.
    let sh = &docker.daemon.sh;
    let logs = docker.client(cmd!(sh, "sh -c 'docker logs \"$0\" 2>&1' {id}")).capture_text()?;
    // Later lines depend on the machine: a backlog that the kernel cuts.
    let first = logs.lines().next().unwrap_or_default();
    same("what it said first", &first.to_owned(), &format!("listening on 0.0.0.0:{SAMPLE_PORT}"))?;
    docker.read(&["rm", "--volumes", &id])?;
    Ok(())
}

/// The files of a running container, without what docker puts in.
fn content(docker: &mut Docker, odd: &Built) -> anyhow::Result<()> {
    const ALLOWED: Allowed = Allowed {
        extra: &[".dockerenv", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"],
        other_time: &["", "etc"],
    };
    let id = docker.read(&["run", "--detach", "--network=host", "--pull=never", "odd:latest"])?;
    docker.daemon.wait_for(SAMPLE_PORT, "/health")?;
    let process = docker.daemon.process_of("/app/server").context("the server's process is not there")?;
    let found = of_folder(Path::new(&format!("/proc/{process}/root")))?;
    let (source, image) = odd.read()?;
    compare("files in the container", &found, &of_image(&source, &image)?, &ALLOWED)?;
    docker.read(&["rm", "--force", "--volumes", &id])?;
    Ok(())
}

/// Docker before 23 does not read zstd, and says so rather than loading something else.
fn refuses(docker: &Docker, archive: &Path) -> anyhow::Result<()> {
    match docker.command(&["load", "--quiet", "--input", &archive.display().to_string()]).capture() {
        Err(ProcessError::Failed { stderr, .. }) => {
            anyhow::ensure!(stderr.contains("invalid tar header"), "it refuses zstd, but for: {stderr}");
        }
        Err(error) => return Err(error.into()),
        Ok(_) => anyhow::bail!("docker 20.10 loads zstd: say so in the documentation"),
    }
    same("images called odd", &docker.read(&["image", "ls", "--quiet", "odd"])?, &String::new())
}
