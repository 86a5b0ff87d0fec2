//! One worker's work: a batch of bytes in, matches and counts out. Pure; any number of workers may run side by side.

mod counts;

use std::sync::Arc;

use foldhash::fast::{FixedState, RandomState};

use crate::engine::condition::{Doubt, Verdict};
use crate::engine::excerpt::{self, Keeper};
use crate::engine::matches::{ClusterId, Match, SourceId, Stage};
use crate::engine::program::{Picture, Program};
use crate::engine::sightings::Sightings;
use crate::engine::window;
use crate::event::site::Site;
use crate::event::view::Event;
pub use crate::normalize::ProblemKind;
use crate::normalize::{self, Context, Place, Scratch, Sink};
use crate::source::Batch;
pub use counts::Counts;

/// What a batch held of a cluster that is not its input's: envelopes may tell whose events they carry.
#[derive(Debug, Default)]
pub struct Elsewhere {
    /// The cluster's name.
    pub cluster: Box<str>,
    /// Newest event time, microseconds.
    pub newest: Option<i64>,
    /// Oldest event time, microseconds.
    pub oldest: Option<i64>,
    /// Matches in the order of the input.
    pub matches: Vec<Match>,
}

/// What a worker made of one batch.
#[derive(Debug, Default)]
pub struct BatchResult {
    /// Copied from the batch.
    pub seq: u64,
    /// Copied from the batch.
    pub source: SourceId,
    /// Copied from the batch.
    pub cluster: ClusterId,
    /// Newest event time of the batch's own cluster, microseconds.
    pub newest: Option<i64>,
    /// Oldest event time of the batch's own cluster, microseconds.
    pub oldest: Option<i64>,
    /// Matches of the batch's own cluster, in the order of the input.
    pub matches: Vec<Match>,
    /// What belongs to other clusters, in the order in which they came up.
    pub elsewhere: Vec<Elsewhere>,
    /// One fingerprint per event: a 60-bit hash of the request's identity, with the stage in the low 4 bits.
    pub seen: Vec<u64>,
    /// What was counted.
    pub counts: Counts,
    /// Documents that are not events, in the order of the input.
    pub problems: Vec<Problem>,
    /// Of records: readable documents that are no audit events, as places in the batch's bytes.
    pub strangers: Vec<std::ops::Range<usize>>,
}

impl BatchResult {
    /// Newest event time of all clusters, microseconds.
    pub fn newest_of_all(&self) -> Option<i64> {
        self.elsewhere.iter().map(|part| part.newest).fold(self.newest, Option::max)
    }

    /// The least of the newest event times of the other clusters, microseconds.
    pub fn newest_elsewhere(&self) -> Option<i64> {
        self.elsewhere.iter().filter_map(|part| part.newest).min()
    }

    /// Whether nothing is there of the batch's own cluster, though there is of others.
    pub fn is_elsewhere(&self) -> bool {
        !self.elsewhere.is_empty() && self.newest.is_none() && self.matches.is_empty()
    }

    fn all_matches(&mut self) -> impl Iterator<Item = &mut Match> {
        self.matches.iter_mut().chain(self.elsewhere.iter_mut().flat_map(|part| &mut part.matches))
    }
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

impl Problem {
    /// Whether a document gave no event because of it.
    pub fn is_lost_document(&self) -> bool {
        matches!(self.kind, ProblemKind::Unreadable | ProblemKind::TooLarge)
    }
}

/// What a worker is told once.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// The site's facts.
    pub site: Arc<Site>,
    /// Names of the clusters, by [`ClusterId`].
    pub clusters: Arc<[String]>,
    /// How long after its start a request is remembered, in microseconds of event time; later stages are not judged.
    pub dedupe_horizon_us: i64,
    /// The same for long-running requests.
    pub dedupe_horizon_long_us: i64,
    /// Events later than the first time are given the second (`max_skew`); microseconds.
    pub skew: Option<(i64, i64)>,
    /// Judge every rule on every event, without the index: the plain path that the fast one is held against.
    pub plain: bool,
    /// Makes hashes that stand for requests within this process, instead of working out each one's identity: all workers
    /// have the same, and nothing that is made with it leaves the process.
    pub keyed: Option<RandomState>,
    /// Tell also matches that only repeat what `new_value` correlations were told.
    pub repeats: bool,
}

