//! Writes YAML with comments. Output only: nothing of tare reads YAML.
//!
//! No crate for YAML keeps a comment beside a value, and a comment beside each number is what these manifests are
//! for. Strings are plain where every reader takes them for strings, and else in double quotes (YAML 1.2, 7.3.1).

use std::fmt::Write as _;

/// A value with the comment that stands beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    value: Value,
    comment: Option<String>,
}

/// What a manifest consists of.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A string.
    Text(String),
    /// A whole number.
    Number(u64),
    /// `true` or `false`.
    Boolean(bool),
    /// A mapping.
    Map(Map),
    /// A sequence.
    List(Vec<Node>),
}

/// A mapping that keeps the order in which its keys were set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map(Vec<(String, Node)>);

impl Map {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no key was set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// With one more key.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, node: impl Into<Node>) -> Self {
        self.0.push((key.into(), node.into()));
        self
    }

    /// With one more key, if there is a value for it.
    #[must_use]
    pub fn set_some(self, key: impl Into<String>, node: Option<impl Into<Node>>) -> Self {
        match node {
            Some(node) => self.set(key, node),
            None => self,
        }
    }
}

impl Node {
    /// With a comment beside it. Line breaks and other control characters become spaces.
    #[must_use]
    pub fn comment(self, text: impl Into<String>) -> Self {
        Self { comment: Some(one_line(&text.into())), ..self }
    }
}

impl<T: Into<Value>> From<T> for Node {
    fn from(value: T) -> Self {
        Self { value: value.into(), comment: None }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl<T: Into<Node>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

/// The text of a file: comment lines at its top, then the documents.
#[must_use]
pub fn file(header: &[String], documents: &[Map]) -> String {
    let mut out = String::new();
    for line in header {
        let _ = writeln!(out, "# {}", one_line(line));
    }
    for (at, document) in documents.iter().enumerate() {
        if at > 0 {
            out.push_str("---\n");
        }
        write_map(&mut out, document, 0);
    }
    out
}

fn write_map(out: &mut String, map: &Map, indent: usize) {
    for (key, node) in &map.0 {
        let _ = write!(out, "{:indent$}{}:", "", scalar(key));
        write_node(out, node, indent + 2);
    }
}

/// Writes what comes after the colon of a key; nested values are indented by `indent`.
fn write_node(out: &mut String, node: &Node, indent: usize) {
    match &node.value {
        Value::Map(map) if !map.0.is_empty() => {
            end_line(out, node);
            write_map(out, map, indent);
        }
        Value::List(items) if !items.is_empty() => {
            end_line(out, node);
            for item in items {
                write_item(out, item, indent);
            }
        }
        value => {
            let _ = write!(out, " {}", inline(value));
            end_line(out, node);
        }
    }
}

fn write_item(out: &mut String, item: &Node, indent: usize) {
    match &item.value {
        Value::Map(map) if !map.0.is_empty() => {
            if let Some(comment) = &item.comment {
                let _ = writeln!(out, "{:indent$}# {comment}", "");
            }
            let mut text = String::new();
            write_map(&mut text, map, indent + 2);
            // The first key stands on the line of the dash.
            let _ = write!(out, "{:indent$}- {}", "", text.trim_start());
        }
        value => {
            let _ = write!(out, "{:indent$}- {}", "", inline(value));
            end_line(out, item);
        }
    }
}

fn end_line(out: &mut String, node: &Node) {
    match &node.comment {
        Some(comment) => {
            let _ = writeln!(out, "  # {comment}");
        }
        None => out.push('\n'),
    }
}

/// A value on one line. No manifest has a list in a list.
fn inline(value: &Value) -> String {
    match value {
        Value::Text(text) => scalar(text),
        Value::Number(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Map(map) => {
            let pairs: Vec<String> =
                map.0.iter().map(|(key, node)| format!("{}: {}", scalar(key), inline(&node.value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| inline(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
    }
}

/// A string, plain or in double quotes.
fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            ' '..='~' => quoted.push(character),
            other => {
                let _ = write!(quoted, "\\U{:08x}", u32::from(other));
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Whether every reader of YAML 1.1 and 1.2 takes the text for this string. Narrower than the specification on purpose.
fn is_plain(text: &str) -> bool {
    // Words that are booleans or null to some reader (YAML 1.1, "Language-Independent Types").
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let is_quantity = || {
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
        unit.len() < text.len() && ["m", "Mi", "Gi", "s", "ms"].contains(&unit)
    };
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:@=+".contains(c))
        && !text.ends_with(':')
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    is_word || is_quantity()
}

/// A text without control characters and line breaks of any kind, so that what a report holds stays in its comment.
fn one_line(text: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    text.chars().map(|c| if breaks(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> serde_json::Value {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn comments_stand_beside_their_values() {
        let port = Map::new().set("name", "http").set("port", Node::from(80_u16).comment("from the image"));
        let document = Map::new()
            .set("kind", "Service")
            .set("empty", Map::new())
            .set("none", Vec::<Node>::new())
            .set("ports", Node::from(vec![Node::from(port).comment("the only one")]).comment("all"))
            .set("args", vec!["--flag", "500m", "1e3", "no"])
            .set_some("absent", None::<&str>);
        let text = file(&["two\nlines".to_owned()], &[document.clone(), Map::new().set("a", true)]);
        assert_eq!(
            text,
            "# two lines\nkind: Service\nempty: {}\nnone: []\nports:  # all\n  # the only one\n  - name: http\n    \
             port: 80  # from the image\nargs:\n  - \"--flag\"\n  - 500m\n  - \"1e3\"\n  - \"no\"\n---\na: true\n"
        );
        let expected = json!({
            "kind": "Service", "empty": {}, "none": [], "ports": [{"name": "http", "port": 80}],
            "args": ["--flag", "500m", "1e3", "no"]
        });
        assert_eq!(read(&file(&[], &[document])), expected);
    }

    proptest! {
        /// Any text as a value, a key and a comment is read back as that text, and changes nothing around it.
        #[test]
        fn any_text_is_read_back(text in any::<String>(), words in "[ a-z0-9:#'\"{}\\[\\],&*!|>%@`~?-]{0,12}") {
            for text in [text, words] {
                let node = || Node::from(text.as_str()).comment(text.as_str());
                let document = Map::new().set("value", node()).set(format!("k{text}"), node()).set("list", vec![node()]);
                let mut expected = json!({"value": text, "list": [text]});
                expected[format!("k{text}")] = json!(text);
                prop_assert_eq!(read(&file(std::slice::from_ref(&text), &[document])), expected);
            }
        }
    }
}
