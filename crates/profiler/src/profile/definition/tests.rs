use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::profile::metric;

fn read(text: &str) -> Result<Profile, DefinitionError> {
    parse("ours", Path::new("profiles/ours.toml"), text, CpuLimit::cpus(0.5).unwrap())
}

/// A profile that is wrong → place, message.
fn wrong(text: &str) -> (usize, usize, String) {
    let error = read(text).expect_err(text);
    (error.line, error.column, error.message)
}

fn hint(text: &str) -> String {
    read(text).expect_err(text).hint.unwrap_or_default()
}

#[test]
fn an_empty_profile_has_every_default() {
    let profile = read("").unwrap();
    assert_eq!(profile.limits, [Limits::default()]);
    assert_eq!(profile.limits[0].to_string(), "no limits");
    assert_eq!(profile.passes, Pass::DEFAULT);
    assert_eq!(profile.throughput.requests, [Request::default()]);
    assert_eq!(profile.ready.path, "/");
    assert_eq!((profile.startup.runs, profile.startup.cold_runs), (20, 10));
    assert!(profile.gates.is_empty());
}

#[test]
fn every_key_is_understood() {
    let profile = read(
        r#"
        description = "all of it"
        env = { RUST_LOG = "warn", A = "1" }
        args = ["--workers", "1"]
        network = "veth"
        passes = ["throughput", "size"]
        [limits]
        quota = "25ms"
        period = "50ms"
        cpuset = "0,2-3"
        memory = "64MiB"
        swap = "16MiB"
        pids = 64
        [ready]
        method = "POST"
        headers = { host = "shop.example" }
        body = "ping"
        contains = "pong"
        path = "/health?deep=1"
        port = 8080
        status = 204
        timeout = "3s"
        [size]
        rows = 5
        [startup]
        runs = 7
        cold-runs = 0
        runtime-baseline = false
        [throughput]
        loads = ["closed", "80%", "500/s"]
        connections = 8
        duration = "2s"
        timeout = "1s"
        pipeline = 16
        keep-alive = true
        check = "status"
        protocol = "h2"
        [density]
        most = 7
        memory = "96MiB"
        idle-cpus = 0.25
        start = "2s"
        [isolation]
        load = "200/s"
        rounds = 3
        duration = "1500ms"
        [edge]
        path = "/static/"
        folder = "/srv/edge"
        env = { FILES = "/srv/edge/source" }
        stale-after = "5s"
        requests = 100
        [[throughput.requests]]
        [[throughput.requests]]
        method = "POST"
        path = "/echo"
        headers = { x-b = "2", x-a = "1" }
        body = "hello"
        weight = 3
        status = 201
        "#,
    )
    .unwrap();
    assert_eq!(
        profile.limits[0].to_string(),
        "0.5 CPU, period 50ms, cpuset 0,2-3, 64MiB memory, 16MiB swap, 64 pids"
    );
    assert_eq!(profile.env, [("A".into(), "1".into()), ("RUST_LOG".into(), "warn".into())]);
    assert_eq!(profile.args, Some(vec!["--workers".into(), "1".into()]));
    assert_eq!(
        (profile.network, profile.passes.as_slice()),
        (Network::Veth, &[Pass::Size, Pass::Throughput][..])
    );
    let ready = Ready {
        method: "POST".into(),
        path: "/health?deep=1".into(),
        headers: [("host".into(), "shop.example".into())].into(),
        body: "ping".into(),
        contains: Some("pong".into()),
        port: Some(8080),
        status: 204,
        timeout: Nanoseconds(3_000_000_000),
    };
    assert_eq!(profile.ready, ready);
    assert_eq!(profile.size, SizeOptions { rows: 5 });
    assert_eq!(profile.startup, StartupOptions { runs: 7, cold_runs: 0, runtime_baseline: false });
    let posted = Request {
        method: "POST".into(),
        path: "/echo".into(),
        headers: [("x-b".into(), "2".into()), ("x-a".into(), "1".into())].into(),
        body: "hello".into(),
        weight: 3,
        status: 201,
    };
    let throughput = ThroughputOptions {
        check: Check::Status,
        loads: vec![Load::Closed, Load::Share(80), Load::Rate(500)],
        connections: 8,
        duration: Nanoseconds(2_000_000_000),
        timeout: Nanoseconds(1_000_000_000),
        pipeline: 16,
        keep_alive: true,
        protocol: Protocol::H2,
        requests: vec![Request::default(), posted],
    };
    assert_eq!(profile.throughput, throughput);
    let density = DensityOptions {
        most: 7,
        memory: ByteSize(96 << 20),
        idle_cpus: 0.25,
        start: Nanoseconds(2_000_000_000),
    };
    assert_eq!(profile.density, density);
    let isolation =
        IsolationOptions { load: Load::Rate(200), rounds: 3, duration: Nanoseconds(1_500_000_000) };
    assert_eq!(profile.isolation, isolation);
    let edge = EdgeOptions {
        path: "/static/".into(),
        folder: "/srv/edge".into(),
        env: vec![("FILES".into(), "/srv/edge/source".into())],
        stale_after: Nanoseconds(5_000_000_000),
        requests: 100,
    };
    assert_eq!(profile.edge, edge);
}

