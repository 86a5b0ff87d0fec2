//! Reads one input in blocks that end where documents end, with plain `read()`.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::{memchr, memmem, memrchr, memrchr_iter};

use super::decode::{self, Coding};
use super::parts::closed_end;
use super::row::end_in_row;
use super::{InputKind, Oversized};
use crate::event::time::parse_micros;

/// Size of a block, in bytes, where somebody waits for what is in it.
pub const BLOCK_BYTES: usize = 256 * 1024;
/// The same for a replay with one worker: a switch from one block's events to their windows, and back, costs some 40
/// microseconds.
pub const LONE_BLOCK_BYTES: usize = 1024 * 1024;
/// The same for one with several: windows have a thread of their own, and there are more blocks on their way.
pub const SHARED_BLOCK_BYTES: usize = 384 * 1024;
/// Longest line that is kept, in bytes, unless configured otherwise.
pub const RECORD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How far an input is looked into for its first event time, in bytes.
const PEEK_BYTES_MAX: usize = 1024 * 1024;
/// How much of it is read first.
const PEEK_BYTES: usize = 16 * 1024;
/// Room behind the bytes asked for, so that the end of a read never makes the buffer grow.
const SLACK_BYTES: usize = 64;

/// How an input is cut.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Size of a block in bytes; a document that is larger makes a larger block.
    pub block_bytes: usize,
    /// Longest line, and longest document over several lines, in bytes.
    pub record_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { block_bytes: BLOCK_BYTES, record_bytes: RECORD_BYTES_MAX }
    }
}

/// What one read gave.
#[derive(Debug, Default)]
pub struct Block {
    /// Offset of `bytes[0]` in the decoded input.
    pub offset: u64,
    /// Whole lines; the last of the input may lack its newline.
    pub bytes: Vec<u8>,
    /// Lines that were skipped directly before `bytes`.
    pub oversized: Vec<Oversized>,
    /// Whether its last line goes on in the next block, with a further document.
    pub goes_on: bool,
    /// Whether the input has ended.
    pub last: bool,
    /// Why it ended before its end.
    pub broken: Option<Broken>,
}

/// An input that ended before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What happened and what to do.
    pub why: String,
    /// Whether the machine failed (not found, not permitted, an I/O error) rather than the data.
    pub lost: bool,
}

/// An input being read.
pub struct BlockReader {
    kind: InputKind,
    limits: Limits,
    raw: Arc<AtomicU64>,
    /// `None` while parked.
    reader: Option<Box<dyn Read + Send>>,
    coding: Coding,
    /// Decoded bytes taken from `reader`.
    decoded: u64,
    /// What was read behind the last cut.
    carry: Vec<u8>,
    /// Offset of `carry[0]`.
    offset: u64,
    /// Set when nothing more will come.
    end: Option<Option<Broken>>,
}

impl BlockReader {
    /// Opens an input. `raw` counts the bytes read as they are stored, for a progress bar. An input that cannot be
    /// opened ends at once, broken.
    pub fn open(kind: &InputKind, limits: Limits, raw: &Arc<AtomicU64>) -> Self {
        let mut this = BlockReader {
            kind: kind.clone(),
            limits,
            raw: raw.clone(),
            reader: None,
            coding: Coding::Plain,
            decoded: 0,
            carry: Vec::new(),
            offset: 0,
            end: None,
        };
        match decode::open(kind, raw) {
            Ok(opened) => (this.reader, this.coding) = (Some(opened.reader), opened.coding),
            Err(error) => this.end = Some(Some(this.explain(&error))),
        }
        this
    }

    /// The same from `position`, an offset behind decompression, on.
    pub fn resume(kind: &InputKind, limits: Limits, position: u64) -> Self {
        let mut this = BlockReader {
            kind: kind.clone(),
            limits,
            raw: Arc::default(),
            reader: None,
            coding: Coding::Gzip,
            decoded: position,
            carry: Vec::new(),
            offset: position,
            end: None,
        };
        if let Err(error) = this.unpark() {
            this.end = Some(Some(this.explain(&error)));
        }
        this
    }

