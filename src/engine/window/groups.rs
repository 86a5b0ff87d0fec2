//! The groups of one correlation: which there are, and the state of each.
//!
//! There may be millions, most of which see one match and are over. So states stand side by side in blocks, which never
//! move and are used again, and the hash table beside them holds nothing but their places.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use super::plan::{Kind, Plan};
use super::state::{Fed, Group, Verdict, behind};
use super::{Settings, WindowStats};

/// States in a block.
const BLOCK: usize = 1024;

/// A group: the hash of its values (in two parts: an `u128` would be aligned to 16 bytes) and its state.
#[derive(Debug)]
struct Kept {
    key: [u64; 2],
    group: Group,
}

const _: () = assert!(size_of::<Kept>() == 48, "ten million groups have to fit");

/// Where a group is kept, beside the hash of its key, so that a table that grows need not look at the groups.
#[derive(Debug, Clone, Copy)]
struct Known {
    hash: u32,
    place: u32,
}

/// What a table is told of a hash: it looks at the last bits first, and then at the first ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// The groups of one correlation.
#[derive(Debug)]
pub(super) struct Groups {
    places: HashTable<Known>,
    seed: RandomState,
    kept: Blocks,
    next_sweep: i64,
    /// Numbers held by all groups together.
    numbers: usize,
    /// While no more groups are admitted: when it is worth looking again for some that are over.
    next_try: i64,
    /// Of an order: what came before anything that begins it, at the newest time.
    early: Vec<Early>,
}

/// Matches that wait for what begins their order at the same time; beyond, they get groups at once.
const EARLY_MAX: usize = 64;

/// A match of an order whose group has not begun. It counts only if what begins the order happens at the same time.
#[derive(Debug)]
struct Early {
    key: [u64; 2],
    time: i64,
    number: u64,
    positions: SmallVec<[u16; 2]>,
}

impl Groups {
    pub(super) fn new() -> Self {
        Groups {
            places: HashTable::new(),
            seed: RandomState::default(),
            kept: Blocks::default(),
            next_sweep: i64::MIN,
            numbers: 0,
            next_try: i64::MIN,
            early: Vec::new(),
        }
    }

    /// Whether groups that are over are looked for at the next match, if it is at `now`.
    pub(super) fn is_sweep_due(&self, now: i64) -> bool {
        now >= self.next_sweep
    }

    /// Feeds a match to its group, a new one if there is room, and gives the group's verdict. `index` is the
    /// correlation's.
    pub(super) fn feed(
        &mut self,
        plan: &Plan,
        index: usize,
        settings: &Settings,
        key: u128,
        fed: Fed<'_>,
        stats: &mut WindowStats,
    ) -> Option<Verdict> {
        let Fed { time: now, number, .. } = fed;
        let hash = self.hash(key);
        let key = [key as u64, (key >> 64) as u64];
        if self.is_sweep_due(now) {
            self.sweep(plan, index, now, stats);
        }
        if self.places.len() >= settings.keys_max && now >= self.next_try && self.find(hash, key).is_none() {
            self.sweep(plan, index, now, stats);
            // To look at every group for every new one would be quadratic.
            self.next_try = now.saturating_add(plan.timespan / 16).saturating_add(1);
        }
        let full = self.places.len() >= settings.keys_max;
        let Groups { places, kept, numbers, early, .. } = self;
        let same = |known: &Known| known.hash == hash && kept.get(known.place).is_some_and(|k| k.key == key);
        let (place, verdict) = match places.entry(spread(hash), same, |known| spread(known.hash)) {
            Entry::Occupied(entry) => {
                let place = entry.get().place;
                let group = &mut kept.get_mut(place)?.group;
                if let Kind::Numbers(_) = plan.kind {
                    *numbers -= group.numbers().map_or(0, |have| have.len());
                }
                (place, group.feed(plan, fed))
            }
            Entry::Vacant(_) if waits(early, plan, key, fed) => return None,
            Entry::Vacant(_) if full => {
                stats.keys_saturated[index] += 1;
                // What there is no room to remember is told rather than kept silent.
                return matches!(plan.kind, Kind::New { .. }).then(|| Verdict::of_one(now, number));
            }
            Entry::Vacant(entry) => {
                stats.live_keys[index] += 1;
                let early = early.iter().filter(|early| (early.time, early.key) == (now, key));
                let early = early.map(|early| (early.number, &*early.positions));
                let (group, verdict) = Group::first(plan, fed, early);
                let place = kept.put(Kept { key, group });
                entry.insert(Known { hash, place });
                (place, verdict)
            }
        };
        if let Kind::Numbers(_) = plan.kind {
            self.bound_numbers(place, settings, stats);
        }
        verdict
    }

    /// Holds the numbers of a group, which has just grown, to their limits; the group gives up its own oldest.
    fn bound_numbers(&mut self, place: u32, settings: &Settings, stats: &mut WindowStats) {
        let room = settings.numbers_max.saturating_sub(self.numbers).clamp(1, settings.numbers_per_group_max.max(1));
        if let Some(numbers) = self.kept.get_mut(place).and_then(|kept| kept.group.numbers()) {
            stats.numbers_cut += numbers.cut(room) as u64;
            self.numbers += numbers.len();
        }
    }

    fn find(&self, hash: u32, key: [u64; 2]) -> Option<&Known> {
        let same = |known: &Known| known.hash == hash && self.kept.get(known.place).is_some_and(|k| k.key == key);
        self.places.find(spread(hash), same)
    }

