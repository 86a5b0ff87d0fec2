//! What a member has: partitions of events, and partitions of the matches topic with their owners.

use std::time::{Duration, Instant};

use super::{DistributedError, Grade, Member};
use crate::alert::Alert;
use crate::distributed::matcher::Reading;
use crate::distributed::{Owner, Record, Source};
use crate::kafka::KafkaError;
use crate::source::Batch;
use crate::source::kafka::{Partition, Place, Wanted};

/// A partition of events.
pub(super) struct Events {
    pub(super) source: Source,
    partition: Partition,
    /// Newest event time read, microseconds.
    pub(super) reach: Option<i64>,
    committed: i64,
    /// Whether it held nothing when it was taken.
    empty: bool,
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

    /// Whether it is read to its end and nothing has come for so long; or never held anything.
    pub(super) fn is_idle(&self, after: Duration) -> bool {
        let never = self.empty && self.reach.is_none();
        self.partition.is_at_end() && (never || self.read_at.elapsed() >= after)
    }

    /// Where it stands, if that is not committed.
    pub(super) fn moved(&self) -> Option<(String, i32, i64)> {
        let next = self.partition.next();
        (next != self.committed).then(|| (self.source.topic.clone(), self.source.partition, next))
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
}

impl Matches {
    /// Folds the next block. False if there is none.
    pub(super) fn fold(&mut self, alerts: &mut Vec<Alert>) -> Result<bool, DistributedError> {
        let Some(block) = self.partition.next_block(Vec::new(), false) else { return Ok(false) };
        let mut start = 0;
        for record in &block.records {
            // Behind each record stands a newline.
            let bytes = &block.bytes[start..record.end.saturating_sub(1).max(start)];
            start = record.end;
            let before = alerts.len();
            self.owner.take(Record::decode(bytes)?, alerts);
            if (record.offset as i64) < self.committed {
                alerts.truncate(before);
            }
        }
        Ok(true)
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
    }
}

impl Member<'_> {
    /// Takes partitions up: events go on where they were committed, matches are folded from the beginning.
    pub(super) fn take_waiting(&mut self) -> Result<(), DistributedError> {
        let wanted: Vec<Wanted> = self
            .waiting
            .iter()
            .map(|(topic, partition)| Wanted {
                topic: topic.clone(),
                partition: *partition,
                // Matches are told from the first, whatever is said of events.
                next: (*topic == self.plan.matches_topic).then_some(0),
                follow_group: true,
            })
            .collect();
        let asked = self.plan.consumer.places(&wanted).and_then(|places| Ok((places, self.plan.consumer.topics()?)));
        let (committed, topics) = match asked {
            Ok(answer) => answer,
            Err(error) => {
                (self.log)(Grade::Problem, &format!("{error}; trying again"));
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
                self.matches.push(Matches { topic: one.topic.clone(), partition, owner, committed });
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
                empty: place.low == place.end,
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
        if let Err(error) = self.plan.consumer.give_back(partitions) {
            (self.log)(Grade::Problem, &error.to_string());
        }
        Ok(())
    }

    /// A transaction was given up: everything is taken anew, from what is committed.
    pub(super) fn go_back(&mut self) -> Result<(), DistributedError> {
        self.worker = (self.core.worker)();
        self.clusters.clear();
        self.reading = Reading::default();
        let events = self.events.drain(..).map(|events| (events.source.topic, events.source.partition));
        let mut all: Vec<(String, i32)> = events.collect();
        all.extend(self.matches.drain(..).map(|owned| (owned.topic, owned.partition.number)));
        if let Err(error) = self.plan.consumer.give_back(&all) {
            // The group has taken them from us, and will say so.
            (self.log)(Grade::Problem, &error.to_string());
            return Ok(());
        }
        self.waiting.extend(all);
        self.take_waiting()
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
