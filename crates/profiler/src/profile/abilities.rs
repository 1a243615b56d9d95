//! Passes that not every runtime can do, which is said before anything is built.

use tare_container::RuntimeKind;

use super::definition::Profile;
use super::metric::Pass;

/// Why a pass of a profile cannot be measured here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {} pass {why}", pass.name())]
pub struct Unable {
    /// The pass.
    pub pass: Pass,
    /// Why not.
    pub why: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// The first pass of a profile that a runtime cannot do, used by root or by another user.
#[must_use]
pub fn refusal(profile: &Profile, runtime: RuntimeKind, as_root: bool) -> Option<Unable> {
    profile.passes.iter().find_map(|pass| {
        let (why, hint) = match pass {
            Pass::Network if runtime.is_daemon() => (
                format!("puts containers on a bridge of its own, which {runtime} does not let it do"),
                "add `--runtime embedded` or `--runtime runc`, or leave the pass out (`--pass`)",
            ),
            Pass::Network if !as_root => (
                "puts containers on interfaces of this host, which only root may".to_owned(),
                "add `--sudo`, or leave the pass out (`--pass`)",
            ),
            Pass::Isolation if !cfg!(target_os = "linux") => (
                "runs this program in a container, which takes Linux".to_owned(),
                "leave the pass out (`--pass`)",
            ),
            Pass::Edge if runtime.is_daemon() && !as_root => (
                format!("puts files into the container, which takes root with {runtime}"),
                "add `--sudo`, or leave the pass out (`--pass`)",
            ),
            _ => return None,
        };
        Some(Unable { pass: *pass, why, hint })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_cannot_be_is_named_with_what_helps() {
        let refused = |passes: &[Pass], runtime, as_root| {
            let profile = Profile { passes: passes.to_vec(), ..Profile::default() };
            refusal(&profile, runtime, as_root).map(|unable| unable.to_string())
        };
        assert_eq!(refused(&Pass::DEFAULT, RuntimeKind::Docker, false), None);
        let all = [Pass::Density, Pass::Network];
        assert_eq!(refused(&all, RuntimeKind::Embedded, true), None);
        assert_eq!(refused(&all, RuntimeKind::Runc, true), None);
        assert_eq!(
            refused(&all, RuntimeKind::Podman, true).unwrap(),
            "the network pass puts containers on a bridge of its own, which podman does not let it do"
        );
        assert_eq!(
            refused(&all, RuntimeKind::Embedded, false).unwrap(),
            "the network pass puts containers on interfaces of this host, which only root may"
        );
    }
}
