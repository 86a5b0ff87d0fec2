//! One file of a log while it is read: block by block from an offset on, whole lines only.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use memchr::{memchr, memrchr};

use super::super::replay::{Block, BlockReader, Limits, document_boundary};
use super::super::{InputKind, Oversized};
use super::identity::{self, Node, PRINT_BYTES, Print, head_of, read_at};
use super::siblings::Candidate;

/// How much is read to find the first event's time, in bytes.
const PEEK_BYTES: usize = 64 * 1024;

/// How long a file that was moved away may still be written to, while its successor is empty.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// What one attempt to read gave; what is no block gives the buffer back.
pub(super) enum Step {
    /// Whole lines.
    Block(Block),
    /// Nothing more now.
    Nothing(Vec<u8>),
    /// The file is not what it was.
    Truncated(Vec<u8>),
}

/// An open file.
pub(super) struct Reading {
    pub(super) node: Node,
    /// What its beginning looked like when it was last looked at.
    pub(super) print: Print,
    /// Whether it was the log itself when it was opened, so that it may grow after it was moved away.
    pub(super) is_growing: bool,
    file: File,
    offset: u64,
    /// A compressed file is decoded as a stream, and never grows.
    decoder: Option<BlockReader>,
    ended: bool,
    /// A line over the limit whose end is not found yet: how much of it was passed over.
    skipped: Option<u64>,
    /// The size at which the last attempt found nothing new.
    fruitless: Option<u64>,
    /// When it was seen first that another file has taken its name.
    moved: Option<Instant>,
}

impl Reading {
    pub(super) fn open(from: &Candidate, offset: u64, limits: Limits) -> io::Result<Reading> {
        let file = File::open(&from.path)?;
        let node = Node::of(&file.metadata()?);
        let head = head_of(&file)?;
        let compressed = matches!(head.as_slice(), [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..]);
        let head = if compressed { identity::decoded_head(&from.path)? } else { head };
        let kind = InputKind::Path(from.path.clone());
        Ok(Reading {
            node,
            print: Print::of(&head),
            is_growing: from.is_base && !compressed,
            file,
            offset,
            decoder: compressed.then(|| BlockReader::resume(&kind, limits, offset)),
            ended: false,
            skipped: None,
            fruitless: None,
            moved: None,
        })
    }

    /// Behind what was given out.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether this is the file that the log's name stands for.
    pub(super) fn is_current(&self, base: &Path) -> bool {
        self.decoder.is_none() && fs::metadata(base).is_ok_and(|found| Node::of(&found) == self.node)
    }

    /// Whether nobody writes to the file any more, which is not the log now: its successor is being written, or was there
    /// for a while. Until then it may still be added to.
    pub(super) fn is_settled(&mut self, base: &Path) -> bool {
        if !self.is_growing {
            return true;
        }
        let Ok(successor) = fs::metadata(base) else { return false };
        let since = *self.moved.get_or_insert_with(Instant::now);
        successor.len() > 0 || since.elapsed() >= SETTLED_AFTER
    }

