//! One file of a log while it is read: block by block from an offset on, whole lines only.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memchr::{memchr, memrchr};

use super::super::parts::closed_end;
use super::super::replay::{Block, BlockReader, Limits, document_boundary};
use super::super::{InputKind, Oversized};
use super::identity::{self, Node, PRINT_BYTES, Print, head_of, is_seam, read_at, seam_of};
use super::siblings::Candidate;

/// How much is read to find the first event's time, in bytes.
const PEEK_BYTES: usize = 64 * 1024;

/// What may still be written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Anything.
    Growing,
    /// Nothing: another file is the log now, and may begin with the rest of a line that a container runtime cut.
    Moved,
    /// Nothing, nor to any other.
    End,
}

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
    /// What stands just before the offset; of a compressed file it is not known.
    pub(super) seam: Print,
    /// Where it was when it was opened, behind all links.
    pub(super) path: PathBuf,
    /// What stands at its end and waits for its rest in the next file.
    pub(super) rest: Vec<u8>,
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
    /// Since when the rest of a line is waited for that a container runtime cut.
    waiting: Option<Instant>,
    /// How long it is waited for.
    patience: Duration,
}

impl Reading {
    pub(super) fn open(from: &Candidate, offset: u64, limits: Limits, patience: Duration) -> io::Result<Reading> {
        let file = File::open(&from.path)?;
        let node = Node::of(&file.metadata()?);
        let head = head_of(&file)?;
        let compressed = matches!(head.as_slice(), [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..]);
        let head = if compressed { identity::decoded_head(&from.path)? } else { head };
        let kind = InputKind::Path(from.path.clone());
        let decoder = compressed.then(|| BlockReader::resume(&kind, limits, offset));
        // All of this went by the name, which may have been given to another file meanwhile.
        if node != from.node || !from.is_there() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Reading {
            node,
            print: Print::of(&head),
            seam: if compressed { Print::default() } else { seam_of(&file, offset)? },
            path: fs::canonicalize(&from.path).unwrap_or_else(|_| from.path.clone()),
            rest: Vec::new(),
            is_growing: from.is_base && !compressed,
            file,
            offset,
            decoder,
            ended: false,
            skipped: None,
            fruitless: None,
            waiting: None,
            patience,
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

    /// Reads the next block. If nothing will be added, a last line needs no newline.
    pub(super) fn step(&mut self, buffer: Vec<u8>, until: Until, limits: Limits) -> io::Result<Step> {
        if self.decoder.is_some() {
            return self.decode(buffer, until);
        }
        let size = self.file.metadata()?.len();
        if size < self.offset || !self.is_same(self.offset)? {
            return Ok(Step::Truncated(buffer));
        }
        let known = self.fruitless == Some(size) && until == Until::Growing && !self.is_overdue();
        if size == self.offset || known {
            return Ok(Step::Nothing(buffer));
        }
        let before = self.offset;
        let block = self.cut(buffer, until, limits)?;
        // It may have been truncated and written again while it was read.
        if !self.is_same(before)? {
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
        self.seam = seam_of(&self.file, self.offset)?;
        (self.fruitless, self.waiting) = (None, None);
        Ok(Step::Block(block))
    }

    /// What waits for the next file, which will not come.
    pub(super) fn give_rest(&mut self) -> Option<Block> {
        let bytes = std::mem::take(&mut self.rest);
        let block = Block { offset: self.offset, bytes, ..Block::default() };
        self.offset += block.bytes.len() as u64;
        (!block.bytes.is_empty()).then_some(block)
    }

    /// Whether the file still holds what was read of it before `offset`, as far as its beginning and what was read last tell.
    fn is_same(&self, offset: u64) -> io::Result<bool> {
        if self.print.bytes > 0 {
            let mut head = [0; PRINT_BYTES];
            let got = read_at(&self.file, &mut head[..self.print.bytes], 0)?;
            if !self.print.fits(&head[..got]) {
                return Ok(false);
            }
        }
        is_seam(&self.file, offset, &self.seam)
    }

    /// Whether the rest of a cut line has been waited for long enough.
    fn is_overdue(&self) -> bool {
        self.waiting.is_some_and(|since| since.elapsed() >= self.patience)
    }

    fn decode(&mut self, buffer: Vec<u8>, until: Until) -> io::Result<Step> {
        let Some(decoder) = self.decoder.as_mut().filter(|_| !self.ended) else { return Ok(Step::Nothing(buffer)) };
        let mut block = decoder.next_block(buffer);
        self.ended = block.last;
        if self.ended && until != Until::End {
            self.rest = block.bytes.split_off(closed_end(&block.bytes).unwrap_or(0));
        }
        self.offset = block.offset + block.bytes.len() as u64;
        if block.bytes.is_empty() && block.oversized.is_empty() && block.broken.is_none() {
            return Ok(Step::Nothing(block.bytes));
        }
        // A stream ends with its last file only, which is never known to be the last.
        block.last = false;
        Ok(Step::Block(block))
    }

    /// Reads from the offset on and moves it behind the last whole line. The block is empty if there is none.
    fn cut(&mut self, mut bytes: Vec<u8>, until: Until, limits: Limits) -> io::Result<Block> {
        let complete = until != Until::Growing;
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
            let end = if more {
                document_boundary(&bytes)
                    .or_else(|| (got > limits.record_bytes).then(|| memrchr(b'\n', &bytes).map(|n| n + 1)).flatten())
            } else {
                self.end_of_written(&bytes, until)
            };
            if end.is_none() && got > limits.record_bytes && memchr(b'\n', &bytes).is_none() {
                self.skipped = Some(0);
                match self.skip_line(&mut bytes, complete, limits)? {
                    Some(line) => oversized.push(line),
                    None => return Ok(Block { offset: self.offset, bytes: Vec::new(), oversized, ..Block::default() }),
                }
                want = limits.block_bytes;
            } else if end.is_none() && more {
                want = (want * 2).min(limits.record_bytes + 1);
            } else {
                let end = end.unwrap_or(0);
                if until == Until::Moved && !more {
                    self.rest = bytes[end..].to_vec();
                }
                bytes.truncate(end);
                let offset = self.offset;
                self.offset += bytes.len() as u64;
                let goes_on = more && !bytes.is_empty() && !bytes.ends_with(b"\n");
                return Ok(Block { offset, bytes, oversized, goes_on, ..Block::default() });
            }
        }
    }

    /// Where what is whole ends, in what reaches to the end of the file. Behind it may be half a line, and lines that a
    /// container runtime cut and whose rest is not written yet.
    fn end_of_written(&mut self, bytes: &[u8], until: Until) -> Option<usize> {
        let lines = match until {
            Until::Growing => &bytes[..memrchr(b'\n', bytes)? + 1],
            Until::Moved | Until::End => bytes,
        };
        let end = if until == Until::End { Some(lines.len()) } else { closed_end(lines) };
        if until == Until::Growing && end.is_none() {
            let since = *self.waiting.get_or_insert_with(Instant::now);
            return (since.elapsed() >= self.patience).then_some(lines.len());
        }
        end
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
