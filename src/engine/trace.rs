//! What a match keeps of its event: the header's members as they stand, in one allocation. Most matches only feed
//! windows and are never told; the readable, redacted excerpt is made for the few that are.
//!
//! A trace lives in memory only. Whatever leaves the process goes through [`Trace::excerpt`], where secrets are cut out.

use bumpalo::Bump;

use super::excerpt::excerpt;
use super::matches::{Excerpt, SourceId};
use crate::event::json::{Doc, Raw};
use crate::event::site::Site;
use crate::event::structure::Structure;
use crate::event::view::{Event, Slot};

/// Above this many bytes a trace is made into an excerpt at once, whose texts are bounded.
const RAW_MAX: usize = 4096;

/// A user this short is kept as it stands: copying is cheaper than choosing.
const USER_RAW_MAX: usize = 640;

/// What a match keeps of its event.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    /// Event time in microseconds since the Unix epoch, as used in windows (0 if unknown).
    pub time: i64,
    /// Index of the input it came from.
    pub source: SourceId,
    /// Byte offset of its document in the input (after decompression).
    pub offset: u64,
    kept: Kept,
}

#[derive(Debug, Clone, PartialEq)]
enum Kept {
    /// Members of the header, as a JSON object.
    Raw(Box<[u8]>),
    /// The excerpt, already made.
    Made(Box<Excerpt>),
}

impl Default for Kept {
    fn default() -> Self {
        Kept::Raw(b"{}".as_slice().into())
    }
}

impl From<Excerpt> for Trace {
    fn from(made: Excerpt) -> Self {
        Trace { time: made.time, source: made.source, offset: made.offset, kept: Kept::Made(Box::new(made)) }
    }
}

impl Trace {
    /// Keeps what an alert may have to tell of the event. `scratch` is only memory to be reused.
    pub fn of(event: &Event<'_>, time: Option<i64>, source: SourceId, offset: u64, scratch: &mut Vec<u8>) -> Trace {
        write_header(event, scratch);
        let kept = if scratch.len() > RAW_MAX {
            Kept::Made(Box::new(excerpt(event)))
        } else {
            Kept::Raw(scratch.as_slice().into())
        };
        Trace { time: time.unwrap_or(0), source, offset, kept }
    }

    /// What may be told: redacted, every text bounded.
    pub fn excerpt(&self) -> Excerpt {
        let placed = |made| Excerpt { time: self.time, source: self.source, offset: self.offset, ..made };
        let text = match &self.kept {
            Kept::Made(made) => return placed((**made).clone()),
            Kept::Raw(text) => text,
        };
        let (mut structure, arena, site) = (Structure::default(), Bump::new(), Site::default());
        let whole = Raw { start: 0, end: text.len() };
        // It was read once before it was kept, so it reads again; an empty excerpt would show if that were wrong.
        let made = structure.build(text).ok().and_then(|text| {
            let doc = Doc::new(text, &structure);
            Event::parse(doc, whole, &arena, &site, "").ok().map(|event| excerpt(&event))
        });
        placed(made.unwrap_or_default())
    }

    /// Bytes this trace holds on to, about.
    pub fn size(&self) -> usize {
        std::mem::size_of::<Self>()
            + match &self.kept {
                Kept::Raw(text) => text.len(),
                Kept::Made(made) => made.size(),
            }
    }
}

