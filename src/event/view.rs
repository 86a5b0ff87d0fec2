//! The view of one audit event: where its members stand. Bodies stay byte ranges until a rule asks for a path inside.

use std::cell::{Cell, OnceCell, RefCell};

use bumpalo::Bump;

use super::Stage;
use super::json::{Doc, Kind, Raw, escapes_are_valid};
use super::path::{Derived, Field, Path, Root};
use super::site::Site;
use super::structure::Flaw;
use super::time::parse_micros;
use super::walk::{Missing, Node, Visit};

/// A top-level member of an event that rules may ask for (audit.k8s.io/v1 `Event`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Slot {
    Kind,
    ApiVersion,
    Level,
    AuditId,
    Stage,
    RequestUri,
    Verb,
    User,
    ImpersonatedUser,
    AuthenticationMetadata,
    SourceIps,
    UserAgent,
    ObjectRef,
    ResponseStatus,
    RequestObject,
    ResponseObject,
    RequestReceivedTimestamp,
    StageTimestamp,
    Annotations,
    /// Of an EventList.
    Items,
}

/// How many slots there are.
const SLOTS: usize = Slot::Items as usize + 1;

impl Slot {
    /// The slot of a member's name.
    #[inline]
    pub fn of(name: &[u8]) -> Option<Slot> {
        Some(match name {
            b"kind" => Slot::Kind,
            b"apiVersion" => Slot::ApiVersion,
            b"level" => Slot::Level,
            b"auditID" => Slot::AuditId,
            b"stage" => Slot::Stage,
            b"requestURI" => Slot::RequestUri,
            b"verb" => Slot::Verb,
            b"user" => Slot::User,
            b"impersonatedUser" => Slot::ImpersonatedUser,
            b"authenticationMetadata" => Slot::AuthenticationMetadata,
            b"sourceIPs" => Slot::SourceIps,
            b"userAgent" => Slot::UserAgent,
            b"objectRef" => Slot::ObjectRef,
            b"responseStatus" => Slot::ResponseStatus,
            b"requestObject" => Slot::RequestObject,
            b"responseObject" => Slot::ResponseObject,
            b"requestReceivedTimestamp" => Slot::RequestReceivedTimestamp,
            b"stageTimestamp" => Slot::StageTimestamp,
            b"annotations" => Slot::Annotations,
            b"items" => Slot::Items,
            _ => return None,
        })
    }

    /// Whether the API server's decoder merges a second occurrence into the first (structs and maps of Go), instead of
    /// replacing it.
    fn merges(self) -> bool {
        matches!(
            self,
            Slot::User
                | Slot::ImpersonatedUser
                | Slot::AuthenticationMetadata
                | Slot::ObjectRef
                | Slot::ResponseStatus
                | Slot::Annotations
        )
    }
}

/// Members of `user`, `objectRef` and `responseStatus` that are located at once, because the index or the request's
/// identity needs them; and the texts that every rule asks for.
#[derive(Debug, Clone, Copy, Default)]
struct Located {
    username: Option<Raw>,
    groups: Option<Raw>,
    extra: Option<Raw>,
    resource: Option<Raw>,
    subresource: Option<Raw>,
    namespace: Option<Raw>,
    name: Option<Raw>,
    api_group: Option<Raw>,
    code: Option<Raw>,
}

/// Texts and numbers of the header, read once.
#[derive(Debug, Clone, Copy, Default)]
struct Texts<'a> {
    verb: Option<&'a str>,
    username: Option<&'a str>,
    resource: Option<&'a str>,
    subresource: Option<&'a str>,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
    api_group: Option<&'a str>,
    code: Option<i64>,
}

/// Objects that were walked: where each starts, and its members.
type Walked<'a> = smallvec::SmallVec<[(usize, &'a [(Raw, Raw)]); 8]>;

/// Answers that are kept once they have been worked out.
#[derive(Default)]
pub(super) struct Kept<'a> {
    pub actor_username: OnceCell<Option<&'a str>>,
    pub actor_kind: OnceCell<&'static str>,
    pub client_ip: OnceCell<Option<&'a str>>,
    pub credential: OnceCell<Option<Raw>>,
    pub single_credential: OnceCell<Option<Option<&'a str>>>,
    pub decision: OnceCell<Option<&'a str>>,
    pub outcome: OnceCell<&'static str>,
    pub dry_run: OnceCell<bool>,
    pub pod_specs: OnceCell<(&'a [Node<'a>], Missing)>,
    pub containers: OnceCell<(&'a [Node<'a>], Missing)>,
    /// Objects inside bodies.
    pub objects: RefCell<Walked<'a>>,
}

