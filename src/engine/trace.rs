//! What a match keeps of its event: the texts that an alert may tell, and the values that correlations group by or count,
//! one after the other, on one sheet with those of the other events of the batch. Most matches only feed windows and are never told; redaction, and the readable
//! [`Excerpt`], are for the few that are.
//!
//! A trace lives in memory only. Whatever leaves the process goes through [`Trace::excerpt`] and [`Captured::shown`],
//! where secrets are cut out.
//!
//! ```text
//! numbers | texts of the event, each behind its length | texts of the values | values | received
//! ```
//!
//! What is told of the actor (its texts, and its groups) stands on the sheet once: in the first trace of the actor, behind the
//! event's texts. Most of an hour's requests are those of a few.

pub(super) mod listed;
mod recorder;

use std::borrow::Cow;
use std::sync::Arc;

use super::matches::{CaptureId, Excerpt, Identity, Value};
use crate::event::identity::Parts;
use crate::event::redact;
pub(super) use recorder::{Recorder, Written};

/// Longest captured value that is shown, in bytes.
const SHOWN_MAX: usize = 256;

/// How many texts of an event are kept; [`Told`] says which.
const TEXTS: usize = 11;

/// How many of them, the first ones, an alert lists of an event that is not its deciding one.
const BRIEF_TEXTS: usize = 7;

/// How many texts of its actor are kept besides the groups; [`ToldOfActor`] says which.
const ACTOR_TEXTS: usize = 3;

/// Bytes behind the values: when the request was received, which is a part of its identity.
const RECEIVED: usize = size_of::<i64>();

/// The texts in their order; the last is the cluster, which excerpts do not tell.
pub(super) type Told<'a> = [Option<&'a str>; TEXTS];

/// Username, the user behind an impersonation, user agent.
pub(super) type ToldOfActor<'a> = [Option<&'a str>; ACTOR_TEXTS];

/// Where the header's numbers stand.
mod at {
    pub(super) const OFFSET: usize = 0;
    pub(super) const CODE: usize = 8;
    pub(super) const SOURCE: usize = 16;
    pub(super) const GROUPS: usize = 20;
    pub(super) const VALUES: usize = 22;
    pub(super) const TEXTS: usize = 24;
}

/// A captured value: id and start of its text (4 bytes each), length of its text (2), whether it is secret (2), hash (16).
const VALUE_BYTES: usize = 28;

/// The length that stands for no text.
const NO_TEXT: u16 = u16::MAX;

/// The status that stands for none.
const NO_CODE: i64 = i64::MIN;

/// What a match keeps of its event. Cheap to clone.
#[derive(Clone)]
pub struct Trace {
    /// Event time in microseconds since the Unix epoch, as used in windows (0 if unknown).
    pub time: i64,
    /// Where its bytes begin on the sheet.
    start: usize,
    /// How many they are.
    length: u32,
    /// How far before their end that begins what is told of the actor.
    actor: u32,
    /// None until the recorder's sheet is full.
    sheet: Option<Sheet>,
}

/// What a recorder has written: the traces of a batch, in one allocation.
pub(crate) type Sheet = Arc<Vec<u8>>;

impl PartialEq for Trace {
    fn eq(&self, other: &Trace) -> bool {
        let (same, other_same) = (self.sheet.as_ref().map(Arc::as_ptr), other.sheet.as_ref().map(Arc::as_ptr));
        // Nearly always the very same one.
        (same, self.start, self.length) == (other_same, other.start, other.length) || self.says_the_same(other)
    }
}

/// A value that a match carries for correlations.
#[derive(Debug, Clone, Copy)]
pub struct Captured<'a> {
    /// What is compared: the first 16 bytes of the BLAKE3 of the whole raw value, or a short value or a token's id itself.
    pub hash: u128,
    /// As much of it as is needed to show it; nothing of a secret.
    raw: Option<&'a [u8]>,
}

