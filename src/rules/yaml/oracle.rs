//! The same trees by way of serde, and texts on which both must agree.

use std::fmt;

use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Spanned};

use super::super::span::Span;
use super::compose::{MAX_DEPTH, moved};
use super::{Entry, Node, Number, Value, YamlError};

/// What [`super::parse`] makes of a text, made by serde-saphyr.
fn parse(text: &str) -> (Vec<Node>, Vec<YamlError>) {
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
            (Vec::new(), vec![YamlError { message: error.to_string(), span }])
        }
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 50_000,
            max_nodes: 2_000_000,
            max_events: 5_000_000,
            max_depth: MAX_DEPTH,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: 4 << 20,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000, max_replay_stack_depth: 16 },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
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

/// A tree as somebody may write it.
#[derive(Debug, Clone)]
enum Written {
    /// A scalar, an alias, or nothing, on one line.
    Plain(String),
    /// A literal or folded scalar: its header and its lines.
    Lines(String, Vec<String>),
    List {
        props: String,
        flow: bool,
        items: Vec<Written>,
    },
    Map {
        props: String,
        flow: bool,
        entries: Vec<(String, Written)>,
    },
}

fn document() -> impl Strategy<Value = Written> {
    let scalar = prop_oneof![
        4 => prop::sample::select(SCALARS).prop_map(str::to_owned),
        2 => "[-+]?(0[xob])?[0-9_]{0,4}[.]?[0-9]{0,3}(e[-+]?[0-9]{1,3})?",
        1 => "[a-zé€😀#:?!*&%@`'\"\\\\{}\\[\\],|>~ \t-]{0,8}",
        1 => "[0-9]{15,25}",
    ];
    let plain = (props(), scalar).prop_map(|(props, text)| Written::Plain(format!("{props}{text}")));
    let lines = (props(), "[|>][1-4]?[-+]?( #c)?", prop::collection::vec("( |  )?[a-z :'#|-]{0,6}", 0..4))
        .prop_map(|(props, header, lines)| Written::Lines(format!("{props}{header}"), lines));
    prop_oneof![6 => plain, 1 => lines].prop_recursive(4, 24, 5, |inner| {
        let key = prop_oneof![
            8 => prop::sample::select(&["a", "b", "c", "d", "e", "f", "'a b'", "\"k\\u00e9\"", "é", "1", "true"][..]),
            2 => prop::sample::select(&["<<", "a", "*x", "&k k", "? x", "? [x, y]", "~", "!!str 1", "\"<<\"", "0x1", ""][..]),
        ];
        let entries = prop::collection::vec((key.prop_map(str::to_owned), inner.clone()), 0..5);
        prop_oneof![
            2 => (props(), any::<bool>(), entries).prop_map(|(props, flow, entries)| Written::Map { props, flow, entries }),
            1 => (props(), any::<bool>(), prop::collection::vec(inner, 0..4))
                .prop_map(|(props, flow, items)| Written::List { props, flow, items }),
        ]
    })
}

const SCALARS: &[&str] = &[
    "",
    "~",
    "null",
    "Null",
    "NULL",
    "nULL",
    "true",
    "True",
    "tRUE",
    "FALSE",
    "yes",
    "no",
    "on",
    "off",
    "y",
    "0",
    "-0",
    "+0",
    "00",
    "007",
    "-007",
    "0.5",
    ".5",
    "5.",
    "1e3",
    "1E+3",
    "1e999",
    "-1e999",
    ".inf",
    "-.INF",
    "+.Inf",
    ".nan",
    ".NaN",
    "inf",
    "nan",
    "-",
    "+",
    ".",
    "..",
    "0x",
    "0x1F",
    "-0x1f",
    "0o17",
    "0b11",
    "0X1f",
    "0x1_f",
    "1_000",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "1.50",
    "2026-11-23",
    "10:20",
    "10.0.0.0/8",
    "a b",
    "a: b",
    "a #b",
    "a#b",
    "'it''s'",
    "\"a\\tb\"",
    "\"é\"",
    "'403'",
    "*x",
    "*y",
    "*z",
    "a\\b",
    "text, with",
    "'two\n  lines'",
    "two\n  lines",
    "\"a\\\n  b\"",
    "\u{feff}",
    "a\u{85}b",
    "\u{2028}",
];

