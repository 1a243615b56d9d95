//! Runs h2spec against the sample server with all features.

use super::binaries::healthy;
use crate::lab::context::{Context, SAMPLE_PORT};
use crate::lab::expect::same;
use crate::lab::namespace::Isolated;
use tare_tool::process::Execute as _;

/// The sample image with every feature.
const FULL: &str = "app-full";

/// Every case passes, none is skipped.
pub(super) fn all(context: &Context<'_>) -> anyhow::Result<()> {
    let built = context.build(FULL, "full", &[])?;
    let log = context.new_folder("h2spec")?.join("log");
    let mut server = Isolated::start(&built.first()?.binary, &[], &[], &log)?;
    same("the answer", &server.wait_for(SAMPLE_PORT, "/health")?, &healthy())?;
    let h2spec = server.inside("h2spec").args(["--host", "127.0.0.1", "--timeout", "10", "--port"]);
    // It ends with 1 when a case fails.
    let output = h2spec.arg(SAMPLE_PORT.to_string()).capture_text()?;
    let last = output.lines().next_back().unwrap_or_default();
    anyhow::ensure!(
        last.contains(" 0 skipped, 0 failed") && !last.starts_with("0 tests"),
        "h2spec ended with `{last}`"
    );
    server.end()
}
