//! `publish`: what is checked before something is built, and what is done with it afterwards.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use oci_spec::distribution::Reference;
use tare_oci::reference::is_version;
use tare_oci::units::ByteSize;
use tare_tool::environment::Environment;
use tare_tool::exit::{self, Hinted, Outcome};
use tare_tool::plan::{self, Plan, Wanted, WantedImages};
use tare_tool::ui::Ui;

use super::bar::Bar;
use super::interrupt::TAGGING;
use super::origin::Origin;
use super::{Connection, Session};
use crate::artifacts;
use crate::ci::{Ci, Outputs, Trigger, write_github};
use crate::content::Content;
use crate::error::Error;
use crate::measured::{FoundReport, attached_reports, check_gates};
use crate::proof::{Proof, Signer, attach_reports, bundle, merge, prove, reuse};
use crate::publish::{Options, Published, destination, publish, to_json, to_markdown};
use crate::reference::is_tag;
use crate::registry::{Access, Repository};
use crate::settings::Settings;
use crate::sign::{SigningKey, short_digest};
use crate::tags::{Naming, Tag, of_ci};
use crate::workspace::{Workspace, changed_files};

#[derive(Debug, Args)]
pub(super) struct PublishArguments {
    /// The image of the workspace, which is built first; with --from, only what the image is called
    #[arg(value_name = "NAME", required_unless_present = "check_referrers")]
    name: Option<String>,
    /// Publish this layout, archive or image of a registry as it is
    #[arg(long, value_name = "PATH|REFERENCE", conflicts_with = "join")]
    from: Option<String>,
    /// Publish one index of the images in these layouts or archives, one for each platform
    #[arg(long, value_name = "PATH", num_args = 1..)]
    join: Vec<PathBuf>,
    /// Publish here; without a tag, those of CI or --tag [default: `repositories` of image.toml, else CI's registry]
    #[arg(long, value_name = "HOST/REPOSITORY[:TAG]")]
    to: Vec<String>,
    /// Give this tag instead of CI's, such as 1.2.0 or :1.2.0
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Take blobs that this repository has from there, where it is in the same registry
    #[arg(long, value_name = "HOST/REPOSITORY")]
    mount_from: Option<String>,
    /// Let the tag of a version move from another image
    #[arg(long)]
    move_tag: bool,
    /// Ask the registry what it lacks, print what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Publish what was built from files that are not committed
    #[arg(long)]
    allow_dirty: bool,
    /// Publish an image whose gates failed, or which a required profile has not measured
    #[arg(long)]
    allow_failed_gates: bool,
    /// Attach this report.json of the image, beside those in target/profiles/NAME
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    /// Attach SBOMs and provenance as referrers, as is done for images that are built here
    #[arg(long, conflicts_with = "no_proof")]
    proof: bool,
    /// Attach none
    #[arg(long, conflicts_with = "sign_key")]
    no_proof: bool,
    /// Sign with this unencrypted P-256 key in PKCS#8 and PEM, as sigstore bundles
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
    /// Attach this sigstore bundle about the image, as `cosign attest --bundle` wrote it
    #[arg(long, value_name = "FILE")]
    bundle: Vec<PathBuf>,
    /// Write the image, what is attached to it, publish.json and SHA256SUMS into this folder
    #[arg(long, value_name = "FOLDER")]
    artifacts: Option<PathBuf>,
    /// Compare the referrers of this image with those in the folder of --artifacts, and restore what is missing; with
    /// --dry-run only say so, and exit with 1
    #[arg(long, value_name = "REFERENCE", requires = "artifacts")]
    #[arg(conflicts_with_all = ["name", "from", "join", "to", "tag", "report", "sign_key", "bundle", "json"])]
    check_referrers: Option<String>,
    /// Print publish.json
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) connection: Connection,
}

impl PublishArguments {
    /// The image's name; it is left out only where nothing is published.
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Whether xtask builds the image.
    fn is_built(&self) -> bool {
        self.from.is_none() && self.join.is_empty()
    }
}

/// The first step: everything that can be refused before something is built.
pub(super) fn make_plan(
    arguments: &PublishArguments,
    root: &Path,
    file: &Path,
    ui: Ui,
) -> anyhow::Result<Outcome> {
    let env = Environment::read()?;
    let quiet = arguments.connection.quiet;
    if arguments.check_referrers.is_some() {
        plan::write(
            file,
            &Wanted { images: WantedImages::None, pulled: vec![], baseline: None, keeper: false, quiet },
        )?;
        return Ok(Outcome::Done);
    }
    let ci = Ci::read(&env)?;
    destinations(arguments, &Settings::read(root, arguments.name())?, ci.as_ref())?;
    if let Naming::Nothing(why) = naming(arguments, ci.as_ref(), None)?
        && !has_own_tags(arguments)
    {
        ui.status("Nothing", &format!("to publish: {why}"));
        return Ok(Outcome::Done);
    }
    let mut images = WantedImages::None;
    if arguments.is_built() {
        images = WantedImages::Named(vec![arguments.name().to_owned()]);
        let changed = if arguments.allow_dirty { vec![] } else { changed_files(root)? };
        if let [first, ..] = changed.as_slice() {
            bail!(
                "{} files are not committed, such as `{}` (--allow-dirty overrides)",
                changed.len(),
                first.trim()
            );
        }
    }
    plan::write(file, &Wanted { images, pulled: vec![], baseline: None, keeper: false, quiet })?;
    Ok(Outcome::Done)
}

