//! Definitions and arguments that cannot be: each is refused with what is wrong, where, and what to do.

use std::fs;

use crate::support::{Fixture, PREBUILT};

#[test]
fn a_definition_that_cannot_be_is_refused_with_file_line_and_column() {
    let fixture = Fixture::new();
    fixture.refuses_definitions(&[
        (
            "[build]\n  outptu = \"server\"\n",
            "error: images/app/image.toml:2:3: unknown key `outptu`\n\
             hint: did you mean `output`? the keys here are package, bin, profile, features, default-features, audit, static, command, output, libs\n",
        ),
        (
            "layer = []\n",
            "error: images/app/image.toml:1:1: unknown key `layer`\n\
             hint: did you mean `layers`? the keys here are default, base, platforms, build, config, layers, deploy, publish\n",
        ),
        (
            "[build]\noutput = 3\n",
            "error: images/app/image.toml:2:10: invalid type: integer `3`, expected path string\n",
        ),
        (
            "[config]\nexposed-ports = [8080, 0]\n",
            "error: images/app/image.toml:2:24: `0` is not a port: write 1 to 65535, or with a protocol `53/udp`\n",
        ),
        (
            "[config]\nuser = \"www-data\"\n",
            "error: images/app/image.toml:2:8: `www-data` is not a user: write UID:GID in numbers (65534:65534), or root, nonroot or nobody\n",
        ),
        (
            "[config.healthcheck]\ntest = [\"CMD\", \"/app/server\"]\ninterval = \"30\"\n",
            "error: images/app/image.toml:3:12: `30` is not a duration: write a number and a unit (ns, us, ms, s, m, h), such as `30s` or `1m30s`\n",
        ),
        (
            "[config.healthcheck]\ntest = [\"/app/server\"]\n",
            "error: images/app/image.toml:2:8: a health check is [\"CMD\", program, argument…], [\"CMD-SHELL\", line] or [\"NONE\"]\n\
             hint: the image has no shell: let the binary check itself, [\"CMD\", \"/app/NAME\", \"--health\"]\n",
        ),
        (
            "platforms = [\"linux/amd64\", \"windows/amd64\"]\n",
            "error: images/app/image.toml:1:29: `windows/amd64` is not a platform this tool builds for: choose from linux/amd64, linux/arm64\n",
        ),
        (
            "[config]\nstop-signal = \"TERM\"\n",
            "error: images/app/image.toml:2:15: `TERM` is not a signal: write its name (SIGTERM) or number (15)\n",
        ),
        (
            "[[layers]]\nname = \"a\"\nentries = [{ dir = \"/a\", mode = \"rwx\" }]\n",
            "error: images/app/image.toml:3:33: `rwx` is not a mode: write it in octal, such as \"0755\"\n",
        ),
        (
            "[[layers]]\nname = \"a\"\nentries = [{ binary = true, capabilities = \"cap_fly=ep\" }]\n",
            "error: images/app/image.toml:3:44: `cap_fly` is not a capability of Linux\n",
        ),
        (
            "[build]\ncommand = [\"make\"]\n",
            "error: images/app/image.toml:2:11: `command` needs `output`, the program that it makes\n\
             hint: add `output = \"PATH\"`, relative to the image's folder\n",
        ),
        (
            "build = 1\n",
            "error: images/app/image.toml:1:9: invalid type: integer `1`, expected a table\n",
        ),
        (
            "[[layers]]\nname = \"a\"\nentries = [\"/a\"]\n",
            "error: images/app/image.toml:3:12: invalid type: string \"/a\", expected a table\n",
        ),
        (
            "[config]\nentrypoint = [\"\"]\n",
            "error: images/app/image.toml:2:14: `entrypoint` and `cmd` name no program\n",
        ),
        (
            "[config]\nentrypoint = []\n",
            "error: images/app/image.toml:2:14: `entrypoint` and `cmd` name no program\n",
        ),
        (
            "[config]\nvolumes = [\"/data\", \"/\"]\n",
            "error: images/app/image.toml:2:21: `/` cannot be a volume: it would hide the image\n",
        ),
        (
            "[config.healthcheck]\ntest = [\"CMD\", \"/app/server\"]\ntimeout = \"999us\"\n",
            "error: images/app/image.toml:3:11: docker takes 0, its own default, or at least 1ms\n",
        ),
        (
            "[build\n",
            "error: images/app/image.toml:1:7: unclosed table, expected `]`\n",
        ),
    ]);
}

