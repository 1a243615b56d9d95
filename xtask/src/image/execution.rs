//! How a container of an image starts: what the definition says, completed with defaults, above what a base image says.
//!
//! A base's configuration is inherited as `FROM` of a Dockerfile does it: variables by their names, ports, volumes and
//! labels together, and each other value unless the definition has its own. An entrypoint of ours drops the base's `cmd`,
//! which are arguments of another program.

use super::definition::values::User;
use super::definition::{CA_CERTIFICATES, DEFAULT_USER, Definition};
use super::rootfs::Binary;
use tare_oci::entry::{Content, EntryKind, Owner};
use tare_oci::layer::LayerPlan;
use tare_oci::spec::{Config, Configuration, Map, unless_empty};

/// docker adds a PATH of its own, other runtimes add none, and programs that are started without one fail in ways that
/// are hard to see.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The user of the container's process in numbers; none where only the base has one, without a number.
#[must_use]
pub fn user(definition: &Definition, base: Option<&Configuration>) -> Option<Owner> {
    match (definition.config.user, base.and_then(|base| not_empty(base.execution.user()))) {
        (Some(user), _) => Some(user.0),
        (None, Some(user)) => user.parse().ok().map(|user: User| user.0),
        (None, None) => Some(DEFAULT_USER),
    }
}

/// The execution parameters of an image.
#[must_use]
pub fn execution(
    definition: &Definition,
    binary: &Binary,
    plan: &[LayerPlan],
    annotations: &Map,
    base: Option<&Configuration>,
) -> Config {
    let config = &definition.config;
    let none = Config::default();
    let below = base.map_or(&none, |base| &base.execution);
    let entries = || plan.iter().flat_map(|layer| &layer.entries);
    let binary_path = entries().find(|entry| {
        matches!(&entry.kind, EntryKind::File(Content::Bytes(bytes)) if std::sync::Arc::ptr_eq(bytes, &binary.bytes))
    });
    let entrypoint = match &config.entrypoint {
        Some(words) => Some(words.clone()),
        None => binary_path.map(|entry| vec![entry.path.to_string()]),
    };
    let cmd = match (config.cmd.is_empty(), &entrypoint) {
        (true, None) => below.cmd().clone().unwrap_or_default(),
        _ => config.cmd.clone(),
    };
    let entrypoint = entrypoint.unwrap_or_else(|| below.entrypoint().clone().unwrap_or_default());
    let mut labels: Map =
        below.labels().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    labels.extend(annotations.clone());
    labels.extend(config.labels.clone());
    let user = config.user.map(|user| user.0.to_string()).or_else(|| not_empty(below.user()));
    let working_dir = config.working_dir.as_ref().map(ToString::to_string);
    let working_dir =
        working_dir.or_else(|| not_empty(below.working_dir())).unwrap_or_else(|| "/".to_owned());
    let stop_signal = config.stop_signal.as_ref().map(|signal| signal.0.clone());
    let ports = config.exposed_ports.iter().map(ToString::to_string);
    let volumes = config.volumes.iter().map(|volume| volume.path.to_string());
    let mut execution = Config::default();
    execution
        .set_user(Some(user.unwrap_or_else(|| DEFAULT_USER.to_string())))
        .set_exposed_ports(together(below.exposed_ports(), ports))
        .set_env(listed(environment(below, plan, &config.env)))
        .set_entrypoint(listed(entrypoint))
        .set_cmd(listed(cmd))
        .set_volumes(together(below.volumes(), volumes))
        .set_working_dir(Some(working_dir))
        .set_labels(unless_empty(labels))
        .set_stop_signal(stop_signal.or_else(|| not_empty(below.stop_signal())));
    execution
}

/// The base's variables in their order, then the defaults that it lacks, then the definition's own. A name occurs once.
fn environment(below: &Config, plan: &[LayerPlan], own: &[(String, String)]) -> Vec<String> {
    let mut env: Vec<String> = below.env().clone().unwrap_or_default();
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    if !env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.push(PATH.to_owned());
    }
    let has_certificates =
        plan.iter().flat_map(|layer| &layer.entries).any(|entry| entry.path.to_string() == CA_CERTIFICATES);
    let certificates = has_certificates.then(|| format!("SSL_CERT_FILE={CA_CERTIFICATES}"));
    let own = own.iter().map(|(name, value)| format!("{name}={value}"));
    for variable in certificates.into_iter().chain(own) {
        match env.iter_mut().find(|known| name(known) == name(&variable)) {
            Some(known) => *known = variable,
            None => env.push(variable),
        }
    }
    env
}

fn listed(words: Vec<String>) -> Option<Vec<String>> {
    (!words.is_empty()).then_some(words)
}

/// Both, each once.
fn together(below: &Option<Vec<String>>, own: impl Iterator<Item = String>) -> Option<Vec<String>> {
    let mut all = below.clone().unwrap_or_default();
    for one in own {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    listed(all)
}

fn not_empty(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.is_empty())
}