/// Publishes, to each destination whatever becomes of the others.
pub(super) fn run(arguments: &PublishArguments, plan: Option<&Plan>, ui: Ui) -> anyhow::Result<Outcome> {
    let session = &Session::new(&arguments.connection, ui)?;
    if let (Some(reference), Some(folder)) = (&arguments.check_referrers, &arguments.artifacts) {
        return super::referrers::check(reference, folder, arguments.dry_run, session);
    }
    let ci = Ci::read(&session.env)?;
    let name = arguments.name();
    let settings =
        plan.map(|plan| Settings::read(&plan.workspace.root, name)).transpose()?.unwrap_or_default();
    let is_release = ci.as_ref().is_some_and(|ci| matches!(ci.trigger, Trigger::Tag(_)));
    let workspace = match plan {
        // Joined images were built from this workspace, too.
        Some(plan) if arguments.from.is_none() || is_release => {
            Some(Workspace::read(&plan.workspace.root, &session.env)?)
        }
        _ => None,
    };
    let package = settings.package.as_deref().unwrap_or(name);
    let version = workspace.as_ref().and_then(|workspace| workspace.version(package));
    let destinations = destinations(arguments, &settings, ci.as_ref())?;
    let naming = naming(arguments, ci.as_ref(), version)?;
    if let (Naming::Nothing(why), false) = (&naming, has_own_tags(arguments)) {
        ui.status("Nothing", &format!("to publish: {why}"));
        return Ok(Outcome::Done);
    }
    let origin = Origin::new(arguments.from.as_deref(), &arguments.join, plan)?;
    let mount_from =
        arguments.mount_from.as_deref().map(destination).transpose()?.map(|(reference, _)| reference);
    let of_source = origin.reference();
    let hosts = destinations.iter().map(|(reference, _)| reference).chain(of_source);
    session.check_login(hosts.map(Reference::registry))?;

    let source = of_source.map(|reference| session.open(reference, Access::Pull, None)).transpose()?;
    let content = origin.content(source.as_ref())?;
    let reports = reports(arguments, plan, &content, source.as_ref(), ui)?;
    check_reports(arguments, &settings, &content, &reports, ui)?;
    let workspace = workspace.filter(|_| arguments.from.is_none()).map(|mut workspace| {
        let of_host = std::mem::take(&mut workspace.build);
        workspace.build =
            if settings.is_cargo_build { origin.build(of_host) } else { Origin::unknown(of_host) };
        workspace
    });
    let key = arguments.sign_key.as_deref().map(SigningKey::read).transpose()?;
    let signer = Signer {
        key: key.as_ref(),
        build: workspace.as_ref().map(|workspace| &workspace.build),
        ci: ci.as_ref(),
        reports: &reports,
    };
    let mut proofs = proofs(arguments, &content, workspace.as_ref(), signer)?;
    let mut results = Vec::new();
    for (reference, tag) in &destinations {
        // Blobs of an image that is promoted within a registry are not sent.
        let mount = [mount_from.as_ref(), of_source].into_iter().flatten();
        let mut mount =
            mount.filter(|from| from.registry() == reference.registry()).map(Reference::repository);
        let mount = mount.find(|from| *from != reference.repository());
        let naming = tag.as_ref().map_or_else(|| naming.clone(), |tag| Naming::Tags(vec![tag.clone()]));
        let options = Options {
            mount_from: mount,
            move_tags: arguments.move_tag,
            dry_run: arguments.dry_run,
            tagging: Some(&TAGGING),
        };
        let bar = Bar::new("Sending", ui);
        let result = session.open(reference, Access::Push, mount).and_then(|repository| {
            // The same digests go to every repository.
            if results.is_empty() {
                reuse(&mut proofs, &repository, key.as_ref())?;
            }
            publish(&content, &repository, &naming, &proofs, options, &bar)
        });
        bar.finish();
        let name = format!("{}/{}", reference.registry(), reference.repository());
        match &result {
            Ok(published) => {
                report(published, content.root().descriptor.digest().as_ref(), arguments.dry_run, ui);
            }
            Err(error) => ui.error(&format!("{name}: {}", one_line(error)), error.hint().as_deref()),
        }
        results.push((name, result));
    }
    let failed = results.iter().filter(|(_, result)| result.is_err()).count();
    finish(arguments, session, &content, &proofs, &results, &origin.copies(name))?;
    if failed > 0 {
        bail!("{failed} of {} repositories do not have the image", results.len());
    }
    Ok(Outcome::Done)
}