#[test]
fn a_definition_that_is_not_text_is_refused() {
    let fixture = Fixture::new();
    fixture.write("images/app/image.toml", b"[build]\noutput = \"\xff\"\n");
    assert_eq!(
        fixture.refuses(&["image"]),
        "error: cannot read images/app/image.toml: stream did not contain valid UTF-8\n"
    );
}

#[test]
fn packages_binaries_features_and_profiles_must_exist() {
    let fixture = Fixture::new();
    fixture.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"server\", \"library\", \"tools\"]\n[profile.small]\ninherits = \"release\"\n",
    );
    fixture.write("server/Cargo.toml", "[package]\nname = \"server\"\n[features]\ntls = []\n");
    fixture.write("library/Cargo.toml", "[package]\nname = \"library\"\n");
    fixture.write("library/src/lib.rs", "");
    fixture.write("tools/Cargo.toml", "[package]\nname = \"tools\"\n");
    fixture.write("tools/src/bin/export.rs", "fn main() {}\n");
    fixture.write("tools/src/bin/import.rs", "fn main() {}\n");
    fixture.refuses_definitions(&[
        (
            "[build]\npackage = \"sever\"\n",
            "error: image app: the workspace has no package `sever`\n\
             hint: did you mean `server`? there are: server, tools\n",
        ),
        (
            "",
            "error: image app: the workspace has no package `app`\n\
             hint: there are: server, tools\n",
        ),
        (
            "[build]\npackage = \"server\"\nbin = \"serverd\"\n",
            "error: image app: package `server` has no binary `serverd`\n\
             hint: its binaries: server\n",
        ),
        (
            "[build]\npackage = \"library\"\n",
            "error: image app: package `library` has no binary\n\
             hint: a library cannot run in a container; name a package with a src/main.rs\n",
        ),
        (
            "[build]\npackage = \"tools\"\n",
            "error: image app: package `tools` has several binaries: export, import\n\
             hint: name one: `bin = \"…\"` under [build] in image.toml\n",
        ),
        (
            "[build]\npackage = \"server\"\nfeatures = [\"tsl\"]\n",
            "error: image app: package `server` has no feature `tsl`\n\
             hint: its features: tls\n",
        ),
        (
            "[build]\npackage = \"tools\"\nbin = \"export\"\nfeatures = [\"tls\"]\n",
            "error: image app: package `tools` has no feature `tls`\n\
             hint: the package has no features\n",
        ),
        (
            "[build]\npackage = \"server\"\nprofile = \"smal\"\n",
            "error: image app: the workspace has no cargo profile `smal`\n\
             hint: add [profile.smal] to the workspace's Cargo.toml, or leave `profile` out\n",
        ),
    ]);
}

