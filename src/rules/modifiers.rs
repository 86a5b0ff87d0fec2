//! Sigma's value modifiers (`field|modifier|…: value`, specification v2.1.0): a chain of names and a value to operators.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Placeholders;
use super::diagnostic::{Report, did_you_mean};
use super::encoding::{self, Charset};
use super::expr::{Cmp, FieldRefHow, FieldRefOp, GlobPart, Op, RegexOp, Span, TimePart};
use super::strings::{self, MAX_EXPANSION, Place, TooMany};
use super::yaml::{Node, Value};

/// The most parts of a pattern. Each `*` may make a match look at the whole value once more.
const MAX_PARTS: usize = 128;

/// Every modifier.
const NAMES: [&str; 34] = [
    "all",
    "base64",
    "base64offset",
    "cased",
    "cidr",
    "contains",
    "day",
    "endswith",
    "exists",
    "expand",
    "fieldref",
    "gt",
    "gte",
    "hour",
    "i",
    "lt",
    "lte",
    "m",
    "minute",
    "month",
    "neq",
    "re",
    "s",
    "startswith",
    "utf16",
    "utf16be",
    "utf16le",
    "week",
    "wide",
    "windash",
    "year",
    "ignorecase",
    "multiline",
    "dotall",
];

/// A chain of modifiers, understood.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Modifiers {
    /// All values must hold (`all`), not just one.
    pub all: bool,
    /// The test is turned around (`neq`).
    pub negated: bool,
    /// The value is no text to look for but `true` or `false` (`exists`).
    exists: bool,
    expand: bool,
    cased: bool,
    windash: bool,
    place: Place,
    charset: Option<Charset>,
    base64: Option<Base64>,
    regex: Option<Flags>,
    cidr: bool,
    field: bool,
    compare: Option<Cmp>,
    time: Option<TimePart>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base64 {
    Whole,
    Offsets,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Flags {
    case_insensitive: bool,
    multi_line: bool,
    dot_matches_new_line: bool,
}

/// Reads the names behind the field. `None` if something was wrong, which is then in the report.
pub fn parse(names: &[&str], span: Span, report: &mut Report) -> Option<Modifiers> {
    let mut out = Modifiers::default();
    let errors = report.errors();
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            report.error("duplicate-modifier", span, format!("the modifier `{name}` stands twice"));
        } else if !out.add(name) {
            if NAMES.contains(name) {
                report.error("modifier-conflict", span, out.conflict(name));
            } else {
                let help = did_you_mean(name, NAMES);
                report.error_help("unknown-modifier", span, format!("unknown modifier `{name}`"), help);
            }
        }
    }
    out.check(span, report);
    (report.errors() == errors).then_some(out)
}

impl Modifiers {
    /// Takes one name in; `false` if it is unknown or does not go with what stands before it.
    fn add(&mut self, name: &str) -> bool {
        match name {
            "all" => self.all = true,
            "neq" => self.negated = true,
            "exists" => self.exists = true,
            "expand" => self.expand = true,
            "cased" => self.cased = true,
            "windash" => self.windash = true,
            "cidr" => self.cidr = true,
            "fieldref" => self.field = true,
            "re" => self.regex = Some(Flags::default()),
            "contains" | "startswith" | "endswith" => return self.set_place(name),
            "lt" | "lte" | "gt" | "gte" => return self.set_compare(name),
            "base64" | "base64offset" => {
                let kind = if name == "base64" { Base64::Whole } else { Base64::Offsets };
                return self.base64.replace(kind).is_none();
            }
            "utf16" => return self.set_charset(Charset::Utf16),
            "utf16le" | "wide" => return self.set_charset(Charset::Utf16Le),
            "utf16be" => return self.set_charset(Charset::Utf16Be),
            "i" | "ignorecase" | "m" | "multiline" | "s" | "dotall" => return self.set_flag(name),
            _ => return self.set_time(name),
        }
        true
    }

    fn set_place(&mut self, name: &str) -> bool {
        let place = match name {
            "contains" => Place::Anywhere,
            "startswith" => Place::Start,
            _ => Place::End,
        };
        std::mem::replace(&mut self.place, place) == Place::Whole
    }

