//! A log that is being written: one stream of whole lines out of a file that grows, is renamed, compressed, truncated,
//! deleted and made again. It looks at files when it is asked to; nothing is needed from the file system but `stat` and
//! `read`, so that it works on network mounts too.
//!
//! A log is a list of files, oldest first ([`siblings`]); each is known by what it is and not by its name ([`identity`]).
//! The stream reads a file to its end and goes on with the one behind it.

mod identity;
mod position;
mod reading;
mod siblings;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::replay::{Block, Limits, first_time};
use identity::{Length, Look, Node, Print, is_seam};
use position::{Done, Position, Unread};
use reading::{Reading, Step, Until};
use siblings::Candidate;

/// How many files that were read to their end are remembered. Whatever stands before the oldest of them was read as well.
const DONE_MAX: usize = if cfg!(test) { 24 } else { 512 };
/// How many are remembered whether they are still there or not.
const DONE_MIN: usize = if cfg!(test) { 8 } else { 64 };
/// How many files are gone through in search of a block.
const TURNS_MAX: usize = 128;
/// How often is decided what to do with files that are renamed meanwhile.
const DECISIONS_MAX: usize = 8;
/// How long the rest of a line that a container runtime cut is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a log without a recorded position begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartAt {
    /// With the oldest file there is.
    Beginning,
    /// With what is written from now on.
    End,
}

/// What stands at the end of a file that was left, and is given out before what the next file begins with.
struct Carried {
    bytes: Vec<u8>,
    /// Before it.
    position: Position,
    since: Instant,
}

/// A log that is being followed.
pub struct Tail {
    base: PathBuf,
    start: StartAt,
    limits: Limits,
    reading: Option<Reading>,
    /// The file to go on with, while it is not open.
    resume: Option<Position>,
    done: Vec<Done>,
    carried: Option<Carried>,
    /// How long a cut line waits for its rest.
    patience: Duration,
    /// What happened that people should know, oldest first; taken by [`Tail::take_notes`].
    notes: Vec<String>,
    /// What the last attempt failed with, so that it is told once.
    failing: Option<String>,
}

impl Tail {
    /// Follows the log at `base`. `position` is what [`Tail::position`] gave before a restart; empty if there is none.
    pub fn new(base: &Path, start: StartAt, position: &str, limits: Limits) -> Tail {
        let mut tail = Tail {
            base: base.to_owned(),
            start,
            limits,
            reading: None,
            resume: None,
            done: Vec::new(),
            carried: None,
            patience: PATIENCE,
            notes: Vec::new(),
            failing: None,
        };
        match serde_json::from_str::<Position>(position) {
            Ok(known) => {
                tail.done = known.done.clone();
                tail.resume = Some(known);
                tail.start = StartAt::Beginning;
            }
            Err(_) if position.is_empty() => {}
            Err(error) => {
                tail.note(format!("the recorded position cannot be read ({error}); reading from the beginning"))
            }
        }
        tail
    }

    /// The log that a rotated file belongs to, if `path` is named like one.
    pub fn base_of(path: &Path) -> Option<PathBuf> {
        siblings::base_of(path)
    }

    /// Where to go on after a restart. It stands behind all blocks that were given out.
    pub fn position(&self) -> String {
        let Some(at) = self.carried.as_ref().map(|carried| carried.position.clone()).or_else(|| self.reached()) else {
            return String::new();
        };
        // Numbers and strings can always be written.
        serde_json::to_string(&at).unwrap_or_default()
    }

    fn reached(&self) -> Option<Position> {
        let done = self.done.clone();
        let Some(reading) = &self.reading else { return Some(Position { done, ..self.resume.clone()? }) };
        Some(Position {
            node: reading.node,
            print: reading.print.clone(),
            offset: reading.offset(),
            seam: reading.seam.clone(),
            path: reading.path.clone(),
            done,
        })
    }

