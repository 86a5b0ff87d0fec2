//! How far the slowest partition of events was read, for a member that owns no partition of the matches topic: it looks on
//! at one of them. Marks stand in all of them.

use std::sync::Arc;

use super::DistributedError;
use crate::distributed::{Owner, Record};
use crate::engine::CaptureTable;
use crate::engine::window::Settings;
use crate::kafka::KafkaError;
use crate::rules::RuleSet;
use crate::source::kafka::{Consumer, Partition, Place, Wanted};

/// Which is looked at: every matches topic has it.
const PARTITION: i32 = 0;
/// Blocks of matches read at once, at most.
const BLOCKS_MAX: usize = 16;

/// A reader of one partition of the matches topic, whose owner somebody else is.
pub(super) struct Onlooker {
    // Before its consumer: a partition keeps that alive.
    partition: Partition,
    owner: Owner,
    consumer: Consumer,
}

impl Onlooker {
    /// Begins to read. It joins no group.
    pub(super) fn new(member: &Consumer, topic: &str, windows: Settings) -> Result<Onlooker, KafkaError> {
        let settings = crate::source::kafka::Settings { topics: vec![topic.to_owned()], ..member.settings().clone() };
        let consumer = Consumer::new(settings)?;
        let (low, end) = consumer.ends(topic, PARTITION)?;
        let wanted = Wanted { topic: topic.to_owned(), partition: PARTITION, next: Some(low), follow_group: false };
        let place = Place { next: low, low, end, gone: 0 };
        let partition = consumer.take(&[wanted], &[place], false)?.into_iter().next();
        let no_topic =
            || KafkaError::NoTopic { brokers: member.settings().connection.brokers.clone(), topic: topic.to_owned() };
        // Without rules it knows what was told of partitions, and keeps nothing of matches.
        let owner = Owner::new(Arc::new(RuleSet::default()), Arc::new(CaptureTable::default()), windows);
        Ok(Onlooker { partition: partition.ok_or_else(no_topic)?, owner, consumer })
    }

    /// How far the slowest partition is known to be read, microseconds; none until all was read that was told before
    /// it began to look.
    pub(super) fn slowest(&mut self) -> Result<Option<Option<i64>>, DistributedError> {
        for (topic, number) in self.consumer.poll() {
            self.consumer.rewind(&topic, number, self.partition.next())?;
        }
        for _ in 0..BLOCKS_MAX {
            let Some(block) = self.partition.next_block(Vec::new(), false) else { break };
            for bytes in block.values() {
                self.owner.take(Record::decode(bytes)?, &mut Vec::new());
            }
        }
        Ok(self.partition.is_past_start().then(|| self.owner.slowest()))
    }

    /// Changes when others have told something.
    pub(super) fn news(&self) -> u64 {
        self.owner.news()
    }
}
