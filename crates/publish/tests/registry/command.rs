//! The program: exit codes, what it prints, and what a signal leaves behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use tare_publish::push::push_content;
use tare_publish::referrers::{Artifact, list, push_referrers};

use crate::cuts::assert_whole;
use crate::images::{Layout, noise, open};
use crate::server::{Quirks, TestRegistry};

/// The program with nothing of this test's environment.
fn program(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tare-publish"));
    command.env_clear().env("HOME", home).current_dir(home).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(home: &Path, arguments: &[&str]) -> Child {
    tare_tool::process::spawn(&mut program(home, arguments)).unwrap()
}

/// Exit code, stdout and stderr.
fn ended(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn run(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    ended(start(home, arguments).wait_with_output().unwrap())
}

/// Two reports about an image, as files in the folder.
fn reports(folder: &Path, image: &str) -> [String; 2] {
    ["ci", "default"].map(|profile| {
        let text = include_str!("../../../report/tests/report.json");
        let mut report = tare_report::Report::parse(text).unwrap();
        report.target.digest = image.to_owned();
        report.profile.name = profile.to_owned();
        report.overall = tare_report::Overall::Pass;
        let path = folder.join(format!("{profile}.json"));
        std::fs::write(&path, report.to_json().unwrap()).unwrap();
        path.to_str().unwrap().to_owned()
    })
}

#[test]
fn an_image_is_published_promoted_and_pulled_into_the_cache() {
    let home = tempfile::tempdir().unwrap();
    let registry = TestRegistry::start(Quirks::default());
    let layout = Layout::of(&["amd64", "arm64"], &[b"layer"]);
    let (from, at) = (layout.path().to_str().unwrap(), registry.reference("app"));
    let result = format!("{at}@{}\n", layout.root);
    let (code, stdout, stderr) =
        run(home.path(), &["publish", "app", "--from", from, "--to", &at, "--tag", "main"]);
    assert_eq!((code, &stdout), (Some(0), &result), "{stderr}");
    assert!(stderr.contains(&format!("Tagged {at}:main (new)")), "{stderr}");
    let (promoted, source) = (registry.reference("other:1.0.0"), format!("{at}:main"));
    let (code, stdout, stderr) = run(home.path(), &["publish", "app", "--from", &source, "--to", &promoted]);
    assert_eq!((code, stdout), (Some(0), result.replace("/app@", "/other@")), "{stderr}");
    assert_eq!(registry.tag("other", "1.0.0"), Some(layout.root.clone()));

    let digits = &layout.root[7..];
    for (platform, name) in
        [(None, format!("sha256-{digits}")), (Some("linux/arm64"), format!("sha256-{digits}-linux-arm64"))]
    {
        let mut words = vec!["pull", &source, "--cache", "cache"];
        words.extend(platform.iter().flat_map(|platform| ["--platform", platform]));
        let (code, stdout, stderr) = run(home.path(), &words);
        assert_eq!((code, stdout), (Some(0), format!("cache/{name}\n")), "{stderr}");
        assert!(home.path().join("cache").join(name).join("index.json").is_file());
    }
}

#[test]
fn joined_images_need_different_platforms() {
    let home = tempfile::tempdir().unwrap();
    let registry = TestRegistry::start(Quirks::default());
    let layout = Layout::of(&["amd64"], &[b"layer"]);
    let (from, at) = (layout.path().to_str().unwrap(), registry.reference("app:1"));
    let (code, stdout, stderr) = run(home.path(), &["publish", "app", "--join", from, from, "--to", &at]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("both have an image for linux/amd64"), "{stderr}");
    assert_eq!(registry.count(|_| true), 0);
}

#[test]
fn missing_referrers_are_reported_and_restored() {
    let home = tempfile::tempdir().unwrap();
    let registry = TestRegistry::start(Quirks::default());
    let layout = Layout::of(&["amd64"], &[b"layer"]);
    let (from, at) = (layout.path().to_str().unwrap(), registry.reference("app:1"));
    let [one, other] = reports(home.path(), &layout.root);
    let arguments = ["publish", "app", "--from", from, "--to", &at, "--artifacts", "out"];
    let arguments = [&arguments[..], &["--report", &one, "--report", &other]].concat();
    let (code, _, stderr) = run(home.path(), &arguments);
    assert_eq!(code, Some(0), "{stderr}");
    let check = ["publish", "--check-referrers", &at, "--artifacts", "out"];
    let dry = [&check[..], &["--dry-run"]].concat();
    let listed = |code, count| (Some(code), format!("{count} of 2 referrers are listed\n"));
    let checked = |arguments: &[&str]| {
        let (code, stdout, _) = run(home.path(), arguments);
        (code, stdout)
    };
    assert_eq!(checked(&dry), listed(0, 2));
    // The fallback tag is lost, as by a clean-up of tags.
    registry.store(|store| store.tags.retain(|(_, tag), _| !tag.starts_with("sha256-")));
    assert_eq!(checked(&dry), listed(1, 0));
    assert_eq!(checked(&check), listed(0, 2));
    assert_eq!(checked(&dry), listed(0, 2));
}

/// Blocks whoever waits until it is opened.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let mut is_open = self.0.lock().unwrap();
        while !*is_open {
            is_open = self.1.wait(is_open).unwrap();
        }
    }
}

