//! The layers of `xtask/src` and `scale/src`, as tables: which part uses which, and what only one part may
//! do.
//!
//! The source is read as text, without comments, strings and tests. A new edge between two parts is a
//! new word in a table here, in a commit that says why.

#[cfg(test)]
mod layers {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Each part and all that it uses of the others, from the lowest up.
    const USES: [(&str, &[&str]); 15] = [
        // Pure: bytes or text in, values out.
        ("units", &[]),
        ("elf", &[]),
        ("audit", &[]),
        ("document", &[]),
        // The edges: the only spawner, the only printer, where things are.
        ("process", &[]),
        ("ui", &[]),
        ("environment", &[]),
        ("git", &["environment", "process", "units"]),
        ("cargo_config", &["environment"]),
        ("workspace", &["cargo_config", "environment", "process", "units"]),
        // Programs that are built when first needed.
        ("toolkit", &["environment", "process", "ui", "workspace"]),
        // Images as such: no clock, no environment, no network, nothing of how they come to be.
        ("oci", &["units"]),
        ("inspect", &["audit", "elf", "oci"]),
        // From a definition to an image.
        (
            "image",
            &[
                "audit",
                "cargo_config",
                "document",
                "elf",
                "environment",
                "git",
                "oci",
                "process",
                "ui",
                "units",
                "workspace",
            ],
        ),
        (
            "cli",
            &[
                "dev",
                "environment",
                "git",
                "image",
                "inspect",
                "oci",
                "process",
                "toolkit",
                "ui",
                "units",
                "workspace",
            ],
        ),
    ];

    /// The same for the scale; what it uses of xtask's library is in [`SCALE_BORROWS`].
    const SCALE_USES: [(&str, &[&str]); 4] = [
        ("container", &["clock"]),
        ("generator", &["load"]),
        ("profile", &["clock", "container", "generator", "load"]),
        ("cli", &["container", "generator", "load", "profile"]),
    ];

    /// What the scale uses of xtask's library: never `image`, because anybody's image is weighed with the
    /// same command.
    const SCALE_BORROWS: [(&str, &[&str]); 4] = [
        ("container", &["oci", "process"]),
        ("generator", &["process"]),
        ("profile", &["audit", "document", "elf", "oci", "ui", "units"]),
        ("cli", &["document", "environment", "oci", "process", "ui", "units", "workspace"]),
    ];

    /// What only one part of the scale does.
    const SCALE_ONLY_IN: [(&str, &[&str], &[&str]); 2] = [
        ("decides on exit codes", &["ExitCode", "process::exit"], &["cli/", "main.rs"]),
        (
            "starts programs by itself",
            &["process::Command", "Command::new", "Stdio"],
            &["container/keeper.rs"],
        ),
    ];

    /// For the people of this workspace alone: may use every part but `cli`, and only `cli` uses it.
    const DEV: &str = "dev";

    /// What a part does by these words, and the only files or folders that do it. `dev/` measures and
    /// tests, so much is allowed to it.
    const ONLY_IN: [(&str, &[&str], &[&str]); 9] = [
        ("knows the command line", &["clap::"], &["cli/"]),
        ("decides on exit codes", &["ExitCode", "process::exit"], &["cli/", "main.rs"]),
        ("prints", &["print!", "println!", "eprint!", "eprintln!", "stdout()"], &["ui.rs"]),
        // A program that is started may get our own stderr.
        ("has stderr", &["stderr()"], &["ui.rs", "process.rs"]),
        ("starts programs", &["process::Command", "Command::new", "Stdio"], &["process.rs"]),
        (
            "reads TOML: definitions, and Cargo's own files",
            &["toml::"],
            &["document.rs", "cargo_config.rs", "image/reproducible.rs", "workspace.rs", "dev/"],
        ),
        (
            "reads the environment",
            &["env::var", "env::args", "env::current_dir", "env::home_dir", "available_parallelism"],
            // NO_COLOR counts for the message that the environment cannot be read, too.
            &["environment.rs", "cli/mod.rs"],
        ),
        (
            "finds itself and a place for temporary files, to run a second time",
            &["env::current_exe", "env::temp_dir"],
            &["image/reproducible.rs", "cli/scale.rs", "dev/"],
        ),
        (
            "looks at a clock: how long steps take, and which layer was used last",
            &["Instant", "SystemTime"],
            &["cli/image.rs", "image/assemble.rs", "image/cache.rs", "process.rs", "dev/"],
        ),
    ];