/// One event: one stage of one API request.
pub struct Event<'a> {
    pub(super) doc: Doc<'a>,
    pub(super) arena: &'a Bump,
    pub(super) site: &'a Site,
    pub(super) cluster: &'a str,
    raw: Raw,
    slots: [Option<Raw>; SLOTS],
    /// Earlier occurrences of members that merge, in order.
    earlier: Vec<(Slot, Raw)>,
    located: Located,
    texts: Texts<'a>,
    duplicate_keys: bool,
    stage: Stage,
    uri: OnceCell<&'a str>,
    /// What several rules ask for and costs a walk, kept for the event's life.
    pub(super) kept: Kept<'a>,
    /// Set when a walk met bytes that are no JSON.
    pub(super) malformed: Cell<bool>,
}

/// A whole number, however JSON spells it (`200`, `2e2`).
fn integer(token: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(token).ok()?;
    let rounded = || text.parse::<f64>().ok().filter(|n| n.fract() == 0.0 && n.abs() < 1e15).map(|n| n as i64);
    text.parse().ok().or_else(rounded)
}

impl<'a> Event<'a> {
    /// Locates the members of the object that starts at `raw.start`; where it ends is found on the way.
    ///
    /// # Errors
    /// If the object's own level, or that of `user`, `objectRef` or `responseStatus`, is not well-formed. What stands
    /// deeper is not looked at.
    pub fn parse(doc: Doc<'a>, raw: Raw, arena: &'a Bump, site: &'a Site, cluster: &'a str) -> Result<Event<'a>, Flaw> {
        let mut event = Event {
            doc,
            arena,
            site,
            cluster,
            raw,
            slots: [None; SLOTS],
            earlier: Vec::new(),
            located: Located::default(),
            texts: Texts::default(),
            duplicate_keys: false,
            stage: Stage::Other,
            uri: OnceCell::new(),
            kept: Kept::default(),
            malformed: Cell::new(false),
        };
        let mut members = doc.members(raw);
        for member in members.by_ref() {
            let (key, value) = member?;
            event.place(key, value)?;
        }
        event.raw.end = members.end();
        event.locate()?;
        event.texts = event.read_texts();
        event.stage = match event.slot(Slot::Stage).map(|raw| doc.bytes(raw)) {
            Some(b"\"ResponseComplete\"") => Stage::ResponseComplete,
            Some(b"\"ResponseStarted\"") => Stage::ResponseStarted,
            Some(b"\"RequestReceived\"") => Stage::RequestReceived,
            Some(b"\"Panic\"") => Stage::Panic,
            _ => Stage::Other,
        };
        Ok(event)
    }

    #[inline]
    fn place(&mut self, key: Raw, value: Raw) -> Result<(), Flaw> {
        let inner = &self.doc.text[key.start + 1..key.end - 1];
        let slot = match Slot::of(inner) {
            Some(slot) => slot,
            None if inner.contains(&b'\\') => match Slot::of(self.doc.string(key)?.as_bytes()) {
                Some(slot) => slot,
                None => return Ok(()),
            },
            None => return Ok(()),
        };
        if self.doc.kind(value) == Kind::String {
            let inner = &self.doc.text[value.start + 1..value.end - 1];
            if !escapes_are_valid(inner) {
                return Err(Flaw::Syntax);
            }
        }
        if let Some(before) = self.slots[slot as usize] {
            self.duplicate_keys = true;
            if slot.merges() {
                let null = self.doc.kind(value) == Kind::Null;
                // Null leaves a Go struct as it is, and empties a pointer or a map.
                if null && slot == Slot::User {
                    return Ok(());
                }
                self.earlier.retain(|(have, _)| !(null && *have == slot));
                if !null {
                    self.earlier.push((slot, before));
                }
            }
        }
        self.slots[slot as usize] = Some(value);
        Ok(())
    }

    fn locate(&mut self) -> Result<(), Flaw> {
        let mut located = Located::default();
        let mut twice = false;
        for slot in [Slot::User, Slot::ObjectRef, Slot::ResponseStatus] {
            let parts: smallvec::SmallVec<[Raw; 2]> = self.objects(slot).collect();
            for raw in parts {
                for member in self.doc.members(raw) {
                    let (key, value) = member?;
                    let name = &self.doc.text[key.start + 1..key.end - 1];
                    let unescaped;
                    let name = if name.contains(&b'\\') {
                        unescaped = self.doc.string(key)?;
                        unescaped.as_bytes()
                    } else {
                        name
                    };
                    let place = match (slot, name) {
                        (Slot::User, b"username") => &mut located.username,
                        (Slot::User, b"groups") => &mut located.groups,
                        (Slot::User, b"extra") => &mut located.extra,
                        (Slot::ObjectRef, b"resource") => &mut located.resource,
                        (Slot::ObjectRef, b"subresource") => &mut located.subresource,
                        (Slot::ObjectRef, b"namespace") => &mut located.namespace,
                        (Slot::ObjectRef, b"name") => &mut located.name,
                        (Slot::ObjectRef, b"apiGroup") => &mut located.api_group,
                        (Slot::ResponseStatus, b"code") => &mut located.code,
                        _ => continue,
                    };
                    twice |= place.is_some();
                    *place = Some(value);
                }
            }
        }
        self.located = located;
        self.duplicate_keys |= twice;
        Ok(())
    }

    fn read_texts(&self) -> Texts<'a> {
        let text = |raw: Option<Raw>| raw.and_then(|raw| self.text(raw));
        let located = &self.located;
        let code = located.code.and_then(|raw| integer(self.doc.bytes(raw)));
        Texts {
            verb: text(self.slot(Slot::Verb)),
            username: text(located.username),
            resource: text(located.resource),
            subresource: text(located.subresource),
            namespace: text(located.namespace),
            name: text(located.name),
            api_group: text(located.api_group),
            code,
        }
    }

    /// Where a member stands; the last one if it occurs more than once.
    #[inline]
    pub fn slot(&self, slot: Slot) -> Option<Raw> {
        self.slots[slot as usize]
    }

    /// The objects that make up a member, in order: one, or several if the member occurs more than once.
    pub(super) fn objects(&self, slot: Slot) -> impl Iterator<Item = Raw> + '_ {
        let earlier = self.earlier.iter().filter(move |(have, _)| *have == slot).map(|(_, raw)| *raw);
        earlier.chain(self.slot(slot)).filter(|raw| self.doc.kind(*raw) == Kind::Object)
    }

    /// The whole event, as it stands in its document.
    pub fn raw(&self) -> Raw {
        self.raw
    }

    /// Whether a member stood there twice.
    pub fn has_duplicate_keys(&self) -> bool {
        self.duplicate_keys
    }

    /// The stage.
    #[inline]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// A string value, unescaped; `None` for any other kind. Text with escapes goes to the arena, all else is borrowed.
    #[inline]
    pub fn text(&self, raw: Raw) -> Option<&'a str> {
        if self.doc.kind(raw) != Kind::String {
            return None;
        }
        match self.doc.string(raw) {
            Ok(std::borrow::Cow::Borrowed(text)) => Some(text),
            Ok(std::borrow::Cow::Owned(text)) => Some(self.arena.alloc_str(&text)),
            Err(_) => {
                self.malformed.set(true);
                None
            }
        }
    }

    fn slot_text(&self, slot: Slot) -> Option<&'a str> {
        self.text(self.slot(slot)?)
    }

    /// `verb`.
    pub fn verb(&self) -> Option<&'a str> {
        self.texts.verb
    }

    /// `auditID`.
    pub fn audit_id(&self) -> Option<&'a str> {
        self.slot_text(Slot::AuditId)
    }

    /// `requestURI`.
    pub fn uri(&self) -> Option<&'a str> {
        let raw = self.slot(Slot::RequestUri)?;
        if let Some(uri) = self.uri.get() {
            return Some(uri);
        }
        let uri = self.text(raw)?;
        Some(self.uri.get_or_init(|| uri))
    }

    /// `userAgent`.
    pub fn user_agent(&self) -> Option<&'a str> {
        self.slot_text(Slot::UserAgent)
    }

    /// `level`.
    pub fn level(&self) -> Option<&'a str> {
        self.slot_text(Slot::Level)
    }

    /// `user.username`.
    pub fn username(&self) -> Option<&'a str> {
        self.texts.username
    }

    /// `user.groups`, as it stands.
    pub fn groups_raw(&self) -> Option<Raw> {
        self.located.groups
    }

    /// `user.extra`, as it stands; the last one if it occurs more than once.
    pub(super) fn extra_raw(&self) -> Option<Raw> {
        self.located.extra
    }

    /// `objectRef.resource`.
    pub fn resource(&self) -> Option<&'a str> {
        self.texts.resource
    }

    /// `objectRef.subresource`.
    pub fn subresource(&self) -> Option<&'a str> {
        self.texts.subresource
    }

    /// `objectRef.namespace`.
    pub fn namespace(&self) -> Option<&'a str> {
        self.texts.namespace
    }

    /// `objectRef.name`.
    pub fn name(&self) -> Option<&'a str> {
        self.texts.name
    }

    /// `objectRef.apiGroup`.
    pub fn api_group(&self) -> Option<&'a str> {
        self.texts.api_group
    }

    /// `responseStatus.code`.
    pub fn code(&self) -> Option<i64> {
        self.texts.code
    }

    /// Event time in microseconds: `stageTimestamp`, else `requestReceivedTimestamp`.
    pub fn time(&self) -> Option<i64> {
        self.time_of(Slot::StageTimestamp).or_else(|| self.received())
    }

    /// `requestReceivedTimestamp` in microseconds.
    pub fn received(&self) -> Option<i64> {
        self.time_of(Slot::RequestReceivedTimestamp)
    }

    fn time_of(&self, slot: Slot) -> Option<i64> {
        let raw = self.slot(slot).filter(|raw| self.doc.kind(*raw) == Kind::String)?;
        // The zero time of Go (year 1) is no time.
        parse_micros(&self.doc.text[raw.start + 1..raw.end - 1]).filter(|micros| *micros > 0)
    }

    /// Raw bytes of a member, for fingerprints.
    pub(crate) fn slot_bytes(&self, slot: Slot) -> &'a [u8] {
        self.slot(slot).map_or(&[], |raw| self.doc.bytes(raw))
    }

    /// Raw bytes of `user.username`, for fingerprints.
    pub(crate) fn username_bytes(&self) -> &'a [u8] {
        self.located.username.map_or(&[], |raw| self.doc.bytes(raw))
    }

    /// Whether a walk met bytes that are no JSON since this was last asked.
    pub fn take_malformed(&self) -> bool {
        self.malformed.take()
    }

    /// Says it again, for whoever asks next.
    pub(crate) fn set_malformed(&self, malformed: bool) {
        self.malformed.set(malformed);
    }

    /// The text the event stands in, with its index.
    pub fn doc(&self) -> Doc<'a> {
        self.doc
    }

    /// Where texts live that had to be unescaped or put together.
    pub fn arena(&self) -> &'a Bump {
        self.arena
    }

    /// Whether a member that merges stood there more than once.
    pub fn is_merged(&self, slot: Slot) -> bool {
        self.earlier.iter().any(|(have, _)| *have == slot)
    }

    /// Walks the occurrences of a member that merges, the last one first, up to the first that has the path.
    pub fn walk_merged(&self, slot: Slot, path: &Path, visit: &mut Visit<'_, 'a>) {
        let occurrences: Vec<Raw> = self.objects(slot).collect();
        for raw in occurrences.into_iter().rev() {
            let mut found = false;
            let _ = self.walk(Node::Json(raw), path, &mut |node| {
                found = true;
                visit(node)
            });
            if found {
                return;
            }
        }
    }

    /// Whether a field of this event is read from a patch, which names only what changes.
    pub fn is_partial(&self, field: &Field) -> bool {
        match field.root {
            Root::Slot(Slot::RequestObject) => self.verb() == Some("patch"),
            Root::Derived(Derived::Object | Derived::PodSpec | Derived::Containers) => self.shows_patch(),
            _ => false,
        }
    }

    /// The name of the cluster.
    pub fn cluster(&self) -> &'a str {
        self.cluster
    }
}
