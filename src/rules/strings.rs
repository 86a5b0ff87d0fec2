//! Sigma's strings: wildcards, escapes and placeholders.

use std::borrow::Cow;

use super::Placeholders;
use super::expr::{GlobPart, StrHow, StrOp};
use crate::event::fold;

/// How many texts one value with placeholders or dashes may become.
pub const MAX_EXPANSION: usize = 10_000;

/// Where the text must stand in the value (the modifiers `startswith`, `endswith` and `contains`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// It is the whole value.
    #[default]
    Whole,
    /// At the start.
    Start,
    /// At the end.
    End,
    /// Anywhere.
    Anywhere,
}

/// Reads wildcards and escapes: `*` is any number of characters, `?` is one; a backslash takes the meaning from a wildcard
/// or a backslash that follows it, and is an ordinary character elsewhere.
pub fn parse(text: &str) -> Vec<GlobPart> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = memchr::memchr3(b'\\', b'*', b'?', rest.as_bytes()) {
        let special = rest.as_bytes()[at];
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if special == b'\\' {
            let escaped = rest.starts_with(['*', '?', '\\']);
            plain.push_str(if escaped { &rest[..1] } else { "\\" });
            rest = &rest[usize::from(escaped)..];
            continue;
        }
        if !plain.is_empty() {
            parts.push(GlobPart::Text(std::mem::take(&mut plain)));
        }
        push(&mut parts, if special == b'*' { GlobPart::Many } else { GlobPart::One });
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(GlobPart::Text(plain));
    }
    parts
}

/// Two `*` in a row say no more than one.
fn push(parts: &mut Vec<GlobPart>, part: GlobPart) {
    if !(part == GlobPart::Many && parts.last() == Some(&GlobPart::Many)) {
        parts.push(part);
    }
}

/// The text of a pattern without wildcards; `None` if it has any.
pub fn literal(parts: &[GlobPart]) -> Option<&str> {
    match parts {
        [] => Some(""),
        [GlobPart::Text(text)] => Some(text),
        _ => None,
    }
}

/// The comparison with a pattern at a place.
pub fn comparison(mut parts: Vec<GlobPart>, place: Place, cased: bool) -> StrOp {
    if matches!(place, Place::End | Place::Anywhere) && parts.first() != Some(&GlobPart::Many) {
        parts.insert(0, GlobPart::Many);
    }
    if matches!(place, Place::Start | Place::Anywhere) {
        push(&mut parts, GlobPart::Many);
    }
    if !cased {
        for part in &mut parts {
            if let GlobPart::Text(text) = part
                && let Cow::Owned(folded) = fold(text)
            {
                *text = folded;
            }
        }
    }
    StrOp { how: simplest(parts), cased }
}

/// The cheapest comparison that says the same as the pattern.
fn simplest(mut parts: Vec<GlobPart>) -> StrHow {
    use GlobPart::{Many, Text};
    let (at, how): (usize, fn(String) -> StrHow) = match parts.as_slice() {
        [] => return StrHow::Exact(String::new()),
        [Text(_)] => (0, StrHow::Exact),
        [Text(_), Many] => (0, StrHow::Prefix),
        [Many, Text(_)] => (1, StrHow::Suffix),
        [Many, Text(_), Many] => (1, StrHow::Contains),
        _ => return StrHow::Glob(parts),
    };
    match parts.swap_remove(at) {
        Text(text) => how(text),
        wildcard => StrHow::Glob(vec![wildcard]),
    }
}

/// A text with a placeholder that has too many values to write out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// Puts the values of placeholders into a text: `%name%` becomes each value of the list `name`, in all combinations; `\%` is
/// a plain percent sign. A placeholder whose list is unknown or empty leaves no text at all. Values may hold wildcards;
/// `spelling` says how a value is written in this text.
pub fn expand(text: &str, placeholders: &Placeholders, spelling: fn(&str) -> String) -> Result<Vec<String>, TooMany> {
    let mut out = vec![String::new()];
    let mut rest = text;
    while let Some(at) = rest.find(['%', '\\']) {
        append(&mut out, &rest[..at]);
        rest = &rest[at..];
        let name = rest[1..].find('%').map(|end| &rest[1..=end]).filter(|name| is_name(name));
        if let Some(name) = name.filter(|_| rest.starts_with('%')) {
            let values = placeholders.get(name).map_or(&[][..], Vec::as_slice);
            if out.len().saturating_mul(values.len()) > MAX_EXPANSION {
                return Err(TooMany);
            }
            let values: Vec<String> = values.iter().map(|value| spelling(value)).collect();
            out = out.iter().flat_map(|head| values.iter().map(move |value| format!("{head}{value}"))).collect();
            rest = &rest[name.len() + 2..];
        } else if rest.starts_with("\\%") {
            append(&mut out, "%");
            rest = &rest[2..];
        } else {
            // A backslash that escapes something else stays for `parse`, together with what it escapes.
            let length = if rest.starts_with("\\\\") { 2 } else { 1 };
            append(&mut out, &rest[..length]);
            rest = &rest[length..];
        }
    }
    append(&mut out, rest);
    Ok(out)
}

