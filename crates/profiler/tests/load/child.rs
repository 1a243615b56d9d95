//! The generator as a process of its own, and the command.

use std::path::Path;

use tare_load::{ErrorKind, Phase};
use tare_profiler::generator::{ChildError, Generator, Place};
use tare_tool::process::{Execute as _, Shell, cmd};

use super::server::{HELLO, always, plan};

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tare-profiler"))
}

#[test]
fn one_process_does_one_plan_after_another() {
    let mut generator = Generator::start(program(), &Place { cpus: vec![0], ..Place::default() }).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", generator.id())).unwrap();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    let mut plan = plan(always(HELLO));
    assert_eq!(generator.verify(&plan).unwrap()[0].status, 200);
    for _ in 0..2 {
        let mut phases = Vec::new();
        let outcome = generator.run(&plan, |phase| phases.push(phase)).unwrap();
        assert!(outcome.completed > 0 && outcome.errors.total() == 0, "{outcome:?}");
        assert_eq!(phases[0], Phase::Connected { connections: 4 });
        assert!(outcome.cpu.unwrap().system > 0);
    }
    let turns = [generator.turns(&plan), generator.again(50_000_000), generator.again(100_000_000)]
        .map(Result::unwrap);
    generator.enough().unwrap();
    assert!(turns.iter().all(|it| it.completed > 0 && it.connections.reconnects == 0), "{turns:?}");
    let error = generator.again(1).unwrap_err().to_string();
    assert_eq!(error, "there was no turn before");
    plan.requests[0].expect.status = Some(404);
    let ChildError::Failed { kind, .. } = generator.verify(&plan).unwrap_err() else { panic!() };
    assert_eq!(kind, Some(ErrorKind::BadStatus));
    plan.connections = 0;
    let error = generator.run(&plan, |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "the load cannot be run: `connections` is 0");
}

#[test]
fn a_place_that_is_not_there_is_named() {
    let place = Place { network_namespace: Some("/no/such/namespace".into()), ..Place::default() };
    let error = Generator::start(program(), &place).unwrap_err().to_string();
    assert!(error.starts_with("cannot join the network namespace: /no/such/namespace: "), "{error}");
    let place = Place { cpus: vec![100_000], ..Place::default() };
    let error = Generator::start(program(), &place).unwrap_err().to_string();
    assert_eq!(error, "cannot run on the CPUs asked for: there is no CPU 100000");
}

#[test]
fn the_command_prints_figures_or_says_what_is_wrong() {
    let address = always(HELLO);
    let (sh, program) = (Shell::new().unwrap(), program());
    let load =
        |arguments: &[&str]| cmd!(sh, "{program} load -c 2 -d 200ms --warm-up 0 {arguments...}").capture();
    let url = format!("http://{address}/");
    let text = String::from_utf8(load(&[&url, "--rate", "100"]).unwrap()).unwrap();
    assert!(text.contains("20 sent, 20 completed, 0 failed, 0 unsent"), "{text}");
    assert!(text.contains("p99.99"), "{text}");
    let json: serde_json::Value = serde_json::from_slice(&load(&[&url, "--json"]).unwrap()).unwrap();
    assert!(json["summary"]["requests_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(json["plan"]["requests"][0]["expect"]["body"], "Hello");

    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let cases = [
        (
            vec![format!("http://{nobody}/")],
            format!(
                "error: cannot connect to {nobody}: Connection refused (os error 111)\nhint: nobody listens there: start the server, or give its port in the URL"
            ),
        ),
        (
            vec![url.clone(), "--expect-status".to_owned(), "404".to_owned()],
            format!(
                "error: GET / at {address}: status 200 instead of 404\nhint: say which status is right with --expect-status"
            ),
        ),
        (vec!["https://localhost/".to_owned()], "https is not spoken".to_owned()),
        (
            vec![url, "--pipeline".to_owned(), "2".to_owned(), "--no-keep-alive".to_owned()],
            "error: the load cannot be run: 2 requests at a time on a connection that is closed after one"
                .to_owned(),
        ),
    ];
    for (arguments, expected) in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let error = load(&arguments).unwrap_err().to_string();
        assert!(error.contains("(exit status: 2)") && error.contains(&expected), "{error}");
    }
}

#[test]
fn a_load_that_is_interrupted_shows_its_figures_and_no_verdict() {
    use rustix::process::{Pid, Signal, kill_process};

    let url = format!("http://{}/", always(HELLO));
    let mut child = std::process::Command::new(program())
        .args(["load", "-c", "2", "-d", "1h", "--warm-up", "0s", &url])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    // Its handler is there when its threads are: the connections, and the one of signals.
    let threads = || std::fs::read_dir(format!("/proc/{}/task", child.id())).map_or(0, Iterator::count);
    while threads() < 3 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    kill_process(pid, Signal::INT).unwrap();
    let mut text = [String::new(), String::new()];
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut text[0]).unwrap();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text[1]).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{text:?}");
    assert!(text[0].contains("requests/s") && text[0].contains(" 0 failed"), "{text:?}");
    assert_eq!(text[1], "warning: interrupted: these are the figures until then\n");
}
