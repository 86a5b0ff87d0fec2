//! The window stage's front: sources and batches in, firings out. Owned by one thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lane::{Lane, Shared};
use super::plan::Plans;
use super::watermark::{Elsewhere, Watermark};
use super::{Settings, WindowStats};
use crate::engine::CaptureTable;
use crate::engine::matches::{ClusterId, Firing, Match, SourceId};
use crate::rules::RuleSet;

/// What a group takes, with what is counted in it; most see one match.
const GROUP_BYTES: usize = 64;
/// What a match takes that waits, with its share of its sheet.
const MATCH_BYTES: usize = 512;

/// All windows of all correlations.
#[derive(Debug)]
pub struct Correlator {
    lanes: BTreeMap<ClusterId, Lane>,
    shared: Shared,
    /// Of the sources that have one of their own, microseconds.
    lateness: BTreeMap<SourceId, i64>,
}

impl Correlator {
    /// A window stage without any input yet. `captures` must be the table made from `set`.
    pub fn new(set: Arc<RuleSet>, captures: Arc<CaptureTable>, settings: Settings) -> Self {
        let plans = Plans::new(&set, &captures);
        Correlator { lanes: BTreeMap::new(), shared: Shared::new(set, plans, settings), lateness: BTreeMap::new() }
    }

    /// The source's matches may arrive so far behind its newest event, microseconds, instead of what the settings say. Must
    /// be told before anything else of the source.
    pub fn set_lateness(&mut self, source: SourceId, lateness_us: i64) {
        self.lateness.insert(source, lateness_us);
    }

    /// Announces an input that is not read yet. With the time of its first event (microseconds) it holds its cluster's
    /// watermark at that time less the lateness; without, it holds nothing until its first batch. A replay announces all
    /// of its inputs before it reads any.
    pub fn add_source(&mut self, source: SourceId, cluster: ClusterId, first_time: Option<i64>) {
        self.marks_of(source, cluster).add(source, first_time);
    }

    /// Takes one batch in; batches of a source come in their order. `newest` is the batch's newest event time
    /// (microseconds), of events without matches as well; all of the matches belong to `cluster`. What is due is appended
    /// to `out`. An input that had ended is open again.
    pub fn absorb(
        &mut self,
        source: SourceId,
        cluster: ClusterId,
        newest: Option<i64>,
        matches: Vec<Match>,
        out: &mut Vec<Firing>,
    ) {
        self.marks_of(source, cluster).reopen(source);
        let elsewhere = self.elsewhere(cluster);
        let Correlator { lanes, shared, .. } = self;
        let Some(lane) = lanes.get_mut(&cluster) else { return };
        let (others, pace) = (lane.marks.others(source), lane.marks.pace(source));
        let front = lane.marks.front(source);
        for mut matched in matches {
            matched.cluster = cluster;
            let before = front.max(matched.newest_before);
            // The watermark moves with the events before this match, as if each were a batch of its own. What it passes
            // may leave later, together: only a match that is late, or too many that wait, could tell.
            lane.marks.publish(lane.marks.at(pace, before, others));
            lane.take(matched, before, elsewhere, shared, out);
        }
        lane.marks.read(source, newest);
        lane.marks.publish(lane.marks.current());
        lane.release(elsewhere, shared, out);
    }

    /// A batch told nothing of the input's own cluster, but of others up to `newest` (microseconds): envelopes may name
    /// the cluster of each event. An input that tells nothing of its own does not hold that one's watermark.
    pub fn pass_over(&mut self, source: SourceId, cluster: ClusterId, newest: Option<i64>, out: &mut Vec<Firing>) {
        if self.lane(cluster).marks.front(source).is_none() {
            self.finish_in(cluster, source, out);
        } else {
            self.absorb(source, cluster, newest, Vec::new(), out);
        }
    }

    /// The input has ended, or is idle: it no longer holds the watermark. When all inputs of a cluster have ended,
    /// everything of the cluster is due.
    pub fn finish_source(&mut self, source: SourceId, out: &mut Vec<Firing>) {
        let clusters: Vec<ClusterId> = self.lanes.keys().copied().collect();
        for cluster in clusters {
            self.finish_in(cluster, source, out);
        }
    }

