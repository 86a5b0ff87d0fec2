//! What alerts list of the matches that windows counted, in their `events`: a ring bounded in bytes.

use std::collections::VecDeque;

use super::WindowStats;
use crate::engine::matches::Trace;
use crate::engine::trace::listed::{self, Names};

/// What alerts list of an event is packed into blocks of this size, so that the ring has what it says it has: no room
/// between allocations, and nothing of what a trace carries besides.
const BLOCK_BYTES: usize = 32 << 10;

/// What is listed of the newest matches, by running number. Numbers grow in event order.
#[derive(Debug)]
pub(super) struct Evidence {
    blocks: VecDeque<Block>,
    /// A block that was emptied, to be filled again.
    spare: Option<Block>,
    /// Number of the oldest trace that is kept. What stands before it in its block is forgotten already.
    first: u64,
    /// Number of the next trace.
    next: u64,
    bytes: usize,
    max: usize,
    names: Names,
}

/// Traces that stand together.
#[derive(Debug, Default)]
struct Block {
    /// Number of its first trace, and that one's time.
    first: u64,
    since: i64,
    /// What is listed of each.
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<u32>,
}

impl Block {
    /// The bytes of the trace with this number.
    fn get(&self, number: u64) -> Option<&[u8]> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.bytes.get(start..*self.ends.get(index)? as usize)
    }

    /// Whether so much more has its place here.
    fn has_room(&self, bytes: usize) -> bool {
        self.bytes.len() + bytes <= BLOCK_BYTES
    }

    /// Adds a trace; gives the bytes that it takes.
    fn push(&mut self, time: i64, brief: &[u8], names: &mut Names) -> usize {
        let before = self.bytes.len();
        listed::pack(time, brief, self.since, names, &mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
        cost(self.bytes.len() - before)
    }
}

/// What a trace of so many bytes takes.
fn cost(bytes: usize) -> usize {
    bytes + size_of::<u32>()
}

impl Evidence {
    pub(super) fn new(max: usize) -> Self {
        Evidence { blocks: VecDeque::new(), spare: None, first: 0, next: 0, bytes: 0, max, names: Names::default() }
    }

    /// What it takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.bytes
    }

    /// Keeps a trace, evicting the oldest if there is no room (itself, if it has none at all). Returns its number.
    pub(super) fn push(&mut self, trace: &Trace, stats: &mut WindowStats) -> u64 {
        let (number, brief) = (self.next, trace.brief());
        self.next += 1;
        let most = brief.len() + listed::MORE;
        if !self.blocks.back().is_some_and(|block| block.has_room(most)) {
            self.begin_block(trace.time, most);
        }
        if let Some(block) = self.blocks.back_mut() {
            self.bytes += block.push(trace.time, brief, &mut self.names);
        }
        while self.bytes > self.max && self.first < self.next {
            self.evict();
            stats.evidence_evicted += 1;
        }
        number
    }

    /// Begins a block with the trace that was numbered last, of at most so many bytes.
    fn begin_block(&mut self, since: i64, bytes: usize) {
        let mut block = self.spare.take().unwrap_or_default();
        (block.first, block.since) = (self.next - 1, since);
        // One trace may be larger than a block; it then has one of its own.
        block.bytes.reserve_exact(BLOCK_BYTES.max(bytes));
        self.blocks.push_back(block);
    }

    /// Forgets the oldest trace, and its block with the block's last.
    fn evict(&mut self) {
        let Some(block) = self.blocks.front() else { return };
        self.bytes -= cost(block.get(self.first).map_or(0, <[u8]>::len));
        self.first += 1;
        if block.first + block.ends.len() as u64 == self.first
            && let Some(mut block) = self.blocks.pop_front()
        {
            block.bytes.clear();
            block.ends.clear();
            self.spare = Some(block).filter(|block| block.bytes.capacity() <= BLOCK_BYTES);
        }
    }

    /// The trace with this number, unless it was evicted.
    pub(super) fn get(&self, number: u64) -> Option<Trace> {
        if number < self.first {
            return None;
        }
        let behind = self.blocks.partition_point(|block| block.first <= number);
        let block = self.blocks.get(behind.checked_sub(1)?)?;
        listed::unpack(block.get(number)?, block.since, &self.names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::matches::Excerpt;

    fn trace(name: String) -> Trace {
        Trace::from(Excerpt { audit_id: name.into(), time: 5, ..Excerpt::default() })
    }

    #[test]
    fn evicts_the_oldest_beyond_its_bytes() {
        let mut stats = WindowStats::default();
        let trace = trace("a".into());
        let cost = trace.listed_size();
        let mut e = Evidence::new(2 * cost);
        assert_eq!((0..5).map(|_| e.push(&trace, &mut stats)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!((0..6).map(|n| e.get(n).is_some()).collect::<Vec<_>>(), [false, false, false, true, true, false]);
        assert_eq!(stats.evidence_evicted, 3);
        assert_eq!(e.bytes, 2 * cost);
        let mut none = Evidence::new(0);
        assert_eq!(none.push(&trace, &mut stats), 0);
        assert_eq!(none.push(&trace, &mut stats), 1);
        assert!(none.get(1).is_none());
    }

    /// Traces of all lengths, some larger than a block, through a ring that turns many times.
    #[test]
    fn gives_back_what_it_keeps_and_holds_no_more_than_it_may() {
        let mut stats = WindowStats::default();
        let max = 4 * BLOCK_BYTES;
        let mut e = Evidence::new(max);
        let mut large = Excerpt { name: Some("n".repeat(1000).into()), ..Excerpt::default() };
        let mut kept: VecDeque<(u64, Trace)> = VecDeque::new();
        for n in 0..3000usize {
            large.offset = n as u64;
            let next = if n % 211 == 0 { Trace::from(large.clone()) } else { trace("x".repeat(n * 7919 % 1000)) };
            kept.push_back((e.push(&next, &mut stats), next));
            while kept.front().is_some_and(|(number, _)| *number < e.first) {
                kept.pop_front();
            }
            let live =
                e.blocks.iter().map(|block| (e.first.max(block.first)..block.first + block.ends.len() as u64, block));
            let costs = live.flat_map(|(numbers, block)| numbers.map(|n| cost(block.get(n).unwrap().len())));
            assert_eq!(e.bytes, costs.sum::<usize>());
            let held: usize = e.blocks.iter().chain(&e.spare).map(|block| block.bytes.capacity()).sum();
            assert!(held <= max + 4 * BLOCK_BYTES, "{held}");
        }
        for (number, trace) in &kept {
            assert_eq!(e.get(*number).unwrap().excerpt(), trace.excerpt());
        }
        assert_eq!(stats.evidence_evicted + kept.len() as u64, 3000);
    }
}
