//! What the outside is told of a live run: metrics and health.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::dead::each_dead;
use super::{Grade, Live};
use crate::admin::Health;
use crate::engine::matches::{Match, SourceId};
use crate::engine::window::WindowStats;
use crate::metrics::Metrics;
use crate::rules::RuleSet;
use crate::sink::kafka::Letter;
use crate::source::Batch;
use crate::worker::{BatchResult, Counts};

/// How often what is counted elsewhere is brought into the metrics.
const OBSERVE_EVERY: Duration = Duration::from_millis(500);
/// So many stored alerts are remembered with the time at which they were read, until all sinks have them.
const STORED_MAX: usize = 10_000;

/// Where a live run tells how it is.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// What it counts.
    pub metrics: Metrics,
    /// Whether it is well.
    pub health: Arc<Health>,
}

/// What is told, and what was not told yet.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) metrics: Metrics,
    health: Arc<Health>,
    /// By source; none for one that has told nothing yet.
    sources: Vec<Option<String>>,
    /// Names of clusters and their labels.
    clusters: Vec<(String, String)>,
    /// By rule, since the last time.
    matches: Vec<u64>,
    /// What of the windows' counts was told.
    told: WindowStats,
    /// The newest time of each source and each cluster, by label.
    fronts: Vec<(String, i64)>,
    watermarks: Vec<(String, i64)>,
    /// Alerts that not every sink has: their numbers, whether of correlations, and when they were read.
    stored: VecDeque<(i64, bool, Instant)>,
    observed_at: Option<Instant>,
}

impl Watch {
    pub(super) fn new(watched: Watched, rules: &RuleSet) -> Watch {
        let Watched { metrics, health } = watched;
        metrics.know_rules(rules);
        let matches = vec![0; rules.rules.len()];
        metrics.started();
        Watch {
            metrics,
            health,
            sources: Vec::new(),
            clusters: Vec::new(),
            matches,
            told: WindowStats::default(),
            fronts: Vec::new(),
            watermarks: Vec::new(),
            stored: VecDeque::new(),
            observed_at: None,
        }
    }

    /// Other rules run from now on; `told` is what their windows have counted while they were folded back.
    pub(super) fn reloaded(&mut self, rules: &RuleSet, told: &WindowStats) {
        self.metrics.forget_correlations();
        self.metrics.know_rules(rules);
        self.matches = vec![0; rules.rules.len()];
        self.told = told.clone();
    }

    /// An alert was stored for the first time.
    pub(super) fn alert(&self, rule: &str, level: &str) {
        self.metrics.alert(rule, level);
    }

    /// The alert of this number was read then.
    pub(super) fn stored(&mut self, number: i64, correlation: bool, since: Instant) {
        if self.stored.len() >= STORED_MAX {
            self.stored.pop_front();
        }
        self.stored.push_back((number, correlation, since));
    }

    /// A sink has had the alerts behind one number, through another, since then.
    pub(super) fn delivered(&self, sink: &str, numbers: Range<i64>, at: Instant, spent: Option<Duration>) {
        if let Some(spent) = spent {
            self.metrics.delivery(sink, spent);
        }
        let first = self.stored.partition_point(|(number, ..)| *number <= numbers.start);
        for (number, correlation, since) in self.stored.range(first..) {
            if *number > numbers.end {
                break;
            }
            let kind = if *correlation { "correlation" } else { "rule" };
            self.metrics.latency(sink, kind, at.saturating_duration_since(*since));
        }
    }

    /// All sinks have the alerts through this number.
    pub(super) fn forget_through(&mut self, number: i64) {
        let gone = self.stored.partition_point(|(known, ..)| *known <= number);
        self.stored.drain(..gone);
    }

    /// A batch of the source of this name was worked on.
    pub(super) fn batch(&mut self, batch: &Batch, name: &str, counts: &Counts) {
        let label = self.label(batch.source, name);
        self.metrics.batch(&label, counts, batch.oversized.len() as u64, batch.broken.is_some());
    }

    /// Whether the source of this name cannot be read just now.
    fn failing(&mut self, source: SourceId, name: &str, failing: bool) {
        let label = self.label(source, name);
        self.metrics.failing(&label, failing);
    }

    fn label(&mut self, source: SourceId, name: &str) -> String {
        let at = source as usize;
        if self.sources.len() <= at {
            self.sources.resize(at + 1, None);
        }
        self.sources[at].get_or_insert_with(|| self.metrics.source_label(name)).clone()
    }

    /// A source has got so far.
    pub(super) fn front(&mut self, source: SourceId, front: Option<i64>) {
        let label = self.sources.get(source as usize).and_then(Option::as_ref);
        if let Some((label, time)) = label.zip(front) {
            self.metrics.newest(label, time);
            put(&mut self.fronts, label, time);
        }
    }

    /// So many documents were kept, or could not be kept, in the dead letter.
    pub(super) fn dead(&self, kept: bool, documents: u64) {
        self.metrics.dead(kept, documents);
    }

    pub(super) fn matched(&mut self, matches: &[Match]) {
        for matched in matches {
            if let Some(count) = self.matches.get_mut(matched.rule as usize) {
                *count += 1;
            }
        }
    }

