//! The only place that prints: results on stdout, everything else on stderr.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};

/// The output of a command.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    quiet: bool,
    colour: bool,
}

const RESET: &str = "\x1b[0m";
const BOLD_GREEN: &str = "\x1b[1;92m";
const BOLD_YELLOW: &str = "\x1b[1;93m";
const BOLD_RED: &str = "\x1b[1;91m";
const BOLD_CYAN: &str = "\x1b[1;96m";

impl Ui {
    /// Colour only on a terminal, and not when NO_COLOR is set (no-color.org).
    #[must_use]
    pub fn new(quiet: bool, no_colour: bool) -> Self {
        Self { quiet, colour: !no_colour && std::io::stderr().is_terminal() }
    }

    /// Whether only results, warnings and errors are printed.
    #[must_use]
    pub fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Whether stderr takes colours.
    #[must_use]
    pub fn is_coloured(self) -> bool {
        self.colour
    }

    /// Text of another program that ends with its own line feed. A progress bar on the terminal makes room for it.
    pub fn relay(self, text: &str) {
        let room = if std::io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
        let _ = write!(std::io::stderr().lock(), "{room}{text}");
    }

    fn say(self, start: &str, text: &str) {
        // An error means that stderr is closed, and then it cannot be reported.
        let _ = writeln!(std::io::stderr().lock(), "{start}{}", visible(text));
    }

    fn coloured(self, colour: &str, text: &str) -> String {
        if self.colour { format!("{colour}{text}{RESET}") } else { text.to_owned() }
    }

    /// A step in cargo's form: a verb, right-aligned in twelve columns, and its object.
    pub fn status(self, verb: &str, what: &str) {
        if !self.quiet {
            self.say(&self.coloured(BOLD_GREEN, &format!("{verb:>12}")), &format!(" {what}"));
        }
    }

    /// Text of several lines that belongs to a step.
    pub fn block(self, text: &str) {
        if !self.quiet {
            self.say("", text);
        }
    }

    /// A warning.
    pub fn warning(self, text: &str) {
        self.say(&self.coloured(BOLD_YELLOW, "warning"), &format!(": {text}"));
    }

    /// An error with its hint.
    pub fn error(self, text: &str, hint: Option<&str>) {
        self.say(&self.coloured(BOLD_RED, "error"), &format!(": {text}"));
        if let Some(hint) = hint {
            self.say(&self.coloured(BOLD_CYAN, "hint"), &format!(": {hint}"));
        }
    }

    /// Says that a signal ends the command. On a terminal the line replaces the progress bar of cargo.
    pub fn interrupted(self) {
        self.relay("");
        self.error("interrupted", None);
    }

    /// The result.
    ///
    /// # Errors
    /// When stdout cannot be written, which must not look like success.
    pub fn result(self, text: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{}", visible(text)).and_then(|()| out.flush()) {
            // `… | head` has read all it wants.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

/// The text with an escape in place of what could write elsewhere in a terminal, change its state, or turn the order
/// of what is read: names in messages come from images, servers and repositories of others. Lines and tabs stay. The
/// escapes are those of JSON, whose documents keep their meaning.
fn visible(text: &str) -> Cow<'_, str> {
    let is_visible = |c: char| match c {
        '\n' | '\t' => true,
        // Unicode's Bidi_Control, and what has no shape.
        '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => false,
        c => !c.is_control(),
    };
    if text.chars().all(is_visible) {
        return text.into();
    }
    let escaped = |c: char| if is_visible(c) { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) };
    text.chars().map(escaped).collect::<String>().into()
}

/// A table without borders, indented to line up with [`Ui::status`]; the columns named in `right` are
/// aligned to the right.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
    let lines = table.lines().map(|line| format!("  {}", line.trim_end())).collect::<Vec<_>>();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_cannot_write_to_the_terminal() {
        assert_eq!(visible("a\tb\né"), "a\tb\né");
        assert_eq!(visible("a\x1b[31m\u{9b}b\r \u{202e}"), "a\\u001b[31m\\u009bb\\u000d \\u202e");
    }
}
