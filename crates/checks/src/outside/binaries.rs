//! Other tools read and run our binaries.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::lab::context::{Context, SAMPLE, SAMPLE_PORT};
use crate::lab::expect::{at, json, same};
use crate::lab::namespace::{Answer, Isolated};
use crate::lab::tools::Tool;
use tare_oci::inspect::{PackageInspection, inspect};
use tare_oci::platform::Platform;
use tare_oci::reader::Source;
use tare_tool::process::{Execute as _, cmd};

/// The answer of the healthy sample server to GET /health.
pub(super) fn healthy() -> Answer {
    Answer { status_line: "HTTP/1.1 200 OK".to_owned(), body: "ok\n".to_owned() }
}

/// readelf's opinion on both binaries.
pub(super) fn binutils(context: &Context<'_>) -> anyhow::Result<()> {
    let sh = &context.sh;
    for platform in &context.both()?.platforms {
        let path = &platform.binary;
        let read = |option: &str| -> anyhow::Result<String> {
            Ok(cmd!(sh, "readelf --wide {option} {path}").env("LC_ALL", "C").capture_text()?)
        };
        let segments = read("--segments")?;
        anyhow::ensure!(!segments.contains("INTERP"), "{} has an interpreter", path.display());
        let stack = segments.lines().find(|line| line.contains("GNU_STACK")).unwrap_or_default();
        anyhow::ensure!(stack.contains(" RW "), "{}: the stack is `{stack}`", path.display());
        let dynamic = read("--dynamic")?;
        anyhow::ensure!(!dynamic.contains("NEEDED"), "{} needs a library", path.display());
        let sections = read("--sections")?;
        anyhow::ensure!(sections.contains(" .dep-v0 "), "{} has no .dep-v0", path.display());
        anyhow::ensure!(!sections.contains(" .symtab "), "{} is not stripped", path.display());
        // rustc links static binaries that can be anywhere in memory for the targets whose C library
        // starts them: musl on x86_64, but not on aarch64 (rustc_target,
        // `static_position_independent_executables`).
        let pie = segments.contains("Elf file type is DYN (Position-Independent Executable file)");
        let machine = read("--file-header")?;
        same(&format!("{}: position independence", path.display()), &pie, &machine.contains("X86-64"))?;
    }
    Ok(())
}

/// The arm64 server, run by an emulator.
pub(super) fn qemu(context: &Context<'_>) -> anyhow::Result<()> {
    let both = context.both()?;
    let arm64 = Platform::LinuxArm64.to_string();
    let server = both.platforms.iter().find(|image| image.platform == arm64).context("no arm64 image")?;
    let log = context.new_folder("qemu")?.join("log");
    let emulator = context.found.path(Tool::Program("qemu-aarch64-static"));
    let binary = server.binary.display().to_string();
    let mut emulated = Isolated::start(&emulator, &[&binary], &[], &log)?;
    same("the answer", &emulated.wait_for(SAMPLE_PORT, "/health")?, &healthy())?;
    emulated.end()
}

/// The crates that the sample's binary lists.
fn listed_crates(layout: &Path) -> anyhow::Result<Vec<PackageInspection>> {
    let mut inspection = inspect(&Source::open(layout)?)?.into_iter().next().context("no image")?;
    inspection.packages.remove("app/app").context("/app/app lists no crates")
}

/// Names and versions of those of them that run in it.
fn runtime_crates(layout: &Path) -> anyhow::Result<BTreeSet<(String, String)>> {
    let crates = listed_crates(layout)?;
    let runtime = crates.into_iter().filter(|package| package.kind == "runtime");
    let names: BTreeSet<_> = runtime.map(|package| (package.name, package.version)).collect();
    // Two empty lists would be equal too.
    anyhow::ensure!(names.iter().any(|(name, _)| name == SAMPLE), "{SAMPLE} is not among its crates");
    Ok(names)
}

/// syft finds the crates of the binary in every form of the image.
pub(super) fn syft(context: &Context<'_>) -> anyhow::Result<()> {
    let sample = context.sample()?;
    let of_rust = |(name, version)| ("rust-crate".to_owned(), name, version);
    let expected = runtime_crates(&sample.layout)?.into_iter().map(of_rust).collect();
    for source in [
        sample.layout_as("oci-dir", ""),
        sample.archive_as("oci-archive", ""),
        sample.archive_as("docker-archive", ""),
    ] {
        same(&format!("syft on {source}"), &packages(context, &source)?, &expected)?;
    }
    Ok(())
}

