//! Names and texts out of images, fit for a line of a message.

/// The text with an escape in place of every character that could move a terminal's cursor, end the line, or turn the
/// order of what is read. Bytes that are not UTF-8 are replaced.
///
/// The escapes are those of JSON.
#[must_use]
pub fn shown(text: impl AsRef<[u8]>) -> String {
    let mut shown = String::new();
    for c in String::from_utf8_lossy(text.as_ref()).chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if is_invisible(c) => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown
}

/// Control characters, and those without a shape of their own that order or join others (Unicode, "Bidi_Control").
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_cannot_write_to_the_terminal() {
        let text = "a\x1b[31m\u{9b}b\r\n\té \u{202e}txt";
        assert_eq!(shown(text), "a\\u001b[31m\\u009bb\\r\\n\\té \\u202etxt");
        assert_eq!(shown(b"\xff"), "\u{fffd}");
    }
}