fn signal(name: &str, id: u32) {
    let mut kill = Command::new("kill");
    kill.args([format!("-{name}"), id.to_string()]);
    assert!(tare_tool::process::spawn(&mut kill).unwrap().wait().unwrap().success());
}

#[test]
fn a_signal_ends_the_run_with_130_and_leaves_the_tag() {
    let home = tempfile::tempdir().unwrap();
    for (name, part) in
        [("INT", "/blobs/uploads/"), ("TERM", "/blobs/uploads/"), ("INT", "/manifests/sha256")]
    {
        let (arrived, ended_gate) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
        let (arrives, held) = (Arc::clone(&arrived), Arc::clone(&ended_gate));
        let registry = TestRegistry::scripted(Quirks::default(), move |head| {
            if head.is("PUT", part) {
                arrives.open();
                held.wait();
            }
            None
        });
        let layout = Layout::of(&["amd64"], &[b"layer"]);
        let (from, at) = (layout.path().to_str().unwrap(), registry.reference("app:1"));
        let child = start(home.path(), &["publish", "app", "--from", from, "--to", &at]);
        arrived.wait();
        signal(name, child.id());
        let (code, stdout, stderr) = ended(child.wait_with_output().unwrap());
        ended_gate.open();
        assert_eq!((code, stdout.as_str()), (Some(130), ""), "{stderr}");
        let said = "error: interrupted: every tag that is not named above stands where it stood\n";
        assert!(stderr.ends_with(said), "{stderr}");
        assert_eq!(registry.tag("app", "1"), None);
    }
}