#[test]
fn arguments_that_cannot_be_are_refused() {
    let fixture = Fixture::new();
    fixture.image("other", PREBUILT);
    for (arguments, says) in [
        (
            &["image", "app", "--platform", "linux/riscv64"][..],
            "error: invalid value 'linux/riscv64' for '--platform <PLATFORM>': `linux/riscv64` is not a platform this tool builds for: choose from linux/amd64, linux/arm64\n\n\
             For more information, try '--help'.\n",
        ),
        (
            &["image", "app", "--platform", "linux/amd64,linux/amd64"],
            "error: --platform: linux/amd64 stands twice\n",
        ),
        (
            &["image", "app", "--tag", "App"],
            "error: invalid value 'App' for '--tag <REFERENCE>': `App` is not an image name: write [registry/]name[:tag] with lower-case letters, digits and single separators (. _ -)\n\n\
             For more information, try '--help'.\n",
        ),
        (
            &["image", "app", "--tag", "app@sha256:00"],
            "error: invalid value 'app@sha256:00' for '--tag <REFERENCE>': `app@sha256:00` names a digest; a tag is a name to give, such as app:1.2\n\n\
             For more information, try '--help'.\n",
        ),
        (
            &["image", "app", "--compression", "gzip:13"],
            "error: invalid value 'gzip:13' for '--compression <METHOD[:LEVEL]>': `gzip:13` is not a compression: write none, gzip[:1-12] or zstd[:1-22]\n\n\
             For more information, try '--help'.\n",
        ),
        (
            &["image", "app", "--tag", "v1"],
            "error: invalid value 'v1' for '--tag <REFERENCE>': `v1` looks like a version; write `:v1` for a tag, or NAME:v1\n\n\
             For more information, try '--help'.\n",
        ),
        (
            &["image", "--tag", "x"],
            "error: --tag names one image, but there are 2\n\
             hint: name the image before --tag, or write --tag :TAG for all of them\n",
        ),
        (
            &["image", "app", "--tag", "x", "--tag", "y", "other"],
            "error: --tag names one image, but there are 2\n\
             hint: name the image before --tag, or write --tag :TAG for all of them\n",
        ),
        (
            &["image", "ap"],
            "error: there is no image `ap`: neither images/ap/image.toml nor a package with a binary\n\
             hint: did you mean `app`? there are: app, other, server\n",
        ),
        (
            &["image", "../app"],
            "error: there is no image `../app`: neither images/../app/image.toml nor a package with a binary\n\
             hint: there are: app, other, server\n",
        ),
        (
            &["image", "app", "--dry-run", "--json"],
            "error: the argument '--dry-run' cannot be used with '--json'\n\n\
             Usage: cargo xtask image --dry-run <NAME>...\n\n\
             For more information, try '--help'.\n",
        ),
    ] {
        assert_eq!(fixture.refuses(arguments), says, "{arguments:?}");
    }
}

#[test]
fn an_image_whose_name_cannot_be_a_tag_needs_one() {
    let fixture = Fixture::new();
    fixture.image("-odd-", PREBUILT);
    assert_eq!(
        fixture.refuses(&["image", "--", "-odd-"]),
        "error: image -odd- needs --tag: its own name cannot be one: `-odd-` is not an image name: write [registry/]name[:tag] with lower-case letters, digits and single separators (. _ -)\n"
    );
    let reference = fixture.succeeds(&["image", "--tag", "odd", "--", "-odd-"]);
    assert!(reference.starts_with("odd@sha256:"), "{reference}");
}

#[test]
fn a_time_that_is_none_is_refused_and_never_now() {
    let fixture = Fixture::new();
    for time in ["now", "-1", "", "1.5", " 1"] {
        let mut command = fixture.command(&["image", "app"]);
        command.env("SOURCE_DATE_EPOCH", time);
        let says = format!(
            "error: SOURCE_DATE_EPOCH: `{time}` is not a whole number of seconds since 1970-01-01T00:00:00Z\n\
             hint: unset it to use the commit's time, or set it to the output of `git log -1 --format=%ct`\n"
        );
        assert_eq!(fixture.refuses_command(command), says);
    }
    let mut command = fixture.command(&["image", "app"]);
    command.env("SOURCE_DATE_EPOCH", "253402300800");
    assert_eq!(
        fixture.refuses_command(command),
        "error: SOURCE_DATE_EPOCH: 253402300800 seconds lie after the year 9999\n\
         hint: unset it to use the commit's time, or set it to the output of `git log -1 --format=%ct`\n"
    );
}

#[test]
fn without_a_workspace_or_an_image_there_is_nothing_to_build() {
    let fixture = Fixture::new();
    let mut command = fixture.command(&["image"]);
    command.current_dir(fixture.outside());
    let says = fixture.refuses_command(command);
    assert!(says.starts_with("error: no usable cargo workspace here: "), "{says}");
    assert!(says.contains("could not find `Cargo.toml` in `OUTSIDE`"), "{says}");

    std::fs::remove_dir_all(fixture.path("images")).unwrap();
    assert_eq!(
        fixture.refuses(&["image"]),
        "error: the workspace has no images\n\
         hint: name a package to build it with every default: cargo xtask image server\n"
    );
}