#[test]
fn several_limits_are_run_in_turn() {
    let profile = read("[[limits]]\ncpus = 1\n[[limits]]\ncpus = 0.5\nmemory = \"32MiB\"").unwrap();
    let shown: Vec<String> = profile.limits.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["1 CPU", "0.5 CPU, 32MiB memory"]);
    // Memory without swap is the whole of it, or the limit would be on the pages that are not swapped out.
    assert_eq!(profile.limits[1].swap, Some(0));
}

#[test]
fn gates_are_named_in_quotes_or_as_dotted_keys() {
    let profile = read(
        r#"
        [gates]
        "size.image.compressed" = { max = "5MB" }
        size.efficiency = { min = "95%" }
        startup.warm.ready.max = "2.5ms"
        startup.warm.ready.p95.max = "20ms"
        throughput.latency.max.max = "1s"
        throughput.latency."p99.9@open-90" = { max = "20ms", max-regression = "10%", allow-unreliable = true }
        throughput.rate.min = 10000
        throughput.errors.max = 0
        throughput.cpu-of-limit = { max = 0.9 }
        "#,
    )
    .unwrap();
    let shown: Vec<_> = profile
        .gates
        .iter()
        .map(|gate| (gate.key(), gate.min, gate.max, gate.max_regression, gate.allow_unreliable))
        .collect();
    let gate = |key: &str, min, max| (key.to_owned(), min, max, None, false);
    assert_eq!(
        shown,
        [
            gate("size.image.compressed", None, Some(5e6)),
            gate("size.efficiency", Some(0.95), None),
            gate("startup.warm.ready", None, Some(2.5e6)),
            gate("startup.warm.ready.p95", None, Some(2e7)),
            gate("throughput.rate", Some(10_000.0), None),
            ("throughput.latency.p99.9@open-90".into(), None, Some(2e7), Some(0.1), true),
            gate("throughput.latency.max", None, Some(1e9)),
            gate("throughput.cpu-of-limit", None, Some(0.9)),
            gate("throughput.errors", None, Some(0.0)),
        ]
    );
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    for (text, line, column, message) in [
        ("[limits]\ncpus = 0", 2, 8, "`0` is not a number of CPUs above 0, such as `2` or `0.25`"),
        ("[limits]\ncpus = -1", 2, 8, "`-1` is not a number of CPUs above 0, such as `2` or `0.25`"),
        (
            "[limits]\ncpus = 0.005",
            2,
            8,
            "500 µs of CPU time in 100000 µs: the kernel takes a quota from 1 ms up and a period from 1 ms to 1 s",
        ),
        ("[limits]\ncpus = 1\nquota = \"1ms\"", 1, 1, "`cpus` and `quota` with `period` say the same"),
        ("[limits]\nperiod = \"1ms\"", 1, 1, "`period` needs `quota`"),
        (
            "[limits]\nquota = \"1s\"\nperiod = \"2s\"",
            1,
            2,
            "1000000 µs of CPU time in 2000000 µs: the kernel takes a quota from 1 ms up and a period from 1 ms to 1 s",
        ),
        ("[limits]\nmemory = \"1KiB\"", 2, 1, "no container starts in 1KiB of memory: the least is 512KiB"),
        ("[limits]\nswap = \"1MiB\"", 2, 1, "a limit for swap needs one for memory"),
        ("[limits]\npids = 0", 2, 1, "a container without processes runs nothing"),
        ("passes = []", 1, 1, "a profile without passes measures nothing"),
        (
            "[ready]\npath = \"health\"",
            2,
            1,
            "`health` is not a path: begin with `/` and escape what is not ASCII",
        ),
        ("[ready]\nstatus = 20", 2, 1, "`status` is 20, which is not between 100 and 599"),
        ("[ready]\nport = 0", 2, 1, "`port` is 0, which is not between 1 and 65535"),
        ("[startup]\nruns = 0", 2, 1, "`runs` is 0, which is not between 1 and 10000"),
        ("[throughput]\nconnections = 0", 2, 1, "`connections` is 0, which is not between 1 and 60000"),
        ("[throughput]\nduration = \"2h\"", 2, 1, "`duration` is 2h, which is not between 100ms and 1h"),
        (
            "[throughput]\nloads = [\"70%\"]",
            2,
            1,
            "`70%` is a share of what `closed` finds: put `closed` before it",
        ),
        ("[throughput]\nloads = [\"closed\", \"closed\"]", 2, 1, "`closed` stands twice"),
        ("[throughput]\nkeep-alive = false\npipeline = 2", 2, 1, "a pipeline needs `keep-alive`"),
        ("[density]\nmost = 0", 2, 1, "`most` is 0, which is not between 1 and 1000"),
        (
            "[density]\nmemory = \"1kB\"",
            2,
            1,
            "`memory` is 1.0 kB, which is not between 1.05 MB and 17592.19 GB",
        ),
        ("[density]\nidle-cpus = 0", 2, 1, "`idle-cpus` is 0, which is not a number of CPUs above 0"),
        ("[density]\nstart = \"0s\"", 2, 1, "`start` is 0s, which is not between 100ms and 1h"),
        ("[isolation]\nrounds = 0", 2, 1, "`rounds` is 0, which is not between 1 and 1000"),
        (
            "[isolation]\nload = \"closed\"",
            2,
            1,
            "a closed loop has no fixed rate: write a share such as `30%`, or a rate such as `1000/s`",
        ),
        ("[edge]\nrequests = 0", 2, 1, "`requests` is 0, which is not between 1 and 1000000"),
        ("[edge]\nfolder = \"/\"", 2, 1, "`/` is not the absolute path of a folder below `/`"),
        ("[edge]\nfolder = \"/a/../b\"", 2, 1, "`/a/../b` is not the absolute path of a folder below `/`"),
        ("[[throughput.requests]]\nmethod = \"GE T\"", 2, 1, "`GE T` is not a method"),
        ("[[throughput.requests]]\nheaders = { \"a b\" = \"\" }", 2, 1, "`a b` is not a header"),
        (
            "[gates]\nsize.efficiency = 3",
            2,
            6,
            "a gate is a table: write `\"size.efficiency\" = { max = … }`, with `max`, `min` or `max-regression`",
        ),
        ("[gates]\nsize.efficiency = {}", 2, 6, "the gate of `size.efficiency` has no bound"),
        (
            "[gates]\nthroughput.rate = { min = 2, max = 1 }",
            2,
            12,
            "nothing passes the gate of `throughput.rate`: min is above max",
        ),
        (
            "[gates]\nsize.wasted.max = 5",
            2,
            13,
            "a bound of `size.wasted` is a size with a unit, such as \"5MB\"",
        ),
        (
            "[gates]\nsize.wasted.max = \"5ms\"",
            2,
            13,
            "a bound of `size.wasted` is a size with a unit, such as \"5MB\"",
        ),
        (
            "[gates]\nstartup.warm.ready.max = \"nan s\"",
            2,
            20,
            "a bound of `startup.warm.ready` is a duration with a unit, such as \"20ms\"",
        ),
        (
            "[gates]\nthroughput.rate.min = nan",
            2,
            17,
            "a bound of `throughput.rate` is a rate, such as 10000",
        ),
        ("[gates]\nsize.wasted.max-regression = 5", 2, 13, "`max-regression` is a share such as \"5%\""),
        ("[gates]\n\"size.wasted@x\" = { max = 0 }", 2, 1, "`size.wasted` has no cases"),
        (
            "[gates]\nthroughput.requests.max-regression = \"5%\"",
            2,
            21,
            "`throughput.requests` is neither better nor worse when it changes: use `max` and `min`",
        ),
    ] {
        assert_eq!(wrong(text), (line, column, message.to_owned()), "{text}");
    }
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest_known_one() {
    for (text, line, column, message, nearest) in [
        ("limit.cpus = 1", 1, 1, "unknown key `limit`", "limits"),
        ("[limits]\ncpu = 1", 2, 1, "unknown key `cpu`", "cpus"),
        ("[[limits]]\nmemry = \"1MB\"", 2, 1, "unknown key `memry`", "memory"),
        ("[throughput]\nconections = 1", 2, 1, "unknown key `conections`", "connections"),
        (
            "[gates]\nthroughput.latency.p98.max = 1",
            2,
            20,
            "unknown metric `throughput.latency.p98`",
            "throughput.latency.p99",
        ),
        ("[gates]\nsize.wasted.maximum = 1", 2, 13, "unknown key `maximum`", "max"),
    ] {
        assert_eq!(wrong(text), (line, column, message.to_owned()), "{text}");
        let hint = hint(text);
        assert!(hint.starts_with(&format!("did you mean `{nearest}`?")), "{text}: {hint}");
    }
}

#[test]
fn a_command_line_takes_the_place_of_the_profile() {
    let profile = read("[[limits]]\ncpus = 1\n[[limits]]\ncpus = 2\npids = 5").unwrap();
    let overrides = Overrides {
        cpus: CpuLimit::cpus(0.5).ok(),
        memory: Some(ByteSize(64 << 20)),
        passes: vec![Pass::Throughput, Pass::Size, Pass::Size],
        runs: Some(3),
        duration: Some(Nanoseconds(1_000_000_000)),
        connections: Some(5),
        rate: Some(100),
        rounds: Some(2),
    };
    let changed = profile.clone().with(&overrides).unwrap();
    let shown: Vec<String> = changed.limits.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["0.5 CPU, 64MiB memory", "0.5 CPU, 64MiB memory, 5 pids"]);
    assert_eq!(changed.passes, [Pass::Size, Pass::Throughput]);
    assert_eq!((changed.startup.runs, changed.throughput.connections), (3, 5));
    assert_eq!(changed.throughput.duration, Nanoseconds(1_000_000_000));
    assert_eq!(changed.throughput.loads, [Load::Rate(100)]);
    assert_eq!(profile.clone().with(&Overrides::default()), Ok(profile));
}

