//! Layouts and archives with one thing wrong: what `inspect --validate` says of each is held against what skopeo and
//! umoci say, which share no code with it.
//!
//! It may be stricter for the reasons that are listed here, and more lenient for none but those. No command may take
//! more time or memory than is bounded, and none shows a file of the host.

mod generate;

use std::fs;
use std::path::Path;

use self::generate::{Case, Form, cases};
use crate::lab::context::Context;
use tare_tool::process::{Execute as _, ProcessError, cmd};

/// Which images are made; another seed makes others.
const SEED: u64 = 0x7a11_e5ee_d000_0015;
/// For one command, in seconds and in KiB of address space (`ulimit -v`).
const TIME: &str = "20";
const MEMORY: &str = "2000000";
/// What no output may hold.
const SECRET: &str = "hunter2-is-the-secret-of-the-host";

/// Parts of our messages where the others see nothing wrong, and why it is refused all the same.
const STRICTER: &[(&str, &str)] = &[
    ("missing field `", "the specification requires it"),
    ("invalid value: integer, expected u64", "a size is not negative; skopeo takes -1 for an unknown one"),
    ("mediaType is `", "other programs take the document for what it says (CVE-2021-41190)"),
    ("the index says ", "a program that chooses by the index gets an image for something else"),
    (
        "is no number, or none that it can be",
        "pax numbers have no sign, and Python and GNU tar read others than Go",
    ),
    (" stands twice for one entry", "some programs take the first, others the last"),
    ("is empty", "POSIX removes the name with it, Go keeps that of the header"),
    ("two pax headers for one entry", "some programs take the first, others the last"),
    ("an extended header without an entry", "the archive was cut"),
    ("its long name of GNU's differ", "some programs take the one, others the other"),
    ("the path has a `..` component", "where it leads depends on the program"),
    ("the path stands twice in one layer", "the specification has one entry for each path"),
    (" stands twice in it", "some programs take the first, others the last"),
    (" leads out of the archive", "an archive has no business with files of the host"),
];

/// Parts of others' messages where we see nothing wrong, and why it is accepted all the same.
const MORE_LENIENT: &[(&str, &str)] = &[
    (
        "blob is not correct mediatype: application/vnd.oci.image.layer.v1.tar+zstd",
        "umoci 0.4.7 knows no zstd",
    ),
    (
        "unknown typeflag '\\x67'",
        "docker passes over the comment that `git archive` writes; umoci knows no such entry",
    ),
    (
        "no matching entries in passwd file",
        "who a user is by name is the container's concern, not the image's form",
    ),
];

/// What a tool said.
struct Verdict {
    is_valid: bool,
    says: String,
}

/// Every image in turn.
pub(super) fn verdicts(context: &Context<'_>) -> anyhow::Result<()> {
    let folder = context.new_folder("mutations")?;
    let secret = folder.join("secret");
    fs::write(&secret, SECRET)?;
    let cases = cases(SEED)?;
    let (mut wrong, mut valid) = (Vec::new(), 0);
    for (number, case) in cases.iter().enumerate() {
        let place = folder.join(number.to_string());
        case.write(&place, &secret)?;
        let own = ours(context, &place)?;
        valid += usize::from(own.is_valid);
        let others = theirs(context, case, &place)?;
        // skopeo looks into neither configurations nor layers: what all of them take is stricter here.
        let agrees = match own.is_valid {
            true => others.iter().all(|(_, other)| other.is_valid || is_listed(MORE_LENIENT, &other.says)),
            false => others.iter().any(|(_, other)| !other.is_valid) || is_listed(STRICTER, &own.says),
        };
        if !agrees {
            let word = |verdict: &Verdict| if verdict.is_valid { "valid" } else { "refused" };
            let all: Vec<String> = std::iter::once(&("inspect --validate", own))
                .chain(&others)
                .map(|(tool, verdict)| format!("    {tool}: {}: {}", word(verdict), verdict.says.trim()))
                .collect();
            wrong.push(format!("{}\n{}", case.name, all.join("\n")));
        }
        if place.is_dir() { fs::remove_dir_all(&place)? } else { fs::remove_file(&place)? }
    }
    context.ui.status("Compared", &format!("{} images, {valid} of them valid", cases.len()));
    anyhow::ensure!(wrong.is_empty(), "verdicts that differ:\n  {}", wrong.join("\n  "));
    Ok(())
}

fn is_listed(list: &[(&str, &str)], says: &str) -> bool {
    list.iter().any(|(part, _)| says.contains(part))
}

/// The verdict of `inspect --validate`. Its output must not contain the secret of the host.
fn ours(context: &Context<'_>, place: &Path) -> anyhow::Result<Verdict> {
    let (sh, program) = (&context.sh, &context.program);
    let mut verdict = None;
    for mode in ["--files", "--json", "--validate"] {
        let script = "ulimit -v \"$1\"; shift; exec timeout \"$@\" 2>&1";
        let (code, output) = cmd!(sh, "sh -c {script} sh {MEMORY} {TIME} {program} inspect {mode} {place}")
            .capture_with_code()?;
        let says = String::from_utf8_lossy(&output).into_owned();
        anyhow::ensure!(matches!(code, Some(0..=2)), "inspect {mode} ended with {code:?}: {says}");
        anyhow::ensure!(!says.contains(SECRET), "inspect {mode} shows a file of the host: {says}");
        verdict = Some(Verdict { is_valid: code == Some(0), says });
    }
    verdict.ok_or_else(|| anyhow::anyhow!("inspect was not run"))
}

/// What the others say. umoci reads layouts alone.
fn theirs(context: &Context<'_>, case: &Case, place: &Path) -> anyhow::Result<Vec<(&'static str, Verdict)>> {
    let (sh, out) = (&context.sh, place.with_extension("out"));
    let judged = |result: Result<Vec<u8>, ProcessError>| match result {
        Ok(_) => Ok(Verdict { is_valid: true, says: String::new() }),
        Err(ProcessError::Failed { stderr, .. }) => Ok(Verdict { is_valid: false, says: stderr }),
        Err(error) => Err(error),
    };
    let clean = || if out.exists() { fs::remove_dir_all(&out) } else { Ok(()) };
    let transport = if case.form == Form::Layout { "oci" } else { "oci-archive" };
    let (from, to) = (format!("{transport}:{}", place.display()), format!("oci:{}:x", out.display()));
    let copied = cmd!(sh, "timeout {TIME} skopeo --insecure-policy copy --quiet {from} {to}").capture();
    let mut verdicts = vec![("skopeo", judged(copied)?)];
    clean()?;
    if case.form == Form::Layout {
        let image = format!("{}:latest", place.display());
        let unpacked = cmd!(sh, "timeout {TIME} umoci unpack --image {image} {out}").capture();
        verdicts.push(("umoci", judged(unpacked)?));
        clean()?;
    }
    Ok(verdicts)
}