/// Kills a publisher at each of its requests in turn. What it leaves is the old or the new image, whole; the next run
/// completes it, and nobody's referrers are lost.
#[test]
fn a_publisher_that_is_killed_leaves_the_old_or_the_new_image() {
    let home = tempfile::tempdir().unwrap();
    let old = Layout::of(&["amd64"], &[b"old"]);
    let new = Layout::of(&["amd64"], &[&noise(200_000), b"new"]);
    let [one, other] = reports(home.path(), &new.root);
    let (mut killed, mut moment) = (0, 0);
    loop {
        // The process, once it is known, and how many requests it may still make.
        let victim: Arc<Mutex<Option<(u32, usize)>>> = Arc::default();
        let (known, of_script) = (Arc::new(Gate::default()), Arc::clone(&victim));
        let wait = Arc::clone(&known);
        let armed = Arc::new(Mutex::new(false));
        let is_armed = Arc::clone(&armed);
        let registry = TestRegistry::scripted(Quirks { etags: true, ..Quirks::default() }, move |_| {
            if !*is_armed.lock().unwrap() {
                return None;
            }
            wait.wait();
            let mut victim = of_script.lock().unwrap();
            match victim.take() {
                Some((id, 0)) => signal("KILL", id),
                Some((id, left)) => *victim = Some((id, left - 1)),
                None => {}
            }
            None
        });
        let at = registry.reference("app:latest");
        let (code, _, stderr) =
            run(home.path(), &["publish", "app", "--from", old.path().to_str().unwrap(), "--to", &at]);
        assert_eq!(code, Some(0), "{stderr}");
        let repository = open(&registry, "app", None);
        let content = new.open();
        let subject = content.root().descriptor.clone();
        push_content(&content, &repository, None, &()).unwrap();
        let foreign =
            Artifact::new(&subject, "application/x-foreign", "f", b"foreign".to_vec(), BTreeMap::new());
        push_referrers(&repository, subject.digest(), std::slice::from_ref(&foreign)).unwrap();
        // The image is forgotten, so that it is sent again; what refers to it is not.
        registry.store(|store| {
            store.manifests.remove(&("app".to_owned(), new.root.clone()));
            store.blobs.retain(|_, bytes| bytes.len() != 200_000);
        });

        let words = ["publish", "app", "--from", new.path().to_str().unwrap(), "--to", &at];
        let words = [&words[..], &["--report", &one, "--report", &other]].concat();
        *armed.lock().unwrap() = true;
        let mut child = start(home.path(), &words);
        *victim.lock().unwrap() = Some((child.id(), moment));
        known.open();
        let status = child.wait().unwrap();
        *armed.lock().unwrap() = false;
        victim.lock().unwrap().take();

        let now = registry.tag("app", "latest").unwrap();
        assert!(now == old.root || now == new.root, "moment {moment}: {now}");
        assert_whole(&registry, &now);
        let (code, _, stderr) = run(home.path(), &words);
        assert_eq!((code, registry.tag("app", "latest")), (Some(0), Some(new.root.clone())), "{stderr}");
        assert_whole(&registry, &new.root);
        let listed = list(&repository, subject.digest()).unwrap();
        let kinds: Vec<String> =
            listed.iter().filter_map(|it| Some(it.artifact_type().as_ref()?.to_string())).collect();
        assert_eq!(listed.len(), 3, "moment {moment}: {kinds:?}");
        if status.success() {
            break;
        }
        killed += 1;
        moment += 1;
    }
    assert!(killed >= 20, "{killed} moments");
}

#[test]
fn a_proxy_is_used_for_hosts_that_are_not_exempt() {
    let home = tempfile::tempdir().unwrap();
    let registry = TestRegistry::start(Quirks::default());
    let proxy = crate::tunnel::TunnelProxy::start(registry.address);
    let layout = Layout::of(&["amd64"], &[b"layer"]);
    let from = layout.path().to_str().unwrap();
    let words = [
        "publish",
        "app",
        "--from",
        from,
        "--to",
        "registry.invalid/app:1",
        "--plain-http",
        "registry.invalid",
    ];
    let with = |variables: &[(&str, &str)]| {
        let mut command = program(home.path(), &words);
        command.envs(variables.iter().copied());
        ended(tare_tool::process::spawn(&mut command).unwrap().wait_with_output().unwrap())
    };
    let address = format!("http://me:secret@{}", proxy.address);
    let (code, stdout, stderr) = with(&[("HTTP_PROXY", &address), ("NO_PROXY", "other.invalid")]);
    assert_eq!((code, stdout), (Some(0), format!("registry.invalid/app@{}\n", layout.root)), "{stderr}");
    let asked = proxy.asked();
    assert!(!asked.is_empty() && asked.iter().all(|target| target == "registry.invalid:80"), "{asked:?}");
    for (variables, expected) in [
        (
            &[("HTTP_PROXY", address.as_str()), ("NO_PROXY", "invalid")][..],
            "hint: the first part of a reference",
        ),
        (&[("HTTPS_PROXY", address.as_str())], "hint: the first part of a reference"),
        (
            &[("HTTP_PROXY", "socks5://me:secret@p")],
            "error: the variable HTTP_PROXY is no URL of an HTTP proxy",
        ),
    ] {
        let before = proxy.asked().len();
        let (code, _, stderr) = with(variables);
        assert_eq!((code, proxy.asked().len()), (Some(2), before), "{stderr}");
        assert!(stderr.contains(expected) && !stderr.contains("secret"), "{stderr}");
    }
    // Refused by the proxy.
    proxy.refuse();
    let (code, _, stderr) = with(&[("http_proxy", &address)]);
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("hint: this is the answer of the proxy") && !stderr.contains("secret"),
        "{stderr}"
    );
}

