//! `cargo xtask list`

use clap::Args;
use serde_json::{Value, json};

use super::Outcome;
use crate::image::definition;
use crate::image::outputs::OutputPaths;
use crate::workspace::Workspace;
use tare_oci::digest::Digest;
use tare_oci::input;
use tare_oci::units::ByteSize;
use tare_tool::environment::Environment;
use tare_tool::ui::{Ui, table};

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &ListArguments, env: &Environment, ui: Ui) -> anyhow::Result<Outcome> {
    let workspace = Workspace::find(env)?;
    let mut images = Vec::new();
    let mut names = workspace.image_names()?;
    // Without a definition, every package with a binary can be built by its name.
    let has_definitions = !names.is_empty();
    if !has_definitions {
        names = workspace.packages_with_binaries();
    }
    for name in names {
        let default = has_definitions && is_default(&workspace, &name);
        let paths = OutputPaths::new(&workspace.output_dir(), &name);
        let built: Value = input::read(&paths.summary)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or(Value::Null);
        images.push(Image { name, default, built });
    }
    if arguments.json {
        let json = |Image { name, default, built }: &Image| json!({"name": name, "default": default, "built": built});
        let images: Vec<Value> = images.iter().map(json).collect();
        ui.result(&serde_json::to_string_pretty(&images)?)?;
        return Ok(Outcome::Done);
    }
    let rows: Vec<Vec<String>> = images.iter().map(Image::row).collect();
    if rows.is_empty() {
        ui.block(
            "no images: the workspace has neither an images/NAME/image.toml nor a package with a binary",
        );
        return Ok(Outcome::Done);
    }
    ui.result(&table(&["image", "build", "platforms", "compressed", "tags", "digest"], &rows, &[3]))?;
    if !has_definitions {
        ui.block("there is no images/NAME/image.toml: these packages can be built by name");
    }
    Ok(Outcome::Done)
}

/// One line of the list.
struct Image {
    name: String,
    /// Whether it is built when no image is named.
    default: bool,
    /// The summary of its last build.
    built: Value,
}

/// A definition that cannot be read is tried, and stops the build, when no image is named.
fn is_default(workspace: &Workspace, name: &str) -> bool {
    let path = workspace.images_dir().join(name).join("image.toml");
    let text = input::read_definition(&workspace.root, &path).unwrap_or_default();
    definition::parse(name, &path, &text).map_or(true, |definition| definition.default)
}

impl Image {
    fn row(&self) -> Vec<String> {
        let Self { name, default, built } = self;
        let when = if *default { "by default" } else { "when named" };
        let platforms: Vec<&Value> = built["platforms"].as_array().into_iter().flatten().collect();
        let none = || ("not built".to_owned(), String::new(), String::new(), String::new());
        let (names, sizes, tags, digest) =
            if platforms.is_empty() { none() } else { columns(built, &platforms) };
        vec![name.clone(), when.to_owned(), names, sizes, tags, digest]
    }
}

fn columns(built: &Value, platforms: &[&Value]) -> (String, String, String, String) {
    let join = |texts: Vec<&str>| texts.join(", ");
    let names = join(platforms.iter().filter_map(|platform| platform["platform"].as_str()).collect());
    let sizes = platforms.iter().filter_map(|platform| platform["size"].as_u64());
    let sizes: Vec<String> = sizes.map(|size| ByteSize(size).to_string()).collect();
    let tags = join(built["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect());
    let digest = built["digest"].as_str().and_then(|digest| digest.parse::<Digest>().ok());
    (names, sizes.join(", "), tags, digest.map(|digest| digest.short()).unwrap_or_default())
}