#[test]
fn limits_that_become_equal_are_run_once() {
    let profile = read("[[limits]]\ncpus = 1\n[[limits]]\ncpus = 2").unwrap();
    let changed =
        profile.with(&Overrides { cpus: CpuLimit::cpus(1.0).ok(), ..Overrides::default() }).unwrap();
    assert_eq!(changed.limits.len(), 1);
}

#[test]
fn a_command_line_is_checked_as_a_profile_is() {
    let none = Overrides::default;
    for (overrides, shown) in [
        (
            Overrides { cpus: Some(CpuLimit { quota: 100, period: 100_000 }), ..none() },
            "100 µs of CPU time in 100000 µs: the kernel takes a quota from 1 ms up and a period from 1 ms to 1 s",
        ),
        (
            Overrides { memory: Some(ByteSize(1024)), ..none() },
            "no container starts in 1KiB of memory: the least is 512KiB",
        ),
        (Overrides { runs: Some(0), ..none() }, "`runs` is 0, which is not between 1 and 10000"),
        (
            Overrides { duration: Some(Nanoseconds(0)), ..none() },
            "`duration` is 0s, which is not between 100ms and 1h",
        ),
        (
            Overrides { connections: Some(0), ..none() },
            "`connections` is 0, which is not between 1 and 60000",
        ),
        (Overrides { rate: Some(0), ..none() }, "a rate of 0 sends nothing"),
    ] {
        let error = read("").unwrap().with(&overrides).unwrap_err();
        assert_eq!(error.to_string(), shown);
    }
}

