//! The file: TOML, of which settings need no more than names and single values. Pure: text goes in.

use toml_parser::parser::{Event, EventKind, RecursionGuard, parse_document};
use toml_parser::{ParseError, Source, decoder::ScalarKind};

/// Lists in lists are no setting at any depth, and reading them must not use up the stack.
const DEEPEST: u32 = 16;

/// `name = value`, or whatever else names something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment<'a> {
    pub(super) name: String,
    /// The text that the setting's own reader takes; none for tables, lists and what else no setting is.
    pub(super) value: Option<String>,
    /// The value as it stands in the file.
    pub(super) written: &'a str,
    /// Where the name begins, in bytes.
    pub(super) at: usize,
}

/// Reads the assignments in their order.
///
/// # Errors
/// With the place in bytes and what is wrong, when it is no TOML, or names something twice.
pub(super) fn assignments(text: &str) -> Result<Vec<Assignment<'_>>, (usize, String)> {
    let source = Source::new(text);
    let tokens: Vec<_> = source.lex().collect();
    let mut found: Vec<Assignment<'_>> = Vec::new();
    let (mut syntax, mut scalars) = (None, None);
    // How deep in lists and tables of one line; where the outermost begins.
    let (mut depth, mut begun) = (0_usize, 0);
    // A name continues behind a dot.
    let mut dotted = false;
    let mut receive = |event: Event| {
        let span = event.span();
        let raw = || source.get(event);
        match event.kind() {
            EventKind::SimpleKey if depth == 0 => {
                let mut name = String::new();
                if let Some(raw) = raw() {
                    raw.decode_key(&mut name, &mut |error: ParseError| {
                        keep(&mut scalars, &error, span.start());
                    });
                }
                match found.last_mut().filter(|_| dotted) {
                    Some(last) => {
                        last.name.push('.');
                        last.name.push_str(&name);
                    }
                    None => {
                        found.push(Assignment { name, value: None, written: "", at: span.start() });
                    }
                }
                dotted = false;
            }
            EventKind::KeySep if depth == 0 => dotted = true,
            EventKind::Scalar if depth == 0 => {
                let mut value = String::new();
                let kind = raw().map(|raw| {
                    raw.decode_scalar(&mut value, &mut |error: ParseError| {
                        keep(&mut scalars, &error, span.start());
                    })
                });
                if let Some(last) = found.last_mut() {
                    last.written = text.get(span.start()..span.end()).unwrap_or_default();
                    last.value = match kind {
                        Some(ScalarKind::String) => Some(value),
                        // As it is written, so that no other notation of a number is taken.
                        Some(ScalarKind::Integer(_) | ScalarKind::Boolean(_)) => {
                            Some(last.written.to_owned())
                        }
                        _ => None,
                    };
                }
            }
            EventKind::ArrayOpen | EventKind::InlineTableOpen => {
                if depth == 0 {
                    begun = span.start();
                }
                depth += 1;
            }
            EventKind::ArrayClose | EventKind::InlineTableClose => {
                depth = depth.saturating_sub(1);
                if let Some(last) = found.last_mut().filter(|_| depth == 0) {
                    last.written = text.get(begun..span.end()).unwrap_or_default();
                }
            }
            _ => {}
        }
    };
    let mut guarded = RecursionGuard::new(&mut receive, DEEPEST);
    parse_document(&tokens, &mut guarded, &mut |error: ParseError| keep(&mut syntax, &error, 0));
    if let Some(error) = syntax.or(scalars) {
        return Err(error);
    }
    for (number, assignment) in found.iter().enumerate() {
        if found[..number].iter().any(|before| before.name == assignment.name) {
            return Err((assignment.at, format!("{:?} is set twice", assignment.name)));
        }
    }
    Ok(found)
}

/// The first error is the one that matters.
fn keep(first: &mut Option<(usize, String)>, error: &ParseError, otherwise: usize) {
    if first.is_none() {
        let at = error.unexpected().or(error.context()).map_or(otherwise, |span| span.start());
        // The parser's message may go over several lines.
        *first = Some((at, error.description().split_ascii_whitespace().collect::<Vec<_>>().join(" ")));
    }
}
