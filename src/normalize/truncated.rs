//! Events that a carrier cut: CloudWatch Logs takes so much of a line and says so at its end. What stands before the cut
//! is what an API server writes first: who did what to what. It is an event, with bodies that nobody knows.

use super::multiline::document_end;

/// How a cut line ends.
pub const MARK: &[u8] = b"[Truncated...]";

/// The event of which `text` is the beginning, with the members that are whole and marked as the API server marks one
/// without bodies; `None` if it does not say what it is.
pub fn repair(text: &[u8]) -> Option<String> {
    let members = whole_members(text, "")?;
    let text = std::str::from_utf8(&text[..members.end]).ok()?;
    if !["auditID", "verb"].iter().all(|name| members.names.contains(name)) {
        return None;
    }
    let marked = members.names.contains(&"annotations");
    let mark = if marked { "" } else { ",\"annotations\":{\"audit.k8s.io/truncated\":\"true\"}" };
    Some(format!("{text}{mark}}}"))
}

pub(super) struct Members<'t> {
    names: Vec<&'t str>,
    /// Behind the last one.
    pub(super) end: usize,
}

/// The members of an object up to the first that is not whole, or is called `until`.
pub(super) fn whole_members<'t>(text: &'t [u8], until: &str) -> Option<Members<'t>> {
    let space = |at: usize| at + text[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
    let mut members = Members { names: Vec::new(), end: 1 };
    let mut at = space(text.starts_with(b"{").then_some(1)?);
    while text.get(at) == Some(&b'"') {
        let Some(length) = document_end(&text[at..]) else { break };
        let name = std::str::from_utf8(&text[at + 1..at + length - 1]).ok()?;
        let colon = space(at + length);
        if text.get(colon) != Some(&b':') || name == until {
            break;
        }
        let value = space(colon + 1);
        let Some(length) = document_end(&text[value..]) else { break };
        // A number may go on behind the cut.
        let behind = space(value + length);
        if !matches!(text.get(behind), Some(b',' | b'}')) {
            break;
        }
        members.names.push(name);
        members.end = value + length;
        at = space(behind + 1);
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_whole() {
        let event = r#"{"kind":"Event", "auditID":"a","verb":"get","user":{"username":"x","groups":["g"]},"code":12,"requestObject":{"spec":{"a":"b"}}"#;
        for cut in 0..event.len() {
            let repaired = repair(&event.as_bytes()[..cut]);
            // Behind the comma that follows the verb.
            assert_eq!(repaired.is_some(), cut > event.find("\"get\",").unwrap() + 5, "{cut}");
            let Some(text) = repaired else { continue };
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["annotations"]["audit.k8s.io/truncated"], "true");
            assert_eq!(value.get("code").is_some(), event[..cut].contains("12,"), "{text}");
            assert!(value.get("requestObject").is_none());
        }
        for text in ["", "{", "[1,", "{\"a\":1,", "no", "{\"auditID\":1 2", "{\"auditID\""] {
            assert_eq!(repair(text.as_bytes()), None, "{text}");
        }
    }
}
