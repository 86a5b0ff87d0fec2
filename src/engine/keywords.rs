//! Keywords are looked for in every text of an event, keys and bodies included. Most texts hold none of their words, and
//! nearly always one search over the bytes says which do.
//!
//! Invariant: what is ruled out could not have matched. A text that reads otherwise than it stands (escapes, letters beyond
//! ASCII that fold to those of ASCII) is looked at the long way.

use memchr::memmem;

use super::patterns;
use super::words::Words;
use crate::event::view::Event;
use crate::event::walk::Node;
use crate::rules::expr::{GlobPart, Op, StrHow, StrOp};

/// The keywords of one test.
#[derive(Debug)]
pub(super) struct Keywords(Words);

impl Keywords {
    /// `None` if one of the comparisons needs more than a word that stands in the text as it is.
    pub(super) fn new(any_of: &[Op]) -> Option<Keywords> {
        let mut words = Vec::new();
        for op in any_of {
            words.extend(words_of(op)?);
        }
        if !words.iter().all(|word| word.bytes().all(is_plain)) {
            return None;
        }
        Words::new(&words).map(Keywords)
    }

    /// Whether any text of the event holds, of those with a word in them; `None` if all have to be looked at.
    pub(super) fn any_text<'a>(&self, event: &Event<'a>, mut holds: impl FnMut(Node<'a>) -> bool) -> Option<bool> {
        let json = event.doc().bytes(event.raw());
        let mut at = 0;
        // The first word is sought first: mostly there is none, and nothing that hides one either.
        let mut found = self.0.find(json);
        if folds(json) || hides(json, event.doc().backslashes(event.raw()).map(|at| at - event.raw().start)) {
            return None;
        }
        while let Some(word) = found {
            let text = event.string_around(event.raw().start + at, event.raw().start + at + word.start)?;
            if holds(Node::Json(text)) {
                return Some(true);
            }
            at = text.end - event.raw().start;
            found = self.0.find(&json[at..]);
        }
        Some(false)
    }
}

/// Whether a text holds a letter beyond ASCII that is a case of one of ASCII's: in lower case U+0130 begins with `i` and
/// U+212A is `k`, and regular expressions take U+017F for an `s`.
fn folds(json: &[u8]) -> bool {
    !json.is_ascii() && ["\u{130}", "\u{17f}", "\u{212a}"].iter().any(|c| memmem::find(json, c.as_bytes()).is_some())
}

/// Words one of which has to stand in a text for the comparison to hold.
pub(super) fn words_of(op: &Op) -> Option<Vec<String>> {
    match op {
        Op::Str(StrOp { how, .. }) => word_of(how).map(|word| vec![word.to_owned()]),
        Op::Regex(op) => patterns::words_of_op(op),
        _ => None,
    }
}

/// What has to stand in a text for the comparison to hold, if anything has.
pub(super) fn word_of(how: &StrHow) -> Option<&str> {
    match how {
        StrHow::Contains(word) | StrHow::Exact(word) | StrHow::Prefix(word) | StrHow::Suffix(word) => Some(word),
        StrHow::Glob(parts) => {
            let texts =
                parts.iter().filter_map(|part| if let GlobPart::Text(text) = part { Some(&**text) } else { None });
            texts.max_by_key(|text| text.len())
        }
    }
}

/// What JSON may escape, or our own reading of a JSON text may add, is no part of a word.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:-/ ".contains(&byte)
}

