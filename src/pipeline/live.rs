//! The live pipeline: sources that do not end, a journal, and sinks that are told from it. One thread reads, matches,
//! folds windows and commits, in this order; what is not committed is not told, and is read again after a crash.
//!
//! A restart folds the journal's matches into windows again, each with the watermark of its time, and is then where it
//! was. What fires while it does has been told: the alerts were committed with the matches that made them.

mod clock;
mod deliver;
mod feed;
mod follow;
mod kafka;
mod outlet;
mod partition_key;
mod posts;
mod recover;
mod reload;
mod store;
mod turns;
mod waiting;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::now_us;
use crate::alert::{Alert, Kind, Names, SourceName, meta};
use crate::config::ClusterFrom;
use crate::engine::CaptureTable;
use crate::engine::matches::{ClusterId, Firing, Match, Origin, SourceId};
use crate::engine::window::Correlator;
use crate::journal::{Commit, Entry, Journal, JournalError, Mark, NewAlert, Stored};
use crate::rules::RuleSet;
use crate::sink::dead_letter::DeadLetter;
use crate::source::Batch;
use crate::source::replay::Limits;
use crate::source::tail::StartAt;
use crate::source::webhook::{Answered, Posted};
use crate::worker::{Counts, Worker};
use follow::Stream;
pub use kafka::Group;
use kafka::Membership;
pub use outlet::{Outlet, RateLimit, Sink};
pub use reload::Reload;
use watch::Watch;
pub use watch::Watched;

/// How long nothing is looked at when there is nothing to do: at least, and for each log, whose look costs a call.
const POLL: Duration = Duration::from_millis(5);
const POLL_PER_LOG: Duration = Duration::from_micros(20);
/// How often logs are looked for that were not there before.
const DISCOVER_EVERY: Duration = Duration::from_secs(1);
/// How often positions are committed when nothing matches.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How often old entries and alerts are removed.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// How many blocks are worked on between two commits, at most.
const BLOCKS_PER_COMMIT: usize = 16;
/// How long is read, at most, while something is found that somebody waits for.
const READ_FOR: Duration = Duration::from_millis(20);
/// How long a commit that failed is waited for before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long a sink is waited for when everything was read.
const SINKS_AT_LAST: Duration = Duration::from_secs(60);
/// And when the run is to stop at once.
const SINKS_AT_STOP: Duration = Duration::from_secs(2);
/// How often it is tried when the run is to end.
const LAST_TRIES: usize = 10;

/// Logs to follow.
#[derive(Debug, Clone)]
pub struct Follow {
    /// Paths and patterns.
    pub paths: Vec<String>,
    /// Where a log without a recorded position begins.
    pub start: StartAt,
    /// Their cluster.
    pub cluster: String,
    /// How the cluster is found in a log's path.
    pub cluster_from: Option<ClusterFrom>,
    /// How far behind the newest event of a log a match may be, microseconds.
    pub lateness_us: i64,
}

/// A webhook to take events from.
#[derive(Debug, Clone)]
pub struct Posts {
    /// What is posted.
    pub posted: Receiver<Posted>,
    /// What the journal calls it: `webhook:` and where it listens.
    pub name: String,
    /// The cluster of what is posted.
    pub cluster: String,
    /// What was answered, to be counted.
    pub answered: Arc<Answered>,
    /// What people should know.
    pub notes: Receiver<String>,
    /// How far behind the newest event that was posted a match may be, microseconds.
    pub lateness_us: i64,
}

/// What to do, and how.
pub struct Plan {
    /// Logs to follow.
    pub follow: Vec<Follow>,
    /// Webhooks to take events from; not with `once`.
    pub posts: Vec<Posts>,
    /// Groups of Kafka to read with.
    pub groups: Vec<Group>,
    /// How they are cut.
    pub limits: Limits,
    /// The greatest lateness of any source, microseconds: of those that the journal knows and the plan does not.
    pub lateness_max_us: i64,
    /// How far ahead of this machine's clock events may be, microseconds; 0 is off.
    pub max_skew_us: i64,
    /// How long alerts are kept, microseconds.
    pub retention_us: i64,
    /// Whether to stop when everything that is there was read.
    pub once: bool,
    /// What takes the place of rules and sinks while it runs.
    pub reloads: Option<Receiver<Reload>>,
}

