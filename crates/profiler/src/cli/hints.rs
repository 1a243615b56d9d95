//! What to do about an error, where that is known.

use std::io;

use crate::profile::baseline::{BaselineError, Disagreement};
use crate::profile::definition::SourceError;
use crate::profile::size::SizeError;
use crate::profile::subject::PassError;
use tare_container::ContainerError;
use tare_load::LoadError;
use tare_oci::input::Refusal;
use tare_tool::exit;

use super::load;
use super::profile::NotBuilt;
use super::stage::Stopped;

/// The hint of the error or the first of its causes that has one.
pub(super) fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(of_cause)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<LoadError>() {
        return load::hint(error);
    }
    if let Some(error) = cause.downcast_ref::<ContainerError>() {
        return error.hint().map(str::to_owned);
    }
    if let Some(error) = cause.downcast_ref::<Stopped>() {
        return Some(error.hint.clone());
    }
    if let Some(PassError::Cpus { has, .. }) = cause.downcast_ref::<PassError>() {
        return Some(format!("ask for at most `--cpus {has}`, or leave the limit out of the profile"));
    }
    if let Some(SizeError::Read(error)) = cause.downcast_ref::<SizeError>() {
        let hint = error.hint().unwrap_or("the image is damaged or not whole: fetch or build it again");
        return Some(hint.to_owned());
    }
    if let Some(error) = cause.downcast_ref::<NotBuilt>() {
        return Some(error.hint());
    }
    if let Some(hint) = exit::hint(cause) {
        return Some(hint);
    }
    match cause.downcast_ref::<SourceError>() {
        Some(SourceError::Unknown { hint, .. }) => return Some(hint.clone()),
        Some(SourceError::Definition(error)) => return error.hint.clone(),
        _ => {}
    }
    if let Some(BaselineError::Differs(_)) = cause.downcast_ref::<BaselineError>() {
        return Some("measure a new one in these circumstances: `--save-baseline FILE`".to_owned());
    }
    if cause.downcast_ref::<Disagreement>().is_some() {
        return Some(
            "stop what else runs on this machine, or raise `runs` and `duration`, and try again".to_owned(),
        );
    }
    let refusal = Refusal::of(cause.downcast_ref::<io::Error>()?)?;
    Some(refusal.hint().to_owned())
}

#[cfg(test)]
mod tests {
    use tare_container::RuntimeKind;

    use super::*;

    #[test]
    fn the_hint_of_an_error_is_found_through_those_that_pass_it_on() {
        let error = || RuntimeKind::Runc.find(Some(&"/no/such/folder".into())).unwrap_err();
        let expected = Some("install runc, or leave `--runtime` out to use the embedded one".to_owned());
        assert_eq!(hint(&error().into()), expected);
        assert_eq!(hint(&PassError::from(error()).into()), expected);
        assert_eq!(hint(&anyhow::Error::from(PassError::from(error())).context("app")), expected);
        assert_eq!(hint(&anyhow::anyhow!("something else")), None);
    }
}
