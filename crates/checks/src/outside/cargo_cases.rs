//! Cargo configurations to compare: each a workspace with the package `server`, files, variables and a profile.

/// One workspace.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Written over those that every case has; the paths start from the workspace, which is in `above/w`.
    pub(super) files: &'static [(&'static str, &'static str)],
    pub(super) variables: &'static [(&'static str, &'static str)],
    /// `[build]` of image.toml without the profile, and the same as arguments of cargo.
    pub(super) build: (&'static str, &'static [&'static str]),
    pub(super) profile: &'static str,
    /// The keys of the profile that tare adds.
    pub(super) added: &'static [&'static str],
}

const BASE: Case =
    Case { name: "", files: &[], variables: &[], build: ("", &[]), profile: "dist", added: &[] };
const INHERITS: &str = "inherits=\"release\"";
const LTO: &str = "lto=\"fat\"";
const UNITS: &str = "codegen-units=1";
const ALL: &[&str] = &[INHERITS, LTO, UNITS];
const IMAGE: Case = Case { profile: "image", added: ALL, ..BASE };

const OWN: &str = ".cargo/config.toml";
const ABOVE: &str = "../.cargo/config.toml";
const HOME: &str = "../home/config.toml";
const TRIPLE_FLAGS: &str = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS";

const fn flags(name: &'static str, files: &'static [(&'static str, &'static str)]) -> Case {
    Case { name, files, ..BASE }
}

const fn variables(case: Case, variables: &'static [(&'static str, &'static str)]) -> Case {
    Case { variables, ..case }
}

const fn image(
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    added: &'static [&'static str],
) -> Case {
    Case { name, files, added, ..IMAGE }
}

const BUILD: &str = "[build]\nrustflags = [\"--cfg\", \"one\"]\n";
const BUILD_TWO: &str = "[build]\nrustflags = [\"--cfg\", \"two\"]\n";
const STRING: &str = "[build]\nrustflags = \"--cfg one\"\n";
const STRING_TWO: &str = "[build]\nrustflags = \"--cfg  two\"\n";
const TRIPLE: &str = "[target.x86_64-unknown-linux-musl]\nrustflags = [\"--cfg\", \"triple\"]\n";
const CFGS: &str = "[target.'cfg(unix)']\nrustflags = [\"--cfg\", \"u\"]\n[target.'cfg(all())']\nrustflags = [\"--cfg\", \"a\"]\n\
    [target.'cfg(windows)']\nrustflags = [\"--cfg\", \"w\"]\n[target.'cfg(target_feature = \"sse2\")']\nrustflags = \"--cfg s\"\n";

