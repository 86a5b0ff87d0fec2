//! The requests that already matched a rule, so that another stage or delivery of them does not count again.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::{Settings, WindowStats};
use crate::engine::matches::Who;

/// What is known of a request and a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Nothing: it counts.
    New,
    /// A late match of it was told, but did not enter windows: this one does, silently.
    Told,
    /// It was counted.
    Known,
}

/// Memory of one cluster's requests. 16 bytes an entry: half of a hash, and the time until which it is remembered.
#[derive(Debug)]
pub(super) struct Seen {
    /// (rule, identity) to `until << 1 | told`.
    entries: HashMap<u64, i64>,
    horizon: i64,
    horizon_long: i64,
    max: usize,
    next_sweep: i64,
}

impl Seen {
    pub(super) fn new(settings: &Settings) -> Self {
        Seen {
            entries: HashMap::new(),
            horizon: settings.dedupe_horizon_us,
            horizon_long: settings.dedupe_horizon_long_us,
            max: settings.dedupe_entries_max,
            next_sweep: i64::MIN,
        }
    }

    /// What it takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.entries.len() * 16
    }

    /// Has what is known of these fetched, so that it need not be waited for one after the other.
    pub(super) fn expect(&self, keys: impl Iterator<Item = Key>) {
        std::hint::black_box(keys.filter(|key| self.entries.contains_key(&key.hash)).count());
    }

    /// A match is released into windows at time `at` (which never goes back): what was known of it before.
    pub(super) fn release(&mut self, key: Key, at: i64, stats: &mut WindowStats) -> Sight {
        self.see(&key, at, false, stats)
    }

    /// A late match arrives while the watermark is `at`: whether nothing of it was told yet.
    pub(super) fn tell(&mut self, key: Key, at: i64, stats: &mut WindowStats) -> bool {
        self.see(&key, at, true, stats) == Sight::New
    }

    /// What is known of a match; it is remembered if it is new, and if it now enters windows after it was told.
    fn see(&mut self, key: &Key, at: i64, told: bool, stats: &mut WindowStats) -> Sight {
        if at >= self.next_sweep {
            self.sweep(at);
        }
        if self.entries.len() >= self.max && !self.entries.contains_key(&key.hash) {
            self.sweep(at);
            self.evict(stats);
        }
        let horizon = if key.long_running { self.horizon_long } else { self.horizon };
        // Years beyond 70 000 are no times; 62 bits keep the flag's place free.
        let until = at.saturating_add(horizon).clamp(i64::MIN >> 1, i64::MAX >> 1);
        let packed = until << 1 | i64::from(told);
        match self.entries.entry(key.hash) {
            Entry::Occupied(entry) if at <= entry.get() >> 1 => {
                let was_told = entry.get() & 1 == 1;
                if was_told && !told {
                    *entry.into_mut() = packed;
                }
                if was_told { Sight::Told } else { Sight::Known }
            }
            Entry::Occupied(entry) => {
                *entry.into_mut() = packed;
                Sight::New
            }
            Entry::Vacant(entry) => {
                if self.max > 0 {
                    entry.insert(packed);
                }
                Sight::New
            }
        }
    }

    fn sweep(&mut self, at: i64) {
        self.entries.retain(|_, packed| at <= *packed >> 1);
        // Half a horizon: an entry is looked at a few times in its life, and outlives its time by half of it.
        self.next_sweep = at.saturating_add(self.horizon.min(self.horizon_long) / 2).saturating_add(1);
    }

    /// Forgets the eighth that would be forgotten next, if the memory is still full: in bulk, because finding the oldest
    /// means to look at all.
    fn evict(&mut self, stats: &mut WindowStats) {
        if self.entries.len() < self.max {
            return;
        }
        let mut all: Vec<(i64, u64)> = self.entries.iter().map(|(hash, packed)| (packed >> 1, *hash)).collect();
        let oldest = (self.max / 8).max(1).min(all.len());
        if oldest < all.len() {
            all.select_nth_unstable(oldest);
        }
        for (_, hash) in &all[..oldest] {
            stats.dedupe_evicted += u64::from(self.entries.remove(hash).is_some());
        }
    }
}

/// A rule and a request.
#[derive(Debug)]
pub(super) struct Key {
    hash: u64,
    long_running: bool,
}

impl Key {
    pub(super) fn new(rule: u32, who: Who, long_running: bool) -> Self {
        // Both are good hashes already; the rule only has to be mixed in (splitmix64's finalizer).
        let identity = match who {
            Who::Known(identity) => u128::from_le_bytes(identity),
            Who::Keyed(hash) => u128::from(hash),
        };
        let mut hash = (identity as u64) ^ (u64::from(rule) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Key { hash: hash ^ (hash >> 31) ^ ((identity >> 64) as u64), long_running }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(max: usize) -> Seen {
        let settings = Settings {
            dedupe_horizon_us: 100,
            dedupe_horizon_long_us: 1000,
            dedupe_entries_max: max,
            ..Settings::default()
        };
        Seen::new(&settings)
    }

    fn key(n: u8) -> Key {
        Key::new(7, Who::Known([n; 16]), false)
    }

    #[test]
    fn remembers_for_the_horizon() {
        let mut stats = WindowStats::default();
        let mut s = seen(100);
        assert_eq!(s.release(key(1), 10, &mut stats), Sight::New);
        assert_eq!(s.release(Key::new(8, Who::Known([1; 16]), true), 10, &mut stats), Sight::New, "another rule");
        assert_eq!(s.release(key(1), 110, &mut stats), Sight::Known);
        assert_eq!(s.release(key(1), 111, &mut stats), Sight::New, "a duplicate does not lengthen the memory");
        assert_eq!(s.release(Key::new(8, Who::Known([1; 16]), true), 1010, &mut stats), Sight::Known);
        assert_eq!(stats.dedupe_evicted, 0);
    }

    #[test]
    fn a_told_request_still_counts_once() {
        let mut stats = WindowStats::default();
        let mut s = seen(100);
        assert!(s.tell(key(1), 10, &mut stats));
        assert!(!s.tell(key(1), 11, &mut stats));
        assert_eq!(s.release(key(1), 20, &mut stats), Sight::Told);
        assert_eq!(s.release(key(1), 21, &mut stats), Sight::Known);
        assert!(!s.tell(key(1), 22, &mut stats));
    }

    #[test]
    fn forgets_the_oldest_first_when_full() {
        let mut stats = WindowStats::default();
        let mut s = seen(8);
        for n in 0..9 {
            assert_eq!(s.release(key(n), i64::from(n), &mut stats), Sight::New);
        }
        assert_eq!(stats.dedupe_evicted, 1);
        assert_eq!(s.release(key(8), 9, &mut stats), Sight::Known);
        assert_eq!(s.release(key(1), 9, &mut stats), Sight::Known);
        assert_eq!(s.release(key(0), 9, &mut stats), Sight::New);
        assert_eq!(s.entries.len(), 8);
    }
}
