//! The order of a replay: many inputs, one stream. The next block is always read from the input that is furthest behind,
//! so that inputs which overlap in time advance side by side; the order depends on nothing but the inputs.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::replay::{BlockReader, Limits, last_time};
use super::{Batch, Input, InputKind};
use crate::event::{ClusterId, SourceId};

/// How many files are open at once; beyond it the one read longest ago is closed and opened again when its turn comes.
const OPEN_FILES_MAX: usize = 256;

/// All inputs of a replay. `SourceId` is the position in the list given.
pub struct Merge {
    inputs: Vec<Slot>,
    /// (front, input) of every input that has not ended. The front is the newest event time read, before the first
    /// block the first event time; an input without one is read first.
    queue: BinaryHeap<Reverse<(i64, SourceId)>>,
    /// Inputs with an open file, the one read longest ago in front.
    open: VecDeque<SourceId>,
    limits: Limits,
    raw: Arc<AtomicU64>,
    /// Times later than this say nothing about how far an input has got (see `max_skew`).
    time_max: i64,
    seq: u64,
}

struct Slot {
    input: Input,
    cluster: ClusterId,
    first_time: Option<i64>,
    reader: Option<BlockReader>,
}

impl Merge {
    /// Looks at each input's first event time. `raw` counts the bytes read as they are stored; `time_max`: microseconds.
    pub fn new(inputs: Vec<(Input, ClusterId)>, limits: Limits, time_max: Option<i64>, raw: Arc<AtomicU64>) -> Self {
        let time_max = time_max.unwrap_or(i64::MAX);
        let mut slots = Vec::with_capacity(inputs.len());
        let mut queue = BinaryHeap::with_capacity(inputs.len());
        for (input, cluster) in inputs {
            let mut slot = Slot { input, cluster, first_time: None, reader: None };
            slot.peek(limits, &raw);
            slot.first_time = slot.first_time.filter(|t| *t <= time_max);
            queue.push(Reverse((slot.first_time.unwrap_or(i64::MIN), slots.len() as SourceId)));
            slots.push(slot);
        }
        Merge { inputs: slots, queue, open: VecDeque::new(), limits, raw, time_max, seq: 0 }
    }

    /// Each input's first event time, as far as it could be seen, with its cluster; in the order of the list given.
    pub fn first_times(&self) -> impl Iterator<Item = (SourceId, ClusterId, Option<i64>)> {
        self.inputs.iter().enumerate().map(|(i, s)| (i as SourceId, s.cluster, s.first_time))
    }

    /// Reads the next batch into `buf`, whose memory is used again; `None` when all inputs have ended.
    pub fn next_batch(&mut self, buf: Vec<u8>) -> Option<Batch> {
        let Reverse((front, source)) = self.queue.pop()?;
        self.make_room(source);
        let slot = &mut self.inputs[source as usize];
        let reader = slot.reader.get_or_insert_with(|| BlockReader::open(&slot.input.kind, self.limits, &self.raw));
        let block = reader.next_block(buf);
        if block.last {
            slot.reader = None;
        } else {
            let seen = last_time(&block.bytes).filter(|t| *t <= self.time_max);
            self.queue.push(Reverse((seen.unwrap_or(front), source)));
            self.open.push_back(source);
        }
        let (broken, lost) = block.broken.map_or((None, false), |b| (Some(b.why), b.lost));
        let seq = self.seq;
        self.seq += 1;
        Some(Batch {
            seq,
            source,
            cluster: slot.cluster,
            offset: block.offset,
            bytes: block.bytes,
            oversized: block.oversized,
            goes_on: block.goes_on,
            last: block.last,
            broken,
            lost,
            ..Batch::default()
        })
    }

    /// Takes `source` out of the list of open files and closes another if there would be too many.
    fn make_room(&mut self, source: SourceId) {
        match self.open.iter().position(|s| *s == source) {
            Some(at) => drop(self.open.remove(at)),
            None if self.open.len() >= OPEN_FILES_MAX => {
                let oldest = self.open.pop_front().and_then(|s| self.inputs[s as usize].reader.as_mut());
                oldest.into_iter().for_each(BlockReader::park);
            }
            None => {}
        }
    }
}

