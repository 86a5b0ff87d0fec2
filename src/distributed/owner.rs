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
    /// What it lets pass of a cluster that it tells nothing more of, as if it had been read so far.
    past: BTreeMap<ClusterId, i64>,
    idle: bool,
    /// How far each cluster had come when this one was marked last.
    heard: BTreeMap<ClusterId, i64>,
}

impl Progress {
    /// Where it holds a cluster that it has told nothing of: its other clusters say how far it was read, the slowest of
    /// them, because a clock that is ahead says nothing.
    fn hold(&self) -> i64 {
        self.fronts.values().min().copied().unwrap_or(BEFORE_ALL)
    }

    /// How far it was read, or is known to hold nothing.
    fn reach(&self) -> Option<i64> {
        self.fronts.values().chain(self.past.values()).max().copied()
    }

    /// Where it holds a cluster that has come to `newest`.
    fn bound(&self, cluster: ClusterId, newest: i64, lateness_us: i64) -> i64 {
        let all_of = |newest: i64| newest.saturating_add(lateness_us).saturating_add(1);
        let told = self.fronts.get(&cluster).copied();
        let mut bound = told.unwrap_or_else(|| self.hold());
        // It was read much further, and told of others only.
        let reach = self.fronts.values().max().copied().unwrap_or(BEFORE_ALL);
        if told.is_some_and(|told| reach.saturating_sub(told) >= lateness_us.saturating_mul(2)) {
            bound = bound.max(all_of(newest).min(reach.saturating_sub(lateness_us)));
        }
        let heard = self.heard.get(&cluster).filter(|_| self.idle);
        bound.max(heard.map_or(BEFORE_ALL, |heard| all_of(*heard)))
    }
}

/// A cluster.
#[derive(Debug)]
struct Cluster {
    /// Newest event time that any partition has told of it.
    newest: i64,
    /// Whether every partition lets all of it pass: then it does not hold what goes across clusters.
    silent: bool,
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
    /// By number.
    reached: Vec<Cluster>,
    lateness_us: i64,
    /// The earliest time that was told first of a partition.
    began: Option<i64>,
    firings: Vec<Firing>,
    news: u64,
    /// Matches of rules that are not loaded, and records of clusters beyond the limit.
    pub left_out: u64,
}

impl Owner {
    /// An owner that has read nothing. Until a record tells which partitions there are, and each of them has told how far
    /// it was read, nothing is due.
    pub fn new(rules: Arc<RuleSet>, captures: Arc<CaptureTable>, settings: Settings) -> Owner {
        let lateness_us = settings.lateness_us;
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
            reached: Vec::new(),
            lateness_us,
            began: None,
            firings: Vec::new(),
            news: 0,
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
                self.awake(source, cluster, newest);
                self.windows.absorb(source, cluster, newest, restored, &mut self.firings);
                self.moved(source);
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

    /// How far the partition of events was read, or is known to hold nothing, that is furthest behind, microseconds: none is
    /// to be read much further. One that has told nothing may begin where the first of the others began.
    pub fn slowest(&self) -> Option<i64> {
        let told = self.sources.iter().skip(1).map(|progress| progress.reach().or(self.began));
        told.min().flatten()
    }

    /// Changes when a partition is new, or a cluster has come further: then those that are idle are to be marked again.
    pub fn news(&self) -> u64 {
        self.news
    }

    /// What its windows counted.
    pub fn stats(&self) -> &WindowStats {
        self.windows.stats()
    }

    fn mark(&mut self, mark: Mark) {
        let source = self.source(&mark.source);
        for (cluster, front) in mark.fronts {
            let Some(cluster) = self.cluster(&cluster) else { continue };
            if self.sources[source as usize].fronts.get(&cluster) >= Some(&front) {
                continue;
            }
            self.awake(source, cluster, Some(front));
            self.windows.absorb(source, cluster, Some(front), Vec::new(), &mut self.firings);
        }
        self.sources[source as usize].idle = mark.idle;
        self.moved(source);
        // Whoever marks a partition as idle has looked at its end after the mark before was written. So all that it will bring
        // was not there yet when what stands before that other mark was read: that it lets pass, and no more.
        let reached = (0..).zip(&self.reached);
        self.sources[source as usize].heard = reached.map(|(at, cluster)| (at, cluster.newest)).collect();
        if mark.idle {
            self.silence();
        }
    }

    /// Something of this cluster was read.
    fn awake(&mut self, source: SourceId, cluster: ClusterId, newest: Option<i64>) {
        let progress = &mut self.sources[source as usize];
        progress.idle = false;
        let reached = &mut self.reached[cluster as usize];
        if let Some(newest) = newest {
            let front = progress.fronts.entry(cluster).or_insert(newest);
            *front = newest.max(*front);
            self.news += u64::from(newest > reached.newest);
            reached.newest = newest.max(reached.newest);
            self.began = Some(self.began.map_or(newest, |began| began.min(newest)));
        }
        self.speaks(cluster);
    }

    /// Every partition holds this cluster again, where it stands.
    fn speaks(&mut self, cluster: ClusterId) {
        if std::mem::take(&mut self.reached[cluster as usize].silent) {
            for source in 1..self.sources.len() as SourceId {
                self.windows.restore_source(source, cluster, None, false);
            }
        }
    }

    /// A partition was read further, or is known to hold nothing: so it was for the clusters that it tells nothing of.
    fn moved(&mut self, source: SourceId) {
        let progress = &mut self.sources[source as usize];
        for (cluster, reached) in (0..).zip(&self.reached) {
            let bound = progress.bound(cluster, reached.newest, self.lateness_us);
            let known = progress.fronts.get(&cluster).max(progress.past.get(&cluster));
            if bound > known.copied().unwrap_or(BEFORE_ALL) {
                progress.past.insert(cluster, bound);
                self.windows.add_source(source, cluster, Some(bound));
                self.windows.absorb(source, cluster, None, Vec::new(), &mut self.firings);
            }
        }
    }

    /// Clusters of which every partition lets everything pass wait for nothing.
    fn silence(&mut self) {
        for (cluster, reached) in (0..).zip(&mut self.reached) {
            let all = reached.newest.saturating_add(self.lateness_us);
            let passes = |progress: &Progress| progress.past.get(&cluster).is_some_and(|past| *past > all);
            if reached.silent || !self.sources.iter().skip(1).all(passes) {
                continue;
            }
            reached.silent = true;
            for source in 1..self.sources.len() as SourceId {
                self.windows.pass_over(source, cluster, None, &mut self.firings);
            }
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
            self.speaks(cluster);
            self.windows.add_source(number, cluster, Some(BEFORE_ALL));
        }
        self.names.push(SourceName { kind: "kafka", name: format!("{}/{}", source.topic, source.partition) });
        self.sources.push(Progress::default());
        self.news += 1;
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
        self.reached.push(Cluster { newest: BEFORE_ALL, silent: false });
        for (source, progress) in (0..).zip(&self.sources) {
            self.windows.add_source(source, number, Some(progress.hold()));
        }
        if self.sources[0].idle {
            self.windows.restore_source(0, number, None, true);
        }
        Some(number)
    }
}