impl Default for WorkerSettings {
    /// No site, no cluster, no limit on times of the future, and the window stage's own horizons.
    fn default() -> Self {
        let windows = window::Settings::default();
        WorkerSettings {
            site: Arc::default(),
            clusters: Arc::default(),
            dedupe_horizon_us: windows.dedupe_horizon_us,
            dedupe_horizon_long_us: windows.dedupe_horizon_long_us,
            skew: None,
            plain: false,
            keyed: None,
            repeats: false,
        }
    }
}

/// One worker: compiled rules and the memory it reuses.
pub struct Worker {
    program: Arc<Program>,
    settings: WorkerSettings,
    scratch: Scratch,
    reused: Reused,
    seed: FixedState,
}

/// Memory that is reused from event to event.
#[derive(Default)]
struct Reused {
    picture: Picture,
    hits: Vec<u32>,
    /// Per rule, of the batch at hand: requests where it is unknown because a body was dropped.
    unknown: Vec<u64>,
    sightings: Sightings,
    keeper: Keeper,
    /// How many matches and events the batch before had: the next one has as many, more or less, and need not grow to it.
    usual: (usize, usize),
}

impl Worker {
    /// A worker for this program.
    pub fn new(program: Arc<Program>, settings: WorkerSettings) -> Worker {
        let unknown = vec![0; program.set.rules.len()];
        Worker {
            program,
            settings,
            scratch: Scratch::default(),
            reused: Reused { unknown, ..Reused::default() },
            seed: FixedState::default(),
        }
    }

    /// What it was told; a live pipeline moves the limit of the future with the clock, and learns of clusters.
    pub fn settings_mut(&mut self) -> &mut WorkerSettings {
        &mut self.settings
    }

    /// Finds the events of a batch and matches them.
    pub fn process(&mut self, batch: &Batch) -> BatchResult {
        let (matches, events) = self.reused.usual;
        let mut job = Job {
            program: &self.program,
            settings: &self.settings,
            reused: &mut self.reused,
            seed: &self.seed,
            batch,
            cluster: self.settings.clusters.get(batch.cluster as usize).map_or("", String::as_str),
            part: None,
            start: 0,
            result: BatchResult {
                seq: batch.seq,
                source: batch.source,
                cluster: batch.cluster,
                matches: Vec::with_capacity(matches + matches / 4),
                seen: Vec::with_capacity(events + events / 4),
                ..BatchResult::default()
            },
        };
        let context = Context { site: &self.settings.site, cluster: job.cluster };
        let lines = match batch.records.is_empty() {
            true => normalize::scan(&batch.bytes, context, &mut self.scratch, &mut job),
            // What one record begins, the next does not end.
            false => batch
                .records
                .iter()
                .map(|record| {
                    let start = job.start;
                    let lines = normalize::scan(&batch.bytes[start..record.end], context, &mut self.scratch, &mut job);
                    job.start = record.end;
                    lines
                })
                .sum(),
        };
        job.reused.keeper.put_on_sheet(job.result.all_matches().map(|matched| &mut matched.trace));
        job.reused.picture.tell_unknown(&mut job.reused.unknown);
        if job.reused.unknown.iter().any(|unknown| *unknown > 0) {
            job.result.counts.unknown.clone_from(&job.reused.unknown);
            job.reused.unknown.fill(0);
        }
        job.result.counts.lines += lines - u64::from(batch.goes_on && lines > 0);
        job.result.counts.bytes += batch.bytes.len() as u64;
        job.reused.usual = (job.result.matches.len(), job.result.seen.len());
        job.result
    }
}

