use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Definition, DefinitionError> {
    parse("app", Path::new("images/app/image.toml"), text)
}

/// A definition that is wrong → place, message, hint.
fn wrong(text: &str) -> (usize, usize, String, Option<String>) {
    let error = read(text).expect_err(text);
    (error.line, error.column, error.message, error.hint)
}

fn names(definition: &Definition) -> Vec<&str> {
    definition.layers.iter().map(|layer| layer.name.as_str()).collect()
}

#[test]
fn an_empty_file_is_the_package_of_that_name_with_every_default() {
    let definition = read("").unwrap();
    let Build::Cargo(build) = &definition.build else { panic!("cargo builds it") };
    assert_eq!((build.package.as_str(), build.profile.as_str(), build.audit), ("app", "image", true));
    assert_eq!(definition.platforms, [Platform::LinuxAmd64]);
    assert_eq!(names(&definition), ["base", "application"]);
    assert!(definition.static_ && definition.default);
}

#[test]
fn every_key_is_understood() {
    let definition = read(
        r#"
        default = false
        platforms = ["linux/arm64", "linux/amd64"]
        [build]
        package = "server"
        bin = "srv"
        profile = "release"
        features = ["a", "b"]
        default-features = false
        audit = false
        static = false
        [config]
        entrypoint = ["/srv"]
        cmd = ["--port", "80"]
        env = { RUST_LOG = "info", A = "1" }
        user = "nobody:0"
        working-dir = "/data"
        exposed-ports = [80, "53/udp"]
        volumes = ["/data"]
        labels = { team = "x" }
        stop-signal = "SIGQUIT"
        healthcheck = { test = ["CMD", "/srv"], interval = "30s", timeout = "3s", start-period = "5s", start-interval = "1s", retries = 3 }
        [[layers]]
        name = "base"
        entries = [{ ca-certificates = true }, { zoneinfo = "/zones" }, { skeleton = true }]
        [[layers]]
        name = "program"
        entries = [
            { binary = "/srv", mode = "0550", owner = 0, capabilities = "cap_net_bind_service=ep" },
            { dir = "/data", mode = "0700", owner = "65534" },
            { file = "/etc/app.toml" },
            { file = "/etc/b.toml", from = "../b.toml" },
            { symlink = "/link", to = "srv" },
            { tree = "/static", from = "static" },
        ]
        [deploy]
        read-by = "another program"
        [publish]
        read-by = "another program"
        "#,
    )
    .unwrap();
    assert_eq!(definition.platforms, [Platform::LinuxArm64, Platform::LinuxAmd64]);
    assert!(!definition.static_ && !definition.default);
    let expected = CargoBuild {
        package: "server".into(),
        bin: Some("srv".into()),
        profile: "release".into(),
        features: vec!["a".into(), "b".into()],
        default_features: false,
        audit: false,
    };
    assert_eq!(definition.build, Build::Cargo(expected));
    let config = &definition.config;
    assert_eq!(config.env, [("A".into(), "1".into()), ("RUST_LOG".into(), "info".into())]);
    assert_eq!(config.user, Some(User(Owner { uid: 65534, gid: 0 })));
    let check = config.healthcheck.as_ref().unwrap();
    assert_eq!((check.interval, check.start_interval), (Some(30_000_000_000), Some(1_000_000_000)));
    assert_eq!(names(&definition), ["base", "program"]);
    let entries = &definition.layers[1].entries;
    assert_eq!(entries.len(), 6);
    assert_eq!(entries[0].mode, Some(0o550));
    assert_eq!(entries[1].owner, Owner { uid: 65534, gid: 65534 });
    assert!(matches!(&entries[2].what, What::File { from, .. } if from == Path::new("app.toml")));
    assert_eq!(entries[5].place.map(|place| place.line), Some(34));
}

#[test]
fn variables_may_be_a_list_as_the_image_spec_has_them() {
    let definition = read("config.env = [\"A=1\", \"B=x=y\"]").unwrap();
    assert_eq!(definition.config.env, [("A".into(), "1".into()), ("B".into(), "x=y".into())]);
    assert_eq!(wrong("config.env = [\"A\"]").2, "`A` is not NAME=VALUE");
    assert_eq!(wrong("config.env = [\"A=1\", \"A=2\"]").2, "`A` stands twice");
}