#[test]
fn limits_are_the_same_after_a_report() {
    let limits = read("[limits]\ncpus = 0.5\ncpuset = \"0-1\"\nmemory = \"1GiB\"").unwrap().limits.remove(0);
    let text = serde_json::to_string(&limits).unwrap();
    assert_eq!(
        text,
        r#"{"cpu":{"quota":50000000,"period":100000000},"cpuset":"0-1","memory":1073741824,"swap":0}"#
    );
    assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), limits);
}

#[test]
fn a_container_is_tightened_by_keys_that_are_checked() {
    let profile = read(
        "[container]\nread-only = true\ncapabilities = [\"cap_kill\", \"CHOWN\"]\nuser = \"7:8\"\n\
         sysctls = { \"net.core.somaxconn\" = \"9\" }\ntmpfs = [\"/run\"]\nvolumes = [\"/a/b\"]\n",
    );
    let expected = tare_container::Tightening {
        read_only: Some(true),
        capabilities: Some(["CHOWN", "KILL"].map(|name| name.parse().unwrap()).into()),
        no_new_privileges: None,
        user: Some("7:8".to_owned()),
        sysctls: [("net.core.somaxconn".to_owned(), "9".to_owned())].into(),
        tmpfs: vec!["/run".to_owned()],
        volumes: vec!["/a/b".to_owned()],
    };
    assert_eq!(profile.unwrap().container, expected);
    for (text, message) in [
        ("tmpfs = [\"run\"]", "`run` is not the absolute path of a folder below `/`"),
        ("tmpfs = [\"/\"]", "`/` is not the absolute path of a folder below `/`"),
        ("volumes = [\"/a/../b\"]", "`/a/../b` is not the absolute path of a folder below `/`"),
        ("volumes = [\"/a:/b\"]", "`/a:/b` is not the absolute path of a folder below `/`"),
        ("sysctls = { \"../x\" = \"1\" }", "`../x` is not a kernel parameter: write it as in sysctl(8)"),
        ("user = \"\"", "`` is not a user: write UID, UID:GID or a name"),
        (
            "capabilities = [\"FLY\"]",
            "`FLY` is no capability: write it as in capabilities(7), for example \"NET_BIND_SERVICE\"",
        ),
    ] {
        assert_eq!(wrong(&format!("[container]\n{text}")).2, message, "{text}");
    }
}

