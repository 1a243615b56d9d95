//! From the text of a file to a profile.

use std::fmt::{self, Display};
use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use tare_oci::units::{ByteSize, Nanoseconds};
use tare_tool::document::{DefinitionError, Env, Parsed, Places};

use super::values::Load;
use super::{CpuLimit, CpuSet, DEFAULT_PERIOD, Gate, Limits, Problem, Profile, gates};
use crate::profile::metric::Pass;

/// Each pass once, in the order they run.
pub(super) fn in_order(passes: &[Pass]) -> Vec<Pass> {
    Pass::ALL.into_iter().filter(|pass| passes.contains(pass)).collect()
}

/// What `cpus = "auto"` is until the host is known. No text becomes this limit: a quota in nanoseconds is a smaller number
/// of microseconds.
const AUTO: CpuLimit = CpuLimit { quota: u64::MAX, period: u64::MAX };

/// Reads the text of the profile called `name`, which lies in `file`. `auto` is the limit that `cpus = "auto"` stands for.
///
/// # Errors
/// When it is not TOML, has unknown keys, or values that cannot be.
pub fn parse(name: &str, file: &Path, text: &str, auto: CpuLimit) -> Result<Profile, DefinitionError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct WithGates {
        gates: serde_json::Map<String, serde_json::Value>,
    }

    let places = Places::new(file, text);
    let placed = |problem: Problem| {
        let mut error = places.error(places.key(&problem.key), problem.message);
        error.hint = problem.hint;
        error
    };
    let mut profile: Profile = places.read()?;
    name.clone_into(&mut profile.name);
    for limits in &mut profile.limits {
        limits.cpu = limits.cpu.map(|cpu| if cpu == AUTO { auto } else { cpu });
    }
    profile.passes = in_order(&profile.passes);
    profile.gates = gates::read(places.read::<WithGates>()?.gates).map_err(placed)?;
    profile.check().map_err(placed)?;
    Ok(profile)
}

/// A value that is written as text.
pub(super) fn text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    Parsed::deserialize(deserializer).map(|it| it.0)
}

pub(super) fn env<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    Env::deserialize(deserializer).map(|it| it.0)
}

pub(super) fn loads<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Load>, D::Error> {
    Ok(Vec::<Parsed<Load>>::deserialize(deserializer)?.into_iter().map(|it| it.0).collect())
}

/// `[gates]` is read apart ([`gates::read`]).
pub(super) fn no_gates<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Gate>, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| Vec::new())
}

/// `[limits]`, or one of `[[limits]]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct RawLimits {
    cpus: Option<Cpus>,
    quota: Option<Parsed<Nanoseconds>>,
    period: Option<Parsed<Nanoseconds>>,
    cpuset: Option<CpuSet>,
    memory: Option<Parsed<ByteSize>>,
    swap: Option<Parsed<ByteSize>>,
    pids: Option<u64>,
}

/// A number of CPUs, or `"auto"`.
#[derive(Debug)]
struct Cpus(CpuLimit);

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrAuto;

        impl Visitor<'_> for NumberOrAuto {
            type Value = CpuLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of CPUs, or \"auto\"")
            }

            fn visit_f64<E: serde::de::Error>(self, cpus: f64) -> Result<CpuLimit, E> {
                CpuLimit::cpus(cpus).map_err(E::custom)
            }

            #[expect(clippy::cast_precision_loss, reason = "no host has 2^53 CPUs")]
            fn visit_i64<E: serde::de::Error>(self, cpus: i64) -> Result<CpuLimit, E> {
                self.visit_f64(cpus as f64)
            }

            #[expect(clippy::cast_precision_loss, reason = "no host has 2^53 CPUs")]
            fn visit_u64<E: serde::de::Error>(self, cpus: u64) -> Result<CpuLimit, E> {
                self.visit_f64(cpus as f64)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<CpuLimit, E> {
                if text == "auto" { Ok(AUTO) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
            }
        }

        deserializer.deserialize_any(NumberOrAuto).map(Self)
    }
}

impl RawLimits {
    fn limits(self) -> Result<Limits, &'static str> {
        let cpu = match (self.cpus, self.quota, self.period) {
            (None, None, None) => None,
            (Some(Cpus(limit)), None, None) => Some(limit),
            // The kernel counts in µs.
            (None, Some(quota), period) => {
                let period = period.map_or(DEFAULT_PERIOD, |period| period.0.0 / 1_000);
                Some(CpuLimit { quota: quota.0.0 / 1_000, period })
            }
            (Some(_), ..) => return Err("`cpus` and `quota` with `period` say the same"),
            (None, None, Some(_)) => return Err("`period` needs `quota`"),
        };
        let memory = self.memory.map(|memory| memory.0.0);
        // Where nothing is said of swap there is none: it would take the place of the memory.
        let swap = self.swap.map(|swap| swap.0.0).or(memory.map(|_| 0));
        Ok(Limits { cpu, cpuset: self.cpuset, memory, swap, pids: self.pids })
    }
}

/// One table of limits, or several that are run in turn.
pub(super) fn limits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Limits>, D::Error> {
    struct TableOrTables;

    impl<'de> Visitor<'de> for TableOrTables {
        type Value = Vec<RawLimits>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of limits, or several of them ([[limits]])")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<RawLimits>, A::Error> {
            RawLimits::deserialize(MapAccessDeserializer::new(map)).map(|limits| vec![limits])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<RawLimits>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(list))
        }
    }

    let raw = deserializer.deserialize_any(TableOrTables)?;
    raw.into_iter().map(RawLimits::limits).collect::<Result<_, _>>().map_err(D::Error::custom)
}