#[test]
fn a_report_travels_with_its_image_and_failed_gates_refuse_it() {
    let home = tempfile::tempdir().unwrap();
    let registry = TestRegistry::start(Quirks::default());
    let layout = Layout::of(&["amd64"], &[b"layer"]);
    let (from, at) = (layout.path().to_str().unwrap(), registry.reference("app:1"));
    let [report, _] = reports(home.path(), &layout.root);
    let failed =
        std::fs::read_to_string(&report).unwrap().replace("\"overall\": \"pass\"", "\"overall\": \"fail\"");
    std::fs::write(home.path().join("failed.json"), failed).unwrap();
    let other = [&reports(home.path(), "sha256:0")[1][..]];
    let publish = |to: &str, from: &str, more: &[&str]| {
        run(home.path(), &[&["publish", "app", "--from", from, "--to", to], more].concat())
    };
    let (code, _, stderr) = publish(&at, from, &["--report", "failed.json"]);
    assert_eq!((code, registry.count(|_| true)), (Some(2), 0), "{stderr}");
    assert!(stderr.contains("the gates of profile ci did not pass"), "{stderr}");
    let (code, _, stderr) = publish(&at, from, &["--report", other[0]]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("is about another image: sha256:0"), "{stderr}");
    let (code, _, stderr) = publish(&at, from, &["--report", "failed.json", "--allow-failed-gates"]);
    assert_eq!(code, Some(0), "{stderr}");

    // A promotion finds what was attached.
    let promoted = registry.reference("other:1");
    let (code, _, stderr) = publish(&promoted, &at, &[]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("the gates of profile ci did not pass"), "{stderr}");
    let (code, _, stderr) = publish(&promoted, &at, &["--allow-failed-gates"]);
    assert_eq!(code, Some(0), "{stderr}");
    let attached = list(&open(&registry, "other", None), &layout.root.parse().unwrap()).unwrap();
    let [attached] = attached.as_slice() else { panic!("{attached:?}") };
    assert_eq!(attached.artifact_type().as_ref().unwrap().to_string(), "application/vnd.tare.report+json");
    let annotations = attached.annotations().as_ref().unwrap();
    assert_eq!((annotations["tare.verdict"].as_str(), annotations["tare.profile"].as_str()), ("fail", "ci"));
}

#[test]
fn digests_are_those_to_which_the_tags_lead() {
    let home = tempfile::tempdir().unwrap();
    let registry = TestRegistry::start(Quirks::default());
    let mut expected = String::new();
    for name in ["one", "two"] {
        let layout = Layout::of(&["amd64", "arm64"], &[name.as_bytes()]);
        push_content(&layout.open(), &open(&registry, name, None), None, &()).unwrap();
        registry.store(|store| store.tags.insert((name.to_owned(), "1".to_owned()), layout.root.clone()));
        expected += &format!("{}\n", layout.root);
    }
    let at = |reference: &str| registry.reference(reference);
    let (code, stdout, stderr) = run(home.path(), &["digest", "--quiet", &at("one:1"), &at("two:1")]);
    assert_eq!((code, stdout), (Some(0), expected), "{stderr}");
    let (code, stdout, stderr) = run(home.path(), &["digest", &at("one:2")]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains(&format!("{} has no image 2", at("one"))), "{stderr}");
}

