//! The view of one audit event: where its members stand. Bodies stay byte ranges until a rule asks for a path inside.

use std::cell::{Cell, OnceCell};
use std::ops::Range;

use bumpalo::Bump;

use super::Stage;
use super::credential::UsualExtra;
use super::header::SLOTS;
pub use super::header::Slot;
use super::json::{Doc, Kind, Raw};
use super::keys::{KeySet, Mark};
use super::path::{Derived, Field, Path, Root};
use super::places::Places;
use super::site::Site;
use super::structure::Flaw;
use super::walk::{Missing, Node, Visit};

/// Members of `user`, `objectRef` and `responseStatus` that are located at once, because the index or the request's
/// identity needs them; and the texts that every rule asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Located {
    pub(super) username: Option<Raw>,
    pub(super) groups: Option<Raw>,
    pub(super) extra: Option<Raw>,
    /// What stands in `extra`, if it is nothing but what service accounts have.
    pub(super) usual_extra: Option<UsualExtra>,
    /// Whether `user` has no other members than the API server's.
    pub(super) plain_user: bool,
    pub(super) resource: Option<Raw>,
    pub(super) subresource: Option<Raw>,
    pub(super) namespace: Option<Raw>,
    pub(super) name: Option<Raw>,
    pub(super) api_group: Option<Raw>,
    pub(super) code: Option<Raw>,
}

/// Texts and numbers of the header, read once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Texts<'a> {
    pub(super) verb: Option<&'a str>,
    pub(super) username: Option<&'a str>,
    pub(super) resource: Option<&'a str>,
    pub(super) subresource: Option<&'a str>,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) api_group: Option<&'a str>,
    pub(super) code: Option<i64>,
}

/// The members of an object that was walked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Members<'a> {
    /// Keys and values, in order.
    pub(super) list: &'a [(Raw, Raw)],
    /// The keys' marks: most of what rules ask for is not there, and these say so without a look at the keys.
    pub(super) marks: &'a [Mark],
    /// All of them, a bit each.
    pub(super) any: u64,
}

/// The members of an object that is being walked.
pub(super) struct NewMembers<'a> {
    list: bumpalo::collections::Vec<'a, (Raw, Raw)>,
    marks: bumpalo::collections::Vec<'a, Mark>,
    any: u64,
}

impl<'a> NewMembers<'a> {
    pub(super) fn new(arena: &'a Bump) -> NewMembers<'a> {
        let list = bumpalo::collections::Vec::with_capacity_in(8, arena);
        NewMembers { list, marks: bumpalo::collections::Vec::with_capacity_in(8, arena), any: 0 }
    }

    /// Adds a member; gives its key's mark.
    pub(super) fn add(&mut self, doc: &Doc<'a>, key: Raw, value: Raw) -> Mark {
        let mark = doc.name(key).map_or(Mark::ANY, |name| Mark::of(&name));
        self.any |= mark.bit();
        self.marks.push(mark);
        self.list.push((key, value));
        mark
    }

    pub(super) fn done(self) -> Members<'a> {
        Members { list: self.list.into_bump_slice(), marks: self.marks.into_bump_slice(), any: self.any }
    }
}

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
    pub request_dropped: OnceCell<bool>,
    pub response_dropped: OnceCell<bool>,
    pub pod_specs: OnceCell<(&'a [Node<'a>], Missing)>,
    pub containers: OnceCell<(&'a [Node<'a>], Missing)>,
    pub pod_keys: OnceCell<Option<&'a KeySet>>,
    /// Objects that were walked, and what they hold.
    pub objects: Places<'a, Members<'a>>,
    /// Arrays of objects that were walked, and their elements.
    pub arrays: Places<'a, &'a [Raw]>,
}

/// One event: one stage of one API request.
pub struct Event<'a> {
    pub(super) doc: Doc<'a>,
    pub(super) arena: &'a Bump,
    pub(super) site: &'a Site,
    pub(super) cluster: &'a str,
    pub(super) provider: Option<&'static str>,
    pub(super) raw: Raw,
    pub(super) slots: [Option<Raw>; SLOTS],
    /// Earlier occurrences of members that merge, in order.
    pub(super) earlier: Vec<(Slot, Raw)>,
    pub(super) located: Located,
    pub(super) texts: Texts<'a>,
    /// Where no backslash stands: up to the first one of the event, and from behind the member that has it up to the next.
    pub(super) plain: [Range<usize>; 2],
    pub(super) duplicate_keys: bool,
    pub(super) stage: Stage,
    pub(super) time: Option<i64>,
    pub(super) received: Option<i64>,
    uri: OnceCell<&'a str>,
    /// What several rules ask for and costs a walk, kept for the event's life.
    pub(super) kept: Kept<'a>,
    /// Set when a walk met bytes that are no JSON.
    pub(super) malformed: Cell<bool>,
    /// Whether a text of the header that is read of every event could not be read.
    pub(super) flawed: bool,
}

