//! The documents of a block, one after the other.

use super::envelope::{Opener, tell_beside};
use super::kinds::{self, Facts};
use super::multiline::document_end;
use super::object::Object;
use super::other::is_readable;
use super::parts::Parts;
use super::torn::{self, Piece};
use super::{Context, Place, ProblemKind, Scratch, Sink, legacy, prefix, truncated};
use crate::event::json::{Doc, Kind, Raw};
use crate::event::structure::{Flaw, Structure};
use crate::event::time::parse_micros;
use crate::event::view::{Event, Slot};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// How a line starts that another writer began in the middle of ours.
const EVENT_START: &[u8] = b"{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/";

/// Finds the documents of a block and shows them to `sink` in order. Returns the number of lines.
pub fn scan(block: &[u8], context: Context<'_>, scratch: &mut Scratch, sink: &mut impl Sink) -> u64 {
    let (mut start, mut line) = (0, 0);
    let mut parts = Parts::default();
    while start < block.len() {
        let end = memchr::memchr(b'\n', &block[start..]).map_or(block.len(), |at| start + at);
        let mut scan = Scan { block, context, scratch, sink, parts: &mut parts, line, start };
        let used = scan.line(end);
        let next = used.max(end).min(block.len());
        // A document over several lines has used them up; the rest of its last line was scanned with it.
        if used > end {
            line += memchr::memchr_iter(b'\n', &block[start..next]).count() as u64;
            if next > 0 && block[next - 1] != b'\n' && next < block.len() {
                start = next;
                continue;
            }
            line += u64::from(block[next - 1] != b'\n');
            start = next;
            continue;
        }
        line += 1;
        start = next + 1;
    }
    parts.end(sink);
    line
}

/// How many places of a broken line are tried.
const SALVAGE_MAX: usize = 16;

struct Scan<'s, S> {
    block: &'s [u8],
    context: Context<'s>,
    scratch: &'s mut Scratch,
    sink: &'s mut S,
    /// Lines of container runtimes that are not whole yet.
    parts: &'s mut Parts,
    line: u64,
    start: usize,
}

/// What became of one document.
enum Read {
    /// It ends here; the events in it were shown.
    Done(usize),
    /// It ends before its brackets close.
    Ended,
    /// It is broken; its end by its brackets, if they tell.
    Broken(Flaw, Option<usize>),
}

