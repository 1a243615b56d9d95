//! The command line: the only part that knows clap and exit codes.
//!
//! 0: done. 1: a check of referrers said no. 2: it could not be done. 130: interrupted; tags are moved last, and those of
//! a repository all or none.
//!
//! xtask calls `publish` in the two steps of [`tare_tool::plan`]: `plan` checks what needs nothing built, and `run` does
//! the work. Called directly, without a plan, the image is named with `--from`.

mod bar;
mod interrupt;
mod origin;
mod publish;
mod referrers;

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use oci_spec::distribution::Reference;
use tare_oci::shown::shown;
use tare_oci::units::ByteSize;
use tare_tool::cache::pulled_name;
use tare_tool::environment::{self, Environment};
use tare_tool::exit::{self, Outcome};
use tare_tool::plan::{self, Plan, Step};
use tare_tool::ui::Ui;

use self::bar::Bar;
use self::publish::PublishArguments;
use crate::content::{Content, platform_name};
use crate::credentials::{Credential, Keychain, Secret};
use crate::error::Error;
use crate::measured::{FoundReport, attached_reports};
use crate::pull::pull;
use crate::reference::{ReferenceError, parse};
use crate::referrers::{Referrer, describe};
use crate::registry::{Access, Repository};
use crate::{HttpOptions, Proxies};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Push an image to registries and move their tags
    Publish(PublishArguments),
    /// Fetch an image into an OCI layout
    Pull(PullArguments),
    /// Print the digests of images in registries; for `cargo xtask update`
    #[command(hide = true)]
    Digest(DigestArguments),
    /// List what refers to an image: SBOMs, provenance, signatures
    Referrers(ReferrersArguments),
}

impl Command {
    fn connection(&self) -> &Connection {
        match self {
            Self::Publish(arguments) => &arguments.connection,
            Self::Pull(arguments) => &arguments.connection,
            Self::Digest(arguments) => &arguments.connection,
            Self::Referrers(arguments) => &arguments.connection,
        }
    }
}

#[derive(Debug, Args)]
struct Connection {
    /// Trust the certificates in this file, too
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Speak to this host without TLS; loopback hosts are spoken to so without --ca-file
    #[arg(long, value_name = "HOST[:PORT]")]
    plain_http: Vec<String>,
    /// Log in as this user, to the one registry of this call
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    username: Option<String>,
    /// Read the password from stdin
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Print only results, warnings and errors
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Args)]
struct PullArguments {
    /// The image
    #[arg(value_name = "REFERENCE")]
    reference: String,
    /// Where the layout is written
    #[arg(long, short, value_name = "FOLDER", required_unless_present = "cache")]
    output: Option<PathBuf>,
    /// Write the layout into this folder, named by the digest, and print where it is; for xtask
    #[arg(long, value_name = "FOLDER", hide = true, conflicts_with = "output")]
    cache: Option<PathBuf>,
    /// Write the reports of the image beside the layout, too; for xtask
    #[arg(long, hide = true, requires = "cache")]
    reports: bool,
    /// The image of an index that is for this platform
    #[arg(long, value_name = "OS/ARCHITECTURE[/VARIANT]")]
    platform: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
struct DigestArguments {
    /// The images
    #[arg(value_name = "REFERENCE", required = true)]
    references: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
struct ReferrersArguments {
    /// The image
    #[arg(value_name = "REFERENCE")]
    reference: String,
    #[command(flatten)]
    connection: Connection,
}

/// Runs with the arguments and environment of the process.
#[must_use]
pub fn main() -> ExitCode {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (step, own) = Step::of(&words);
    let name = environment::command();
    let all = std::iter::once(OsString::from(name)).chain(own.iter().cloned());
    let matches = Arguments::command().name(name).bin_name(name).get_matches_from(all);
    let command = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command;
    let ui = Ui::new(command.connection().quiet, no_colour);
    let run = || match (&command, &step) {
        (Command::Publish(arguments), Step::Plan { plan, workspace }) => {
            publish::make_plan(arguments, workspace, plan, ui)
        }
        (Command::Publish(arguments), Step::Run { plan }) => {
            plan::read::<Plan>(plan).and_then(|plan| publish::run(arguments, Some(&plan), ui))
        }
        (Command::Publish(arguments), Step::Alone) => publish::run(arguments, None, ui),
        (Command::Pull(arguments), _) => run_pull(arguments, ui),
        (Command::Digest(arguments), _) => run_digest(arguments, ui),
        (Command::Referrers(arguments), _) => run_referrers(arguments, ui),
    };
    exit::code(interrupt::handle(ui).and_then(|()| run()), ui, hint)
}

fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<Error>() {
        return error.hint();
    }
    let reference = cause.downcast_ref::<ReferenceError>().map(|error| error.hint().to_owned());
    reference.or_else(|| exit::hint(cause))
}

/// What every command uses.
struct Session {
    env: Environment,
    keychain: Keychain,
    has_login: bool,
    http: HttpOptions,
    ui: Ui,
}

impl Session {
    fn new(connection: &Connection, ui: Ui) -> anyhow::Result<Self> {
        let env = Environment::read()?;
        let given = match &connection.username {
            None => None,
            Some(user) => {
                let mut password = String::new();
                std::io::stdin()
                    .take(1 << 16)
                    .read_to_string(&mut password)
                    .context("cannot read the password")?;
                let password = Secret::new(password.trim_end_matches(['\r', '\n']).to_owned());
                Some(Credential::Basic { user: user.clone(), password })
            }
        };
        let has_login = given.is_some();
        let http = HttpOptions {
            ca_file: connection.ca_file.clone(),
            plain_http: connection.plain_http.clone(),
            proxies: Proxies::read(&env)?,
            ..HttpOptions::default()
        };
        Ok(Self { keychain: Keychain::new(env.clone(), given), env, has_login, http, ui })
    }

