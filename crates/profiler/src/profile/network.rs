//! The network pass: latency from one container to another, beside latency inside one.
//!
//! Two containers of the image are put on one bridge, each by a pair of virtual interfaces (veth(4)). The server runs in the
//! first. The second is created and never started: its network namespace is where the generator sends requests from. The
//! same generator sends the same requests over loopback from inside the first. Requests are sequential, on one connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tare_container::Container;
use tare_container::network::Bridge;
use tare_container::spec::{ContainerSpec, Network};
use tare_load::{Outcome, Plan};
use tare_oci::units::Nanoseconds;

use super::definition::ThroughputOptions;
use super::measurement::Measurement;
use super::metric::Pass;
use super::report::Section;
use super::rounds;
use super::startup::watched_start;
use super::subject::{self, PassError, Subject};
use super::throughput::{self, plan};
use super::validity::MachineFacts;
use crate::generator::Generator;

/// Rounds, each over both ways: as many as an interval needs.
const ROUNDS: u32 = 6;
/// How long each of the two loads of a round runs. Some thousand requests of 100 µs leave the p99 tens of samples.
const LENGTH: Nanoseconds = Nanoseconds(500_000_000);
/// The cases of its metrics.
const LOOPBACK: &str = "loopback";
const BRIDGE: &str = "bridge";

/// All rounds.
#[derive(Debug, Default)]
pub struct Ways {
    /// Inside the server's container.
    pub loopback: Vec<Outcome>,
    /// From the other container.
    pub bridge: Vec<Outcome>,
}

/// Sends requests over both ways in rounds. `program` is this one, which is the generator too.
///
/// # Errors
/// When the containers, the bridge or the generators cannot be had, or the server does not answer as it should.
pub fn run(subject: &Subject<'_>, load: &ThroughputOptions, program: &Path) -> Result<Ways, PassError> {
    let bridge = Arc::new(Bridge::create()?);
    let spec = ContainerSpec { network: Network::Bridge(bridge), ..subject.spec.clone() };
    let subject = Subject { spec, ..subject.clone() };
    let server = subject.create()?;
    let (_, address) = watched_start(&subject, &server)?;
    let client = subject.create()?;
    let group = throughput::group(&subject);
    let failed = |source| throughput::of_load(&server, source);
    let generator = |container: &Container| -> Result<Generator, PassError> {
        let pid = container.pid().unwrap_or_default();
        let namespace = PathBuf::from(format!("/proc/{pid}/ns/net"));
        throughput::generator(&subject, Some(namespace), group.as_ref(), program).map_err(failed)
    };
    let load = ThroughputOptions { connections: 1, pipeline: 1, duration: LENGTH, ..load.clone() };
    let over = |address: SocketAddr, child: &mut Generator| -> Result<Plan, PassError> {
        let mut plan = plan::base(address, &load, 1);
        let first = child.verify(&plan).map_err(failed)?;
        let second = child.verify(&plan).map_err(failed)?;
        tare_load::expect_what_was_answered(&mut plan, &first, &second, load.check.into());
        Ok(plan)
    };
    let (mut inside, mut outside) = (generator(&server)?, generator(&client)?);
    let loopback = over((Ipv4Addr::LOCALHOST, address.port()).into(), &mut inside)?;
    let bridged = over(address, &mut outside)?;
    let mut ways = Ways::default();
    for round in 0..ROUNDS {
        for over_bridge in if round % 2 == 0 { [false, true] } else { [true, false] } {
            if over_bridge {
                ways.bridge.push(outside.run(&bridged, |_| {}).map_err(failed)?);
            } else {
                ways.loopback.push(inside.run(&loopback, |_| {}).map_err(failed)?);
            }
            throughput::still_runs(&server)?;
        }
    }
    drop((inside, outside));
    subject::stop(&server)?;
    client.remove()?;
    server.remove()?;
    Ok(ways)
}

impl Ways {
    /// The figures with what speaks against them.
    #[must_use]
    pub fn figures(&self, machine: &MachineFacts) -> Vec<Measurement> {
        let Self { loopback, bridge } = self;
        let mut rows = Vec::new();
        for (metric, percent) in [("network.p50", 50.0), ("network.p99", 99.0)] {
            for (outcomes, case) in [(loopback, LOOPBACK), (bridge, BRIDGE)] {
                let row = rounds::median(metric, rounds::latencies(outcomes, percent));
                rows.extend(row.map(|row| {
                    let mut row = row.of_case(case);
                    let fewest = (percent, rounds::least_requests(outcomes));
                    rounds::doubt(&mut row, &rounds::of_outcomes(outcomes, false), machine, Some(fewest));
                    row
                }));
            }
        }
        let [inside, outside] = [loopback, bridge].map(|outcomes| rounds::latencies(outcomes, 50.0));
        let added = outside.iter().zip(&inside).map(|(outside, inside)| outside - inside).collect();
        rows.extend(rounds::median("network.added", added).map(|mut row| {
            let both = [loopback.clone(), bridge.clone()].concat();
            let fewest = (50.0, rounds::least_requests(&both));
            rounds::doubt(&mut row, &rounds::of_outcomes(&both, false), machine, Some(fewest));
            row
        }));
        for (outcomes, case) in [(loopback, LOOPBACK), (bridge, BRIDGE)] {
            rows.push(Measurement::exact("network.errors", rounds::errors(outcomes)).of_case(case));
        }
        rows
    }

    /// How it was measured.
    #[must_use]
    pub fn section(&self, place: String) -> Section {
        let notes = vec![
            place,
            format!(
                "Sequential requests on one connection, {ROUNDS} rounds of {LENGTH} over each way in changing order. Bridge: from \
                 the network namespace of a second container of the image, over its veth pair, a bridge and the server's veth \
                 pair. Loopback: from inside the server's container. The generator runs on the same CPU for both."
            ),
        ];
        Section { pass: Pass::Network, notes, tables: vec![] }
    }
}

#[cfg(test)]
mod tests {
    use super::super::throughput::rows::tests::answered;
    use super::*;

    #[test]
    fn what_the_bridge_adds_is_the_median_difference_of_the_rounds() {
        let outcomes = |times: [u64; 3]| times.map(answered).to_vec();
        let ways = Ways { loopback: outcomes([50, 60, 70]), bridge: outcomes([90, 90, 80]) };
        let rows = ways.figures(&MachineFacts::default());
        let values: Vec<(String, f64)> = rows.iter().map(|row| (row.key(), row.value)).collect();
        let expected = [
            ("network.p50@loopback", 60.0),
            ("network.p50@bridge", 90.0),
            ("network.p99@loopback", 60.0),
            ("network.p99@bridge", 90.0),
            ("network.added", 30.0),
            ("network.errors@loopback", 0.0),
            ("network.errors@bridge", 0.0),
        ];
        assert_eq!(values, expected.map(|(key, value)| (key.to_owned(), value)));
        assert_eq!(rows[4].samples, [40.0, 30.0, 10.0]);
    }
}