#[test]
fn a_command_or_an_output_takes_the_place_of_cargo() {
    let definition = read("build = { command = [\"make\"], output = \"out/server\" }").unwrap();
    let expected = Build::Command { command: vec!["make".into()], output: "out/server".into(), libs: false };
    assert_eq!(definition.build, expected);
    let prebuilt = read("build.output = \"server\"").unwrap().build;
    assert_eq!(prebuilt, Build::Command { command: vec![], output: "server".into(), libs: false });
    assert_eq!(wrong("build.command = [\"make\"]").2, "`command` needs `output`, the program that it makes");
    assert_eq!(wrong("build = { command = [], output = \"x\" }").2, "`command` is empty");
    assert!(wrong("build = { output = \"x\", features = [] }").2.contains("`features` has no meaning"));
}

#[test]
fn libraries_stand_between_the_base_and_a_program_that_cargo_does_not_build() {
    let definition = read("build = { output = \"server\", libs = \"auto\" }").unwrap();
    assert_eq!(definition.build, Build::Command { command: vec![], output: "server".into(), libs: true });
    assert_eq!((definition.static_, names(&definition)), (false, vec!["base", "libraries", "application"]));
    for (text, column, message) in [
        ("build.libs = \"auto\"", 14, "`libs` has a meaning only with `output`: what cargo builds is static"),
        (
            "build = { output = \"x\", static = true, libs = \"auto\" }",
            47,
            "a program with `static = true` needs no `libs`",
        ),
        ("build.libs = true", 14, "wanted string or table"),
        ("build.libs = \"all\"", 14, "unknown variant `all`, expected `auto`"),
    ] {
        let (_, at, said, _) = wrong(text);
        assert_eq!((at, said.as_str()), (column, message), "{text}");
    }
}

