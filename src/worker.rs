//! One worker's work: a batch of bytes in, matches and counts out. Pure; any number of workers may run side by side.

use crate::engine::matches::{ClusterId, Match, SourceId};

/// What a worker made of one batch.
#[derive(Debug, Default)]
pub struct BatchResult {
    /// Copied from the batch.
    pub seq: u64,
    /// Copied from the batch.
    pub source: SourceId,
    /// Copied from the batch.
    pub cluster: ClusterId,
    /// Newest event time of the batch, microseconds.
    pub newest: Option<i64>,
    /// Oldest event time of the batch, microseconds.
    pub oldest: Option<i64>,
    /// Matches in the order of the input.
    pub matches: Vec<Match>,
    /// One fingerprint per event: a 60-bit hash of the request's identity, with the stage in the low 4 bits.
    pub seen: Vec<u64>,
    /// What was counted.
    pub counts: Counts,
    /// Documents that are not events, in the order of the input.
    pub problems: Vec<Problem>,
}

/// Counters of one batch or of a whole run; they add up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes read, after decompression.
    pub bytes: u64,
    /// Lines read (newlines, and a last line without one).
    pub lines: u64,
    /// Audit events (items of an EventList count one by one).
    pub events: u64,
    /// Events per stage: RequestReceived, ResponseStarted, ResponseComplete, Panic, other.
    pub by_stage: [u64; 5],
    /// Documents that could not be read.
    pub unreadable: u64,
    /// Documents over the size limit.
    pub too_large: u64,
    /// Readable documents that are no audit events.
    pub not_audit: u64,
    /// Events with a body that a rule asked for and that was not well-formed.
    pub malformed_body: u64,
    /// Events without any time.
    pub untimed: u64,
    /// Events whose members stood there twice; the last one counted, as for the API server's decoder.
    pub duplicate_keys: u64,
    /// Stages too far from their request's start to be judged by rules that do not name `stage`.
    pub expired_stage: u64,
    /// Per rule (index): requests where the rule is unknown because a body was dropped.
    pub unknown: std::collections::BTreeMap<u32, u64>,
    /// Captured values cut off at the limit of values per match.
    pub fanout_cut: u64,
}

/// A document that is not an event, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line within the batch, from 0.
    pub line: u64,
    /// Offset in the input (after decompression).
    pub offset: u64,
    /// Its bytes within the batch (empty for one that was not kept).
    pub range: std::ops::Range<usize>,
    /// What it is.
    pub kind: ProblemKind,
    /// What was wrong, for people.
    pub why: String,
}

/// How a document that is not an event is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// It could not be read.
    Unreadable,
    /// It was over the size limit.
    TooLarge,
    /// It stands on a line with another document, or over several lines: told, not counted.
    Layout,
    /// A body that a rule asked for was not well-formed: counted as `malformed_body`.
    MalformedBody,
    /// It had a member twice: counted as `duplicate_keys`.
    DuplicateKey,
}

impl Counts {
    /// Adds another batch's counts.
    pub fn add(&mut self, other: &Counts) {
        self.bytes += other.bytes;
        self.lines += other.lines;
        self.events += other.events;
        for (mine, theirs) in self.by_stage.iter_mut().zip(other.by_stage) {
            *mine += theirs;
        }
        self.unreadable += other.unreadable;
        self.too_large += other.too_large;
        self.not_audit += other.not_audit;
        self.malformed_body += other.malformed_body;
        self.untimed += other.untimed;
        self.duplicate_keys += other.duplicate_keys;
        self.expired_stage += other.expired_stage;
        self.fanout_cut += other.fanout_cut;
        for (rule, n) in &other.unknown {
            *self.unknown.entry(*rule).or_default() += n;
        }
    }
}
