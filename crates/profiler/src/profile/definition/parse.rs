//! From what the file says to a profile: every value checked, every fault with its place.

use std::ops::Range;
use std::path::Path;

use tare_oci::units::Nanoseconds;
use tare_tool::document::{DefinitionError, Places, Spanned};

use super::bound::{bound, expected, percent};
use super::raw::{
    RawGate, RawGateNode, RawLimits, RawProfile, RawReady, RawRequest, RawStartup, RawThroughput,
};
use super::values::{Cpus, Load, Network, Protocol};
use super::{
    CpuLimit, DEFAULT_PERIOD, Limits, Profile, Ready, Request, SizeOptions, StartupOptions,
    ThroughputOptions, problem,
};
use crate::profile::gate::Gate;
use crate::profile::metric::{self, Direction, Metric, Pass, Unit};

/// Each pass once, in the order they run.
pub(super) fn in_order(passes: &[Pass]) -> Vec<Pass> {
    Pass::ALL.into_iter().filter(|pass| passes.contains(pass)).collect()
}

/// Reads the text of the profile called `name`, which lies in `file`.
///
/// # Errors
/// When it is not TOML, has unknown keys, or values that cannot be.
pub fn parse(name: &str, file: &Path, text: &str) -> Result<Profile, DefinitionError> {
    let maker = Maker(Places::new(file, text));
    let raw: RawProfile = maker.0.read()?;
    let mut limits = raw.limits.0.into_iter().map(|it| maker.limits(it)).collect::<Result<Vec<_>, _>>()?;
    if limits.is_empty() {
        limits.push(Limits::default());
    }
    let passes = match raw.passes {
        None => Pass::ALL.to_vec(),
        Some(list) if list.get_ref().is_empty() => {
            return Err(maker.0.error(list.span(), "a profile without passes measures nothing"));
        }
        Some(list) => in_order(&list.into_inner().iter().map(|pass| pass.0).collect::<Vec<_>>()),
    };
    let gates = raw.gates.into_gates().into_iter().map(|it| maker.gate(it)).collect::<Result<_, _>>()?;
    Ok(Profile {
        name: name.to_owned(),
        description: raw.description,
        limits,
        ready: maker.ready(&raw.ready)?,
        env: raw.env.0,
        args: raw.args,
        network: raw.network.map_or(Network::Loopback, |network| network.0),
        passes,
        size: SizeOptions { rows: raw.size.rows.unwrap_or(20) },
        startup: maker.startup(&raw.startup)?,
        throughput: maker.throughput(raw.throughput)?,
        gates,
    })
}

/// A value that is there, or what is wrong with it.
type Made<T> = Result<T, DefinitionError>;

/// Makes profiles of raw ones, which needs their places for what is wrong with them.
struct Maker<'a>(Places<'a>);

