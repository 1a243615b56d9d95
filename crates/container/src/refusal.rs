//! Advice for errors that runtimes report.

use super::error::ContainerError;
use super::kind::RuntimeKind;

/// The error of a runtime that cannot `create`, `start`, … a container, in its own words.
pub(crate) fn refused(runtime: RuntimeKind, operation: &str, reason: &str) -> ContainerError {
    let error = ContainerError::new(format_args!("{runtime} cannot {operation} the container: {reason}"));
    match hint_for(reason) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Runtimes say the same in different words.
fn hint_for(reason: &str) -> Option<&'static str> {
    let reason = reason.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    let denied = has(&["permission denied", "eacces"]);
    if has(&["slirp4netns", "pasta"]) {
        return Some(match has(&["/dev/net/tun"]) {
            true => {
                "have an administrator load the kernel module tun: a rootless podman makes its networks with it"
            }
            false => "install slirp4netns or passt: a rootless podman makes its networks with it",
        });
    }
    if has(&["not found in $path", "no such file", "enoent"]) && has(&["exec"]) {
        return Some("the entrypoint is not in the image, or needs an interpreter or libraries that are not");
    }
    if has(&["does not have correct permissions", "does not have the correct permission"])
        || has(&["exec"]) && denied
    {
        return Some("the entrypoint is not executable: give it mode 0755");
    }
    if has(&["exec format error", "enoexec"]) {
        return Some("the entrypoint is for another architecture, or a script without `#!`");
    }
    (denied || has(&["eperm", "operation not permitted"]))
        .then_some("add `--sudo`, or run it in a delegated scope, or with `--runtime docker`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runtimes_say_of_an_entrypoint_becomes_advice() {
        for (reason, advice) in [
            ("executable '/no' not found in $PATH", "not in the image"),
            ("exec: \"/no\": stat /no: no such file or directory", "not in the image"),
            ("error 'EACCES: Permission denied' executing '\"/etc/passwd\"'", "not executable"),
            ("error 'ENOEXEC: Exec format error' executing", "another architecture"),
            ("no network namespace: EPERM: Operation not permitted", "add `--sudo`"),
            (
                "could not find slirp4netns: exec: \"slirp4netns\": executable file not found in $PATH",
                "install",
            ),
            ("slirp4netns failed: open(\"/dev/net/tun\"): No such file or directory", "kernel module tun"),
        ] {
            let hint = hint_for(reason).unwrap_or_default();
            assert!(hint.contains(advice), "{reason}: {hint}");
        }
        assert_eq!(hint_for("something else"), None);
    }
}