impl<'a> Captured<'a> {
    /// The value as it may be shown: redacted, at most 256 bytes.
    pub fn shown(&self) -> Cow<'a, str> {
        let Some(raw) = self.raw else { return Cow::Borrowed(redact::REDACTED) };
        // It was text before it was kept.
        let shown = redact::text(std::str::from_utf8(raw).unwrap_or_default());
        if shown.len() <= SHOWN_MAX {
            return shown;
        }
        Cow::Owned(cut(&shown, SHOWN_MAX).to_owned())
    }

    /// The value as it is, if it is no secret. It must not be shown.
    pub fn text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.raw?).ok()
    }

    /// The value by itself.
    pub fn to_value(&self) -> Value {
        Value { hash: self.hash, text: self.shown().into() }
    }
}

impl Default for Trace {
    fn default() -> Self {
        Excerpt::default().into()
    }
}

impl From<Excerpt<'_>> for Trace {
    fn from(made: Excerpt<'_>) -> Self {
        Trace::new(&made, &[])
    }
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let values: Vec<_> = self.all_values().map(|(id, value)| (id, value.to_value())).collect();
        f.debug_struct("Trace").field("excerpt", &self.excerpt()).field("values", &values).finish()
    }
}

impl Trace {
    #[inline]
    fn bytes(&self) -> &[u8] {
        let sheet = self.sheet.as_ref().and_then(|sheet| sheet.get(self.start..));
        sheet.and_then(|rest| rest.get(..self.length as usize)).unwrap_or_default()
    }

    fn says_the_same(&self, other: &Trace) -> bool {
        let place = |trace: &Trace| (trace.time, u64_at(trace.bytes(), at::OFFSET), u32_at(trace.bytes(), at::SOURCE));
        let values =
            |trace: &Trace| -> Vec<_> { trace.all_values().map(|(id, value)| (id, value.to_value())).collect() };
        place(self) == place(other) && self.excerpt() == other.excerpt() && values(self) == values(other)
    }

    /// What is told of the actor, and more behind it.
    fn bytes_of_actor(&self) -> &[u8] {
        let start = (self.start + self.length as usize).checked_sub(self.actor as usize);
        let rest = self.sheet.as_ref().zip(start).and_then(|(sheet, start)| sheet.get(start..));
        rest.unwrap_or_default()
    }

    /// Says where it stands, once its recorder's sheet is at hand.
    pub(crate) fn put_on(&mut self, sheet: &Sheet) {
        self.sheet = Some(Arc::clone(sheet));
    }

    /// The same on a sheet of its own: a sheet is large, and stays as long as any of its traces does.
    pub(crate) fn alone(&self) -> Trace {
        let bytes = self.bytes();
        let of_actor = self.bytes_of_actor();
        let groups = usize::from(u16_at(bytes, at::GROUPS));
        let of_actor = &of_actor[..length_of(ACTOR_TEXTS + groups, of_actor)];
        let actor = self.length + of_actor.len() as u32;
        Trace { start: of_actor.len(), actor, sheet: Some(Arc::new([of_actor, bytes].concat())), ..*self }
    }

    /// A trace of an event that is known by its excerpt, with captured values in the order of their fields' ids.
    pub fn new(told: &Excerpt<'_>, values: &[(CaptureId, Value)]) -> Trace {
        let mut recorder = Recorder::default();
        let texts = [
            Some(&*told.audit_id),
            Some(&*told.verb),
            Some(&*told.resource),
            told.api_group.as_deref(),
            told.subresource.as_deref(),
            told.namespace.as_deref(),
            told.name.as_deref(),
            Some(&*told.uri),
            told.client_ip.as_deref(),
            told.decision.as_deref(),
            None,
        ];
        recorder.begin(told.source, told.offset, told.code, &texts);
        recorder.actor(&[Some(&*told.username), told.impersonated_by.as_deref(), told.user_agent.as_deref()]);
        told.groups.iter().for_each(|group| recorder.group(group));
        values.iter().for_each(|(id, value)| recorder.value(*id, value.hash, Some(&value.text)));
        let mut trace = recorder.finish(told.time, 0);
        trace.put_on(&recorder.sheet());
        trace
    }