/// The regular expression that matches what a Sigma text matches. One list serves `re` and other rules alike, so that a value
/// must mean the same in both, and `*.example.com` must not break an expression.
pub fn to_regex(text: &str) -> String {
    let parts = parse(text).into_iter().map(|part| match part {
        GlobPart::Text(text) => regex::escape(&text),
        GlobPart::One => ".".to_owned(),
        GlobPart::Many => ".*".to_owned(),
    });
    parts.collect()
}

fn append(texts: &mut [String], tail: &str) {
    texts.iter_mut().for_each(|text| text.push_str(tail));
}

/// The names of lists that a text of rules asks for: what stands between two percent signs.
pub fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            rest = &rest[rest.find('%')? + 1..];
            let name = &rest[..rest.find('%')?];
            if is_name(name) {
                rest = &rest[name.len() + 1..];
                return Some(name);
            }
        }
    })
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// The characters that begin a Windows command-line option.
const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];

/// Every spelling of a pattern's options: a dash that follows no word character and precedes one is each of the five.
pub fn windash(parts: &[GlobPart]) -> Result<Vec<Vec<GlobPart>>, TooMany> {
    let mut out: Vec<Vec<GlobPart>> = vec![Vec::new()];
    for part in parts {
        let GlobPart::Text(text) = part else {
            out.iter_mut().for_each(|spelling| spelling.push(part.clone()));
            continue;
        };
        let texts = dash_spellings(text)?;
        if out.len().saturating_mul(texts.len()) > MAX_EXPANSION {
            return Err(TooMany);
        }
        out = out
            .iter()
            .flat_map(|head| texts.iter().map(|text| [head.as_slice(), &[GlobPart::Text(text.clone())]].concat()))
            .collect();
    }
    Ok(out)
}

