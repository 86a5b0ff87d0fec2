//! The parts of a header that come again from event to event, and what is known of their values.
//!
//! Most events of a log look like others before them: the same verb on the same resource, the same user, the same
//! namespace, the same client. What a facet's value means for all rules (which of them it rules out, which parts of
//! their conditions it settles) is worked out when the value is first seen, and not again for every event.

use std::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;

use crate::event::credential::ExtraKey;
use crate::event::json::Kind;
use crate::event::path::{Derived, Fast, Field, Part, Root};
use crate::event::view::{Event, Slot};
use crate::rules::expr::{Op, StrHow, StrOp};

/// A part of the header that comes again from event to event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Facet {
    /// Verb, resource, subresource, API group, code, outcome and stage, whether the audit id is a UUID, and which bodies
    /// were not logged.
    Deed,
    /// The user with its groups, its kind of credential and what else authenticators know of it; whom it acts as, and with
    /// which client (a user mostly has one, and exemptions ask for both).
    Actor,
    /// The namespace, the cluster and its provider.
    Place,
    /// The annotations.
    Annotations,
}

/// How many facets there are.
pub const FACETS: usize = 4;

impl Facet {
    /// All of them, those that narrow most first.
    pub const ALL: [Facet; FACETS] = [Facet::Deed, Facet::Actor, Facet::Place, Facet::Annotations];

    /// The facet that the field's values follow from, if they follow from one.
    pub fn of(field: &Field) -> Option<Facet> {
        let whole = field.path.0.is_empty();
        Some(match field.root {
            Root::Fast(Fast::Verb | Fast::Resource | Fast::Subresource | Fast::ApiGroup | Fast::Code) => Facet::Deed,
            Root::Fast(Fast::Username | Fast::UserAgent) => Facet::Actor,
            Root::Fast(Fast::Namespace) => Facet::Place,
            Root::Slot(Slot::Stage) if whole => Facet::Deed,
            Root::Slot(Slot::User) if matches!(&*field.path.0, [Part::Run(run)] if &**run == "groups") => Facet::Actor,
            Root::Slot(Slot::ImpersonatedUser) => Facet::Actor,
            Root::Derived(Derived::Outcome | Derived::LongRunning | Derived::AuditIdIsUuid) => Facet::Deed,
            Root::Derived(Derived::ActorUsername | Derived::ActorGroups) => Facet::Actor,
            Root::Derived(Derived::ActorSubjects | Derived::ActorKind | Derived::UserAgentProduct) => Facet::Actor,
            Root::Derived(Derived::Cluster | Derived::Provider) => Facet::Place,
            Root::Derived(Derived::Decision) | Root::Slot(Slot::Annotations) => Facet::Annotations,
            _ => return None,
        })
    }

    /// The facet that the verdict of a test follows from, if it follows from one.
    pub fn of_test(field: &Field, any_of: &[Op]) -> Option<Facet> {
        if any_of.iter().any(|op| matches!(op, Op::FieldRef(_))) {
            return None;
        }
        let exists = |op: &Op| matches!(op, Op::Exists(_) | Op::Null);
        let settled = match field.root {
            Root::Derived(Derived::CredentialId) => any_of.iter().all(is_of_kind),
            Root::Slot(Slot::User) => is_extra(field) && any_of.iter().all(exists),
            _ => false,
        };
        if settled { Some(Facet::Actor) } else { Facet::of(field) }
    }

    /// Feeds everything that the facet's fields are read from. Text is taken as it stands: an escape only makes one more
    /// value of what is the same.
    fn feed(self, event: &Event<'_>, hasher: &mut impl Hasher) {
        // The hasher takes in where a part ends.
        let mut add = |part: &[u8]| hasher.write(part);
        match self {
            Facet::Deed => {
                for part in [event.verb(), event.resource(), event.subresource(), event.api_group()] {
                    add(part.map_or(b"\xfe", str::as_bytes));
                }
                add(event.slot_bytes(Slot::Stage));
                add(event.outcome().as_bytes());
                add(event.derived_text(Derived::AuditIdIsUuid).flatten().map_or(b"", str::as_bytes));
                hasher.write_i64(event.code().unwrap_or(i64::MIN));
                let (request, response) = event.of_header(|| event.dropped_by_level());
                hasher.write_u8(u8::from(request) | u8::from(response) << 1);
            }
            Facet::Actor => {
                add(event.username_bytes());
                add(event.groups_raw().map_or(&[], |raw| event.doc().bytes(raw)));
                add(event.slot_bytes(Slot::ImpersonatedUser));
                add(event.slot_bytes(Slot::UserAgent));
                // Of those that most have, a few bits each.
                let mut usual = 0u64;
                let sound = event.each_extra(&mut |key, value| {
                    let bytes = event.doc().bytes(value);
                    let shape: &[u8] = match event.doc().kind(value) {
                        Kind::Null => b"0",
                        _ if event.doc().is_list_of_one(value) => b"1",
                        // A path may lead into an object.
                        _ if bytes.contains(&b'{') => bytes,
                        _ => b"1",
                    };
                    match (key, shape) {
                        (ExtraKey::Usual(number), [shape]) => usual |= u64::from(*shape) << (8 * number),
                        (ExtraKey::Usual(number), _) => add(&[&[number], shape].concat()),
                        (ExtraKey::Other(name), _) => {
                            add(name);
                            add(shape);
                        }
                    }
                });
                add(&usual.to_le_bytes());
                add(if sound { b"1" } else { b"0" });
                add(event.credential_kind());
            }
            Facet::Place => {
                add(event.namespace().map_or(b"\xfe", str::as_bytes));
                add(event.cluster().as_bytes());
                add(event.provider().unwrap_or_default().as_bytes());
            }
            Facet::Annotations => add(event.slot_bytes(Slot::Annotations)),
        }
    }
}

