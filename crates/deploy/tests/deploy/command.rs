//! The program: where it finds its inputs, what it refuses, and that nothing is half-written.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::common::{PLAIN, layout, of, report};
use tare_report::{Report, SCHEMA};

/// Makes a report differ from the common one.
type Change<'a> = &'a dyn Fn(&mut Report);

/// A workspace with one image and reports of it by profile.
fn workspace(reports: &[(&str, Change<'_>)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let digest = layout(&root.path().join("target/images/app/layout"), PLAIN);
    for (profile, change) in reports {
        let mut report = report(&digest);
        change(&mut report);
        write(root.path(), profile, &report.to_json().unwrap());
    }
    root
}

fn write(root: &Path, profile: &str, text: &str) {
    let folder = root.join("target/profiles/app").join(profile);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("report.json"), text).unwrap();
}

/// Exit code, stdout and stderr.
fn deploy(root: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tare-deploy"));
    let output =
        command.arg("deploy").args(arguments).current_dir(root).env("NO_COLOR", "1").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_newest_report_is_read_and_its_age_said() {
    let root = workspace(&[
        ("old", &|it| it.taken = "2025-01-01T00:00:00Z".to_owned()),
        ("new", &|it| it.taken = "2026-01-01T00:00:00Z".to_owned()),
        ("starts", &|it| {
            it.taken = "2026-02-01T00:00:00Z".to_owned();
            it.runs[0].measurements.retain(|it| it.metric.starts_with("startup."));
        }),
    ]);
    write(root.path(), "broken", "{}");
    let (code, out, talk) = deploy(root.path(), &["app", "--repository", "registry.example/app"]);
    assert_eq!(code, 0, "{talk}");
    let read = "Reading target/profiles/app/new/report.json, taken 2026-01-01T00:00:00Z, ";
    assert!(talk.contains(read) && talk.contains(" days ago\n"), "{talk}");
    let broken = "warning: left out: ";
    assert!(
        talk.contains(broken) && talk.contains("broken/report.json: it is not a report of tare"),
        "{talk}"
    );
    let digest = report_digest(root.path());
    let head = format!(
        "# Written by `cargo xtask deploy --for kubernetes`, of tare 0.1.0.\n# Measured 2026-01-01T00:00:00Z by tare \
         0.1.0, profile small: {digest} on linux/amd64.\n# Under 0.5 CPU, 16MiB memory, 512 pids, on Some CPU # with a \
         line break with 2 CPUs, Linux 6.18.0.\n# Note: No load above capacity was measured: only the factor 1.5 \
         covers memory at overload.\napiVersion: v1\n"
    );
    assert!(out.starts_with(&head), "{out}");
    assert!(out.contains(&format!("image: registry.example/app@{digest}\n")), "{out}");
}

fn report_digest(root: &Path) -> String {
    layout(&root.join("target/images/app/layout"), PLAIN)
}

#[test]
fn what_cannot_be_done_says_why_and_leaves_nothing() {
    let root = workspace(&[("small", &|_| {})]);
    let refused = |arguments: &[&str], message: &str| {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--output", "out"]).collect();
        let (code, out, talk) = deploy(root.path(), &arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{talk}");
        let said: Vec<&str> = talk.lines().skip_while(|line| !line.starts_with("error: ")).collect();
        assert_eq!(said.join("\n"), message);
        assert!(!root.path().join("out").exists());
    };
    refused(
        &["app", "--repository", "registry.example/app:v1"],
        "error: `registry.example/app:v1` has a tag, which may name another image tomorrow\n\
         hint: write the repository alone, such as registry.example/team/app: the digest is added",
    );
    refused(
        &["app", "--rate", "200000", "--replicas", "1"],
        "error: each of 1 pods would get 200,000 req/s, and its best load is 63,000 req/s\n\
         hint: 5 pods have room for it: --replicas 5",
    );
    refused(
        &["app", "--report", "no.json"],
        &format!(
            "error: cannot read {}: No such file or directory (os error 2)",
            root.path().join("no.json").display()
        ),
    );
    let digest = report_digest(root.path());
    let other = report(&format!("sha256:{}", "1".repeat(64)));
    fs::write(root.path().join("other.json"), other.to_json().unwrap()).unwrap();
    refused(
        &["app", "--report", "other.json"],
        &format!(
            "error: the report is of another image: it measured sha256:{}, and this is {digest}\n\
             hint: these limits would be older than the image: profile it again",
            "1".repeat(64)
        ),
    );
    let newer =
        report(&digest).to_json().unwrap().replacen(&format!("\"schema\": {SCHEMA}"), "\"schema\": 99", 1);
    fs::write(root.path().join("newer.json"), newer).unwrap();
    refused(
        &["app", "--report", "newer.json"],
        &format!(
            "error: {}: it is a report of schema 99, and this tare reads schema 2 to {SCHEMA}\n\
             hint: profile the image with this version: `cargo xtask profile NAME`",
            root.path().join("newer.json").display()
        ),
    );
    fs::create_dir_all(root.path().join("images/app")).unwrap();
    fs::write(root.path().join("images/app/image.toml"), "[deploy]\nreplicas = \"two\"\n").unwrap();
    refused(
        &["app"],
        &format!(
            "error: {}:2:12: invalid type: string \"two\", expected u32",
            root.path().join("images/app/image.toml").display()
        ),
    );
    fs::remove_dir_all(root.path().join("target/profiles")).unwrap();
    fs::remove_file(root.path().join("images/app/image.toml")).unwrap();
    refused(
        &["app"],
        "error: no report measures app under load\n\
         hint: run in this order: `cargo xtask profile app`; this command, which names the call that tests the memory \
         limit; that call; this command again. Or name reports with --report FILE",
    );
}

#[test]
fn a_written_manifest_is_found_older_than_a_newer_profile() {
    let root = workspace(&[("small", &|it| it.taken = "2026-01-01T00:00:00Z".to_owned())]);
    let arguments = ["app", "--repository", "r.example/app", "--output", "out", "--quiet"];
    let check: Vec<&str> = arguments.into_iter().chain(["--check"]).collect();
    let (code, _, talk) = deploy(root.path(), &check);
    assert!(code == 2 && talk.contains("out/kubernetes.yaml: No such file or directory"), "{talk}");
    let (code, out, talk) = deploy(root.path(), &arguments);
    assert_eq!((code, out.as_str()), (0, "out/kubernetes.yaml\n"), "{talk}");
    assert_eq!(deploy(root.path(), &check).0, 0);
    let left: Vec<_> =
        fs::read_dir(root.path().join("out")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["kubernetes.yaml"]);

    let mut report = report(&report_digest(root.path()));
    report.taken = "2026-01-01T00:00:00Z".to_owned();
    of(&mut report, "throughput.cpu-per-request", "open-70").value *= 2.0;
    write(root.path(), "small", &report.to_json().unwrap());
    let (code, out, talk) = deploy(root.path(), &check);
    assert_eq!((code, out.as_str()), (1, ""));
    let file = root.path().join("out/kubernetes.yaml");
    let error = format!("error: {} is older than this image's profile: line ", file.display());
    let line = talk.lines().find(|line| line.starts_with("error")).unwrap();
    assert!(line.starts_with(&error), "{talk}");
    assert!(line.contains("is `cpu: 247m  #") && line.contains("and would be `cpu: 494m  #"), "{talk}");
}

#[test]
fn an_archive_or_layout_needs_no_workspace() {
    let root = tempfile::tempdir().unwrap();
    let digest = layout(&root.path().join("web"), PLAIN);
    fs::write(root.path().join("report.json"), report(&digest).to_json().unwrap()).unwrap();
    let (code, out, talk) = deploy(root.path(), &["./web", "--report", "report.json", "--for", "compose"]);
    assert_eq!(code, 0, "{talk}");
    assert!(out.contains(&format!("\n  web:\n    image: web@{digest}\n")), "{out}");
    assert!(
        talk.contains("warning: web names no registry: state one with --repository or under [deploy]"),
        "{talk}"
    );
}
