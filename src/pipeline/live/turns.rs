//! Whose turn it is: streams are read side by side, in event time, and those that are silent hold nothing up.

use std::time::{Duration, Instant};

use super::{BLOCKS_PER_COMMIT, Live, LiveError, READ_FOR};
use crate::source::Batch;
use crate::source::replay::BLOCK_BYTES;

impl Live<'_> {
    /// Reads some blocks, from the stream that is furthest behind first. False if there was nothing to read.
    pub(super) fn read_some(&mut self) -> Result<bool, LiveError> {
        let (mut moved, mut bytes, began) = (false, 0, Instant::now());
        // Of many partitions each brings little.
        let blocks = BLOCKS_PER_COMMIT.max(self.streams.len());
        for _ in 0..blocks {
            if self.pending.is_urgent() && began.elapsed() >= READ_FOR {
                break;
            }
            let next = self.next_batch();
            self.tell_notes();
            let Some((reader, mut batch, cluster)) = next else { break };
            moved = true;
            bytes += batch.bytes.len();
            self.has_read(reader);
            let at = match cluster {
                Some(name) => self.part_of(reader, &name)?,
                None => reader,
            };
            let stream = &mut self.streams[at];
            (batch.source, batch.cluster) = (stream.id, stream.cluster);
            stream.idle_since = Instant::now();
            stream.moved = true;
            self.take(at, &batch);
            // The order of reading is that of partitions, whatever clusters they tell of.
            self.streams[reader].read_to = self.streams[reader].read_to.max(self.streams[at].front);
            self.streams[reader].reuse(batch.bytes);
            if bytes >= BLOCKS_PER_COMMIT * BLOCK_BYTES {
                break;
            }
        }
        Ok(moved)
    }

    /// The next batch, of the stream that is furthest behind. A stream with nothing to read lets the next one have its
    /// turn; but if it is known that there is more, nobody overtakes it by more than the lateness.
    fn next_batch(&mut self) -> Option<(usize, Batch, Option<String>)> {
        if !self.announce_partitions() {
            return None;
        }
        let mut order: Vec<usize> = (0..self.streams.len()).collect();
        order.sort_by_key(|at| (self.streams[*at].reach(), *at));
        let mut awaited: Option<i64> = None;
        for at in order {
            let front = self.streams[at].reach();
            if awaited.is_some_and(|slowest| front > Some(slowest.saturating_add(self.plan.lateness_max_us))) {
                return None;
            }
            if let Some((batch, cluster)) = self.streams[at].read(self.plan.once) {
                return Some((at, batch, cluster));
            }
            if awaited.is_none() && self.streams[at].is_awaited(self.plan.once) {
                awaited = Some(front.unwrap_or(i64::MIN));
            }
        }
        None
    }

    /// Sources that have had nothing for twice the lateness no longer hold the watermark.
    pub(super) fn silence(&mut self) {
        if self.plan.once {
            return;
        }
        for at in 0..self.streams.len() {
            let stream = &self.streams[at];
            let twice_us = stream.lateness_us.max(0) * 2;
            let ended = stream.ended;
            let silent = self.is_left_behind(at, twice_us.max(1_000_000))
                || !ended && self.is_silent(at, Duration::from_micros(twice_us as u64)) && self.is_read_still(at);
            if ended || !silent {
                continue;
            }
            let stream = &mut self.streams[at];
            stream.ended = true;
            stream.moved = true;
            self.core.windows.finish_source(stream.id, &mut self.firings);
        }
        self.store_firings();
    }
}
