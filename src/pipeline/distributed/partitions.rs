//! What a member has: partitions of events, and partitions of the matches topic with their owners.

use std::time::{Duration, Instant};

use super::onlooker::Onlooker;
use super::{DistributedError, Grade, Member};
use crate::alert::Alert;
use crate::distributed::matcher::Reading;
use crate::distributed::{Owner, Record, Source};
use crate::kafka::{KafkaError, Lag};
use crate::source::Batch;
use crate::source::kafka::{Partition, Place, Wanted};

/// How long brokers that do not answer are left alone.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long it is waited before it is tried again to look on.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How soon after another, and how late at the latest, partitions are marked as idle.
const IDLE_SOONEST: Duration = Duration::from_millis(100);
const IDLE_LATEST: Duration = Duration::from_secs(10);
/// How long it is not asked whether partitions are idle when one of the brokers did not answer.
const IDLE_UNKNOWN: Duration = Duration::from_secs(3);

/// When partitions were marked as idle.
#[derive(Debug)]
pub(super) struct Idle {
    asked_at: Instant,
    every: Duration,
    news: u64,
}

impl Idle {
    pub(super) fn new(now: Instant) -> Idle {
        Idle { asked_at: now, every: IDLE_SOONEST, news: 0 }
    }
}

/// A partition of events.
pub(super) struct Events {
    pub(super) source: Source,
    partition: Partition,
    /// Newest event time read, microseconds.
    pub(super) reach: Option<i64>,
    committed: i64,
    read_at: Instant,
}

impl Events {
    /// The next block, and the cluster that its header names.
    pub(super) fn next_block(&mut self) -> Option<(Batch, Option<String>)> {
        let block = self.partition.next_block(Vec::new(), false)?;
        self.read_at = Instant::now();
        let batch =
            Batch { bytes: block.bytes, records: block.records, oversized: block.oversized, ..Batch::default() };
        Some((batch, block.cluster))
    }

    /// Whether it is read to its end and nothing has come for so long, not even the first record.
    pub(super) fn is_idle(&self, after: Duration) -> bool {
        self.partition.is_at_end() && self.read_at.elapsed() >= after
    }

    /// Where it stands, if that is not committed.
    pub(super) fn moved(&self) -> Option<(String, i32, i64)> {
        (self.partition.next() != self.committed).then(|| self.position())
    }

    /// Where it stands.
    pub(super) fn position(&self) -> (String, i32, i64) {
        (self.source.topic.clone(), self.source.partition, self.partition.next())
    }

    pub(super) fn committed(&mut self) {
        self.committed = self.partition.next();
    }
}

/// A partition of the matches topic.
pub(super) struct Matches {
    topic: String,
    partition: Partition,
    owner: Owner,
    /// Where the alerts begin that were not told.
    committed: i64,
    /// Alerts that no transaction has written yet: those of a round.
    untold: Vec<Alert>,
}

impl Matches {
    /// Folds the next block. False if there is none.
    pub(super) fn fold(&mut self) -> Result<bool, DistributedError> {
        let Some(block) = self.partition.next_block(Vec::new(), false) else { return Ok(false) };
        for (record, bytes) in block.records.iter().zip(block.values()) {
            let before = self.untold.len();
            self.owner.take(Record::decode(bytes)?, &mut self.untold);
            if (record.offset as i64) < self.committed {
                self.untold.truncate(before);
            }
        }
        Ok(true)
    }

    pub(super) fn untold(&self) -> &[Alert] {
        &self.untold
    }

    pub(super) fn news(&self) -> u64 {
        self.owner.news()
    }

    pub(super) fn slowest(&self) -> Option<i64> {
        self.owner.slowest()
    }

    pub(super) fn moved(&self) -> Option<(String, i32, i64)> {
        let next = self.partition.next();
        (next > self.committed).then(|| (self.topic.clone(), self.partition.number, next))
    }

    pub(super) fn committed(&mut self) {
        self.committed = self.committed.max(self.partition.next());
        self.untold.clear();
    }
}

/// What is not as it was committed, after a transaction that was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Astray {
    /// Nothing.
    Nothing,
    /// Partitions of events were read further.
    Events,
    /// Whether it was committed is not known.
    All,
}

