//! One partition: records become blocks.

use std::time::{Duration, Instant};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::{Place, Settings};
use crate::kafka::{ClientError, Context};
use crate::source::replay::BLOCK_BYTES;
use crate::source::{Oversized, Record};

/// Records of a block, at most.
const RECORDS_MAX: usize = 4096;
/// Records of a block that were too long, at most.
const OVERSIZED_MAX: usize = 64;

/// Records of one partition and one cluster, one after the other.
#[derive(Debug, Default)]
pub struct Block {
    /// Their values, each with a newline behind it.
    pub bytes: Vec<u8>,
    /// Where each ends.
    pub records: Vec<Record>,
    /// Those that were too long to be kept.
    pub oversized: Vec<Oversized>,
    /// The cluster that their header names.
    pub cluster: Option<String>,
}

impl Block {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.oversized.is_empty()
    }

    /// What each record holds.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.records.iter().map(|record| record.end));
        // Behind each record stands a newline.
        starts.zip(&self.records).map(|(start, record)| &self.bytes[start..record.end.saturating_sub(1).max(start)])
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= BLOCK_BYTES || self.records.len() >= RECORDS_MAX || self.oversized.len() >= OVERSIZED_MAX
    }

    fn take(&mut self, held: Held, record_bytes: usize) {
        if held.value.len() > record_bytes {
            self.oversized.push(Oversized { offset: held.offset as u64, bytes: held.value.len() as u64 });
            return;
        }
        self.bytes.extend_from_slice(&held.value);
        self.bytes.push(b'\n');
        self.records.push(Record { end: self.bytes.len(), offset: held.offset as u64 });
    }
}

/// A record on its way into a block.
#[derive(Debug)]
struct Held {
    offset: i64,
    value: Vec<u8>,
    cluster: Option<String>,
}

/// A partition that is ours.
pub struct Partition {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub number: i32,
    queue: PartitionQueue<Context>,
    next: i64,
    /// Where it ended when it was taken.
    end: i64,
    record_bytes: usize,
    cluster_header: Option<String>,
    /// Belongs to another cluster than the block before it.
    held: Option<Held>,
    /// Whether it was read to its end, and since when it is known that it was.
    at_end: bool,
    at_end_since: Option<Instant>,
}

impl Partition {
    pub(super) fn new(
        topic: &str,
        number: i32,
        queue: PartitionQueue<Context>,
        place: Place,
        settings: &Settings,
    ) -> Partition {
        let mut partition = Partition {
            topic: topic.to_owned(),
            number,
            queue,
            next: place.next,
            end: place.end,
            record_bytes: if settings.whole.as_deref() == Some(topic) { usize::MAX } else { settings.record_bytes },
            cluster_header: settings.cluster_header.clone(),
            held: None,
            at_end: false,
            at_end_since: None,
        };
        if partition.next >= partition.end {
            partition.reach_end();
        }
        partition
    }

    /// The offset of the next record that was not given out.
    pub fn next(&self) -> i64 {
        self.held.as_ref().map_or(self.next, |held| held.offset)
    }

    /// It was rewound: it goes on at this place.
    pub fn restart(&mut self, place: Place) {
        (self.next, self.end, self.held) = (place.next, place.end, None);
        (self.at_end, self.at_end_since) = (false, None);
        if self.next >= self.end {
            self.reach_end();
        }
    }

    /// Whether everything was given out that was there when it was taken.
    pub fn is_past_start(&self) -> bool {
        self.held.is_none() && (self.at_end || self.next >= self.end)
    }

    /// Whether it is read to its end.
    pub fn is_at_end(&self) -> bool {
        self.at_end && self.held.is_none()
    }

    /// When its end was reached last.
    pub fn at_end_since(&self) -> Option<Instant> {
        self.at_end_since
    }

    /// The first record to come, if it is here.
    pub fn peek(&mut self, to_the_start: bool) -> Option<&[u8]> {
        if self.held.is_none() {
            self.held = self.receive(to_the_start);
        }
        self.held.as_ref().map(|held| held.value.as_slice())
    }

    /// The next block, if records are there; `buffer` is reused. With `to_the_start`, not beyond what was there when the
    /// partition was taken.
    pub fn next_block(&mut self, mut buffer: Vec<u8>, to_the_start: bool) -> Option<Block> {
        buffer.clear();
        let mut block = Block { bytes: buffer, ..Block::default() };
        while !block.is_full() {
            let Some(held) = self.held.take().or_else(|| self.receive(to_the_start)) else { break };
            if block.is_empty() {
                block.cluster.clone_from(&held.cluster);
            } else if held.cluster != block.cluster {
                self.held = Some(held);
                break;
            }
            block.take(held, self.record_bytes);
        }
        (!block.is_empty()).then_some(block)
    }

    fn receive(&mut self, to_the_start: bool) -> Option<Held> {
        loop {
            if to_the_start && self.next >= self.end {
                return None;
            }
            match self.queue.poll(Duration::ZERO)? {
                Ok(message) if message.offset() < self.next => {}
                Ok(message) => {
                    let held = Held {
                        offset: message.offset(),
                        value: message.payload().unwrap_or_default().to_vec(),
                        cluster: self.cluster_header.as_deref().and_then(|name| header(&message, name)),
                    };
                    self.next = held.offset + 1;
                    self.at_end = false;
                    return Some(held);
                }
                Err(ClientError::PartitionEOF(_)) => self.reach_end(),
                // The context was told, with the reason.
                Err(_) => {}
            }
        }
    }

    fn reach_end(&mut self) {
        self.at_end = true;
        self.at_end_since = Some(Instant::now());
    }
}

/// The last header of this name, if it is a text that can name a cluster.
fn header(message: &BorrowedMessage<'_>, name: &str) -> Option<String> {
    let headers = message.headers()?;
    let value = headers.iter().filter(|header| header.key == name).last()?.value?;
    std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.is_empty() && text.len() <= CLUSTER_BYTES_MAX)
        .map(str::to_owned)
}

/// Bytes of a cluster's name in a header, at most; a longer one is none.
const CLUSTER_BYTES_MAX: usize = 253;
