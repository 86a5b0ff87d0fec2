//! The index over necessary equalities: from what an event's verb, resource … are to the rules that may match it, so
//! that cost grows with candidates and not with rules.
//!
//! For each dimension a rule either names the values without which it cannot match, or leaves the dimension open. The
//! candidates of an event are the rules that every dimension lets pass: one AND of bitsets. The index may only err on
//! the side of too many; a differential test holds it against judging every rule.

use std::ops::ControlFlow;

use hashbrown::HashMap;

use super::facets::Facet;
use super::lookup::scalar_text;
use super::necessary::{ABSENT, Dimension, Needs, SYSTEM, class};
use crate::event::fold;
use crate::event::view::Event;
use crate::rules::expr::Expr;

/// A bitset over rules.
pub type Bits = Vec<u64>;

/// Which rules each value of each dimension lets pass.
#[derive(Debug, Default)]
pub struct Index {
    words: usize,
    tables: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    dimension: Dimension,
    by_value: HashMap<Box<str>, Bits, foldhash::fast::RandomState>,
    /// Rules that leave the dimension open: all that may match an event whose value nobody names.
    open: Bits,
}

impl Index {
    /// Builds the index of these conditions; the position of a condition is its rule's bit.
    pub fn new(conditions: &[&Expr]) -> Index {
        let words = conditions.len().div_ceil(64);
        let needs: Vec<Needs> = conditions.iter().map(|condition| Needs::of(condition)).collect();
        let tables = Dimension::ALL.iter().map(|dimension| Table::new(*dimension, &needs, words));
        Index { words, tables: tables.filter(|table| !table.by_value.is_empty()).collect() }
    }

    /// How many words a bitset over the rules has.
    pub fn words(&self) -> usize {
        self.words
    }

    /// Narrows `candidates` down to those that may match the event, by the dimensions that follow from this facet.
    pub fn narrow(&self, event: &Event<'_>, facet: Facet, candidates: &mut Bits) {
        for table in self.tables.iter().filter(|table| table.dimension.facet() == facet) {
            table.narrow(event, candidates);
            if candidates.iter().all(|word| *word == 0) {
                return;
            }
        }
    }
}

impl Table {
    fn new(dimension: Dimension, needs: &[Needs], words: usize) -> Table {
        let mut table = Table { dimension, by_value: HashMap::default(), open: vec![0; words] };
        for (rule, needs) in needs.iter().enumerate() {
            match needs.get(dimension) {
                None => set(&mut table.open, rule),
                Some(values) => {
                    for value in values {
                        set(table.by_value.entry_ref(value).or_insert_with(|| vec![0; words]), rule);
                    }
                }
            }
        }
        table
    }

    fn narrow(&self, event: &Event<'_>, candidates: &mut Bits) {
        // Most dimensions concern few rules: look the event's value up only if one of them is still a candidate.
        if candidates.iter().zip(&self.open).all(|(word, open)| word & !open == 0) {
            return;
        }
        if self.dimension.is_many() {
            return self.narrow_many(event, candidates);
        }
        let value = match self.dimension {
            Dimension::Verb => event.verb(),
            Dimension::Resource => event.resource(),
            Dimension::Subresource => event.subresource(),
            Dimension::ApiGroup => event.api_group(),
            Dimension::Prefix => Some(match event.username() {
                Some(name) if fold(name).starts_with(SYSTEM) => SYSTEM,
                _ => "",
            }),
            Dimension::Username => event.username(),
            Dimension::Actor => event.actor_username(),
            Dimension::ActorKind => Some(event.actor_kind()),
            Dimension::Namespace => event.namespace(),
            Dimension::Stage => event.slot(crate::event::view::Slot::Stage).and_then(|raw| event.text(raw)),
            Dimension::Credential => match event.single_credential() {
                Some(id) => id.and_then(|id| id.split_once('=')).map(|(kind, _)| kind),
                None => return,
            },
            Dimension::AuditIdForm => event.derived_text(crate::event::path::Derived::AuditIdIsUuid).flatten(),
            Dimension::Impersonation => event.slot(crate::event::view::Slot::ImpersonatedUser).map(|_| "yes"),
            _ => Some(class(event.code())),
        };
        // A value that spells the mark of absence is present all the same, and no rule names it.
        let value = value.map(fold).filter(|value| **value != *ABSENT).or(value.is_none().then(|| ABSENT.into()));
        let named = value.and_then(|value| self.by_value.get(&*value));
        for (at, word) in candidates.iter_mut().enumerate() {
            *word &= self.open[at] | named.map_or(0, |bits| bits[at]);
        }
    }

    /// A dimension with many values: the rules that any of them lets pass.
    fn narrow_many(&self, event: &Event<'_>, candidates: &mut Bits) {
        let mut named: smallvec::SmallVec<[&Bits; 8]> = smallvec::SmallVec::new();
        let mut take = |text: &str| {
            if let Some(bits) = self.by_value.get(&*fold(text)) {
                named.push(bits);
            }
        };
        let certain = match self.dimension {
            Dimension::Annotation => event.annotation_keys(&mut take),
            Dimension::UserGroup => {
                event.user_groups(&mut |node| each(event, node, &mut take));
                true
            }
            _ => {
                let _ = event.actor_groups(&mut |node| each(event, node, &mut take));
                true
            }
        };
        if certain {
            for (at, word) in candidates.iter_mut().enumerate() {
                *word &= self.open[at] | named.iter().fold(0, |bits, more| bits | more[at]);
            }
        }
    }
}

fn each<'a>(event: &Event<'a>, node: crate::event::walk::Node<'a>, take: &mut dyn FnMut(&str)) -> ControlFlow<()> {
    if let Some(text) = scalar_text(event, node) {
        take(text);
    }
    ControlFlow::Continue(())
}

/// Sets a bit.
pub fn set(bits: &mut [u64], at: usize) {
    bits[at / 64] |= 1 << (at % 64);
}

/// Takes a bit away.
pub fn unset(bits: &mut [u64], at: usize) {
    bits[at / 64] &= !(1 << (at % 64));
}

/// Whether a bit is set.
pub fn has(bits: &[u64], at: usize) -> bool {
    bits[at / 64] >> (at % 64) & 1 == 1
}

/// All bits of so many words.
pub fn ones(words: usize) -> Bits {
    vec![u64::MAX; words]
}
