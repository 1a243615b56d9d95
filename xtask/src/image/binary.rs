//! The program of an image: built or taken as it is, stripped, and checked before it is packed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::cargo::{self, Built, CargoOptions, Invocation};
use super::definition::{Build, CargoBuild, Definition};
use super::leaks::{self, Leak};
use super::libraries::{self, LibraryError};
use super::rootfs::Binary;
use crate::workspace::Workspace;
use tare_oci::audit;
use tare_oci::elf::{self, ElfError, Facts, Machine};
use tare_oci::entry::InMemory;
use tare_oci::input;
use tare_oci::platform::Platform;
use tare_oci::units::Epoch;
use tare_tool::environment::Environment;
use tare_tool::exit::Hinted;
use tare_tool::process::{Execute as _, ProcessError, cmd, shell_in};
use tare_tool::ui::Ui;

/// Whether a program could not be built because the build command, or a program that it starts, is not installed.
#[must_use]
pub fn is_missing_tool(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref().is_some_and(is_missing))
}

fn is_missing(error: &ProcessError) -> bool {
    // The exit code of a shell and of env(1) for a program that does not exist.
    const NOT_FOUND: Option<i32> = Some(127);
    match error {
        ProcessError::NotFound { .. } => true,
        ProcessError::Failed { status, .. } => status.code() == NOT_FOUND,
        _ => false,
    }
}

/// A program that is ready to be shipped.
#[derive(Debug, Clone)]
pub struct Program {
    /// The bytes of the image, stripped.
    pub binary: Binary,
    /// The same program with its symbols, if there were any to keep.
    pub unstripped: Option<PathBuf>,
}

/// What every step that builds needs.
#[derive(Debug, Clone, Copy)]
pub struct BuildContext<'a> {
    /// The workspace.
    pub workspace: &'a Workspace,
    /// The environment.
    pub env: &'a Environment,
    /// The output.
    pub ui: Ui,
    /// The time that everything gets.
    pub created: Epoch,
    /// How cargo is called.
    pub cargo: CargoOptions,
}

/// Builds the program for a platform, and checks it.
///
/// # Errors
/// When it cannot be built, or must not be shipped.
pub fn program(
    context: BuildContext<'_>,
    definition: &Definition,
    platform: Platform,
) -> anyhow::Result<Program> {
    match &definition.build {
        Build::Cargo(build) => of_cargo(context, definition, build, platform),
        Build::Command { command, output, libs } => {
            let program = of_command(context, definition, command, output, *libs, platform);
            program.with_context(|| format!("image {}", definition.name))
        }
    }
}

fn of_cargo(
    context: BuildContext<'_>,
    definition: &Definition,
    build: &CargoBuild,
    platform: Platform,
) -> anyhow::Result<Program> {
    let BuildContext { workspace, env, ui, cargo, .. } = context;
    let selected = cargo::select(workspace, &definition.name, build)?;
    let of_image = || format!("image {}", definition.name);
    let invocation =
        Invocation::new(workspace, env, build, &selected, platform, cargo).with_context(of_image)?;
    if let Some(cpu) = invocation.special_cpu() {
        ui.warning(&format!("image {}: {}", definition.name, special_cpu(&cpu, platform)));
    }
    let built = invocation.run(ui)?;
    let stripped = strip(&built, definition, platform).with_context(of_image)?;
    if let Some(Leak { path, section }) = leaks::first(&stripped, &invocation.own_folders()) {
        ui.warning(&format!(
            "image {}: the program contains a path of this machine, {path}, in {section}: it differs from folder to \
             folder (a build script that writes paths into the program, or `env!` of one)",
            definition.name
        ));
    }
    let binary = Binary { name: selected.bin, bytes: InMemory::new(stripped), libraries: Vec::new() };
    Ok(Program { binary, unstripped: Some(built.executable) })
}

/// What it means for an image that its program is compiled for some processors alone.
fn special_cpu(cpu: &str, platform: Platform) -> String {
    match cpu {
        "native" => format!(
            "target-cpu=native: the program runs on processors like this machine's alone, though the image says {platform}, \
             and is another one on every other kind of machine"
        ),
        cpu => format!(
            "target-cpu={cpu}: the program does not run on every processor, though the image says {platform}"
        ),
    }
}

/// The program as it is shipped: without symbols, and with the list of its crates.
fn strip(built: &Built, definition: &Definition, platform: Platform) -> anyhow::Result<Vec<u8>> {
    let path = &built.executable;
    let section = built.audit.as_ref().map(audit::encode).transpose()?;
    let original = input::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let facts = elf::program(&original).map_err(|error| not_elf(path, &error))?;
    check(path, &facts, platform, definition)?;
    let stripped = elf::strip(&original, section.as_deref()).map_err(|error| not_elf(path, &error))?;
    if section.is_some() {
        check_audit(path, &stripped)?;
    }
    Ok(stripped)
}

