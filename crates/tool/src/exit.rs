//! The end of a command: exit codes, errors with their causes in one line, and hints.

use std::error::Error;
use std::process::ExitCode;

use crate::document::DefinitionError;
use crate::private::PrivateError;
use crate::process::ProcessError;
use crate::signals;
use crate::ui::Ui;

/// A gate or a check failed.
pub const GATE: u8 = 1;
/// The command could not be done, or its question cannot be answered.
pub const FAILED: u8 = 2;
/// As a shell reports a program that SIGINT ended.
pub const INTERRUPTED: u8 = 130;

/// The end of a command without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With success.
    Done,
    /// A gate or a check failed.
    GateFailed,
    /// The exit code of another program that did the rest of the work.
    Exit(u8),
}

/// The exit code of a command, whose error is printed with its hint.
pub fn code(
    result: anyhow::Result<Outcome>,
    ui: Ui,
    hint: impl Fn(&(dyn Error + 'static)) -> Option<String>,
) -> ExitCode {
    if let Some(code) = signals::ended_by() {
        ui.interrupted();
        return ExitCode::from(code);
    }
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::GateFailed) => ExitCode::from(GATE),
        Ok(Outcome::Exit(code)) => ExitCode::from(code),
        Err(error) => {
            ui.error(&chain(&error), error.chain().find_map(hint).as_deref());
            ExitCode::from(FAILED)
        }
    }
}

/// An error with a hint.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Hinted {
    message: String,
    hint: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Hinted {
    /// An error from its message and its hint.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }
}

/// An error with its causes in one line, without repetitions.
#[must_use]
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // The text so far is a name, and the cause begins with it.
        let says_more = cause.strip_prefix(&text).is_some_and(|rest| rest.starts_with([' ', ':']));
        if text.is_empty() || says_more {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// The hint of an error of this package. `None` for errors of other packages, whose programs have hints of their own.
#[must_use]
pub fn hint(cause: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<Hinted>() {
        return Some(error.hint.clone());
    }
    if let Some(error) = cause.downcast_ref::<DefinitionError>() {
        return error.hint.clone();
    }
    if let Some(error) = cause.downcast_ref::<PrivateError>() {
        return error.hint();
    }
    match cause.downcast_ref::<ProcessError>()? {
        ProcessError::NotFound { program } => Some(format!("install {program}, or leave out what needs it")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        let chained = |causes: &[&'static str]| {
            let (first, rest) = causes.split_first().unwrap();
            chain(&rest.iter().fold(anyhow::anyhow!(*first), |error, cause| error.context(*cause)))
        };
        // From the innermost.
        for (causes, expected) in [
            (&["no such file", "cannot read x"][..], "cannot read x: no such file"),
            (&["/a is no image", "/a"], "/a is no image"),
            (&["/abc is no image", "/a"], "/a: /abc is no image"),
            (&["b", "a: b", "c"], "c: a: b"),
            (
                &["disk full", "cannot write x", "image a: cannot write x"],
                "image a: cannot write x: disk full",
            ),
        ] {
            assert_eq!(chained(causes), expected);
        }
    }
}