/// The engine, ready to run.
pub struct Core {
    /// The rules that run.
    pub rules: Arc<RuleSet>,
    /// What their matches carry.
    pub captures: Arc<CaptureTable>,
    /// Matches events.
    pub worker: Worker,
    /// Folds matches.
    pub windows: Correlator,
}

/// Why a live run stopped.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The journal could not be read, or not written at the end.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Kafka could not be read.
    #[error(transparent)]
    Kafka(#[from] crate::kafka::KafkaError),
    /// Standard output was closed by its reader.
    #[error("cannot write alerts: {0}")]
    Output(#[source] std::io::Error),
    /// The operating system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// Alerts were stored, but a sink did not take them before the end.
    #[error("{0}; the alerts are stored and will be sent at the next start")]
    Undelivered(String),
}

/// What a run did.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What was counted.
    pub counts: Counts,
    /// Matches of rules.
    pub matches: u64,
    /// Alerts stored for the first time.
    pub alerts: u64,
    /// Commits that failed and were tried again.
    pub commit_failures: u64,
    /// Restored matches whose rule is gone.
    pub rules_gone: u64,
    /// Matches that came too late for windows.
    pub late: u64,
    /// Inputs that ended before their end, or could not be read when the run ended.
    pub broken: u64,
}

/// What a run tells, and to whom.
#[derive(Default)]
pub struct Outlets {
    /// Those who take alerts.
    pub sinks: Vec<Outlet>,
    /// What could not be read is kept there.
    pub dead: Option<DeadLetter>,
    /// How it goes.
    pub watched: Watched,
}

/// How somebody should take what is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// It is as it should be.
    Info,
    /// Somebody should look at it.
    Problem,
}

/// Tells people what they should know; one line each.
pub type Log<'l> = &'l mut dyn FnMut(Grade, &str);

/// A live run.
pub struct Live<'l> {
    plan: Plan,
    core: Core,
    journal: Journal,
    sinks: Vec<deliver::Delivery>,
    dead: Option<DeadLetter>,
    /// Whether that failed last, and was told.
    dead_failed: bool,
    log: Log<'l>,
    streams: Vec<Stream>,
    /// The streams of what is posted, by webhook.
    post_streams: Vec<usize>,
    memberships: Vec<Membership>,
    /// What was posted and is not answered yet.
    owed: Vec<posts::Owed>,
    /// Sources that the journal knows, until it is known which of them are followed.
    restored: Vec<SourceId>,
    /// By the journal's rows.
    names: Vec<SourceName>,
    clusters: Vec<String>,
    /// What was committed last, by cluster.
    watermarks: Vec<Option<i64>>,
    pending: Commit,
    /// When the events behind the alerts in `pending` were read.
    pending_since: Vec<Instant>,
    /// When the batch at hand was.
    read_at: Instant,
    firings: Vec<Firing>,
    report: Report,
    clock: clock::Clock,
    skew_told: bool,
    /// Whether the last commit failed, and that was told.
    stuck: bool,
    /// Alerts known to be stored when sinks were told last.
    delivered: u64,
    watch: Watch,
    committed_at: Instant,
    discovered_at: Option<Instant>,
    pruned_at: Instant,
    reach_us: i64,
}