    /// Whether the last attempt to read found no file, or failed.
    pub fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// What happened since the last call that people should know.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// The next block of whole lines, or none if there is nothing more now. With `to_the_end` a last line without its
    /// newline counts as whole. `buffer`'s memory is used again.
    pub fn next_block(&mut self, mut buffer: Vec<u8>, to_the_end: bool) -> Option<Block> {
        // Each turn gives a block, ends, or goes on to a later file.
        for _ in 0..TURNS_MAX {
            if self.reading.is_none() && !self.open_next() {
                return self.carried_alone(to_the_end);
            }
            let reading = self.reading.as_mut()?;
            let current = reading.is_current(&self.base);
            let until = match !current && self.is_settled() {
                true => Until::Moved,
                false if to_the_end => Until::End,
                false => Until::Growing,
            };
            if until == Until::Moved && self.is_replaced() {
                continue;
            }
            let step = self.reading.as_mut()?.step(buffer, until, self.limits);
            match step {
                Ok(Step::Block(block)) => {
                    self.failing = None;
                    return Some(self.with_carried(block));
                }
                Ok(Step::Nothing(_)) if current || until == Until::Growing => return self.carried_alone(to_the_end),
                Ok(Step::Nothing(kept)) => {
                    if !self.leave() {
                        let rest = self.reading.as_mut().filter(|_| to_the_end).and_then(Reading::give_rest);
                        return rest.map(|block| self.with_carried(block)).or_else(|| self.carried_alone(to_the_end));
                    }
                    buffer = kept;
                }
                Ok(Step::Truncated(kept)) => {
                    self.truncated();
                    buffer = kept;
                }
                Err(error) => {
                    self.fail(format!("cannot be read: {error}"));
                    self.resume = self.reached();
                    self.reading = None;
                    return None;
                }
            }
        }
        None
    }

    /// A block behind what is left of the file before.
    fn with_carried(&mut self, block: Block) -> Block {
        let Some(mut carried) = self.carried.take() else { return block };
        carried.bytes.extend_from_slice(&block.bytes);
        Block { bytes: carried.bytes, ..block }
    }

    /// What is left of the file before, if it has waited for long enough.
    fn carried_alone(&mut self, to_the_end: bool) -> Option<Block> {
        let patience = self.patience;
        let carried = self.carried.take_if(|carried| to_the_end || carried.since.elapsed() >= patience)?;
        Some(Block { offset: carried.position.offset, bytes: carried.bytes, ..Block::default() })
    }

    /// The time of the first event that would be read now, as far as it can be seen.
    pub fn peek_first_time(&mut self) -> Option<i64> {
        if self.reading.is_none() && !self.open_next() {
            return None;
        }
        first_time(&self.reading.as_ref()?.peek().ok()?)
    }

    /// Whether nobody writes any more to the file that is read, which is not the log now. Until then it may still be added
    /// to, however long ago it was moved away. Its successor tells: it is being written, or was moved away as well.
    fn is_settled(&self) -> bool {
        if self.reading.as_ref().is_none_or(|reading| !reading.is_growing) {
            return true;
        }
        if fs::metadata(&self.base).is_ok_and(|successor| successor.len() > 0) {
            return true;
        }
        let Some(left) = self.reached() else { return false };
        // If it has no name any more, it may have a compressed copy.
        let is_later = |file: &Candidate| !is_known(file, &left) && self.left_of(file) != Unread::Nothing;
        let decided = self.decide(|files| match files.iter().position(|file| file.node == left.node) {
            Some(at) => files[at + 1..].iter().any(|file| !file.is_base),
            None => files.iter().any(|file| !file.is_base && is_later(file)),
        });
        decided.is_some_and(|(_, settled)| settled)
    }

    /// Whether the log is another file now that holds what was read and goes on from there: a copy has taken its place, or
    /// the file system numbers its files anew. Then it is opened where it was left.
    fn is_replaced(&mut self) -> bool {
        let Some(reading) = self.reading.as_ref().filter(|reading| reading.is_growing) else { return false };
        let base = siblings::list(&self.base).pop().filter(|file| file.is_base && file.node != reading.node);
        let Some((base, left)) = base.zip(self.reached()) else { return false };
        // What was not read at all is told from others by little.
        if left.offset == 0 || !is_known(&base, &left) {
            return false;
        }
        self.reading = None;
        self.resume = Some(Position { node: base.node, ..left });
        true
    }

