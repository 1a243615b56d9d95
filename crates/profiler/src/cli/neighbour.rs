//! `tare-profiler neighbour`: the neighbour of the isolation pass, in a container of its own. Hidden.

use clap::Args;
use tare_tool::ui::Ui;

use crate::neighbour;

#[derive(Debug, Args)]
pub(super) struct NeighbourArguments {
    /// Bytes of memory that it uses
    #[arg(long, value_name = "BYTES")]
    memory: usize,
}

pub(super) fn run(arguments: &NeighbourArguments, ui: Ui) -> anyhow::Result<()> {
    Ok(neighbour::burn(arguments.memory, |line| ui.result(line))?)
}
