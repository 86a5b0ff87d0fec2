//! A partition of Kafka as a stream reads it.

use std::time::Duration;

use crate::source::Batch;
use crate::source::kafka::Partition;

/// Where a stream's records come from.
pub(super) struct Feed {
    /// Which of the groups.
    pub(super) membership: usize,
    pub(super) topic: String,
    pub(super) number: i32,
    /// While it is ours.
    pub(super) partition: Option<Partition>,
    /// The offset to go on with.
    pub(super) next: Option<i64>,
    /// Whether it was taken from us since.
    pub(super) lost: bool,
    /// What the commit that is under way says, what the journal says, and what the group was told.
    pub(super) gathered: Option<i64>,
    pub(super) stored: Option<i64>,
    pub(super) told: Option<i64>,
    /// Whether its first record was looked at.
    pub(super) announced: bool,
}

impl Feed {
    /// What a journal keeps of it.
    pub(super) fn position(&self) -> String {
        match self.next() {
            Some(next) if self.lost => format!("{next} lost"),
            Some(next) => next.to_string(),
            None => String::new(),
        }
    }

    pub(super) fn next(&self) -> Option<i64> {
        self.partition.as_ref().map(Partition::next).or(self.next)
    }

    /// Whether there are records that did not come yet.
    pub(super) fn is_awaited(&self, once: bool) -> bool {
        self.partition.as_ref().is_some_and(|p| if once { !p.is_past_start() } else { !p.is_at_end() })
    }

    /// The next block, as a batch, and the cluster that its header names.
    pub(super) fn read(&mut self, buffer: Vec<u8>, once: bool) -> Option<(Batch, Option<String>)> {
        let block = self.partition.as_mut()?.next_block(buffer, once)?;
        let offset = block.records.first().map_or(0, |record| record.offset);
        let batch = Batch {
            offset,
            bytes: block.bytes,
            records: block.records,
            oversized: block.oversized,
            ..Batch::default()
        };
        Some((batch, block.cluster))
    }

    /// Whether it is known that nothing came for so long, and nothing is to come: a partition that is read to its end. One
    /// cluster of it may be silent while others are busy; then it has to have been read to its end meanwhile.
    pub(super) fn is_idle(&self, after: Duration) -> bool {
        self.partition.as_ref().is_none_or(|partition| {
            partition.is_at_end() || partition.at_end_since().is_some_and(|at| at.elapsed() < after)
        })
    }

    pub(super) fn gather(&mut self) {
        self.gathered = self.next();
    }

    pub(super) fn stored(&mut self) {
        self.stored = self.gathered.or(self.stored);
    }
}