impl Slot {
    fn peek(&mut self, limits: Limits, raw: &Arc<AtomicU64>) {
        let again = matches!(&self.input.kind, InputKind::Path(path) if path.is_file());
        // What is read twice must not count twice.
        let counter = if again { Arc::default() } else { raw.clone() };
        let mut reader = BlockReader::open(&self.input.kind, limits, &counter);
        self.first_time = reader.peek_first_time();
        if !again {
            self.reader = Some(reader);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::time::format_micros;
    use std::path::Path;

    fn event(second: i64) -> String {
        format!("{{\"stageTimestamp\":\"{}\"}}\n", format_micros(second * 1_000_000))
    }

    fn write(dir: &Path, name: &str, seconds: impl IntoIterator<Item = i64>) -> (Input, ClusterId) {
        let path = dir.join(name);
        std::fs::write(&path, seconds.into_iter().map(event).collect::<String>()).unwrap();
        (Input::path(path), 0)
    }

    fn order(inputs: Vec<(Input, ClusterId)>, block_bytes: usize) -> Vec<(SourceId, usize)> {
        let limits = Limits { block_bytes, record_bytes: 1000 };
        let mut merge = Merge::new(inputs, limits, None, Arc::default());
        let mut out = Vec::new();
        while let Some(batch) = merge.next_batch(Vec::new()) {
            assert_eq!(batch.seq, out.len() as u64);
            out.push((batch.source, batch.bytes.len() / event(0).len()));
        }
        out
    }

    #[test]
    fn reads_the_input_that_is_furthest_behind() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = vec![
            write(dir.path(), "late.log", 20..24),
            write(dir.path(), "a.log", [0, 2, 4, 6]),
            write(dir.path(), "b.log", [1, 3, 5, 7]),
            write(dir.path(), "empty.log", []),
        ];
        // Blocks of one event each (the cut needs the byte behind the newline).
        let found = order(inputs, event(0).len() + 1);
        let read: Vec<_> = found.iter().filter(|(s, n)| *n > 0 || *s == 3).map(|(s, _)| *s).collect();
        // a: 0, 2; b: 1, 3; a: 4; b: 5; a: 6; b: 7; and only then what begins at 20.
        assert_eq!(read, [3, 1, 1, 2, 2, 1, 2, 1, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn small_files_are_read_whole_and_in_time_order() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = (0..300).map(|i| write(dir.path(), &format!("{i}.log"), [1000 - i])).collect();
        let found = order(inputs, 4096);
        assert_eq!(found, (0..300).rev().map(|i| (i, 1)).collect::<Vec<_>>());
    }

    #[test]
    fn more_inputs_than_open_files() {
        let dir = tempfile::tempdir().unwrap();
        let many = OPEN_FILES_MAX as i64 + 20;
        let inputs = (0..many).map(|i| write(dir.path(), &format!("{i}.log"), (0..5).map(|n| n * 1000 + i))).collect();
        let found = order(inputs, event(0).len() + 1);
        assert_eq!(found.iter().map(|(_, n)| n).sum::<usize>(), many as usize * 5);
        // Each is read until it is ahead of those that follow, so all of them are open side by side.
        let first_round: Vec<_> = found.iter().take(2 * many as usize).map(|(s, _)| i64::from(*s)).collect();
        assert_eq!(first_round, (0..many).flat_map(|i| [i, i]).collect::<Vec<_>>());
    }

    #[test]
    fn a_time_beyond_the_limit_does_not_hold_an_input_back() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = vec![write(dir.path(), "wrong.log", [1, 9_000_000, 3]), write(dir.path(), "b.log", [2, 4])];
        let limits = Limits { block_bytes: event(0).len() + 1, record_bytes: 1000 };
        let mut merge = Merge::new(inputs, limits, Some(100_000_000), Arc::default());
        let mut sources = Vec::new();
        while let Some(batch) = merge.next_batch(Vec::new()) {
            sources.push(batch.source);
        }
        // Read past the wrong time (front 1 stays), 3, then the other input.
        assert_eq!(sources[..3], [0, 0, 0]);
        assert_eq!(sources[3..5], [1, 1]);
    }
}
