//! A report and an image that the tests share.

use std::fs;
use std::path::Path;

use tare_deploy::image::{ImageFacts, LocalImage};
use tare_oci::digest::Digest;
use tare_report::limits::{CpuLimit, Limits};
use tare_report::measurement::Measurement;
use tare_report::report::{Host, ProfileFacts, Report, Run, RuntimeFacts, SCHEMA, Target};
use tare_report::verdict::Overall;

/// What an image's configuration says.
pub(crate) const PLAIN: &str = r#"{
    "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
    "config": {
        "User": "65534:65534", "ExposedPorts": {"60000/tcp": {}}, "Entrypoint": ["/app/app"],
        "Healthcheck": {"Test": ["CMD", "/app/app", "--health"]}
    }
}"#;

/// The same of one that keeps data.
pub(crate) const WITH_VOLUME: &str = r#"{
    "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
    "config": {"User": "65534", "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}}
}"#;

/// Writes an OCI layout without layers, and gives back the digest of its manifest.
pub(crate) fn layout(folder: &Path, config: &str) -> String {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &str, media_type: &str| {
        let digest = Digest::of(bytes.as_bytes());
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#, bytes.len())
    };
    let config = blob(config, "application/vnd.oci.image.config.v1+json");
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
    let descriptor = blob(&manifest, "application/vnd.oci.image.manifest.v1+json");
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(folder.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{descriptor}]}}"#))
        .unwrap();
    Digest::of(manifest.as_bytes()).to_string()
}

/// The image of such a configuration, and a report of it.
pub(crate) fn measured(config: &str) -> (ImageFacts, Report) {
    let folder = tempfile::tempdir().unwrap();
    let digest = layout(folder.path(), config);
    let local = LocalImage::read(folder.path()).unwrap();
    (local.facts(&digest, "registry.example/team/app", None).unwrap(), report(&digest))
}

/// A figure of a case, which may be empty.
pub(crate) fn figure(metric: &'static str, case: &str, value: f64) -> Measurement {
    let figure = Measurement::exact(metric, value);
    if case.is_empty() { figure } else { figure.of_case(case) }
}

/// The measurement of this metric and case.
pub(crate) fn of<'a>(report: &'a mut Report, metric: &str, case: &str) -> &'a mut Measurement {
    let mut all = report.runs.iter_mut().flat_map(|run| &mut run.measurements);
    all.find(|it| it.metric == metric && it.case.as_deref().unwrap_or_default() == case).unwrap()
}

/// A report as the profiler writes it, with 20 starts under 16 MiB. The knee is at 70 %.
pub(crate) fn report(digest: &str) -> Report {
    let starts = |metric, value: f64| Measurement {
        samples: (0..20).map(|at| value * (1.0 + f64::from(at) / 100.0)).collect(),
        ..Measurement::exact(metric, value)
    };
    let mut measurements = vec![
        starts("startup.warm.ready", 13_200_000.0),
        starts("startup.warm.memory-at-ready", 840_000.0),
        starts("startup.warm.stop", 9_950_000.0),
    ];
    // Case, rate, mean and p99.9 and greatest latency, CPU per request, memory.
    let cases = [
        ("closed", 90_000.0, 700e3, 2_000e3, 9e6, 5_400.0, 5_300_000.0),
        ("open-50", 45_000.0, 190e3, 700e3, 2e6, 5_800.0, 4_200_000.0),
        ("open-70", 63_000.0, 200e3, 900e3, 3e6, 5_600.0, 4_400_000.0),
        ("open-90", 81_000.0, 900e3, 6_000e3, 20e6, 5_500.0, 4_600_000.0),
    ];
    for (case, rate, mean, slow, max, cost, memory) in cases {
        measurements.push(Measurement {
            interval: Some((rate * 0.99, rate * 1.01)),
            ..figure("throughput.rate", case, rate)
        });
        for (metric, value) in [
            ("throughput.latency.mean", mean),
            ("throughput.latency.p99.9", slow),
            ("throughput.latency.max", max),
            ("throughput.cpu-per-request", cost),
            ("throughput.memory.peak", memory * 1.1),
            ("throughput.memory.current", memory),
            ("throughput.errors", 0.0),
            ("throughput.unsent", 0.0),
            ("throughput.connections-open", 64.0),
        ] {
            measurements.push(figure(metric, case, value));
        }
    }
    let limits = Limits {
        cpu: Some(CpuLimit { quota: 50_000, period: 100_000 }),
        memory: Some(16 << 20),
        pids: Some(512),
        ..Limits::default()
    };
    let settings = [("ready", "/ready → 200"), ("env", ""), ("args", "the image's")];
    Report {
        schema: SCHEMA,
        tool: "0.1.0".to_owned(),
        taken: "2026-11-24T12:00:00Z".to_owned(),
        target: Target {
            names: vec!["app".to_owned()],
            digest: digest.to_owned(),
            image_id: digest.to_owned(),
            platform: "linux/amd64".to_owned(),
            created: None,
        },
        host: Host {
            cpu: "Some CPU\n# with a line break".to_owned(),
            cpus: 2,
            memory: 8 << 30,
            kernel: "6.18.0".to_owned(),
            architecture: "x86_64".to_owned(),
            cgroup: "v2".to_owned(),
        },
        runtime: Some(RuntimeFacts {
            name: "embedded".to_owned(),
            version: "0.1.0".to_owned(),
            rootless: false,
        }),
        profile: ProfileFacts {
            name: "small".to_owned(),
            settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        },
        runs: vec![Run { limits: Some(limits), measurements, ..Run::default() }],
        verdicts: vec![],
        overall: Overall::Pass,
    }
}

/// The report with other figures for the open loads, and without a limit for CPU.
pub(crate) fn random(
    mut report: Report,
    cost: f64,
    rates: [f64; 3],
    latency: f64,
    memory: f64,
    start: f64,
) -> Report {
    for (case, rate) in ["open-50", "open-70", "open-90"].into_iter().zip(rates) {
        let measurement = of(&mut report, "throughput.rate", case);
        *measurement =
            Measurement { interval: Some((rate * 0.97, rate * 1.03)), value: rate, ..measurement.clone() };
        of(&mut report, "throughput.cpu-per-request", case).value = cost;
        of(&mut report, "throughput.latency.mean", case).value = latency;
        of(&mut report, "throughput.latency.p99.9", case).value = latency * 7.0;
        of(&mut report, "throughput.memory.peak", case).value = memory;
    }
    of(&mut report, "startup.warm.ready", "").value = start;
    report.runs[0].limits.as_mut().unwrap().cpu = None;
    report
}
