//! Comparison of whole values, and waiting for a condition.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// The longest wait. Longer means that it has failed.
const BOUND: Duration = Duration::from_secs(60);

/// Fails unless both are equal.
pub(crate) fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> anyhow::Result<()> {
    anyhow::ensure!(found == expected, "{what} is {found:?}, expected {expected:?}");
    Ok(())
}

/// Asks until there is an answer, at most for [`BOUND`]. An error ends it at once.
pub(crate) fn poll<T>(what: &str, mut ask: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    // Short beside everything that is waited for.
    const PAUSE: Duration = Duration::from_millis(20);
    let started = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        anyhow::ensure!(started.elapsed() < BOUND, "{what} did not happen within {} s", BOUND.as_secs());
        std::thread::sleep(PAUSE);
    }
}

/// Parses the output of a program as JSON.
pub(crate) fn json(what: &str, output: &[u8]) -> anyhow::Result<serde_json::Value> {
    serde_json::from_slice(output).with_context(|| {
        format!("{what} did not print JSON but {}", String::from_utf8_lossy(&output[..output.len().min(400)]))
    })
}

/// The part of a document that a JSON pointer (RFC 6901) names; null if it is absent.
pub(crate) fn at<'a>(document: &'a serde_json::Value, pointer: &str) -> &'a serde_json::Value {
    document.pointer(pointer).unwrap_or(&serde_json::Value::Null)
}
