//! YAML documents as a tree in which every key and value knows its place.
//!
//! The build script reads the detections with this module too, so it depends on nothing but [`Span`].

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Spanned};

use super::span::Span;

/// The longest file that is read. It holds more than ten thousand rules; what is longer is no rule file.
pub const MAX_FILE_BYTES: usize = 32 << 20;
/// How deep maps and lists may nest.
const MAX_DEPTH: usize = 48;

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
    match serde_saphyr::from_multiple_with_options::<Spanned<Raw>>(text, options()) {
        Ok(raw) => {
            let (mut documents, mut errors) = (Vec::with_capacity(raw.len()), Vec::new());
            for document in raw {
                match convert(document, text) {
                    Ok(document) => documents.push(document),
                    Err(error) => errors.push(error),
                }
            }
            (documents, errors)
        }
        Err(error) => {
            let span = error.location().map(span_of).unwrap_or_default();
            (Vec::new(), vec![YamlError { message: message_of(&error), span }])
        }
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        // Room for a file of ten thousand rules, none for what grows without being written (aliases).
        budget: serde_saphyr::budget! {
            max_documents: 50_000,
            max_nodes: 2_000_000,
            max_events: 5_000_000,
            max_depth: MAX_DEPTH,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: 4 << 20,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000, max_replay_stack_depth: 16 },
        // `yes`, `no`, `on` and `off` are values that audit events have; a rule that writes them means the text.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        // Checked in `convert`, which knows both places.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
        emit_comments: false,
    }
}

/// The parser's own message in one line and without the place, which is told separately.
fn message_of(error: &serde_saphyr::Error) -> String {
    let rendered = error.without_snippet().render();
    let line = rendered.lines().next().unwrap_or_default();
    let end = line.find(" at line ").unwrap_or(line.len());
    let message = line[..end].trim_end_matches("(defined").trim_end_matches([',', ':', ' ']);
    let message = message.strip_prefix("error: ").unwrap_or(message);
    match message.strip_prefix("budget breached: ").and_then(|breach| breach.split(' ').next()) {
        Some("Depth") => format!("the file is nested deeper than {MAX_DEPTH}"),
        Some(what) => format!("the file is too large for a rule file, or grows when its aliases are followed ({what})"),
        None => message.to_owned(),
    }
}

fn span_of(location: Location) -> Span {
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Span { line: narrow(location.line()), column: narrow(location.column()) }
}

/// What the parser hands over: values whose numbers have lost their spelling.
enum Raw {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

fn convert(raw: Spanned<Raw>, source: &str) -> Result<Node, YamlError> {
    let span = span_of(raw.referenced);
    let written = || written(source, raw.defined);
    let number = |value: f64, integer: Option<i64>, plain: String| {
        // The slice is trusted only if it is that number: a value with a tag or an anchor starts elsewhere.
        let text = written().filter(|text| text.parse() == Ok(value)).map_or(plain, str::to_owned);
        Value::Number(Number { value, integer, text })
    };
    let mut verbatim = None;
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Bool(value) => Value::Bool(value),
        Raw::Integer(value) => number(value as f64, i64::try_from(value).ok(), value.to_string()),
        Raw::Float(value) => number(value, None, value.to_string()),
        Raw::Text(text) => {
            verbatim = verbatim_at(source, raw.defined, &text).filter(|_| raw.defined == raw.referenced);
            Value::Text(text)
        }
        Raw::List(items) => Value::List(items.into_iter().map(|item| convert(item, source)).collect::<Result<_, _>>()?),
        Raw::Map(pairs) => Value::Map(convert_map(pairs, source)?),
    };
    Ok(Node { span, value, verbatim })
}

fn convert_map(pairs: Vec<(Spanned<Raw>, Spanned<Raw>)>, source: &str) -> Result<Vec<Entry>, YamlError> {
    let mut entries: Vec<Entry> = Vec::with_capacity(pairs.len());
    let mut seen = std::collections::HashMap::with_capacity(pairs.len());
    for (key, value) in pairs {
        let key = convert(key, source)?;
        let key_span = key.span;
        let Some(text) = key.as_text() else {
            return Err(YamlError { message: format!("a key must be a text, not {}", key.kind()), span: key_span });
        };
        let text = text.to_owned();
        if let Some(Span { line, column }) = seen.insert(text.clone(), key_span) {
            let message = format!("the key `{text}` stands twice in one map (first at {line}:{column})");
            return Err(YamlError { message, span: key_span });
        }
        entries.push(Entry { key: text, key_span, value: convert(value, source)? });
    }
    Ok(entries)
}

/// The scalar at a location as it is written.
fn written(source: &str, location: Location) -> Option<&str> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let length = usize::try_from(span.byte_len()?).ok()?;
    source.get(start..start.checked_add(length)?)
}

/// How many characters of quoting stand before `text` at a location, if it stands there as it is.
fn verbatim_at(source: &str, location: Location, text: &str) -> Option<u32> {
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let rest = source.get(start..)?;
    let quoted = rest.starts_with(['"', '\'']);
    rest.get(usize::from(quoted)..)?.starts_with(text).then_some(u32::from(quoted))
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
        check("", "");
    }

    #[test]
    fn refuses_with_a_place() {
        let check = |text: &str, line: u32, part: &str| {
            let (_, errors) = parse(text);
            let error = &errors[0];
            assert!(error.message.contains(part) && error.span.line == line, "{text:.60}: {error:?}");
        };
        check("a: 1\nb: 2\na: 3", 3, "first at 1:1");
        check("a: [1, 2", 1, "");
        check("a: b: c", 1, "");
        check("? [a]\n: b", 1, "a key must be a text");
        check("a: &a [*a]", 1, "");
        check("a: *nowhere", 1, "");
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
