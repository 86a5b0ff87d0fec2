//! What a worker counts.

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
    /// Requests that ended with 401.
    pub unauthenticated: u64,
    /// Requests that ended with 403.
    pub forbidden: u64,
    /// Requests that read Secrets.
    pub secret_reads: u64,
    /// Documents that could not be read.
    pub unreadable: u64,
    /// Documents over the size limit.
    pub too_large: u64,
    /// Readable documents that are no audit events.
    pub not_audit: u64,
    /// Events with a body that a rule asked for and that was not well-formed, or with such a text in their header.
    pub malformed_body: u64,
    /// Events without any time.
    pub untimed: u64,
    /// Events whose members stood there twice; the last one counted, as for the API server's decoder.
    pub duplicate_keys: u64,
    /// Stages too far from their request's start to be judged by rules that do not name `stage`.
    pub expired_stage: u64,
    /// Per rule: requests where the rule is unknown because a body was dropped. Empty if there are none.
    pub unknown: Vec<u64>,
    /// Events from the future: later than the cut-off, given the cut-off's time.
    pub skewed: u64,
    /// Captured values cut off at the limit of values per match.
    pub fanout_cut: u64,
    /// Matches left out because they repeat others in all that windows would learn from them.
    pub repeated: u64,
    /// Matches of clusters beyond the number that is told apart; they count as their input's.
    pub clusters_full: u64,
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
        self.unauthenticated += other.unauthenticated;
        self.forbidden += other.forbidden;
        self.secret_reads += other.secret_reads;
        self.unreadable += other.unreadable;
        self.too_large += other.too_large;
        self.not_audit += other.not_audit;
        self.malformed_body += other.malformed_body;
        self.untimed += other.untimed;
        self.duplicate_keys += other.duplicate_keys;
        self.expired_stage += other.expired_stage;
        self.skewed += other.skewed;
        self.fanout_cut += other.fanout_cut;
        self.repeated += other.repeated;
        self.clusters_full += other.clusters_full;
        if self.unknown.len() < other.unknown.len() {
            self.unknown.resize(other.unknown.len(), 0);
        }
        self.unknown.iter_mut().zip(&other.unknown).for_each(|(mine, theirs)| *mine += theirs);
    }
}