/// syft finds the official node and the package of the server in an image with libraries of this host, and nothing
/// about these libraries, as docs/image-toml.md says.
pub(super) fn syft_libraries(context: &Context<'_>) -> anyhow::Result<()> {
    let image = context.build("node-std", "syft-libraries", &[])?;
    let folder = context.workspace.root.join("servers/node-std");
    let package = |name: &str| -> anyhow::Result<serde_json::Value> {
        let path = folder.join(name);
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        json(name, &text)
    };
    let (server, lock) = (package("package.json")?, package("package-lock.json")?);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let node = text(at(&lock, "/packages/node_modules~1node-linux-x64/version"));
    let expected = [
        ("binary".to_owned(), "node".to_owned(), node),
        ("npm".to_owned(), text(&server["name"]), text(&server["version"])),
    ];
    same("syft on node-std", &packages(context, &image.layout_as("oci-dir", ""))?, &expected.into())
}

/// Type, name and version of the packages that syft finds in an image.
fn packages(context: &Context<'_>, source: &str) -> anyhow::Result<BTreeSet<(String, String, String)>> {
    let cache = context.folder().join("syft");
    let output = cmd!(context.sh, "syft scan {source} --output syft-json --quiet")
        .env("SYFT_CHECK_FOR_APP_UPDATE", "false")
        .env("SYFT_CACHE_DIR", &cache)
        .capture()?;
    let report = json("syft", &output)?;
    let artifacts = at(&report, "/artifacts").as_array().context("syft lists no artifacts")?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let of = |artifact: &serde_json::Value| {
        (text(&artifact["type"]), text(&artifact["name"]), text(&artifact["version"]))
    };
    Ok(artifacts.iter().map(of).collect())
}

/// cargo-audit finds the one crate that a made-up advisory is about.
pub(super) fn cargo_audit(context: &Context<'_>) -> anyhow::Result<()> {
    const CRATE: &str = "tokio";
    const ID: &str = "RUSTSEC-2000-0001";
    let sample = context.sample()?;
    let crates = runtime_crates(&sample.layout)?;
    let version = crates.iter().find(|(name, _)| name == CRATE).map(|(_, version)| version.clone());
    let version = version.with_context(|| format!("{CRATE} is not in {SAMPLE}"))?;
    let database = context.new_folder("advisories")?;
    // Two that hit if the version is read wrongly or not at all, and one that hits.
    for (number, package, range) in [
        (ID, CRATE, format!("patched = [\"> {version}\"]")),
        ("RUSTSEC-2000-0002", CRATE, format!("patched = [\">= {version}\"]")),
        ("RUSTSEC-2000-0003", "not-in-the-binary", "patched = []".to_owned()),
    ] {
        let folder = database.join("crates").join(package);
        let path = folder.join(format!("{number}.md"));
        let text = format!(
            "```toml\n[advisory]\nid = \"{number}\"\npackage = \"{package}\"\ndate = \"2000-01-01\"\n\n\
             [versions]\n{range}\n```\n\n# Made up\n\nFor a test.\n"
        );
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut lines = String::new();
    let (sh, binary) = (&context.sh, &sample.first()?.binary);
    let clean = cmd!(sh, "cargo-audit audit --quiet --no-fetch --stale --json --db {database} bin {binary}")
        .for_each_line(|line| lines.push_str(line))?;
    anyhow::ensure!(!clean, "cargo-audit found nothing");
    let report = json("cargo-audit", lines.as_bytes())?;
    // It counts those that only build it, too.
    let listed = listed_crates(&sample.layout)?.len();
    same("crates", at(&report, "/lockfile/dependency-count"), &listed.into())?;
    let list = at(&report, "/vulnerabilities/list").as_array().context("cargo-audit lists nothing")?;
    let found: Vec<_> = list
        .iter()
        .map(|hit| {
            [at(hit, "/advisory/id"), at(hit, "/package/name"), at(hit, "/package/version")]
                .map(|value| value.as_str().unwrap_or_default().to_owned())
        })
        .collect();
    same("what cargo-audit found", &found, &vec![[ID.to_owned(), CRATE.to_owned(), version]])
}
