//! Writing traces.

use std::sync::Arc;

use super::{NO_CODE, Sheet, Told, ToldOfActor, Trace, VALUE_BYTES, at, cut, put_raw};
use crate::engine::matches::{CaptureId, SourceId};
use crate::event::redact;

/// Writes traces on a sheet.
#[derive(Debug, Default)]
pub struct Recorder {
    bytes: Vec<u8>,
    /// Where the trace at hand starts, and where that starts which is told of its actor.
    start: usize,
    actor: usize,
    values: Vec<u8>,
    groups: u16,
    /// The number of the sheet.
    sheet: u64,
    /// Bytes that a sheet has had lately.
    usual: usize,
}

impl Recorder {
    /// Begins a trace. What is told of the actor comes next.
    pub(in crate::engine) fn begin(&mut self, source: SourceId, offset: u64, code: Option<i64>, texts: &Told<'_>) {
        let Recorder { bytes, start, values, groups, .. } = self;
        *start = bytes.len();
        values.clear();
        *groups = 0;
        // How many of what there are is known at the end.
        let mut header = [0; at::TEXTS];
        let rest = put_bytes(&mut header, &offset.to_le_bytes());
        let rest = put_bytes(rest, &code.unwrap_or(NO_CODE).to_le_bytes());
        put_bytes(rest, &source.to_le_bytes());
        bytes.extend_from_slice(&header);
        texts.iter().for_each(|text| put(bytes, *text));
    }

    /// Adds the texts of the actor. Its groups come next.
    pub(in crate::engine) fn actor(&mut self, texts: &ToldOfActor<'_>) {
        self.actor = self.bytes.len();
        texts.iter().for_each(|text| put(&mut self.bytes, *text));
    }

    /// Adds a group of the actor. They come before any value.
    pub(in crate::engine) fn group(&mut self, group: &str) {
        self.groups += 1;
        put(&mut self.bytes, Some(group));
    }

    /// Where that stands which was written of the actor, once all its groups are.
    pub(in crate::engine) fn written(&self) -> Written {
        Written { sheet: self.sheet, start: self.actor, groups: self.groups }
    }

    /// Tells of the actor what was written before; whether that is on this sheet, and not too far away.
    pub(in crate::engine) fn tell_as_written(&mut self, Written { sheet, start, groups }: Written) -> bool {
        let is_near = sheet == self.sheet && self.bytes.len() - start < WRITTEN_MAX;
        if is_near {
            (self.actor, self.groups) = (start, groups);
        }
        is_near
    }

    /// How long the trace at hand is.
    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Adds a captured value; its text is left out if it is secret.
    pub(in crate::engine) fn value(&mut self, id: CaptureId, hash: u128, text: Option<&str>) {
        let (start, raw) = (self.len() as u32, enough(text.unwrap_or("")).as_bytes());
        self.bytes.extend_from_slice(raw);
        let mut entry = [0; VALUE_BYTES];
        let mut rest = put_bytes(&mut entry, &id.to_le_bytes());
        rest = put_bytes(rest, &start.to_le_bytes());
        rest = put_bytes(rest, &(raw.len() as u16).to_le_bytes());
        rest = put_bytes(rest, &u16::from(text.is_none()).to_le_bytes());
        put_bytes(rest, &hash.to_le_bytes());
        self.values.extend_from_slice(&entry);
    }

    /// Ends the trace; it still has to be [put on](Trace::put_on) its sheet.
    pub(in crate::engine) fn finish(&mut self, time: i64, received: i64) -> Trace {
        let count = (self.values.len() / VALUE_BYTES) as u16;
        let header = &mut self.bytes[self.start..];
        header[at::GROUPS..at::GROUPS + 2].copy_from_slice(&self.groups.to_le_bytes());
        header[at::VALUES..at::VALUES + 2].copy_from_slice(&count.to_le_bytes());
        self.bytes.extend_from_slice(&self.values);
        self.bytes.extend_from_slice(&received.to_le_bytes());
        let actor = (self.bytes.len() - self.actor) as u32;
        Trace { time, start: self.start, length: self.len() as u32, actor, sheet: None }
    }

    /// The sheet with all traces since the last one.
    pub(in crate::engine) fn sheet(&mut self) -> Sheet {
        // To grow means to copy what was written, and to hold twice as much: a little more than usual is cheaper.
        self.usual = self.bytes.len().max(self.usual - self.usual / 16);
        let next = Vec::with_capacity(self.usual + self.usual / 8);
        self.sheet += 1;
        Arc::new(std::mem::replace(&mut self.bytes, next))
    }
}

/// What a recorder has written of an actor.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Written {
    /// The number of its sheet.
    sheet: u64,
    /// Where it begins.
    start: usize,
    groups: u16,
}

/// How far before a trace that may be which is told of its actor, in bytes: traces count them in 32 bits.
const WRITTEN_MAX: usize = 1 << 30;

/// As much of a text as it takes to show it as if it were all there: redaction cuts what is longer than its limit, so one
/// character more will do.
#[inline]
fn enough(text: &str) -> &str {
    const MAX: usize = redact::TEXT_MAX + char::MAX.len_utf8();
    if text.len() <= MAX { text } else { cut(text, MAX) }
}

/// Adds a text behind its length.
#[inline(always)]
fn put(bytes: &mut Vec<u8>, text: Option<&str>) {
    put_raw(bytes, text.map(|text| enough(text).as_bytes()));
}

#[inline]
fn put_bytes<'r>(rest: &'r mut [u8], bytes: &[u8]) -> &'r mut [u8] {
    let (place, rest) = rest.split_at_mut(bytes.len());
    place.copy_from_slice(bytes);
    rest
}
