//! The owner of a partition of the matches topic: a fold over its records.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{Mark, Record, Source};
use crate::alert::{Alert, Names, SourceName};
use crate::engine::CaptureTable;
use crate::engine::matches::{ClusterId, Firing, SourceId};
use crate::engine::window::{Correlator, Settings, WindowStats};
use crate::journal::Restorer;
use crate::rules::RuleSet;

/// A time before all events: where a partition holds the watermark of which nothing is known yet.
const BEFORE_ALL: i64 = i64::MIN / 4;
/// Clusters told apart, at most; further ones are left out, and counted.
const CLUSTERS_MAX: usize = 1000;
/// Partitions of a topic that are waited for, at most.
const PARTITIONS_MAX: i32 = 100_000;

/// How far a partition of events was read.
#[derive(Debug, Default)]
struct Progress {
    /// Newest event time by cluster.
    fronts: BTreeMap<ClusterId, i64>,
    idle: bool,
}

impl Progress {
    /// Where it holds a cluster that it has told nothing of: its other clusters say how far it was read, the slowest of
    /// them, because a clock that is ahead says nothing.
    fn hold(&self) -> i64 {
        self.fronts.values().min().copied().unwrap_or(BEFORE_ALL)
    }
}

/// Windows over the records of one partition.
pub struct Owner {
    rules: Arc<RuleSet>,
    captures: Arc<CaptureTable>,
    windows: Correlator,
    sources: Vec<Progress>,
    numbers: BTreeMap<Source, SourceId>,
    /// Topics with events, and how many partitions of each are known.
    topics: BTreeMap<String, i32>,
    names: Vec<SourceName>,
    clusters: Vec<String>,
    firings: Vec<Firing>,
    /// Matches of rules that are not loaded, and records of clusters beyond the limit.
    pub left_out: u64,
}

impl Owner {
    /// An owner that has read nothing. Until a record tells which partitions there are, and each of them has told how far
    /// it was read, nothing is due.
    pub fn new(rules: Arc<RuleSet>, captures: Arc<CaptureTable>, settings: Settings) -> Owner {
        let windows = Correlator::new(Arc::clone(&rules), Arc::clone(&captures), settings);
        let mut owner = Owner {
            rules,
            captures,
            windows,
            sources: Vec::new(),
            numbers: BTreeMap::new(),
            topics: BTreeMap::new(),
            names: Vec::new(),
            clusters: Vec::new(),
            firings: Vec::new(),
            left_out: 0,
        };
        // Stands for all that it has not heard of.
        owner.source(&Source { topic: String::new(), partition: 0 });
        owner
    }

    /// Takes one record in. What is due is appended to `alerts`.
    pub fn take(&mut self, record: Record, alerts: &mut Vec<Alert>) {
        match record {
            Record::Matches { source, cluster, newest, matches } => {
                let source = self.source(&source);
                let Some(cluster) = self.cluster(&cluster) else { return };
                let mut restorer = Restorer::new(&self.rules, &self.captures);
                let mut restored = Vec::with_capacity(matches.len());
                for stored in matches {
                    restored.extend(restorer.restore(stored.of_source(source), cluster));
                }
                self.left_out += restorer.dropped;
                self.windows.absorb(source, cluster, newest, restored, &mut self.firings);
                self.moved(source, cluster, newest);
            }
            Record::Marks { topics, marks } => {
                for (topic, partitions) in topics {
                    let known = self.topics.insert(topic.clone(), partitions).unwrap_or(0);
                    for partition in known..partitions.min(PARTITIONS_MAX) {
                        self.source(&Source { topic: topic.clone(), partition });
                    }
                }
                marks.into_iter().for_each(|mark| self.mark(mark));
                self.sources[0].idle = true;
                self.windows.finish_source(0, &mut self.firings);
            }
        }
        self.tell(alerts);
    }

    /// The time below which nothing of this cluster is waited for any more, microseconds.
    pub fn watermark(&self, cluster: &str) -> Option<i64> {
        let number = self.clusters.iter().position(|known| known == cluster)?;
        self.windows.watermark(number as ClusterId)
    }

    /// How far the partition of events was read that is furthest behind, microseconds; none while one has told nothing,
    /// or all are idle.
    pub fn slowest(&self) -> Option<i64> {
        let busy = self.sources.iter().filter(|progress| !progress.idle);
        busy.map(|progress| progress.fronts.values().max().copied()).min().flatten()
    }

    /// What its windows counted.
    pub fn stats(&self) -> &WindowStats {
        self.windows.stats()
    }

    fn mark(&mut self, mark: Mark) {
        let source = self.source(&mark.source);
        for (cluster, front) in mark.fronts {
            let Some(cluster) = self.cluster(&cluster) else { continue };
            self.windows.absorb(source, cluster, Some(front), Vec::new(), &mut self.firings);
            self.moved(source, cluster, Some(front));
        }
        let progress = &mut self.sources[source as usize];
        progress.idle = mark.idle;
        if mark.idle {
            self.windows.finish_source(source, &mut self.firings);
        }
    }

    /// A partition was read further in one cluster: so it was for those that it tells nothing of.
    fn moved(&mut self, source: SourceId, cluster: ClusterId, newest: Option<i64>) {
        let progress = &mut self.sources[source as usize];
        progress.idle = false;
        let Some(newest) = newest else { return };
        let front = progress.fronts.entry(cluster).or_insert(newest);
        *front = newest.max(*front);
        let hold = progress.hold();
        let silent: Vec<ClusterId> =
            (0..self.clusters.len() as ClusterId).filter(|other| !progress.fronts.contains_key(other)).collect();
        for other in silent {
            self.windows.absorb(source, other, Some(hold), Vec::new(), &mut self.firings);
        }
    }

    fn tell(&mut self, alerts: &mut Vec<Alert>) {
        let names = Names { rules: &self.rules, clusters: &self.clusters, sources: &self.names };
        alerts.extend(self.firings.drain(..).map(|firing| Alert::new(&firing, &names)));
    }

    /// The number of a partition. One that is new holds every cluster.
    fn source(&mut self, source: &Source) -> SourceId {
        if let Some(known) = self.numbers.get(source) {
            return *known;
        }
        let number = self.sources.len() as SourceId;
        for cluster in 0..self.clusters.len() as ClusterId {
            self.windows.add_source(number, cluster, Some(BEFORE_ALL));
        }
        self.names.push(SourceName { kind: "kafka", name: format!("{}/{}", source.topic, source.partition) });
        self.sources.push(Progress::default());
        self.numbers.insert(source.clone(), number);
        number
    }

    /// The number of a cluster. One that is new is held by every partition, where that stands.
    fn cluster(&mut self, name: &str) -> Option<ClusterId> {
        if let Some(known) = self.clusters.iter().position(|known| known == name) {
            return Some(known as ClusterId);
        }
        if self.clusters.len() >= CLUSTERS_MAX {
            self.left_out += 1;
            return None;
        }
        let number = self.clusters.len() as ClusterId;
        self.clusters.push(name.to_owned());
        for (source, progress) in (0..).zip(&self.sources) {
            self.windows.add_source(source, number, Some(progress.hold()));
            if progress.idle {
                self.windows.restore_source(source, number, None, true);
            }
        }
        Some(number)
    }
}