    /// Closes the file until the next read, so that it costs no descriptor. Does nothing to standard input.
    pub fn park(&mut self) {
        if matches!(&self.kind, InputKind::Path(path) if path.is_file()) {
            self.reader = None;
        }
    }

    /// The time of the first event, as far as it can be seen near the beginning; what is read for it is kept.
    pub fn peek_first_time(&mut self) -> Option<i64> {
        let enough = PEEK_BYTES_MAX.min(self.limits.record_bytes);
        let mut want = PEEK_BYTES.min(enough);
        let mut head = std::mem::take(&mut self.carry);
        let time = loop {
            let more = self.fill(&mut head, want);
            match first_time(&head) {
                Some(time) => break Some(time),
                None if !more || want >= enough => break None,
                None => want = (want * 4).min(enough),
            }
        };
        self.carry = head;
        time
    }

    /// Reads the next block into `buf`, whose content is dropped and whose memory is used again.
    pub fn next_block(&mut self, mut buf: Vec<u8>) -> Block {
        buf.clear();
        buf.append(&mut self.carry);
        let record = self.limits.record_bytes;
        let mut target = self.limits.block_bytes.min(record + 1);
        let mut oversized = Vec::new();
        loop {
            let more = self.fill(&mut buf, target);
            let is_one_line = memchr(b'\n', &buf).is_none();
            let is_long_line = is_one_line && buf.len() > record;
            if !more && !is_long_line {
                return self.last_block(buf, oversized);
            }
            // What is one line so far is more likely long than a row of documents: those are looked for once it has grown.
            let is_small = buf.len() <= self.limits.block_bytes.min(record);
            let boundary = if is_small && is_one_line { None } else { document_boundary(&buf) };
            if let Some(cut) = boundary {
                return self.split(buf, cut, oversized);
            }
            if buf.len() <= record {
                target = (buf.len() * 2).max(target).min(record + 1);
                continue;
            }
            match memrchr(b'\n', &buf) {
                Some(newline) => return self.split(buf, newline + 1, oversized),
                None => {
                    oversized.push(self.skip_line(&mut buf));
                    target = self.limits.block_bytes.min(record + 1);
                }
            }
        }
    }

    fn split(&mut self, mut bytes: Vec<u8>, cut: usize, oversized: Vec<Oversized>) -> Block {
        self.carry.extend_from_slice(&bytes[cut..]);
        bytes.truncate(cut);
        let offset = self.offset;
        self.offset += cut as u64;
        let goes_on = !bytes.ends_with(b"\n");
        Block { offset, bytes, oversized, goes_on, last: false, broken: None }
    }

    fn last_block(&mut self, bytes: Vec<u8>, oversized: Vec<Oversized>) -> Block {
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        Block { offset, bytes, oversized, last: true, broken: self.end.clone().flatten(), ..Block::default() }
    }

    /// Passes over the rest of a line whose beginning fills `buf`; afterwards `buf` holds what was read behind it.
    fn skip_line(&mut self, buf: &mut Vec<u8>) -> Oversized {
        let mut line = Oversized { offset: self.offset, bytes: 0 };
        loop {
            if let Some(newline) = memchr(b'\n', buf) {
                line.bytes += newline as u64;
                buf.drain(..=newline);
                self.offset = line.offset + line.bytes + 1;
                return line;
            }
            line.bytes += buf.len() as u64;
            buf.clear();
            buf.shrink_to(self.limits.block_bytes + SLACK_BYTES);
            // Never more than a record at once, so that a long line behind this one is seen as well.
            if !self.fill(buf, self.limits.block_bytes.min(self.limits.record_bytes + 1)) && buf.is_empty() {
                self.offset = line.offset + line.bytes;
                return line;
            }
        }
    }

