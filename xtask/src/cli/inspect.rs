//! `cargo xtask inspect`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::Outcome;
use crate::pulled;
use crate::workspace::Workspace;
use tare_oci::inspect::{Inspection, inspect};
use tare_oci::reader::{Other, OtherKind, Source, contents};
use tare_oci::shown::shown;
use tare_oci::units::{ByteSize, Nanoseconds};
use tare_oci::validate::validate;
use tare_tool::document::suggestion;
use tare_tool::environment::{self, Environment};
use tare_tool::exit::Hinted;
use tare_tool::plan::is_reference;
use tare_tool::ui::{Ui, table};

/// Layers with more files are cut short unless `--files` asks for all.
const SHOWN_FILES: usize = 40;

#[derive(Debug, Args)]
pub(super) struct InspectArguments {
    /// An image of the workspace by its name, an OCI layout, an archive (OCI or docker), or a reference such as
    /// ghcr.io/team/app:1.2
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// Fetch only this platform of an image in a registry
    #[arg(long, value_name = "OS/ARCHITECTURE[/VARIANT]")]
    platform: Option<String>,
    /// Recompute every digest, size and diff id, and check the image against the image spec; exit code 1 if it is
    /// invalid
    #[arg(long)]
    validate: bool,
    /// List every file, not only the first 40 of a layer
    #[arg(long)]
    files: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &InspectArguments, env: &Environment, ui: Ui) -> anyhow::Result<Outcome> {
    let reference = arguments.image.to_str().filter(|name| is_reference(name));
    let place = match reference {
        Some(reference) => {
            pulled::fetch(reference, arguments.platform.as_deref(), &Workspace::find(env)?, env, ui)?
        }
        None => {
            refuse_store(&arguments.image)?;
            locate(&arguments.image, env)?
        }
    };
    let source = Source::open(&place)?;
    if arguments.validate {
        return run_validate(arguments, &source, ui);
    }
    let inspections = inspect(&source)?;
    let others = contents(&source)?.others;
    if arguments.json {
        // The document is the list of images.
        for other in others.iter().filter(|other| !matches!(other.kind, OtherKind::Attestation { .. })) {
            ui.warning(&shown(other.to_string()));
        }
        ui.result(&serde_json::to_string_pretty(&inspections)?)?;
    } else {
        let mut parts: Vec<String> = inspections.iter().map(|i| show(i, arguments.files)).collect();
        parts.extend(show_others(&others));
        if let Some(reference) = reference {
            parts.extend(show_referrers(reference, env, ui)?);
        }
        ui.result(&parts.join("\n\n"))?;
    }
    Ok(Outcome::Done)
}

/// An image in a store of another program, which only that program reads.
fn refuse_store(image: &Path) -> Result<(), Hinted> {
    let Some((transport, name)) = image.to_str().and_then(|image| image.split_once(':')) else {
        return Ok(());
    };
    let save = match transport {
        "docker-daemon" => "docker save",
        "containers-storage" => "podman save",
        _ => return Ok(()),
    };
    let message = format!("{transport}:{name} is in a store that `inspect` does not read");
    Err(Hinted::new(message, format!("`{save} --output image.tar {name}` writes an archive, which it does")))
}

/// What is listed beside the images.
fn show_others(others: &[Other]) -> Option<String> {
    let lines: Vec<String> = others.iter().map(|other| format!("  {}", shown(other.to_string()))).collect();
    (!lines.is_empty()).then(|| format!("also in the index:\n{}", lines.join("\n")))
}

/// SBOMs, provenance, signatures and reports that a registry has of an image.
fn show_referrers(reference: &str, env: &Environment, ui: Ui) -> anyhow::Result<Option<String>> {
    let lines = match pulled::referrers(reference, &Workspace::find(env)?, env, ui) {
        Ok(lines) => lines,
        // The image itself was fetched.
        Err(error) => {
            ui.warning(&format!("the referrers of {reference} are not listed: {error:#}"));
            return Ok(None);
        }
    };
    let lines: Vec<String> = lines.iter().map(|line| format!("  {}", shown(line))).collect();
    Ok((!lines.is_empty()).then(|| format!("referrers:\n{}", lines.join("\n"))))
}

/// The layout of an image of the workspace that is given by its name, or the given path. A folder that is no layout may
/// have the name of an image, such as that of its package.
fn locate(image: &Path, env: &Environment) -> anyhow::Result<PathBuf> {
    let path = env.current_dir.join(image);
    let is_name = image.components().count() == 1 && !image.starts_with(".");
    let name = image.to_str().filter(|_| is_name && !path.is_file() && !path.join("index.json").is_file());
    let workspace = name.and_then(|_| Workspace::find(env).ok());
    let (Some(name), Some(workspace)) = (name, workspace) else { return Ok(path) };
    let layout = workspace.output_dir().join(name).join("layout");
    if layout.is_dir() {
        return Ok(layout);
    }
    let mut known = workspace.image_names()?;
    known.extend(workspace.packages_with_binaries());
    if known.iter().any(|known| known == name) {
        let hint = format!("build it: {} image {name}", environment::command());
        return Err(Hinted::new(format!("image `{name}` is not built yet"), hint).into());
    }
    if path.exists() {
        return Ok(path);
    }
    known.sort();
    known.dedup();
    let hint = match known.as_slice() {
        [] => "name an OCI layout or an archive".to_owned(),
        _ => suggestion(name, &known),
    };
    Err(Hinted::new(format!("there is neither a file nor an image `{name}`"), hint).into())
}

