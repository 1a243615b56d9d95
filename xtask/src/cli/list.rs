//! `cargo xtask list`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::Outcome;
use crate::image::definition::{self, Definition, DefinitionError};
use crate::image::outputs::OutputPaths;
use crate::workspace::Workspace;
use tare_oci::digest::Digest;
use tare_oci::input;
use tare_oci::units::ByteSize;
use tare_tool::environment::Environment;
use tare_tool::exit;
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
        let definition = has_definitions.then(|| read(&workspace, &name));
        // One that cannot be read stops the build when no image is named.
        let default = definition.as_ref().is_some_and(|read| read.as_ref().map_or(true, |it| it.default));
        let problem = definition.and_then(Result::err).map(|error| exit::chain(&error));
        let paths = OutputPaths::new(&workspace.output_dir(), &name);
        let built: Value = input::read(&paths.summary)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or(Value::Null);
        images.push(Image { name, default, problem, built });
    }
    if arguments.json {
        let json = |Image { name, default, problem, built }: &Image| {
            let mut image = json!({ "name": name, "default": default, "built": built });
            if let Some(problem) = problem {
                image["problem"] = json!(problem);
            }
            image
        };
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
    for Image { name, problem, .. } in &images {
        if let Some(problem) = problem {
            ui.warning(&format!("image {name} cannot be built: {problem}"));
        }
    }
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
    /// Why its definition cannot be used.
    problem: Option<String>,
    /// The summary of its last build.
    built: Value,
}

fn read(workspace: &Workspace, name: &str) -> anyhow::Result<Definition> {
    let path = workspace.images_dir().join(name).join("image.toml");
    let shown = PathBuf::from(workspace.show(&path));
    let text = input::read_definition(&workspace.root, &path)
        .with_context(|| format!("cannot read {}", shown.display()))?;
    definition::parse(name, &path, &text).map_err(|error| DefinitionError { path: shown, ..error }.into())
}

impl Image {
    fn row(&self) -> Vec<String> {
        let Self { name, default, problem, built } = self;
        let when = match (problem, default) {
            (Some(_), _) => "broken",
            (None, true) => "by default",
            (None, false) => "when named",
        };
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
