//! The reorder buffer: what was matched waits here until the watermark has passed it, and leaves in event order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
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
    /// Whether its rule's alert is still to be told.
    pub(super) tells: bool,
}

impl Item {
    /// A rule's match.
    pub(super) fn of_rule(time: i64, matched: Match) -> Item {
        Item { time, matched, hop: None, tells: false }
    }

    /// The match that made a correlation fire, or that had begun its wait.
    pub(super) fn of_correlation(time: i64, matched: Match, hop: Arc<Hop>) -> Item {
        Item { time, matched, hop: Some(hop), tells: false }
    }

    /// Whether both are of the same event.
    pub(super) fn is_beside(&self, other: &Item) -> bool {
        self.time == other.time && self.matched.is_of_request_of(&other.matched)
    }

    /// Whether this one stands before the other, or at its place. Identities are asked only of what happened at one time.
    fn is_not_behind(&self, other: &Item) -> bool {
        match self.is_beside(other) {
            true => self.place() <= other.place(),
            false => self.time < other.time || (self.time == other.time && self.order() < other.order()),
        }
    }

    /// What matched.
    pub(super) fn origin(&self) -> Origin {
        match &self.hop {
            Some(hop) => Origin::Correlation(hop.correlation),
            None => Origin::Rule(self.matched.rule),
        }
    }

    /// Event order, rules before correlations; rules are sorted by id, so that an index orders like its id.
    fn order(&self) -> Order {
        (self.time, self.matched.identity(), self.place())
    }

    fn place(&self) -> Place {
        match &self.hop {
            None => (0, self.matched.stage, self.matched.rule),
            Some(hop) => (1, Stage::RequestReceived, hop.correlation),
        }
    }
}

/// What items are ordered by: time, identity, and the place within one event.
type Order = (i64, Identity, Place);

/// The place within one event.
type Place = (u8, Stage, u32);

/// How many items of the line are moved for one that comes late; few in tests, which are to see both ways.
const NEAR: usize = if cfg!(test) { 3 } else { 32 };

/// A priority queue in event order.
///
/// Logs are nearly in order. What arrives in order goes to the end of a line, which costs nothing, and what belongs near the
/// end is put there; only what has to stand far before it goes to a heap beside the line.
#[derive(Debug, Default)]
pub(super) struct Reorder {
    /// In event order, and in the order of arrival.
    line: VecDeque<Item>,
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
        if self.line.back().is_none_or(|last| last.is_not_behind(&item)) {
            self.line.push_back(item);
            return;
        }
        if let Some(place) = self.near_the_end(&item) {
            self.line.insert(place, item);
            return;
        }
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

    /// Where in the line the item belongs, if that is near its end. While anything is in the heap, all goes there: what is
    /// alike has to leave in the order of its arrival.
    fn near_the_end(&self, item: &Item) -> Option<usize> {
        if !self.heap.is_empty() {
            return None;
        }
        let behind = self.line.iter().rev().take(NEAR + 1).take_while(|other| other.time > item.time).count();
        let place = self.line.len() - behind;
        let before = place.checked_sub(1).map(|at| &self.line[at]);
        // Among many that happened at one time the heap finds the place sooner.
        (behind <= NEAR && before.is_none_or(|before| before.is_not_behind(item))).then_some(place)
    }

    pub(super) fn len(&self) -> usize {
        self.line.len() + self.heap.len()
    }

    /// Time of the earliest item.
    pub(super) fn oldest(&self) -> Option<i64> {
        let in_line = self.line.front().map(|item| item.time);
        let in_heap = self.heap.peek().map(|Reverse((order, ..))| order.0);
        in_line.into_iter().chain(in_heap).min()
    }

    pub(super) fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// Takes the next event: all items of the earliest (time, identity), in order. `run` is overwritten; false if nothing
    /// waits.
    pub(super) fn pop_run(&mut self, run: &mut Vec<Item>) -> bool {
        run.clear();
        run.extend(self.pop());
        while let (Some(first), Some(next)) = (run.first(), self.peek())
            && next.is_beside(first)
        {
            run.extend(self.pop());
        }
        !run.is_empty()
    }

