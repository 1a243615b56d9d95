//! The program of an image: built or fetched, stripped, and checked before it goes anywhere.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::cargo::{self, CargoError, CargoOptions, Invocation};
use super::definition::{Build, CargoBuild, Definition};
use super::libraries::{self, LibraryError};
use super::rootfs::Binary;
use crate::workspace::Workspace;
use tare_oci::audit::{self, AuditError};
use tare_oci::elf::{self, ElfError, Facts, Machine};
use tare_oci::entry::InMemory;
use tare_oci::input;
use tare_oci::platform::Platform;
use tare_oci::units::Epoch;
use tare_tool::environment::Environment;
use tare_tool::process::{Execute as _, ProcessError, cmd, shell_in};
use tare_tool::ui::Ui;

/// Why there is no program, or none that can be shipped.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// cargo did not build it.
    #[error("{0}")]
    Cargo(#[from] CargoError),
    /// The definition's command did not build it.
    #[error("image {image}: the build command did not succeed")]
    Command {
        /// The image.
        image: String,
        /// Why.
        source: ProcessError,
    },
    /// It cannot be read.
    #[error("image {image}: cannot read {path}", path = path.display())]
    Read {
        /// The image.
        image: String,
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no program for Linux.
    #[error("image {image}: {path}: {source}", path = path.display())]
    Elf {
        /// The image.
        image: String,
        /// The program.
        path: PathBuf,
        /// What it is instead.
        source: ElfError,
    },
    /// It needs other files to run.
    #[error("image {image} is not static: {path} needs {needs}", path = path.display())]
    Dynamic {
        /// The image.
        image: String,
        /// The program.
        path: PathBuf,
        /// The loader or the libraries.
        needs: String,
    },
    /// The libraries that it needs cannot be taken from this host.
    #[error("image {image}: {source}")]
    Libraries {
        /// The image.
        image: String,
        /// Which and why.
        source: LibraryError,
    },
    /// It is for another processor.
    #[error("image {image}: {path} is for {machine}, not for {platform}", path = path.display())]
    Machine {
        /// The image.
        image: String,
        /// The program.
        path: PathBuf,
        /// What it is for.
        machine: Machine,
        /// What it was to be for.
        platform: Platform,
    },
    /// The list of crates is not in the bytes that would be shipped.
    #[error("image {image}: the list of crates is not in {path}", path = path.display())]
    Unaudited {
        /// The image.
        image: String,
        /// The program.
        path: PathBuf,
        /// What is wrong with it, if it is there.
        source: Option<AuditError>,
    },
    /// The list of crates cannot be written.
    #[error("image {image}: {source}")]
    Audit {
        /// The image.
        image: String,
        /// Why.
        source: AuditError,
    },
}

impl BinaryError {
    /// Whether the build command, or a program that it starts, is not installed.
    #[must_use]
    pub fn is_missing_tool(&self) -> bool {
        // What a shell and env(1) end with for a program that is not there.
        const NOT_FOUND: Option<i32> = Some(127);
        match self {
            Self::Command { source: ProcessError::NotFound { .. }, .. } => true,
            Self::Command { source: ProcessError::Failed { status, .. }, .. } => status.code() == NOT_FOUND,
            _ => false,
        }
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
    /// Who talks.
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
) -> Result<Program, BinaryError> {
    match &definition.build {
        Build::Cargo(build) => of_cargo(context, definition, build, platform),
        Build::Command { command, output, libs } => {
            of_command(context, definition, command, output, *libs, platform)
        }
    }
}

fn of_cargo(
    context: BuildContext<'_>,
    definition: &Definition,
    build: &CargoBuild,
    platform: Platform,
) -> Result<Program, BinaryError> {
    let image = definition.name.clone();
    let BuildContext { workspace, env, ui, cargo, .. } = context;
    let selected = cargo::select(workspace, &image, build)?;
    let invocation = Invocation::new(workspace, env, build, &selected, platform, cargo)?;
    let built = invocation.run(ui)?;
    let path = built.executable;
    let section = match &built.audit {
        Some(crates) => match audit::encode(crates) {
            Ok(section) => Some(section),
            Err(source) => return Err(BinaryError::Audit { image, source }),
        },
        None => None,
    };
    let original = read(&image, &path)?;
    let elf_error = |source| BinaryError::Elf { image: image.clone(), path: path.clone(), source };
    check(&image, &path, &elf::facts(&original).map_err(elf_error)?, platform, definition.static_)?;
    let stripped = elf::strip(&original, section.as_deref()).map_err(elf_error)?;
    if build.audit {
        check_audit(&image, &path, &stripped)?;
    }
    let binary = Binary { name: selected.bin, bytes: InMemory::new(stripped), libraries: Vec::new() };
    Ok(Program { binary, unstripped: Some(path) })
}

fn of_command(
    context: BuildContext<'_>,
    definition: &Definition,
    command: &[String],
    output: &Path,
    libs: bool,
    platform: Platform,
) -> Result<Program, BinaryError> {
    let image = definition.name.clone();
    let library_error = |source| BinaryError::Libraries { image: definition.name.clone(), source };
    if libs {
        libraries::check_host(platform).map_err(library_error)?;
    }
    if let Some((program, arguments)) = command.split_first() {
        // The names of BuildKit's automatic build arguments, which such scripts know already.
        let failed = |source| BinaryError::Command { image: image.clone(), source };
        let sh = shell_in(&definition.dir).map_err(failed)?;
        let command = cmd!(sh, "{program} {arguments...}")
            .env("TARGETPLATFORM", platform.to_string())
            .env("TARGETOS", "linux")
            .env("TARGETARCH", platform.architecture())
            .env("SOURCE_DATE_EPOCH", context.created.seconds().to_string());
        let command = command.without_env(context.env.of_cargo_run());
        context.ui.status("Running", &command.to_string());
        // stdout is for the digest alone.
        command.run_with_input(|_| Ok(())).map_err(failed)?;
    }
    let path = definition.dir.join(output);
    let bytes = match command {
        // Nothing was run that could have chosen the file: a definition alone reads nothing outside.
        [] => {
            let inside = path.strip_prefix(&context.workspace.root).unwrap_or(&path);
            read_inside(&context.workspace.root, inside)
        }
        _ => input::read(&path),
    };
    let bytes =
        bytes.map_err(|source| BinaryError::Read { image: image.clone(), path: path.clone(), source })?;
    let mut libraries = Vec::new();
    match elf::facts(&bytes) {
        Ok(facts) => {
            check(&image, &path, &facts, platform, definition.static_)?;
            if libs {
                libraries = libraries::closure(&path, &facts).map_err(library_error)?;
            }
        }
        // A script with an interpreter of the image's own is a program as well.
        Err(source) if definition.static_ || libs => return Err(BinaryError::Elf { image, path, source }),
        Err(_) => {}
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Program { binary: Binary { name, bytes: InMemory::new(bytes), libraries }, unstripped: None })
}

fn read_inside(folder: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input::open_inside(folder, path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read(image: &str, path: &Path) -> Result<Vec<u8>, BinaryError> {
    input::read(path).map_err(|source| BinaryError::Read {
        image: image.to_owned(),
        path: path.to_path_buf(),
        source,
    })
}

fn check(
    image: &str,
    path: &Path,
    facts: &Facts,
    platform: Platform,
    static_: bool,
) -> Result<(), BinaryError> {
    let (image, path) = (image.to_owned(), path.to_path_buf());
    let right = match platform {
        Platform::LinuxAmd64 => Machine::Amd64,
        Platform::LinuxArm64 => Machine::Arm64,
    };
    if facts.machine != right {
        return Err(BinaryError::Machine { image, path, machine: facts.machine, platform });
    }
    if static_ && !facts.is_static() {
        let needs = match &facts.interpreter {
            Some(interpreter) => format!("the interpreter {interpreter}"),
            None => facts.needed.join(", "),
        };
        return Err(BinaryError::Dynamic { image, path, needs });
    }
    Ok(())
}

/// The check is made on the bytes that go into the layer, not on what was meant to be added: linkers
/// and strippers have lost the section without a word.
fn check_audit(image: &str, path: &Path, bytes: &[u8]) -> Result<(), BinaryError> {
    let lost = |source| BinaryError::Unaudited { image: image.to_owned(), path: path.to_path_buf(), source };
    let section = elf::audit_data(bytes).map_err(|source| BinaryError::Elf {
        image: image.to_owned(),
        path: path.to_path_buf(),
        source,
    })?;
    match audit::decode(section.ok_or_else(|| lost(None))?) {
        Ok(crates) if !crates.packages.is_empty() => Ok(()),
        Ok(_) => Err(lost(None)),
        Err(error) => Err(lost(Some(error))),
    }
}