    /// A watermark was committed.
    pub(super) fn watermark(&mut self, cluster: &str, time: i64) {
        let known = self.clusters.iter().position(|(name, _)| name == cluster).unwrap_or_else(|| {
            self.clusters.push((cluster.to_owned(), self.metrics.cluster_label(cluster)));
            self.clusters.len() - 1
        });
        let label = &self.clusters[known].1;
        self.metrics.watermark(label, time);
        put(&mut self.watermarks, label, time);
    }
}

/// Remembers a time of a label. There are only so many labels.
fn put(times: &mut Vec<(String, i64)>, label: &str, time: i64) {
    match times.iter_mut().find(|(known, _)| known == label) {
        Some((_, known)) => *known = time,
        None => times.push((label.to_owned(), time)),
    }
}

impl Live<'_> {
    /// Keeps what could not be read. That it cannot be kept must not stop what can be read.
    pub(super) fn keep_dead(&mut self, batch: &Batch, result: &BatchResult) {
        self.keep_dead_records(batch, result);
        let problems = &result.problems;
        let Some(dead) = &mut self.dead else { return };
        let name = self.names.get(batch.source as usize).map_or("", |name| name.name.as_str());
        let mut documents = 0;
        let mut kept = Ok(());
        for skipped in &batch.oversized {
            documents += 1;
            let why = format!("too large: a line of {} bytes was skipped", skipped.bytes);
            kept = kept.and_then(|()| dead.write(name, None, skipped.offset, &why, None));
        }
        for problem in problems.iter().filter(|problem| problem.is_lost_document()) {
            documents += 1;
            let raw = batch.bytes.get(problem.range.clone()).filter(|raw| !raw.is_empty());
            kept = kept.and_then(|()| dead.write(name, None, problem.offset, &problem.why, raw));
        }
        if documents == 0 {
            return;
        }
        let kept = kept.and_then(|()| dead.flush());
        self.watch.dead(kept.is_ok(), documents);
        match kept {
            Ok(()) => self.dead_failed = false,
            Err(error) if !std::mem::replace(&mut self.dead_failed, true) => {
                (self.log)(
                    Grade::Problem,
                    &format!("dead_letter: {error}; what cannot be read is counted, but not kept"),
                );
            }
            Err(_) => {}
        }
    }

    /// Sends to a topic of its own what of a topic could not be read, or is no audit event.
    fn keep_dead_records(&mut self, batch: &Batch, result: &BatchResult) {
        if batch.records.is_empty() && batch.oversized.is_empty() {
            return;
        }
        let metrics = self.watch.metrics.clone();
        let Some((dead, topic, partition)) = self.dead_topic(batch.source) else { return };
        each_dead(batch, result, &mut |offset, why, raw| dead.send(&Letter { topic, partition, offset, why, raw }));
        let (kept, lost) = dead.settle();
        metrics.dead(true, kept);
        metrics.dead(false, lost);
        let said = dead.take_notes();
        said.iter().for_each(|note| (self.log)(Grade::Info, note));
    }

    /// A sign of life; now and then, with what was counted elsewhere.
    pub(super) fn observe(&mut self) {
        self.watch.health.beat(!self.stuck);
        if self.watch.observed_at.is_some_and(|at| at.elapsed() < OBSERVE_EVERY) {
            return;
        }
        self.observe_now();
    }

    /// Brings what was counted elsewhere into the metrics.
    pub(super) fn observe_now(&mut self) {
        self.watch.observed_at = Some(Instant::now());
        for stream in &self.streams {
            let name = self.names.get(stream.id as usize).map_or("", |name| name.name.as_str());
            self.watch.failing(stream.id, name, stream.is_unreadable());
        }
        let Watch { metrics, matches, told, fronts, watermarks, .. } = &mut self.watch;
        for (rule, count) in self.core.rules.rules.iter().zip(matches).filter(|(_, count)| **count > 0) {
            metrics.matched(&rule.meta, std::mem::take(count));
        }
        let windows = &self.core.windows;
        metrics.windows(&self.core.rules, windows.stats(), told, windows.memory());
        told.clone_from(windows.stats());
        metrics.store_bytes(self.journal.bytes());
        let now_us = self.clock.now_us;
        metrics.clock(now_us, self.clock.behind_us);
        fronts.iter().for_each(|(label, time)| metrics.source_lag(label, now_us - time));
        watermarks.iter().for_each(|(label, time)| metrics.watermark_lag(label, now_us - time));
        // What cannot be read now is read at the next look.
        let newest = self.journal.newest_alert().unwrap_or_default();
        for sink in &self.sinks {
            let (name, counts) = sink.state(newest);
            metrics.sink(name, &counts);
        }
        metrics.queue("webhook", self.plan.posts.iter().map(|posts| posts.posted.len()).sum());
        metrics.queue("answers", self.owed.len());
        let mut answers = std::collections::BTreeMap::new();
        for (code, total) in self.plan.posts.iter().flat_map(|posts| posts.answered.totals()) {
            *answers.entry(code).or_insert(0) += total;
        }
        answers.into_iter().for_each(|(code, total)| metrics.webhook(code, total));
    }
}
