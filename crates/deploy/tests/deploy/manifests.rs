//! Manifests as whole files, and as another parser reads them.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::common::{PLAIN, WITH_VOLUME, measured, random};
use proptest::prelude::*;
use serde_json::Value;
use tare_deploy::Kind;
use tare_deploy::evidence::Evidence;
use tare_deploy::manifest::Application;
use tare_deploy::recommend::{Allowances, recommend};
use tare_deploy::settings::Settings;

fn written(config: &str, kind: Kind, settings: &Settings) -> String {
    let (image, report) = measured(config);
    let evidence = Evidence::new(&report, None, &[]).unwrap();
    let volumes = !image.volumes.is_empty();
    let numbers = recommend(evidence, settings, kind, volumes, Allowances::default()).unwrap();
    let application = Application::new("app", &image, &numbers, evidence, settings).unwrap();
    application.write(kind, &["A header.".to_owned()]).unwrap()
}

fn documents(text: &str) -> Vec<Value> {
    text.split("---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

/// The file of tests/golden, to the byte. What differs is written beside the build for `diff`.
fn assert_golden(name: &str, text: &str) {
    let expected = std::fs::read_to_string(Path::new("tests/golden").join(name)).unwrap_or_default();
    if text != expected {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&new, text).unwrap();
        panic!("tests/golden/{name} differs from {}", new.display());
    }
}

fn rate(rate: f64) -> Settings {
    Settings { rate: Some(rate), ..Settings::default() }
}

#[test]
fn kubernetes() {
    assert_golden("kubernetes.yaml", &written(PLAIN, Kind::Kubernetes, &rate(200_000.0)));
}

#[test]
fn an_image_with_a_volume_becomes_a_stateful_set() {
    assert_golden("stateful.yaml", &written(WITH_VOLUME, Kind::Kubernetes, &rate(2_000.0)));
}

#[test]
fn istio() {
    assert_golden("istio.yaml", &written(PLAIN, Kind::Istio, &Settings::default()));
}

#[test]
fn knative() {
    assert_golden("knative.yaml", &written(PLAIN, Kind::Knative, &Settings::default()));
}

#[test]
fn compose() {
    assert_golden("compose.yaml", &written(WITH_VOLUME, Kind::Compose, &rate(2_000.0)));
}

#[test]
fn every_kind_is_read_back_by_another_parser() {
    for (config, kind, kinds) in [
        (
            PLAIN,
            Kind::Kubernetes,
            "Service Deployment HorizontalPodAutoscaler PodDisruptionBudget NetworkPolicy",
        ),
        (WITH_VOLUME, Kind::Kubernetes, "Service Service StatefulSet NetworkPolicy"),
        (
            PLAIN,
            Kind::Istio,
            "Service Deployment HorizontalPodAutoscaler PodDisruptionBudget NetworkPolicy VirtualService DestinationRule",
        ),
        (PLAIN, Kind::Knative, "Service"),
    ] {
        let documents = documents(&written(config, kind, &Settings::default()));
        let names: Vec<&str> = documents.iter().map(|it| it["kind"].as_str().unwrap()).collect();
        assert_eq!(names.join(" "), kinds);
    }
    let compose = documents(&written(PLAIN, Kind::Compose, &Settings::default()));
    assert_eq!(compose[0]["services"]["app"]["deploy"]["resources"]["limits"]["cpus"], "0.5");
}

#[test]
fn what_the_team_states_wins_and_says_so() {
    let settings = Settings {
        name: Some("front".to_owned()),
        replicas: Some(4),
        readiness: Some("/up".to_owned()),
        liveness: Some("/alive".to_owned()),
        pre_stop: Some(9),
        ..Settings::default()
    };
    let text = written(PLAIN, Kind::Kubernetes, &settings);
    for line in [
        "  replicas: 4  # stated by --replicas or [deploy]\n",
        "              path: /up  # stated by readiness in [deploy]\n",
        "              path: /alive  # stated by liveness in [deploy]\n",
        "                seconds: 9  # stated by pre-stop in [deploy]\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    let documents = documents(&text);
    assert_eq!(documents[1]["metadata"]["name"], "front");
    assert_eq!(documents.len(), 4, "no autoscaler: {text}");
}

#[test]
fn knative_keeps_no_data() {
    let (image, report) = measured(WITH_VOLUME);
    let evidence = Evidence::new(&report, None, &[]).unwrap();
    let settings = Settings::default();
    let numbers = recommend(evidence, &settings, Kind::Knative, true, Allowances::default()).unwrap();
    let application = Application::new("app", &image, &numbers, evidence, &settings).unwrap();
    let error = application.write(Kind::Knative, &[]).unwrap_err();
    assert_eq!(error.to_string(), "the image has volumes, and pods of Knative keep no data");
    assert_eq!(error.hint(), "use --for kubernetes, which writes a StatefulSet");
}

/// Manifests of any figures are read back as they were meant; with `--ignored`, they are also left in a folder beside the
/// build, for `kubectl apply --dry-run=server` (docs/deploy.md).
fn random_manifests(keep: bool) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("random");
    let number = AtomicU32::new(0);
    let figures = (100.0..1e7_f64, 10.0..1e5_f64, 1e4..1e9_f64, 1e5..1e11_f64, 1e6..1e12_f64);
    let stated = (0.1..1e6_f64, any::<bool>(), "/[ -~]{0,20}", 0..=3_600_u32, 1_u16.., any::<String>());
    let config = proptest::test_runner::Config { cases: 64, ..Default::default() };
    let rng = proptest::test_runner::TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(config, rng);
    let images = [measured(PLAIN), measured(WITH_VOLUME)];
    let checked = runner.run(&(figures, stated), |(figures, (rate, fixed, path, pre_stop, port, cpu))| {
        let (cost, low, latency, memory, start) = figures;
        for (config, kind) in [
            (PLAIN, Kind::Kubernetes),
            (WITH_VOLUME, Kind::Kubernetes),
            (PLAIN, Kind::Istio),
            (PLAIN, Kind::Knative),
            (WITH_VOLUME, Kind::Compose),
        ] {
            let (mut image, report) = images[usize::from(config == WITH_VOLUME)].clone();
            let mut report = random(report, cost, [low, low * 1.4, low * 1.8], latency, memory, start);
            report.host.cpu.clone_from(&cpu);
            image.port = port;
            let settings = Settings {
                rate: (config == PLAIN).then_some(rate),
                replicas: fixed.then_some(1_000_000),
                readiness: Some(path.clone()),
                pre_stop: Some(pre_stop),
                ..Settings::default()
            };
            let evidence = Evidence::new(&report, None, &[]).unwrap();
            let allow = Allowances { unproved: true, doubtful: false };
            let volumes = !image.volumes.is_empty();
            // A server that needs less than a thousandth of a CPU has no autoscaler, one that needs too much no limits.
            let Ok(numbers) = recommend(evidence, &settings, kind, volumes, allow) else { continue };
            let application = Application::new("app", &image, &numbers, evidence, &settings).unwrap();
            let text = application.write(kind, &[report.host.cpu.clone()]).unwrap();
            for document in documents(&text) {
                prop_assert!(document.is_object());
                let container = &document["spec"]["template"]["spec"]["containers"][0];
                if container.is_object() {
                    prop_assert_eq!(&container["readinessProbe"]["httpGet"]["path"], path.as_str());
                }
            }
            if keep && kind != Kind::Compose {
                let folder = folder.join(kind.name());
                std::fs::create_dir_all(&folder).unwrap();
                let name = format!("{}.yaml", number.fetch_add(1, Ordering::Relaxed));
                std::fs::write(folder.join(name), text).unwrap();
            }
        }
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn manifests_of_any_figures_are_read_back() {
    random_manifests(false);
}

#[test]
#[ignore = "leaves files for kubectl"]
fn manifests_of_any_figures_are_left_for_kubectl() {
    random_manifests(true);
}
