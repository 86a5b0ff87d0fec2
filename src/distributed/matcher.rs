//! What a member makes of the events it read: records for the partitions of the matches topic.

use std::collections::BTreeMap;

use super::Router;
use super::record::{Mark, Record, Source};
use crate::engine::CaptureTable;
use crate::engine::matches::Match;
use crate::journal::Stored;
use crate::rules::RuleSet;
use crate::worker::BatchResult;

/// Matches in a record, at most: brokers take 1 MB unless they are told to take more.
const MATCHES_MAX: usize = 32;

/// How far a member has read the partitions that are its own.
#[derive(Debug, Default)]
pub struct Reading {
    partitions: BTreeMap<Source, Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    fronts: BTreeMap<String, i64>,
    idle: bool,
    /// Whether that was told.
    told: bool,
}

impl Reading {
    /// A block of this partition was read: where its matches go. `cluster` is the block's own.
    pub fn take(
        &mut self,
        source: &Source,
        cluster: &str,
        result: BatchResult,
        route: &Route<'_>,
        out: &mut Vec<(u32, Record)>,
    ) {
        let progress = self.partitions.entry(source.clone()).or_default();
        (progress.idle, progress.told) = (false, false);
        let own = (cluster.to_owned(), result.newest, result.matches);
        let elsewhere =
            result.elsewhere.into_iter().map(|part| (String::from(part.cluster), part.newest, part.matches));
        for (cluster, newest, matches) in std::iter::once(own).chain(elsewhere) {
            if let Some(newest) = newest {
                let front = progress.fronts.entry(cluster.clone()).or_insert(newest);
                *front = newest.max(*front);
            }
            route.split(source, &cluster, newest, &matches, out);
        }
    }

    /// The partition is read to its end, nothing has come for a while, and the brokers were asked after the marks before
    /// were written. It holds owners up until that is told again: whoever reads it may be gone.
    pub fn is_idle(&mut self, source: &Source) {
        let progress = self.partitions.entry(source.clone()).or_default();
        (progress.idle, progress.told) = (true, false);
    }

    /// The partition is somebody else's now.
    pub fn forget(&mut self, source: &Source) {
        self.partitions.remove(source);
    }

    /// Whether partitions were read further than was told.
    pub fn is_untold(&self) -> bool {
        self.partitions.values().any(|progress| !progress.told)
    }

    /// What was not told yet of how far partitions were read; for every partition of the matches topic, behind the matches.
    /// `topics` are all that hold events, with the number of their partitions.
    pub fn marks(&mut self, topics: &[(String, i32)]) -> Option<Record> {
        let news = self.partitions.iter_mut().filter(|(_, progress)| !progress.told);
        let mark = |(source, progress): (&Source, &mut Progress)| {
            progress.told = true;
            let fronts = progress.fronts.iter().map(|(cluster, front)| (cluster.clone(), *front)).collect();
            Mark { source: source.clone(), fronts, idle: progress.idle }
        };
        let marks: Vec<Mark> = news.map(mark).collect();
        (!marks.is_empty()).then(|| Record::Marks { topics: topics.to_vec(), marks })
    }
}

/// Names and places of matches.
#[derive(Debug, Clone, Copy)]
pub struct Route<'r> {
    /// Where they belong.
    pub router: &'r Router,
    /// Whose matches they are.
    pub rules: &'r RuleSet,
    /// What they carry.
    pub captures: &'r CaptureTable,
}

impl Route<'_> {
    fn split(
        &self,
        source: &Source,
        cluster: &str,
        newest: Option<i64>,
        matches: &[Match],
        out: &mut Vec<(u32, Record)>,
    ) {
        let mut parts: BTreeMap<u32, Vec<Stored>> = BTreeMap::new();
        for matched in matches {
            let to = self.router.partition(matched.rule, cluster, &matched.identity());
            parts.entry(to).or_default().push(Stored::new(matched, self.rules, self.captures));
        }
        for (to, mut matches) in parts {
            while !matches.is_empty() {
                let rest = matches.split_off(matches.len().min(MATCHES_MAX));
                // Until the last of them is told, the block is not read.
                let newest = if rest.is_empty() { newest } else { None };
                let (source, cluster) = (source.clone(), cluster.to_owned());
                out.push((to, Record::Matches { source, cluster, newest, matches }));
                matches = rest;
            }
        }
    }
}