/// The reports of the image's profiles: of files, and of the registry that it comes from. What is in a folder beside
/// others and cannot be used is a warning.
fn reports(
    arguments: &PublishArguments,
    plan: Option<&Plan>,
    content: &Content<'_>,
    source: Option<&Repository>,
    ui: Ui,
) -> anyhow::Result<Vec<FoundReport>> {
    let is_own = |found: &FoundReport| {
        content.manifests().any(|image| image.descriptor.digest().as_ref() == found.report.target.digest)
    };
    let read = |path: &Path| -> anyhow::Result<FoundReport> {
        let bytes = tare_oci::input::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(FoundReport::parse(path.to_path_buf(), bytes)?)
    };
    let mut found = Vec::new();
    for path in &arguments.report {
        let one = read(path)?;
        if !is_own(&one) {
            bail!("{} is about another image: {}", path.display(), one.report.target.digest);
        }
        found.push(one);
    }
    if let Some(plan) = plan {
        let folder = plan.workspace.target_dir.join("profiles").join(arguments.name());
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path().join("report.json")).collect();
        paths.retain(|path| path.is_file());
        paths.sort();
        for path in paths {
            match read(&path) {
                Ok(one) if is_own(&one) => found.push(one),
                Ok(_) => {}
                Err(error) => ui.warning(&format!("left out: {}", exit::chain(&error))),
            }
        }
    }
    if let Some(source) = source {
        found.extend(attached_reports(source, content)?);
    }
    // The same report may be in several places.
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|one| seen.insert(one.bytes.clone()));
    Ok(found)
}

/// Refuses what the profile forbids, unless that is overridden.
fn check_reports(
    arguments: &PublishArguments,
    settings: &Settings,
    content: &Content<'_>,
    reports: &[FoundReport],
    ui: Ui,
) -> anyhow::Result<()> {
    let images: Vec<&str> = content.manifests().map(|image| image.descriptor.digest().as_ref()).collect();
    match check_gates(&images, &settings.required_profiles, reports) {
        Err(error) if arguments.allow_failed_gates => ui.warning(&format!("{error} (--allow-failed-gates)")),
        result => result?,
    }
    Ok(())
}

