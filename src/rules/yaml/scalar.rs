//! What a scalar means: the core schema of YAML 1.2, in which `yes` is a text and `007` no number.

use std::borrow::Cow;

use granit_parser::Tag;

use super::{Number, Value};

const YAML_NAMESPACE: &str = "tag:yaml.org,2002:";

/// What a tag asks of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing that is known here: the node is read as if it had no tag.
    Unknown,
    /// The same, but it stands for a scalar.
    Scalar,
    /// `!`: not to be guessed.
    Literal,
    Text,
    Integer,
    Float,
    Bool,
    Null,
    Binary,
    /// Times and angles, which are no values here.
    Unsupported,
    Merge,
    List,
    Map,
}

impl Kind {
    pub(super) fn of(tag: Option<&Tag>) -> Kind {
        let Some(tag) = tag else { return Kind::Unknown };
        if let Some(name) = tag.suffix_in_namespace(YAML_NAMESPACE) {
            return match name.as_ref() {
                "merge" => Kind::Merge,
                "value" => Kind::Scalar,
                name => Kind::named(name.strip_prefix('!').unwrap_or(name)),
            };
        }
        match tag.suffix_in_namespace("!").as_deref() {
            None => Kind::Unknown,
            Some("" | "!") => Kind::Literal,
            Some(name) => Kind::named(name.strip_prefix('!').unwrap_or(name)),
        }
    }

    /// `!int` is taken for `!!int`, as most programs take it.
    fn named(name: &str) -> Kind {
        match name {
            "str" => Kind::Text,
            "int" => Kind::Integer,
            "float" => Kind::Float,
            "bool" => Kind::Bool,
            "null" => Kind::Null,
            "binary" => Kind::Binary,
            "seq" => Kind::List,
            "map" => Kind::Map,
            "timestamp" | "time" | "degrees" | "radians" => Kind::Unsupported,
            name if name.strip_prefix("include").is_some_and(|rest| rest.is_empty() || rest.starts_with('#')) => {
                Kind::Scalar
            }
            _ => Kind::Unknown,
        }
    }

    pub(super) fn fits_scalar(self) -> bool {
        !matches!(self, Kind::List | Kind::Map)
    }

    pub(super) fn fits_list(self) -> bool {
        matches!(self, Kind::List | Kind::Literal | Kind::Unknown)
    }

    pub(super) fn fits_map(self) -> bool {
        matches!(self, Kind::Map | Kind::Literal | Kind::Unknown)
    }
}

/// The value of a scalar; `None` if it is not what its tag says.
pub(super) fn value(text: Cow<'_, str>, plain: bool, kind: Kind) -> Option<Value> {
    let value = match kind {
        Kind::Unknown | Kind::Scalar | Kind::Merge if plain => guess(&text),
        Kind::Null => Some(Value::Null),
        Kind::Bool => return boolean(trim(&text)).map(Value::Bool),
        Kind::Integer => return integer(trim(&text), plain),
        Kind::Float => return float(trim(&text), plain),
        Kind::Binary => return binary(&text).map(Value::Text),
        Kind::Unsupported | Kind::List | Kind::Map => return None,
        Kind::Text | Kind::Literal | Kind::Unknown | Kind::Scalar | Kind::Merge => None,
    };
    Some(value.unwrap_or_else(|| Value::Text(text.into_owned())))
}

/// What a plain scalar without a tag is; `None` for a text. Most are, and most of them show it in their first letter.
fn guess(text: &str) -> Option<Value> {
    match text.as_bytes().first() {
        None | Some(b'~' | b'n' | b'N') => matches!(text, "" | "~" | "null" | "Null" | "NULL").then_some(Value::Null),
        Some(b't' | b'T' | b'f' | b'F') => boolean(text).map(Value::Bool),
        // A leading zero and a `_` are somebody's spelling of a name.
        Some(b'0'..=b'9' | b'+' | b'-' | b'.') if !zero_led(text) && !text.contains('_') => {
            integer(text, true).or_else(|| float(text, true))
        }
        _ => None,
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['+', '-']).unwrap_or(text)
}

fn zero_led(text: &str) -> bool {
    let digits = unsigned(text).as_bytes();
    digits.len() > 1 && digits[0] == b'0' && digits.iter().all(u8::is_ascii_digit)
}

/// An integer of 64 bits. One that stands plainly in base ten keeps its spelling.
fn integer(text: &str, plain: bool) -> Option<Value> {
    let magnitude = unsigned(text);
    let (radix, digits) = match magnitude.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &magnitude[2..]),
        [b'0', b'o' | b'O', ..] => (8, &magnitude[2..]),
        [b'0', b'b' | b'B', ..] => (2, &magnitude[2..]),
        [b'0', _, ..] => return None,
        _ => (10, magnitude),
    };
    let mut spelling = Cow::Borrowed(digits);
    if digits.contains('_') {
        if digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
            return None;
        }
        spelling = Cow::Owned(digits.replace('_', ""));
    }
    // `from_str_radix` would take a second sign.
    let magnitude = u64::from_str_radix(spelling.strip_prefix('+').map_or(&*spelling, |_| ""), radix).ok()?;
    let value = match text.starts_with('-') {
        true => -i128::from(magnitude),
        false => i128::from(magnitude),
    };
    if value < i128::from(i64::MIN) {
        return None;
    }
    let kept = plain && radix == 10 && matches!(spelling, Cow::Borrowed(_));
    let text = if kept { text.to_owned() } else { value.to_string() };
    Some(Value::Number(Number { value: value as f64, integer: i64::try_from(value).ok(), text }))
}

/// A number, or the text of one that is not finite.
fn float(text: &str, plain: bool) -> Option<Value> {
    let infinite = |negative: bool| Value::Text(if negative { "-.inf" } else { ".inf" }.to_owned());
    match unsigned(text) {
        ".inf" | ".Inf" | ".INF" => return Some(infinite(text.starts_with('-'))),
        ".nan" | ".NaN" | ".NAN" => return Some(Value::Text(".nan".to_owned())),
        _ => {}
    }
    let value: f64 = text.parse().ok()?;
    if value.is_finite() {
        let text = if plain { text.to_owned() } else { value.to_string() };
        return Some(Value::Number(Number { value, integer: None, text }));
    }
    // Rust reads `inf` and `nan` too.
    unsigned(text).starts_with(|first: char| first.is_ascii_digit()).then(|| infinite(value < 0.0))
}

/// The text that is written in Base64.
fn binary(text: &str) -> Option<String> {
    use base64::Engine;
    let written: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(written).ok()?).ok()
}
