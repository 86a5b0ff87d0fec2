//! A document that goes over several lines, checked strictly token by token.
//!
//! A line that ends before its brackets close is either the start of such a document or a line that was cut off. The
//! difference shows at the latest where the grammar breaks: behind a cut line the next line's `{` stands where a comma
//! or a key has to stand. So the check costs little on broken input, and a cut line never swallows the events behind it.

/// The end of the JSON document that starts at `text[0]`, or `None` if no well-formed document does.
///
/// Strict: the whole grammar of RFC 8259 but for the insides of strings, where only raw control characters are refused.
/// Iterative, with one bit of memory per level.
pub fn document_end(text: &[u8]) -> Option<usize> {
    let mut levels = Levels::default();
    let mut at = 0;
    let mut expect = Expect::Value;
    loop {
        at += text.get(at..)?.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count();
        let byte = *text.get(at)?;
        let closes = match byte {
            b'}' => levels.is_object() == Some(true),
            b']' => levels.is_object() == Some(false),
            _ => false,
        };
        expect = match (expect, byte) {
            (Expect::Value | Expect::FirstValue, b'{') => {
                levels.push(true);
                at += 1;
                Expect::FirstKey
            }
            (Expect::Value | Expect::FirstValue, b'[') => {
                levels.push(false);
                at += 1;
                Expect::FirstValue
            }
            (Expect::FirstKey | Expect::FirstValue | Expect::Next, _) if closes => {
                levels.pop();
                at += 1;
                Expect::Next
            }
            (Expect::FirstKey | Expect::Key, b'"') => {
                at = string_end(text, at)?;
                Expect::Colon
            }
            (Expect::Colon, b':') => {
                at += 1;
                Expect::Value
            }
            (Expect::Next, b',') => {
                at += 1;
                if levels.is_object()? { Expect::Key } else { Expect::Value }
            }
            (Expect::Value | Expect::FirstValue, b'"') => {
                at = string_end(text, at)?;
                Expect::Next
            }
            (Expect::Value | Expect::FirstValue, _) => {
                at += scalar_length(&text[at..])?;
                Expect::Next
            }
            _ => return None,
        };
        if expect == Expect::Next && levels.is_empty() {
            return Some(at);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    FirstValue,
    FirstKey,
    Key,
    Colon,
    Next,
}

/// A stack of bits: which of the open brackets are curly.
#[derive(Default)]
struct Levels {
    words: Vec<u64>,
    depth: usize,
}

impl Levels {
    fn push(&mut self, object: bool) {
        if self.depth.is_multiple_of(64) {
            self.words.push(0);
        }
        let bit = 1 << (self.depth % 64);
        if let Some(word) = self.words.last_mut() {
            *word = if object { *word | bit } else { *word & !bit };
        }
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth -= 1;
        if self.depth.is_multiple_of(64) {
            self.words.pop();
        }
    }

    fn is_object(&self) -> Option<bool> {
        let top = self.depth.checked_sub(1)?;
        Some(self.words[top / 64] >> (top % 64) & 1 == 1)
    }

    fn is_empty(&self) -> bool {
        self.depth == 0
    }
}

fn string_end(text: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        match *text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            0..0x20 => return None,
            _ => at += 1,
        }
    }
}

fn scalar_length(text: &[u8]) -> Option<usize> {
    let length = text.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.')).count();
    crate::event::json::is_scalar(&text[..length]).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::document_end;

    #[test]
    fn finds_the_end_or_none() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for (text, end) in [
            ("{}", Some(2)),
            ("{\n \"a\": [1,\n2, {\"b\": null}]\n}\n{", Some(29)),
            ("[]x", Some(2)),
            (&deep, Some(200_000)),
            ("{\"a\":\n{\"kind\":\"Event\"}\n{\"kind\":\"Event\"}", None),
            ("{\"a\":1,\n{\"kind\":\"Event\"}", None),
            ("{\"a\":[\n{\"kind\":\"Event\"}\n{\"kind\":\"Event\"}", None),
            ("{\"a\":\"b\n\"}", None),
            ("{\"a\":1", None),
            ("{\"a\":01}", None),
            ("{\"a\":1,}", None),
            ("[1,]", None),
            ("[}", None),
            ("", None),
        ] {
            assert_eq!(document_end(text.as_bytes()), end, "{}", &text[..text.len().min(60)]);
        }
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_serde_json(text in "[\\[\\]{},:\" a1\n]{0,12}") {
            let mut stream = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
            if let Some(Ok(_)) = stream.next() {
                let trimmed = text[..stream.byte_offset()].trim_end().len();
                // A number may touch what follows only if that is no part of it; serde stops earlier.
                if text[trimmed..].chars().next().is_none_or(|c| !c.is_ascii_alphanumeric()) {
                    proptest::prop_assert_eq!(document_end(text.as_bytes()), Some(trimmed));
                }
            } else {
                proptest::prop_assert_eq!(document_end(text.as_bytes()), None);
            }
        }
    }
}
