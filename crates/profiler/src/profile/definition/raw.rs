//! A profile as it is written: every key that exists, and the forms its values may take.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use tare_oci::units::{ByteSize, Nanoseconds};
use tare_tool::document::{Env, Parsed, Spanned};

use super::CpuSet;
use super::values::{Load, Network, Protocol};
use crate::profile::metric::Pass;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawProfile {
    pub(super) description: Option<String>,
    pub(super) limits: RawLimitsList,
    pub(super) ready: RawReady,
    pub(super) env: Env,
    pub(super) args: Option<Vec<String>>,
    pub(super) network: Option<Parsed<Network>>,
    pub(super) passes: Option<Spanned<Vec<Parsed<Pass>>>>,
    pub(super) size: RawSize,
    pub(super) startup: RawStartup,
    pub(super) throughput: RawThroughput,
    pub(super) gates: RawGates,
}

/// `[limits]`, or one of `[[limits]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawLimits {
    pub(super) cpus: Option<Spanned<f64>>,
    pub(super) quota: Option<Spanned<Parsed<Nanoseconds>>>,
    pub(super) period: Option<Spanned<Parsed<Nanoseconds>>>,
    pub(super) cpuset: Option<Parsed<CpuSet>>,
    pub(super) memory: Option<Spanned<Parsed<ByteSize>>>,
    pub(super) swap: Option<Spanned<Parsed<ByteSize>>>,
    pub(super) pids: Option<Spanned<u32>>,
}

/// One table of limits, or several that are run in turn.
#[derive(Debug, Default)]
pub(super) struct RawLimitsList(pub(super) Vec<RawLimits>);

impl<'de> Deserialize<'de> for RawLimitsList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableOrTables;

        impl<'de> Visitor<'de> for TableOrTables {
            type Value = RawLimitsList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of limits, or several of them ([[limits]])")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawLimitsList, A::Error> {
                RawLimits::deserialize(MapAccessDeserializer::new(map))
                    .map(|limits| RawLimitsList(vec![limits]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawLimitsList, A::Error> {
                let mut limits = Vec::new();
                while let Some(next) = list.next_element()? {
                    limits.push(next);
                }
                Ok(RawLimitsList(limits))
            }
        }

        deserializer.deserialize_any(TableOrTables)
    }
}

/// `[ready]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawReady {
    pub(super) path: Option<Spanned<String>>,
    pub(super) port: Option<Spanned<u16>>,
    pub(super) status: Option<Spanned<u16>>,
    pub(super) timeout: Option<Spanned<Parsed<Nanoseconds>>>,
}

/// `[size]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawSize {
    pub(super) rows: Option<u32>,
}

/// `[startup]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawStartup {
    pub(super) runs: Option<Spanned<u32>>,
    pub(super) cold_runs: Option<u32>,
    pub(super) floor: Option<bool>,
}

/// `[throughput]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawThroughput {
    pub(super) loads: Option<Spanned<Vec<Parsed<Load>>>>,
    pub(super) connections: Option<Spanned<u32>>,
    pub(super) duration: Option<Spanned<Parsed<Nanoseconds>>>,
    pub(super) timeout: Option<Spanned<Parsed<Nanoseconds>>>,
    pub(super) pipeline: Option<Spanned<u32>>,
    pub(super) keep_alive: Option<Spanned<bool>>,
    pub(super) protocol: Option<Parsed<Protocol>>,
    pub(super) requests: Option<Vec<RawRequest>>,
}

/// One of `[[throughput.requests]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawRequest {
    pub(super) method: Option<Spanned<String>>,
    pub(super) path: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) headers: BTreeMap<Spanned<String>, Spanned<String>>,
    pub(super) body: Option<String>,
    pub(super) weight: Option<Spanned<u32>>,
    pub(super) status: Option<Spanned<u16>>,
}

/// `[gates]`: metric ids with their bounds, as they stand in the file. An id may be written in quotes or
/// as a dotted key, which TOML takes apart and [`RawGates`] puts together again.
#[derive(Debug, Default)]
pub(super) struct RawGates(pub(super) Vec<(Spanned<String>, Spanned<RawGateNode>)>);

/// A table within `[gates]`, or a value.
#[derive(Debug)]
pub(super) enum RawGateNode {
    Table(Vec<(Spanned<String>, Spanned<RawGateNode>)>),
    Number(f64),
    Text(String),
    Bool(bool),
}

impl<'de> Deserialize<'de> for RawGates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match RawGateNode::deserialize(deserializer)? {
            RawGateNode::Table(entries) => Ok(Self(entries)),
            _ => Err(de::Error::custom("gates are a table of metrics and their bounds")),
        }
    }
}

impl<'de> Deserialize<'de> for RawGateNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Node;

        impl<'de> Visitor<'de> for Node {
            type Value = RawGateNode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a text with a unit, or a table of max, min and max-regression")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawGateNode, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(RawGateNode::Table(entries))
            }

            #[expect(clippy::cast_precision_loss, reason = "a bound beyond 2^53 is none")]
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<RawGateNode, E> {
                Ok(RawGateNode::Number(number as f64))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<RawGateNode, E> {
                Ok(RawGateNode::Number(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawGateNode, E> {
                Ok(RawGateNode::Text(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<RawGateNode, E> {
                Ok(RawGateNode::Bool(value))
            }
        }

        deserializer.deserialize_any(Node)
    }
}

/// A gate's keys with their places, found under one metric's id.
#[derive(Debug)]
pub(super) struct RawGate {
    pub(super) id: String,
    /// Of the last part of the id, or of the first key.
    pub(super) span: Range<usize>,
    pub(super) keys: Vec<(Spanned<String>, Spanned<RawGateNode>)>,
}

impl RawGates {
    /// The gates in the order of the file.
    pub(super) fn into_gates(self) -> Vec<RawGate> {
        let mut gates = Vec::new();
        for (key, node) in self.0 {
            walk(key.get_ref().clone(), key.span(), node, &mut gates);
        }
        gates.sort_by_key(|gate| gate.span.start);
        gates
    }
}

/// Tables under an id are longer ids (`latency` and `p99`), anything else is a bound.
fn walk(id: String, span: Range<usize>, node: Spanned<RawGateNode>, gates: &mut Vec<RawGate>) {
    match node.into_inner() {
        RawGateNode::Table(entries) => {
            let (tables, keys): (Vec<_>, Vec<_>) =
                entries.into_iter().partition(|(_, node)| matches!(node.get_ref(), RawGateNode::Table(_)));
            // An empty table is a gate without a bound, which is then refused by name.
            if !keys.is_empty() || tables.is_empty() {
                gates.push(RawGate { id: id.clone(), span, keys });
            }
            for (key, node) in tables {
                walk(format!("{id}.{}", key.get_ref()), key.span(), node, gates);
            }
        }
        value => {
            let whole = span.clone();
            let key = Spanned::new(span.clone(), String::new());
            gates.push(RawGate { id, span, keys: vec![(key, Spanned::new(whole, value))] });
        }
    }
}