    /// Reads until `buf` holds `target` bytes (true) or nothing more comes (false). A buffer that already holds them
    /// is left alone.
    fn fill(&mut self, buf: &mut Vec<u8>, target: usize) -> bool {
        let want = target.saturating_sub(buf.len());
        if want == 0 {
            return true;
        }
        if self.end.is_some() {
            return false;
        }
        if let Err(error) = self.unpark() {
            self.end = Some(Some(self.explain(&error)));
            return false;
        }
        buf.reserve(want + SLACK_BYTES);
        let before = buf.len();
        let reader = self.reader.as_mut().expect("unpark has opened it");
        let result = reader.take(want as u64).read_to_end(buf);
        let got = buf.len() - before;
        self.decoded += got as u64;
        if self.coding == Coding::Plain {
            self.raw.fetch_add(got as u64, Ordering::Relaxed);
        }
        match result {
            Ok(_) if got == want => return true,
            Ok(_) => self.end = Some(None),
            Err(error) => self.end = Some(Some(self.explain(&error))),
        }
        self.reader = None;
        false
    }

    fn unpark(&mut self) -> io::Result<()> {
        if self.reader.is_none() {
            self.reader = Some(decode::reopen(&self.kind, self.decoded, &self.raw)?.reader);
        }
        Ok(())
    }

    fn explain(&self, error: &io::Error) -> Broken {
        let format = match self.coding {
            Coding::Plain => "",
            Coding::Gzip => "gzip",
            Coding::Zstd => "zstd",
        };
        let after = self.decoded;
        // A decoder reports damage with kinds of its own; an error number always comes from the operating system.
        if error.raw_os_error().is_some() || format.is_empty() {
            let why = if after == 0 {
                format!("cannot be read: {error}; nothing of it was analyzed")
            } else {
                format!("read error after {after} bytes: {error}; the rest was not analyzed")
            };
            return Broken { why, lost: true };
        }
        let what = match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("the {format} stream is cut off"),
            _ => format!("the {format} stream is damaged ({error})"),
        };
        let why = format!(
            "{what} after {after} decoded bytes; what came before was analyzed, get the whole file for the rest"
        );
        Broken { why, lost: false }
    }
}

/// Where the last whole document of a block ends that is followed by another: behind a newline that no document goes
/// across. JSON has no raw newline in strings, so the bytes around it tell, whether documents are lines or pretty-printed.
/// Where there is no newline at all, documents may stand one behind the other.
pub(super) fn document_boundary(bytes: &[u8]) -> Option<usize> {
    // The newline that ends the block is no candidate: what follows it is not known yet.
    let known = bytes.len().checked_sub(1)?;
    if memchr(b'\n', bytes).is_none() {
        return end_in_row(bytes);
    }
    let end = memrchr_iter(b'\n', &bytes[..known]).find_map(|newline| {
        if matches!(bytes[newline + 1], b' ' | b'\t' | b'\r' | b'\n' | b'}' | b']' | b',' | b':') {
            return None;
        }
        let before = bytes[..newline].iter().rev().find(|b| !b.is_ascii_whitespace());
        (!matches!(before, Some(b'{' | b'[' | b',' | b':'))).then_some(newline + 1)
    })?;
    closed_end(&bytes[..end])
}

/// The first event time that stands in `bytes`: of `stageTimestamp`, else of `requestReceivedTimestamp`.
pub fn first_time(bytes: &[u8]) -> Option<i64> {
    let first = |key: &[u8]| memmem::find_iter(bytes, key).find_map(|at| time_at(&bytes[at + key.len()..]));
    first(STAGE_KEY).or_else(|| first(RECEIVED_KEY))
}

/// The last event time that stands in `bytes`, likewise: how far an input has got.
pub fn last_time(bytes: &[u8]) -> Option<i64> {
    let last = |key: &[u8]| {
        let mut end = bytes.len();
        while let Some(at) = memmem::rfind(&bytes[..end], key) {
            if let Some(time) = time_at(&bytes[at + key.len()..]) {
                return Some(time);
            }
            end = at;
        }
        None
    };
    last(STAGE_KEY).or_else(|| last(RECEIVED_KEY))
}

const STAGE_KEY: &[u8] = b"\"stageTimestamp\"";
const RECEIVED_KEY: &[u8] = b"\"requestReceivedTimestamp\"";
/// Longest time written by anything we know: nanoseconds and an offset.
const TIME_BYTES_MAX: usize = 40;

