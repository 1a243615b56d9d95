//! Servers that others published become images: no larger than their own release builds, the same from two folders, and
//! they answer.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::host;
use crate::lab::context::{Built, Context, write};
use crate::lab::expect::{json, same};
use crate::lab::namespace::Isolated;
use tare_tool::process::{Execute as _, cmd, shell_in};

/// A server in a package of crates.io, which has one binary of the same name.
struct Server {
    name: &'static str,
    version: &'static str,
    /// Lets it serve the folder in which it starts.
    arguments: &'static [&'static str],
    port: u16,
}

const SERVERS: [Server; 3] = [
    Server { name: "dufs", version: "0.47.0", arguments: &["/"], port: 5000 },
    Server { name: "miniserve", version: "0.35.0", arguments: &["/etc"], port: 8080 },
    Server {
        name: "static-web-server",
        version: "2.44.1",
        arguments: &["--root", "/etc", "--port", "8787", "--directory-listing"],
        port: 8787,
    },
];

/// Each server in turn. Everything is built anew, which takes some minutes each.
pub(super) fn servers(context: &Context<'_>) -> anyhow::Result<()> {
    let sources = sources(context)?;
    let mut rows = Vec::new();
    for server in &SERVERS {
        let source = sources.join(format!("{}-{}", server.name, server.version));
        rows.push(one(context, server, &source).with_context(|| server.name)?);
    }
    context.ui.block(&rows.join("\n"));
    Ok(())
}

/// The folder with the sources of all servers: cargo downloads and verifies what a package names as a dependency, also
/// what has no library.
fn sources(context: &Context<'_>) -> anyhow::Result<PathBuf> {
    let folder = context.new_folder("published-sources")?;
    let dependencies: String =
        SERVERS.iter().map(|server| format!("{} = \"={}\"\n", server.name, server.version)).collect();
    let package = "[package]\nname = \"sources\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n";
    write(&folder.join("Cargo.toml"), format!("{package}[dependencies]\n{dependencies}").as_bytes())?;
    write(&folder.join("src/lib.rs"), b"")?;
    let (sh, cargo) = (shell_in(&folder)?, context.env.cargo());
    let command = cmd!(sh, "{cargo} vendor --quiet --versioned-dirs vendor");
    command.without_env(context.env.of_cargo_run()).capture()?;
    Ok(folder.join("vendor"))
}

fn one(context: &Context<'_>, server: &Server, source: &Path) -> anyhow::Result<String> {
    let Server { name, version, .. } = server;
    let (sh, cargo, target) = (&context.sh, context.env.cargo(), host().target());
    let mut images = Vec::new();
    // As different as two people's folders.
    for folder in [format!("published-{name}"), format!("published-{name} of/somebody else")] {
        let folder = context.folder().join(folder);
        fs::create_dir_all(&folder)?;
        cmd!(sh, "cp -R {source}/. {folder}").capture()?;
        context.ui.status("Building", &format!("{name} {version} in {}", folder.display()));
        // `cargo tare` is the same program under another name.
        let command = context.xtask(&folder).args(["image", name, "--json", "--quiet"]);
        let built: Built = serde_json::from_value(json("`image --json`", &command.capture()?)?)?;
        images.push((folder, built));
    }
    let [(folder, first), (other, second)] = &images[..] else { anyhow::bail!("there are not two images") };
    same("the digests of two folders", &first.digest, &second.digest)?;
    let program = |built: &Built| -> anyhow::Result<PathBuf> { Ok(built.first()?.binary.clone()) };
    answer(context, server, &program(first)?)?;

    context.ui.status("Building", &format!("{name} {version} as its own release"));
    cmd!(sh, "env -C {folder} {cargo} build --quiet --release --locked --bin {name} --target {target}")
        .without_env(context.env.of_cargo_run())
        .without_env(["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"])
        .capture()?;
    let release = folder.join("target").join(target).join("release").join(name);
    let size = |path: &Path| -> anyhow::Result<u64> {
        Ok(fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len())
    };
    let (own, ours) = (size(&release)?, size(&program(first)?)?);
    for folder in [folder, other] {
        fs::remove_dir_all(folder)?;
    }
    anyhow::ensure!(ours <= own, "the program has {ours} bytes, and its own release build {own}");
    let packed = first.first()?.size;
    Ok(format!("| {name} {version} | {own} | {ours} | {packed} |"))
}

/// The server answers with an empty environment and no library of this host.
fn answer(context: &Context<'_>, server: &Server, program: &Path) -> anyhow::Result<()> {
    let log = context.new_folder(&format!("published-{}-log", server.name))?.join("log");
    let mut running = Isolated::start(program, server.arguments, &[], &log)?;
    let answer = running.wait_for(server.port, "/")?;
    anyhow::ensure!(answer.status_line == "HTTP/1.1 200 OK", "{answer:?}");
    running.kill();
    Ok(())
}
