//! Array blocks: tests bound to the same member of an array, under a quantifier.

use std::ops::ControlFlow;

use super::condition::{Condition, Doubt, Verdict, field_cost};
use super::lookup::{Scope, look_up};
use crate::event::path::{Field, Root};
use crate::event::view::Event;
use crate::event::walk::Node;
use crate::rules::expr::{Each, Quantifier};

/// A compiled array block.
#[derive(Debug)]
pub struct Block {
    pub(super) field: Field,
    quantifier: Quantifier,
    pub(super) condition: Condition,
}

impl Block {
    pub(super) fn compile(each: &Each, in_block: bool) -> Result<Block, regex::Error> {
        Ok(Block {
            field: if in_block { Field::of_member(&each.field) } else { Field::parse(&each.field) },
            quantifier: each.quantifier,
            condition: Condition::build(&each.condition, true)?,
        })
    }

    /// Whether it holds only if some member does.
    pub(super) fn wants_a_member(&self) -> bool {
        matches!(self.quantifier, Quantifier::Any)
    }

    /// A rank for ordering.
    pub(super) fn cost(&self) -> u32 {
        field_cost(&self.field) + 10
    }

    pub(super) fn eval<'a>(&self, event: &Event<'a>, scope: Option<Scope<'a>>, doubt: &Doubt) -> Verdict {
        let mut tally = Tally::default();
        let partial_body = event.verb() == Some("patch");
        let mut member = |node: Node<'a>| {
            let index = tally.members;
            tally.members += 1;
            if let Quantifier::Index(wanted) = self.quantifier
                && wanted != index
            {
                return ControlFlow::Continue(());
            }
            let partial = scope.map_or(partial_body && event.is_partial(&self.field), |scope| scope.partial);
            tally.add(self.condition.eval(event, Some(Scope { member: node, partial }), doubt));
            if tally.decided(self.quantifier) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let missing = match self.field.root {
            Root::Derived(derived) if self.field.path.0.is_empty() => event.members_of(derived, &mut member),
            _ => look_up(&self.field, event, scope, &mut |node| event.each(node, &mut member)),
        };
        let unsure = missing.dropped || missing.malformed || (missing.partial && tally.members == 0);
        if unsure && !tally.decided(self.quantifier) {
            doubt.set(doubt.get().or(missing));
            return Verdict::Unknown;
        }
        tally.verdict(self.quantifier)
    }
}

/// Members of an array, by their verdicts.
#[derive(Default)]
struct Tally {
    members: usize,
    held: usize,
    failed: usize,
    unknown: usize,
}

impl Tally {
    fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::True => self.held += 1,
            Verdict::False => self.failed += 1,
            Verdict::Unknown => self.unknown += 1,
        }
    }

    /// Whether further members cannot change the verdict.
    fn decided(&self, quantifier: Quantifier) -> bool {
        match quantifier {
            Quantifier::Any | Quantifier::None => self.held > 0,
            Quantifier::All | Quantifier::AllOrEmpty => self.failed > 0,
            Quantifier::Index(_) => self.held + self.failed + self.unknown > 0,
        }
    }

    fn verdict(&self, quantifier: Quantifier) -> Verdict {
        let any = if self.held > 0 {
            Verdict::True
        } else if self.unknown > 0 {
            Verdict::Unknown
        } else {
            Verdict::False
        };
        let all = if self.failed > 0 {
            Verdict::False
        } else if self.unknown > 0 {
            Verdict::Unknown
        } else {
            Verdict::True
        };
        match quantifier {
            Quantifier::Any | Quantifier::Index(_) => any,
            Quantifier::None => any.not(),
            Quantifier::All if self.members == 0 => Verdict::False,
            Quantifier::All | Quantifier::AllOrEmpty => all,
        }
    }
}