/// The work on one batch.
struct Job<'j> {
    program: &'j Program,
    settings: &'j WorkerSettings,
    reused: &'j mut Reused,
    seed: &'j FixedState,
    batch: &'j Batch,
    /// The batch's own cluster.
    cluster: &'j str,
    /// Where the event at hand belongs, if not to that one: a place in `result.elsewhere`.
    part: Option<usize>,
    /// Where the record at hand begins in the batch.
    start: usize,
    result: BatchResult,
}

impl Job<'_> {
    /// Finds the event's part of the result.
    #[inline]
    fn sort(&mut self, event: &Event<'_>) {
        // Nearly always the very same text; to compare two empty ones costs more than it looks.
        let own = std::ptr::eq(event.cluster(), self.cluster) || event.cluster() == self.cluster;
        self.part = if own { None } else { Some(self.part_of(event.cluster())) };
    }

    #[cold]
    fn part_of(&mut self, cluster: &str) -> usize {
        let parts = &mut self.result.elsewhere;
        parts.iter().position(|part| *part.cluster == *cluster).unwrap_or_else(|| {
            parts.push(Elsewhere { cluster: cluster.into(), ..Elsewhere::default() });
            parts.len() - 1
        })
    }

    /// The event's time as windows use it, and the newest time before it.
    fn clock(&mut self, event: &Event<'_>) -> (Option<i64>, Option<i64>) {
        let BatchResult { newest, oldest, elsewhere, .. } = &mut self.result;
        let (newest, oldest) = match self.part {
            None => (newest, oldest),
            Some(part) => {
                let Elsewhere { newest, oldest, .. } = &mut elsewhere[part];
                (newest, oldest)
            }
        };
        let before = *newest;
        let Some(time) = event.time() else {
            self.result.counts.untimed += 1;
            return (None, before);
        };
        if let Some((cut_off, given)) = self.settings.skew
            && time > cut_off
        {
            self.result.counts.skewed += 1;
            return (Some(given), before);
        }
        *newest = before.max(Some(time));
        *oldest = Some(oldest.map_or(time, |oldest| oldest.min(time)));
        (Some(time), before)
    }

    /// Counts what people ask for by name. A request ends once; a watch counts when it is granted.
    fn count_deed(&mut self, event: &Event<'_>) {
        let counts = &mut self.result.counts;
        let watch = event.stage() == Stage::ResponseStarted && event.verb() == Some("watch");
        match event.code() {
            Some(401) if event.stage() == Stage::ResponseComplete => counts.unauthenticated += 1,
            Some(403) if event.stage() == Stage::ResponseComplete => counts.forbidden += 1,
            Some(200..300) if event.resource() == Some("secrets") && event.subresource().is_none() => {
                let read = matches!(event.verb(), Some("get" | "list")) && event.stage() == Stage::ResponseComplete;
                counts.secret_reads += u64::from(read || watch);
            }
            _ => {}
        }
    }

    /// Whether rules that do not name a stage are judged on this one.
    fn is_judged(&mut self, event: &Event<'_>) -> bool {
        if event.stage() == Stage::RequestReceived || event.code().is_none() {
            return false;
        }
        if event.stage() != Stage::ResponseComplete {
            return true;
        }
        let (Some(time), Some(received)) = (event.time(), event.received()) else { return true };
        let horizon = match time - received > self.settings.dedupe_horizon_us && event.long_running() {
            true => self.settings.dedupe_horizon_long_us,
            false => self.settings.dedupe_horizon_us,
        };
        let expired = time - received > horizon;
        self.result.counts.expired_stage += u64::from(expired);
        !expired
    }

    /// Leaves the rules that hold in `reused.hits`.
    fn judge(&mut self, event: &Event<'_>) {
        let judged = self.is_judged(event);
        let Reused { picture, hits, unknown, .. } = &mut *self.reused;
        if self.settings.plain {
            self.program.look_at_all(judged, picture);
        } else {
            self.program.look_at(event, judged, picture);
        }
        hits.clear();
        let mut malformed = false;
        for at in 0..picture.candidates.len() {
            let mut word = picture.candidates[at];
            while word != 0 {
                let rule = at * 64 + word.trailing_zeros() as usize;
                let doubt = Doubt::default();
                let verdict = match self.settings.plain {
                    true => self.program.judge(rule, event, &doubt),
                    false => self.program.judge_candidate(rule, event, &doubt, picture),
                };
                match verdict {
                    Verdict::True => hits.push(rule as u32),
                    Verdict::Unknown if doubt.get().dropped => {
                        unknown[rule] += 1;
                    }
                    Verdict::Unknown | Verdict::False => {}
                }
                malformed |= doubt.get().malformed;
                // What was judged may have ruled out others.
                word &= word - 1;
                word &= picture.candidates[at];
            }
        }
        self.result.counts.malformed_body += u64::from(malformed || event.is_flawed());
    }

    /// Leaves out the hits that tell windows nothing new.
    fn leave_out_repeats(&mut self, event: &Event<'_>, time: Option<i64>) {
        let Reused { hits, sightings, .. } = &mut *self.reused;
        let all = hits.len();
        hits.retain(|rule| !sightings.is_repeat(self.program, *rule, event, time));
        self.result.counts.repeated += (all - hits.len()) as u64;
    }

    /// Makes the matches of the rules that hold; they share what they keep of the event.
    fn keep(&mut self, event: &Event<'_>, time: Option<i64>, newest_before: Option<i64>, offset: u64) {
        let Reused { hits, keeper, picture, .. } = &mut *self.reused;
        let (table, fields) = (&self.program.captures, &self.program.capture_fields);
        let place = excerpt::Place { time, source: self.batch.source, offset, alike: picture.alike };
        let trace = keeper.keep(event, place, hits, table, fields, &mut self.result.counts.fanout_cut);
        let (who, long_running) = (Keeper::who(event, self.settings.keyed.as_ref()), event.long_running());
        let matches = match self.part {
            None => &mut self.result.matches,
            Some(part) => &mut self.result.elsewhere[part].matches,
        };
        for &rule in hits.iter() {
            matches.push(Match {
                rule,
                time,
                newest_before,
                who,
                stage: event.stage(),
                cluster: self.batch.cluster,
                long_running,
                trace: trace.clone(),
            });
        }
    }
}

