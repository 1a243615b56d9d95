//! A rebuild without changes: the time of `cargo xtask image` compared with the time of `cargo build` alone.

use super::report::Part;
use super::{Bench, Contestant, in_turn, time};
use crate::lab::context::SAMPLE;
use tare_tool::process::{Execute as _, cmd};

/// Nanoseconds that an unchanged image may take more than cargo.
const LIMIT: f64 = 100e6;

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let context = &bench.context;
    let folder = context.new_folder("rebuild")?;
    let root = &context.workspace.root;
    let tare = || context.xtask(root).args(["image", SAMPLE, "--quiet", "--output"]).arg(&folder);
    let (sh, cargo) = (&context.sh, context.env.cargo());
    let cargo = || {
        cmd!(sh, "{cargo} build --quiet --locked --package {SAMPLE}").without_env(context.env.of_cargo_run())
    };
    let contestants: [Contestant<'_>; 2] = [Box::new(|_| time(tare())), Box::new(|_| time(cargo()))];
    let times = in_turn(bench.options.rounds, &contestants)?;
    let mut part = Part::new(["nothing changed", "time"]);
    for (name, time) in ["cargo xtask image", "cargo build"].iter().zip(&times) {
        part.row(*name, [time.clone()]);
    }
    part.notes
        .push("the first, uncounted round builds what is missing; cargo builds for this host".to_owned());
    part.at_most("more than cargo build", times[0].minus(&times[1]), LIMIT);
    Ok(part)
}
