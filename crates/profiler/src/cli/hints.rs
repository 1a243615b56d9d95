//! What to do about an error, where that is known.

use std::error::Error;
use std::io;

use crate::profile::abilities::Unable;
use crate::profile::baseline::{BaselineError, Disagreement};
use crate::profile::definition::{Problem, SourceError};
use crate::profile::size::SizeError;
use crate::profile::subject::PassError;
use tare_container::ContainerError;
use tare_load::LoadError;
use tare_oci::input::Refusal;
use tare_tool::exit;

use super::images::NotBuilt;
use super::load;
use super::stage::Stopped;
use super::start::InUse;

/// The hint of an error or of one of its causes.
pub(super) fn hint(cause: &(dyn Error + 'static)) -> Option<String> {
    fn is<'a, E: Error + 'static>(cause: &'a (dyn Error + 'static)) -> Option<&'a E> {
        cause.downcast_ref()
    }
    is::<LoadError>(cause)
        .and_then(load::hint)
        .or_else(|| is::<ContainerError>(cause)?.hint().map(str::to_owned))
        .or_else(|| is::<Stopped>(cause).map(|error| error.hint.clone()))
        .or_else(|| is::<Unable>(cause).map(|error| error.hint.to_owned()))
        .or_else(|| is::<NotBuilt>(cause).map(NotBuilt::hint))
        .or_else(|| is::<InUse>(cause).map(InUse::hint))
        .or_else(|| is::<Problem>(cause)?.hint.clone())
        .or_else(|| is::<SourceError>(cause)?.hint())
        .or_else(|| is::<BaselineError>(cause)?.hint())
        .or_else(|| exit::hint(cause))
        .or_else(|| {
            let hint = "stop what else runs on this machine, or raise `runs` and `duration`, and try again";
            is::<Disagreement>(cause).map(|_| hint.to_owned())
        })
        .or_else(|| match is::<PassError>(cause)? {
            PassError::Cpus { has, .. } => {
                Some(format!("ask for at most `--cpus {has}`, or leave the limit out of the profile"))
            }
            _ => None,
        })
        .or_else(|| match is::<SizeError>(cause)? {
            SizeError::Read(error) => Some(
                error
                    .hint()
                    .unwrap_or("the image is damaged or not whole: fetch or build it again")
                    .to_owned(),
            ),
            _ => None,
        })
        .or_else(|| Some(Refusal::of(is::<io::Error>(cause)?)?.hint().to_owned()))
}

#[cfg(test)]
mod tests {
    use tare_container::RuntimeKind;

    use super::*;

    #[test]
    fn the_hint_of_an_error_is_found_through_those_that_pass_it_on() {
        let hint = |error: &anyhow::Error| error.chain().find_map(hint);
        let error = || RuntimeKind::Runc.find(Some(&"/no/such/folder".into())).unwrap_err();
        let expected = Some("install runc, or leave `--runtime` out to use the embedded one".to_owned());
        assert_eq!(hint(&error().into()), expected);
        assert_eq!(hint(&PassError::from(error()).into()), expected);
        assert_eq!(hint(&anyhow::Error::from(PassError::from(error())).context("app")), expected);
        assert_eq!(hint(&anyhow::anyhow!("something else")), None);
    }
}
