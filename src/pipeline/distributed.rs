//! A member of many: it matches the partitions of events that the group gives it, owns the windows of the partitions of
//! the matches topic that the group gives it, and writes matches, alerts and how far it has read in one transaction.
//! Nothing is kept on this machine: an owner reads its partition from the beginning, silently up to what was committed.

mod onlooker;
mod partitions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::dead::each_dead;
use super::live::{Grade, Log, Watched};
use super::now_us;
use crate::alert::Alert;
use crate::distributed::matcher::{Reading, Route};
use crate::distributed::{Owner, Record, Router};
use crate::engine::CaptureTable;
use crate::engine::window::Settings;
use crate::kafka::transactions::{Failed, Outgoing, RECORD_BYTES_MAX, Transactions};
use crate::kafka::{KafkaError, Rebalance};
use crate::rules::RuleSet;
use crate::source::Batch;
use crate::source::kafka::Consumer;
use crate::worker::{BatchResult, Counts, Worker};
use onlooker::Onlooker;
use partitions::{Astray, Events, Idle, Matches};

/// How long nothing is looked at when there is nothing to do.
const POLL: Duration = Duration::from_millis(10);
/// Blocks of events in a transaction, at most.
const BLOCKS_MAX: usize = 16;
/// Blocks of matches in a transaction, at most.
const FOLDS_MAX: usize = 64;
/// How long it is waited before marks are told of which nothing else is to be written.
const MARKS_EVERY: Duration = Duration::from_millis(500);
/// How often signs of life are given.
const OBSERVE_EVERY: Duration = Duration::from_millis(500);
/// How far ahead of the slowest a partition of events may be read, microseconds of event time.
const AHEAD_MAX_US: i64 = 600_000_000;

/// How long brokers are asked for another producer before the process ends.
const RENEW_FOR: Duration = Duration::from_secs(600);

/// An alert as a record of at most so many bytes, if it can be: of one that is longer the older evidence is left out.
fn fitting(alert: &Alert, bytes_max: usize) -> Vec<u8> {
    // An alert is strings and numbers, which can always be written.
    let mut bytes = serde_json::to_vec(alert).unwrap_or_default();
    let mut shorter = None;
    while bytes.len() > bytes_max {
        let shorter = shorter.get_or_insert_with(|| alert.clone());
        if shorter.events.len() < 2 {
            break;
        }
        shorter.events.drain(..shorter.events.len().div_ceil(2));
        shorter.evidence_truncated = true;
        bytes = serde_json::to_vec(shorter).unwrap_or_default();
    }
    bytes
}

/// What to do, and how.
pub struct Plan {
    /// The group, for the topics with events and the matches topic.
    pub consumer: Consumer,
    /// The matches topic.
    pub matches_topic: String,
    /// The alerts topic.
    pub alerts_topic: String,
    /// A topic for records that could not be read.
    pub dead_letter_topic: Option<String>,
    /// The cluster of what tells none.
    pub cluster: String,
    /// Whether a topic's name is the name of its cluster.
    pub cluster_is_topic: bool,
    /// How windows are folded.
    pub windows: Settings,
    /// How far ahead of this machine's clock events may be, microseconds; 0 is off.
    pub max_skew_us: i64,
}

/// Makes workers: one that has seen nothing is needed whenever what it saw was given up.
pub type MakeWorker = Box<dyn Fn() -> Worker>;

/// The engine, ready to run.
pub struct Core {
    /// The rules that run.
    pub rules: Arc<RuleSet>,
    /// What their matches carry.
    pub captures: Arc<CaptureTable>,
    /// Makes workers.
    pub worker: MakeWorker,
}

/// Why a member stopped.
#[derive(Debug, thiserror::Error)]
pub enum DistributedError {
    /// Kafka cannot be talked to, or has gone on without us.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The matches topic holds what is not ours.
    #[error(transparent)]
    Record(#[from] crate::distributed::record::RecordError),
}

/// What a member did.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What was counted.
    pub counts: Counts,
    /// Alerts written.
    pub alerts: u64,
    /// Transactions that were given up and done again.
    pub aborted: u64,
    /// Matches that are more than brokers take.
    pub left_out: u64,
}