impl<S: Sink> Scan<'_, S> {
    /// Reads the line that ends at `end` (without its newline); returns how far documents were read.
    fn line(&mut self, end: usize) -> usize {
        let block = self.block;
        let mut at = self.start;
        if block[at..end].starts_with(BOM) {
            at += BOM.len();
        }
        at = skip(block, at, end, |b| b == 0);
        at = skip(block, at, end, |b| matches!(b, b' ' | b'\t' | b'\r'));
        if at == end {
            return end;
        }
        if !matches!(block[at], b'{' | b'[')
            && let Some(stripped) = prefix::strip(&block[at..end])
        {
            let whole = at..trim_end(block, at, end);
            if let Some(part) = stripped.part
                && (part.goes_on || self.parts.has(part.is_stderr))
            {
                let place = self.place(whole);
                self.parts.take(part, stripped.text, place, self.context, self.sink);
                return end;
            }
            if stripped.part.is_some() && !stripped.text.starts_with(b"{") {
                self.sink.not_audit(self.place(whole));
                return end;
            }
            if matches!(stripped.text.first(), Some(b'{' | b'[')) {
                at = end - stripped.text.len();
            }
        }
        if !matches!(block[at], b'{' | b'[') {
            self.no_document(at..trim_end(block, at, end));
            return end;
        }
        match self.scratch.structure.build(&block[at..end]) {
            Ok(text) => self.documents(text, at, end, false),
            Err(flaw) if self.damaged_list(at, end, flaw) => end,
            Err(flaw) => self.salvage(at, end, flaw),
        }
    }

    /// A line that does not start with a document: it may hold one as a JSON string, or be in the legacy format.
    fn no_document(&mut self, range: std::ops::Range<usize>) {
        let line = &self.block[range.clone()];
        let place = self.place(range.clone());
        if let Some(event) = legacy::event(line) {
            return Opener::new(self.context, &place, self.sink).text(event.as_bytes(), &Facts::default(), 0);
        }
        if line.starts_with(b"\"") && memchr::memmem::find(line, b"auditID").is_some() {
            return Opener::new(self.context, &place, self.sink).text(line, &Facts::default(), 0);
        }
        match is_readable(line) {
            true => self.sink.not_audit(place),
            false => self.unreadable(range, "does not start with a JSON object"),
        }
    }

    /// A list that is flawed somewhere inside: what is wrong with one item must not hide its neighbours. Whether the line
    /// was one.
    fn damaged_list(&mut self, at: usize, end: usize, flaw: Flaw) -> bool {
        if !matches!(flaw, Flaw::Control | Flaw::Utf8) || !self.scratch.structure.is_closed() {
            return false;
        }
        let doc = Doc::flawed(&self.block[at..end], &self.scratch.structure);
        let raw = Raw { start: 0, end: end - at };
        let arena = &self.scratch.arena;
        let found = Event::parse(doc, raw, arena, self.context.site, self.context.cluster).ok().and_then(|event| {
            let Class::List(items) = class_of(&event) else { return None };
            Some((items, at + event.raw().end))
        });
        let Some((items, close)) = found else { return false };
        let start = Place { line: self.line, range: at..end };
        list(doc, items, true, &start, self.context, arena, Some(&mut Structure::default()), self.sink);
        self.scratch.arena.reset();
        let rest = close..trim_end(self.block, close, end);
        if !rest.is_empty() {
            self.unreadable(rest, flaw);
        }
        true
    }

    /// Reads the documents of the indexed `text`, which is `block[at..end]`.
    fn documents(&mut self, text: &str, at: usize, end: usize, several_lines: bool) -> usize {
        let mut from = at;
        let mut count = 0;
        while from < end {
            match self.document(text, at, from) {
                Read::Done(next) => {
                    count += 1;
                    from = skip(self.block, next, end, |b| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | b','));
                }
                Read::Ended if !several_lines => match document_end(&self.block[from..]) {
                    Some(length) if from + length > end => return self.several_lines(from, from + length),
                    _ => return self.salvage(from, end, Flaw::Ended),
                },
                Read::Ended => {
                    self.unreadable(from..end, Flaw::Ended);
                    return end;
                }
                Read::Broken(flaw, None) => return self.salvage(from, end, flaw),
                Read::Broken(flaw, Some(next)) => {
                    self.unreadable(from..next, flaw);
                    from = skip(self.block, next, end, |b| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | b','));
                }
            }
            if from < end && !matches!(self.block[from], b'{' | b'[') {
                self.unreadable(from..trim_end(self.block, from, end), "garbage behind a document");
                return end;
            }
        }
        if count > 1 {
            self.sink.problem(ProblemKind::Layout, self.place(at..end), format!("{count} documents on one line"));
        }
        end
    }

    fn several_lines(&mut self, start: usize, end: usize) -> usize {
        let text = match self.scratch.structure.build(&self.block[start..end]) {
            Ok(text) => text,
            Err(flaw) => {
                self.unreadable(start..end, flaw);
                return end;
            }
        };
        self.sink.problem(ProblemKind::Layout, self.place(start..end), "a document over several lines".into());
        self.documents(text, start, end, true)
    }

    /// Reads one document at `from`; the indexed text begins at `base`.
    fn document(&mut self, text: &str, base: usize, from: usize) -> Read {
        let end = base + text.len();
        let doc = Doc::new(text, &self.scratch.structure);
        let raw = Raw { start: from - base, end: end - base };
        let read = if doc.kind(raw) == Kind::Array {
            match doc.structure.container_end(doc.text, raw.start) {
                Ok(close) => {
                    let start = Place { line: self.line, range: base..end };
                    let items = Raw { start: raw.start, end: close };
                    list(doc, items, false, &start, self.context, &self.scratch.arena, None, self.sink);
                    Read::Done(base + close)
                }
                Err(Flaw::Ended) => Read::Ended,
                Err(flaw) => Read::Broken(flaw, None),
            }
        } else {
            let mut event = Event::unread(doc, raw, &self.scratch.arena, self.context.site, self.context.cluster);
            match event.read() {
                Ok(()) => {
                    let place = Place { line: self.line, range: base + raw.start..base + event.raw().end };
                    let close = place.range.end;
                    match class_of(&event) {
                        Class::Event => {
                            tell_beside(&mut event);
                            self.sink.event(&event, place);
                        }
                        Class::List(items) => {
                            let start = Place { line: self.line, range: base..end };
                            list(doc, items, true, &start, self.context, &self.scratch.arena, None, self.sink);
                        }
                        Class::EmptyList => {}
                        Class::Other => {
                            let raw = event.raw();
                            if !self.parts.docker(doc, raw, &place, self.context, self.sink) {
                                Opener::new(self.context, &place, self.sink).open(doc, raw, &Facts::default(), 0);
                            }
                        }
                    }
                    Read::Done(close)
                }
                Err(Flaw::Ended) => Read::Ended,
                Err(flaw) => {
                    Read::Broken(flaw, doc.structure.container_end(doc.text, raw.start).ok().map(|e| base + e))
                }
            }
        };
        self.scratch.arena.reset();
        read
    }

    /// A line that is broken: a writer may have died in the middle of it, and the next one have started on the same
    /// line. What starts like an event, is whole, and ends with the line or where another starts, is read as one.
    fn salvage(&mut self, at: usize, end: usize, flaw: Flaw) -> usize {
        let whole = at..trim_end(self.block, at, end);
        if self.block[whole.clone()].ends_with(truncated::MARK) {
            // An export puts the time before the line.
            let time = self.block[self.start..at].split(|b| *b == b' ').find_map(parse_micros);
            let facts = Facts { time, ..Facts::default() };
            let (place, text) = (self.place(whole.clone()), &self.block[whole]);
            Opener::new(self.context, &place, self.sink).text(text, &facts, 0);
            return end;
        }
        if let Some(pieces) = torn::pieces(&self.block[at..end]) {
            self.pieces(at, &pieces, flaw);
            return end;
        }
        let starts = memchr::memmem::find_iter(&self.block[at + 1..end], EVENT_START).take(SALVAGE_MAX);
        for from in starts.map(|found| at + 1 + found) {
            let Some(length) = document_end(&self.block[from..end]) else { continue };
            let behind = &self.block[from + length..end];
            if !(behind.trim_ascii().is_empty() || behind.starts_with(EVENT_START)) {
                continue;
            }
            if let Ok(text) = self.scratch.structure.build(&self.block[from..end]) {
                self.unreadable(at..from, flaw);
                return self.documents(text, from, end, false);
            }
        }
        self.unreadable(at..trim_end(self.block, at, end), flaw);
        end
    }

    /// Reads what is whole of a list that begins at `at`.
    fn pieces(&mut self, at: usize, pieces: &[Piece], flaw: Flaw) {
        for piece in pieces {
            let (Piece::Item(range) | Piece::Broken(range)) = piece;
            let place = self.place(at + range.start..at + range.end);
            match (piece, self.scratch.structure.build(&self.block[place.range.clone()])) {
                (Piece::Broken(_), _) => self.unreadable(place.range, flaw),
                (Piece::Item(_), Err(flaw)) => self.unreadable(place.range, flaw),
                (Piece::Item(_), Ok(text)) => {
                    let (doc, raw) = (Doc::new(text, &self.scratch.structure), Raw { start: 0, end: text.len() });
                    item(doc, raw, true, place, self.context, &self.scratch.arena, self.sink);
                }
            }
        }
        self.scratch.arena.reset();
    }

    fn place(&self, range: std::ops::Range<usize>) -> Place {
        Place { line: self.line, range }
    }

    fn unreadable(&mut self, range: std::ops::Range<usize>, why: impl ToString) {
        let place = self.place(range);
        self.sink.problem(ProblemKind::Unreadable, place, why.to_string());
    }
}