    fn set_compare(&mut self, name: &str) -> bool {
        let compare = match name {
            "lt" => Cmp::Lt,
            "lte" => Cmp::Le,
            "gt" => Cmp::Gt,
            _ => Cmp::Ge,
        };
        self.compare.replace(compare).is_none()
    }

    /// The encoding comes before what it is encoded with.
    fn set_charset(&mut self, charset: Charset) -> bool {
        self.base64.is_none() && self.charset.replace(charset).is_none()
    }

    fn set_flag(&mut self, name: &str) -> bool {
        let Some(flags) = &mut self.regex else { return false };
        match name {
            "i" | "ignorecase" => flags.case_insensitive = true,
            "m" | "multiline" => flags.multi_line = true,
            _ => flags.dot_matches_new_line = true,
        }
        true
    }

    fn set_time(&mut self, name: &str) -> bool {
        let part = match name {
            "minute" => TimePart::Minute,
            "hour" => TimePart::Hour,
            "day" => TimePart::Day,
            "week" => TimePart::Week,
            "month" => TimePart::Month,
            "year" => TimePart::Year,
            _ => return false,
        };
        self.time.replace(part).is_none()
    }

    fn conflict(&self, name: &str) -> String {
        match name {
            "i" | "m" | "s" | "ignorecase" | "multiline" | "dotall" => {
                format!("the modifier `{name}` belongs behind `re`")
            }
            "utf16" | "utf16le" | "utf16be" | "wide" if self.base64.is_some() => {
                format!("the modifier `{name}` must stand before `base64` or `base64offset`")
            }
            _ => format!("the modifier `{name}` does not go with those before it"),
        }
    }

    /// Notes what no value can make sense of.
    fn check(&self, span: Span, report: &mut Report) {
        let kinds = [
            (self.exists, "exists"),
            (self.regex.is_some(), "re"),
            (self.cidr, "cidr"),
            (self.field, "fieldref"),
            (self.time.is_some(), "a time modifier"),
            (self.base64.is_some(), "base64"),
            (self.windash, "windash"),
        ];
        let kinds: Vec<&str> = kinds.iter().filter(|(used, _)| *used).map(|(_, name)| *name).collect();
        // A dash may be spelled before it is encoded; everything else says in its own way how to compare.
        if kinds.len() > 1 && kinds != ["base64", "windash"] {
            report.error("modifier-conflict", span, format!("`{}` and `{}` cannot be combined", kinds[0], kinds[1]));
        }
        let textual = !(self.exists || self.cidr || self.time.is_some() || self.compare.is_some());
        if self.place != Place::Whole && (!textual || self.regex.is_some()) {
            report.error_help(
                "modifier-conflict",
                span,
                "`contains`, `startswith` and `endswith` only go with text",
                self.regex.map(|_| "a regular expression matches anywhere; use `^` and `$`".to_owned()),
            );
        }
        if self.compare.is_some() && (self.exists || self.cidr || self.regex.is_some() || self.base64.is_some()) {
            report.error(
                "modifier-conflict",
                span,
                "`lt`, `lte`, `gt` and `gte` only go with numbers, times and `fieldref`",
            );
        }
        if self.charset.is_some() && self.base64.is_none() {
            report.error("modifier-conflict", span, "UTF-16 text must be encoded with `base64` or `base64offset`");
        }
        if self.exists && (self.all || self.negated || self.expand) {
            report.error("modifier-conflict", span, "`exists` stands alone; write `true` or `false`");
        }
        if self.field && self.expand {
            report.error("modifier-conflict", span, "`fieldref` and `expand` cannot be combined");
        }
        if self.cased && (!textual || self.regex.is_some()) {
            report.warning("useless-modifier", span, "`cased` has no meaning here");
        }
        if self.base64 == Some(Base64::Offsets) && self.place == Place::Whole {
            report.warning(
                "base64offset-without-contains",
                span,
                "`base64offset` matches whole values without `contains`",
            );
        }
    }

