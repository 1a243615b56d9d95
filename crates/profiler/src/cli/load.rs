//! `cargo xtask load URL`: sends requests to a server and says how it answered, and whether that can be
//! believed.

mod report;
mod url;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tare_container::host::HostLoad;
use tare_oci::input;
use tare_oci::units::Nanoseconds;
use tare_tool::exit::INTERRUPTED;
use tare_tool::ui::Ui;

use super::Outcome;
use tare_load::{
    Blob, Check, LoadError, Pace, Phase, Plan, Protocol, Request, expect_what_was_answered, run_until, verify,
};
use url::Url;

use crate::profile::metric::Unit;
use crate::profile::render::units;

#[derive(Debug, Args)]
pub(super) struct LoadArguments {
    /// What to ask for, such as http://127.0.0.1:8080/
    url: Url,
    /// Connections that are kept open
    #[arg(short, long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// How long to measure
    #[arg(short, long, value_name = "TIME", default_value = "10s")]
    duration: Nanoseconds,
    /// How long to send the same load before measuring
    #[arg(long, value_name = "TIME", default_value = "1s")]
    warm_up: Nanoseconds,
    /// Requests per second, at fixed times (open loop) [default: as many as are answered (closed loop)]
    #[arg(long, value_name = "NUMBER")]
    rate: Option<f64>,
    /// Threads that send
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// Requests under way on one connection: pipelined, or with --h2 streams
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pipeline: u32,
    /// The method
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// A header of every request
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    header: Vec<Header>,
    /// The body of every request
    #[arg(long, value_name = "TEXT", conflicts_with = "body_file")]
    body: Option<String>,
    /// The same from a file
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
    /// Another path to ask for instead of the URL's, with how often it is chosen; can be repeated
    #[arg(long, value_name = "[WEIGHT:]PATH")]
    path: Vec<Weighted>,
    /// A connection for every request
    #[arg(long, conflicts_with = "h2")]
    no_keep_alive: bool,
    /// HTTP/2 with prior knowledge
    #[arg(long)]
    h2: bool,
    /// The status that every answer must have [default: the one before the load, 200 to 299]
    #[arg(long, value_name = "STATUS")]
    expect_status: Option<u16>,
    /// The body that every answer must have [default: the one before the load, if it is always the same]
    #[arg(long, value_name = "TEXT")]
    expect_body: Option<String>,
    /// What of an answer must be as in the answers before the load: `status`, `length` (and the status) or `body` (and
    /// both). For pages that change: `status`
    #[arg(long, value_name = "WHAT", default_value = "body", value_parser = check)]
    check: Check,
    /// When a request is given up
    #[arg(long, value_name = "TIME", default_value = "5s")]
    timeout: Nanoseconds,
    /// Of the choice between paths
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Print the plan, the figures and the histograms as JSON
    #[arg(long)]
    json: bool,
}

fn check(text: &str) -> Result<Check, String> {
    match text {
        "status" => Ok(Check::Status),
        "length" => Ok(Check::Length),
        "body" => Ok(Check::Body),
        _ => Err("write `status`, `length` or `body`".to_owned()),
    }
}

#[derive(Debug, Clone)]
struct Header(String, String);

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("write `name: value`")?;
        Ok(Self(name.trim().to_owned(), value.trim().to_owned()))
    }
}

#[derive(Debug, Clone)]
struct Weighted(u32, String);

impl FromStr for Weighted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // What begins with a slash is a path, whatever is in its query.
        let (weight, path) = match text.split_once(":/").filter(|_| !text.starts_with('/')) {
            Some((weight, path)) => {
                let number = weight.parse().map_err(|_| format!("the weight `{weight}` is not a number"))?;
                (number, format!("/{path}"))
            }
            None => (1, text.to_owned()),
        };
        if path.starts_with('/') { Ok(Self(weight, path)) } else { Err("a path begins with `/`".to_owned()) }
    }
}

