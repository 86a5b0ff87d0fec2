//! The parts of a header that come again from event to event, and what is known of their values.
//!
//! Most events of a log look like others before them: the same verb on the same resource, the same user, the same
//! namespace, the same client. What a facet's value means for all rules (which of them it rules out, which parts of
//! their conditions it settles) is worked out when the value is first seen, and not again for every event.

use std::hash::{BuildHasher, Hasher};

use hashbrown::HashMap;

use super::index::Bits;
use crate::event::path::{Derived, Fast, Field, Part, Root};
use crate::event::view::{Event, Slot};
use crate::rules::expr::{Op, StrHow, StrOp};

/// A part of the header that comes again from event to event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facet {
    /// Verb, resource, subresource, API group, code, outcome and stage, and whether the audit id is a UUID.
    Deed,
    /// The user with its groups and kind of credential, and whom it acts as.
    Actor,
    /// The namespace and the cluster.
    Place,
    /// The user agent.
    Agent,
    /// The annotations.
    Annotations,
}

/// How many facets there are.
pub const FACETS: usize = 5;

impl Facet {
    /// All of them, those that narrow most first.
    pub const ALL: [Facet; FACETS] = [Facet::Deed, Facet::Actor, Facet::Place, Facet::Agent, Facet::Annotations];

    /// The facet that the field's values follow from, if they follow from one.
    pub fn of(field: &Field) -> Option<Facet> {
        let whole = field.path.0.is_empty();
        Some(match field.root {
            Root::Fast(Fast::Verb | Fast::Resource | Fast::Subresource | Fast::ApiGroup | Fast::Code) => Facet::Deed,
            Root::Fast(Fast::Username) => Facet::Actor,
            Root::Fast(Fast::Namespace) => Facet::Place,
            Root::Fast(Fast::UserAgent) => Facet::Agent,
            Root::Slot(Slot::Stage) if whole => Facet::Deed,
            Root::Slot(Slot::User) if matches!(&*field.path.0, [Part::Run(run)] if &**run == "groups") => Facet::Actor,
            Root::Slot(Slot::ImpersonatedUser) => Facet::Actor,
            Root::Derived(Derived::Outcome | Derived::LongRunning | Derived::AuditIdIsUuid) => Facet::Deed,
            Root::Derived(Derived::ActorUsername | Derived::ActorGroups) => Facet::Actor,
            Root::Derived(Derived::ActorSubjects | Derived::ActorKind) => Facet::Actor,
            Root::Derived(Derived::Cluster) => Facet::Place,
            Root::Derived(Derived::UserAgentProduct) => Facet::Agent,
            Root::Derived(Derived::Decision) | Root::Slot(Slot::Annotations) => Facet::Annotations,
            _ => return None,
        })
    }

    /// The facet that the verdict of a test follows from, if it follows from one.
    pub fn of_test(field: &Field, any_of: &[Op]) -> Option<Facet> {
        if any_of.iter().any(|op| matches!(op, Op::FieldRef(_))) {
            return None;
        }
        let kind = field.root == Root::Derived(Derived::CredentialId) && any_of.iter().all(is_of_kind);
        if kind { Some(Facet::Actor) } else { Facet::of(field) }
    }

    /// Feeds everything that the facet's fields are read from. Text is taken as it stands: an escape only makes one more
    /// value of what is the same.
    fn feed(self, event: &Event<'_>, hasher: &mut impl Hasher) {
        let mut add = |part: &[u8]| {
            hasher.write(part);
            hasher.write_u8(0xff);
        };
        match self {
            Facet::Deed => {
                for part in [event.verb(), event.resource(), event.subresource(), event.api_group()] {
                    add(part.map_or(b"\xfe", str::as_bytes));
                }
                add(event.slot_bytes(Slot::Stage));
                add(event.outcome().as_bytes());
                add(event.derived_text(Derived::AuditIdIsUuid).flatten().map_or(b"", str::as_bytes));
                hasher.write_i64(event.code().unwrap_or(i64::MIN));
            }
            Facet::Actor => {
                add(event.username_bytes());
                add(event.groups_raw().map_or(&[], |raw| event.doc().bytes(raw)));
                add(event.slot_bytes(Slot::ImpersonatedUser));
                add(event.credential_kind());
            }
            Facet::Place => {
                add(event.namespace().map_or(b"\xfe", str::as_bytes));
                add(event.cluster().as_bytes());
            }
            Facet::Agent => add(event.slot_bytes(Slot::UserAgent)),
            Facet::Annotations => add(event.slot_bytes(Slot::Annotations)),
        }
    }
}

/// Whether a test of a credential's id tells nothing apart but its kind, the text up to its `=`.
fn is_of_kind(op: &Op) -> bool {
    match op {
        Op::Exists(_) | Op::Null | Op::Never => true,
        Op::Str(StrOp { how: StrHow::Prefix(prefix), .. }) => prefix.find('=') == prefix.len().checked_sub(1),
        _ => false,
    }
}

/// What a value of a facet means for all rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// Rules that it does not rule out.
    pub rules: Bits,
    /// Parts of conditions that hold whatever the rest of the event says.
    pub settled: Bits,
}

/// How many bytes of meanings are remembered of each facet.
const KNOWN_BYTES_MAX: usize = 1 << 20;

/// What a meaning costs besides its bits.
const ENTRY_BYTES: usize = 96;

/// Meanings by the facets' values.
#[derive(Debug, Default)]
pub struct Cache {
    /// Seeded at random, so that nobody can write events that collide.
    hasher: foldhash::fast::RandomState,
    known: [Known; FACETS],
}

/// The meanings of one facet's values.
#[derive(Debug, Default)]
struct Known {
    by_value: HashMap<u64, u32, foldhash::fast::RandomState>,
    meanings: Vec<Meaning>,
    bytes: usize,
}

/// Where the meaning of a facet's value is kept, until the next event.
pub type Place = u32;

impl Cache {
    /// Where the meaning of the event's value of this facet is, worked out if the value is new. Makes room, if there is
    /// none, by forgetting all values: places of earlier events are void.
    pub fn place(&mut self, facet: Facet, event: &Event<'_>, work_out: impl FnOnce() -> Meaning) -> Place {
        let mut hasher = self.hasher.build_hasher();
        facet.feed(event, &mut hasher);
        let known = &mut self.known[facet as usize];
        if known.bytes > KNOWN_BYTES_MAX {
            *known = Known::default();
        }
        *known.by_value.entry(hasher.finish()).or_insert_with(|| {
            let meaning = work_out();
            known.bytes += 8 * (meaning.rules.len() + meaning.settled.len()) + ENTRY_BYTES;
            known.meanings.push(meaning);
            (known.meanings.len() - 1) as Place
        })
    }

    /// The meaning at a place of this event.
    pub fn meaning(&self, facet: usize, place: Place) -> &Meaning {
        &self.known[facet].meanings[place as usize]
    }
}
