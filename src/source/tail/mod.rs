//! A log that is being written: one stream of whole lines out of a file that grows, is renamed, compressed, truncated,
//! deleted and made again. It looks at files when it is asked to; nothing is needed from the file system but `stat` and
//! `read`, so that it works on network mounts too.
//!
//! A log is a list of files, oldest first ([`siblings`]); each is known by what it is and not by its name ([`identity`]).
//! The stream reads a file to its end and goes on with the one behind it.

mod identity;
mod reading;
mod siblings;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::replay::{Block, Limits, first_time};
use identity::{Node, Print, decoded_head};
use reading::{Reading, Step};
use siblings::Candidate;

/// How many files that were read to their end are remembered; more than any rotation keeps.
const DONE_MAX: usize = 64;

/// Where a log without a recorded position begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartAt {
    /// With the oldest file there is.
    Beginning,
    /// With what is written from now on.
    End,
}

/// How far a log was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    node: Node,
    print: Print,
    /// Behind decompression.
    offset: u64,
    /// Files that were read to their end, the oldest first.
    done: Vec<Print>,
}

/// A log that is being followed.
pub struct Tail {
    base: PathBuf,
    start: StartAt,
    limits: Limits,
    reading: Option<Reading>,
    /// The file to go on with, while it is not open.
    resume: Option<Position>,
    done: Vec<Print>,
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
        let at = match (&self.reading, &self.resume) {
            (Some(reading), _) => Position {
                node: reading.node,
                print: reading.print.clone(),
                offset: reading.offset(),
                done: self.done.clone(),
            },
            (None, Some(resume)) => Position { done: self.done.clone(), ..resume.clone() },
            (None, None) => return String::new(),
        };
        // Numbers and strings can always be written.
        serde_json::to_string(&at).unwrap_or_default()
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
        for _ in 0..2 * DONE_MAX {
            if self.reading.is_none() && !self.open_next() {
                return None;
            }
            let reading = self.reading.as_mut()?;
            let current = reading.is_current(&self.base);
            let complete = to_the_end || !current && reading.is_settled(&self.base);
            let step = reading.step(buffer, complete, self.limits);
            match step {
                Ok(Step::Block(block)) => {
                    self.failing = None;
                    return Some(block);
                }
                Ok(Step::Nothing(_)) if current || !complete => return None,
                Ok(Step::Nothing(kept)) => {
                    if !self.leave() {
                        return None;
                    }
                    buffer = kept;
                }
                Ok(Step::Truncated(kept)) => {
                    self.truncated();
                    buffer = kept;
                }
                Err(error) => {
                    self.fail(format!("cannot be read: {error}"));
                    let at = self.position();
                    self.reading = None;
                    self.resume = serde_json::from_str(&at).ok();
                    return None;
                }
            }
        }
        None
    }

    /// The time of the first event that would be read now, as far as it can be seen.
    pub fn peek_first_time(&mut self) -> Option<i64> {
        if self.reading.is_none() && !self.open_next() {
            return None;
        }
        first_time(&self.reading.as_ref()?.peek().ok()?)
    }

    /// The file is read to its end and is not the log any more: goes on with the next. False if there is none yet.
    fn leave(&mut self) -> bool {
        let Some(reading) = &self.reading else { return true };
        let left =
            Position { node: reading.node, print: reading.print.clone(), offset: reading.offset(), done: Vec::new() };
        if !siblings::list(&self.base).iter().any(|next| self.is_behind(next, &left)) {
            return false;
        }
        self.remember_done(left.print.clone());
        self.reading = None;
        self.resume = None;
        true
    }

    /// Whether `next` is a file that was neither read nor is the one that is `left`.
    fn is_behind(&self, next: &Candidate, left: &Position) -> bool {
        let Ok(head) = decoded_head(&next.path) else { return next.is_base && next.node != left.node };
        let read = |print: &Print| print.fits(&head);
        next.node != left.node
            && !read(&left.print)
            && !self.done.iter().any(read)
            && (next.is_base || !head.is_empty())
    }

    fn remember_done(&mut self, print: Print) {
        if print.bytes > 0 && !self.done.contains(&print) {
            self.done.push(print);
        }
        if self.done.len() > DONE_MAX {
            self.done.remove(0);
        }
    }

    /// The file that was read was cut to nothing and begins anew. What of it was not read yet may stand in a copy.
    fn truncated(&mut self) {
        let Some(reading) = self.reading.take() else { return };
        let nowhere = Node { device: 0, inode: 0 };
        let done = Vec::new();
        self.resume = Some(Position { node: nowhere, print: reading.print.clone(), offset: reading.offset(), done });
    }

    /// Opens the file to go on with. False if there is none.
    fn open_next(&mut self) -> bool {
        let files = siblings::list(&self.base);
        if let Some(known) = self.resume.clone() {
            if let Some(file) = files.iter().find(|file| is_known(file, &known)) {
                return self.open(file, known.offset);
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
            self.remember_done(known.print);
            self.resume = None;
        }
        if files.is_empty() {
            self.fail("is not there yet; waiting for it".to_owned());
        }
        if self.start == StartAt::End {
            return self.open_at_end(&files);
        }
        for file in &files {
            let head = decoded_head(&file.path).unwrap_or_default();
            let read = self.done.iter().any(|print| print.fits(&head));
            if !read && (file.is_base || !head.is_empty()) && self.open(file, 0) {
                return true;
            }
        }
        false
    }

    /// Passes over everything that is there.
    fn open_at_end(&mut self, files: &[Candidate]) -> bool {
        for file in files.iter().filter(|file| !file.is_base) {
            if let Ok(head) = decoded_head(&file.path) {
                self.remember_done(Print::of(&head));
            }
        }
        self.start = StartAt::Beginning;
        let Some(base) = files.last().filter(|file| file.is_base) else { return false };
        let end = reading::end_of_lines(&base.path).unwrap_or(0);
        self.open(base, end)
    }

    fn open(&mut self, file: &Candidate, offset: u64) -> bool {
        match Reading::open(file, offset, self.limits) {
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

/// Whether a file is the one that was read: the same one, or a copy of it, compressed or not.
fn is_known(file: &Candidate, known: &Position) -> bool {
    if known.print.bytes == 0 {
        return file.node == known.node;
    }
    decoded_head(&file.path).is_ok_and(|head| known.print.fits(&head))
}

#[cfg(test)]
mod tests;
