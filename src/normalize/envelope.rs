//! Takes envelopes off: what carriers put around events. Each is known by the names of its members (docs/envelopes.md),
//! and they nest. What is inside stands, for a reader, where the outermost document stands.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bumpalo::Bump;

use super::documents::{Class, class_of};
use super::kinds::{self, Content, Facts};
use super::object::Object;
use super::{Context, Place, ProblemKind, Sink, prefix, truncated};
use crate::event::json::{Doc, Kind, Raw};
use crate::event::structure::{Flaw, Structure};
use crate::event::view::Event;

/// How deep envelopes may stand in each other.
const DEPTH_MAX: usize = 6;

/// How many bytes the envelopes of one document may unpack to.
const UNPACKED_MAX: usize = 64 << 20;

/// One outermost document whose envelopes are taken off.
pub struct Opener<'o, S> {
    context: Context<'o>,
    place: &'o Place,
    sink: &'o mut S,
    unpacked: usize,
}

impl<'o, S: Sink> Opener<'o, S> {
    /// For the document at `place`.
    pub fn new(context: Context<'o>, place: &'o Place, sink: &'o mut S) -> Self {
        Opener { context, place, sink, unpacked: 0 }
    }

    /// A readable object that is no event.
    pub fn open(&mut self, doc: Doc<'_>, raw: Raw, facts: &Facts, depth: usize) {
        let contents = match kinds::contents(Object { doc, raw }, facts) {
            Some(contents) if !contents.is_empty() => contents,
            _ => return self.sink.not_audit(self.place.clone()),
        };
        if depth == DEPTH_MAX {
            return self.unreadable(format!("envelopes stand more than {DEPTH_MAX} deep in each other"));
        }
        for (content, facts) in contents {
            match content {
                Content::Value(raw) => self.value(doc, raw, &facts, depth + 1),
                Content::Text(text) => self.text(text.as_bytes(), &facts, depth + 1),
                Content::Base64(text) => match STANDARD.decode(text.trim_ascii().as_bytes()) {
                    Ok(bytes) => self.text(&bytes, &facts, depth + 1),
                    Err(flaw) => self.unreadable(format!("in an envelope: not base64: {flaw}")),
                },
                Content::Bytes(bytes) => self.text(&bytes, &facts, depth + 1),
                Content::Other => self.sink.not_audit(self.place.clone()),
                Content::Broken(why) => self.unreadable(why.to_owned()),
            }
        }
    }

    /// A value inside an envelope.
    pub fn value(&mut self, doc: Doc<'_>, raw: Raw, facts: &Facts, depth: usize) {
        match doc.kind(raw) {
            Kind::Object => self.object(doc, raw, facts, depth),
            Kind::String => match doc.string(raw) {
                Ok(text) => self.text(text.as_bytes(), facts, depth),
                Err(flaw) => self.broken(flaw),
            },
            Kind::Array if depth < DEPTH_MAX => self.elements(doc, raw, |this, item| {
                this.value(doc, item, facts, depth + 1);
            }),
            Kind::Array => self.unreadable(format!("envelopes stand more than {DEPTH_MAX} deep in each other")),
            _ => self.sink.not_audit(self.place.clone()),
        }
    }

    fn elements(&mut self, doc: Doc<'_>, raw: Raw, mut each: impl FnMut(&mut Self, Raw)) {
        for item in doc.elements(raw) {
            match item {
                Ok(item) => each(self, item),
                Err(flaw) => self.broken(flaw),
            }
        }
    }

    fn object(&mut self, doc: Doc<'_>, raw: Raw, facts: &Facts, depth: usize) {
        let arena = Bump::new();
        let cluster = facts.cluster.as_deref().unwrap_or(self.context.cluster);
        let mut event = match Event::parse(doc, raw, &arena, self.context.site, cluster) {
            Ok(event) => event,
            Err(flaw) => return self.broken(flaw),
        };
        let list = match class_of(&event) {
            Class::Event => {
                event.set_told(facts.provider, None, facts.time);
                tell_beside(&mut event);
                return self.sink.event(&event, self.place.clone());
            }
            Class::List(items) => items,
            Class::EmptyList => return,
            Class::Other => return self.open(doc, raw, facts, depth),
        };
        self.elements(doc, list, |this, item| match doc.kind(item) {
            Kind::Object if depth < DEPTH_MAX => this.object(doc, item, facts, depth + 1),
            Kind::Object => this.unreadable(format!("envelopes stand more than {DEPTH_MAX} deep in each other")),
            _ => this.sink.not_audit(this.place.clone()),
        });
    }