impl<'a> Event<'a> {
    /// Locates the members of the object that starts at `raw.start`; where it ends is found on the way.
    ///
    /// # Errors
    /// If the object's own level, or that of `user`, `objectRef` or `responseStatus`, is not well-formed. What stands
    /// deeper is not looked at.
    pub fn parse(doc: Doc<'a>, raw: Raw, arena: &'a Bump, site: &'a Site, cluster: &'a str) -> Result<Event<'a>, Flaw> {
        let mut event = Event::unread(doc, raw, arena, site, cluster);
        event.read()?;
        Ok(event)
    }

    /// An event of which nothing is known yet; [`Event::read`] makes it one. In two steps because it is large, and thus is
    /// made where it stays.
    #[inline(always)]
    pub fn unread(doc: Doc<'a>, raw: Raw, arena: &'a Bump, site: &'a Site, cluster: &'a str) -> Event<'a> {
        Event {
            doc,
            arena,
            site,
            cluster,
            provider: None,
            raw,
            slots: [None; SLOTS],
            earlier: Vec::new(),
            located: Located::default(),
            texts: Texts::default(),
            plain: [0..0, 0..0],
            duplicate_keys: false,
            stage: Stage::Other,
            time: None,
            received: None,
            uri: OnceCell::new(),
            kept: Kept::default(),
            malformed: Cell::new(false),
            flawed: false,
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
        let is_plain = self.plain.iter().any(|plain| plain.start <= raw.start && raw.end <= plain.end);
        let text = if is_plain { self.doc.verbatim(raw) } else { self.doc.plain(raw) };
        text.or_else(|| self.escaped_text(raw))
    }

    #[cold]
    fn escaped_text(&self, raw: Raw) -> Option<&'a str> {
        let text = self.doc.string_in(raw, self.arena).ok();
        if text.is_none() {
            self.malformed.set(true);
        }
        text
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

    /// OpenShift's collector puts a log level where the audit level stood, and that beside it: rules are to see the latter.
    pub(crate) fn put_level_right(&mut self) {
        if matches!(self.level(), None | Some("None" | "Metadata" | "Request" | "RequestResponse")) {
            return;
        }
        let beside = ["k8s_audit_level", "openshift_audit_level"];
        let beside = beside.iter().find_map(|name| self.find_member(self.raw, name));
        let slot = &mut self.slots[Slot::Level as usize];
        *slot = beside.or(*slot);
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
        self.time
    }

    /// `requestReceivedTimestamp` in microseconds.
    pub fn received(&self) -> Option<i64> {
        self.received
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

    /// What is read of the header counts as far as it can be read, whoever asks for it first: nobody is left in doubt by what
    /// is wrong behind that, and what is wrong elsewhere leaves no doubt here.
    pub(crate) fn of_header<T>(&self, read: impl FnOnce() -> T) -> T {
        let before = self.malformed.take();
        let read = read();
        self.malformed.set(before);
        read
    }

    /// Whether a text of the header that is read of every event could not be read. What only some rules ask for is not
    /// counted: the fast path and the plain one read more or less of it.
    pub fn is_flawed(&self) -> bool {
        self.flawed
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
            Root::Derived(Derived::Object | Derived::PodSpec | Derived::Containers | Derived::PodAnnotations) => {
                self.shows_patch()
            }
            _ => false,
        }
    }

    /// Whose managed cluster it is, in one word, if an envelope tells.
    pub fn provider(&self) -> Option<&'static str> {
        self.provider
    }

    /// What an envelope tells of the event: whose cluster it is, in one word, and which; and when it came, in microseconds,
    /// for an event that has no time of its own.
    pub(crate) fn set_told(&mut self, provider: Option<&'static str>, cluster: Option<&'a str>, time: Option<i64>) {
        self.provider = provider;
        self.cluster = cluster.unwrap_or(self.cluster);
        self.time = self.time.or(time);
    }

    /// The name of the cluster.
    pub fn cluster(&self) -> &'a str {
        self.cluster
    }
}