/// Writes the members that an excerpt is made of. The client's address is written as the only source address, since the
/// site's proxies are known here.
fn write_header(event: &Event<'_>, out: &mut Vec<u8>) {
    out.clear();
    out.push(b'{');
    for (name, slot) in [
        ("auditID", Slot::AuditId),
        ("verb", Slot::Verb),
        ("requestURI", Slot::RequestUri),
        ("userAgent", Slot::UserAgent),
        ("objectRef", Slot::ObjectRef),
    ] {
        if let Some(raw) = event.slot(slot).filter(|_| !event.is_merged(slot)) {
            member(out, name, event.doc().bytes(raw));
        }
    }
    if event.is_merged(Slot::ObjectRef) {
        let parts = [
            ("resource", event.resource()),
            ("subresource", event.subresource()),
            ("apiGroup", event.api_group()),
            ("namespace", event.namespace()),
            ("name", event.name()),
        ];
        open(out, "objectRef");
        for (name, text) in parts {
            text_member(out, name, text);
        }
        out.push(b'}');
    }
    if event.impersonated() {
        write_user(event, "impersonatedUser", true, out);
    }
    write_user(event, "user", false, out);
    if let Some(address) = event.client_ip() {
        open(out, "sourceIPs");
        out.pop();
        out.extend_from_slice(b"[");
        quoted(out, address);
        out.push(b']');
    }
    if let Some(code) = event.code() {
        member(out, "responseStatus", format!("{{\"code\":{code}}}").as_bytes());
    }
    if let Some(decision) = event.decision() {
        open(out, "annotations");
        text_member(out, "authorization.k8s.io/decision", Some(decision));
        out.push(b'}');
    }
    out.push(b'}');
}

fn write_user(event: &Event<'_>, name: &str, effective: bool, out: &mut Vec<u8>) {
    let slot = if effective { Slot::ImpersonatedUser } else { Slot::User };
    let raw = event.slot(slot).map(|raw| event.doc().bytes(raw)).filter(|raw| raw.len() <= USER_RAW_MAX);
    if let Some(raw) = raw.filter(|_| !event.is_merged(slot)) {
        return member(out, name, raw);
    }
    open(out, name);
    text_member(out, "username", if effective { event.actor_username() } else { event.username() });
    // Only the effective user's groups are told.
    if effective || !event.impersonated() {
        comma(out);
        out.extend_from_slice(b"\"groups\":[");
        let _ = event.actor_groups(&mut |node| {
            if let Some(group) = super::condition::scalar_text(event, node) {
                if out.last() != Some(&b'[') {
                    out.push(b',');
                }
                quoted(out, group);
            }
            std::ops::ControlFlow::Continue(())
        });
        out.push(b']');
    }
    out.push(b'}');
}

fn comma(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{' | b'[')) {
        out.push(b',');
    }
}

fn open(out: &mut Vec<u8>, name: &str) {
    member(out, name, b"{");
}

fn member(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    comma(out);
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(value);
}

fn text_member(out: &mut Vec<u8>, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        member(out, name, b"");
        quoted(out, text);
    }
}

/// A JSON string; names are mostly plain.
fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::walk::testing::with_event;

    /// A trace gives the very excerpt that the event gives.
    #[test]
    fn nothing_is_lost_on_the_way() {
        let long = format!(r#"{{"requestURI":"/{}","user":{{"username":"u"}}}}"#, "x".repeat(5000));
        for text in [
            "{}",
            r#"{"auditID":"a","verb":"get","requestURI":"/x?a=\u0026","user":{"username":"al\"ice\n","groups":["g1","\u00e9"]},"sourceIPs":["1.1.1.1","2.2.2.2"],"userAgent":"k\\","objectRef":{"resource":"pods","subresource":"exec","namespace":"n","name":"p\u0000","apiGroup":"g"},"responseStatus":{"code":403,"message":"no"},"annotations":{"authorization.k8s.io/decision":"forbid","x":"y"}}"#,
            r#"{"user":{"username":"u","groups":["g"]},"impersonatedUser":{"username":"root","groups":["system:masters"]}}"#,
            r#"{"user":{"username":"u","groups":["g"]},"user":{"username":"v"},"objectRef":{"resource":"pods"},"objectRef":{"name":"n"}}"#,
            r#"{"user":{}}"#,
            &long,
        ] {
            let (direct, kept) =
                with_event(text, |event| (excerpt(event), Trace::of(event, Some(7), 3, 9, &mut Vec::new()).excerpt()));
            assert_eq!(Excerpt { time: 7, source: 3, offset: 9, ..direct }, kept, "{text}");
        }
    }
}