    fn open(
        &self,
        reference: &Reference,
        access: Access,
        mount_from: Option<&str>,
    ) -> Result<Repository, Error> {
        let warn = |text: String| self.ui.warning(&text);
        Repository::open(reference, access, mount_from, &self.keychain, &self.http, &warn)
    }

    /// A password is for one registry.
    fn check_login<'a>(&self, hosts: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
        let mut hosts: Vec<&str> = hosts.collect();
        hosts.sort_unstable();
        hosts.dedup();
        if self.has_login && hosts.len() > 1 {
            bail!("--username is for one registry, but this call uses {}", hosts.join(" and "));
        }
        Ok(())
    }
}

fn run_pull(arguments: &PullArguments, ui: Ui) -> anyhow::Result<Outcome> {
    let session = &Session::new(&arguments.connection, ui)?;
    let reference = parse(&arguments.reference)?;
    let repository = session.open(&reference, Access::Pull, None)?;
    let wanted = reference.digest().or(reference.tag()).unwrap_or("latest");
    let bar = Bar::new("Fetching", session.ui);
    let platform = arguments.platform.as_deref();
    let mut folder = arguments.output.clone();
    if let Some(cache) = &arguments.cache {
        let absent = || anyhow::anyhow!("{} has no image {wanted}", repository.name());
        let digest = repository.head_manifest(wanted)?.ok_or_else(absent)?;
        folder = Some(cache.join(pulled_name(digest.as_ref(), platform)));
    }
    let Some(folder) = folder else { bail!("name a folder with --output") };
    let pulled = pull(&repository, wanted, platform, &folder, &bar);
    bar.finish();
    let pulled = pulled?;
    if arguments.reports {
        let content = Content::open(&folder)?;
        write_reports(&folder, &attached_reports(&repository, &content)?)?;
    }
    session.ui.status("Pulled", &format!("{} into {}", ByteSize(pulled.fetched), folder.display()));
    match arguments.cache {
        Some(_) => session.ui.result(&folder.display().to_string())?,
        None => session.ui.result(&format!("{}@{}", repository.name(), pulled.digest))?,
    }
    Ok(Outcome::Done)
}

/// Writes reports beside a layout. Those of an earlier pull are removed: the registry may have others now.
fn write_reports(layout: &Path, reports: &[FoundReport]) -> anyhow::Result<()> {
    let folder = plan::reports(layout);
    let cannot = || format!("cannot write {}", folder.display());
    tare_tool::cache::remove(&folder).with_context(cannot)?;
    std::fs::create_dir_all(&folder).with_context(cannot)?;
    for (at, found) in reports.iter().enumerate() {
        std::fs::write(folder.join(format!("{at}.json")), &found.bytes).with_context(cannot)?;
    }
    Ok(())
}

/// Prints the digests to which references lead now, each in a line.
fn run_digest(arguments: &DigestArguments, ui: Ui) -> anyhow::Result<Outcome> {
    let session = &Session::new(&arguments.connection, ui)?;
    let references = arguments.references.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
    session.check_login(references.iter().map(Reference::registry))?;
    for reference in &references {
        let repository = session.open(reference, Access::Pull, None)?;
        let wanted = reference.digest().or(reference.tag()).unwrap_or("latest");
        let Some(digest) = repository.head_manifest(wanted)? else {
            bail!("{} has no image {wanted}", repository.name())
        };
        session.ui.result(digest.as_ref())?;
    }
    Ok(Outcome::Done)
}

fn run_referrers(arguments: &ReferrersArguments, ui: Ui) -> anyhow::Result<Outcome> {
    let session = &Session::new(&arguments.connection, ui)?;
    let reference = parse(&arguments.reference)?;
    let repository = session.open(&reference, Access::Pull, None)?;
    let wanted = reference.digest().or(reference.tag()).unwrap_or("latest");
    // Reports and SBOMs refer to the image of one platform, provenance to the index of all.
    for document in Content::fetch_documents(&repository, wanted)? {
        let platform = document.descriptor.platform().as_ref().map(platform_name);
        let of = platform.map(|platform| format!(" of {platform}")).unwrap_or_default();
        for referrer in describe(&repository, document.descriptor.digest())? {
            let Referrer { descriptor, artifact_type, annotations } = referrer;
            let (digest, size) = (descriptor.digest(), ByteSize(descriptor.size()));
            session.ui.result(&shown(format!("{digest} {artifact_type} {size}{of}")))?;
            for (key, value) in annotations.iter().filter(|(key, _)| key.starts_with("tare.")) {
                session.ui.result(&shown(format!("  {key} {value}")))?;
            }
        }
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