fn dash_spellings(text: &str) -> Result<Vec<String>, TooMany> {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mut out = vec![String::new()];
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if DASHES.contains(&c) && !word(before) && word(chars.peek().copied()) {
            if out.len() * DASHES.len() > MAX_EXPANSION {
                return Err(TooMany);
            }
            out = out.iter().flat_map(|head| DASHES.map(|dash| format!("{head}{dash}"))).collect();
        } else {
            out.iter_mut().for_each(|head| head.push(c));
        }
        before = Some(c);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(how: &StrHow) -> String {
        match how {
            StrHow::Exact(text) => format!("exact {text}"),
            StrHow::Prefix(text) => format!("prefix {text}"),
            StrHow::Suffix(text) => format!("suffix {text}"),
            StrHow::Contains(text) => format!("contains {text}"),
            StrHow::Glob(parts) => {
                let shown = parts.iter().map(|part| match part {
                    GlobPart::Text(text) => text.clone(),
                    GlobPart::One => "<?>".into(),
                    GlobPart::Many => "<*>".into(),
                });
                format!("glob {}", shown.collect::<String>())
            }
        }
    }

    #[test]
    fn reads_wildcards_and_escapes() {
        let check = |text: &str, expected: &str| {
            assert_eq!(show(&comparison(parse(text), Place::Whole, true).how), expected, "{text}");
        };
        check("", "exact ");
        check("a", "exact a");
        check("*", "glob <*>");
        check("***", "glob <*>");
        check("a*", "prefix a");
        check("*a", "suffix a");
        check("*a**", "contains a");
        check("a*b", "glob a<*>b");
        check("a?", "glob a<?>");
        check(r"\*", "exact *");
        check(r"a\?*", "prefix a?");
        check(r"C:\Windows", r"exact C:\Windows");
        check(r"C:\\Windows", r"exact C:\Windows");
        check(r"\\*", r"prefix \");
        check(r"\\\*", r"exact \*");
        check(r"\\\\x", r"exact \\x");
        check(r"x\", r"exact x\");
    }

    #[test]
    fn places_and_folds() {
        let check = |text: &str, place: Place, cased: bool, expected: &str| {
            assert_eq!(show(&comparison(parse(text), place, cased).how), expected, "{text}");
        };
        check("Aé", Place::Start, false, "prefix aé");
        check("AÉ", Place::Start, false, "prefix aé");
        check("A", Place::End, true, "suffix A");
        check("A", Place::Anywhere, false, "contains a");
        check("*A", Place::Start, false, "contains a");
        check("a*b", Place::Anywhere, false, "glob <*>a<*>b<*>");
        check("", Place::Anywhere, false, "glob <*>");
    }

    #[test]
    fn puts_placeholders_in() {
        let lists = Placeholders::from([
            ("a".into(), vec!["x".into(), "y*".into()]),
            ("b".into(), vec!["1".into(), "2".into()]),
            ("none".into(), vec![]),
            ("many".into(), (0..200).map(|n| n.to_string()).collect()),
        ]);
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(expand(text, &lists, str::to_owned).unwrap(), expected, "{text}")
        };
        check("plain", &["plain"]);
        check("%a%", &["x", "y*"]);
        check("<%a%-%b%>", &["<x-1>", "<x-2>", "<y*-1>", "<y*-2>"]);
        check("%none%", &[]);
        check("x%unknown%", &[]);
        check(r"\%plain%a%", &["%plainx", "%plainy*"]);
        check("100% of %a%", &["100% of x", "100% of y*"]);
        check(r"a\\%a%\*", &[r"a\\x\*", r"a\\y*\*"]);
        check("%", &["%"]);
        check("%%", &["%%"]);
        assert_eq!(expand("^(%a%)$", &lists, to_regex).unwrap(), ["^(x)$", "^(y.*)$"]);
        assert_eq!(to_regex(r"*.a?(\*"), r".*\.a.\(\*");
        assert_eq!(expand("%many%%many%", &lists, str::to_owned), Err(TooMany));
    }

    #[test]
    fn finds_the_lists_that_are_asked_for() {
        for (text, names) in [
            ("a|expand: '%admins%'", &["admins"][..]),
            ("'%a%%b-c%' and 'x:%d.e%'", &["a", "b-c", "d.e"]),
            ("100 % of %a%", &["a"]),
            ("50%, 60% %", &[]),
            ("%%", &[]),
            ("", &[]),
        ] {
            assert_eq!(placeholders(text).collect::<Vec<_>>(), names, "{text}");
        }
    }

    #[test]
    fn spells_dashes() {
        let check = |text: &str, count: usize, first: &str, last: &str| {
            let all = windash(&parse(text)).unwrap();
            assert_eq!(all.len(), count, "{text}");
            assert_eq!(all.first(), Some(&parse(first)));
            assert_eq!(all.last(), Some(&parse(last)));
        };
        check("none", 1, "none", "none");
        check("a-b", 1, "a-b", "a-b");
        check("-enc", 5, "-enc", "\u{2015}enc");
        check("*/x -y*", 25, "*-x -y*", "*\u{2015}x \u{2015}y*");
        assert_eq!(windash(&parse(&"-a ".repeat(9))), Err(TooMany));
    }

    /// The same, one letter after the other.
    fn letter_by_letter(text: &str) -> Vec<GlobPart> {
        let mut parts: Vec<GlobPart> = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(mut c) = chars.next() {
            match c {
                '*' if parts.last() == Some(&GlobPart::Many) => continue,
                '*' => parts.push(GlobPart::Many),
                '?' => parts.push(GlobPart::One),
                _ => {
                    if c == '\\' {
                        c = chars.next_if(|next| "*?\\".contains(*next)).unwrap_or(c);
                    }
                    match parts.last_mut() {
                        Some(GlobPart::Text(text)) => text.push(c),
                        _ => parts.push(GlobPart::Text(c.to_string())),
                    }
                }
            }
        }
        parts
    }

    proptest::proptest! {
        #[test]
        fn reads_a_text_as_letter_by_letter(text in "([*?\\\\]|a|É|k){0,12}") {
            proptest::prop_assert_eq!(parse(&text), letter_by_letter(&text));
        }
    }
}