impl Sink for Job<'_> {
    fn event(&mut self, event: &Event<'_>, place: Place) {
        self.result.counts.events += 1;
        self.result.counts.by_stage[event.stage() as usize] += 1;
        self.count_deed(event);
        self.sort(event);
        let (time, newest_before) = self.clock(event);
        self.result.seen.push(event.fingerprint(self.seed));
        if event.has_duplicate_keys() {
            self.result.counts.duplicate_keys += 1;
        }
        let offset = self.batch.offset_of(self.start + place.range.start);
        self.judge(event);
        if !self.settings.repeats {
            self.leave_out_repeats(event, time);
        }
        if !self.reused.hits.is_empty() {
            self.keep(event, time, newest_before, offset);
        }
    }

    fn problem(&mut self, kind: ProblemKind, place: Place, why: String) {
        match kind {
            ProblemKind::Unreadable => self.result.counts.unreadable += 1,
            ProblemKind::TooLarge => self.result.counts.too_large += 1,
            ProblemKind::Layout | ProblemKind::MalformedBody | ProblemKind::DuplicateKey => {}
        }
        let range = self.start + place.range.start..self.start + place.range.end;
        let offset = self.batch.offset_of(range.start);
        self.result.problems.push(Problem { line: place.line, offset, range, kind, why });
    }

    fn not_audit(&mut self, place: Place) {
        self.result.counts.not_audit += 1;
        // Channels of files carry what is no audit event; a topic of audit events should not.
        if !self.batch.records.is_empty() {
            self.result.strangers.push(self.start + place.range.start..self.start + place.range.end);
        }
    }
}
