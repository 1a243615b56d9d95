//! What helps when cargo fails: found in what the compiler says and in what build scripts ask for.

use std::path::{Path, PathBuf};

use cargo_metadata::{BuildScript, CompilerMessage, PackageId};

use crate::image::crates::{Compiled, Tree};
use tare_oci::input;

/// What cargo says while it builds, as far as hints need it.
#[derive(Debug, Default)]
pub(super) struct Log {
    errors: String,
    scripts: Vec<Script>,
}

#[derive(Debug)]
struct Script {
    package: String,
    libraries: Vec<String>,
    out_dir: PathBuf,
}

/// Symbols of libgcc that C code gets by compiler built-ins and that Rust's own library does not have.
const LIBGCC: [&str; 6] =
    ["__cpu_model", "__cpu_indicator_init", "__cpu_features2", "__aarch64_", "__gcc_", "__float128"];

impl Log {
    /// Notes an error of the compiler.
    pub(super) fn message(&mut self, message: &CompilerMessage) {
        use cargo_metadata::diagnostic::DiagnosticLevel;
        if matches!(message.message.level, DiagnosticLevel::Error | DiagnosticLevel::Ice) {
            for part in std::iter::once(&message.message).chain(&message.message.children) {
                self.errors.push_str(&part.message);
                self.errors.push('\n');
            }
        }
    }

    /// Notes what a build script asks for.
    pub(super) fn script(&mut self, script: &BuildScript) {
        self.scripts.push(Script {
            package: package_name(&script.package_id),
            libraries: script.linked_libs.iter().map(ToString::to_string).collect(),
            out_dir: script.out_dir.clone().into(),
        });
    }

    /// What helps against an error of the linker.
    pub(super) fn hint(&self, target: &str) -> Option<String> {
        self.driver_argument(target).or_else(|| self.libgcc()).or_else(|| self.missing_library())
    }

    /// An argument for a compiler that links, where rust-lld links.
    fn driver_argument(&self, target: &str) -> Option<String> {
        let flag = between(&self.errors, "unknown argument '", "'")?;
        let passes =
            |script: &&Script| script.link_arguments().iter().any(|argument| argument.contains(flag));
        let from = match self.scripts.iter().find(passes) {
            Some(script) => format!("the build script of {} passes", script.package),
            None => "the link arguments have".to_owned(),
        };
        Some(format!(
            "{from} `{flag}`, which compilers understand and rust-lld does not: pass what a linker reads (`-Wl,-z,x` is \
             `-z x` there; `-rdynamic` and `-pthread` are not needed in a static program), or link with a compiler (not with musl-gcc, which \
             makes it dynamic): in .cargo/config.toml [target.{target}] linker = \"{}\"",
            linking_compiler(target)
        ))
    }

    fn libgcc(&self) -> Option<String> {
        let mut symbols =
            self.errors.split("undefined symbol: ").skip(1).filter_map(|rest| rest.lines().next());
        let symbol = symbols.find(|symbol| LIBGCC.iter().any(|known| symbol.starts_with(known)))?.trim();
        let rest = self.errors.split_once(symbol).map_or("", |(_, rest)| rest);
        let file = between(rest, "referenced by ", "\n").map(str::trim).unwrap_or("C code");
        let of = |script: &&Script| rest.contains(&*script.out_dir.to_string_lossy());
        let package = self.scripts.iter().find(of).map(|script| format!(" of {}", script.package));
        Some(format!(
            "`{symbol}` is in libgcc, the C compiler's own library, which is not linked, and {file}{} refers to it: compile \
             that C without it (no __builtin_cpu_supports; CFLAGS=-mno-outline-atomics for arm64), if the crate has a \
             feature for that",
            package.unwrap_or_default()
        ))
    }

    fn missing_library(&self) -> Option<String> {
        let library = between(&self.errors, "unable to find library -l", "\n")
            .or_else(|| between(&self.errors, "could not find native static library `", "`"))?
            .trim();
        let links = |script: &&Script| {
            script.libraries.iter().any(|known| known.rsplit(['=', ':']).next() == Some(library))
        };
        let package = self.scripts.iter().find(links).map(|script| format!(" that {} links", script.package));
        Some(format!(
            "the library `{library}`{} is in no folder that a build script names, and folders of this system are not \
             searched, because what is in them is not built for musl: use a feature of the crate that compiles the library \
             (often called `vendored`, `bundled` or `static`)",
            package.unwrap_or_default()
        ))
    }
}

impl Script {
    /// The arguments for the linker in what the script printed.
    fn link_arguments(&self) -> Vec<String> {
        // cargo keeps it beside OUT_DIR.
        let file = self.out_dir.parent().map(|dir| dir.join("output"));
        let printed = file.and_then(|file| input::read_to_string(&file).ok()).unwrap_or_default();
        let lines = printed
            .lines()
            .filter_map(|line| line.strip_prefix("cargo:"))
            .map(|line| line.trim_start_matches(':'));
        lines
            .filter(|line| line.starts_with("rustc-link-arg"))
            .filter_map(|line| line.split_once('=').map(|(_, argument)| argument.to_owned()))
            .collect()
    }
}

/// A compiler that links a static program with the C library that Rust brings along. musl-gcc is none: it makes a
/// position-independent program a dynamic one.
pub(crate) fn linking_compiler(target: &str) -> String {
    let arch = target.split('-').next().unwrap_or_default();
    if arch == std::env::consts::ARCH { "cc".to_owned() } else { format!("{arch}-linux-gnu-gcc") }
}

/// What helps where the build script of openssl-sys found no OpenSSL.
pub(super) fn openssl(compiled: &Compiled, tree: &Tree, root: &PackageId) -> Option<String> {
    if !compiled.is_waiting_for("openssl-sys") || tree.needs("openssl-sys", "openssl-src") {
        return None;
    }
    let path = tree.path(root, "openssl-sys").unwrap_or_default();
    let from = match path.as_slice() {
        [.., first, _] if path.len() > 2 => format!(", which {first} needs (through {})", path.join(" → ")),
        _ => String::new(),
    };
    let by = path
        .get(1)
        .filter(|name| !name.starts_with("openssl"))
        .map(|name| format!("; or turn on rustls in place of native-tls in the features of {name}"));
    Some(format!(
        "openssl-sys{from} looks for an OpenSSL of this system, which is not one for musl, so that installing more does not \
         help: add `openssl = {{ version = \"0.10\", features = [\"vendored\"] }}` to your dependencies, which compiles it (with a C \
         compiler for musl, perl and make){}",
        by.unwrap_or_default()
    ))
}

/// A hint for a folder that cargo cannot write to.
pub(super) fn unwritable(target_dir: &Path) -> Option<String> {
    let existing = target_dir.ancestors().find(|dir| dir.exists())?;
    tare_tool::private::FreshFolder::create(existing, ".tare-").err()?;
    Some(format!("{} cannot be written: set CARGO_TARGET_DIR to a folder that can be", target_dir.display()))
}

fn package_name(id: &PackageId) -> String {
    crate::image::crates::name(id)
}

/// What stands between two texts.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}
