//! Event-time windows: matches in, in any order within the lateness; firings out, in event order.
//!
//! A match passes, in this order: its source's [`watermark`] (is it late?), the [`reorder`] buffer of its cluster, the
//! memory of requests already [`seen`], and then the [`windows`] of the correlations that read it, each with its [`groups`]
//! and their [`state`] (which need not be told what [`repeats`] itself), and the [`evidence`] ring; [`output`] puts what
//! fired into the order of a replay. A wait for something that does not come ([`absence`]) ends at its own time among them,
//! once the watermark has passed that.
//!
//! Two things make the result independent of how the input was cut into batches and interleaved:
//! - the watermark is advanced *before every match* to where it stands at that match, so that batches have no meaning;
//! - everything that happens behind the reorder buffer (windows, deduplication, purging) is a fold over the released
//!   matches in event order, and takes its time from them, never from the watermark.
//!
//! Clusters never mix: each has its own lane of all of this, and every limit in [`Settings`] holds per cluster, so that
//! one cluster's flood neither evicts another's state nor makes its alerts depend on the interleaving. Correlations
//! with `across-clusters`, and those fed by them, live in one more lane behind the others.

mod absence;
mod chain;
mod correlator;
mod evidence;
mod fan;
mod groups;
mod lane;
mod learning;
mod mixer;
mod numbers;
mod output;
mod plan;
mod reorder;
mod repeats;
mod seen;
mod state;
mod watermark;
mod windows;

pub use correlator::Correlator;

/// What to do with a match that is behind the watermark. The rule's own alert stands in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// Keep it out of windows.
    Drop,
    /// Let it enter windows as if it had happened at the watermark of the moment it arrived. The result then depends on
    /// when it arrived.
    Count,
}

/// Limits and times of the window stage. Every limit on a number of things holds per cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How far behind the newest event of its source a match may be, microseconds.
    pub lateness_us: i64,
    /// How long a request that matched a rule is remembered, microseconds of event time.
    pub dedupe_horizon_us: i64,
    /// The same for long-running requests.
    pub dedupe_horizon_long_us: i64,
    /// How many (rule, request) pairs are remembered at most (about 20 bytes each).
    pub dedupe_entries_max: usize,
    /// What happens to late matches.
    pub late: Late,
    /// Groups per correlation; a new group beyond it is not admitted, existing ones stay.
    pub keys_max: usize,
    /// Numbers that a correlation keeps to measure them (24 to 32 bytes each). Beyond it a group that grows gives up its
    /// own oldest.
    pub numbers_max: usize,
    /// Numbers of one group; beyond it the oldest are given up.
    pub numbers_per_group_max: usize,
    /// Groups per correlation that are waited for (some 300 bytes each, and a trace); a new one beyond it is not admitted.
    pub absences_max: usize,
    /// Matches that wait for the watermark; beyond it the oldest are released early.
    pub reorder_matches_max: usize,
    /// Bytes of excerpts kept for the `events` of alerts.
    pub evidence_bytes_max: usize,
    /// Groups per match and correlation, and counted values per match and correlation.
    pub fanout_max: usize,
    /// Events listed in a firing.
    pub events_max: usize,
    /// Whether firings of all clusters come out in one order, by (time, identity, rule before correlation, rule id, group
    /// values), for a replay. They are then held back until no cluster can fire earlier.
    pub ordered_output: bool,
    /// Whether `new_value` correlations are fed also what they were told within the same [quantum] of time. It changes nothing
    /// but how long it takes.
    ///
    /// [quantum]: crate::engine::sightings
    pub repeats: bool,
}

impl Default for Settings {
    fn default() -> Self {
        const HOUR: i64 = 3_600_000_000;
        Settings {
            lateness_us: 10_000_000,
            dedupe_horizon_us: HOUR,
            dedupe_horizon_long_us: 24 * HOUR,
            dedupe_entries_max: 500_000,
            late: Late::Drop,
            keys_max: 1_000_000,
            numbers_max: 1_000_000,
            numbers_per_group_max: 10_000,
            absences_max: 100_000,
            reorder_matches_max: 200_000,
            evidence_bytes_max: 16 << 20,
            fanout_max: 64,
            events_max: 100,
            ordered_output: false,
            repeats: false,
        }
    }
}

/// What the window stage counted. All numbers but `buffered` and `live_keys` only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WindowStats {
    /// Matches absorbed.
    pub matches: u64,
    /// Matches of a request that the same rule had already matched (another stage, another delivery).
    pub duplicate_matches: u64,
    /// Late matches (without duplicates).
    pub late: u64,
    /// Matches that came too late for across-cluster correlations because their cluster joined behind the others.
    pub late_across: u64,
    /// Matches without an event time.
    pub untimed: u64,
    /// Per correlation (index): matches skipped because a field to group by or to count was missing.
    pub missing_group: Vec<u64>,
    /// Groups and counted values beyond `fanout_max`.
    pub fanout_cut: u64,
    /// Per correlation (index): matches not counted because their group would have been beyond `keys_max`.
    pub keys_saturated: Vec<u64>,
    /// Numbers given up before their time because of `numbers_max` or `numbers_per_group_max`.
    pub numbers_cut: u64,
    /// Matches released early because of `reorder_matches_max`.
    pub reorder_forced: u64,
    /// Firings that left out of order because of `reorder_matches_max` (only with `ordered_output`).
    pub output_forced: u64,
    /// Requests forgotten before their time because of `dedupe_entries_max`.
    pub dedupe_evicted: u64,
    /// Excerpts evicted because of `evidence_bytes_max`.
    pub evidence_evicted: u64,
    /// Per correlation (index): groups with state now.
    pub live_keys: Vec<u64>,
    /// Matches that wait for the watermark now.
    pub buffered: u64,
}
