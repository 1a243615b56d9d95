//! Pushing an image to distribution's registry on loopback, beside `crane push` and `skopeo copy`.
//!
//! All push the same layout with the same number of requests to wait for; what differs is what each asks and sends. tare
//! is called without SBOMs and provenance, which the others do not have.

use std::path::Path;

use anyhow::Context as _;

use super::report::{Part, Series};
use super::{Bench, Contestant, in_turn, time};
use crate::lab::context::{Context, PREBUILT, write};
use crate::lab::expect::json;
use crate::lab::namespace::Isolated;
use crate::lab::tools::Tool;
use tare_profiler::profile::metric::Unit;
use tare_tool::process::Execute as _;
use tare_tool::process::xshell::Cmd;
use tare_tool::toolkit::Part as Program;

const ADDRESS: &str = "127.0.0.1:5000";
/// The most of the others' time where nothing has changed, and for the first push.
const LIMITS: [f64; 2] = [0.5, 1.0];

/// Who pushes.
const NAMES: [&str; 3] = ["tare", "crane push", "skopeo copy"];

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let context = &bench.context;
    let mut part = Part::new(["publish", "first push", "tare / this", "nothing changed", "tare / this"]);
    let needs =
        [Tool::Namespaces, Tool::Program("registry"), Tool::Program("crane"), Tool::Program("skopeo")];
    if let Some(missing) = needs.into_iter().find(|tool| !context.found.has(*tool)) {
        part.left_out.push(format!("everything: it needs {missing}"));
        return Ok(part);
    }
    let program = context.workspace.toolkit(context.env).build(Program::Publish, context.env, context.ui)?;
    let registry = start(context)?;
    let layout = context.sample()?.layout.clone();
    // A repository for each contestant and round is new; one for each contestant has the image already.
    let contestants = |repository: fn(&str, u32) -> String| -> Vec<Contestant<'_>> {
        let (registry, program, layout) = (&registry, &program, &layout);
        NAMES
            .map(|name| -> Contestant<'_> {
                Box::new(move |round| time(push(registry, name, program, layout, &repository(name, round))))
            })
            .into()
    };
    let first = in_turn(bench.options.rounds, &contestants(|name, round| format!("{}-{round}", slug(name))))?;
    let again = in_turn(bench.options.rounds, &contestants(|name, _| slug(name)))?;
    for (at, name) in NAMES.into_iter().enumerate() {
        let cells = [&first, &again].map(|times| [times[at].clone(), times[0].over(&times[at])]);
        part.row(name, cells.into_iter().flatten());
    }
    for (what, times, limit) in [("nothing changed", &again, LIMITS[0]), ("first push", &first, LIMITS[1])] {
        part.at_most(format!("{what}: tare / crane push"), times[0].over(&times[1]), limit);
        if what == "nothing changed" {
            part.at_most(format!("{what}: tare / skopeo copy"), times[0].over(&times[2]), limit);
        }
    }
    let sent = changed(bench, &registry, &program)?;
    part.at_most("a changed program: bytes sent / its layer and configuration", sent, 1.0);
    part.notes.push("the sample image, distribution 3 with files, plain HTTP on loopback".to_owned());
    Ok(part)
}

/// distribution's registry, which answers.
fn start(context: &Context<'_>) -> anyhow::Result<Isolated> {
    let folder = context.new_folder("publish")?;
    let config = folder.join("config.yml");
    let storage = folder.join("storage");
    let text = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {ADDRESS}\n",
        storage.display()
    );
    write(&config, text.as_bytes())?;
    let registry = context.found.path(Tool::Program("registry"));
    let arguments = ["serve", &config.display().to_string()];
    let mut running =
        Isolated::start(&registry, &arguments, &[("OTEL_TRACES_EXPORTER", "none")], &folder.join("log"))?;
    running.wait_for(5000, "/v2/")?;
    Ok(running)
}

fn push<'a>(registry: &'a Isolated, name: &str, tare: &Path, layout: &Path, repository: &str) -> Cmd<'a> {
    let (to, layout) = (format!("{ADDRESS}/{repository}:latest"), layout.display().to_string());
    match name {
        "tare" => {
            let words = ["publish", "app", "--quiet", "--no-proof", "--from", &layout, "--to", &to];
            registry.inside(&tare.display().to_string()).args(words)
        }
        "crane push" => registry.inside("crane").args(["push", &layout, &to]),
        _ => registry
            .inside("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"])
            .args([format!("oci:{layout}:latest"), format!("docker://{to}")]),
    }
}

fn slug(name: &str) -> String {
    name.replace(' ', "-")
}

/// The bytes that tare sends after the program of an image has changed, as a share of the bytes that it must send.
fn changed(bench: &Bench<'_>, registry: &Isolated, tare: &Path) -> anyhow::Result<Series> {
    let context = &bench.context;
    let binary = context.sample()?.first()?.binary.clone();
    let program = std::fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let made_up = context.made_up("publish-tare")?;
    let definition = format!("{PREBUILT}[[layers]]\nname = \"base\"\n");
    let mut ratios = Vec::new();
    for round in 0..=bench.options.rounds {
        // Nothing looks at what lies behind the last section.
        let variant = [&program, &round.to_le_bytes()[..]].concat();
        made_up.image("changed", &definition, &variant)?;
        context.xtask(&made_up.root).args(["image", "changed", "--quiet"]).capture()?;
        let layout = made_up.root.join("target/images/changed/layout");
        let output = push(registry, "tare", tare, &layout, "changed").arg("--json").capture()?;
        let published = json("publish --json", &output)?;
        let sent = published["repositories"][0]["bytesSent"].as_f64().context("no bytesSent")?;
        let summary =
            context.xtask(&made_up.root).args(["image", "changed", "--quiet", "--json"]).capture()?;
        let least = least(&json("image --json", &summary)?, &layout)?;
        ratios.push(sent / least);
    }
    Ok(Series::new(Unit::Count, ratios.into_iter().skip(1)))
}

/// Bytes of the configuration and of the layer that holds the program, which is the largest.
fn least(summary: &serde_json::Value, layout: &Path) -> anyhow::Result<f64> {
    let platform = &summary["platforms"][0];
    let layers = platform["layers"].as_array().into_iter().flatten();
    let largest = layers.filter_map(|layer| layer["size"].as_u64()).max().context("no layer has a size")?;
    let id = platform["imageId"].as_str().context("no image id")?;
    let config = layout.join("blobs").join(id.replace(':', "/"));
    let config = std::fs::metadata(&config).with_context(|| format!("cannot read {}", config.display()))?;
    Ok((largest + config.len()) as f64)
}
