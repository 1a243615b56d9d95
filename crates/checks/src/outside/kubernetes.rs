//! Manifests of `deploy` before a real API server, with Istio's and Knative's definitions, in a namespace that enforces
//! PodSecurity `restricted`. Nothing runs there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::lab::context::{Context, write};
use crate::lab::expect::{at, same};
use crate::lab::kubernetes::ControlPlane;
use tare_tool::process::{Execute as _, ProcessError, cmd};

const NAMESPACE: &str = "restricted";
/// The manifests of fixed figures that the tests of `deploy` compare with.
const GOLDEN: &str = "crates/deploy/tests/golden";
/// What an API server knows of the kinds of `deploy`.
const KINDS: [&str; 4] = ["kubernetes", "stateful", "istio", "knative"];
/// The test that writes manifests of random figures into a folder.
const RANDOM: &str = "manifests_of_any_figures_are_left_for_kubectl";

/// Changes that make a manifest wrong: its file, the text and what replaces it, and a part of the server's answer.
const WRONG: [(&str, &str, &str, &str); 5] = [
    ("kubernetes", "minReplicas:", "leastReplicas:", ".spec.leastReplicas: field not declared in schema"),
    ("kubernetes", "cpu: 500m", "cpu: 5m", "must be less than or equal to cpu limit"),
    ("stateful", "storage: 10Gi", "storage: ten", "quantities must match the regular expression"),
    // A rule in CEL.
    ("istio", "timeout: 4000ms", "timeout: 0ms", "must be a valid duration greater than 1ms"),
    ("knative", "containerConcurrency:", "concurrency:", "field not declared in schema"),
];

/// Every manifest is accepted by a server-side dry run without a warning, and so are its pods; wrong ones are refused.
pub(super) fn manifests(context: &Context<'_>) -> anyhow::Result<()> {
    let plane = ControlPlane::start(context)?;
    plane.install_definitions()?;
    plane.create_restricted_namespace(NAMESPACE)?;
    let golden = context.workspace.root.join(GOLDEN);
    let mut files: Vec<PathBuf> = KINDS.iter().map(|kind| golden.join(format!("{kind}.yaml"))).collect();
    let random = random(context)?;
    files.extend(["kubernetes", "istio", "knative"].map(|kind| random.join(kind)));
    let mut pods = Vec::new();
    let mut objects = 0;
    for file in &files {
        let accepted = apply(&plane, file).with_context(|| file.display().to_string())?;
        objects += accepted.len();
        pods.extend(accepted.iter().filter_map(pod));
    }
    let list = plane.folder.join("pods.json");
    let admit = |pods: &[Value]| {
        write(&list, json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string().as_bytes())?;
        apply(&plane, &list)
    };
    same("the number of admitted pods", &admit(&pods)?.len(), &pods.len())?;
    context.ui.status("Accepted", &format!("{objects} objects and {} pods", pods.len()));

    let mut as_root = pods.swap_remove(0);
    if let Some(user) = as_root.pointer_mut("/spec/containers/0/securityContext/runAsUser") {
        *user = json!(0);
    }
    let mut failures = Vec::from_iter(
        refused(admit(&[as_root]), "violates PodSecurity \"restricted:latest\": runAsUser=0").err(),
    );
    for (kind, from, to, answer) in WRONG {
        let text = fs::read_to_string(golden.join(format!("{kind}.yaml")))?;
        anyhow::ensure!(text.contains(from), "{kind} has no `{from}`");
        let file = plane.folder.join("wrong.yaml");
        write(&file, text.replacen(from, to, 1).as_bytes())?;
        failures
            .extend(refused(apply(&plane, &file), answer).with_context(|| format!("{kind} with {to}")).err());
    }
    let failures: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
    anyhow::ensure!(
        failures.is_empty(),
        "what is wrong was not refused as expected: {}",
        failures.join("\n  ")
    );
    Ok(())
}

/// Applies a file or the files of a folder by a dry run, and gives back the objects as the server would keep them.
fn apply(plane: &ControlPlane, file: &Path) -> anyhow::Result<Vec<Value>> {
    let command = plane.kubectl().args(["apply", "--server-side", "--dry-run=server", "--validate=strict"]);
    let command = command.args(["--namespace", NAMESPACE, "--output", "json", "--warnings-as-errors"]);
    let output = command.arg("--filename").arg(file).capture_text()?;
    let list: Value = serde_json::from_str(&output).context("kubectl did not print JSON")?;
    Ok(match list.get("items") {
        Some(Value::Array(items)) => items.clone(),
        _ => vec![list],
    })
}

/// The pod that an object would make.
fn pod(object: &Value) -> Option<Value> {
    let template = object.pointer("/spec/template")?;
    let mut spec = template.get("spec")?.clone();
    // Knative's own.
    spec.as_object_mut()?.remove("containerConcurrency");
    let claims = object.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
    if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
        let of_claim = |claim| json!({"name": at(claim, "/metadata/name"), "emptyDir": {}});
        volumes.extend(claims.into_iter().flatten().map(of_claim));
    }
    Some(json!({
        "apiVersion": "v1", "kind": "Pod", "spec": spec,
        "metadata": {"name": "pod", "labels": at(template, "/metadata/labels")},
    }))
}

fn refused(result: anyhow::Result<Vec<Value>>, answer: &str) -> anyhow::Result<()> {
    let Err(error) = result else { anyhow::bail!("it was accepted") };
    let said = format!("{error:#}");
    anyhow::ensure!(said.contains(answer), "expected `{answer}`: {said}");
    Ok(())
}

/// Where the manifests of random figures are, which a test of `deploy` writes.
fn random(context: &Context<'_>) -> anyhow::Result<PathBuf> {
    let target = context.workspace.target_dir.join("tests");
    let (sh, cargo) = (&context.sh, context.env.cargo());
    let test = ["test", "--locked", "--profile", "xtask", "--package", "tare-deploy", "--test", "deploy"];
    let tested: Result<_, ProcessError> =
        cmd!(sh, "{cargo} {test...} --target-dir {target} -- --ignored {RANDOM}")
            .without_env(context.env.of_cargo_run())
            .capture();
    tested?;
    Ok(target.join("tmp/random"))
}