pub(super) fn run(arguments: &LoadArguments, ui: Ui) -> anyhow::Result<Outcome> {
    let mut plan = plan(arguments)?;
    let first = verify(&plan)?;
    let second = verify(&plan)?;
    expect_what_was_answered(&mut plan, &first, &second, arguments.check);
    let stop = Arc::new(AtomicBool::new(false));
    let at_signal = Arc::clone(&stop);
    // The second one ends the process, whatever it waits for.
    let handler = move || {
        if at_signal.swap(true, Ordering::Relaxed) {
            #[expect(clippy::exit, reason = "this is the command line, and nothing is left behind")]
            std::process::exit(INTERRUPTED.into());
        }
    };
    ctrlc::set_handler(handler).context("cannot handle signals")?;
    let bar = bar(&plan, ui);
    let before = HostLoad::read();
    let outcome = run_until(&plan, &stop, |phase| match phase {
        Phase::Connected { connections } => bar.set_message(format!("{connections} connections")),
        Phase::Progress { answers, p99 } => {
            bar.inc(1);
            let p99 = p99.map(|p99| format!(", p99 {}", units::shown(p99 as f64, Unit::Nanoseconds)));
            bar.set_message(format!("{answers} answers{}", p99.unwrap_or_default()));
        }
        Phase::Measuring { .. } | Phase::Measured { .. } => {}
    });
    bar.finish_and_clear();
    let outcome = outcome?;
    let steal = HostLoad::read().zip(before).map(|(after, before)| after.steal_since(&before));
    let interrupted = stop.load(Ordering::Relaxed);
    let warnings = report::warnings(&plan, &outcome, steal);
    if arguments.json {
        ui.result(&report::json(&plan, &outcome, &warnings)?)?;
    } else {
        ui.result(&report::text(&plan, &outcome))?;
    }
    if interrupted {
        // What was measured, and no judgement of it.
        ui.warning("interrupted: these are the figures until then");
        return Ok(Outcome::Exit(INTERRUPTED));
    }
    for warning in warnings {
        ui.warning(&warning);
    }
    verify(&plan).context("after the load")?;
    Ok(Outcome::Done)
}

fn plan(arguments: &LoadArguments) -> anyhow::Result<Plan> {
    let body = match (&arguments.body, &arguments.body_file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(file)) => input::read(file).with_context(|| format!("cannot read {}", file.display()))?,
        (None, None) => Vec::new(),
    };
    let mut paths: Vec<(u32, &str)> = arguments.path.iter().map(|it| (it.0, it.1.as_str())).collect();
    if paths.is_empty() {
        paths.push((1, &arguments.url.path));
    }
    let requests = paths.into_iter().map(|(weight, path)| {
        let mut request = Request::get(path);
        request.weight = weight;
        request.method.clone_from(&arguments.method);
        request.headers = arguments.header.iter().map(|it| (it.0.clone(), it.1.clone())).collect();
        request.body = Blob(body.clone());
        request.expect.status = arguments.expect_status;
        request.expect.body = arguments.expect_body.as_ref().map(|body| Blob(body.clone().into_bytes()));
        request
    });
    let plan = Plan {
        requests: requests.collect(),
        protocol: if arguments.h2 { Protocol::Http2 } else { Protocol::Http1 },
        pace: arguments.rate.map_or(Pace::Closed, |rate| Pace::Open { rate }),
        connections: arguments.connections,
        threads: arguments.threads,
        depth: arguments.pipeline,
        keep_alive: !arguments.no_keep_alive,
        warm_up: arguments.warm_up.0,
        duration: arguments.duration.0,
        timeout: arguments.timeout.0,
        seed: arguments.seed,
        most: None,
        ..Plan::new(&arguments.url.address, "/")
    };
    plan.check().map_err(LoadError::from)?;
    Ok(plan)
}

/// Shows itself only on a terminal whose line can be replaced.
fn bar(plan: &Plan, ui: Ui) -> ProgressBar {
    if !ui.is_coloured() {
        return ProgressBar::hidden();
    }
    let windows = (plan.warm_up + plan.duration) / plan.window;
    let bar = ProgressBar::with_draw_target(Some(windows), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {elapsed} of it, {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// What to do about an error of the load.
pub(super) fn hint(error: &LoadError) -> Option<String> {
    match error {
        LoadError::Connect { source, .. } if source.kind() == std::io::ErrorKind::ConnectionRefused => {
            Some("nobody listens there: start the server, or give its port in the URL".to_owned())
        }
        LoadError::Connect { source, .. } if source.kind() == std::io::ErrorKind::AddrNotAvailable => Some(
            "every local port to that address is in use: wait a minute, use fewer `--connections`, or leave out \
             `--no-keep-alive`"
                .to_owned(),
        ),
        LoadError::Resolve { .. } => Some("give an address, such as http://127.0.0.1:8080/".to_owned()),
        LoadError::Answer { kind: tare_load::ErrorKind::BadStatus, .. } => {
            Some("say which status is right with --expect-status".to_owned())
        }
        LoadError::Answer { kind: tare_load::ErrorKind::Timeout, .. } => {
            Some("give it more time with --timeout, or try without --h2".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_weights() {
        let cases = [
            ("/a", Ok((1, "/a"))),
            ("3:/a:/b", Ok((3, "/a:/b"))),
            ("/to?url=http://10.0.0.1:1/x", Ok((1, "/to?url=http://10.0.0.1:1/x"))),
            ("2:/to?url=http://10.0.0.1:1/x", Ok((2, "/to?url=http://10.0.0.1:1/x"))),
            ("x:/a", Err("the weight `x` is not a number")),
            ("a", Err("a path begins with `/`")),
        ];
        for (text, expected) in cases {
            let found = text.parse::<Weighted>().map(|it| (it.0, it.1));
            let expected = expected.map(|(weight, path)| (weight, path.to_owned()));
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
    }
}
