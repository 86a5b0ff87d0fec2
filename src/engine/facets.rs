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

/// A part of the header that comes again from event to event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facet {
    /// Verb, resource, subresource, API group, code, outcome and stage.
    Deed,
    /// The user with its groups, and whom it acts as.
    Actor,
    /// The namespace and the cluster.
    Place,
    /// The user agent.
    Agent,
}

/// How many facets there are.
pub const FACETS: usize = 4;

impl Facet {
    /// All of them, those that narrow most first.
    pub const ALL: [Facet; FACETS] = [Facet::Deed, Facet::Actor, Facet::Place, Facet::Agent];

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
            Root::Derived(Derived::Outcome | Derived::LongRunning) => Facet::Deed,
            Root::Derived(Derived::ActorUsername | Derived::ActorGroups) => Facet::Actor,
            Root::Derived(Derived::ActorSubjects | Derived::ActorKind) => Facet::Actor,
            Root::Derived(Derived::Cluster) => Facet::Place,
            Root::Derived(Derived::UserAgentProduct) => Facet::Agent,
            _ => return None,
        })
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
                hasher.write_i64(event.code().unwrap_or(i64::MIN));
            }
            Facet::Actor => {
                add(event.username_bytes());
                add(event.groups_raw().map_or(&[], |raw| event.doc().bytes(raw)));
                add(event.slot_bytes(Slot::ImpersonatedUser));
            }
            Facet::Place => {
                add(event.namespace().map_or(b"\xfe", str::as_bytes));
                add(event.cluster().as_bytes());
            }
            Facet::Agent => add(event.slot_bytes(Slot::UserAgent)),
        }
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

/// How many bytes of meanings are remembered.
const KNOWN_BYTES_MAX: usize = 2 << 20;

/// Meanings by the facets' values.
#[derive(Debug, Default)]
pub struct Cache {
    /// Seeded at random, so that nobody can write events that collide.
    hasher: foldhash::fast::RandomState,
    known: HashMap<u64, u32, foldhash::fast::RandomState>,
    meanings: Vec<Meaning>,
    bytes: usize,
}

/// Where a meaning is kept, until the next event.
pub type Place = u32;

impl Cache {
    /// Makes room, if there is none, by forgetting everything: places of earlier events are void.
    pub fn next_event(&mut self) {
        if self.bytes > KNOWN_BYTES_MAX {
            self.known.clear();
            self.meanings.clear();
            self.bytes = 0;
        }
    }

    /// The meaning of the event's value of this facet, worked out if it is new.
    pub fn place(&mut self, facet: Facet, event: &Event<'_>, work_out: impl FnOnce() -> Meaning) -> Place {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u8(facet as u8);
        facet.feed(event, &mut hasher);
        *self.known.entry(hasher.finish()).or_insert_with(|| {
            let meaning = work_out();
            self.bytes += 8 * (meaning.rules.len() + meaning.settled.len()) + 96;
            self.meanings.push(meaning);
            (self.meanings.len() - 1) as Place
        })
    }

    /// The meaning at a place of this event.
    pub fn meaning(&self, place: Place) -> &Meaning {
        &self.meanings[place as usize]
    }
}
