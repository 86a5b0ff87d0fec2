//! YAML documents as a tree in which every key and value knows its place.
//!
//! The build script reads the detections with this module too, so it depends on nothing but [`Span`]. The tree is made of
//! the parser's events (`compose`); what a scalar means is told in `scalar`.

mod compose;
#[cfg(test)]
mod oracle;
mod scalar;

use granit_parser::{ErrorKind, Parser, ScanError};

use super::span::Span;
use compose::{Composer, span_of};

/// The longest file that is read. It holds more than ten thousand rules; what is longer is no rule file.
pub const MAX_FILE_BYTES: usize = 32 << 20;

/// A value and its place.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Node {
    /// Where it is written (of an alias: where the alias stands).
    pub span: Span,
    /// What is written.
    pub value: Value,
    /// How many characters stand between `span` and the text if the text stands in the file as it is.
    verbatim: Option<u32>,
}

/// A YAML value.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false` (`yes`, `no`, `on` and `off` are text, as in YAML 1.2).
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order written.
    Map(Vec<Entry>),
}

/// A number with its spelling: `1.50` and `1.5` are one number, but not one text.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Number {
    /// As a number.
    pub value: f64,
    /// As an integer, if it is one.
    pub integer: Option<i64>,
    /// As written.
    pub text: String,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// The key as text.
    pub key: String,
    /// Where the key is written.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

/// Why a file is no YAML that we read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Span,
}

impl Node {
    /// The place of the character at `offset` (in bytes) of this node's text, as near as it can be told.
    pub fn span_at(&self, offset: usize) -> Span {
        match (&self.value, self.verbatim) {
            (Value::Text(text), Some(skip)) if text.is_char_boundary(offset.min(text.len())) => {
                let before = text[..offset.min(text.len())].chars().count() as u32;
                Span { line: self.span.line, column: self.span.column + skip + before }
            }
            _ => self.span,
        }
    }

