//! `cargo xtask list`

use clap::Args;
use serde_json::{Value, json};

use super::Outcome;
use crate::environment::Environment;
use crate::image::outputs::OutputPaths;
use crate::ui::{Ui, table};
use crate::units::ByteSize;
use crate::workspace::Workspace;

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &ListArguments, env: &Environment, ui: Ui) -> anyhow::Result<Outcome> {
    let workspace = Workspace::locate(env)?;
    let mut images = Vec::new();
    for name in workspace.image_names()? {
        let paths = OutputPaths::new(&workspace.output_dir(), &name);
        let built: Value = std::fs::read(&paths.summary)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or(Value::Null);
        images.push((name, built));
    }
    if arguments.json {
        let images: Vec<Value> =
            images.iter().map(|(name, built)| json!({"name": name, "built": built})).collect();
        ui.result(&serde_json::to_string_pretty(&images)?)?;
        return Ok(Outcome::Done);
    }
    let rows: Vec<Vec<String>> = images.iter().map(|(name, built)| row(name, built)).collect();
    if rows.is_empty() {
        ui.block(&format!(
            "no images: {} has no folder with an image.toml",
            workspace.images_dir().display()
        ));
    } else {
        ui.result(&table(&["image", "platforms", "compressed", "tags", "digest"], &rows, &[2]))?;
    }
    Ok(Outcome::Done)
}

fn row(name: &str, built: &Value) -> Vec<String> {
    let platforms: Vec<&Value> = built["platforms"].as_array().into_iter().flatten().collect();
    if platforms.is_empty() {
        return vec![name.to_owned(), String::new(), String::new(), String::new(), "not built".to_owned()];
    }
    let join = |texts: Vec<&str>| texts.join(", ");
    let names = join(platforms.iter().filter_map(|platform| platform["platform"].as_str()).collect());
    let sizes = platforms.iter().filter_map(|platform| platform["size"].as_u64());
    let sizes: Vec<String> = sizes.map(|size| ByteSize(size).to_string()).collect();
    let tags = join(built["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect());
    let digest = built["digest"].as_str().unwrap_or_default();
    vec![name.to_owned(), names, sizes.join(", "), tags, digest.to_owned()]
}
