use std::ffi::OsString;

use super::*;

fn file(text: &str) -> Result<Layers, ConfigError> {
    let mut layers = Layers::new();
    layers.file(Path::new("c.toml"), text)?;
    Ok(layers)
}

fn arguments(given: &[&str]) -> Result<Arguments, UnknownArgument> {
    Arguments::parse(given.iter().map(OsString::from))
}

#[test]
fn each_layer_is_stronger_than_the_one_before() {
    let mut layers = Layers::new();
    assert_eq!((layers.config.port, layers.origin("port")), (60_000, &Origin::BuiltIn));
    layers.file(Path::new("c.toml"), "\nport = 1\n").unwrap();
    assert_eq!((layers.config.port, layers.origin("port")), (1, &Origin::File("c.toml".into(), 2)));
    layers.environment(|name| (name == "PORT").then(|| "2".to_owned())).unwrap();
    assert_eq!((layers.config.port, layers.origin("port")), (2, &Origin::Environment("PORT")));
    layers.flags(&arguments(&["--port", "3"]).unwrap().flags).unwrap();
    assert_eq!((layers.config.port, layers.origin("port")), (3, &Origin::Flag));
}

#[test]
fn wrong_value_is_one_line_with_its_place_its_name_and_what_is_expected() {
    for (text, expected) in [
        ("port = 65536", "c.toml:1: port = \"65536\" is not a number from 0 to 65535"),
        ("\n\nport = \"a\\nb\"", "c.toml:3: port = \"a\\nb\" is not a number from 0 to 65535"),
        ("idle-timeout = 30", "c.toml:1: idle-timeout = \"30\" is not a duration such as 500ms, 30s or 5m"),
        ("workers = 0", "c.toml:1: workers = \"0\" is not a number from 1 to 256"),
        ("workers = 0x4", "c.toml:1: workers = \"0x4\" is not a number from 1 to 256"),
        ("workers = [1]", "c.toml:1: workers = \"[1]\" is not a number from 1 to 256"),
        ("pin = \"yes\"", "c.toml:1: pin = \"yes\" is not true or false"),
        ("log-format = \"xml\"", "c.toml:1: log-format = \"xml\" is not text or json"),
        ("Port = 1", "c.toml:1: there is no setting \"Port\""),
        ("[server]\nport = 1", "c.toml:1: there is no setting \"server\""),
    ] {
        let error = file(text).unwrap_err().to_string();
        assert_eq!((error.as_str(), error.lines().count()), (expected, 1), "{text:?}");
    }
}

#[test]
fn file_that_is_no_toml_is_one_line_with_its_place() {
    let deep = format!("port = {}", "[".repeat(100_000));
    for text in ["port = 1\nport = 2\n", "port 1", "port = 1\n]", "port = \"a\nb\"", &deep] {
        let error = file(text).unwrap_err().to_string();
        assert!(error.starts_with("c.toml:") && error.lines().count() == 1, "{text:?}: {error}");
    }
}

#[test]
fn wrong_variable_and_wrong_flag_are_named_as_they_are_written() {
    let mut layers = Layers::new();
    let error = layers.environment(|name| (name == "PORT").then(|| "abc".to_owned())).unwrap_err();
    assert_eq!(error.to_string(), "environment: PORT = \"abc\" is not a number from 0 to 65535");
    let error = layers.flags(&arguments(&["--backlog=0"]).unwrap().flags).unwrap_err();
    assert_eq!(error.to_string(), "command line: --backlog = \"0\" is not a number from 1 to 65535");
    assert_eq!(layers, Layers::new());
}

#[test]
fn command_line_is_one_command_and_settings() {
    for (given, command, path, flags) in [
        (vec![], Command::Serve, None, vec![]),
        (vec!["--health"], Command::Health, None, vec![]),
        (vec!["-h"], Command::Help, None, vec![]),
        (vec!["--port", "1", "--print-config"], Command::PrintConfig, None, vec![("port", "1")]),
        (vec!["--config=/c", "--log=debug"], Command::Serve, Some("/c"), vec![("log", "debug")]),
        (vec!["--port=1", "--port", "2"], Command::Serve, None, vec![("port", "1"), ("port", "2")]),
        (vec!["-V"], Command::Version, None, vec![]),
    ] {
        let parsed = arguments(&given).unwrap();
        let found: Vec<_> = parsed.flags.iter().map(|(key, value)| (key.name, value.as_str())).collect();
        assert_eq!((parsed.command, parsed.file.as_deref()), (command, path.map(Path::new)), "{given:?}");
        assert_eq!(found, flags, "{given:?}");
    }
    for (given, unknown) in [
        (vec!["serve"], "serve"),
        (vec![""], ""),
        (vec!["--prot", "1"], "--prot"),
        (vec!["--port"], "--port"),
        (vec!["--health", "--help"], "--help"),
        (vec!["-p", "1"], "-p"),
    ] {
        let error = arguments(&given).err();
        assert_eq!(error, Some(UnknownArgument(unknown.into())), "{given:?}");
    }
}

#[test]
fn what_is_shown_can_be_read_and_says_the_same() {
    let text = "port = 1\nworkers = 3\npin = true\nstack-size = \"1MiB\"\nmemory = \"64MiB\"\n\
                max-connections = 9\nfiles = \"/data/a \\\"b\\\"\"\nidle-timeout = \"1500ms\"\n\
                sizing = \"article\"\nlog = \"debug\"\nlog-format = \"json\"\ncache-memory = 0\n";
    let layers = file(text).unwrap();
    assert_eq!(file(&layers.show()).unwrap().config, layers.config);
    assert_eq!(file(&Layers::new().show()).unwrap().config, Config::default());
    assert!(layers.show().contains("port = 1"), "{}", layers.show());
}

#[test]
fn names_and_variables_are_each_there_once() {
    let mut names: Vec<_> = KEYS.iter().flat_map(|key| [key.name, key.variable]).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}

#[test]
fn restart_is_needed_for_what_the_sockets_and_threads_were_made_with() {
    let old = Layers::new();
    let new = file("port = 1\nidle-timeout = \"1s\"\nworkers = 2\n").unwrap();
    assert_eq!(old.need_restart(&new), ["port", "workers"]);
    assert_eq!(old.need_restart(&old), [""; 0]);
}
