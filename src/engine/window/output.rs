//! The order in which firings leave.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::WindowStats;
use super::fan::compare;
use crate::engine::matches::Firing;

/// The order of a replay: (time, identity, rule before correlation, id, group values).
fn order(a: &Firing, b: &Firing) -> Ordering {
    (a.time, &a.identity, a.origin)
        .cmp(&(b.time, &b.identity, b.origin))
        .then_with(|| compare(a.group.iter().map(|g| &g.1), b.group.iter().map(|g| &g.1)))
        .then_with(|| a.cluster.cmp(&b.cluster))
}

#[derive(Debug)]
struct Held {
    firing: Firing,
    arrived: u64,
}

impl Ord for Held {
    /// Reversed: the heap's greatest is the first to leave.
    fn cmp(&self, other: &Self) -> Ordering {
        order(&other.firing, &self.firing).then_with(|| other.arrived.cmp(&self.arrived))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Held {}

/// Puts firings in order: those of one event always, those of all clusters if asked to.
#[derive(Debug)]
pub(super) struct Output {
    ordered: bool,
    held: BinaryHeap<Held>,
    arrived: u64,
    max: usize,
}

impl Output {
    pub(super) fn new(ordered: bool, max: usize) -> Self {
        Output { ordered, held: BinaryHeap::new(), arrived: 0, max: max.max(1) }
    }

    /// Takes the firings of one event; `firings` is emptied.
    pub(super) fn take(&mut self, firings: &mut Vec<Firing>, stats: &mut WindowStats, out: &mut Vec<Firing>) {
        if !self.ordered {
            firings.sort_by(order);
            out.append(firings);
            return;
        }
        for firing in firings.drain(..) {
            self.held.push(Held { firing, arrived: self.arrived });
            self.arrived += 1;
        }
        while self.held.len() > self.max {
            stats.output_forced += 1;
            out.extend(self.held.pop().map(|h| h.firing));
        }
    }

    /// Lets everything earlier than `limit` go.
    pub(super) fn flush(&mut self, limit: Option<i64>, out: &mut Vec<Firing>) {
        while self.held.peek().is_some_and(|h| Some(h.firing.time) < limit) {
            out.extend(self.held.pop().map(|h| h.firing));
        }
    }

    /// Lets everything go.
    pub(super) fn finish(&mut self, out: &mut Vec<Firing>) {
        out.extend(std::iter::from_fn(|| self.held.pop()).map(|h| h.firing));
    }
}