/// A member at work.
pub struct Member<'l> {
    plan: Plan,
    core: Core,
    worker: Worker,
    router: Router,
    transactions: Transactions,
    reading: Reading,
    events: Vec<Events>,
    matches: Vec<Matches>,
    /// Topics with events, and how many partitions each has.
    topics: Vec<(String, i32)>,
    /// Names of clusters, for the worker.
    clusters: Vec<String>,
    /// What the next transaction writes.
    pending: Vec<Outgoing>,
    marked_at: Instant,
    observed_at: Instant,
    watched: Watched,
    log: Log<'l>,
    report: Report,
    /// Partitions given to us of which brokers have not told where they go on.
    waiting: Vec<(String, i32)>,
    /// Whether the group waits for us to say that we have taken them, be they none.
    unanswered: bool,
    astray: Astray,
    /// When brokers are asked again that did not answer.
    ask_at: Instant,
    idle: Idle,
    onlooker: Option<Onlooker>,
    /// When it is tried again to look on.
    look_at: Instant,
    /// Since when the producer is of no use.
    spent_at: Option<Instant>,
    /// Blocks of events read.
    blocks: u64,
}

impl<'l> Member<'l> {
    /// Joins the group.
    ///
    /// # Errors
    /// The brokers cannot be reached, or a topic is not there.
    pub fn new(
        plan: Plan,
        core: Core,
        transactions: Transactions,
        watched: Watched,
        log: Log<'l>,
    ) -> Result<Member<'l>, DistributedError> {
        let partitions = plan.consumer.partitions_of(&plan.matches_topic)?;
        plan.consumer.subscribe()?;
        watched.metrics.know_rules(&core.rules);
        let now = Instant::now();
        Ok(Member {
            router: Router::new(&core.rules, partitions as u32),
            worker: (core.worker)(),
            plan,
            core,
            transactions,
            reading: Reading::default(),
            events: Vec::new(),
            matches: Vec::new(),
            topics: Vec::new(),
            clusters: Vec::new(),
            pending: Vec::new(),
            marked_at: now,
            observed_at: now,
            watched,
            log,
            report: Report::default(),
            waiting: Vec::new(),
            unanswered: false,
            astray: Astray::Nothing,
            ask_at: now,
            idle: Idle::new(now),
            onlooker: None,
            look_at: now,
            spent_at: None,
            blocks: 0,
        })
    }

    /// Runs until `stop` is set.
    ///
    /// # Errors
    /// Kafka has gone on without us for good: another process is to take over.
    pub fn run(mut self, stop: &AtomicBool) -> Result<Report, DistributedError> {
        while !stop.load(Ordering::Relaxed) {
            self.tend()?;
            self.observe();
            let mut moved = false;
            if self.settle()? {
                moved = self.read_events()? | self.fold_matches()?;
                self.mark_idle();
                self.mark();
                self.commit();
            }
            if !moved {
                let _ = crossbeam_channel::never::<()>().recv_timeout(POLL);
            }
        }
        Ok(self.report)
    }

    /// Does what the group asks for.
    fn tend(&mut self) -> Result<(), DistributedError> {
        for (topic, number) in self.plan.consumer.poll() {
            self.rewind_one(&topic, number)?;
        }
        while let Some(change) = self.plan.consumer.rebalance() {
            match change {
                Rebalance::Assigned(partitions) => {
                    self.watched.metrics.rebalance("assigned");
                    self.waiting.extend(partitions);
                    self.unanswered = true;
                    self.ask_at = Instant::now();
                    // To answer is to say that there is nothing to add, if there is nothing.
                    self.take_waiting()?;
                }
                Rebalance::Revoked { partitions, lost } => {
                    self.watched.metrics.rebalance(if lost { "lost" } else { "revoked" });
                    // Everything read is committed after each round; what is on its way is not ours any more.
                    self.give_back(&partitions)?;
                }
            }
        }
        if self.unanswered && self.ask_at <= Instant::now() {
            self.take_waiting()?;
        }
        for note in self.plan.consumer.take_notes() {
            (self.log)(Grade::Problem, &note);
        }
        Ok(())
    }

    /// Matches some blocks of events, those furthest behind first. False if there was nothing to read.
    fn read_events(&mut self) -> Result<bool, DistributedError> {
        let now = now_us();
        let skew = self.plan.max_skew_us;
        self.worker.settings_mut().skew = (skew > 0).then(|| (now + skew, now));
        let slowest = self.slowest()?;
        let mut moved = false;
        for _ in 0..BLOCKS_MAX {
            let mut order: Vec<usize> = (0..self.events.len()).collect();
            order.sort_by_key(|at| self.events[*at].reach);
            let next = order.into_iter().find_map(|at| {
                let ahead = slowest
                    .zip(self.events[at].reach)
                    .is_some_and(|(slow, own)| own.saturating_sub(slow) > AHEAD_MAX_US);
                let block = if ahead { None } else { self.events[at].next_block() };
                Some((at, block?))
            });
            let Some((at, (batch, cluster))) = next else { break };
            moved = true;
            self.matched(at, batch, cluster);
        }
        Ok(moved)
    }

    fn matched(&mut self, at: usize, mut batch: Batch, cluster: Option<String>) {
        let source = self.events[at].source.clone();
        let own = if self.plan.cluster_is_topic { &source.topic } else { &self.plan.cluster };
        let name = cluster.unwrap_or_else(|| own.clone());
        batch.cluster = self.cluster(&name);
        let result = self.worker.process(&batch);
        self.report.counts.add(&result.counts);
        self.report.counts.too_large += batch.oversized.len() as u64;
        let label = format!("{}/{}", source.topic, source.partition);
        self.watched.metrics.batch(&label, &result.counts, batch.oversized.len() as u64, false);
        self.keep_dead(&batch, &result, &source.topic, source.partition);
        self.blocks += 1;
        self.events[at].reach = self.events[at].reach.max(result.newest_of_all());
        let route = Route { router: &self.router, rules: &self.core.rules, captures: &self.core.captures };
        let mut records = Vec::new();
        self.reading.take(&source, &name, result, &route, &mut records);
        for (partition, record) in records {
            self.send(partition as i32, record);
        }
    }

    /// The number of a cluster, for the worker.
    fn cluster(&mut self, name: &str) -> u32 {
        if let Some(known) = self.clusters.iter().position(|known| known == name) {
            return known as u32;
        }
        // The worker asks for the name alone: beyond the limit all numbers are given anew.
        if self.clusters.len() >= super::CLUSTERS_MAX {
            self.clusters.clear();
        }
        self.clusters.push(name.to_owned());
        self.worker.settings_mut().clusters = self.clusters.clone().into();
        (self.clusters.len() - 1) as u32
    }

    fn send(&mut self, partition: i32, record: Record) {
        for value in record.encode_parts(RECORD_BYTES_MAX) {
            if value.len() > RECORD_BYTES_MAX {
                // Brokers would refuse it, and with it all that was read.
                self.report.left_out += 1;
                self.watched.metrics.limit("record_bytes");
                let what = format!("a match of {} bytes is more than brokers take, and is left out", value.len());
                (self.log)(Grade::Problem, &what);
                continue;
            }
            self.pending.push(Outgoing {
                topic: self.plan.matches_topic.clone(),
                partition: Some(partition),
                key: String::new(),
                value,
                headers: Vec::new(),
            });
        }
    }

    /// What could not be read goes to a topic of its own, in the same transaction.
    fn keep_dead(&mut self, batch: &Batch, result: &BatchResult, topic: &str, partition: i32) {
        let Some(dead) = self.plan.dead_letter_topic.clone() else { return };
        each_dead(batch, result, &mut |offset, why, raw| {
            let raw = &raw[..raw.len().min(crate::sink::kafka::DEAD_BYTES_MAX)];
            self.pending.push(Outgoing {
                topic: dead.clone(),
                partition: None,
                key: format!("{topic}/{partition}"),
                value: raw.to_vec(),
                headers: crate::sink::kafka::headers(topic, partition, offset, why),
            });
        });
    }

    /// Folds some matches. False if there was nothing to fold.
    fn fold_matches(&mut self) -> Result<bool, DistributedError> {
        let mut moved = false;
        for _ in 0..FOLDS_MAX {
            let mut any = false;
            for owned in &mut self.matches {
                any |= owned.fold()?;
            }
            moved |= any;
            if !any {
                break;
            }
        }
        Ok(moved)
    }

    /// Tells all owners how far the partitions of events were read.
    fn mark(&mut self) {
        if self.pending.is_empty() && self.marked_at.elapsed() < MARKS_EVERY {
            return;
        }
        let Some(marks) = self.reading.marks(&self.topics) else { return };
        self.marked_at = Instant::now();
        for partition in 0..self.router.partitions() {
            self.send(partition as i32, marks.clone());
        }
    }

    /// Writes what there is, with how far was read; or gives it up, and goes back. How far events were read is written with
    /// the marks that tell it, never before: whoever goes on behind it could not tell it any more.
    fn commit(&mut self) {
        let marked = !self.reading.is_untold();
        let events = self.events.iter().filter(|_| marked).filter_map(Events::moved);
        let mut positions: Vec<_> = events.chain(self.matches.iter().filter_map(Matches::moved)).collect();
        if positions.is_empty() && self.pending.is_empty() {
            return;
        }
        if positions.is_empty() {
            // By them brokers know whether we are of the group still.
            positions.extend(self.events.iter().map(Events::position));
        }
        let mut records = std::mem::take(&mut self.pending);
        let untold = self.matches.iter().flat_map(|owned| owned.untold());
        records.extend(untold.map(|alert| Outgoing {
            topic: self.plan.alerts_topic.clone(),
            partition: None,
            value: fitting(alert, RECORD_BYTES_MAX),
            key: alert.id.clone(),
            headers: Vec::new(),
        }));
        match self.transactions.commit(&records, &positions, self.plan.consumer.client()) {
            Ok(()) => self.committed(marked),
            Err(failed) => self.not_committed(failed),
        }
    }

    fn committed(&mut self, marked: bool) {
        self.watched.metrics.commit(true);
        for alert in self.matches.iter().flat_map(|owned| owned.untold()) {
            self.watched.metrics.alert(&alert.rule.id, alert.rule.level.name());
            self.report.alerts += 1;
        }
        if marked {
            self.events.iter_mut().for_each(Events::committed);
        }
        self.matches.iter_mut().for_each(Matches::committed);
    }

    fn not_committed(&mut self, failed: Failed) {
        self.watched.metrics.commit(false);
        self.report.aborted += 1;
        match failed {
            Failed::Aborted(error) => {
                (self.log)(Grade::Problem, &format!("{error}; given up, and done again"));
                self.go_astray(Astray::Events);
            }
            Failed::Fatal(error) => {
                (self.log)(Grade::Problem, &format!("{error}; going on with a new producer"));
                self.spent_at.get_or_insert_with(Instant::now);
                self.go_astray(Astray::All);
            }
        }
    }

    fn observe(&mut self) {
        if self.observed_at.elapsed() < OBSERVE_EVERY {
            return;
        }
        self.observed_at = Instant::now();
        self.watched.health.beat(true);
        if let Some(lags) = self.plan.consumer.lags() {
            self.watched.metrics.lags(&crate::kafka::by_topic(&self.own_lags(&lags)));
        }
    }

    /// Another producer, if the one we had is of no use. False while brokers do not give us one.
    fn renew(&mut self) -> Result<bool, DistributedError> {
        let Some(since) = self.spent_at else { return Ok(true) };
        match self.transactions.renew() {
            Ok(()) => self.spent_at = None,
            Err(error) if since.elapsed() >= RENEW_FOR => return Err(error.into()),
            Err(error) => {
                self.watched.metrics.commit(false);
                self.try_again(&error);
            }
        }
        Ok(self.spent_at.is_none())
    }

    fn owner(&self) -> Owner {
        let (rules, captures) = (Arc::clone(&self.core.rules), Arc::clone(&self.core.captures));
        Owner::new(rules, captures, self.plan.windows.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_alert_that_is_too_long_the_last_evidence_is_kept() {
        let mut alert = crate::alert::tests::alert_of_correlation();
        let event = alert.events.last().cloned().unwrap();
        let numbered = |n: usize| crate::alert::EventInfo { audit_id: format!("a-{n}"), ..event.clone() };
        alert.events = (0..100).map(numbered).collect();
        let whole = serde_json::to_vec(&alert).unwrap();
        assert_eq!(fitting(&alert, whole.len()), whole);
        let short = fitting(&alert, whole.len() / 4);
        assert!(short.len() <= whole.len() / 4);
        let short: Alert = serde_json::from_slice(&short).unwrap();
        assert!(short.evidence_truncated && short.events.len() > 10);
        assert_eq!((short.id, short.events.last().unwrap().audit_id.as_str()), (alert.id, "a-99"));
    }
}