pub(super) enum Class {
    Event,
    List(Raw),
    EmptyList,
    Other,
}

/// What an object is, by `kind` and `apiVersion`; items of lists may lack both, and then what they hold tells.
pub(super) fn class_of(event: &Event<'_>) -> Class {
    let bytes = |slot| event.slot(slot).map_or(&b""[..], |raw| event.doc().bytes(raw));
    // As the API server spells it.
    if bytes(Slot::Kind) == b"\"Event\"" && bytes(Slot::ApiVersion) == b"\"audit.k8s.io/v1\"" {
        return Class::Event;
    }
    let text = |slot| event.slot(slot).and_then(|raw| event.text(raw));
    let audit = text(Slot::ApiVersion).is_none_or(|version| version.starts_with("audit.k8s.io/"));
    match text(Slot::Kind) {
        Some("EventList") if audit => match event.slot(Slot::Items) {
            Some(raw) if event.doc().kind(raw) == Kind::Array => Class::List(raw),
            _ => Class::EmptyList,
        },
        Some("Event") | None if audit => {
            let named = text(Slot::Kind).is_some() && text(Slot::ApiVersion).is_some();
            let looks = event.slot(Slot::AuditId).is_some()
                && (event.slot(Slot::Stage).is_some() || event.slot(Slot::Verb).is_some());
            if named || looks { Class::Event } else { Class::Other }
        }
        _ => Class::Other,
    }
}