    /// Words that stand nowhere in a part.
    const NEVER_IN: [(&str, &[&str]); 4] = [
        ("units", &["std::fs", "fs::", "File", "std::env", "std::net", "std::time"]),
        ("elf", &["std::fs", "fs::", "File::", "std::env", "std::net", "std::time"]),
        ("audit", &["std::fs", "fs::", "File::", "std::env", "std::net", "std::time"]),
        ("oci", &["std::env", "env!", "std::net", "std::time", "thread::sleep", "process::"]),
    ];

    fn source(package: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package).join("src")
    }

    /// Every file of a package by its path from `src`, with its code.
    fn files(package: &str) -> BTreeMap<String, String> {
        fn walk(dir: &Path, at: &str, files: &mut BTreeMap<String, String>) {
            for entry in fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{at}{}", entry.file_name().to_string_lossy());
                if entry.path().is_dir() {
                    walk(&entry.path(), &format!("{name}/"), files);
                } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                    files.insert(name, code(&fs::read_to_string(entry.path()).unwrap()));
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(&source(package), "", &mut files);
        files
    }

    /// The text without comments, without what stands in strings, and without the tests at its end.
    fn code(text: &str) -> String {
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let mut code = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let length = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if let Some(length) = raw_string(rest) {
                // `r` may also end a name.
                length
            } else if first == '"' {
                string(rest)
            } else if first == '\'' {
                character(rest)
            } else {
                code.push(first);
                first.len_utf8()
            };
            rest = &rest[length..];
        }
        code
    }

    fn string(text: &str) -> usize {
        let mut escaped = false;
        for (at, c) in text.char_indices().skip(1) {
            match c {
                '"' if !escaped => return at + 1,
                _ => escaped = c == '\\' && !escaped,
            }
        }
        text.len()
    }

    fn raw_string(text: &str) -> Option<usize> {
        let marks = text.strip_prefix('r')?;
        let marks = marks.len() - marks.trim_start_matches('#').len();
        text[1 + marks..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(marks));
        let start = marks + 2;
        Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()))
    }

    /// A character in quotes, or else the quote of a lifetime.
    fn character(text: &str) -> usize {
        let inner = &text[1..];
        let end = match inner.strip_prefix('\\') {
            Some(escape) => escape.chars().next().and_then(|c| {
                let after = 1 + c.len_utf8();
                inner[after..].find('\'').map(|at| after + at)
            }),
            None => inner.chars().next().map(char::len_utf8).filter(|at| inner[*at..].starts_with('\'')),
        };
        end.map_or(1, |at| at + 2)
    }

    /// The part that a file belongs to.
    fn part(file: &str) -> &str {
        file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// The parts that a file uses, by `crate::…` and by `super::…`.
    fn used(file: &str, code: &str) -> BTreeSet<String> {
        let depth = file.matches('/').count() + usize::from(!file.ends_with("mod.rs"));
        let mut used = named_after(&["crate::", &"super::".repeat(depth)], code);
        used.remove(part(file));
        used
    }

    /// The names that follow one of these paths.
    fn named_after(prefixes: &[&str], code: &str) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        for prefix in prefixes {
            for (at, _) in code.match_indices(prefix) {
                let before = code[..at].chars().next_back();
                let is_whole = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$');
                if is_whole && !code[..at].ends_with("super::") {
                    used.extend(first_names(&code[at + prefix.len()..]));
                }
            }
        }
        used
    }

    /// `a` of `a::b`; `a` and `c` of `{a::b, c::{d, e}}`.
    fn first_names(path: &str) -> Vec<String> {
        let name =
            |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
        let mut names = Vec::new();
        let mut depth = 0;
        let mut starts = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => starts = true,
                c if starts && !c.is_whitespace() => {
                    names.push(name(&group[at..]));
                    starts = false;
                }
                _ => {}
            }
        }
        names
    }

    /// For every part, what `of` finds in its files.
    fn by_part(
        files: &BTreeMap<String, String>,
        of: impl Fn(&str, &str) -> BTreeSet<String>,
    ) -> BTreeMap<String, BTreeSet<String>> {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (file, code) in files {
            if file != "lib.rs" && file != "main.rs" {
                found.entry(part(file).to_owned()).or_default().extend(of(file, code));
            }
        }
        found
    }

    fn expected(table: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
        let row = |(part, uses): &(&str, &[&str])| {
            ((*part).to_owned(), uses.iter().map(|it| (*it).to_owned()).collect())
        };
        table.iter().map(row).collect()
    }

    #[test]
    fn every_part_uses_what_the_table_says() {
        let mut found = by_part(&files("xtask"), used);
        let of_dev = found.remove(DEV).unwrap_or_default();
        let expected = expected(&USES);
        assert_eq!(found, expected);
        let unknown: Vec<&String> =
            of_dev.iter().filter(|it| it.as_str() == "cli" || !expected.contains_key(*it)).collect();
        assert_eq!(unknown, Vec::<&String>::new(), "dev uses it");
    }

    #[test]
    fn every_part_of_the_scale_uses_what_the_tables_say() {
        let files = files("scale");
        assert_eq!(by_part(&files, used), expected(&SCALE_USES));
        let borrowed = by_part(&files, |_, code| named_after(&["xtask_tare::"], code));
        assert_eq!(borrowed, expected(&SCALE_BORROWS));
    }

    #[test]
    fn what_one_part_does_no_other_does() {
        done_only_in(&ONLY_IN, &files("xtask"));
        done_only_in(&SCALE_ONLY_IN, &files("scale"));
    }

    fn done_only_in(table: &[(&str, &[&str], &[&str])], files: &BTreeMap<String, String>) {
        for (does, words, places) in table {
            let doers: Vec<&String> = files
                .iter()
                .filter(|(_, code)| words.iter().any(|word| stands_in(word, code)))
                .map(|(file, _)| file)
                .filter(|file| !places.iter().any(|place| file.starts_with(place)))
                .collect();
            assert_eq!(doers, Vec::<&String>::new(), "only {places:?} {does}");
            for place in *places {
                let does_it = |(file, code): (&String, &String)| {
                    file.starts_with(place) && words.iter().any(|word| stands_in(word, code))
                };
                // `dev/` may, and need not.
                assert!(*place == "dev/" || files.iter().any(does_it), "{place} no longer {does}");
            }
        }
    }

    #[test]
    fn pure_parts_stay_pure() {
        let files = files("xtask");
        for (pure, words) in NEVER_IN {
            for (file, code) in files.iter().filter(|(file, _)| part(file) == pure) {
                let found: Vec<&&str> = words.iter().filter(|word| stands_in(word, code)).collect();
                assert_eq!(found, Vec::<&&str>::new(), "{file}");
            }
        }
    }

    /// Whether a word stands in the code, and not as the end of a longer one.
    fn stands_in(word: &str, code: &str) -> bool {
        code.match_indices(word)
            .any(|(at, _)| !code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_'))
    }

    #[test]
    fn the_reader_of_these_tests_sees_code_only() {
        let text = "a // crate::b\n\"crate::\\\"c\" r#\"crate::\"d\"# '\"' 'x 'e' '\\'' f\n#[cfg(test)] g";
        assert_eq!(code(text), "a \n   x   f\n");
        let cases: [(&str, &str, &[&str]); 6] = [
            ("oci/layer.rs", "use crate::units::Epoch; use super::digest;", &["units"]),
            ("oci/mod.rs", "use super::{elf, image::{a, b}, oci};", &["elf", "image"]),
            ("elf.rs", "use super::units; mycrate::x; crate::elf::y", &["units"]),
            (
                "image/definition/raw.rs",
                "super::super::rootfs super::super::super::process::Cmd",
                &["process"],
            ),
            (
                "cli/dev.rs",
                "use crate::dev;\nuse crate::{\n    ui::Ui,\n    workspace,\n};",
                &["dev", "ui", "workspace"],
            ),
            ("dev/bench/size.rs", "$crate::x", &[]),
        ];
        for (file, code, expected) in cases {
            let expected: BTreeSet<String> = expected.iter().map(|it| (*it).to_owned()).collect();
            assert_eq!(used(file, code), expected, "{file}");
        }
    }
}