impl Member<'_> {
    /// How to ask where a partition goes on: matches are told from the first, whatever is said of events.
    fn wanted(&self, topic: &str, partition: i32) -> Wanted {
        let next = (topic == self.plan.matches_topic).then_some(0);
        Wanted { topic: topic.to_owned(), partition, next, follow_group: true }
    }

    /// Takes partitions up: events go on where they were committed, matches are folded from the beginning.
    pub(super) fn take_waiting(&mut self) -> Result<(), DistributedError> {
        let wanted: Vec<Wanted> = self.waiting.iter().map(|(topic, number)| self.wanted(topic, *number)).collect();
        let asked = self.plan.consumer.topics().and_then(|topics| Ok((topics, self.plan.consumer.places(&wanted)?)));
        let (topics, committed) = match asked {
            Ok(answer) => answer,
            Err(error) => {
                self.try_again(&error);
                return Ok(());
            }
        };
        self.topics = topics.into_iter().filter(|(topic, _)| *topic != self.plan.matches_topic).collect();
        let begin = |(one, place): (&Wanted, &Place)| match one.topic == self.plan.matches_topic {
            true => Place { next: place.low, ..*place },
            false => *place,
        };
        let places: Vec<Place> = wanted.iter().zip(&committed).map(begin).collect();
        self.waiting.clear();
        self.unanswered = false;
        let partitions = match self.plan.consumer.take(&wanted, &places, true) {
            Ok(partitions) => partitions,
            Err(error) => {
                (self.log)(Grade::Problem, &error.to_string());
                return Ok(());
            }
        };
        for ((one, place), partition) in wanted.iter().zip(&committed).zip(partitions) {
            if one.topic == self.plan.matches_topic {
                let (committed, owner) = (place.next, self.owner());
                let topic = one.topic.clone();
                self.matches.push(Matches { topic, partition, owner, committed, untold: Vec::new() });
                continue;
            }
            if place.gone > 0 {
                (self.log)(
                    Grade::Problem,
                    &format!(
                        "kafka {}/{}: {} records are gone before they were read: retention is too short, or the group was \
                     down for too long",
                        one.topic, one.partition, place.gone
                    ),
                );
            }
            self.events.push(Events {
                source: Source { topic: one.topic.clone(), partition: one.partition },
                partition,
                reach: None,
                committed: place.next,
                read_at: Instant::now(),
            });
        }
        Ok(())
    }

    /// Gives partitions back. What was read is committed, or is not ours to commit.
    pub(super) fn give_back(&mut self, partitions: &[(String, i32)]) -> Result<(), DistributedError> {
        let gone = |topic: &str, number: i32| partitions.iter().any(|(t, n)| t == topic && *n == number);
        for events in self.events.iter().filter(|events| gone(&events.source.topic, events.source.partition)) {
            self.reading.forget(&events.source);
        }
        self.events.retain(|events| !gone(&events.source.topic, events.source.partition));
        self.matches.retain(|owned| !gone(&owned.topic, owned.partition.number));
        self.waiting.retain(|(topic, number)| !gone(topic, *number));
        self.unanswered &= !self.waiting.is_empty();
        if let Err(error) = self.plan.consumer.give_back(partitions) {
            (self.log)(Grade::Problem, &error.to_string());
        }
        Ok(())
    }

    pub(super) fn try_again(&mut self, error: &KafkaError) {
        (self.log)(Grade::Problem, &format!("{error}; trying again"));
        self.ask_at = Instant::now() + ASK_AGAIN_AFTER;
    }

    /// A transaction was given up. What was folded, and is not told, is told by the next; what was read is read again.
    pub(super) fn go_astray(&mut self, astray: Astray) {
        self.worker = (self.core.worker)();
        self.clusters.clear();
        self.reading = Reading::default();
        if self.astray != Astray::All {
            self.astray = astray;
        }
    }

    /// Goes back to what is committed, where partitions are not there. The group is not asked for: it may wait for an answer of
    /// ours, and this is none. False while brokers do not answer.
    ///
    /// # Errors
    /// They did not give us a producer for very long.
    pub(super) fn settle(&mut self) -> Result<bool, DistributedError> {
        if self.astray == Astray::Nothing {
            return Ok(true);
        }
        if Instant::now() < self.ask_at || !self.renew()? {
            return Ok(false);
        }
        match self.go_back() {
            Ok(()) => self.astray = Astray::Nothing,
            Err(error) => self.try_again(&error),
        }
        Ok(self.astray == Astray::Nothing)
    }

    fn go_back(&mut self) -> Result<(), KafkaError> {
        let of = |events: &Events| self.wanted(&events.source.topic, events.source.partition);
        let wanted: Vec<Wanted> = self.events.iter().map(of).collect();
        let places = self.plan.consumer.places(&wanted)?;
        for (events, place) in self.events.iter_mut().zip(&places) {
            self.plan.consumer.rewind(&events.source.topic, events.source.partition, place.next)?;
            events.partition.restart(*place);
            (events.committed, events.reach, events.read_at) = (place.next, None, Instant::now());
        }
        if self.astray != Astray::All {
            return Ok(());
        }
        let of = |owned: &Matches| self.wanted(&owned.topic, owned.partition.number);
        let wanted: Vec<Wanted> = self.matches.iter().map(of).collect();
        let places = self.plan.consumer.places(&wanted)?;
        for (at, place) in places.iter().enumerate() {
            let owner = self.owner();
            let owned = &mut self.matches[at];
            self.plan.consumer.rewind(&owned.topic, owned.partition.number, place.low)?;
            owned.partition.restart(Place { next: place.low, ..*place });
            (owned.owner, owned.committed) = (owner, place.next);
            owned.untold.clear();
        }
        Ok(())
    }

    /// The lags of what is ours. Of a partition that nothing is known of yet nothing is counted.
    pub(super) fn own_lags(&self, lags: &[Lag]) -> Vec<Lag> {
        let events = self.events.iter().map(|events| (&events.source.topic, events.source.partition));
        let own = events.chain(self.matches.iter().map(|owned| (&owned.topic, owned.partition.number)));
        let lag = |(topic, partition): (&String, i32)| {
            let known = lags.iter().find(|lag| lag.topic == *topic && lag.partition == partition);
            Lag { topic: topic.clone(), partition, records: known.map_or(0, |lag| lag.records) }
        };
        own.map(lag).collect()
    }

    /// How far the slowest partition of events was read, as far as we know: no other is to be read much further. Who owns no
    /// partition of the matches topic looks on at one.
    pub(super) fn slowest(&mut self) -> Result<Option<i64>, DistributedError> {
        if self.events.is_empty() || !self.matches.is_empty() {
            self.onlooker = None;
            return Ok(self.matches.iter().filter_map(Matches::slowest).max());
        }
        if self.onlooker.is_none() && self.look_at <= Instant::now() {
            let plan = &self.plan;
            match Onlooker::new(&plan.consumer, &plan.matches_topic, plan.windows.clone()) {
                Ok(onlooker) => self.onlooker = Some(onlooker),
                Err(error) => {
                    (self.log)(Grade::Problem, &format!("{error}; trying again"));
                    self.look_at = Instant::now() + LOOK_AGAIN_AFTER;
                }
            }
        }
        let known = self.onlooker.as_mut().map(Onlooker::slowest).transpose()?.flatten();
        // Until that is known, nothing is read but a first block of each.
        Ok(known.unwrap_or(Some(i64::MIN)))
    }

    /// Marks partitions as idle that were read to their ends and are silent, if brokers say that nothing came meanwhile. Owners
    /// let pass what they had been told before the mark before: so it is told again as long as there are news of others, and
    /// now and then.
    pub(super) fn mark_idle(&mut self) {
        let seen = self.onlooker.as_ref().map_or(0, Onlooker::news);
        let news = self.matches.iter().fold(self.blocks + seen, |sum, owned| sum.wrapping_add(owned.news()));
        if news != self.idle.news {
            (self.idle.news, self.idle.every) = (news, IDLE_SOONEST);
        }
        if self.idle.asked_at.elapsed() < self.idle.every {
            return;
        }
        let after = Duration::from_micros(self.plan.windows.lateness_us.max(0) as u64 * 2);
        let idle: Vec<(&Source, i64)> =
            self.events.iter().filter(|e| e.is_idle(after)).map(|e| (&e.source, e.partition.next())).collect();
        if idle.is_empty() {
            return;
        }
        let asked: Vec<(&str, i32, i64)> =
            idle.iter().map(|(s, next)| (s.topic.as_str(), s.partition, *next)).collect();
        match self.plan.consumer.are_read(&asked) {
            Ok(are_read) => {
                for ((source, _), _) in idle.iter().zip(are_read).filter(|(_, is_read)| *is_read) {
                    self.reading.is_idle(source);
                }
                self.idle.every = (self.idle.every * 2).min(IDLE_LATEST);
            }
            // They hold the watermark until brokers are there to be asked.
            Err(_) => self.idle.every = IDLE_UNKNOWN,
        }
        self.idle.asked_at = Instant::now();
    }

    /// A record of this partition came past its queue: it is read again from where it stands.
    pub(super) fn rewind_one(&mut self, topic: &str, number: i32) -> Result<(), KafkaError> {
        let events = self.events.iter().filter(|e| e.source.topic == topic && e.source.partition == number);
        let next = events.map(|events| events.partition.next());
        let owned = self.matches.iter().filter(|o| o.topic == topic && o.partition.number == number);
        let next = next.chain(owned.map(|owned| owned.partition.next())).next();
        next.map_or(Ok(()), |next| self.plan.consumer.rewind(topic, number, next))
    }
}
