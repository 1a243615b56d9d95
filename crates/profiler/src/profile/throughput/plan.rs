//! From a profile's load cases to plans for the generator.

use std::net::SocketAddr;

use crate::profile::definition::values::{Load, Protocol};
use crate::profile::definition::{Request, ThroughputOptions};
use tare_load::{Blob, Expect, Pace, Plan};

/// Before the measured span of every case, with the case's own load: connections are opened, buffers grow.
/// That the server is warm by then is not taken for granted: windows that are not steady are a doubt.
const WARM_UP: u64 = 1_000_000_000;
/// A short case has a shorter one.
const WARM_UP_SHARE: u64 = 5;
/// Windows of a case, so that an interval can be given; none shorter than the kernel's quota period, in
/// which a limited server works and waits in turn.
const WINDOWS: u64 = 20;
/// `default_cfs_period`, kernel/sched/fair.c.
const SHORTEST_WINDOW: u64 = 100_000_000;
/// The same choice between weighted requests in every run.
const SEED: u64 = 1;
/// Of how many answers one body is compared, byte by byte.
const SAMPLE_EVERY: u64 = 64;

/// What every case has in common, as a closed loop. Of an answer nothing is expected yet but its status.
#[must_use]
pub fn base(address: SocketAddr, options: &ThroughputOptions, threads: u32) -> Plan {
    let duration = options.duration.0;
    Plan {
        address: address.to_string(),
        requests: options.requests.iter().map(of_request).collect(),
        protocol: match options.protocol {
            Protocol::Http1 => tare_load::Protocol::Http1,
            Protocol::H2 => tare_load::Protocol::Http2,
        },
        pace: Pace::Closed,
        connections: options.connections,
        threads: threads.clamp(1, options.connections.max(1)),
        depth: options.pipeline,
        keep_alive: options.keep_alive,
        warm_up: WARM_UP.min(duration / WARM_UP_SHARE),
        duration,
        window: (duration / WINDOWS).max(SHORTEST_WINDOW).min(duration),
        timeout: options.timeout.0,
        seed: SEED,
        most: None,
        sample_every: SAMPLE_EVERY,
    }
}

/// The plan of one case. `capacity` is what the closed loop reached, in requests per second; a share of it
/// cannot be planned before it is known.
#[must_use]
pub fn case(base: &Plan, load: Load, capacity: Option<f64>) -> Option<Plan> {
    let pace = match load {
        Load::Closed => Pace::Closed,
        Load::Rate(rate) => Pace::Open { rate: f64::from(rate) },
        Load::Share(percent) => Pace::Open { rate: capacity? * f64::from(percent) / 100.0 },
    };
    Some(Plan { pace, ..base.clone() })
}

fn of_request(request: &Request) -> tare_load::Request {
    tare_load::Request {
        weight: request.weight,
        method: request.method.clone(),
        path: request.path.clone(),
        headers: request.headers.clone().into_iter().collect(),
        body: Blob(request.body.clone().into_bytes()),
        expect: Expect { status: Some(request.status), ..Expect::default() },
    }
}

#[cfg(test)]
mod tests {
    use tare_oci::units::Nanoseconds;

    use super::*;

    fn options(seconds: u64) -> ThroughputOptions {
        ThroughputOptions {
            loads: vec![Load::Closed],
            connections: 2,
            duration: Nanoseconds(seconds * 1_000_000_000),
            timeout: Nanoseconds(5),
            pipeline: 3,
            keep_alive: true,
            check: crate::profile::definition::values::Check::Body,
            protocol: Protocol::Http1,
            requests: vec![Request { weight: 2, ..Request::default() }, Request::default()],
        }
    }

    #[test]
    fn a_share_is_planned_once_the_capacity_is_known() {
        let base = base("127.0.0.1:80".parse().unwrap(), &options(10), 4);
        assert_eq!(case(&base, Load::Share(70), None), None);
        let open = case(&base, Load::Share(70), Some(1_000.0)).unwrap();
        assert_eq!(open.pace, Pace::Open { rate: 700.0 });
        assert_eq!(case(&base, Load::Rate(5), None).unwrap().pace, Pace::Open { rate: 5.0 });
        let closed = case(&base, Load::Closed, None).unwrap();
        assert_eq!((closed.pace, closed.threads, closed.depth), (Pace::Closed, 2, 3));
        assert_eq!(closed.check(), Ok(()));
        let weights: Vec<(u32, Option<u16>)> =
            closed.requests.iter().map(|it| (it.weight, it.expect.status)).collect();
        assert_eq!(weights, [(2, Some(200)), (1, Some(200))]);
    }

    #[test]
    fn windows_are_at_least_a_quota_period_and_at_most_the_run() {
        let windows = |options: &ThroughputOptions| {
            let plan = base("127.0.0.1:80".parse().unwrap(), options, 1);
            (plan.warm_up, plan.window)
        };
        assert_eq!(windows(&options(10)), (1_000_000_000, 500_000_000));
        assert_eq!(windows(&options(1)), (200_000_000, 100_000_000));
        let short = ThroughputOptions { duration: Nanoseconds(50_000_000), ..options(1) };
        assert_eq!(windows(&short), (10_000_000, 50_000_000));
    }
}
