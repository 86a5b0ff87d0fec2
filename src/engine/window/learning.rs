//! How long the scopes of `new_value` have been learning: what is new to a group is told only once the group is known.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use foldhash::fast::RandomState;

use crate::engine::sightings::last_moment;

/// How long a correlation's scopes learn and are remembered, microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) learning: i64,
    pub(super) timespan: i64,
    /// How finely their last match is remembered; 0 is exactly.
    pub(super) quantum: i64,
}

/// The scopes of one correlation. A scope that had no match for the timespan is forgotten, and learns anew.
#[derive(Debug)]
pub(super) struct Scopes {
    /// By the hash of a scope's values: times of its first and its last match.
    known: HashMap<u128, (i64, i64), RandomState>,
    next_sweep: i64,
}

impl Scopes {
    pub(super) fn new() -> Self {
        Scopes { known: HashMap::default(), next_sweep: i64::MIN }
    }

    /// Whether scopes that are over are looked for at the next match, if it is at `now`.
    pub(super) fn is_sweep_due(&self, now: i64) -> bool {
        now >= self.next_sweep
    }

    /// Takes a match of a scope in: whether the scope has learned for long enough. `None` if there is no room for it.
    /// Times never go back.
    pub(super) fn feed(&mut self, key: u128, now: i64, times: Times, most: usize) -> Option<bool> {
        let Times { learning, timespan, quantum } = times;
        if learning <= 0 {
            return Some(true);
        }
        if self.is_sweep_due(now) {
            self.known.retain(|_, (_, last)| now.saturating_sub(*last) <= timespan);
            self.next_sweep = now.saturating_add(timespan / 2).saturating_add(1);
        }
        let full = self.known.len() >= most;
        match self.known.entry(key) {
            Entry::Occupied(mut entry) => {
                let (first, last) = entry.get_mut();
                if now.saturating_sub(*last) > timespan {
                    *first = now;
                }
                *last = last_moment(now, quantum);
                Some(now.saturating_sub(*first) >= learning)
            }
            Entry::Vacant(_) if full => None,
            Entry::Vacant(entry) => {
                entry.insert((now, last_moment(now, quantum)));
                Some(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_learns_from_its_first_match_on() {
        let mut scopes = Scopes::new();
        let times = Times { learning: 10, timespan: 20, quantum: 0 };
        let mut feed = |key, now| scopes.feed(key, now, times, 2);
        assert_eq!([feed(1, 0), feed(1, 9), feed(1, 10), feed(2, 10)].map(Option::unwrap), [false, false, true, false]);
        assert_eq!(feed(3, 10), None, "there is room for two");
        assert_eq!([feed(1, 30), feed(1, 51)].map(Option::unwrap), [true, false], "silent for too long");
        assert_eq!(feed(3, 60), Some(false), "the other is forgotten");
        assert_eq!(
            scopes.feed(9, 60, Times { learning: 0, ..times }, 0),
            Some(true),
            "without learning nothing is kept"
        );
    }
}