    fn finish_in(&mut self, cluster: ClusterId, source: SourceId, out: &mut Vec<Firing>) {
        let elsewhere = self.elsewhere(cluster);
        let Some(lane) = self.lanes.get_mut(&cluster) else { return };
        if lane.marks.end(source) {
            if lane.marks.all_ended() {
                lane.end();
            } else {
                lane.marks.publish(lane.marks.current());
            }
            lane.release(elsewhere, &mut self.shared, out);
            // It may have been the slowest, and have had nothing left.
            let limit = elsewhere.with(&lane.marks).limit();
            self.shared.advance(limit, out);
        }
    }

    /// All inputs have ended: everything that waits is due.
    pub fn finish(&mut self, out: &mut Vec<Firing>) {
        self.lanes.values_mut().for_each(Lane::end);
        let Correlator { lanes, shared, .. } = self;
        // The clusters side by side, in the order of time.
        loop {
            let times = lanes.values_mut().map(|lane| lane.next_time(shared)).enumerate();
            let next = times.filter_map(|(place, time)| Some((time?, place))).min();
            let Some((time, place)) = next else { break };
            shared.advance(Some(time), out);
            if let Some(lane) = lanes.values_mut().nth(place) {
                lane.step_to_end(shared, out);
            }
        }
        let end = lanes.values().filter_map(|lane| lane.marks.published()).max();
        shared.finish(end, out);
    }

    /// Puts a source where it was when the journal was written: how far it had been read (microseconds), and whether it
    /// had ended. Nothing is released.
    pub fn restore_source(&mut self, source: SourceId, cluster: ClusterId, front: Option<i64>, ended: bool) {
        let marks = self.marks_of(source, cluster);
        marks.reopen(source);
        marks.read(source, front);
        if ended {
            marks.end(source);
        }
    }

    /// Puts a cluster's watermark (microseconds) where it was when the journal was written; what it releases goes to
    /// `out`, and was told before.
    pub fn restore_watermark(&mut self, cluster: ClusterId, watermark: Option<i64>, out: &mut Vec<Firing>) {
        self.lane(cluster).marks.publish(watermark);
        let elsewhere = self.elsewhere(cluster);
        let Correlator { lanes, shared, .. } = self;
        if let Some(lane) = lanes.get_mut(&cluster) {
            lane.release(elsewhere, shared, out);
        }
    }

    /// What was counted so far.
    pub fn stats(&self) -> &WindowStats {
        &self.shared.stats
    }

    /// What the state takes, in bytes: evidence as it is; groups, requests and matches that wait by their usual size.
    pub fn memory(&self) -> usize {
        let groups = self.shared.stats.live_keys.iter().sum::<u64>() as usize * GROUP_BYTES;
        let lanes = self.lanes.values().map(Lane::memory).sum::<usize>();
        groups + lanes + self.shared.stats.buffered as usize * MATCH_BYTES
    }

    /// A cluster's watermark, microseconds: no match earlier than that enters windows any more. `None` while nothing is
    /// known of the cluster.
    pub fn watermark(&self, cluster: ClusterId) -> Option<i64> {
        self.lanes.get(&cluster).and_then(|lane| lane.marks.published())
    }

    /// The cluster's fronts, with what is particular to the source.
    fn marks_of(&mut self, source: SourceId, cluster: ClusterId) -> &mut Watermark {
        let lateness = self.lateness.get(&source).copied();
        let marks = &mut self.lane(cluster).marks;
        if let Some(lateness) = lateness {
            marks.set_lateness(source, lateness);
        }
        marks
    }

    fn lane(&mut self, cluster: ClusterId) -> &mut Lane {
        let shared = &self.shared;
        self.lanes.entry(cluster).or_insert_with(|| Lane::new(shared))
    }

    fn elsewhere(&self, except: ClusterId) -> Elsewhere {
        let others = self.lanes.iter().filter(|(id, _)| **id != except);
        others.fold(Elsewhere::default(), |sum, (_, lane)| sum.with(&lane.marks))
    }
}