/// Every key of the raw forms stands in docs/profile-toml.md.
#[test]
fn every_key_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/profile-toml.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut keys = Vec::new();
    for table in [
        "",
        "[container]",
        "[limits]",
        "[ready]",
        "[size]",
        "[startup]",
        "[throughput]",
        "[density]",
        "[isolation]",
        "[edge]",
        "[instructions]",
        "[[throughput.requests]]",
        "[[table]]",
        "[[table]]\ntitle = \"\"\n[[table.columns]]",
    ] {
        let hint = hint(&format!("{table}\nthere-is-no-such-key = 1"));
        let known = hint.split("the keys here are ").nth(1).unwrap();
        keys.extend(known.split(", ").map(str::to_owned));
    }
    keys.extend(["max", "min", "max-regression", "allow-unreliable"].map(str::to_owned));
    assert!(keys.len() > 39, "{keys:?}");
    for key in keys {
        let shown = text.contains(&format!("\n{key} = "))
            || text.contains(&format!("[{key}]"))
            || text.contains(&format!("`{key}`"))
            || text.contains(&format!(" {key} = "))
            || text.contains(&format!("[throughput.{key}]"))
            || text.contains(&format!("[table.{key}]"));
        assert!(shown, "docs/profile-toml.md says nothing of `{key}`");
    }
}

