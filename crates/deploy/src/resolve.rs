//! `tare://NAME` in YAML that people wrote becomes a reference with a digest. The rest of the text stays as it is:
//! comments, anchors, a template's braces.

use std::collections::BTreeSet;

/// What stands before an image's name.
const SCHEME: &str = "tare://";

/// The images that a text names, outside lines of comment.
#[must_use]
pub fn names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let _ = replace(text, |name| {
        names.insert(name.to_owned());
        None
    });
    names
}

/// The text with every `tare://NAME` replaced for which there is a reference, outside lines of comment.
#[must_use]
pub fn replace(text: &str, mut reference: impl FnMut(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let mut rest = line;
        while let Some(at) = rest.find(SCHEME).filter(|_| !line.trim_start().starts_with('#')) {
            let (before, name) = (&rest[..at], &rest[at + SCHEME.len()..]);
            let end =
                name.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(name.len());
            out.push_str(before);
            match reference(&name[..end]).filter(|_| end > 0) {
                Some(reference) => out.push_str(&reference),
                None => out.push_str(&rest[at..at + SCHEME.len() + end]),
            }
            rest = &name[end..];
        }
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_references_and_everything_else_stays() {
        let text = "# image: tare://other\r\nimage: tare://app # ours, not tare://app:v1\n{{ x }}: \"tare://app_2.x\"\ntare://";
        assert_eq!(names(text), ["", "app", "app_2.x"].map(str::to_owned).into());
        let replaced = replace(text, |name| (name != "app_2.x").then(|| format!("r/{name}@sha256:00")));
        assert_eq!(
            replaced,
            "# image: tare://other\r\nimage: r/app@sha256:00 # ours, not r/app@sha256:00:v1\n{{ x }}: \"tare://app_2.x\"\ntare://"
        );
    }
}
