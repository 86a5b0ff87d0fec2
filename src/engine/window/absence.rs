//! The state of `event_absence`: who is waited for, and until when.
//!
//! A wait is over when a match ends it, or when the watermark has passed its end: by then every match that could have ended
//! it has come out of the reorder buffer. What it tells has the time of its end, so it stands where it belongs among all
//! that happened, however late the watermark came by.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::plan::{Hop, Kind, Plan, Plans};
use super::{Settings, WindowStats};
use crate::engine::matches::{Match, Value};

/// A correlation and the hash of a group's values.
type Key = (u32, u128);

/// A group that is waited for.
#[derive(Debug)]
pub(super) struct Wait {
    /// When the wait began.
    pub(super) since: i64,
    /// The match that began it.
    pub(super) matched: Match,
    /// The correlations that match had passed.
    pub(super) below: Option<Arc<Hop>>,
    /// The group's values.
    pub(super) group: Vec<Value>,
    /// Whether it goes on; one that was ended keeps its place until its time has come, so that groups which begin and
    /// end over and over do not pile up in the queue.
    open: bool,
}

/// All waits of one lane.
#[derive(Debug, Default)]
pub(super) struct Absences {
    waits: HashMap<Key, Wait, RandomState>,
    /// When to look at a wait: one entry each, perhaps too early, then it is put back.
    due: BinaryHeap<Reverse<(i64, Key)>>,
    /// Waits per correlation, as far as there are any.
    counts: HashMap<u32, usize>,
    /// When the next wait is over, until something changes: it is asked at every match.
    soonest: Option<Option<i64>>,
}

impl Absences {
    /// Feeds a match to its group. `positions` are the inputs it stands for.
    pub(super) fn feed(
        &mut self,
        plan: &Plan,
        key: Key,
        positions: &[u16],
        wait: impl FnOnce() -> Wait,
        settings: &Settings,
        stats: &mut WindowStats,
    ) {
        let Kind::Absence { after } = plan.kind else { return };
        self.soonest = None;
        let begins = plan.inputs() - after;
        let opens = after == 0 || positions.iter().any(|position| usize::from(*position) >= begins);
        if let Some(have) = self.waits.get_mut(&key) {
            if after == 0 || (opens && !have.open) {
                *have = wait();
            } else if !opens {
                have.open = false;
            }
            return;
        }
        if !opens {
            return;
        }
        let count = self.counts.entry(key.0).or_default();
        if *count >= settings.absences_max {
            stats.keys_saturated[key.0 as usize] += 1;
            return;
        }
        *count += 1;
        stats.live_keys[key.0 as usize] += 1;
        let wait = wait();
        self.due.push(Reverse((wait.since.saturating_add(plan.timespan), key)));
        self.waits.insert(key, wait);
    }

    /// When the next wait is over.
    #[inline]
    pub(super) fn next(&mut self, plans: &Plans, stats: &mut WindowStats) -> Option<i64> {
        if let Some(known) = self.soonest {
            return known;
        }
        let soonest = self.look(plans, stats);
        self.soonest = Some(soonest);
        soonest
    }

    fn look(&mut self, plans: &Plans, stats: &mut WindowStats) -> Option<i64> {
        loop {
            let Reverse((due, key)) = *self.due.peek()?;
            match self.waits.get(&key) {
                Some(wait) if wait.open => {
                    let end = end(wait, plans, key);
                    if end <= due {
                        return Some(end);
                    }
                    self.due.pop();
                    self.due.push(Reverse((end, key)));
                }
                _ => {
                    self.due.pop();
                    self.remove(key, stats);
                }
            }
        }
    }

    /// Takes out the wait that is over next: its correlation and when it ended.
    pub(super) fn pop(&mut self, plans: &Plans, stats: &mut WindowStats) -> Option<(u32, i64, Wait)> {
        let end = self.next(plans, stats)?;
        self.soonest = None;
        let Reverse((_, key)) = self.due.pop()?;
        Some((key.0, end, self.remove(key, stats)?))
    }

    fn remove(&mut self, key: Key, stats: &mut WindowStats) -> Option<Wait> {
        let wait = self.waits.remove(&key)?;
        stats.live_keys[key.0 as usize] -= 1;
        if let Some(count) = self.counts.get_mut(&key.0) {
            *count -= 1;
        }
        Some(wait)
    }
}

impl Wait {
    /// A wait that begins with a match. It may last long, so it keeps the match's own trace, not a whole sheet.
    pub(super) fn new(since: i64, matched: Match, below: Option<Arc<Hop>>, group: Vec<Value>) -> Self {
        let matched = Match { trace: matched.trace.alone(), ..matched };
        Wait { since, matched, below, group, open: true }
    }
}

/// When a wait is over: at the last moment at which a match would still be in time.
fn end(wait: &Wait, plans: &Plans, key: Key) -> i64 {
    wait.since.saturating_add(plans.correlations[key.0 as usize].timespan)
}