fn props() -> impl Strategy<Value = String> {
    let tag = prop::sample::select(
        &[
            "!!str",
            "!!int",
            "!!float",
            "!!bool",
            "!!null",
            "!!binary",
            "!!timestamp",
            "!!seq",
            "!!map",
            "!!set",
            "!",
            "!x",
            "!int",
            "!<tag:yaml.org,2002:int>",
            "!!merge",
            "!include",
            "!!time",
        ][..],
    );
    prop_oneof![
        12 => Just(String::new()),
        1 => prop::sample::select(&["&x ", "&y ", "&z "][..]).prop_map(str::to_owned),
        1 => tag.prop_map(|tag| format!("{tag} ")),
    ]
}

impl Written {
    fn write(&self, indent: usize, in_flow: bool, out: &mut String) {
        let margin = " ".repeat(indent);
        match self {
            Written::Plain(text) => out.push_str(text),
            Written::Lines(..) if in_flow => out.push('~'),
            Written::Lines(header, lines) => {
                out.push_str(header);
                lines.iter().for_each(|line| out.push_str(&format!("\n{margin}{line}")));
            }
            Written::List { props, flow, items } if in_flow || *flow => {
                out.push_str(&format!("{props}["));
                for item in items {
                    item.write(indent, true, out);
                    out.push_str(", ");
                }
                out.push(']');
            }
            Written::Map { props, flow, entries } if in_flow || *flow => {
                out.push_str(&format!("{props}{{"));
                for (key, value) in entries {
                    out.push_str(&format!("{key}: "));
                    value.write(indent, true, out);
                    out.push_str(", ");
                }
                out.push('}');
            }
            Written::List { props, items, .. } => {
                out.push_str(props);
                for item in items {
                    out.push_str(&format!("\n{margin}- "));
                    item.write(indent + 2, false, out);
                }
            }
            Written::Map { props, entries, .. } => {
                out.push_str(props);
                for (key, value) in entries {
                    out.push_str(&format!("\n{margin}{key}: "));
                    value.write(indent + 2, false, out);
                }
            }
        }
    }
}

fn file() -> impl Strategy<Value = String> {
    let between =
        prop::sample::select(&["\n---\n", "\n--- ", "\n...\n", "\n# c\n---\n", "\n...\n%YAML 1.2\n---\n", "\n"][..]);
    prop::collection::vec((between, any::<bool>(), document()), 1..4).prop_map(|documents| {
        let mut out = String::new();
        for (at, (between, named, document)) in documents.iter().enumerate() {
            out.push_str(if at > 0 { between } else { "" });
            if *named && matches!(document, Written::Map { flow: false, .. }) {
                out.push_str("x: &x 1.50\ny: &y {a: 'b', c: [*x, &w d]}\nz: &z\n- *y\n- {e: *w}");
            }
            document.write(0, false, &mut out);
        }
        out
    })
}

/// Texts that are YAML, and texts that nearly are.
fn text() -> impl Strategy<Value = String> {
    let broken = (file(), any::<prop::sample::Index>(), prop::sample::select(PIECES), any::<bool>()).prop_map(
        |(mut file, at, piece, cut)| {
            let places: Vec<usize> = file.char_indices().map(|(at, _)| at).chain([file.len()]).collect();
            let at = *at.get(&places);
            match cut && at < file.len() {
                true => drop(file.remove(at)),
                false => file.insert_str(at, piece),
            }
            file
        },
    );
    let soup = prop::collection::vec(prop::sample::select(PIECES), 0..14).prop_map(|pieces| pieces.concat());
    let ends = |text: String| prop_oneof![8 => Just(text.clone()), 1 => Just(text.replace('\n', "\r\n"))];
    prop_oneof![4 => file(), 2 => broken, 2 => soup].prop_flat_map(ends)
}