    /// The text of a scalar as written; `None` for null, lists and maps.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Bool(true) => Some("true"),
            Value::Bool(false) => Some("false"),
            Value::Number(number) => Some(&number.text),
            Value::Text(text) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The entries of a map.
    pub fn as_map(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under a key of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Reads all documents of a file; documents without content are left out. A file that is no YAML has no documents; what is
/// wrong with one document (a key that stands twice) leaves the others alone.
pub fn parse(text: &str) -> (Vec<Node>, Vec<YamlError>) {
    if text.len() > MAX_FILE_BYTES {
        let message = format!("the file has {} bytes; at most {MAX_FILE_BYTES} are read", text.len());
        return (Vec::new(), vec![YamlError { message, span: Span::default() }]);
    }
    let mut composer = Composer::new(text);
    for event in Parser::new_from_str_with_options(text, granit_parser::options! { emit_comments: false }) {
        let taken = match event {
            Ok((event, at)) => composer.take(event, &at),
            Err(error) => Err(unreadable(&error)),
        };
        if let Err(error) = taken {
            return (Vec::new(), vec![error]);
        }
    }
    composer.finish()
}

fn unreadable(error: &ScanError) -> YamlError {
    let message = match error.kind() {
        ErrorKind::UnknownAnchor => "unknown anchor: nothing before this alias has its name".to_owned(),
        _ => error.info(),
    };
    YamlError { message, span: span_of(error.marker()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree in one line: `kind text@line:column`.
    fn show(node: &Node) -> String {
        let Span { line, column } = node.span;
        let text = match &node.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => format!("bool {value}"),
            Value::Number(number) => match number.integer {
                Some(integer) => format!("int {integer} {}", number.text),
                None => format!("float {} {}", number.value, number.text),
            },
            Value::Text(text) => format!("text {text:?}"),
            Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
            Value::Map(entries) => {
                let shown = entries.iter().map(|entry| {
                    let Span { line, column } = entry.key_span;
                    format!("{}@{line}:{column}: {}", entry.key, show(&entry.value))
                });
                format!("{{{}}}", shown.collect::<Vec<_>>().join(", "))
            }
        };
        format!("{text}@{line}:{column}")
    }

    #[test]
    fn keeps_what_was_written_and_where() {
        let check = |text: &str, expected: &str| {
            let shown: Vec<String> = parse(text).0.iter().map(show).collect();
            assert_eq!(shown.join(" | "), expected, "{text}");
        };
        check("a: 403", "{a@1:1: int 403 403@1:4}@1:1");
        check("a: 00429", "{a@1:1: text \"00429\"@1:4}@1:1");
        check("a: 1.50", "{a@1:1: float 1.5 1.50@1:4}@1:1");
        check("a: -7", "{a@1:1: int -7 -7@1:4}@1:1");
        check("a: 0x10", "{a@1:1: int 16 16@1:4}@1:1");
        check("a: 1_000", "{a@1:1: text \"1_000\"@1:4}@1:1");
        check("a: '403'", "{a@1:1: text \"403\"@1:4}@1:1");
        check("[yes, no, on, off, true, False]", {
            "[text \"yes\"@1:2, text \"no\"@1:7, text \"on\"@1:11, text \"off\"@1:15, bool true@1:20, bool false@1:26]@1:1"
        });
        check("a: ~\nb:\nc: ''", "{a@1:1: null@1:4, b@2:1: null@2:2, c@3:1: text \"\"@3:4}@1:1");
        check("1: x\ntrue: y", "{1@1:1: text \"x\"@1:4, true@2:1: text \"y\"@2:7}@1:1");
        check("a: 2026-11-23", "{a@1:1: text \"2026-11-23\"@1:4}@1:1");
        check("a: .inf", "{a@1:1: text \".inf\"@1:4}@1:1");
        check("é: {b: [x,\n  {c: d}]}", "{é@1:1: {b@1:5: [text \"x\"@1:9, {c@2:4: text \"d\"@2:7}@2:3]@1:8}@1:4}@1:1");
        check("a: 1\n---\n---\nb: 2\n", "{a@1:1: int 1 1@1:4}@1:1 | {b@4:1: int 2 2@4:4}@4:1");
        check("a: &x 1\nb: *x", "{a@1:1: int 1 1@1:7, b@2:1: int 1 1@2:4}@1:1");
        check("a: 1\r\nb: x\r\n", "{a@1:1: int 1 1@1:4, b@2:1: text \"x\"@2:4}@1:1");
        check("\u{feff}a: 1", "{a@1:1: int 1 1@1:4}@1:1");
        check("%YAML 1.2\n---\na: 1", "{a@3:1: int 1 1@3:4}@3:1");
        check("", "");
        check("--- !x", "");
    }

    #[test]
    fn follows_aliases_merges_and_tags() {
        let check = |text: &str, expected: &str| {
            let (documents, errors) = parse(text);
            let shown: Vec<String> = documents.iter().map(show).collect();
            assert_eq!((shown.join(" | ").as_str(), errors), (expected, Vec::new()), "{text}");
        };
        // All of what an alias repeats stands where the alias stands; what a map merges stands where it is written.
        check("- &x {a: [1]}\n- *x", "[{a@1:7: [int 1 1@1:11]@1:10}@1:6, {a@2:3: [int 1 1@2:3]@2:3}@2:3]@1:1");
        check("- &x {a: 1, b: 1}\n- {<<: *x, b: 2}", {
            "[{a@1:7: int 1 1@1:10, b@1:13: int 1 1@1:16}@1:6, {b@2:12: int 2 2@2:15, a@2:8: int 1 1@2:8}@2:3]@1:1"
        });
        check("{<<: [{a: 1}, ~, {a: 2, b: 3}]}", "{a@1:8: int 1 1@1:11, b@1:25: int 3 3@1:28}@1:1");
        check("'<<': 1", "{<<@1:1: int 1 1@1:7}@1:1");
        check("[!!str 1, !!int '5', !!float 5, !x ~, ! ~, !!bool 'true', !!null x]", {
            "[text \"1\"@1:8, int 5 5@1:17, float 5 5@1:30, null@1:36, text \"~\"@1:41, bool true@1:51, null@1:66]@1:1"
        });
        check("[!!binary aG k=, !x 1, !!str ]", "[text \"hi\"@1:11, int 1 1@1:21, text \"\"@1:29]@1:1");
    }

    #[test]
    fn refuses_with_a_place() {
        let check = |text: &str, line: u32, part: &str| {
            let (_, errors) = parse(text);
            let error = &errors[0];
            assert!(error.message.contains(part) && error.span.line == line, "{text:.60}: {error:?}");
        };
        check("a: 1\nb: 2\na: 3", 3, "first at 1:1");
        check(&format!("a: 1\n{}a: 2", (0..20).map(|n| format!("b{n}: 1\n")).collect::<String>()), 22, "first at 1:1");
        check("a: [1, 2", 1, "");
        check("a: b: c", 1, "");
        check("? [a]\n: b", 1, "a key must be a text");
        check("a: &a [*a]", 1, "inside of what it names");
        check("a: *nowhere", 1, "unknown anchor");
        check("a:\n- !!int x", 2, "the tag `!!int` does not fit");
        check("a: !!seq {}", 1, "the tag `!!seq` does not fit a map");
        check("a: 1\n<<: x", 2, "takes a map");
        check("{a: {b: 1, b: 2},\n c: 1, c: 2}", 1, "the key `b`");
        check(&"[".repeat(100_000), 1, "");
        check(&"{a: ".repeat(60), 1, "");
        check(&format!("{}x{}", "{a: ".repeat(60), "}".repeat(60)), 1, "nested deeper than 48");
        check(&(0..2000).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>(), 49, "");
        check(&"x".repeat(MAX_FILE_BYTES + 1), 0, "at most");
    }

    #[test]
    fn a_broken_document_leaves_the_others_alone() {
        let (documents, errors) = parse("a: 1\n---\nb: 1\nb: 2\n---\nc: 1\n");
        assert_eq!((documents.len(), errors.len(), errors[0].span.line), (2, 1, 4));
    }

    #[test]
    fn a_bomb_costs_nothing() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let refs = vec![format!("*a{}", n - 1); 10].join(", ");
            text.push_str(&format!("a{n}: &a{n} [{refs}]\n"));
        }
        let (documents, errors) = parse(&text);
        assert!(documents.is_empty() && errors[0].message.contains("too large"), "{errors:?}");
    }

    #[test]
    fn tells_places_inside_a_text() {
        let check = |text: &str, offset: usize, expected: (u32, u32)| {
            let (documents, _) = parse(text);
            let span = documents[0].get("c").unwrap().span_at(offset);
            assert_eq!((span.line, span.column), expected, "{text}");
        };
        check("c: é and b", 7, (1, 10));
        check("c: 'a and b'", 6, (1, 11));
        check("c: >\n  a and\n  b", 6, (2, 3));
        check("c: a", 99, (1, 5));
    }
}