fn run_validate(arguments: &InspectArguments, source: &Source, ui: Ui) -> anyhow::Result<Outcome> {
    let report = validate(source)?;
    if arguments.json {
        let problems: Vec<serde_json::Value> = report
            .problems
            .iter()
            .map(|problem| serde_json::json!({"place": problem.place, "what": problem.what}))
            .collect();
        let json = serde_json::json!({
            "blobs": report.blobs, "layers": report.layers, "entries": report.entries, "problems": problems,
            "notes": report.notes,
        });
        ui.result(&serde_json::to_string_pretty(&json)?)?;
    } else {
        let mut lines: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        lines.extend(report.notes.iter().map(|note| format!("note: {}", shown(note))));
        let verdict = match report.problems.len() {
            0 => "valid".to_owned(),
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        };
        lines.push(format!(
            "{verdict}: {} blobs, {} layers, {} files and directories checked",
            report.blobs, report.layers, report.entries
        ));
        ui.result(&lines.join("\n"))?;
    }
    Ok(if report.problems.is_empty() { Outcome::Done } else { Outcome::GateFailed })
}

fn show(image: &Inspection, all_files: bool) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push((name.to_owned(), value));
        }
    };
    let config = &image.config.execution;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let words = |words: &Option<Vec<String>>| match list(words).as_slice() {
        [] => String::new(),
        words => serde_json::to_string(words).unwrap_or_default(),
    };
    row("image", image.names.join(", "));
    row("digest", image.digest.map(|digest| digest.to_string()).unwrap_or_default());
    row("image id", image.image_id.to_string());
    row("platform", image.platform.clone());
    row("os version", text(image.config.image.os_version()));
    row("os features", list(image.config.image.os_features()).join(", "));
    row("created", text(image.config.image.created()));
    row("entrypoint", words(config.entrypoint()));
    row("cmd", words(config.cmd()));
    row("user", text(config.user()));
    row("working dir", text(config.working_dir()));
    for variable in list(config.env()) {
        row("env", variable);
    }
    row("ports", list(config.exposed_ports()).join(", "));
    row("volumes", list(config.volumes()).join(", "));
    row("stop signal", text(config.stop_signal()));
    row("shell", words(&Some(image.config.shell.clone())));
    for instruction in &image.config.on_build {
        row("on build", instruction.clone());
    }
    if let Some(check) = &image.config.healthcheck {
        let times = [
            ("every", check.interval),
            ("timeout", check.timeout),
            ("start period", check.start_period),
            ("start interval", check.start_interval),
        ];
        let times =
            times.iter().filter_map(|(name, value)| value.map(|v| format!("{name} {}", Nanoseconds(v))));
        let retries = check.retries.map(|retries| format!("{retries} retries"));
        let details: Vec<String> = times.chain(retries).collect();
        row("healthcheck", format!("{} {}", words(&check.test), details.join(", ")));
    }
    for (key, value) in config.labels().iter().flatten().collect::<BTreeMap<_, _>>() {
        row("label", format!("{key}={value}"));
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut lines: Vec<String> =
        rows.iter().map(|(name, value)| shown(format!("{name:width$}  {value}"))).collect();

    for (number, layer) in image.layers.iter().enumerate() {
        lines.push(String::new());
        lines.push(format!(
            "layer {} {} {} compressed, {} uncompressed, {} entries{}",
            number + 1,
            layer.digest.short(),
            ByteSize(layer.size),
            ByteSize(layer.uncompressed_size),
            layer.files.len(),
            layer.created_by.as_ref().map(|by| format!(" ({})", shown(by))).unwrap_or_default()
        ));
        let listed = if all_files { layer.files.len() } else { SHOWN_FILES };
        for file in layer.files.iter().take(listed) {
            let link = file.link.as_ref().map(|link| format!(" -> {link}")).unwrap_or_default();
            let attributes = file.attributes.iter().map(|name| format!(" [{name}]")).collect::<String>();
            let size = if file.kind == '-' { ByteSize(file.size).to_string() } else { String::new() };
            lines.push(shown(format!(
                "  {}{} {:>11} {size:>9} /{}{link}{attributes}",
                file.kind,
                file.mode,
                file.owner,
                file.path.trim_start_matches("./")
            )));
        }
        if layer.files.len() > listed {
            lines.push(format!("  … and {} more (--files shows all)", layer.files.len() - listed));
        }
    }
    for (binary, packages) in &image.packages {
        lines.push(String::new());
        lines.push(shown(format!("crates in /{binary}")));
        let rows: Vec<Vec<String>> = packages
            .iter()
            .map(|package| {
                vec![
                    shown(&package.name),
                    shown(&package.version),
                    shown(&package.source),
                    package.kind.to_owned(),
                ]
            })
            .collect();
        lines.push(table(&["crate", "version", "source", "kind"], &rows, &[]));
    }
    lines.join("\n")
}
