//! The reorder buffer: what was matched waits here until the watermark has passed it, and leaves in event order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::plan::Hop;
use crate::engine::matches::{Identity, Match, Origin, Stage};

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
    fn order(&self) -> Order {
        let place = match &self.hop {
            None => (0, self.matched.stage, self.matched.rule),
            Some(hop) => (1, Stage::RequestReceived, hop.correlation),
        };
        (self.time, self.matched.identity, place)
    }
}

/// What items are ordered by: time, identity, and the place within one event.
type Order = (i64, Identity, (u8, Stage, u32));

/// A priority queue in event order.
#[derive(Debug, Default)]
pub(super) struct Reorder {
    /// Order, number of arrival (which decides between deliveries of the same match), and where the item is: a match is
    /// large, and a heap moves what it holds many times.
    heap: BinaryHeap<Reverse<(Order, u64, usize)>>,
    items: Vec<Option<Item>>,
    free: Vec<usize>,
    arrived: u64,
    /// The newest time that ever entered.
    newest: Option<i64>,
}

impl Reorder {
    pub(super) fn push(&mut self, item: Item) {
        self.newest = self.newest.max(Some(item.time));
        let order = item.order();
        let place = match self.free.pop() {
            Some(place) => {
                self.items[place] = Some(item);
                place
            }
            None => {
                self.items.push(Some(item));
                self.items.len() - 1
            }
        };
        self.heap.push(Reverse((order, self.arrived, place)));
        self.arrived += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Time of the earliest item.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.heap.peek().map(|Reverse((order, ..))| order.0)
    }

    pub(super) fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// Takes the next event: all items of the earliest (time, identity), in order. `run` is overwritten; false if nothing
    /// waits.
    pub(super) fn pop_run(&mut self, run: &mut Vec<Item>) -> bool {
        run.clear();
        while let Some(Reverse(((time, identity, _), _, place))) = self.heap.peek() {
            if run.first().is_some_and(|f| (f.time, f.matched.identity) != (*time, *identity)) {
                break;
            }
            run.extend(self.items[*place].take());
            self.free.push(*place);
            self.heap.pop();
        }
        !run.is_empty()
    }
}
