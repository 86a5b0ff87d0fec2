//! EventLists that are broken: cut off, or with one item whose brackets or quotes do not close. What is whole in front of
//! the break and behind it is found.

use std::ops::Range;

use serde::Deserialize;

use super::multiline::document_end;
use super::truncated::whole_members;

/// How many breaks are stepped over in one list.
const BREAKS_MAX: usize = 16;

/// What stands between the items of a list, and how the API server begins the next.
const NEXT_ITEM: &[u8] = b",{\"level\":\"";

/// A piece of a broken list.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole item, an object.
    Item(Range<usize>),
    /// What cannot be read.
    Broken(Range<usize>),
}

/// The pieces of a broken EventList in their order, one of them broken at least: if the items are not, what stands in
/// front of them. `None` if `text` is no beginning of a list, with its kind in front.
pub fn pieces(text: &[u8]) -> Option<Vec<Piece>> {
    let start = items_start(text)?;
    let mut at = start;
    let end = text.trim_ascii_end().len();
    let mut found = Vec::new();
    let mut breaks = 0;
    while at < end {
        let Some(length) = item_length(&text[at..end]) else {
            breaks += 1;
            let next = memchr::memmem::find(&text[at + 1..end], NEXT_ITEM).filter(|_| breaks < BREAKS_MAX);
            let next = next.map_or(end, |gap| at + 1 + gap);
            found.push(Piece::Broken(at..next));
            at = next + usize::from(next < end);
            continue;
        };
        found.push(Piece::Item(at..at + length));
        at += length;
        at += space(&text[at..end]);
        match text[..end].get(at) {
            Some(b',') => at += 1 + space(&text[at + 1..end]),
            Some(b']') => break,
            _ => {}
        }
    }
    if breaks == 0 {
        found.insert(0, Piece::Broken(0..start));
    }
    Some(found)
}

/// The length of the object that `text` begins with, if another item or the list's end follows, or nothing at all.
fn item_length(text: &[u8]) -> Option<usize> {
    let length = document_end(text).filter(|_| text.starts_with(b"{"))?;
    let behind = length + space(&text[length..]);
    matches!(text.get(behind), None | Some(b',' | b']')).then_some(length)
}

/// Where the first item stands.
fn items_start(text: &[u8]) -> Option<usize> {
    #[derive(Deserialize)]
    struct Head {
        kind: String,
        #[serde(rename = "apiVersion")]
        version: Option<String>,
    }
    let members = whole_members(text, "items")?;
    let head: Head = serde_json::from_slice(&[&text[..members.end], b"}"].concat()).ok()?;
    if head.kind != "EventList" || head.version.is_some_and(|version| !version.starts_with("audit.k8s.io/")) {
        return None;
    }
    let mut at = members.end;
    for token in [&b","[..], b"\"items\"", b":", b"["] {
        at += space(&text[at..]);
        at += text[at..].strip_prefix(token).map(|_| token.len())?;
    }
    Some(at + space(&text[at..]))
}

fn space(text: &[u8]) -> usize {
    text.iter().take_while(|b| b.is_ascii_whitespace()).count()
}

/// Whether `text` is an EventList or begins like one, however it is broken.
pub fn is_list(text: &[u8]) -> bool {
    items_start(text.trim_ascii_start()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        let one = |piece: &Piece| match piece {
            Piece::Item(range) => text[range.clone()].to_owned(),
            Piece::Broken(range) => format!("!{}", &text[range.clone()]),
        };
        Some(pieces(text.as_bytes())?.iter().map(one).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_is_whole_is_found() {
        let head = r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
        let (a, b, c) = (r#"{"level":"a"}"#, r#"{"level":"b"}"#, r#"{"level":"c"}"#);
        for (items, expected) in [
            (format!("{a},{b}]"), format!("!{head} {a} {b}")),
            (format!("{a}],\"x\":["), format!("!{head} {a}")),
            (format!("{a}, {b}"), format!("!{head} {a} {b}")),
            (format!("{a},{{\"level\":\"b"), format!("{a} !{{\"level\":\"b")),
            (format!("{a},"), format!("!{head} {a}")),
            (format!("{a},{{\"level\":\"b,{c}]}}"), format!("{a} !{{\"level\":\"b {c}")),
            (format!("{a},{{\"level\":\"b\",\"x\":[}},{c}]}}"), format!("{a} !{{\"level\":\"b\",\"x\":[}} {c}")),
            (format!("nonsense,{c}]}}"), format!("!nonsense {c}")),
            (format!("{a}{b}]}}"), format!("!{a}{b}]}}")),
            (String::new(), format!("!{head}")),
            ("[".repeat(100_000), "!".to_owned() + &"[".repeat(100_000)),
        ] {
            assert_eq!(shown(&(head.to_owned() + &items)), Some(expected), "{}", &items[..items.len().min(90)]);
        }
    }

    #[test]
    fn only_of_a_list_of_audit_events() {
        for (text, is) in [
            (r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"a""#, true),
            (r#" { "apiVersion" : "audit.k8s.io/v1beta1", "kind" : "EventList", "items" : [ "#, true),
            (r#"{"kind":"EventList","items":["#, true),
            (r#"{"kind":"EventList","apiVersion":"v1","items":["#, false),
            (r#"{"kind":"PodList","items":["#, false),
            (r#"{"items":["#, false),
            (r#"{"kind":"EventList","items":7"#, false),
            ("[", false),
            ("", false),
        ] {
            assert_eq!(is_list(text.as_bytes()), is, "{text}");
        }
    }

    proptest::proptest! {
        /// Whatever stands there: the pieces are in order, and do not overlap.
        #[test]
        fn pieces_stand_side_by_side(items in "([{}\\[\\],\"a:]|,\\{\"level\":\"|\\{\"level\":\"x\"\\}){0,30}") {
            let text = format!("{{\"kind\":\"EventList\",\"items\":[{items}");
            let mut at = 0;
            proptest::prop_assert!(pieces(text.as_bytes()).unwrap().iter().any(|piece| matches!(piece, Piece::Broken(_))));
            for piece in pieces(text.as_bytes()).unwrap() {
                let (Piece::Item(range) | Piece::Broken(range)) = piece;
                proptest::prop_assert!(at <= range.start && range.start < range.end && range.end <= text.len());
                at = range.end;
            }
        }
    }
}
