//! The error type of this package.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::path::Path;

use tare_tool::private::PrivateError;

/// What could not be done with a container, its image or its cgroup, in words; nothing is decided by the kind of
/// failure.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ContainerError {
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ContainerError {
    pub(crate) fn new(message: impl Display) -> Self {
        Self { message: message.to_string(), hint: None, source: None }
    }

    pub(crate) fn because(self, source: impl Error + Send + Sync + 'static) -> Self {
        Self { source: Some(Box::new(source)), ..self }
    }

    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// For a failed operation on a file: `read`, `write`, `create`, …
    pub(crate) fn on(operation: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let message = format!("cannot {operation} {}", path.display());
        move |source| Self::new(message).because(source)
    }

    /// What to do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl From<PrivateError> for ContainerError {
    fn from(error: PrivateError) -> Self {
        let hint = error.hint();
        Self { hint, ..Self::new(&error).because(error) }
    }
}
