//! Traces of the matches that windows count, for the `events` of alerts: a ring bounded in bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::WindowStats;
use crate::engine::matches::Trace;

/// The newest excerpts, by running number. Numbers grow in event order.
#[derive(Debug)]
pub(super) struct Evidence {
    /// With their cost, so that nobody has to look into an old one to forget it.
    ring: VecDeque<(Arc<Trace>, usize)>,
    /// Number of the ring's first trace.
    first: u64,
    bytes: usize,
    max: usize,
}

impl Evidence {
    pub(super) fn new(max: usize) -> Self {
        Evidence { ring: VecDeque::new(), first: 0, bytes: 0, max }
    }

    /// Keeps an trace, evicting the oldest if there is no room (itself, if it has none at all). Returns its number.
    pub(super) fn push(&mut self, trace: &Arc<Trace>, stats: &mut WindowStats) -> u64 {
        let number = self.first + self.ring.len() as u64;
        let cost = cost(trace);
        self.bytes += cost;
        self.ring.push_back((Arc::clone(trace), cost));
        while self.bytes > self.max {
            let Some((_, evicted)) = self.ring.pop_front() else { break };
            self.bytes -= evicted;
            self.first += 1;
            stats.evidence_evicted += 1;
        }
        number
    }

    /// The trace with this number, unless it was evicted.
    pub(super) fn get(&self, number: u64) -> Option<&Arc<Trace>> {
        let index = number.checked_sub(self.first)?;
        self.ring.get(usize::try_from(index).ok()?).map(|(trace, _)| trace)
    }
}

fn cost(trace: &Trace) -> usize {
    // The reference counts of the Arc, and the ring's entry.
    trace.size() + 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evicts_the_oldest_beyond_its_bytes() {
        let mut stats = WindowStats::default();
        let trace = Arc::new(Trace::default());
        let mut e = Evidence::new(2 * cost(&trace));
        assert_eq!((0..5).map(|_| e.push(&trace, &mut stats)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!((0..6).map(|n| e.get(n).is_some()).collect::<Vec<_>>(), [false, false, false, true, true, false]);
        assert_eq!(stats.evidence_evicted, 3);
        assert_eq!(e.bytes, 2 * cost(&trace));
        let mut none = Evidence::new(0);
        assert_eq!(none.push(&trace, &mut stats), 0);
        assert_eq!(none.push(&trace, &mut stats), 1);
        assert!(none.get(1).is_none());
    }
}
