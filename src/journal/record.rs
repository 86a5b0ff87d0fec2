//! What an entry of the journal holds: matches as they entered windows, by names that outlive a change of rules.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::JournalError;
use crate::engine::CaptureTable;
use crate::engine::matches::{CaptureId, ClusterId, Excerpt, Match, SourceId, Stage, Trace, Value, Who};
use crate::rules::RuleSet;

/// How far a source had been read when an entry was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The source's row in the journal.
    pub source: u32,
    /// Newest event time read, microseconds.
    pub front: Option<i64>,
    /// Whether it had ended, or fallen silent.
    pub ended: bool,
}

/// One batch as the windows took it: enough to take it in again with the same outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Which source; its row in the journal.
    pub source: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// All sources of the cluster just before the batch: what its watermark was made from.
    pub marks: Vec<Mark>,
    /// The cluster's watermark just before the batch, microseconds.
    pub watermark: Option<i64>,
    /// Newest event time of the batch, microseconds.
    pub newest: Option<i64>,
    /// Its matches, in the order of the input.
    pub matches: Vec<Stored>,
}

/// A match as it is stored. Its texts are redacted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    rule: String,
    time: Option<i64>,
    newest_before: Option<i64>,
    identity: [u8; 16],
    stage: u8,
    long_running: bool,
    excerpt: Excerpt<'static>,
    /// Field, hash and shown text of each captured value.
    values: Vec<(String, u128, String)>,
}

const STAGES: [Stage; 5] =
    [Stage::RequestReceived, Stage::ResponseStarted, Stage::ResponseComplete, Stage::Panic, Stage::Other];

impl Stored {
    /// What is stored of a match.
    pub fn new(matched: &Match, rules: &RuleSet, captures: &CaptureTable) -> Stored {
        let field = |id: CaptureId| captures.fields.get(id as usize).cloned().unwrap_or_default();
        let values = matched.trace.all_values();
        Stored {
            rule: rules.rules.get(matched.rule as usize).map(|rule| rule.meta.id.clone()).unwrap_or_default(),
            time: matched.time,
            newest_before: matched.newest_before,
            identity: matched.identity(),
            stage: matched.stage as u8,
            long_running: matched.long_running,
            excerpt: matched.trace.excerpt().into_owned(),
            values: values.map(|(id, value)| (field(id), value.hash, value.shown().into_owned())).collect(),
        }
    }

    /// The same, of a source that has this number here.
    pub fn of_source(mut self, source: SourceId) -> Stored {
        self.excerpt.source = source;
        self
    }

    /// The event time, microseconds.
    pub fn time(&self) -> Option<i64> {
        self.time
    }
}

/// Turns stored matches back into ones of the rules that run now.
pub struct Restorer<'r> {
    rules: HashMap<&'r str, u32>,
    captures: HashMap<&'r str, CaptureId>,
    /// Matches of rules that are no longer there.
    pub dropped: u64,
}

impl<'r> Restorer<'r> {
    /// For these rules.
    pub fn new(set: &'r RuleSet, captures: &'r CaptureTable) -> Self {
        let rules = (0..).zip(&set.rules).map(|(index, rule)| (rule.meta.id.as_str(), index)).collect();
        let captures = (0..).zip(&captures.fields).map(|(index, field)| (field.as_str(), index)).collect();
        Restorer { rules, captures, dropped: 0 }
    }

    /// The match, unless its rule is gone.
    pub fn restore(&mut self, stored: Stored, cluster: ClusterId) -> Option<Match> {
        let Some(rule) = self.rules.get(stored.rule.as_str()) else {
            self.dropped += 1;
            return None;
        };
        let value = |(field, hash, text): &(String, u128, String)| {
            let id = *self.captures.get(field.as_str())?;
            Some((id, Value { hash: *hash, text: text.as_str().into() }))
        };
        let mut values: Vec<(CaptureId, Value)> = stored.values.iter().filter_map(value).collect();
        values.sort_by_key(|(id, _)| *id);
        Some(Match {
            rule: *rule,
            time: stored.time,
            newest_before: stored.newest_before,
            who: Who::Known(stored.identity),
            stage: STAGES.get(usize::from(stored.stage)).copied().unwrap_or(Stage::Other),
            cluster,
            long_running: stored.long_running,
            trace: Trace::new(&stored.excerpt, &values),
        })
    }
}

impl Entry {
    /// As bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        // Strings, numbers and sequences of known length can all be written to memory.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    pub(super) fn decode(bytes: &[u8], seq: i64) -> Result<Entry, JournalError> {
        postcard::from_bytes(bytes).map_err(|_| JournalError::Entry { seq })
    }

    /// The newest time in it, microseconds: what decides when it may be forgotten.
    pub(super) fn newest_time(&self) -> i64 {
        self.matches.iter().filter_map(Stored::time).max().max(self.newest).or(self.watermark).unwrap_or(i64::MAX)
    }
}