fn of_command(
    context: BuildContext<'_>,
    definition: &Definition,
    command: &[String],
    output: &Path,
    libs: bool,
    platform: Platform,
) -> anyhow::Result<Program> {
    let library_error = |error: LibraryError| Hinted::new(error.to_string(), error.hint).because(error);
    if libs {
        libraries::check_host(platform).map_err(library_error)?;
    }
    if let Some((program, arguments)) = command.split_first() {
        // The names of BuildKit's automatic build arguments, which such scripts know already.
        let sh = shell_in(&definition.dir)?;
        let command = cmd!(sh, "{program} {arguments...}")
            .env("TARGETPLATFORM", platform.to_string())
            .env("TARGETOS", "linux")
            .env("TARGETARCH", platform.architecture())
            .env("SOURCE_DATE_EPOCH", context.created.seconds().to_string())
            .without_env(context.env.of_cargo_run())
            .envs(context.env.offline());
        context.ui.status("Running", &command.to_string());
        // stdout is for the digest alone.
        let failed = "the build command did not succeed";
        command.run_with_input(|_| Ok(())).map_err(|error| {
            match command_hint(definition, program, &error) {
                Some(hint) => Hinted::new(failed, hint).because(error).into(),
                None => anyhow::Error::new(error).context(failed),
            }
        })?;
    }
    let path = definition.dir.join(output);
    let bytes = match command {
        [] => prebuilt(context.workspace, definition, output)?,
        _ => input::read(&path).with_context(|| format!("cannot read {}", path.display()))?,
    };
    let mut libraries = Vec::new();
    match elf::program(&bytes) {
        Ok(facts) => {
            check(&path, &facts, platform, definition)?;
            if libs {
                libraries = libraries::closure(&path, &facts).map_err(library_error)?;
            }
        }
        // A script with an interpreter of the image's own is a program as well.
        Err(error) if definition.static_ || libs || matches!(error, ElfError::NotAProgram(_)) => {
            return Err(not_elf(&path, &error).into());
        }
        Err(_) => {}
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Program { binary: Binary { name, bytes: InMemory::new(bytes), libraries }, unstripped: None })
}

/// The program of a definition without a build command. Nothing was run that could have chosen the file: a definition
/// alone reads nothing outside the workspace.
///
/// # Errors
/// When the file cannot be read.
pub fn prebuilt(workspace: &Workspace, definition: &Definition, output: &Path) -> anyhow::Result<Vec<u8>> {
    let (path, root) = (definition.dir.join(output), &workspace.root);
    let bytes = input::read_inside(root, path.strip_prefix(root).unwrap_or(&path));
    bytes.with_context(|| format!("cannot read {}", path.display()))
}

/// What to do where the build command could not be started, or did not find a program.
fn command_hint(definition: &Definition, program: &str, error: &ProcessError) -> Option<String> {
    let is_path = program.contains('/');
    let file = definition.dir.join(program);
    let in_definition = format!("`command` under [build] in images/{}/image.toml", definition.name);
    match error {
        ProcessError::NotFound { .. } if is_path && file.exists() => {
            Some(format!("install the interpreter that the first line of {program} names"))
        }
        ProcessError::NotFound { .. } if is_path => Some(format!(
            "there is no {}: correct {in_definition}, whose paths begin in that folder",
            file.display()
        )),
        ProcessError::NotFound { .. } => Some(format!("install {program}, or correct {in_definition}")),
        ProcessError::Failed { .. } if is_missing(error) => {
            Some("install the program that the build command did not find".to_owned())
        }
        ProcessError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            Some(format!("make it executable: chmod +x {}", file.display()))
        }
        _ => None,
    }
}

fn not_elf(path: &Path, error: &ElfError) -> Hinted {
    let hint = match error {
        ElfError::NotAProgram(_) => {
            "name the executable that a linker makes for Linux, in `output` under [build]"
        }
        _ => "set `static = false` under [build] if the program is a script",
    };
    Hinted::new(format!("{}: {error}", path.display()), hint)
}

fn check(path: &Path, facts: &Facts, platform: Platform, definition: &Definition) -> Result<(), Hinted> {
    let path = path.display();
    let right = match platform {
        Platform::LinuxAmd64 => Machine::Amd64,
        Platform::LinuxArm64 => Machine::Arm64,
    };
    if facts.machine != right {
        return Err(Hinted::new(
            format!("{path} is for {}, not for {platform}", facts.machine),
            "the build command finds the platform asked for in TARGETARCH",
        ));
    }
    if definition.static_ && !facts.is_static() {
        let needs = match &facts.interpreter {
            Some(interpreter) => format!("the interpreter {interpreter}"),
            None => facts.needed.join(", "),
        };
        let hint = match &definition.build {
            // Our flags ask for a static program.
            Build::Cargo(_) => format!(
                "the linker of your cargo configuration made a dynamic program; musl-gcc does so: remove it, or name a \
                 compiler that does not: in .cargo/config.toml [target.{target}] linker = \"{compiler}\", or add \
                 \"-Crelocation-model=static\" to its rustflags",
                target = platform.target(),
                compiler = cargo::linking_compiler(platform.target()),
            ),
            Build::Command { .. } => {
                "build for a *-linux-musl target with crt-static, or set `libs = \"auto\"` under \
                [build] to take the libraries of this host, or `static = false` and bring them along"
                    .to_owned()
            }
        };
        let message = format!("image {} is not static: {path} needs {needs}", definition.name);
        return Err(Hinted::new(message, hint));
    }
    Ok(())
}

/// The check is made on the bytes that go into the layer, not on what was meant to be added: linkers
/// and strippers have lost the section without a word.
fn check_audit(path: &Path, bytes: &[u8]) -> Result<(), Hinted> {
    let lost = || {
        let hint = "set `audit = false` under [build] if the image is to go without";
        Hinted::new(format!("the list of crates is not in {}", path.display()), hint)
    };
    let section = elf::audit_data(bytes).map_err(|error| not_elf(path, &error))?;
    let crates = audit::decode(section.ok_or_else(lost)?).map_err(|error| lost().because(error))?;
    if crates.packages.is_empty() { Err(lost()) } else { Ok(()) }
}
