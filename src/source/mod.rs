//! Sources: bytes in, batches out. A source knows nothing of events; it cuts its input where documents end.

use crate::engine::matches::{ClusterId, SourceId};

/// A block of one input, cut at a line's end.
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
    /// Lines longer than the limit that stood directly before `bytes` and were skipped: their offsets and lengths.
    pub oversized: Vec<Oversized>,
    /// Whether this is the input's last batch (it may be empty).
    pub last: bool,
    /// Why the input ended before its end (a truncated gzip stream, a read error), with what to do.
    pub broken: Option<String>,
}

/// A line that was longer than the record limit and was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oversized {
    /// Offset of its first byte in the input.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
}
