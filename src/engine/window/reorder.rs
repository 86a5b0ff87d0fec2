//! The reorder buffer: what was matched waits here until the watermark has passed it, and leaves in event order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::plan::Hop;
use crate::engine::matches::{Match, Origin};

/// A match on its way into windows: of a rule, or (with `hop`) of a correlation that fired on it.
#[derive(Debug)]
pub(super) struct Item {
    /// Its time in windows, microseconds.
    pub(super) time: i64,
    /// The match, or the deciding match of the correlation that fired.
    pub(super) matched: Match,
    /// The correlations it has passed.
    pub(super) hop: Option<Arc<Hop>>,
}

impl Item {
    /// What matched.
    pub(super) fn origin(&self) -> Origin {
        match &self.hop {
            Some(hop) => Origin::Correlation(hop.correlation),
            None => Origin::Rule(self.matched.rule),
        }
    }

    /// Event order, rules before correlations; rules are sorted by id, so that an index orders like its id.
    fn order(&self, other: &Self) -> Ordering {
        let head = (self.time, &self.matched.identity).cmp(&(other.time, &other.matched.identity));
        head.then_with(|| match (&self.hop, &other.hop) {
            (None, None) => (self.matched.stage, self.matched.rule).cmp(&(other.matched.stage, other.matched.rule)),
            _ => self.origin().cmp(&other.origin()),
        })
    }
}

/// An item with its number of arrival, which decides between deliveries of the same match.
#[derive(Debug)]
struct Waiting {
    item: Item,
    arrived: u64,
}

impl Ord for Waiting {
    /// Reversed: the heap's greatest is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.item.order(&self.item).then_with(|| other.arrived.cmp(&self.arrived))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

/// A priority queue in event order.
#[derive(Debug, Default)]
pub(super) struct Reorder {
    heap: BinaryHeap<Waiting>,
    arrived: u64,
    /// The newest time that ever entered.
    newest: Option<i64>,
}

impl Reorder {
    pub(super) fn push(&mut self, item: Item) {
        self.newest = self.newest.max(Some(item.time));
        self.heap.push(Waiting { item, arrived: self.arrived });
        self.arrived += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Time of the earliest item.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.heap.peek().map(|w| w.item.time)
    }

    pub(super) fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// Takes the next event: all items of the earliest (time, identity), in order. `run` is overwritten; false if nothing
    /// waits.
    pub(super) fn pop_run(&mut self, run: &mut Vec<Item>) -> bool {
        run.clear();
        while let Some(Waiting { item: next, .. }) = self.heap.peek() {
            if run.first().is_some_and(|f| (f.time, f.matched.identity) != (next.time, next.matched.identity)) {
                break;
            }
            run.extend(self.heap.pop().map(|w| w.item));
        }
        !run.is_empty()
    }
}
