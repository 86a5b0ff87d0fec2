//! Keywords are looked for in every text of an event, keys and bodies included. Most events hold none of them, and nearly
//! always one search over the bytes says so.
//!
//! Invariant: what is ruled out could not have matched. A text that reads otherwise than it stands (escapes, letters beyond
//! ASCII that fold to those of ASCII) is looked at the long way.

use aho_corasick::AhoCorasick;
use memchr::{memchr, memmem};

use super::patterns;
use crate::rules::expr::{Op, StrHow, StrOp};

/// The keywords of one test.
#[derive(Debug)]
pub(super) struct Keywords(AhoCorasick);

impl Keywords {
    /// `None` if one of the comparisons needs more than a word that stands in the text as it is.
    pub(super) fn new(any_of: &[Op]) -> Option<Keywords> {
        let mut words = Vec::new();
        for op in any_of {
            words.extend(words_of(op)?);
        }
        if words.iter().any(|word| word.is_empty() || !word.bytes().all(is_plain)) {
            return None;
        }
        let search = AhoCorasick::builder().ascii_case_insensitive(true).build(words);
        search.ok().map(Keywords)
    }

    /// Whether none of them is in this JSON text, whatever its strings read as.
    pub(super) fn are_not_in(&self, json: &[u8]) -> bool {
        !folds(json) && !hides(json) && !self.0.is_match(json)
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
        Op::Str(StrOp {
            how: StrHow::Contains(word) | StrHow::Exact(word) | StrHow::Prefix(word) | StrHow::Suffix(word),
            ..
        }) => Some(vec![word.clone()]),
        Op::Regex(op) => patterns::words_of_op(op),
        _ => None,
    }
}

/// What JSON may escape, or our own reading of a JSON text may add, is no part of a word.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:-/ ".contains(&byte)
}

/// Whether a text holds an escape that may stand for a character of a word. What the API server escapes (Go's
/// encoding/json: quotation marks, backslashes, control characters, and `<`, `>`, `&`) does not.
fn hides(mut json: &[u8]) -> bool {
    while let Some(at) = memchr(b'\\', json) {
        let behind = &json[at + 1..];
        let length = match behind.first() {
            Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => 1,
            Some(b'u') => match behind.get(1..5) {
                Some(b"0026" | b"003c" | b"003e") => 5,
                _ => return true,
            },
            _ => return true,
        };
        json = &behind[length..];
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::condition::{Condition, Doubt, Verdict};
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

        #[test]
        fn what_is_ruled_out_does_not_match(key in text(), value in text(), ops in prop::collection::vec(op(), 1..3)) {
            let json = format!(r#"{{"verb":"get","x":{{"{key}":["{value}",1.5]}}}}"#);
            prop_assume!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
            let Some(keywords) = Keywords::new(&ops) else { return Ok(()) };
            if keywords.are_not_in(json.as_bytes()) {
                // One by one with a comparison that has no word, so that nothing is left out.
                let any_of: Vec<Op> = ops.iter().cloned().chain([Op::Never]).collect();
                let condition = Condition::compile(&Expr::Test(Test { field: None, any_of, span: Default::default() })).unwrap();
                let verdict = with_event(&json, |event| condition.judge(event, &Doubt::default()));
                prop_assert_eq!(verdict, Verdict::False, "{:?} {}", ops, json);
            }
        }
    }

    #[test]
    fn rules_out_what_the_api_server_writes_and_nothing_else() {
        let keywords =
            |word: &str| Keywords::new(&[Op::Str(StrOp { how: StrHow::Contains(word.into()), cased: false })]);
        let unconfined = keywords("unconfined").unwrap();
        for (json, out) in [
            (r#"{"a":"\u003cb\u0026\n\\u\""}"#, true),
            (r#"{"a":"UnConfined"}"#, false),
            (r#"{"a":"\u0075nconfined"}"#, false),
            (r#"{"a":"\/"}"#, false),
            (r#"{"a":"é → Ω"}"#, true),
            ("{\"a\":\"\u{212a}\"}", false),
            (r#"{"a":"\"#, false),
        ] {
            assert_eq!(unconfined.are_not_in(json.as_bytes()), out, "{json}");
        }
        assert!(keywords("a\"b").is_none() && keywords("").is_none() && keywords("ü").is_none());
    }
}