/// The error with its causes.
fn one_line(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Prints the result and hands it to the next steps.
fn finish(
    arguments: &PublishArguments,
    session: &Session,
    content: &Content<'_>,
    proofs: &[Proof],
    results: &[(String, Result<Published, Error>)],
    copies: &[(String, PathBuf)],
) -> anyhow::Result<()> {
    let digest = content.root().descriptor.digest();
    let json = to_json(content, proofs, results);
    let published: Vec<&Published> = results.iter().filter_map(|(_, result)| result.as_ref().ok()).collect();
    let tags = published.iter().flat_map(|published| {
        published.pushed.tags.iter().map(|moved| format!("{}:{}", published.repository, moved.tag))
    });
    let tags: Vec<String> = tags.collect();
    if arguments.json {
        session.ui.result(&serde_json::to_string_pretty(&json)?)?;
    } else if !arguments.dry_run {
        for name in published.iter().map(|published| &published.repository) {
            session.ui.result(&format!("{name}@{digest}"))?;
        }
    }
    if arguments.dry_run {
        return Ok(());
    }
    let outputs = Outputs {
        repositories: published.iter().map(|published| published.repository.clone()).collect(),
        digest: digest.to_string(),
        tags,
        json: json.to_string(),
        summary: to_markdown(arguments.name(), &json),
    };
    if let Some(folder) = &arguments.artifacts {
        artifacts::write(folder, content, proofs, &json, copies)?;
    }
    write_github(&session.env, &outputs)?;
    Ok(())
}

/// What is attached to the image.
fn proofs(
    arguments: &PublishArguments,
    content: &Content<'_>,
    workspace: Option<&Workspace>,
    signer: Signer<'_>,
) -> anyhow::Result<Vec<Proof>> {
    let mut proofs = Vec::new();
    if !arguments.no_proof && (arguments.proof || signer.key.is_some() || workspace.is_some()) {
        let mut images = content.facts()?;
        if let Some(workspace) = workspace {
            images.iter_mut().for_each(|image| workspace.packages.complete(&mut image.crates));
        }
        proofs = prove(arguments.name(), content, &images, signer)?;
    }
    if !arguments.no_proof {
        merge(&mut proofs, attach_reports(arguments.name(), content, signer.reports));
    }
    let root = &content.root().descriptor;
    let mut bundles = Vec::new();
    for path in &arguments.bundle {
        let bytes = tare_oci::input::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let stem = format!("{}-{}", arguments.name(), short_digest(&bytes));
        bundles.push(bundle(root, &stem, bytes).with_context(|| path.display().to_string())?);
    }
    if !bundles.is_empty() {
        merge(&mut proofs, vec![Proof { subject: root.clone(), artifacts: bundles }]);
    }
    Ok(proofs)
}

fn report(published: &Published, digest: &str, dry_run: bool, ui: Ui) {
    let Published { repository, pushed, .. } = published;
    let bytes = ByteSize(pushed.sent.iter().map(oci_spec::image::Descriptor::size).sum());
    let verb = if dry_run { "Would send" } else { "Sent" };
    let mounted = if pushed.mounted > 0 { format!(", {} mounted", pushed.mounted) } else { String::new() };
    ui.status(verb, &format!("{} blobs, {bytes}{mounted}, to {repository}", pushed.sent.len()));
    for moved in &pushed.tags {
        let before = match &moved.before {
            None => "new".to_owned(),
            Some(before) if before.as_ref() == digest => "unchanged".to_owned(),
            Some(before) => format!("from {before}"),
        };
        let verb = if dry_run { "Would tag" } else { "Tagged" };
        ui.status(verb, &format!("{repository}:{} ({before})", moved.tag));
    }
}

/// Where to: as asked, else as image.toml has it, else CI's own registry.
fn destinations(
    arguments: &PublishArguments,
    settings: &Settings,
    ci: Option<&Ci>,
) -> anyhow::Result<Vec<(Reference, Option<Tag>)>> {
    if let Some(version) = arguments.to.iter().find(|to| is_version(to.trim_start_matches(':'))) {
        let tag = version.trim_start_matches(':');
        let hint =
            format!("name the repository, --to HOST/REPOSITORY:{tag}, or give the tag with --tag {tag}");
        return Err(Hinted::new(format!("--to {version} is a version and names no repository"), hint).into());
    }
    let stated = if arguments.to.is_empty() { &settings.repositories } else { &arguments.to };
    if !stated.is_empty() {
        return Ok(stated.iter().map(|text| destination(text)).collect::<Result<_, _>>()?);
    }
    let Some(ci) = ci else {
        bail!(
            "nothing says where to publish: name a repository with --to HOST/REPOSITORY, or in image.toml with `[publish] repositories = […]`"
        )
    };
    let Some(repository) = &ci.repository else {
        bail!(
            "CI_REGISTRY_IMAGE is not set: the project's registry is off; name another with --to HOST/REPOSITORY"
        )
    };
    Ok(vec![destination(repository)?])
}

/// Whether each destination has its tag.
fn has_own_tags(arguments: &PublishArguments) -> bool {
    let has_tag = |text: &String| destination(text).is_ok_and(|(_, tag)| tag.is_some());
    !arguments.to.is_empty() && arguments.to.iter().all(has_tag)
}

/// Which tags: as asked, else as CI's run has it.
fn naming(arguments: &PublishArguments, ci: Option<&Ci>, version: Option<&str>) -> anyhow::Result<Naming> {
    // As `cargo xtask image --tag :1.2` has it.
    let tags: Vec<&str> = arguments.tag.iter().map(|tag| tag.strip_prefix(':').unwrap_or(tag)).collect();
    if let Some(bad) = tags.iter().find(|tag| !is_tag(tag)) {
        let message = format!(
            "`{bad}` is no tag: up to 128 letters, digits, `_`, `.` and `-`, not beginning with the last two"
        );
        return Err(match bad.rsplit_once(':') {
            Some((name, tag)) if is_tag(tag) => {
                let hint = format!(
                    "--tag names the tag alone; the repository is --to {name}, or --to {bad} for both"
                );
                Hinted::new(message, hint).into()
            }
            _ => anyhow::Error::msg(message),
        });
    }
    if !tags.is_empty() {
        return Ok(Naming::Tags(tags.into_iter().map(Tag::named).collect()));
    }
    if has_own_tags(arguments) {
        return Ok(Naming::Nothing("every destination has its tag"));
    }
    let Some(ci) = ci else {
        let at = arguments.to.first().map_or("HOST/REPOSITORY", String::as_str);
        let hint =
            format!("name it with --tag TAG, or in --to {at}:TAG; only runs of CI have tags of their own");
        return Err(Hinted::new("no tag is given for the image", hint).into());
    };
    Ok(of_ci(ci, arguments.name(), version)?)
}