    /// The file is read to its end and is not the log any more: goes on with the next. False if there is none yet.
    fn leave(&mut self) -> bool {
        let (Some(left), Some(reading)) = (self.reached(), &mut self.reading) else { return true };
        let rest = std::mem::take(&mut reading.rest);
        let node = left.node;
        let before = self.done.clone();
        self.remember_done(left.print.clone(), Some(node), left.offset + rest.len() as u64);
        let next = self.decide(|files| self.first_unread(files, Some(node)));
        let Some((files, Some(_))) = next else {
            self.done = before;
            if let Some(reading) = &mut self.reading {
                reading.rest = rest;
            }
            return false;
        };
        self.forget_gone(&files);
        if !rest.is_empty() {
            let position = self.carried.take().map_or(left, |carried| carried.position);
            self.carried = Some(Carried { bytes: rest, position, since: Instant::now() });
        }
        self.reading = None;
        self.resume = None;
        true
    }

    /// What is decided on the files of the log, which may be renamed meanwhile: then it is decided again. `None` if they do
    /// not stand still.
    fn decide<T>(&self, how: impl Fn(&[Candidate]) -> T) -> Option<(Vec<Candidate>, T)> {
        let mut files = siblings::list(&self.base);
        for _ in 0..DECISIONS_MAX {
            let decided = how(&files);
            let again = siblings::list(&self.base);
            if again == files {
                return Some((files, decided));
            }
            files = again;
        }
        None
    }

    /// The oldest file that was not read, or not to its end, and where to go on in it. Not `but`, which is being left.
    fn first_unread(&self, files: &[Candidate], but: Option<Node>) -> Option<(Candidate, u64)> {
        let mut unread = None;
        for file in files.iter().filter(|file| Some(file.node) != but) {
            match self.left_of(file) {
                Unread::From(offset) if unread.is_none() => unread = Some((file.clone(), offset)),
                // Those that stand before the oldest one that is remembered are forgotten, not unread.
                Unread::Nothing if self.done.len() >= DONE_MAX && unread.is_some() => unread = None,
                _ => {}
            }
            if unread.is_some() && self.done.len() < DONE_MAX {
                break;
            }
        }
        unread
    }

    fn left_of(&self, file: &Candidate) -> Unread {
        let whole = if file.is_base { Unread::From(0) } else { Unread::Nothing };
        let Ok(look) = Look::at(&file.path) else { return whole };
        if look.head.is_empty() {
            return whole;
        }
        self.done.iter().rev().find_map(|done| done.left_of(file, &look)).unwrap_or(Unread::From(0))
    }

    fn remember_done(&mut self, print: Print, node: Option<Node>, length: u64) {
        if print.bytes == 0 {
            return;
        }
        let done = Done { print, node, length: Some(length) };
        self.done.retain(|known| known.print != done.print || known.node != done.node);
        self.done.push(done);
        if self.done.len() > DONE_MAX {
            self.done.remove(0);
        }
    }

    /// Forgets files that are not there any more, when there are many.
    fn forget_gone(&mut self, files: &[Candidate]) {
        if self.done.len() <= DONE_MIN {
            return;
        }
        let looks: Vec<Look> = files.iter().filter_map(|file| Look::at(&file.path).ok()).collect();
        // What was renamed meanwhile was not looked at.
        if files.iter().all(Candidate::is_there) {
            self.done.retain(|done| looks.iter().any(|look| look.fits(&done.print)));
        }
    }

    /// The file that was read was cut to nothing and begins anew. What of it was not read yet may stand in a copy.
    fn truncated(&mut self) {
        let Some(left) = self.reached() else { return };
        self.reading = None;
        self.resume = Some(Position { node: NOWHERE, done: Vec::new(), ..left });
    }