/// Whether the field is one of what an authenticator adds to a user.
fn is_extra(field: &Field) -> bool {
    matches!(&*field.path.0, [Part::Run(run)] if run.starts_with("extra."))
}

/// Whether a test of a credential's id tells nothing apart but its kind, the text up to its `=`.
fn is_of_kind(op: &Op) -> bool {
    match op {
        Op::Exists(_) | Op::Null | Op::Never => true,
        Op::Str(StrOp { how: StrHow::Prefix(prefix), .. }) => prefix.find('=') == prefix.len().checked_sub(1),
        _ => false,
    }
}

/// What a value of a facet means for all rules: those that it does not rule out, and the parts of conditions that hold
/// whatever the rest of the event says.
pub type Meaning<'m> = (&'m [u64], &'m [u64]);

/// How many bytes of meanings are remembered of each facet, and how many values.
const MEANINGS_BYTES_MAX: usize = 1 << 20;
const VALUES_MAX: usize = 7 << 11;

/// Meanings by the facets' values.
#[derive(Debug, Default)]
pub struct Cache {
    /// Seeded at random, so that nobody can write events that collide.
    hasher: foldhash::fast::RandomState,
    known: [Known; FACETS],
}

/// The meanings of one facet's values. Many values mean the same, and that stands there once: what is read for every event
/// should be little.
#[derive(Debug, Default)]
struct Known {
    /// The hash of a value, and where its meaning starts.
    places: HashTable<(u64, u32)>,
    words: Vec<u64>,
    /// Where each meaning starts, by the hash of its words.
    meanings: HashTable<(u64, u32)>,
}

impl Known {
    fn is_full(&self) -> bool {
        self.words.len() * size_of::<u64>() > MEANINGS_BYTES_MAX || self.places.len() >= VALUES_MAX
    }

    /// Where the words behind `start` stand already; if they do not, they stay there.
    fn only_once(&mut self, start: usize, hasher: &impl BuildHasher) -> u32 {
        let Known { words, meanings, .. } = self;
        let (before, new) = words.split_at(start);
        let hash = hasher.hash_one(new);
        // All meanings of a facet are of one length.
        let same = |(_, place): &(u64, u32)| before.get(*place as usize..).is_some_and(|known| known.starts_with(new));
        if let Some((_, place)) = meanings.find(hash, same) {
            words.truncate(start);
            return *place;
        }
        let place = start as u32;
        meanings.insert_unique(hash, (hash, place), |(hash, _)| *hash);
        place
    }
}

/// Where the meaning of a facet's value is kept, until the next event; and the hash of the value.
pub type Place = (u32, u64);

/// Hashes of what an event shares with others, if they are known: the same hash, the same value.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alike {
    /// Of [`Facet::Deed`].
    pub deed: Option<u64>,
    /// Of [`Facet::Actor`].
    pub actor: Option<u64>,
    /// Of [`Facet::Annotations`].
    pub annotations: Option<u64>,
}

impl Cache {
    /// Where the meaning of the event's value of this facet is; if the value is new, `work_out` fills in the words of the
    /// rules and, behind them, of the settled parts, and for a deed the set of rules that are unknown.
    /// Makes room, if there is none, by forgetting all values: places of earlier events are void.
    pub fn place(&mut self, facet: Facet, event: &Event<'_>, work_out: impl FnOnce(&mut Vec<u64>)) -> Place {
        let mut hasher = self.hasher.build_hasher();
        facet.feed(event, &mut hasher);
        let hash = hasher.finish();
        let known = &mut self.known[facet as usize];
        if let Some((_, place)) = known.places.find(hash, |(have, _)| *have == hash) {
            return (*place, hash);
        }
        if known.is_full() {
            *known = Known::default();
        }
        let start = known.words.len();
        work_out(&mut known.words);
        let place = known.only_once(start, &self.hasher);
        known.places.insert_unique(hash, (hash, place), |(hash, _)| *hash);
        (place, hash)
    }

    /// The set of rules that a deed leaves unknown whose meaning is at this place, with so many words of all else.
    #[inline]
    pub fn unknown(&self, (place, _): Place, words: usize) -> u32 {
        self.known[Facet::Deed as usize].words[place as usize + words] as u32
    }

    /// The meanings at places of this event, with so many words of rules and of settled parts.
    #[inline]
    pub fn meanings<const N: usize>(&self, at: [(Facet, Place); N], rules: usize, settled: usize) -> [Meaning<'_>; N] {
        at.map(|(facet, (place, _))| {
            self.known[facet as usize].words[place as usize..][..rules + settled].split_at(rules)
        })
    }
}
