//! What stands before an entry and overrides its header: pax records, and the long names of GNU.

use std::collections::BTreeSet;
use std::io;

use super::damaged;
use super::sparse::{self, SparseRecords};
use crate::shown::shown;

/// What stands before an entry and overrides its header.
#[derive(Default)]
pub(super) struct Extended {
    has_records: bool,
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) gnu_path: Option<Vec<u8>>,
    pub(super) gnu_link: Option<Vec<u8>>,
    /// Records that are numbers or times.
    numbers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Of a file with holes.
    pub(super) sparse: SparseRecords,
}

impl Extended {
    pub(super) fn is_empty(&self) -> bool {
        !self.has_records && self.gnu_path.is_none() && self.gnu_link.is_none()
    }

    pub(super) fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        if std::mem::replace(&mut self.has_records, true) {
            return Err(damaged("two pax headers for one entry"));
        }
        let mut seen = BTreeSet::new();
        for (key, value) in records(bytes)? {
            let about = |what: &str| damaged(format!("the pax record `{}` {what}", shown(key)));
            if key.starts_with(sparse::PREFIX) {
                self.sparse.add(key, value)?;
                continue;
            }
            if !seen.insert(key) {
                return Err(about("stands twice for one entry"));
            }
            let value = value.to_vec();
            match key {
                b"path" | b"linkpath" | b"uname" | b"gname" if value.contains(&0) => {
                    return Err(about("holds a NUL"));
                }
                b"path" | b"linkpath" if value.is_empty() => return Err(about("is empty")),
                b"path" => self.path = Some(value),
                b"linkpath" => self.link = Some(value),
                b"hdrcharset" => {}
                b"size" | b"uid" | b"gid" | b"mtime" => self.numbers.push((key.to_vec(), value)),
                _ => self.attributes.push((key.to_vec(), value)),
            }
        }
        Ok(())
    }

    /// A name of pax or GNU's.
    pub(super) fn name(
        &self,
        key: &str,
        pax: &Option<Vec<u8>>,
        gnu: &Option<Vec<u8>>,
    ) -> io::Result<Option<Vec<u8>>> {
        let gnu = gnu.as_ref().map(|name| name.strip_suffix(b"\0").unwrap_or(name).to_vec());
        match (pax, gnu) {
            (Some(pax), Some(gnu)) if *pax != gnu => {
                Err(damaged(format!("its pax record `{key}` and its long name of GNU's differ")))
            }
            (_, Some(gnu)) if gnu.contains(&0) || gnu.is_empty() => {
                Err(damaged("its long name of GNU's is empty or holds a NUL"))
            }
            (pax, gnu) => Ok(pax.clone().or(gnu)),
        }
    }

    fn record(&self, key: &str) -> Option<&[u8]> {
        let mut records = self.numbers.iter().chain(&self.attributes);
        records.find(|(found, _)| found == key.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// A number that is not negative; larger ones than 2^63 no program takes.
    pub(super) fn natural(&self, key: &str) -> io::Result<Option<u64>> {
        self.record(key)
            .map(|value| {
                let number = digits(value).and_then(|digits| digits.parse::<i64>().ok());
                number.map(i64::cast_unsigned).ok_or_else(|| wrong_number(key))
            })
            .transpose()
    }

    /// Seconds, whose fraction is left out.
    pub(super) fn time(&self, key: &str) -> io::Result<Option<i64>> {
        self.record(key)
            .map(|value| {
                let mut parts = value.splitn(2, |byte| *byte == b'.');
                let seconds = parts.next().unwrap_or_default();
                let fraction = parts.next().unwrap_or_default();
                let positive = seconds.strip_prefix(b"-").unwrap_or(seconds);
                let number = digits(positive).and_then(|digits| digits.parse::<i64>().ok());
                let number = number.filter(|_| fraction.iter().all(u8::is_ascii_digit));
                let number = number.ok_or_else(|| wrong_number(key))?;
                Ok(if positive.len() == seconds.len() { number } else { -number })
            })
            .transpose()
    }
}

fn wrong_number(key: &str) -> io::Error {
    damaged(format!("its pax record `{key}` is no number, or none that it can be"))
}

/// One digit or more, and nothing else.
pub(super) fn digits(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// The records of a pax header: `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record.
fn records(mut bytes: &[u8]) -> io::Result<Vec<(&[u8], &[u8])>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (record, rest) = split_record(bytes).ok_or_else(|| damaged("a pax header is damaged"))?;
        records.push(record);
        bytes = rest;
    }
    Ok(records)
}

type Record<'a> = (&'a [u8], &'a [u8]);

fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = digits(&bytes[..space])?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    let key = &record[..equals];
    (!key.contains(&0)).then_some(((key, &record[equals + 1..]), rest))
}

/// A header for every later entry, as `git archive` writes it with a comment. Docker passes over all of them, where
/// GNU tar would take a path or size out of one.
pub(super) fn check_global(bytes: &[u8]) -> io::Result<()> {
    match records(bytes)?.iter().find(|(key, _)| *key != b"comment") {
        None => Ok(()),
        Some((key, _)) => {
            let key = shown(key);
            Err(damaged(format!("a pax header for all entries sets `{key}`, which some programs pass over")))
        }
    }
}