    /// Keys are hashes, but hashes that a client can choose: this one is seeded.
    fn hash(&self, key: u128) -> u32 {
        self.seed.hash_one(key) as u32
    }

    /// Drops the groups whose state is over at `now`, the time of the match at hand: never by the watermark, which may be
    /// far ahead of it.
    fn sweep(&mut self, plan: &Plan, index: usize, now: i64, stats: &mut WindowStats) {
        let Groups { places, kept, numbers, .. } = self;
        let before = places.len();
        // What is left, and what comes now, is not over before.
        let mut next_over = behind(now, plan.timespan);
        places.retain(|Known { place, .. }| {
            let over_from = kept.get(*place).map_or(i64::MIN, |k| k.group.over_from(plan, now));
            let over = now >= over_from;
            if over {
                *numbers -= kept.get_mut(*place).and_then(|k| k.group.numbers()).map_or(0, |held| held.len());
                kept.free(*place);
            } else {
                next_over = next_over.min(over_from);
            }
            !over
        });
        stats.live_keys[index] -= (before - places.len()) as u64;
        // Half a timespan later, so that each group is looked at a few times for every match of it, and outlives its time by
        // no more than that.
        self.next_sweep = next_over.saturating_add(plan.timespan / 2);
    }
}

/// Whether the match, the first of its group, is none that can begin the group's order: then it waits, if there is room.
fn waits(early: &mut Vec<Early>, plan: &Plan, key: [u64; 2], fed: Fed<'_>) -> bool {
    if !matches!(plan.kind, Kind::Ordered) || fed.positions.contains(&0) {
        return false;
    }
    if early.first().is_some_and(|early| early.time != fed.time) {
        early.clear();
    }
    let room = early.len() < EARLY_MAX;
    if room {
        early.push(Early { key, time: fed.time, number: fed.number, positions: SmallVec::from_slice(fed.positions) });
    }
    room
}

/// States by their places. All blocks but the last are full.
#[derive(Debug, Default)]
struct Blocks {
    blocks: Vec<Vec<Kept>>,
    /// Places that are free again.
    free: Vec<u32>,
}

impl Blocks {
    fn get(&self, place: u32) -> Option<&Kept> {
        self.blocks.get(place as usize / BLOCK)?.get(place as usize % BLOCK)
    }

    fn get_mut(&mut self, place: u32) -> Option<&mut Kept> {
        self.blocks.get_mut(place as usize / BLOCK)?.get_mut(place as usize % BLOCK)
    }

    /// Puts a state where there is room, and says where.
    fn put(&mut self, kept: Kept) -> u32 {
        if let Some(place) = self.free.pop() {
            self.blocks[place as usize / BLOCK][place as usize % BLOCK] = kept;
            return place;
        }
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            // A correlation with few groups needs no whole block.
            self.blocks.push(if self.blocks.is_empty() { Vec::new() } else { Vec::with_capacity(BLOCK) });
        }
        let last = self.blocks.len() - 1;
        self.blocks[last].push(kept);
        (last * BLOCK + self.blocks[last].len() - 1) as u32
    }

    fn free(&mut self, place: u32) {
        if let Some(kept) = self.get_mut(place) {
            kept.group = Group::nothing();
            self.free.push(place);
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "what is measured by hand is asked for and told by hand"
)]
mod tests {
    use std::time::Instant;

    use super::super::plan::Plans;
    use super::*;
    use crate::engine::CaptureTable;
    use crate::rules::{SourceFile, load};

    const BURST: &str = "
title: Request
name: request
logsource: {product: kubernetes, service: audit}
detection:
  selection: {verb: get}
  condition: selection
---
title: Burst
correlation:
  type: event_count
  rules: [request]
  group-by: [user.username]
  timespan: 1h
  condition: {gte: 5}
";

    /// Bytes of this process that are in memory.
    fn resident() -> f64 {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap() * 4096.0
    }

    /// Feeds each of so many groups a match, in an order that has no meaning; prints what a match costs, and what a group takes.
    fn feed_all(groups: &mut Groups, plan: &Plan, (settings, keys): (&Settings, u64), before: f64) {
        let (mut stats, started) = (WindowStats { live_keys: vec![0], ..WindowStats::default() }, Instant::now());
        stats.keys_saturated.push(0);
        for number in 0..keys {
            // A bijection of 64 bits: each key once.
            let key = u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let fed = Fed { time: 0, number, positions: &[0], tuples: &[] };
            assert_eq!(groups.feed(plan, 0, settings, key, fed, &mut stats), None);
        }
        let nanos = started.elapsed().as_nanos() as f64 / keys as f64;
        println!("{keys} groups: {nanos:.0} ns a match, {:.1} bytes a group", (resident() - before) / keys as f64);
        assert_eq!(stats.keys_saturated, [0]);
    }

    /// By hand: WINDOW_KEYS=10000000 cargo test --release --lib what_groups_take -- --ignored --nocapture
    #[test]
    #[ignore = "measures, with the groups that the environment asks for"]
    fn what_groups_take() {
        let keys = std::env::var("WINDOW_KEYS").map_or(100_000, |keys| keys.parse().unwrap());
        let (set, _) = load(&[SourceFile::new("rules.yml", BURST)], &Default::default());
        let plans = Plans::new(&set, &CaptureTable::new(&set));
        let settings = Settings { keys_max: keys as usize, ..Settings::default() };
        let (before, mut groups) = (resident(), Groups::new());
        for _ in 0..4 {
            feed_all(&mut groups, &plans.correlations[0], (&settings, keys), before);
        }
        assert_eq!(groups.places.len() as u64, keys);
    }
}