    /// What this modifier chain makes of one value: alternatives. `None` if something was wrong, which is then in the report.
    pub fn ops(&self, value: &Node, placeholders: &Placeholders, report: &mut Report) -> Option<Vec<Op>> {
        let mut cx = Values { modifiers: self, span: value.span, report };
        if self.exists {
            return match value.value {
                Value::Bool(exists) => Some(vec![Op::Exists(exists)]),
                _ => cx.mismatch("`exists` takes `true` or `false`", value),
            };
        }
        if self.expand {
            let Some(text) = value.as_text() else { return cx.mismatch("`expand` takes a text", value) };
            let spelling = if self.regex.is_some() { strings::to_regex } else { str::to_owned };
            let Ok(texts) = strings::expand(text, placeholders, spelling) else { return cx.too_many() };
            if texts.is_empty() {
                return Some(vec![Op::Never]);
            }
            return texts.iter().try_fold(Vec::new(), |mut ops, text| {
                ops.extend(cx.text(text)?);
                Some(ops)
            });
        }
        match &value.value {
            Value::Null if *self == (Modifiers { negated: self.negated, all: self.all, ..Modifiers::default() }) => {
                Some(vec![Op::Null])
            }
            Value::Bool(flag) if self.takes_values() => Some(vec![Op::Bool(*flag)]),
            Value::Number(number) if self.takes_values() => Some(vec![match number.integer {
                // Beyond 2^53 two integers may be one float; their spelling tells them apart.
                Some(integer) if integer.unsigned_abs() >= 1 << 53 => cx.compare_text(strings::parse(&number.text)),
                _ => Op::Num(Cmp::Eq, number.value),
            }]),
            _ => match value.as_text() {
                Some(text) => cx.text(text),
                None => cx.mismatch("a text, number or boolean is expected", value),
            },
        }
    }

    /// The same for a keyword, which is looked for anywhere in any value; `None` if these modifiers need a field.
    pub fn for_keyword(&self) -> Option<Modifiers> {
        if self.exists || self.field || self.cidr || self.time.is_some() || self.compare.is_some() {
            return None;
        }
        let anywhere = self.place == Place::Whole && self.regex.is_none();
        Some(Modifiers { place: if anywhere { Place::Anywhere } else { self.place }, ..self.clone() })
    }

    /// Whether numbers and booleans are compared as such, and not as text.
    fn takes_values(&self) -> bool {
        let plain = Modifiers { negated: self.negated, all: self.all, cased: self.cased, ..Modifiers::default() };
        *self == plain
    }
}

/// One value being turned into operators.
struct Values<'a> {
    modifiers: &'a Modifiers,
    span: Span,
    report: &'a mut Report,
}