pub(super) const CASES: &[Case] = &[
    flags("nothing", &[]),
    flags("build.rustflags as a list", &[(OWN, BUILD)]),
    flags("build.rustflags as a string", &[(OWN, STRING)]),
    variables(flags("RUSTFLAGS", &[(OWN, BUILD)]), &[("RUSTFLAGS", " --cfg  env ")]),
    variables(flags("RUSTFLAGS set to nothing", &[(OWN, BUILD)]), &[("RUSTFLAGS", "")]),
    variables(
        flags("CARGO_ENCODED_RUSTFLAGS", &[(OWN, BUILD)]),
        &[("CARGO_ENCODED_RUSTFLAGS", "--cfg\u{1f}e=\"a b\""), ("RUSTFLAGS", "--cfg env")],
    ),
    variables(
        flags("CARGO_ENCODED_RUSTFLAGS set to nothing", &[(OWN, BUILD)]),
        &[("CARGO_ENCODED_RUSTFLAGS", ""), ("RUSTFLAGS", "--cfg env")],
    ),
    variables(
        flags("CARGO_BUILD_RUSTFLAGS after a list", &[(OWN, BUILD)]),
        &[("CARGO_BUILD_RUSTFLAGS", "--cfg env")],
    ),
    variables(
        flags("CARGO_BUILD_RUSTFLAGS after a string", &[(OWN, STRING)]),
        &[("CARGO_BUILD_RUSTFLAGS", "--cfg env")],
    ),
    variables(flags("CARGO_BUILD_RUSTFLAGS alone", &[]), &[("CARGO_BUILD_RUSTFLAGS", "--cfg env")]),
    flags(
        "the triple before build",
        &[(
            OWN,
            "[build]\nrustflags = [\"--cfg\", \"one\"]\n[target.x86_64-unknown-linux-musl]\nrustflags = \"--cfg t\"\n",
        )],
    ),
    flags(
        "an empty list of the triple",
        &[(
            OWN,
            "[build]\nrustflags = [\"--cfg\", \"one\"]\n[target.x86_64-unknown-linux-musl]\nrustflags = []\n",
        )],
    ),
    variables(flags("the triple's variable", &[(OWN, TRIPLE)]), &[(TRIPLE_FLAGS, "--cfg env")]),
    variables(flags("the triple's variable alone", &[(OWN, BUILD)]), &[(TRIPLE_FLAGS, "--cfg env")]),
    flags("cfg(…)", &[(OWN, CFGS)]),
    flags("cfg(…) after the triple", &[(OWN, CFGS), (ABOVE, TRIPLE)]),
    flags(
        "another triple",
        &[(OWN, "[target.aarch64-unknown-linux-musl]\nrustflags = [\"--cfg\", \"arm\"]\n")],
    ),
    flags("lists of two folders", &[(OWN, BUILD), (ABOVE, BUILD_TWO)]),
    flags("strings of two folders", &[(OWN, STRING), (ABOVE, STRING_TWO)]),
    flags(
        "lists of three places",
        &[(OWN, BUILD), (ABOVE, BUILD_TWO), (HOME, "[build]\nrustflags = [\"--cfg\", \"home\"]\n")],
    ),
    flags("the older name", &[(".cargo/config", BUILD), (OWN, BUILD_TWO)]),
    flags(
        "include",
        &[
            (OWN, "include = [\"a.toml\"]\n[build]\nrustflags = [\"--cfg\", \"one\"]\n"),
            (".cargo/a.toml", BUILD_TWO),
        ],
    ),
    flags(
        "include alone",
        &[
            (OWN, "include = [\"a.toml\", \"b.toml\"]\n"),
            (".cargo/a.toml", STRING),
            (".cargo/b.toml", STRING_TWO),
        ],
    ),
    flags(
        "include of tables",
        &[
            (OWN, "include = [{ path = \"a.toml\" }, { path = \"none.toml\", optional = true }]\n"),
            (".cargo/a.toml", BUILD),
        ],
    ),
    flags(
        "include in other folders",
        &[
            (OWN, "include = [\"../more/a.toml\"]\n"),
            ("more/a.toml", "include = [\"deep/b.toml\"]\n[build]\nrustflags = [\"--cfg\", \"a\"]\n"),
            ("more/deep/b.toml", BUILD),
        ],
    ),
    flags(
        "include in CARGO_HOME",
        &[(HOME, "include = [\"a.toml\"]\n"), ("../home/a.toml", BUILD), (OWN, BUILD_TWO)],
    ),
    flags("[env] is not cargo's own", &[(OWN, "[env]\nRUSTFLAGS = \"--cfg env\"\n")]),
    flags(
        "build.target and target-dir",
        &[(OWN, "[build]\ntarget = \"aarch64-unknown-linux-musl\"\ntarget-dir = \"elsewhere\"\n")],
    ),
    flags("a linker", &[(OWN, "[target.x86_64-unknown-linux-musl]\nlinker = \"cc\"\n")]),
    flags(
        "a linker of cfg(…), included",
        &[
            (OWN, "include = [\"a.toml\"]\n"),
            (".cargo/a.toml", "[target.'cfg(target_env = \"musl\")']\nlinker = \"cc\"\n"),
        ],
    ),
    flags("link arguments", &[(OWN, "[build]\nrustflags = [\"-Clink-arg=-Wl,-z,now\"]\n")]),
    flags(
        "a profile in a configuration file",
        &[(OWN, "[profile.dist]\nlto = \"thin\"\ncodegen-units = 3\n")],
    ),
    Case {
        name: "a profile in a configuration file alone",
        files: &[(OWN, "[profile.small]\ninherits = \"release\"\nopt-level = \"z\"\n")],
        profile: "small",
        ..BASE
    },
    Case {
        name: "a profile in the environment alone",
        variables: &[("CARGO_PROFILE_SMALL_INHERITS", "dev"), ("CARGO_PROFILE_SMALL_OPT_LEVEL", "1")],
        profile: "small",
        ..BASE
    },
    Case {
        name: "a profile in an included file",
        files: &[
            (OWN, "include = [\"a.toml\"]\n"),
            (".cargo/a.toml", "[profile.small]\ninherits = \"dist\"\n"),
        ],
        profile: "small",
        ..BASE
    },
    Case { name: "dev", profile: "dev", ..BASE },
    Case { name: "bench", profile: "bench", ..BASE },
    Case { name: "image", ..IMAGE },
    image(
        "image in a configuration file",
        &[(OWN, "[profile.image]\nopt-level = \"s\"\npanic = \"abort\"\n")],
        ALL,
    ),
    image(
        "release in a configuration file",
        &[(OWN, "[profile.release]\nopt-level = 2\nlto = \"thin\"\ncodegen-units = 4\n")],
        &[INHERITS],
    ),
    image(
        "image and release, above and in CARGO_HOME",
        &[(ABOVE, "[profile.image]\nlto = \"off\"\n"), (HOME, "[profile.release]\ncodegen-units = 2\n")],
        &[INHERITS],
    ),
    variables(
        image("image by variables", &[], &[INHERITS, UNITS]),
        &[("CARGO_PROFILE_IMAGE_PANIC", "abort"), ("CARGO_PROFILE_RELEASE_LTO", "thin")],
    ),
    image(
        "image that inherits from dist",
        &[(OWN, "[profile.image]\ninherits = \"dist\"\nlto = false\n")],
        &[UNITS],
    ),
    image("image that inherits from dev", &[(OWN, "[profile.image]\ninherits = \"dev\"\n")], &[]),
    image("image with incremental", &[(OWN, "[profile.release]\nincremental = true\n")], &[INHERITS, UNITS]),
    image(
        "image with a package's own level",
        &[(OWN, "[profile.release.package.helper]\nopt-level = 1\n")],
        ALL,
    ),
    Case { name: "features", build: ("features = [\"more\"]\n", &["--features", "more"]), ..BASE },
    Case {
        name: "no default features",
        build: ("default-features = false\n", &["--no-default-features"]),
        ..BASE
    },
    flags(
        "a dependency of the package's own name, outside",
        &[
            (
                "server/Cargo.toml",
                "[package]\nname = \"server\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\nreal = { package = \"server\", path = \"../../other\" }\n",
            ),
            ("server/src/main.rs", "fn main() {\n    real::hello();\n}\n"),
            (
                "../other/Cargo.toml",
                "[package]\nname = \"server\"\nversion = \"0.2.0\"\nedition = \"2024\"\n",
            ),
            ("../other/src/lib.rs", "pub fn hello() {}\n"),
        ],
    ),
];