impl Maker<'_> {
    /// A value, unless there is a problem with it.
    fn checked<T: Clone>(&self, value: &Spanned<T>, problem: impl Fn(&T) -> Option<String>) -> Made<T> {
        match problem(value.get_ref()) {
            Some(problem) => Err(self.0.error(value.span(), problem)),
            None => Ok(value.get_ref().clone()),
        }
    }

    fn limits(&self, raw: RawLimits) -> Made<Limits> {
        let cpu = match (&raw.cpus, &raw.quota, &raw.period) {
            (None, None, None) => None,
            (Some(cpus), None, None) => {
                let quota = Cpus::new(*cpus.get_ref()).map(CpuLimit::from).ok_or_else(|| {
                    let mut error =
                        self.0.error(cpus.span(), format!("`{}` is not a number of CPUs", cpus.get_ref()));
                    error.hint = Some("leave `cpus` out for no limit".to_owned());
                    error
                })?;
                match problem::with_quota(quota) {
                    Some(problem) => return Err(self.0.error(cpus.span(), problem)),
                    None => Some(quota),
                }
            }
            (None, Some(quota), period) => {
                let span = quota.span();
                let period = period.as_ref().map_or(DEFAULT_PERIOD, |period| period.get_ref().0.0 / 1_000);
                // The kernel counts in µs.
                let quota = CpuLimit { quota: quota.get_ref().0.0 / 1_000, period };
                match problem::with_quota(quota) {
                    Some(problem) => return Err(self.0.error(span, problem)),
                    None => Some(quota),
                }
            }
            (Some(cpus), _, _) => {
                return Err(self.0.error(cpus.span(), "`cpus` and `quota` with `period` say the same"));
            }
            (None, None, Some(period)) => {
                return Err(self.0.error(period.span(), "`period` needs `quota`"));
            }
        };
        let memory = match &raw.memory {
            None => None,
            Some(memory) => Some(self.checked(memory, |it| problem::with_memory(it.0))?.0.0),
        };
        let swap = match &raw.swap {
            Some(swap) if memory.is_none() => {
                return Err(self.0.error(swap.span(), "`swap` needs `memory`"));
            }
            Some(swap) => Some(swap.get_ref().0.0),
            None => memory.map(|_| 0),
        };
        let pids = match &raw.pids {
            None => None,
            Some(pids) => Some(u64::from(self.checked(pids, |pids| {
                (*pids == 0).then(|| "a container without processes runs nothing".to_owned())
            })?)),
        };
        Ok(Limits { cpu, cpuset: raw.cpuset.map(|it| it.0), memory, swap, pids })
    }

    fn status(&self, raw: Option<&Spanned<u16>>) -> Made<u16> {
        raw.map_or(Ok(200), |status| {
            self.checked(status, |status| {
                (!(100..=599).contains(status)).then(|| format!("{status} is no HTTP status"))
            })
        })
    }

    fn path(&self, raw: Option<&Spanned<String>>) -> Made<String> {
        raw.map_or(Ok("/".to_owned()), |path| {
            self.checked(path, |path| {
                let sendable = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
                (!sendable)
                    .then(|| format!("`{path}` is not a path: begin with `/` and escape what is not ASCII"))
            })
        })
    }

    fn ready(&self, raw: &RawReady) -> Made<Ready> {
        let timeout = raw.timeout.as_ref().map_or(Ok(Nanoseconds(10_000_000_000)), |timeout| {
            self.checked(timeout, |timeout| problem::with_duration(timeout.0)).map(|timeout| timeout.0)
        });
        let port = match &raw.port {
            None => None,
            Some(port) => {
                Some(self.checked(port, |port| (*port == 0).then(|| "0 is not a port".to_owned()))?)
            }
        };
        Ok(Ready {
            path: self.path(raw.path.as_ref())?,
            port,
            status: self.status(raw.status.as_ref())?,
            timeout: timeout?,
        })
    }

    fn startup(&self, raw: &RawStartup) -> Made<StartupOptions> {
        let runs = raw.runs.as_ref().map_or(Ok(20), |runs| self.checked(runs, |it| problem::with_runs(*it)));
        Ok(StartupOptions {
            runs: runs?,
            cold_runs: raw.cold_runs.unwrap_or(10),
            floor: raw.floor.unwrap_or(true),
        })
    }

    fn throughput(&self, raw: RawThroughput) -> Made<ThroughputOptions> {
        let loads = match raw.loads {
            None => vec![Load::Closed, Load::Share(50), Load::Share(70), Load::Share(90)],
            Some(list) => {
                let span = list.span();
                let loads: Vec<Load> = list.into_inner().into_iter().map(|load| load.0).collect();
                match problem::with_loads(&loads) {
                    Some(problem) => return Err(self.0.error(span, problem)),
                    None => loads,
                }
            }
        };
        let duration = |raw: &Option<Spanned<tare_tool::document::Parsed<Nanoseconds>>>, usual| {
            raw.as_ref().map_or(Ok(Nanoseconds(usual)), |value| {
                self.checked(value, |value| problem::with_duration(value.0)).map(|value| value.0)
            })
        };
        let protocol = raw.protocol.map_or(Protocol::Http1, |protocol| protocol.0);
        let pipeline = raw.pipeline.as_ref().map_or(Ok(1), |pipeline| {
            self.checked(pipeline, |depth| {
                (!(1..=1024).contains(depth))
                    .then(|| format!("a pipeline of {depth} is not between 1 and 1024"))
            })
        })?;
        if let Some(keep_alive) = raw.keep_alive.as_ref().filter(|keep_alive| !*keep_alive.get_ref()) {
            if pipeline > 1 {
                return Err(self.0.error(keep_alive.span(), "a pipeline needs `keep-alive`"));
            }
            if protocol == Protocol::H2 {
                return Err(self.0.error(keep_alive.span(), "h2 has no connections without `keep-alive`"));
            }
        }
        let requests = match raw.requests {
            None => vec![Request::default()],
            Some(list) => list.into_iter().map(|it| self.request(it)).collect::<Result<Vec<_>, _>>()?,
        };
        let requests = if requests.is_empty() { vec![Request::default()] } else { requests };
        Ok(ThroughputOptions {
            loads,
            connections: raw.connections.as_ref().map_or(Ok(64), |connections| {
                self.checked(connections, |connections| problem::with_connections(*connections))
            })?,
            duration: duration(&raw.duration, 10_000_000_000)?,
            timeout: duration(&raw.timeout, 5_000_000_000)?,
            pipeline,
            keep_alive: raw.keep_alive.is_none_or(Spanned::into_inner),
            protocol,
            requests,
        })
    }

    fn request(&self, raw: RawRequest) -> Made<Request> {
        let token = |text: &str| {
            // RFC 9110, section 5.6.2.
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        };
        let method = raw.method.as_ref().map_or(Ok("GET".to_owned()), |method| {
            self.checked(method, |method| (!token(method)).then(|| format!("`{method}` is not a method")))
        });
        let mut headers = Vec::new();
        // By place in the file: a map has them by name.
        let mut written: Vec<_> = raw.headers.into_iter().collect();
        written.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in written {
            let name =
                self.checked(&name, |name| (!token(name)).then(|| format!("`{name}` is not a header")))?;
            let value = self.checked(&value, |value| {
                value
                    .contains(|c: char| c.is_control() && c != '\t')
                    .then(|| format!("the value of `{name}` has a control character"))
            })?;
            headers.push((name, value));
        }
        let weight = raw.weight.as_ref().map_or(Ok(1), |weight| {
            self.checked(weight, |weight| {
                (!(1..=10_000).contains(weight))
                    .then(|| format!("a weight of {weight} is not between 1 and 10000"))
            })
        });
        Ok(Request {
            method: method?,
            path: self.path(raw.path.as_ref())?,
            headers,
            body: raw.body.unwrap_or_default().into_bytes(),
            weight: weight?,
            status: self.status(raw.status.as_ref())?,
        })
    }

    fn gate(&self, raw: RawGate) -> Made<Gate> {
        let (id, case) = match raw.id.split_once('@') {
            None => (raw.id.as_str(), None),
            Some((id, case)) => (id, Some(case.to_owned())),
        };
        let Some(metric) = metric::find(id) else {
            // `size.efficiency = 3` is a key `efficiency` under `size`.
            let bare =
                raw.keys.iter().find(|(key, _)| metric::find(&format!("{id}.{}", key.get_ref())).is_some());
            if let Some((key, _)) = bare {
                return Err(self.not_a_table(key.span(), &format!("{id}.{}", key.get_ref())));
            }
            let known: Vec<String> = metric::TABLE.iter().map(|metric| metric.id.to_owned()).collect();
            let mut error = self.0.error(raw.span, format!("unknown metric `{id}`"));
            let nearest = tare_tool::document::nearest(id, &known);
            let list = "`cargo xtask profile --list-metrics` lists them";
            error.hint = Some(nearest.map_or(list.to_owned(), |it| format!("did you mean `{it}`? {list}")));
            return Err(error);
        };
        if case.is_some() && metric.cases.is_none() {
            return Err(self.0.error(raw.span, format!("`{id}` has no cases")));
        }
        let mut gate = Gate {
            metric: metric.id,
            case,
            max: None,
            min: None,
            max_regression: None,
            allow_unreliable: false,
        };
        for (key, node) in raw.keys {
            match (key.get_ref().as_str(), node.get_ref()) {
                ("max", node_value) => gate.max = Some(self.bound(&node, node_value, metric)?),
                ("min", node_value) => gate.min = Some(self.bound(&node, node_value, metric)?),
                ("max-regression", _) if metric.direction == Direction::Neither => {
                    return Err(self.0.error(
                        key.span(),
                        format!("`{id}` is neither better nor worse when it changes: use `max` and `min`"),
                    ));
                }
                ("max-regression", node_value) => {
                    gate.max_regression = Some(self.regression(&node, node_value)?);
                }
                ("allow-unreliable", RawGateNode::Bool(allow)) => gate.allow_unreliable = *allow,
                ("allow-unreliable", _) => {
                    return Err(self.0.error(node.span(), "`allow-unreliable` is true or false"));
                }
                ("", _) => return Err(self.not_a_table(raw.span, id)),
                (unknown, _) => {
                    let known = ["max", "min", "max-regression", "allow-unreliable"].map(str::to_owned);
                    return Err(self.0.unknown(key.span(), "key", unknown, &known));
                }
            }
        }
        if gate.max.is_none() && gate.min.is_none() && gate.max_regression.is_none() {
            return Err(self.0.error(raw.span, format!("the gate of `{}` has no bound", gate.key())));
        }
        if let (Some(min), Some(max)) = (gate.min, gate.max)
            && min > max
        {
            return Err(self
                .0
                .error(raw.span, format!("nothing passes the gate of `{}`: min is above max", gate.key())));
        }
        Ok(gate)
    }

    fn not_a_table(&self, span: Range<usize>, id: &str) -> DefinitionError {
        let example = format!("write `\"{id}\" = {{ max = … }}`, with `max`, `min` or `max-regression`");
        self.0.error(span, format!("a gate is a table: {example}"))
    }

    fn bound(&self, place: &Spanned<RawGateNode>, node: &RawGateNode, metric: &Metric) -> Made<f64> {
        let value = match node {
            RawGateNode::Number(number)
                if matches!(metric.unit, Unit::Count | Unit::PerSecond | Unit::Share) =>
            {
                Ok(*number)
            }
            // Nothing is nothing in every unit.
            RawGateNode::Number(number) if *number == 0.0 => Ok(0.0),
            RawGateNode::Text(text) => bound(text, metric.unit),
            _ => Err(expected(metric.unit)),
        };
        let value = value.and_then(|value| {
            if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(expected(metric.unit)) }
        });
        value
            .map_err(|problem| self.0.error(place.span(), format!("a bound of `{}` is {problem}", metric.id)))
    }

    fn regression(&self, place: &Spanned<RawGateNode>, node: &RawGateNode) -> Made<f64> {
        let share = match node {
            RawGateNode::Text(text) => percent(text),
            RawGateNode::Number(number) if *number == 0.0 => Some(0.0),
            _ => None,
        };
        share.ok_or_else(|| self.0.error(place.span(), "`max-regression` is a share such as \"5%\""))
    }
}
