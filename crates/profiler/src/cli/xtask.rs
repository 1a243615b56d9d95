//! The xtask that called us: it knows the workspace's images and builds the embedded runtime.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;
use tare_tool::process::{Cmd, ProcessError};

/// Where the caller says who it is.
pub(super) const CALLER: &str = "TARE_XTASK";

/// An image of the workspace, as `cargo xtask image --json` describes it.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub(super) struct Built {
    /// Its name in the workspace.
    pub(super) name: String,
    /// Its OCI layout.
    pub(super) layout: PathBuf,
    /// One for each platform.
    pub(super) platforms: Vec<BuiltPlatform>,
}

/// What of it is for one platform.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct BuiltPlatform {
    /// `linux/amd64`
    pub(super) platform: String,
    /// The program with its symbols, if it has some.
    pub(super) unstripped_binary: Option<PathBuf>,
}

/// Why xtask did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum XtaskError {
    /// This program was started by somebody else.
    #[error("{what} cannot be had without the xtask of a workspace")]
    NoCaller {
        /// Which thing.
        what: String,
    },
    /// It failed, and has said why.
    #[error("{what} could not be built")]
    Failed {
        /// Which thing.
        what: String,
    },
    /// It could not be run.
    #[error("{0}")]
    Process(#[from] ProcessError),
    /// It printed something else than expected.
    #[error("`cargo xtask image --json` printed something unexpected")]
    Json(#[from] serde_json::Error),
}

impl XtaskError {
    /// What to do about it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::NoCaller { .. } => Some(
                "call it as `cargo xtask profile`, or name a path: an OCI layout or an archive".to_owned(),
            ),
            _ => None,
        }
    }
}

/// The xtask that called us, if one did.
#[derive(Debug, Clone)]
pub(super) struct Xtask(Option<OsString>);

impl Xtask {
    /// Of this path, which is [`CALLER`]'s value.
    pub(super) fn new(caller: Option<OsString>) -> Self {
        Self(caller)
    }

    /// Builds images of the workspace, all that are built by default if none is named.
    pub(super) fn images(&self, names: &[String]) -> Result<Vec<Built>, XtaskError> {
        let what = match names {
            [] => "the workspace's images".to_owned(),
            [name] => format!("image {name}"),
            names => format!("images {}", names.join(", ")),
        };
        let arguments = ["image", "--json"].into_iter().chain(names.iter().map(String::as_str));
        Ok(built(&self.output(&what, arguments)?)?)
    }

    /// Builds the embedded runtime, and says where it is.
    pub(super) fn runtime(&self) -> Result<PathBuf, XtaskError> {
        Ok(PathBuf::from(self.output("the embedded runtime", ["part", "keeper"].into_iter())?.trim_end()))
    }

    fn output<'a>(&self, what: &str, arguments: impl Iterator<Item = &'a str>) -> Result<String, XtaskError> {
        let Some(program) = &self.0 else { return Err(XtaskError::NoCaller { what: what.to_owned() }) };
        let mut output = String::new();
        let succeeded = Cmd::new(program).args(arguments).for_each_line(|line| {
            output.push_str(line);
            output.push('\n');
        })?;
        if succeeded { Ok(output) } else { Err(XtaskError::Failed { what: what.to_owned() }) }
    }
}

/// One document after the other.
fn built(output: &str) -> serde_json::Result<Vec<Built>> {
    serde_json::Deserializer::from_str(output).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_document_for_each_image_is_read() {
        let document = |name: &str| {
            format!(
                "{{\n  \"name\": \"{name}\",\n  \"digest\": \"sha256:00\",\n  \"layout\": \"/t/{name}/layout\",\n  \
                 \"platforms\": [{{\"platform\": \"linux/amd64\", \"unstrippedBinary\": null, \"size\": 1}}]\n}}\n"
            )
        };
        let image = |name: &str| Built {
            name: name.to_owned(),
            layout: PathBuf::from(format!("/t/{name}/layout")),
            platforms: vec![BuiltPlatform { platform: "linux/amd64".to_owned(), unstripped_binary: None }],
        };
        assert_eq!(built(&(document("a") + &document("b"))).unwrap(), [image("a"), image("b")]);
        assert_eq!(built("").unwrap(), []);
        assert!(built("{}").is_err());
    }

    #[test]
    #[cfg(unix)]
    fn what_failed_is_named() {
        let error = Xtask::new(Some("false".into())).images(&["app".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "image app could not be built");
        let error = Xtask::new(None).images(&[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the workspace's images cannot be had without the xtask of a workspace"
        );
    }
}