impl<'l> Live<'l> {
    /// A run that has not begun; the journal is folded back here.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn new(
        plan: Plan,
        core: Core,
        journal: Journal,
        outlets: Outlets,
        log: Log<'l>,
    ) -> Result<Live<'l>, LiveError> {
        let reach_us = recover::reach_us(&core.rules);
        let now = Instant::now();
        let Outlets { sinks, dead, watched } = outlets;
        let watch = Watch::new(watched, &core.rules);
        let mut live = Live {
            plan,
            core,
            journal,
            sinks: Vec::new(),
            dead,
            dead_failed: false,
            log,
            streams: Vec::new(),
            post_streams: Vec::new(),
            memberships: Vec::new(),
            owed: Vec::new(),
            restored: Vec::new(),
            names: Vec::new(),
            clusters: Vec::new(),
            watermarks: Vec::new(),
            pending: Commit::default(),
            pending_since: Vec::new(),
            read_at: now,
            firings: Vec::new(),
            report: Report::default(),
            clock: clock::Clock::default(),
            skew_told: false,
            stuck: false,
            delivered: 0,
            watch,
            committed_at: now,
            discovered_at: None,
            pruned_at: now,
            reach_us,
        };
        live.sinks = deliver::open(&mut live.journal, sinks)?;
        live.recover()?;
        live.open_posts()?;
        live.join()?;
        Ok(live)
    }

    /// Runs until `stop` is set or, with `once`, until everything was read.
    ///
    /// # Errors
    /// What could not be written before the end.
    pub fn run(mut self, stop: &AtomicBool) -> Result<Report, LiveError> {
        // What was stored but not told before a crash.
        self.deliver()?;
        loop {
            self.tick();
            self.observe();
            self.discover()?;
            self.tend_groups()?;
            let moved = self.read_some()? | self.take_posts();
            self.silence();
            let due = self.pending.is_urgent() || self.committed_at.elapsed() >= COMMIT_EVERY;
            let stored = !due || self.commit();
            if stored {
                self.answer_posts();
                self.deliver()?;
                self.reload()?;
                self.prune();
            } else {
                self.refuse_posts();
            }
            let nothing_left = !moved || !stored;
            if stop.load(Ordering::Relaxed) || self.plan.once && nothing_left && self.is_read() {
                return self.end();
            }
            if !stored {
                self.hold_on(stop);
            } else if nothing_left {
                self.wait();
            }
        }
    }

    /// Commits what there is; with `once`, tells what is due at the newest event time.
    fn end(mut self) -> Result<Report, LiveError> {
        self.commit_at_last()?;
        if self.plan.once {
            // The watermark goes to the newest event, and this is not stored: more may come before the next run.
            self.core.windows.finish(&mut self.firings);
            self.store_firings();
            self.commit_at_last()?;
            self.prune_at_last();
        }
        self.deliver_within(if self.plan.once { SINKS_AT_LAST } else { SINKS_AT_STOP })?;
        self.commit_at_last()?;
        self.leave_groups();
        let failures: Vec<String> = self.sinks.iter().filter_map(deliver::Delivery::failure).collect();
        for failure in failures.into_iter().map(LiveError::Undelivered) {
            if self.plan.once {
                return Err(failure);
            }
            // It was asked to stop, and nothing is lost by it.
            (self.log)(Grade::Problem, &failure.to_string());
        }
        self.report.broken += self.streams.iter().filter(|stream| stream.is_unreadable()).count() as u64;
        self.report.late += self.core.windows.stats().late;
        Ok(self.report)
    }

    /// Looks at the clock.
    fn tick(&mut self) {
        if let Some(note) = self.clock.advance(now_us()) {
            (self.log)(Grade::Problem, &note);
        }
        let now = self.clock.now_us;
        let skew = (self.plan.max_skew_us > 0).then(|| (now + self.plan.max_skew_us, now));
        self.core.worker.settings_mut().skew = skew;
    }

    /// Matches one batch and folds it in. Returns how many events it held.
    fn take(&mut self, at: usize, batch: &Batch) -> u64 {
        self.read_at = Instant::now();
        let mut result = self.core.worker.process(batch);
        self.count(batch, &result.counts);
        self.keep_dead(batch, &result);
        self.report.matches += result.counts.repeated;
        let newest = result.newest_of_all();
        if result.is_elsewhere() {
            self.core.windows.pass_over(batch.source, batch.cluster, result.newest_elsewhere(), &mut self.firings);
        } else {
            let matches = std::mem::take(&mut result.matches);
            self.fold(batch.source, batch.cluster, result.newest, matches);
        }
        for part in std::mem::take(&mut result.elsewhere) {
            let cluster = self.cluster_of(&part.cluster).unwrap_or(batch.cluster);
            self.fold(batch.source, cluster, part.newest, part.matches);
        }
        let stream = &mut self.streams[at];
        stream.front = stream.front.max(newest);
        self.watch.front(batch.source, stream.front);
        stream.ended = false;
        self.store_firings();
        result.counts.events
    }

    /// Folds in what a batch holds of one cluster.
    fn fold(&mut self, source: SourceId, cluster: ClusterId, newest: Option<i64>, matches: Vec<Match>) {
        self.report.matches += matches.len() as u64;
        self.watch.matched(&matches);
        if !matches.is_empty() {
            self.pending.entries.push(self.entry(source, cluster, newest, &matches));
        }
        if !self.plan.once {
            // A rule's alert leaves at once; windows will find it again, and its id drops the repeat.
            let at_once: Vec<Firing> = matches.iter().filter_map(|m| self.at_once(m, cluster)).collect();
            self.firings.extend(at_once);
        }
        self.core.windows.absorb(source, cluster, newest, matches, &mut self.firings);
    }

    fn count(&mut self, batch: &Batch, counts: &Counts) {
        self.report.counts.add(counts);
        self.report.counts.too_large += batch.oversized.len() as u64;
        let name = self.names.get(batch.source as usize).map_or("", |name| name.name.as_str());
        self.watch.batch(batch, name, counts);
        if let Some(why) = &batch.broken {
            self.report.broken += 1;
            (self.log)(Grade::Problem, &format!("{name}: {why}"));
        }
        if counts.skewed > 0 && !self.skew_told {
            self.skew_told = true;
            (self.log)(
                Grade::Problem,
                &format!(
                    "{name}: events are later than this machine's clock and max_skew; they are given the time at which they \
                 came, and hold back correlations until the clocks agree"
                ),
            );
        }
    }

    /// What the journal keeps of a batch that matched.
    fn entry(&self, source: SourceId, cluster: ClusterId, newest: Option<i64>, matches: &[Match]) -> Entry {
        let streams = self.streams.iter().filter(|s| s.cluster == cluster && s.known_front().is_some());
        Entry {
            source,
            cluster: self.clusters[cluster as usize].clone(),
            marks: streams.map(|s| Mark { source: s.id, front: s.known_front(), ended: s.ended }).collect(),
            watermark: self.core.windows.watermark(cluster),
            newest,
            matches: matches.iter().map(|m| Stored::new(m, &self.core.rules, &self.core.captures)).collect(),
        }
    }

    /// The alert of a rule that needs no window.
    fn at_once(&self, matched: &Match, cluster: ClusterId) -> Option<Firing> {
        let rule = self.core.rules.rules.get(matched.rule as usize).filter(|rule| rule.alerts);
        rule.zip(matched.time).map(|(_, time)| Firing {
            origin: Origin::Rule(matched.rule),
            time,
            identity: matched.identity(),
            cluster,
            trace: matched.trace.clone(),
            group: Vec::new(),
            count: 1,
            window: None,
            events: vec![matched.trace.clone()],
            evidence_truncated: false,
            late: false,
        })
    }

    /// Makes alerts of what fired, for the next commit.
    fn store_firings(&mut self) {
        let names = Names { rules: &self.core.rules, clusters: &self.clusters, sources: &self.names };
        for firing in self.firings.drain(..) {
            let alert = Alert::new(&firing, &names);
            let rule = meta(firing.origin, &self.core.rules);
            // An alert is strings and numbers, which can always be written.
            let body = serde_json::to_string(&alert).unwrap_or_default();
            // A correlation waited for its last event to be passed by the watermark: that is told by how old it is.
            self.pending_since.push(self.read_at);
            self.pending.alerts.push(NewAlert {
                time_us: alert.time_us,
                level: rule.level,
                rule: rule.id.clone(),
                reference: rule.reference.clone().unwrap_or_default(),
                correlation: alert.kind == Kind::Correlation,
                username: alert.actor.username,
                id: alert.id,
                body,
            });
        }
    }

    fn tell_notes(&mut self) {
        for note in self.streams.iter_mut().flat_map(Stream::take_notes) {
            (self.log)(Grade::Info, &note);
        }
        for note in self.plan.posts.iter().flat_map(|posts| posts.notes.try_iter()) {
            (self.log)(Grade::Info, &note);
        }
    }
}