const PIECES: &[&str] = &[
    "a",
    "b",
    "1",
    "~",
    ": ",
    ":",
    "- ",
    "? ",
    "\n",
    "\n  ",
    "\n    ",
    " ",
    "\t",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "'",
    "\"",
    "|\n",
    ">-\n",
    "|2+\n",
    "#",
    " #c",
    "&x ",
    "*x",
    "!!int ",
    "!",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "%TAG !e! tag:e,1:\n",
    "<<: ",
    "\\",
    "\u{feff}",
    "é",
    "\u{0}",
    "\u{7}",
    "@",
    "`",
    "true",
    "0x1",
    "\r",
    "a: 1\n",
    "b: &y\n",
    "[a, b]",
    "{a: 1}",
    "<<: *y\n",
    "!e!x ",
];

/// That both make the same of a text: the same trees, and errors at the same places.
fn agree(text: &str) -> Result<(), TestCaseError> {
    let (mut fast, mut slow) = (super::parse(text), parse(text));
    let told = format!("{text}\n{:?}\n{:?}", fast.1, slow.1);
    // Nothing but a tag is no content.
    slow.0.retain(|document| document.value != Value::Null);
    if text.contains("<<") {
        // Serde says of what a map merges that it stands where the merged map begins, does not read what it leaves out, and
        // leaves a key in that the map has as `!!str 1` and merges as `1`.
        let twice = |error: &YamlError| error.message.contains("stands twice");
        if !fast.1.is_empty() || slow.1.iter().any(twice) {
            return Ok(());
        }
        for document in fast.0.iter_mut().chain(&mut slow.0) {
            *document = moved(document, document.span);
        }
    }
    prop_assert_eq!(&fast.0, &slow.0, "{}", &told);
    // Of a key that is a list or a map serde reads all before it says what is wrong with it.
    let places = |errors: &[YamlError]| errors.iter().map(|error| error.span).collect::<Vec<_>>();
    let odd = |error: &YamlError| error.message.contains("a key must be a text, not a ");
    let odd_key = text.contains('?') || ["]:", "}:", "] :", "} :"].iter().any(|end| text.contains(end));
    match odd_key || fast.1.iter().any(odd) {
        true => prop_assert_eq!(fast.1.len(), slow.1.len(), "{}", &told),
        false => prop_assert_eq!(places(&fast.1), places(&slow.1), "{}", &told),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn makes_the_same_of_every_text(text in text()) {
        agree(&text)?;
    }
}

#[test]
fn has_the_same_limits() {
    let nest = |depth: usize, inner: &str| format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth));
    let list = |what: &str, n: usize| format!("[{}]", vec![what; n].join(", "));
    // Many names keep the rule of ten aliases a name, which is serde-saphyr's alone, out of it.
    let names = |n: usize| list("&n 1", n);
    for (text, readable) in [
        (nest(48, "x"), true),
        (nest(49, "x"), false),
        (format!("a: &a {}\nb: {}", nest(20, "x"), nest(27, "*a")), true),
        (format!("a: &a {}\nb: {}", nest(20, "x"), nest(28, "*a")), false),
        (format!("a: &a {}\nb: {}\nc: {}", list("x", 998), names(20), list("*a", 100)), true),
        (format!("a: &a {}\nb: {}\nc: {}", list("x", 998), names(20), list("*a", 101)), false),
        (format!("a: &a {}", list("x", 99_998)), true),
        (format!("a: &a {}", list("x", 99_999)), false),
        (format!("a: &a [&b {}]", list("x", 50_000)), false),
        (format!("a: &a \"{}\\t\"", "x".repeat((4 << 20) - 1)), true),
        (format!("a: &a \"{}\\t\"", "x".repeat(4 << 20)), false),
        ("--- a\n".repeat(50_000), true),
        ("--- a\n".repeat(50_001), false),
    ] {
        let (fast, slow) = (super::parse(&text), parse(&text));
        assert!(fast.0 == slow.0, "{text:.60}");
        assert_eq!(
            (fast.1.is_empty(), slow.1.is_empty()),
            (readable, readable),
            "{text:.60}: {fast:.200?} {slow:.200?}"
        );
    }
}
