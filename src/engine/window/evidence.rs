//! What alerts tell of the matches that windows counted, for their `events`: a ring bounded in bytes.

use std::collections::VecDeque;

use super::WindowStats;
use crate::engine::matches::Trace;

/// What a kept trace costs besides its own bytes: its place in the ring, and what a shared allocation carries.
const ENTRY_BYTES: usize = size_of::<Trace>() + 32;

/// The newest traces, by running number. Numbers grow in event order.
#[derive(Debug)]
pub(super) struct Evidence {
    traces: VecDeque<Trace>,
    /// Number of the oldest trace that is kept.
    first: u64,
    bytes: usize,
    max: usize,
}

impl Evidence {
    pub(super) fn new(max: usize) -> Self {
        Evidence { traces: VecDeque::new(), first: 0, bytes: 0, max }
    }

    /// Keeps a trace, evicting the oldest if there is no room (itself, if it has none at all). Returns its number.
    pub(super) fn push(&mut self, trace: &Trace, stats: &mut WindowStats) -> u64 {
        let number = self.first + self.traces.len() as u64;
        self.bytes += cost(trace);
        self.traces.push_back(trace.clone());
        while self.bytes > self.max
            && let Some(oldest) = self.traces.pop_front()
        {
            self.bytes -= cost(&oldest);
            self.first += 1;
            stats.evidence_evicted += 1;
        }
        number
    }

    /// The trace with this number, unless it was evicted.
    pub(super) fn get(&self, number: u64) -> Option<Trace> {
        self.traces.get(usize::try_from(number.checked_sub(self.first)?).ok()?).cloned()
    }
}

/// Bytes it takes to remember a trace.
fn cost(trace: &Trace) -> usize {
    trace.size() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::matches::Excerpt;

    fn trace(name: String) -> Trace {
        Trace::from(Excerpt { audit_id: name.into(), time: 5, ..Excerpt::default() })
    }

    #[test]
    fn evicts_the_oldest_beyond_its_bytes() {
        let mut stats = WindowStats::default();
        let trace = trace("a".into());
        let cost = cost(&trace);
        let mut e = Evidence::new(2 * cost);
        assert_eq!((0..5).map(|_| e.push(&trace, &mut stats)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!((0..6).map(|n| e.get(n).is_some()).collect::<Vec<_>>(), [false, false, false, true, true, false]);
        assert_eq!(stats.evidence_evicted, 3);
        assert_eq!(e.bytes, 2 * cost);
        let mut none = Evidence::new(0);
        assert_eq!(none.push(&trace, &mut stats), 0);
        assert_eq!(none.push(&trace, &mut stats), 1);
        assert!(none.get(1).is_none());
    }
}