#[test]
fn added_layers_stand_above_the_default_ones() {
    let added =
        read("[[layers]]\nname = \"configuration\"\nentries = [{ file = \"/app/config.toml\" }]").unwrap();
    assert_eq!(names(&added), ["base", "application", "configuration"]);
    let no_base = read("[[layers]]\nname = \"base\"").unwrap();
    assert_eq!(names(&no_base), ["base", "application"]);
    assert!(no_base.layers[0].entries.is_empty());
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest_known_one() {
    let (line, column, message, hint) = wrong("\n[build]\n  packge = \"x\"\n");
    assert_eq!((line, column, message.as_str()), (3, 3, "unknown key `packge`"));
    let hint = hint.unwrap();
    assert!(hint.starts_with("did you mean `package`? the keys here are package, bin, "), "{hint}");
    for (text, nearest) in [
        ("platform = []", "platforms"),
        ("[config]\nexposed_ports = [1]", "exposed-ports"),
        ("[config.healthcheck]\ntest = []\ninterval-s = \"1s\"", "interval"),
        ("[[layers]]\nname = \"x\"\nentrys = []", "entries"),
        ("[[layers]]\nname = \"x\"\nentries = [{ ca-certificate = true }]", "ca-certificates"),
    ] {
        let hint = wrong(text).3.unwrap();
        assert!(hint.starts_with(&format!("did you mean `{nearest}`?")), "{text}: {hint}");
    }
    let far = wrong("zzz = 1").3.unwrap();
    assert_eq!(far, "the keys here are default, base, platforms, build, config, layers, deploy, publish");
}

#[test]
fn values_that_cannot_be_are_reported_where_they_stand() {
    for (text, line, column, part) in [
        ("build = 3", 1, 9, "invalid type: integer `3`"),
        ("[build]\npackage = 3", 2, 11, "invalid type: integer `3`, expected a string"),
        ("platforms = [\"linux/amd64\",\n \"linux/riscv64\"]", 2, 2, "`linux/riscv64` is not a platform"),
        ("platforms = []", 1, 13, "an image needs a platform"),
        ("platforms = [\"linux/amd64\", \"linux/amd64\"]", 1, 13, "linux/amd64 stands twice"),
        ("[config]\nexposed-ports = [80, 70000]", 2, 22, "`70000` is not a port"),
        ("[config]\nuser = \"www-data\"", 2, 8, "`www-data` is not a user"),
        ("[config]\nworking-dir = \"data\"", 2, 15, "`data` is not absolute"),
        ("[config]\nvolumes = [\"/a/../b\"]", 2, 12, "must not have empty, `.` or `..` components"),
        ("[config]\nlabels = { a = \"1\", \"\" = \"2\" }", 2, 21, "a label needs a name"),
        ("[config]\nstop-signal = \"STOP\"", 2, 15, "`STOP` is not a signal"),
        (
            "[config]\nhealthcheck = { test = [\"CMD\", \"/x\"], interval = \"30\" }",
            2,
            50,
            "`30` is not a duration",
        ),
        ("[config]\nhealthcheck = { test = [\"/x\"] }", 2, 24, "a health check is"),
        (
            "[config]\nenv = { \"A=B\" = \"1\" }",
            2,
            7,
            "`env`: `A=B=1` has no name that an environment variable can have",
        ),
        (
            "[config]\nenv = [\"A=1\", \"=x\"]",
            2,
            7,
            "`env`: `=x` has no name that an environment variable can have",
        ),
        (
            "[config]\nenv = { \"\" = \"x\" }",
            2,
            7,
            "`env`: `=x` has no name that an environment variable can have",
        ),
        (
            "[[layers]]\nname = \"a\"\nentries = [{ dir = \"/x\", mode = 755 }]",
            3,
            33,
            "invalid type: integer `755`",
        ),
        ("[[layers]]\nname = \"a\"\nentries = [{ dir = \"/x\", mode = \"0999\" }]", 3, 33, "is not a mode"),
        ("[[layers]]\nname = \"a\"\nentries = [{ mode = \"0755\" }]", 3, 12, "exactly one of dir, file"),
        (
            "[[layers]]\nname = \"a\"\nentries = [{ dir = \"/x\", file = \"/y\" }]",
            3,
            12,
            "exactly one of dir, file",
        ),
        ("[[layers]]\nname = \"a\"\nentries = [{ tree = \"/x\" }]", 3, 12, "a tree needs `from`"),
        ("[[layers]]\nname = \"a\"\nentries = [{ symlink = \"/x\" }]", 3, 12, "a symlink needs `to`"),
        (
            "[[layers]]\nname = \"a\"\nentries = [{ dir = \"/x\", from = \"y\" }]",
            3,
            12,
            "only for file and tree",
        ),
        ("[[layers]]\nname = \"a\"\nentries = [{ dir = \"/x\", to = \"y\" }]", 3, 12, "only for symlink"),
        ("[[layers]]\nname = \"a\"\nentries = [{ file = \"/\" }]", 3, 12, "`/` is a directory"),
        (
            "[[layers]]\nname = \"a\"\nentries = [{ dir = \"/x\", capabilities = \"cap_chown=ep\" }]",
            3,
            12,
            "only for file and binary",
        ),
        (
            "[[layers]]\nname = \"a\"\nentries = [{ binary = true, capabilities = \"cap_fly=ep\" }]",
            3,
            44,
            "`cap_fly` is not a capability",
        ),
        ("[[layers]]\nname = \"a\"\nentries = [{ ca-certificates = false }]", 3, 32, "`true` or a path"),
        ("[[layers]]\nname = \"a\"\n[[layers]]\nname = \"a\"", 4, 8, "two layers called `a`"),
        ("x = [", 1, 6, ""),
    ] {
        let (at_line, at_column, message, _) = wrong(text);
        assert!(message.contains(part), "{text}: {message}");
        assert_eq!((at_line, at_column), (line, column), "{text}: {message}");
    }
}

proptest! {
    /// Whatever stands in a definition, reading it ends in a value or in an error with a place.
    #[test]
    fn no_text_makes_reading_panic(text in "(\\PC|\n){0,200}") {
        if let Err(error) = read(&text) {
            prop_assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty());
        }
    }

    /// The same with texts that get past the TOML parser more often.
    #[test]
    fn no_combination_of_keys_makes_reading_panic(
        lines in prop::collection::vec(
            (prop::sample::select(vec![
                "platforms", "[build]\npackage", "[config]\nuser", "env", "exposed-ports", "volumes",
                "[[layers]]\nname", "entries", "healthcheck", "stop-signal", "working-dir", "output",
            ]),
            prop::sample::select(vec![
                "\"x\"", "\"/x\"", "3", "true", "[]", "{}", "[\"a=b\"]", "[{ dir = \"/x\" }]", "{ test = [\"CMD\", \"é\"] }",
            ])),
            0..8,
        )
    ) {
        let text: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        if let Err(error) = read(&text) {
            prop_assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty());
        }
    }
}