    /// Takes all items earlier than `limit`, in order, but no more events once it has as many items as `enough`. `due` is
    /// overwritten.
    pub(super) fn pop_due(&mut self, limit: i64, enough: usize, due: &mut Vec<Item>) {
        due.clear();
        if self.heap.is_empty() {
            let first = self.line.iter().take(enough).take_while(|item| item.time < limit).count();
            due.extend(self.line.drain(..first));
        }
        while let Some(next) = self.peek()
            && next.time < limit
            && (due.len() < enough || due.last().is_some_and(|last| last.is_beside(next)))
        {
            due.extend(self.pop());
        }
    }

    /// Whether the earliest item stands in the line, not in the heap.
    fn is_line_first(&self) -> bool {
        // Of two that are alike, the one in the line came first: the other had to stand before the end of the line then,
        // so it would have left before a later one could become the end.
        match (self.line.front(), self.heap.peek()) {
            (Some(line), Some(Reverse((order, ..)))) => {
                line.time < order.0 || (line.time == order.0 && line.order() <= *order)
            }
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// A look at the earliest item.
    fn peek(&self) -> Option<&Item> {
        if self.is_line_first() {
            return self.line.front();
        }
        let Reverse((_, _, place)) = self.heap.peek()?;
        self.items[*place].as_ref()
    }

    /// The earliest item.
    fn pop(&mut self) -> Option<Item> {
        if self.is_line_first() {
            return self.line.pop_front();
        }
        let Reverse((_, _, place)) = self.heap.pop()?;
        self.free.push(place);
        self.items[place].take()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::matches::{Trace, Who};

    fn item(time: i64, identity: u8, rule: u32, delivery: u32) -> Item {
        let matched = Match {
            rule,
            time: Some(time),
            newest_before: None,
            who: Who::Known([identity; 16]),
            stage: Stage::ResponseComplete,
            cluster: delivery,
            long_running: false,
            trace: Trace::default(),
        };
        Item::of_rule(time, matched)
    }

    proptest! {
        /// What is due leaves in the order in which one event after the other would leave, no event in two parts.
        #[test]
        fn gives_what_is_due_as_one_by_one(
            items in prop::collection::vec((0..6i64, 0..2u8, 0..3u32), 0..40), limit in 0..7i64, enough in 1..9usize,
        ) {
            let (mut together, mut single) = (Reorder::default(), Reorder::default());
            for (delivery, (time, identity, rule)) in (0u32..).zip(items) {
                together.push(item(time, identity, rule, delivery));
                single.push(item(time, identity, rule, delivery));
            }
            let (mut due, mut run) = (Vec::new(), Vec::new());
            let told = |items: &[Item]| items.iter().map(|item| item.matched.cluster).collect::<Vec<_>>();
            loop {
                together.pop_due(limit, enough, &mut due);
                let mut expected = Vec::new();
                while expected.len() < enough && single.oldest().is_some_and(|oldest| oldest < limit) {
                    single.pop_run(&mut run);
                    expected.extend(told(&run));
                }
                prop_assert_eq!(told(&due), expected);
                if due.is_empty() {
                    break;
                }
            }
            prop_assert_eq!((together.len(), together.oldest()), (single.len(), single.oldest()));
            prop_assert!(together.oldest().is_none_or(|oldest| oldest >= limit));
        }

        /// Pushed and popped in any turn: always the least by a stable sort of what waits.
        #[test]
        fn is_a_stable_sort(steps in prop::collection::vec((any::<bool>(), 0..6i64, 0..2u8, 0..2u32), 0..60)) {
            let mut reorder = Reorder::default();
            let mut waiting: Vec<(Order, u32)> = Vec::new();
            let mut run = Vec::new();
            for (delivery, (push, time, identity, rule)) in (0u32..).zip(steps) {
                if push {
                    let item = item(time, identity, rule, delivery);
                    waiting.push((item.order(), delivery));
                    reorder.push(item);
                } else {
                    prop_assert_eq!(reorder.pop_run(&mut run), !waiting.is_empty());
                    waiting.sort_by_key(|(order, _)| *order);
                    let event = |(order, _): &(Order, u32)| (order.0, order.1);
                    let first = waiting.first().map(event);
                    let alike = waiting.iter().take_while(|next| Some(event(next)) == first).count();
                    let expected: Vec<_> = waiting.drain(..alike).collect();
                    let got: Vec<_> = run.iter().map(|item| (item.order(), item.matched.cluster)).collect();
                    prop_assert_eq!(got, expected);
                }
                prop_assert_eq!(reorder.len(), waiting.len());
                prop_assert_eq!(reorder.oldest(), waiting.iter().map(|(order, _)| order.0).min());
            }
        }
    }
}