/// The example of docs/profile-toml.md is a profile.
#[test]
fn the_documented_example_can_be_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/profile-toml.md");
    let text = std::fs::read_to_string(path).unwrap();
    let example = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let profile = read(example).unwrap();
    assert_eq!((profile.gates.len(), profile.table.len(), profile.rounds), (4, 1, 3));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn no_bound_makes_it_panic(number in any::<f64>(), text in "[0-9.a-zµ% /-]{0,12}") {
        let mut profile = String::from("[gates]\n");
        for metric in metric::TABLE.iter().step_by(7) {
            let _ = writeln!(profile, "\"{}\" = {{ max = {number:?}, min = '{text}' }}", metric.id);
        }
        let _ = read(&profile);
    }
}

#[test]
fn auto_is_the_number_that_it_stands_for() {
    let limits = |text: &str| read(text).map(|profile| profile.limits[0].to_string());
    assert_eq!(limits("[limits]\ncpus = \"auto\"\nmemory = \"32MiB\"").unwrap(), "0.5 CPU, 32MiB memory");
    assert_eq!(limits("[[limits]]\ncpus = \"auto\"").unwrap(), "0.5 CPU");
    let found = wrong("[limits]\ncpus = \"many\"");
    assert!(found.0 == 2 && found.2.contains("a number of CPUs, or \"auto\""), "{found:?}");
}

#[test]
fn limits_without_room_for_the_generator_are_joined_by_the_largest_with_room() {
    let limits = |text: &str, host: &[(usize, usize)]| {
        let profile = read(text).unwrap().with_room(&HostCpus::of(host));
        profile.limits.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let (two, four): (&[_], &[_]) = (&[(0, 0), (1, 1)], &[(0, 0), (1, 1), (2, 2), (3, 3)]);
    let threads: &[_] = &[(0, 0), (1, 0), (2, 2), (3, 2)];
    let article = "leave-room = true\nlimits = { cpus = 2, memory = \"512MB\" }";
    assert_eq!(limits(article, two), ["1 CPU, 512MB memory", "2 CPUs, 512MB memory"]);
    assert_eq!(limits(article, four), ["2 CPUs, 512MB memory"]);
    assert_eq!(limits(article, threads), ["2 CPUs, 512MB memory"]);
    // One CPU is all there is, and a cpuset is what was asked for.
    assert_eq!(limits(article, &[(0, 0)]), ["2 CPUs, 512MB memory"]);
    assert_eq!(limits("leave-room = true\nlimits = { cpuset = \"0-1\" }", two), ["cpuset 0-1"]);
    assert_eq!(limits("limits = { cpus = 2 }", two), ["2 CPUs"]);
    let both = "leave-room = true\n[[limits]]\ncpus = 1\n[[limits]]\ncpus = 4";
    assert_eq!(limits(both, two), ["1 CPU", "4 CPUs"]);
}

#[test]
fn images_stand_once_and_the_subject_among_them() {
    let images = "images = [\"app\", \"gin\"]\n";
    assert_eq!(read(&format!("{images}subject = \"gin\"")).unwrap().images, ["app", "gin"]);
    for (text, message) in [
        (format!("{images}subject = \"go\""), "the subject `go` is not among the profile's images"),
        ("images = [\"app\", \"app\"]".to_owned(), "the image `app` stands twice"),
        ("rounds = 0".to_owned(), "`rounds` is 0, which is not between 1 and 100"),
    ] {
        assert_eq!(wrong(&text).2, message);
    }
}
