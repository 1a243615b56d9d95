//! `tare-profiler generate`: the load generator as a child of the one that measures. Hidden: it speaks JSON.

use std::io::BufRead as _;
use std::path::PathBuf;

use clap::Args;
use tare_tool::ui::Ui;

use crate::generator::{self, Place};

#[derive(Debug, Args)]
pub(super) struct GenerateArguments {
    /// Join this network namespace
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// Run on these CPUs
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Enter this cgroup
    #[arg(long, value_name = "FILE")]
    cgroup_procs: Vec<PathBuf>,
}

pub(super) fn run(arguments: &GenerateArguments, ui: Ui) -> anyhow::Result<()> {
    let place = Place {
        network_namespace: arguments.netns.clone(),
        cpus: arguments.cpus.clone(),
        cgroups: arguments.cgroup_procs.clone(),
    };
    // A stdin that cannot be read has ended.
    let lines = std::io::stdin().lock().lines().map_while(Result::ok);
    generator::serve(&place, lines, |say| -> anyhow::Result<()> {
        Ok(ui.result(&serde_json::to_string(say)?)?)
    })
}
