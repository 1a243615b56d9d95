//! `--load`, where the daemon is not there, not allowed, or too old for the image.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Fixture, Run};

/// Runs with a docker whose `version` is this script.
fn load(compression: &str, version: &str) -> Run {
    let fixture = Fixture::new();
    fixture.write(
        "bin/docker",
        format!(
            "#!/bin/sh\nif [ \"$1\" = version ]; then {version}; exit; fi\nwhile read -r _; do :; done\n"
        ),
    );
    let program = fixture.path("bin/docker");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let arguments = ["image", "app", "--quiet", "--load", "docker", "--compression", compression];
    let mut command = fixture.command(&arguments);
    command.env("PATH", format!("{}:/usr/bin:/bin", fixture.path("bin").display()));
    let run = fixture.run_command(command);
    assert_eq!(fixture.validate("app").0, Some(0), "the image itself is there");
    run
}

#[test]
fn a_docker_that_cannot_load_the_image_is_answered_with_what_can() {
    let built = "the image is built: ROOT/target/images/app/app.tar";
    for (compression, version, says) in [
        (
            "gzip",
            "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?' >&2; exit 1",
            format!(
                "error: no docker daemon answers; {built}\nhint: start docker or set DOCKER_HOST, then run `docker load -i` \
                 of that file; podman needs no daemon: --load podman\n"
            ),
        ),
        (
            "gzip",
            "echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1",
            format!(
                "error: this user may not talk to the docker daemon; {built}\nhint: add the user to the group docker, or run \
                 `docker load -i` of that file as root\n"
            ),
        ),
        (
            "zstd",
            "echo 20.10.24+dfsg1",
            format!(
                "error: docker 20.10.24+dfsg1 cannot read layers in zstd; {built}\nhint: leave out `--compression zstd`, or \
                 load it into docker 23 or later, or podman\n"
            ),
        ),
    ] {
        let run = load(compression, version);
        assert_eq!((run.code, run.stdout.as_str(), run.stderr), (Some(2), "", says));
    }
    // Also a client that has another answer, as podman under the name of docker.
    let others = [("zstd", "echo 23.0.0"), ("gzip", "echo 20.10.24"), ("gzip", "echo nil >&2; exit 125")];
    for (compression, version) in others {
        let run = load(compression, version);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    }
}
