//! Tools that were written independently of this project read, unpack, run and scan our images.
//!
//! A check whose tool is missing is left out and reported. No check sleeps for a fixed time or judges a duration, and
//! everything that is started runs in namespaces that end with it.

mod base;
mod binaries;
mod cargo;
mod cargo_cases;
mod checkout;
mod ci;
mod crane;
mod docker;
mod fixtures;
mod h2spec;
mod kubernetes;
mod leftovers;
mod library;
mod mutations;
mod neighbours;
mod peers;
mod podman;
mod published;
mod readme;
mod registries;
mod rootfs;
mod servers;
mod signals;
mod skopeo;
mod sweep;
mod systems;
mod tarballs;
mod targets;
mod umoci;
mod verdicts;
mod written;

use std::time::Instant;

use crate::lab::context::Context;
use crate::lab::tools::Tool;
use tare_tool::environment::Environment;
use tare_tool::process::{Execute as _, cmd, shell_in};
use tare_tool::ui::Ui;
use xtask_tare::workspace::Workspace;

/// One check.
struct Check {
    /// The name that `--outside` selects.
    name: &'static str,
    /// The tools without which the check is left out.
    needs: &'static [Tool],
    /// Runs the check.
    run: fn(&Context<'_>) -> anyhow::Result<()>,
}

const fn check(
    name: &'static str,
    needs: &'static [Tool],
    run: fn(&Context<'_>) -> anyhow::Result<()>,
) -> Check {
    Check { name, needs, run }
}

const SERVERS: &[Tool] = &[
    Tool::Namespaces,
    Tool::Packages,
    Tool::Docker20,
    Tool::Docker29,
    Tool::Program("docker"),
    Tool::Program("runc"),
    Tool::Program("podman"),
    Tool::Program("dpkg-deb"),
];

/// In the order in which they run: quick ones first, the last looks at what all others left.
const CHECKS: &[Check] = &[
    check("configurations", &[], cargo::configurations),
    check("binutils", &[Tool::Program("readelf")], binaries::binutils),
    check("qemu", &[Tool::Namespaces, Tool::Program("qemu-aarch64-static")], binaries::qemu),
    check("h2spec", &[Tool::Namespaces, Tool::Program("h2spec")], h2spec::all),
    check("skopeo", &[Tool::Program("skopeo")], skopeo::copies),
    check("skopeo-tags", &[Tool::Program("skopeo")], skopeo::tags),
    check("crane-tarball", &[Tool::Program("crane")], crane::tarballs),
    check(
        "crane-registry",
        &[Tool::Namespaces, Tool::Program("crane"), Tool::Program("skopeo")],
        crane::registry,
    ),
    check(
        "registries",
        &[
            Tool::Namespaces,
            Tool::Docker20,
            Tool::Docker29,
            Tool::Program("docker"),
            Tool::Program("docker-registry"),
            Tool::Program("registry"),
            Tool::Program("referrers-registry"),
            Tool::Program("crane"),
            Tool::Program("oras"),
            Tool::Program("cosign"),
            Tool::Program("skopeo"),
            Tool::Program("podman"),
            Tool::Program("openssl"),
            Tool::Program("validate-sbom"),
        ],
        registries::all,
    ),
    check("ci", &[Tool::Namespaces, Tool::Root, Tool::Program("crane"), Tool::Program("git")], ci::pages),
    check(
        "base",
        &[Tool::Namespaces, Tool::Docker20, Tool::Docker29, Tool::Program("docker"), Tool::Program("crane")],
        base::registry,
    ),
    check(
        "kubernetes",
        &[Tool::Namespaces, Tool::Kubernetes, Tool::Program("openssl")],
        kubernetes::manifests,
    ),
    check("gnu-tar", &[Tool::Root, Tool::Program("tar"), Tool::Program("python3")], tarballs::gnu_tar),
    check("python-tarfile", &[Tool::Program("python3")], tarballs::python),
    check(
        "mutations",
        &[Tool::Root, Tool::Program("skopeo"), Tool::Program("umoci"), Tool::Program("timeout")],
        mutations::verdicts,
    ),
    check("umoci", &[Tool::Root, Tool::Program("umoci"), Tool::Program("python3")], umoci::unpack),
    check("runc", &[Tool::Namespaces, Tool::Program("umoci"), Tool::Program("runc")], umoci::run),
    check("podman", &[Tool::Namespaces, Tool::Program("podman"), Tool::Program("python3")], podman::load),
    check(
        "docker-20",
        &[Tool::Namespaces, Tool::Docker20, Tool::Program("docker"), Tool::Program("python3")],
        docker::classic,
    ),
    check(
        "docker-29",
        &[Tool::Namespaces, Tool::Docker29, Tool::Program("docker"), Tool::Program("python3")],
        docker::containerd,
    ),
    check(
        "targets",
        &[Tool::Namespaces, Tool::Docker20, Tool::Program("docker"), Tool::Program("podman")],
        targets::targets,
    ),
    check("written-skopeo", &[Tool::Program("skopeo")], written::skopeo),
    check("written-umoci", &[Tool::Root, Tool::Program("umoci")], written::umoci),
    check("written-crane", &[Tool::Program("crane"), Tool::Program("tar")], written::crane),
    check(
        "written-ko",
        &[Tool::Namespaces, Tool::Program("ko"), Tool::Program("go"), Tool::Program("crane")],
        written::ko,
    ),
    check("written-podman", &[Tool::Namespaces, Tool::Program("podman")], written::podman),
    check(
        "written-docker-20",
        &[Tool::Namespaces, Tool::Docker20, Tool::Program("docker")],
        written::docker_classic,
    ),
    check(
        "written-docker-29",
        &[Tool::Namespaces, Tool::Docker29, Tool::Program("docker")],
        written::docker_containerd,
    ),
    check("written-buildx", &[Tool::Namespaces, Tool::Docker29, Tool::Program("buildx")], written::buildx),
    check("verdicts", &[Tool::Root], verdicts::faults),
    check(
        "runtimes",
        &[Tool::Namespaces, Tool::Docker20, Tool::Program("docker"), Tool::Program("runc")],
        verdicts::runtimes,
    ),
    check("neighbours", &[Tool::Namespaces, Tool::Docker20, Tool::Program("docker")], neighbours::stay),
    check(
        "signals",
        &[Tool::Namespaces, Tool::Docker20, Tool::Program("docker"), Tool::Program("runc")],
        signals::usual,
    ),
    check(
        "signals-all",
        &[Tool::Namespaces, Tool::Docker20, Tool::Program("docker"), Tool::Program("runc")],
        signals::all,
    ),
    check("servers", SERVERS, servers::usual),
    check("servers-all", SERVERS, servers::all),
    check("syft", &[Tool::Program("syft")], binaries::syft),
    check("syft-libraries", &[Tool::Program("syft"), Tool::Program("npm")], binaries::syft_libraries),
    check("cargo-audit", &[Tool::Program("cargo-audit")], binaries::cargo_audit),
    check("library-oci", &[], library::oci),
    check("library-profiler", &[Tool::Root], library::profiler),
    check("adopter", &[Tool::Program("musl-gcc")], checkout::adopter),
    check("readme", &[Tool::Program("git")], readme::workspace),
    check("peers", &[Tool::Namespaces, Tool::Program("musl-gcc")], peers::rust),
    check("peers-frameworks", &[Tool::Namespaces, Tool::Program("musl-gcc")], peers::frameworks),
    check("peers-go", &[Tool::Namespaces, Tool::Program("go")], peers::go),
    check("peers-node", &[Tool::Namespaces, Tool::Program("npm")], peers::node),
    check(
        "systems-docker-20",
        &[
            Tool::Namespaces,
            Tool::Docker20,
            Tool::Program("docker"),
            Tool::Program("go"),
            Tool::Program("npm"),
            Tool::Program("musl-gcc"),
        ],
        systems::docker_classic,
    ),
    check(
        "systems-docker-29",
        &[
            Tool::Namespaces,
            Tool::Docker29,
            Tool::Program("docker"),
            Tool::Program("go"),
            Tool::Program("npm"),
            Tool::Program("musl-gcc"),
        ],
        systems::docker_containerd,
    ),
    check(
        "systems-podman",
        &[
            Tool::Namespaces,
            Tool::Program("podman"),
            Tool::Program("go"),
            Tool::Program("npm"),
            Tool::Program("musl-gcc"),
        ],
        systems::podman,
    ),
    check(
        "article",
        &[Tool::Program("go"), Tool::Program("npm"), Tool::Program("musl-gcc")],
        systems::article,
    ),
    check("rows", &[Tool::Root], systems::rows),
    check("sweep", &[Tool::Root], sweep::synthetic),
    check("sweep-sample", &[Tool::Root], sweep::sample),
    check("published", &[Tool::Namespaces, Tool::Program("bash")], published::servers),
    check("reproducible", &[], checkout::reproducible),
    check("leftovers", &[], leftovers::none),
];

/// Checks that take many minutes, or need what nothing installs: they run only where `--outside` selects them.
const ON_DEMAND: [&str; 13] = [
    "article",
    "peers-frameworks",
    "published",
    "readme",
    "rows",
    "servers-all",
    "signals",
    "signals-all",
    "sweep",
    "sweep-sample",
    "systems-docker-20",
    "systems-docker-29",
    "systems-podman",
];

/// Builds a Kubernetes unless it is there, and runs the checks that need it.
pub(super) fn run_cluster(workspace: &Workspace, env: &Environment, ui: Ui) -> anyhow::Result<bool> {
    let sh = shell_in(&workspace.root)?;
    ui.status("Building", "a Kubernetes, which takes some 15 minutes where it is not there yet");
    cmd!(sh, ".ci/kubernetes").run_with_input(|_| Ok(()))?;
    run("kubernetes", true, workspace, env, ui)
}

/// Runs the checks whose names contain `part`; false if one failed, or with `require` if one was left
/// out.
pub(super) fn run(
    part: &str,
    require: bool,
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<bool> {
    let chosen =
        |check: &&Check| check.name.contains(part) && (!part.is_empty() || !ON_DEMAND.contains(&check.name));
    let checks: Vec<&Check> = CHECKS.iter().filter(chosen).collect();
    if checks.is_empty() {
        let names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
        anyhow::bail!("no outside check has `{part}` in its name; there are: {}", names.join(", "));
    }
    let context = Context::new(checks.iter().flat_map(|check| check.needs), workspace, env, ui)?;
    let (mut passed, mut failed) = (0, 0);
    let mut left_out = Vec::new();
    let mut lacks_required = false;
    for check in checks {
        let missing: Vec<Tool> =
            check.needs.iter().filter(|tool| !context.found.has(**tool)).copied().collect();
        if !missing.is_empty() {
            lacks_required |= !missing.iter().all(|tool| tool.is_optional());
            let missing: Vec<String> = missing.iter().map(Tool::to_string).collect();
            left_out.push(format!("{}: {}", check.name, missing.join(", ")));
            continue;
        }
        let started = Instant::now();
        let result = (check.run)(&context);
        let took = format!("{} ({:.1} s)", check.name, started.elapsed().as_secs_f64());
        match result {
            Ok(()) => {
                passed += 1;
                ui.status("Passed", &took);
            }
            Err(error) => {
                failed += 1;
                ui.error(&format!("outside check {took}: {error:#}"), None);
            }
        }
    }
    context.close()?;
    let mut summary = format!("{passed} passed, {failed} failed");
    if !left_out.is_empty() {
        let list: String = left_out.iter().map(|line| format!("\n  {line}")).collect();
        ui.warning(&format!("left out for want of tools:{list}"));
        summary.push_str(&format!(", {} skipped", left_out.len()));
    }
    ui.result(&summary)?;
    Ok(failed == 0 && !(require && lacks_required))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_name_of_its_own_and_the_last_looks_at_what_is_left() {
        let mut names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
        assert_eq!(names.last(), Some(&"leftovers"));
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(ON_DEMAND.iter().all(|name| names.contains(name)));
    }
}
