//! Sources: bytes in, batches out. A source knows nothing of events; it cuts its input where documents end.
#![allow(clippy::disallowed_methods, reason = "sources read files and standard input")]

mod ahead;
pub mod decode;
pub mod discover;
pub mod kafka;
pub mod merge;
mod parts;
pub mod replay;
mod row;
pub mod tail;
pub mod webhook;

use std::path::PathBuf;

use crate::event::{ClusterId, SourceId};

/// Where an input's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputKind {
    /// Standard input; it can be read once only.
    Stdin,
    /// A file, or anything else that has a path (a FIFO, `/dev/fd/63`).
    Path(PathBuf),
}

/// One thing to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// What people call it: the path as given, or `-`.
    pub name: String,
    /// Where its bytes come from.
    pub kind: InputKind,
}

impl Input {
    /// Standard input, named `-`.
    pub fn stdin() -> Self {
        Input { name: "-".to_owned(), kind: InputKind::Stdin }
    }

    /// The file at `path`.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Input { name: path.to_string_lossy().into_owned(), kind: InputKind::Path(path) }
    }
}

/// A block of one input, cut at a line's end, or where a document ends in a line of many.
#[derive(Debug, Default)]
pub struct Batch {
    /// Position in the run's total order of batches, from 0; results are put back into this order.
    pub seq: u64,
    /// Which input.
    pub source: SourceId,
    /// Which cluster the input belongs to.
    pub cluster: ClusterId,
    /// Offset of `bytes[0]` in the input, after decompression.
    pub offset: u64,
    /// Whole lines; the last one of an input may lack its newline.
    pub bytes: Vec<u8>,
    /// Where the records end that `bytes` is made of, if it is made of records: each is read by itself. Empty for what is
    /// one stream of lines.
    pub records: Vec<Record>,
    /// Lines longer than the limit that stood directly before `bytes` and were skipped: their offsets and lengths.
    pub oversized: Vec<Oversized>,
    /// Whether its last line goes on in the next batch, with a further document.
    pub goes_on: bool,
    /// Whether this is the input's last batch (it may be empty).
    pub last: bool,
    /// Why the input ended before its end (a truncated gzip stream, a read error), with what to do.
    pub broken: Option<String>,
    /// Whether `broken` is an error of the machine (the file could not be opened or read), not damage in the data.
    pub lost: bool,
}

impl Batch {
    /// Where the document that begins at this place of `bytes` stands in the input: for records, the offset of its record.
    pub fn offset_of(&self, at: usize) -> u64 {
        if self.records.is_empty() {
            return self.offset + at as u64;
        }
        let record = self.records.partition_point(|record| record.end <= at);
        self.records.get(record).or(self.records.last()).map_or(self.offset, |record| record.offset)
    }
}

/// A record of a log of records (Kafka).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Where it ends in the batch's bytes.
    pub end: usize,
    /// Its offset in its partition.
    pub offset: u64,
}

/// A line that was longer than the record limit and was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oversized {
    /// Offset of its first byte in the input.
    pub offset: u64,
    /// Its length in bytes, without the newline.
    pub bytes: u64,
}