impl Values<'_> {
    fn fail<T>(&mut self, code: &'static str, message: impl Into<String>, help: Option<&str>) -> Option<T> {
        self.report.error_help(code, self.span, message, help.map(str::to_owned));
        None
    }

    fn mismatch<T>(&mut self, message: &str, value: &Node) -> Option<T> {
        self.fail("wrong-value", format!("{message}, not {}", value.kind()), None)
    }

    fn too_many<T>(&mut self) -> Option<T> {
        self.fail("too-many-values", format!("this value stands for more than {MAX_EXPANSION} values"), None)
    }

    fn text(&mut self, text: &str) -> Option<Vec<Op>> {
        let modifiers = self.modifiers;
        if let Some(part) = modifiers.time {
            return self.time(part, text).map(|op| vec![op]);
        }
        if modifiers.field {
            return self.field_ref(text).map(|op| vec![op]);
        }
        if let Some(flags) = modifiers.regex {
            return self.regex(flags, text).map(|op| vec![op]);
        }
        if modifiers.cidr {
            return self.network(text).map(|op| vec![op]);
        }
        if let Some(compare) = modifiers.compare {
            return match text.trim().parse::<f64>() {
                Ok(number) if number.is_finite() => Some(vec![Op::Num(compare, number)]),
                _ => self.fail("wrong-value", format!("`{text}` is not a number"), None),
            };
        }
        let pattern = strings::parse(text);
        if pattern.len() > MAX_PARTS {
            return self.fail("too-many-wildcards", format!("a text has at most {} wildcards", MAX_PARTS / 2), None);
        }
        let patterns = match modifiers.windash.then(|| strings::windash(&pattern)) {
            Some(Err(TooMany)) => return self.too_many(),
            Some(Ok(patterns)) => patterns,
            None if modifiers.base64.is_none() => return Some(vec![self.compare_text(pattern)]),
            None => vec![pattern],
        };
        let Some(kind) = modifiers.base64 else {
            return Some(patterns.into_iter().map(|pattern| self.compare_text(pattern)).collect());
        };
        let mut ops = Vec::new();
        for pattern in patterns {
            ops.extend(self.base64(kind, &pattern)?);
        }
        Some(ops)
    }

    fn compare_text(&self, pattern: Vec<GlobPart>) -> Op {
        Op::Str(strings::comparison(pattern, self.modifiers.place, self.modifiers.cased))
    }

    fn base64(&mut self, kind: Base64, pattern: &[GlobPart]) -> Option<Vec<Op>> {
        let Some(text) = strings::literal(pattern) else {
            return self.fail(
                "wildcard-in-base64",
                "a text with wildcards cannot be encoded",
                Some("escape them with `\\`"),
            );
        };
        let bytes = encoding::bytes(text, self.modifiers.charset);
        let encoded = match kind {
            Base64::Whole => vec![encoding::base64(&bytes)],
            Base64::Offsets => encoding::base64_offsets(&bytes).to_vec(),
        };
        if encoded.iter().any(String::is_empty) {
            return self.fail("wrong-value", "this text is too short to be recognized when encoded", None);
        }
        Some(encoded.into_iter().map(|text| self.compare_text(vec![GlobPart::Text(text)])).collect())
    }

    fn regex(&mut self, flags: Flags, pattern: &str) -> Option<Op> {
        let Flags { case_insensitive, multi_line, dot_matches_new_line } = flags;
        // What a site fills in is known to nobody.
        if self.report.is_known() && !self.modifiers.expand {
            return Some(Op::Regex(RegexOp::known(pattern, case_insensitive, multi_line, dot_matches_new_line)));
        }
        match RegexOp::new(pattern, case_insensitive, multi_line, dot_matches_new_line) {
            Ok(op) => Some(Op::Regex(op)),
            Err(error) => {
                // The crate draws the pattern over several lines; its last line says what is wrong.
                let full = error.to_string();
                let why = full.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                let help = full.contains("look-around").then_some("Sigma's regular expressions have no look-around");
                self.fail("invalid-regex", format!("invalid regular expression: {why}"), help)
            }
        }
    }

    fn network(&mut self, text: &str) -> Option<Op> {
        let text = text.trim();
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        match text.parse::<IpNet>().ok().or_else(address) {
            Some(network) => Some(Op::Cidr(network.trunc())),
            None => self.fail("wrong-value", format!("`{text}` is not a network such as 10.0.0.0/8 or fd00::/8"), None),
        }
    }

    fn field_ref(&mut self, field: &str) -> Option<Op> {
        let how = match (self.modifiers.compare, self.modifiers.place) {
            (Some(compare), _) => FieldRefHow::Num(compare),
            (None, Place::Whole) => FieldRefHow::Equals,
            (None, Place::Start) => FieldRefHow::StartsWith,
            (None, Place::End) => FieldRefHow::EndsWith,
            (None, Place::Anywhere) => FieldRefHow::Contains,
        };
        if field.is_empty() {
            return self.fail("wrong-value", "`fieldref` takes the name of a field", None);
        }
        Some(Op::FieldRef(FieldRefOp { field: field.to_owned(), how, cased: self.modifiers.cased }))
    }

    fn time(&mut self, part: TimePart, text: &str) -> Option<Op> {
        let (least, most) = match part {
            TimePart::Minute => (0, 59),
            TimePart::Hour => (0, 23),
            TimePart::Day => (1, 31),
            TimePart::Week => (1, 53),
            TimePart::Month => (1, 12),
            TimePart::Year => (0, 9999),
        };
        match text.trim().parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => {
                Some(Op::Time(part, self.modifiers.compare.unwrap_or(Cmp::Eq), number))
            }
            _ => self.fail("wrong-value", format!("a number from {least} to {most} is expected, not `{text}`"), None),
        }
    }
}