    /// The bytes that would be read next, some of them.
    pub(super) fn peek(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; PEEK_BYTES];
        let got = match self.decoder {
            Some(_) => 0,
            None => read_at(&self.file, &mut bytes, self.offset)?,
        };
        bytes.truncate(got);
        Ok(bytes)
    }

    /// Reads the next block. `complete`: nothing will be added, so that a last line needs no newline.
    pub(super) fn step(&mut self, buffer: Vec<u8>, complete: bool, limits: Limits) -> io::Result<Step> {
        if self.decoder.is_some() {
            return self.decode(buffer);
        }
        let size = self.file.metadata()?.len();
        if size < self.offset || !self.is_same()? {
            return Ok(Step::Truncated(buffer));
        }
        if size == self.offset || (self.fruitless == Some(size) && !complete) {
            return Ok(Step::Nothing(buffer));
        }
        let before = self.offset;
        let block = self.cut(buffer, complete, limits)?;
        // It may have been truncated and written again while it was read.
        if !self.is_same()? {
            (self.offset, self.skipped) = (before, None);
            return Ok(Step::Truncated(block.bytes));
        }
        if self.print.bytes < PRINT_BYTES {
            self.print = Print::of(&head_of(&self.file)?);
        }
        if self.offset == before {
            self.fruitless = Some(size);
            return Ok(Step::Nothing(block.bytes));
        }
        self.fruitless = None;
        Ok(Step::Block(block))
    }

    /// Whether the file still begins as it did.
    fn is_same(&self) -> io::Result<bool> {
        if self.print.bytes == 0 {
            return Ok(true);
        }
        let mut head = [0; PRINT_BYTES];
        let got = read_at(&self.file, &mut head[..self.print.bytes], 0)?;
        Ok(self.print.fits(&head[..got]))
    }

    fn decode(&mut self, buffer: Vec<u8>) -> io::Result<Step> {
        let Some(decoder) = self.decoder.as_mut().filter(|_| !self.ended) else { return Ok(Step::Nothing(buffer)) };
        let mut block = decoder.next_block(buffer);
        self.ended = block.last;
        self.offset = block.offset + block.bytes.len() as u64;
        // A stream ends with its last file only, which is never known to be the last.
        block.last = false;
        Ok(Step::Block(block))
    }

    /// Reads from the offset on and moves it behind the last whole line. The block is empty if there is none.
    fn cut(&mut self, mut bytes: Vec<u8>, complete: bool, limits: Limits) -> io::Result<Block> {
        let mut oversized = Vec::new();
        if self.skipped.is_some() {
            match self.skip_line(&mut bytes, complete, limits)? {
                Some(line) => oversized.push(line),
                None => return Ok(Block { offset: self.offset, bytes, ..Block::default() }),
            }
        }
        let mut want = limits.block_bytes;
        loop {
            bytes.resize(want, 0);
            let got = read_at(&self.file, &mut bytes, self.offset)?;
            bytes.truncate(got);
            let more = got == want;
            let end = match more {
                true => document_boundary(&bytes)
                    .or_else(|| (got > limits.record_bytes).then(|| memrchr(b'\n', &bytes).map(|n| n + 1)).flatten()),
                false if complete => Some(got),
                false => memrchr(b'\n', &bytes).map(|n| n + 1),
            };
            if end.is_none() && got > limits.record_bytes {
                self.skipped = Some(0);
                match self.skip_line(&mut bytes, complete, limits)? {
                    Some(line) => oversized.push(line),
                    None => return Ok(Block { offset: self.offset, bytes: Vec::new(), oversized, ..Block::default() }),
                }
                want = limits.block_bytes;
            } else if end.is_none() && more {
                want = (want * 2).min(limits.record_bytes + 1);
            } else {
                bytes.truncate(end.unwrap_or(0));
                let offset = self.offset;
                self.offset += bytes.len() as u64;
                return Ok(Block { offset, bytes, oversized, ..Block::default() });
            }
        }
    }

    /// Passes over a line that is too long. None if its end is not written yet.
    fn skip_line(&mut self, bytes: &mut Vec<u8>, complete: bool, limits: Limits) -> io::Result<Option<Oversized>> {
        let mut skipped = self.skipped.unwrap_or(0);
        loop {
            bytes.resize(limits.block_bytes, 0);
            let got = read_at(&self.file, bytes, self.offset + skipped)?;
            let newline = memchr(b'\n', &bytes[..got]);
            skipped += newline.unwrap_or(got) as u64;
            let at_end = got < limits.block_bytes;
            if newline.is_some() || (at_end && complete) {
                let line = Oversized { offset: self.offset, bytes: skipped };
                self.offset += skipped + u64::from(newline.is_some());
                self.skipped = None;
                return Ok(Some(line));
            }
            if at_end {
                self.skipped = Some(skipped);
                bytes.clear();
                return Ok(None);
            }
        }
    }
}

/// The offset behind the last newline of a file.
pub(super) fn end_of_lines(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let mut end = file.metadata()?.len();
    let mut block = vec![0; PEEK_BYTES];
    while end > 0 {
        let start = end.saturating_sub(PEEK_BYTES as u64);
        let got = read_at(&file, &mut block[..(end - start) as usize], start)?;
        if let Some(newline) = memrchr(b'\n', &block[..got]) {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