#[test]
fn an_image_that_is_no_default_is_built_only_when_it_is_named() {
    let fixture = Fixture::new();
    let named = format!("default = false\n{PREBUILT}");
    fixture.image("other", &named);
    let built = |arguments: &[&str]| -> Vec<String> {
        let references = fixture.succeeds(arguments);
        references.lines().map(|line| line.split('@').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(built(&["image"]), ["app"]);
    assert_eq!(built(&["image", "other"]), ["other"]);
    assert_eq!(built(&["image", "other", "app"]), ["other", "app"]);
    // One image is meant, so it can be given a name.
    assert_eq!(built(&["image", "--tag", "x"]), ["x"]);
    assert_eq!(built(&["image", "--tag", ":v1"]), ["app"]);
    assert_eq!(fixture.summary("app")["tags"], serde_json::json!(["app:v1"]));

    fixture.image("app", &named);
    assert_eq!(
        fixture.refuses(&["image"]),
        "error: no image is built without being named: every image.toml has `default = false`\n\
         hint: name one: cargo xtask image app | other\n"
    );
}

#[test]
fn list_names_every_definition_that_cannot_be_used_with_the_reason() {
    let fixture = Fixture::new();
    let place = |name: &str| {
        fs::create_dir_all(fixture.path(format!("images/{name}"))).unwrap();
        fixture.path(format!("images/{name}/image.toml"))
    };
    crate::support::system("mkfifo", &[place("fifo").as_os_str()]);
    std::os::unix::fs::symlink("/etc/hostname", place("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", place("gone")).unwrap();
    fs::write(place("long"), "# ".to_owned() + &"x".repeat(1 << 20)).unwrap();
    fs::write(place("wrong"), "[config]\nusr = 1\n").unwrap();
    let problem = |name: &str, what: &str| {
        format!("image {name} cannot be built: cannot read images/{name}/image.toml: {what}")
    };
    let expected = [
        problem("fifo", "it is a FIFO, not a regular file"),
        problem("gone", "No such file or directory (os error 2)"),
        problem("link", "it is a link out of ROOT"),
        problem("long", "it has more than 1048576 bytes"),
        "image wrong cannot be built: images/wrong/image.toml:2:1: unknown key `usr`".to_owned(),
    ];
    let run = fixture.run(&["list"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let warnings: Vec<&str> = run.stderr.lines().filter_map(|line| line.strip_prefix("warning: ")).collect();
    assert_eq!(warnings, expected);
    assert_eq!(run.stdout.lines().filter(|line| line.contains(" broken ")).count(), 5, "{}", run.stdout);
    let listed: serde_json::Value = serde_json::from_str(&fixture.succeeds(&["list", "--json"])).unwrap();
    let broken: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it.get("problem").is_some())
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(broken, ["fifo", "gone", "link", "long", "wrong"]);
    let says = fixture.refuses(&["image", "long"]);
    let hint = "hint: is it the right file? what people write is shorter\n";
    assert_eq!(
        says,
        format!("error: cannot read images/long/image.toml: it has more than 1048576 bytes\n{hint}")
    );
}

#[test]
fn a_dry_run_reads_the_program_that_a_run_would_read() {
    let fixture = Fixture::new();
    fixture.succeeds(&["image", "app", "--dry-run"]);
    fs::remove_file(fixture.path("images/app/server")).unwrap();
    let says =
        "error: image app: cannot read ROOT/images/app/server: No such file or directory (os error 2)\n";
    for arguments in [&["image", "app", "--dry-run"][..], &["image", "app"]] {
        assert_eq!(fixture.refuses(arguments), says);
    }
}

#[test]
fn images_in_stores_and_names_that_are_like_none_have_a_hint_that_helps() {
    let fixture = Fixture::new();
    for (image, says) in [
        (
            "docker-daemon:app:1",
            "docker-daemon:app:1 is in a store that `inspect` does not read\n\
             hint: `docker save --output image.tar app:1` writes an archive, which it does",
        ),
        (
            "containers-storage:x",
            "containers-storage:x is in a store that `inspect` does not read\n\
             hint: `podman save --output image.tar x` writes an archive, which it does",
        ),
        ("ap", "there is neither a file nor an image `ap`\nhint: did you mean `app`? there are: app, server"),
        ("serpent", "there is neither a file nor an image `serpent`\nhint: there are: app, server"),
    ] {
        assert_eq!(fixture.refuses(&["inspect", image]), format!("error: {says}\n"), "{image}");
    }
}