/// Whether a text holds an escape that may stand for a character of a word. What the API server escapes (Go's
/// encoding/json: quotation marks, backslashes, control characters, and `<`, `>`, `&`) does not.
/// `backslashes` are all places where one stands in it.
fn hides(json: &[u8], backslashes: impl Iterator<Item = usize>) -> bool {
    let mut behind = 0;
    for at in backslashes {
        // It is what another one escapes.
        if at < behind {
            continue;
        }
        let length = match json.get(at + 1) {
            Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => 1,
            Some(b'u') => match json.get(at + 2..at + 6) {
                Some(b"0026" | b"003c" | b"003e") => 5,
                _ => return true,
            },
            _ => return true,
        };
        behind = at + 1 + length;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::condition::{Condition, Doubt};
    use super::*;
    use crate::event::walk::testing::with_event;
    use crate::rules::expr::{Expr, RegexOp, Test};

    fn text() -> impl Strategy<Value = String> {
        let piece = select(
            &[
                "kea",
                "KEA",
                "\\u006bea",
                "k\u{212a}ea",
                "\\\"",
                "\\\\u006bea",
                "\\u0026",
                "\\/",
                "/ke",
                "a/",
                " ",
                "ke",
                "a",
                "\\n",
                "é",
                "→",
                "\u{130}",
                "\u{17f}",
                "as",
                "ig",
            ][..],
        );
        prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
    }

    fn op() -> impl Strategy<Value = Op> {
        let word = select(&["kea", "Kea", "ke/a", "&", "e\"", "a k", "1", "verb", "é", "as", "ig"][..]);
        let how: [fn(String) -> StrHow; 4] = [StrHow::Contains, StrHow::Exact, StrHow::Prefix, StrHow::Suffix];
        let text = (word, select(how.to_vec()), any::<bool>()).prop_map(|(word, how, cased)| {
            let word = if cased { word.to_owned() } else { word.to_lowercase() };
            Op::Str(StrOp { how: how(word), cased })
        });
        let patterns = &["k[ex]a", "kea|a k", "^ke+a$", "(?i)KEA.", "a.?k", "ke\\W?a", "\"", "verb$", "(?i)as|ig"][..];
        let regex = (select(patterns), any::<bool>())
            .prop_map(|(pattern, folded)| Op::Regex(RegexOp::new(pattern, folded, false, false).unwrap()));
        prop_oneof![text, regex]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        /// With the texts that hold a word, or one by one with a comparison that has no word, so that nothing is left out.
        #[test]
        fn texts_without_a_word_do_not_match(
            values in prop::collection::vec(text(), 1..4), ops in prop::collection::vec(op(), 1..3), gap in select(&["", " "][..]),
        ) {
            let members: Vec<String> = values.iter().map(|value| format!(r#""{value}":["{value}",{gap}-1.5]"#)).collect();
            let json = format!(r#"{{"verb":"get","x":{{{}}},"y":"{}"}}"#, members.join(","), values.concat());
            prop_assume!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
            let holds = |any_of: Vec<Op>| {
                let test = Expr::Test(Test { field: None, any_of, span: Default::default() });
                with_event(&json, |event| Condition::compile(&test).unwrap().judge(event, &Doubt::default()))
            };
            prop_assert_eq!(holds(ops.clone()), holds([ops.clone(), vec![Op::Never]].concat()), "{:?} {}", ops, json);
        }
    }

    #[test]
    fn looks_at_texts_with_a_word_and_no_others() {
        let keywords =
            |word: &str| Keywords::new(&[Op::Str(StrOp { how: StrHow::Contains(word.into()), cased: false })]);
        let unconfined = keywords("unconfined").unwrap();
        let looked_at = |keywords: &Keywords, json: &str| {
            with_event(json, |event| {
                let mut texts = Vec::new();
                let sure = keywords.any_text(event, |text| {
                    texts.push(crate::event::walk::testing::show(event, text));
                    false
                });
                sure.map(|_| texts.join(" "))
            })
        };
        for (json, texts) in [
            (r#"{"a":"\u003cb\u0026\n\\u\""}"#, Some("")),
            (
                r#"{"a":"UnConfined","b":"no","unconfined.":"x unconfined unconfined"}"#,
                Some(r#""UnConfined" "unconfined." "x unconfined unconfined""#),
            ),
            (r#"{"a":"\u0075nconfined"}"#, None),
            (r#"{"a":"\/"}"#, None),
            (r#"{"a":"é → Ω","b":"é unconfined"}"#, Some("\"é unconfined\"")),
            ("{\"a\":\"\u{212a}\"}", None),
        ] {
            assert_eq!(looked_at(&unconfined, json).as_deref(), texts, "{json}");
        }
        // Numbers stand outside of strings.
        assert_eq!(looked_at(&keywords("1").unwrap(), r#"{"a":"1","b":1}"#), None);
        assert!(keywords("a\"b").is_none() && keywords("").is_none() && keywords("ü").is_none());
    }
}