    /// Opens the file to go on with. False if there is none.
    fn open_next(&mut self) -> bool {
        if let Some(known) = self.resume.clone() {
            let Some((files, found)) = self.decide(|files| self.find_known(files, &known)) else { return false };
            if let Some(file) = found {
                return self.open(&file, known.offset);
            }
            let gone = known.node.inode != 0 || known.offset > 0;
            if files.is_empty() {
                self.fail("the file that was being read is not there; waiting for it".to_owned());
                return false;
            }
            if gone {
                self.note(format!(
                    "the file that had been read up to offset {} is gone (deleted, or truncated without a copy); what it \
                     held behind that is lost unless a rotated file has it; going on with the next file",
                    known.offset
                ));
            }
            self.remember_done(known.print, None, known.offset);
            self.resume = None;
        }
        let Some((files, mut unread)) = self.decide(|files| self.first_unread(files, None)) else { return false };
        if files.is_empty() {
            self.fail("is not there yet; waiting for it".to_owned());
        }
        if self.start == StartAt::End {
            return self.open_at_end(&files);
        }
        let mut rest = &files[..];
        while let Some((file, offset)) = unread {
            if self.open(&file, offset) {
                return true;
            }
            if !file.is_there() {
                // It has just been renamed or compressed, and is found by its new name at the next look.
                return false;
            }
            let at = rest.iter().position(|other| other.node == file.node).map_or(rest.len(), |at| at + 1);
            rest = &rest[at..];
            unread = self.first_unread(rest, None);
        }
        false
    }

    /// The file that was being read: by its number, or a copy of it; also where a link led that now leads elsewhere.
    fn find_known(&self, files: &[Candidate], known: &Position) -> Option<Candidate> {
        let find = |files: &[Candidate]| {
            let same = files.iter().find(|file| file.node == known.node && is_known(file, known));
            let copy = |file: &&Candidate| is_known(file, known) && self.left_of(file) != Unread::Nothing;
            same.or_else(|| files.iter().find(copy)).cloned()
        };
        find(files).or_else(|| {
            let elsewhere = (!known.path.as_os_str().is_empty()).then(|| siblings::list(&known.path))?;
            find(&elsewhere)
        })
    }

    /// Passes over everything that is there.
    fn open_at_end(&mut self, files: &[Candidate]) -> bool {
        for file in files.iter().filter(|file| !file.is_base) {
            if let Ok(look) = Look::at(&file.path) {
                let length = if let Length::Plain(bytes) = look.length { Some(bytes) } else { None };
                self.done.push(Done { print: look.print, node: Some(file.node), length });
            }
        }
        self.done.drain(..self.done.len().saturating_sub(DONE_MAX));
        self.start = StartAt::Beginning;
        let Some(base) = files.last().filter(|file| file.is_base) else { return false };
        let end = reading::end_of_lines(&base.path).unwrap_or(0);
        self.open(base, end)
    }

    fn open(&mut self, file: &Candidate, offset: u64) -> bool {
        match Reading::open(file, offset, self.limits, self.patience) {
            Ok(reading) => {
                self.reading = Some(reading);
                self.resume = None;
                self.failing = None;
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                self.fail(format!("{} cannot be opened: {error}", file.path.display()));
                false
            }
        }
    }

    /// Notes a failure, once as long as it lasts.
    fn fail(&mut self, what: String) {
        if self.failing.as_ref() != Some(&what) {
            self.failing = Some(what.clone());
            self.note(what);
        }
    }

    fn note(&mut self, what: String) {
        self.notes.push(format!("{}: {what}", self.base.display()));
    }
}

/// No file.
const NOWHERE: Node = Node { device: 0, inode: 0 };

/// Whether a file is the one that was read: the same one, or a copy of it, compressed or not.
fn is_known(file: &Candidate, known: &Position) -> bool {
    if known.print.bytes == 0 {
        return file.node == known.node;
    }
    let Ok(look) = Look::at(&file.path) else { return false };
    let long_enough = match look.length {
        Length::Plain(bytes) => bytes >= known.offset,
        Length::Modulo(_) | Length::Unknown => return look.fits(&known.print),
    };
    let is_seam = || File::open(&file.path).and_then(|open| is_seam(&open, known.offset, &known.seam));
    long_enough && look.fits(&known.print) && is_seam().unwrap_or(false)
}

#[cfg(test)]
mod tests;