    /// What alerts list of an event, but the time: its numbers and its first texts, up to the object's name.
    pub(super) fn brief(&self) -> &[u8] {
        let bytes = self.bytes();
        // Asked of every match: nothing but lengths is looked at.
        let mut end = at::TEXTS;
        for _ in 0..BRIEF_TEXTS {
            let length = u16_at(bytes, end);
            end += size_of_val(&length) + if length == NO_TEXT { 0 } else { usize::from(length) };
        }
        bytes.get(..end).unwrap_or(bytes)
    }

    /// Bytes it takes to remember what alerts list of the event, if its names are known and no time passed since others'.
    pub fn listed_size(&self) -> usize {
        let (mut names, mut packed) = (listed::Names::default(), Vec::new());
        listed::pack(self.time, self.brief(), self.time, &mut names, &mut packed);
        packed.len() + size_of::<u32>()
    }

    /// A trace from what [`Trace::brief`] gave, without the rest.
    pub(super) fn from_brief(time: i64, brief: &[u8]) -> Trace {
        let mut bytes =
            Vec::with_capacity(brief.len() + size_of_val(&NO_TEXT) * (TEXTS + ACTOR_TEXTS - BRIEF_TEXTS) + RECEIVED);
        bytes.extend_from_slice(brief);
        bytes[at::GROUPS..at::TEXTS].fill(0);
        for _ in BRIEF_TEXTS..TEXTS + ACTOR_TEXTS {
            bytes.extend_from_slice(&NO_TEXT.to_le_bytes());
        }
        bytes.extend_from_slice(&[0; RECEIVED]);
        let actor = (size_of_val(&NO_TEXT) * ACTOR_TEXTS + RECEIVED) as u32;
        Trace { time, start: 0, length: bytes.len() as u32, actor, sheet: Some(Arc::new(bytes)) }
    }