#[test]
fn referrers_of_an_index_and_of_its_images_are_listed_with_the_figures_of_reports() {
    let home = tempfile::tempdir().unwrap();
    let layout = Layout::of(&["amd64", "arm64"], &[b"layer"]);
    let content = layout.open();
    let amd64 = content.manifests().next().unwrap().descriptor.clone();
    let [report, _] = reports(home.path(), amd64.digest().as_ref());
    // With a referrers API that lists another type and no annotations, and without one.
    let empty = Quirks {
        referrers: true,
        subject: true,
        listed_type: Some("application/vnd.oci.empty.v1+json"),
        ..Quirks::default()
    };
    for quirks in [Quirks::default(), empty] {
        let registry = TestRegistry::start(quirks);
        let (from, at) = (layout.path().to_str().unwrap(), registry.reference("app:1"));
        let words = ["publish", "app", "--from", from, "--to", &at, "--report", &report];
        let (code, _, stderr) = run(home.path(), &words);
        assert_eq!(code, Some(0), "{stderr}");
        let (code, stdout, stderr) = run(home.path(), &["referrers", &at]);
        assert_eq!(code, Some(0), "{stderr}");
        // Without digests and sizes, which differ with the version.
        let mut lines: Vec<String> = Vec::new();
        for line in stdout.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                [digest, kind, _, _, of @ ..] if digest.starts_with("sha256:") => {
                    lines.push([&[*kind], of].concat().join(" "));
                }
                _ => lines.push(line.to_owned()),
            }
        }
        let of_reports = [
            "application/vnd.tare.report+json of linux/amd64",
            "  tare.limits 0.5 CPU, 64MiB memory",
            "  tare.profile ci",
            "  tare.size.image.compressed 1.50 MB",
            "  tare.startup.warm.ready 4.20 ms",
            "  tare.taken 2026-11-24T00:00:00Z",
            "  tare.verdict pass",
        ];
        assert_eq!(lines, of_reports);
    }
}

#[test]
fn reports_are_fetched_beside_the_image_and_replace_those_of_an_earlier_pull() {
    let home = tempfile::tempdir().unwrap();
    let registry = TestRegistry::start(Quirks::default());
    let layout = Layout::of(&["amd64", "arm64"], &[b"layer"]);
    let amd64 = layout.open().manifests().next().unwrap().descriptor.digest().to_string();
    let reports = reports(home.path(), &amd64);
    let (from, at) = (layout.path().to_str().unwrap(), registry.reference("app:1"));
    let mut words = vec!["publish", "app", "--from", from, "--to", &at];
    words.extend(reports.iter().flat_map(|report| ["--report", report]));
    let (code, _, stderr) = run(home.path(), &words);
    assert_eq!(code, Some(0), "{stderr}");

    let pull = ["pull", &at, "--platform", "linux/amd64", "--cache", "cache", "--reports"];
    let name = format!("cache/sha256-{}-linux-amd64", &layout.root[7..]);
    let folder = home.path().join(format!("{name}.reports"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("7.json"), "of an earlier pull").unwrap();
    let (code, stdout, stderr) = run(home.path(), &pull);
    assert_eq!((code, stdout), (Some(0), format!("{name}\n")), "{stderr}");
    let mut found: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    found.sort();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["0.json", "1.json"]);
    let contents: std::collections::BTreeSet<&Vec<u8>> = found.iter().map(|(_, bytes)| bytes).collect();
    let expected: Vec<Vec<u8>> = reports.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert_eq!(contents, expected.iter().collect());
}