/// The time behind a key: `: "…"`.
fn time_at(bytes: &[u8]) -> Option<i64> {
    let value = bytes.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    let value = &value[..value.len().min(TIME_BYTES_MAX)];
    parse_micros(&value[..memchr(b'"', value)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn stored(bytes: &[u8]) -> (tempfile::NamedTempFile, InputKind) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let kind = InputKind::Path(file.path().to_owned());
        (file, kind)
    }

    fn blocks(bytes: &[u8], block_bytes: usize, record_bytes: usize) -> Vec<Block> {
        let (_file, kind) = stored(bytes);
        let mut reader = BlockReader::open(&kind, Limits { block_bytes, record_bytes }, &Arc::default());
        let mut out = Vec::new();
        loop {
            // Parking at every step must not change anything.
            reader.park();
            out.push(reader.next_block(Vec::new()));
            if out.last().unwrap().last {
                return out;
            }
        }
    }

    #[test]
    fn no_block_ends_within_a_line_that_a_runtime_cut() {
        let cut =
            |n: usize| format!("2026-11-23T10:00:00.{n}Z stdout P {{\"a\":\n2026-11-23T10:00:00.{n}Z stdout F {n}}}\n");
        let text: String = (100..200).map(cut).collect();
        for block_bytes in [90, 150, 333] {
            let blocks = texts(&blocks(text.as_bytes(), block_bytes, 1000));
            assert!(blocks.len() > 5);
            assert!(blocks.iter().all(|block| !block.lines().last().unwrap_or("").contains(" P ")), "{block_bytes}");
            assert_eq!(blocks.concat(), text);
        }
    }

    fn texts(blocks: &[Block]) -> Vec<String> {
        blocks.iter().map(|b| String::from_utf8(b.bytes.clone()).unwrap()).collect()
    }

    #[test]
    fn cuts_lines_at_newlines() {
        let found = blocks(b"{\"a\":1}\n{\"b\":2}\r\n{\"c\":3}", 12, 100);
        assert_eq!(texts(&found), ["{\"a\":1}\n", "{\"b\":2}\r\n", "{\"c\":3}"]);
        assert_eq!(found.iter().map(|b| b.offset).collect::<Vec<_>>(), [0, 8, 17]);
        assert!(found[2].last && found[2].broken.is_none());
    }

    #[test]
    fn an_empty_input_is_one_empty_block() {
        let found = blocks(b"", 12, 100);
        assert_eq!((found.len(), found[0].last, found[0].bytes.len()), (1, true, 0));
    }

    #[test]
    fn keeps_a_pretty_printed_document_whole() {
        let list = "{\n  \"items\": [\n    {\"a\":1},\n    {\"b\":2}\n\n  ]\n}\n";
        let dense = "{\n\"items\":\n[\n{\"a\":1}\n,{\"b\":2}\n]\n}\n";
        for document in [list, dense] {
            let three = document.repeat(3);
            for block in 1..three.len() + 2 {
                let found = blocks(three.as_bytes(), block, 1000);
                for text in texts(&found) {
                    assert!(text.len().is_multiple_of(document.len()), "block {block}: {text:?}");
                }
                assert_eq!(texts(&found).concat(), three);
            }
        }
    }

    /// As exports lie in object stores: megabytes without a newline.
    #[test]
    fn cuts_between_documents_that_stand_on_one_line() {
        let documents: Vec<String> =
            (0..60).map(|n| format!("{{\"n\":{n},\"text\":\"}}{{\",\"list\":[{{}}]}}")).collect();
        let row = documents.concat() + "\n{\"last\":1}";
        for block in [50, 64, 300] {
            let found = blocks(row.as_bytes(), block, 400);
            assert_eq!(texts(&found).concat(), row);
            assert!(found.iter().all(|block| block.oversized.is_empty() && block.bytes.starts_with(b"{\"")));
            let lines: usize = found.iter().map(|b| String::from_utf8_lossy(&b.bytes).lines().count()).sum();
            let cut = found.iter().filter(|block| block.goes_on).count();
            assert!(cut > 3 && lines - cut == 2, "{lines} lines, {cut} cut");
        }
    }

    #[test]
    fn cuts_anywhere_when_a_document_is_over_the_limit() {
        let open = "[\n".to_owned() + &" 1,\n".repeat(100);
        let found = blocks(open.as_bytes(), 16, 64);
        assert_eq!(texts(&found).concat(), open);
        assert!(found.iter().all(|b| b.bytes.len() <= 65 && b.bytes.ends_with(b"\n") | b.last));
    }

    #[test]
    fn skips_lines_over_the_limit() {
        let long = |n: usize| "x".repeat(n);
        let text = format!("a\n{}\nb\n{}\n{}\nc\n{}", long(50), long(500), long(33), long(40));
        for block in [1, 7, 20, 32, 33, 34, 100, 1000] {
            let found = blocks(text.as_bytes(), block, 32);
            let skipped: Vec<_> = found.iter().flat_map(|b| &b.oversized).map(|o| (o.offset, o.bytes)).collect();
            assert_eq!(skipped, [(2, 50), (55, 500), (556, 33), (592, 40)], "block {block}");
            assert_eq!(texts(&found).concat(), "a\nb\nc\n", "block {block}");
            for b in &found {
                let at = b.offset as usize;
                assert_eq!(&text.as_bytes()[at..at + b.bytes.len()], &b.bytes[..], "block {block}");
            }
        }
        // A line of exactly the limit stays, with or without a newline.
        assert_eq!(texts(&blocks(long(32).as_bytes(), 8, 32)).concat(), long(32));
        assert_eq!(texts(&blocks((long(32) + "\n").as_bytes(), 8, 32)).concat(), long(32) + "\n");
    }

    #[test]
    fn a_cut_off_gzip_is_broken_after_what_it_gave() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        for i in 0..20_000u32 {
            writeln!(encoder, "{{\"n\":{}}}", i.wrapping_mul(2_654_435_761)).unwrap();
        }
        let whole = encoder.finish().unwrap();
        let found = blocks(&whole[..whole.len() / 2], 4096, 10_000);
        let last = found.last().unwrap();
        assert!(found.len() > 10);
        let broken = last.broken.as_ref().unwrap();
        assert!(broken.why.contains("gzip stream is cut off") && !broken.lost, "{broken:?}");
    }

    #[test]
    fn a_file_that_is_not_there_is_lost() {
        let kind = InputKind::Path("/nonexistent/audit.log".into());
        let mut reader = BlockReader::open(&kind, Limits::default(), &Arc::default());
        assert_eq!(reader.peek_first_time(), None);
        let block = reader.next_block(Vec::new());
        assert!(block.last && block.broken.unwrap().lost);
    }

    #[test]
    fn sees_the_first_and_the_last_time() {
        let event = |t: &str| format!("{{\"requestReceivedTimestamp\":\"x\",\"stageTimestamp\":\"{t}\"}}\n");
        let text =
            format!("klog line\n{}{}", event("1970-01-01T00:00:05.000000Z"), event("1970-01-01T00:00:09.000000Z"));
        let (_file, kind) = stored(text.as_bytes());
        let mut reader = BlockReader::open(&kind, Limits::default(), &Arc::default());
        assert_eq!(reader.peek_first_time(), Some(5_000_000));
        let block = reader.next_block(Vec::new());
        assert_eq!(block.bytes, text.as_bytes());
        assert_eq!(last_time(&block.bytes), Some(9_000_000));
        assert_eq!(first_time(b"{\"requestReceivedTimestamp\" : \"1970-01-01T00:00:01Z\""), Some(1_000_000));
        assert_eq!(last_time(b"{\"stageTimestamp\":\"soon\"}"), None);
        // Far behind garbage, but within reach.
        let (_file, kind) = stored(&[vec![b'x'; 300_000], text.into_bytes()].concat());
        assert_eq!(BlockReader::open(&kind, Limits::default(), &Arc::default()).peek_first_time(), Some(5_000_000));
    }
}