    /// What may be told: redacted, every text bounded.
    pub fn excerpt(&self) -> Excerpt<'_> {
        let bytes = self.bytes();
        let (mut texts, mut of_actor) = (bytes.get(at::TEXTS..).unwrap_or_default(), self.bytes_of_actor());
        let mut next = || next_shown(&mut texts);
        let mut next_of_actor = || next_shown(&mut of_actor);
        // They are read in the order in which they stand here.
        Excerpt {
            audit_id: next().unwrap_or_default(),
            verb: next().unwrap_or_default(),
            resource: next().unwrap_or_default(),
            api_group: next(),
            subresource: next(),
            namespace: next(),
            name: next(),
            uri: next().unwrap_or_default(),
            client_ip: next(),
            decision: next(),
            username: next_of_actor().unwrap_or_default(),
            impersonated_by: next_of_actor(),
            user_agent: next_of_actor(),
            groups: (0..u16_at(bytes, at::GROUPS)).filter_map(|_| next_of_actor()).collect(),
            time: self.time,
            code: Some(u64_at(bytes, at::CODE) as i64).filter(|code| *code != NO_CODE),
            source: u32_at(bytes, at::SOURCE),
            offset: u64_at(bytes, at::OFFSET),
        }
    }

    /// The identity of the request, of which all texts were kept as they were: [`tells_who`] says whether they are.
    pub fn identity(&self) -> Identity {
        let bytes = self.bytes();
        let mut rest = bytes.get(at::TEXTS..).unwrap_or_default();
        let texts: [&[u8]; TEXTS] = std::array::from_fn(|_| next_raw(&mut rest).unwrap_or_default());
        let [audit_id, verb, _, _, _, _, _, uri, _, _, cluster] = texts;
        let mut rest = self.bytes_of_actor();
        let [actor, behind] = std::array::from_fn(|_| next_raw(&mut rest).unwrap_or_default());
        let received = u64_at(bytes, bytes.len().saturating_sub(RECEIVED)) as i64;
        let username = if behind.is_empty() { actor } else { behind };
        Parts { cluster, audit_id, received, username, verb, uri }.hash()
    }

    /// The values of a field; none if it was missing or is not captured.
    #[inline]
    pub fn values(&self, id: CaptureId) -> impl Iterator<Item = Captured<'_>> {
        // The id first: most entries are of other fields, and need not be read.
        self.entries().iter().filter(move |entry| u32_at(*entry, 0) == id).map(|entry| self.value_of(entry))
    }

    /// The value of a field that has exactly one.
    #[inline]
    pub fn sole_value(&self, id: CaptureId) -> Option<Captured<'_>> {
        let entries = self.entries();
        let at = entries.iter().position(|entry| u32_at(entry, 0) == id)?;
        // Those of one field stand side by side.
        let is_sole = entries.get(at + 1).is_none_or(|next| u32_at(next, 0) != id);
        is_sole.then(|| self.value_of(&entries[at]))
    }

    /// All captured values, in the order of their fields' ids.
    #[inline]
    pub fn all_values(&self) -> impl Iterator<Item = (CaptureId, Captured<'_>)> {
        self.entries().iter().map(|entry| (u32_at(entry, 0), self.value_of(entry)))
    }

    #[inline]
    fn entries(&self) -> &[[u8; VALUE_BYTES]] {
        let bytes = self.bytes();
        let end = bytes.len().saturating_sub(RECEIVED);
        let table = end - VALUE_BYTES * usize::from(u16_at(bytes, at::VALUES));
        bytes[table..end].as_chunks().0
    }

    #[inline]
    fn value_of(&self, entry: &[u8; VALUE_BYTES]) -> Captured<'_> {
        let (start, length) = (u32_at(entry, 4) as usize, usize::from(u16_at(entry, 8)));
        let raw = self.bytes().get(start..start + length).filter(|_| u16_at(entry, 10) == 0);
        Captured { hash: u128::from_le_bytes(array_at(entry, 12)), raw }
    }
}

/// A text of at most `max` bytes, cut between characters.
fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Whether the trace of an event with these texts, of which the actor is another than the user (`impersonated`), tells the
/// identity of its request.
pub(super) fn tells_who(parts: &Parts<'_>, impersonated: bool) -> bool {
    parts.fit(redact::TEXT_MAX) && !(impersonated && parts.username.is_empty())
}

/// How many bytes so many texts take.
fn length_of(texts: usize, bytes: &[u8]) -> usize {
    let mut rest = bytes;
    for _ in 0..texts {
        next_raw(&mut rest);
    }
    bytes.len() - rest.len()
}

/// The next text as it may be shown, if there is one at its place. What was put is read again as it was; the empty text
/// would show if that were wrong.
fn next_shown<'t>(rest: &mut &'t [u8]) -> Option<Cow<'t, str>> {
    next_raw(rest).map(|raw| redact::text(std::str::from_utf8(raw).unwrap_or_default()))
}

/// Adds the bytes of a text behind their length.
#[inline(always)]
fn put_raw(into: &mut Vec<u8>, raw: Option<&[u8]>) {
    match raw {
        Some(raw) => {
            into.extend_from_slice(&(raw.len() as u16).to_le_bytes());
            into.extend_from_slice(raw);
        }
        None => into.extend_from_slice(&NO_TEXT.to_le_bytes()),
    }
}

/// The bytes of the next text, if there is one at its place.
fn next_raw<'t>(rest: &mut &'t [u8]) -> Option<&'t [u8]> {
    let length = u16_at(rest, 0);
    *rest = rest.get(2..).unwrap_or_default();
    if length == NO_TEXT {
        return None;
    }
    let (raw, behind) = rest.split_at_checked(usize::from(length))?;
    *rest = behind;
    Some(raw)
}

/// The bytes at a place where something was written; zeros if it was not.
#[inline]
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}