/// Shows the items of a list one by one. `each`: the text as a whole is flawed (a control character, bytes that are not
/// UTF-8), so every item is indexed by itself, and the flaw costs only the item it stands in. `of_events`: it says that it
/// holds events, so that what is none of them is a lost one.
#[allow(clippy::too_many_arguments, reason = "each is one thing, and they have no more in common")]
fn list(
    doc: Doc<'_>,
    items: Raw,
    of_events: bool,
    start: &Place,
    context: Context<'_>,
    arena: &bumpalo::Bump,
    mut each: Option<&mut Structure>,
    sink: &mut impl Sink,
) {
    let (base, mut line, mut behind) = (start.range.start, start.line, items.start);
    for item in doc.elements(items) {
        let item = match item {
            Ok(item) => item,
            Err(flaw) => {
                let range = base + behind..base + items.end;
                sink.problem(ProblemKind::Unreadable, Place { line, range }, format!("in a list: {flaw}"));
                return;
            }
        };
        line += memchr::memchr_iter(b'\n', &doc.text[behind..item.start]).count() as u64;
        let place = Place { line, range: base + item.start..base + item.end };
        line += memchr::memchr_iter(b'\n', doc.bytes(item)).count() as u64;
        behind = item.end;
        if doc.kind(item) != Kind::Object {
            match doc.kind(item) {
                _ if of_events => sink.problem(ProblemKind::Unreadable, place, NO_EVENT.to_owned()),
                Kind::String | Kind::Array => {
                    Opener::new(context, &place, sink).value(doc, item, &Facts::default(), 0);
                }
                _ => sink.not_audit(place),
            }
            continue;
        }
        let (doc, item) = match &mut each {
            None => (doc, item),
            Some(structure) => {
                let text = match structure.build(doc.bytes(item)) {
                    Ok(text) => text,
                    Err(flaw) => {
                        sink.problem(ProblemKind::Unreadable, place, flaw.to_string());
                        continue;
                    }
                };
                (Doc::new(text, structure), Raw { start: 0, end: text.len() })
            }
        };
        self::item(doc, item, of_events, place, context, arena, sink);
    }
}

/// Shows an item of a list, an object.
fn item(
    doc: Doc<'_>,
    raw: Raw,
    of_events: bool,
    place: Place,
    context: Context<'_>,
    arena: &bumpalo::Bump,
    sink: &mut impl Sink,
) {
    match Event::parse(doc, raw, arena, context.site, context.cluster) {
        Ok(mut event) => match class_of(&event) {
            Class::Event => {
                tell_beside(&mut event);
                sink.event(&event, place);
            }
            Class::List(_) => Opener::new(context, &place, sink).value(doc, event.raw(), &Facts::default(), 0),
            Class::Other if of_events && !holds_any(doc, event.raw()) => {
                sink.problem(ProblemKind::Unreadable, place, NO_EVENT.to_owned());
            }
            _ => Opener::new(context, &place, sink).open(doc, event.raw(), &Facts::default(), 0),
        },
        Err(flaw) => sink.problem(ProblemKind::Unreadable, place, flaw.to_string()),
    }
}

const NO_EVENT: &str = "in an EventList: no audit event";

/// Whether an object is an envelope.
fn holds_any(doc: Doc<'_>, raw: Raw) -> bool {
    kinds::contents(Object { doc, raw }, &Facts::default()).is_some()
}

fn skip(block: &[u8], at: usize, end: usize, what: impl Fn(u8) -> bool) -> usize {
    at + block[at..end].iter().take_while(|b| what(**b)).count()
}

fn trim_end(block: &[u8], start: usize, end: usize) -> usize {
    start + block[start..end].trim_ascii_end().len()
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod tests;
