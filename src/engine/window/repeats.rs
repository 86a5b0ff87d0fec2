//! What `new_value` correlations were told a moment ago. A second match of the same values within a [quantum] of time changes
//! nothing in them, and is not fed at all: people do the same things over and over.
//!
//! Invariant: whether a match is left out shows nowhere, neither in what fires nor in a counter.
//!
//! [quantum]: crate::engine::sightings::quantum

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

use super::plan::Plan;
use crate::engine::matches::{ClusterId, Trace};
use crate::engine::sightings::last_moment;

/// How many are remembered (16 bytes each), for all correlations of a cluster together.
const KEPT: usize = 1024;

/// A correlation, the values that a match tells it, and the quantum it falls in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// Seeded at random: nobody can choose values that look like others.
    values: u64,
    /// The last moment of the quantum, microseconds.
    until: i64,
}

/// In a place that nobody took: no quantum ends so early.
const NOTHING: Told = Told { values: 0, until: i64::MIN };

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    seed: RandomState,
    /// By the last bits of the hash of the values.
    told: Vec<Told>,
}

impl Repeats {
    /// What a match at `time` tells the correlation of this number, among whose inputs it stands at `positions`; `cluster` as
    /// in its groups.
    pub(super) fn of(
        &self,
        (correlation, plan): (u32, &Plan),
        positions: &[u16],
        trace: &Trace,
        time: i64,
        cluster: Option<ClusterId>,
    ) -> Told {
        let mut hasher = self.seed.build_hasher();
        hasher.write_u32(correlation);
        hasher.write_u64(cluster.map_or(u64::MAX, u64::from));
        for position in positions {
            hasher.write_u16(*position);
            let (group, counted) = plan.fields_at(*position);
            for field in group.iter().chain(counted) {
                let mut count = 0;
                for value in field.captured(trace) {
                    hasher.write_u128(value.hash);
                    count += 1;
                }
                hasher.write_usize(count);
            }
        }
        Told { values: hasher.finish(), until: last_moment(time, plan.quantum) }
    }

    /// Whether just this was told.
    #[inline]
    pub(super) fn has(&self, told: Told) -> bool {
        self.told.get(told.values as usize % KEPT) == Some(&told)
    }

    /// Remembers what was told, and has changed all that it could.
    pub(super) fn put(&mut self, told: Told) {
        self.told.resize(KEPT, NOTHING);
        self.told[told.values as usize % KEPT] = told;
    }
}