    /// A text inside an envelope: packed, or a row of JSON values, or a line with something before its document.
    pub fn text(&mut self, text: &[u8], facts: &Facts, depth: usize) {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii();
        if text.starts_with(b"\x1f\x8b") {
            return match self.gunzip(text) {
                Ok(unpacked) if depth < DEPTH_MAX => self.text(&unpacked, facts, depth + 1),
                Ok(_) => self.unreadable(format!("envelopes stand more than {DEPTH_MAX} deep in each other")),
                Err(why) => self.sink.problem(why.0, self.place.clone(), why.1),
            };
        }
        if let Some(cut) = text.strip_suffix(truncated::MARK) {
            let cut = prefix::strip(cut).map_or(cut, |stripped| stripped.text);
            return match truncated::repair(cut) {
                Some(event) => self.row(event.as_bytes(), facts, depth),
                None => self.unreadable("in an envelope: cut off by its carrier".to_owned()),
            };
        }
        match text.first() {
            Some(b'{' | b'[') => self.row(text, facts, depth),
            Some(b'"') if depth < DEPTH_MAX => self.string(text, facts, depth),
            Some(_) => match prefix::strip(text) {
                Some(stripped) if stripped.text.starts_with(b"{") => self.row(stripped.text, facts, depth),
                // Half an event is a lost event; any other text is another log's.
                _ if memchr::memmem::find(text, b"\"auditID\"").is_some() => {
                    self.unreadable("in an envelope: does not start with a JSON object".to_owned());
                }
                _ => self.sink.not_audit(self.place.clone()),
            },
            None => self.sink.not_audit(self.place.clone()),
        }
    }

    /// A JSON string that holds a line.
    fn string(&mut self, text: &[u8], facts: &Facts, depth: usize) {
        match serde_json::from_slice::<String>(text) {
            Ok(line) => self.text(line.as_bytes(), facts, depth + 1),
            Err(_) => self.unreadable("in an envelope: does not start with a JSON object".to_owned()),
        }
    }

    /// JSON values, one behind the other, with or without white space and commas between them.
    fn row(&mut self, text: &[u8], facts: &Facts, depth: usize) {
        let mut structure = Structure::default();
        let text = match structure.build(text) {
            Ok(text) => text,
            // A broken line does not hide the others.
            Err(_) if memchr::memchr(b'\n', text).is_some() => {
                let lines = text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
                return lines.filter(|line| !line.is_empty()).for_each(|line| self.one_row(line, facts, depth));
            }
            Err(flaw) => return self.broken(flaw),
        };
        self.values(Doc::new(text, &structure), facts, depth);
    }

    fn one_row(&mut self, line: &[u8], facts: &Facts, depth: usize) {
        let mut structure = Structure::default();
        match structure.build(line) {
            Ok(text) => self.values(Doc::new(text, &structure), facts, depth),
            Err(flaw) => self.broken(flaw),
        }
    }

    fn values(&mut self, doc: Doc<'_>, facts: &Facts, depth: usize) {
        let mut at = 0;
        while at < doc.text.len() {
            if !matches!(doc.text[at], b'{' | b'[') {
                return self.unreadable("in an envelope: garbage behind a document".to_owned());
            }
            match doc.value(at) {
                Ok(raw) => {
                    self.value(doc, raw, facts, depth);
                    at = raw.end;
                }
                Err(flaw) => return self.broken(flaw),
            }
            at += doc.text[at..].iter().take_while(|b| b.is_ascii_whitespace() || **b == b',').count();
        }
    }

    fn gunzip(&mut self, packed: &[u8]) -> Result<Vec<u8>, (ProblemKind, String)> {
        let mut decoder = flate2::write::MultiGzDecoder::new(Limited {
            bytes: Vec::new(),
            left: UNPACKED_MAX - self.unpacked,
            over: false,
        });
        let done = decoder.write_all(packed).and_then(|()| decoder.try_finish());
        let out = decoder.get_ref();
        if out.over {
            let why = format!("in an envelope: unpacks to more than {} MiB", UNPACKED_MAX >> 20);
            return Err((ProblemKind::TooLarge, why));
        }
        done.map_err(|flaw| (ProblemKind::Unreadable, format!("in an envelope: gzip: {flaw}")))?;
        self.unpacked += out.bytes.len();
        Ok(std::mem::take(&mut decoder.get_mut().bytes))
    }

    fn broken(&mut self, flaw: Flaw) {
        self.unreadable(format!("in an envelope: {flaw}"));
    }

    fn unreadable(&mut self, why: String) {
        self.sink.problem(ProblemKind::Unreadable, self.place.clone(), why);
    }
}

/// What a collector put among the members of an event.
pub fn tell_beside(event: &mut Event<'_>) {
    let (doc, raw) = (event.doc(), event.raw());
    if doc.bytes(raw).starts_with(b"{\"kind\":\"Event\"") {
        // As the API server writes it: nobody has put anything in.
        return;
    }
    event.put_level_right();
    if let Some((provider, cluster)) = kinds::beside(Object { doc, raw }) {
        let cluster = cluster.map(|name| &*event.arena().alloc_str(&name));
        event.set_told(Some(provider), cluster, None);
    }
}

/// Takes so many bytes and no more.
struct Limited {
    bytes: Vec<u8>,
    left: usize,
    over: bool,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() > self.left {
            self.over = true;
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        self.left -= bytes.len();
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
