//! How far a log was read: in the file that is being read, and which files were read before it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::identity::{Length, Look, Node, Print};
use super::siblings::Candidate;

/// How far a log was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) node: Node,
    pub(super) print: Print,
    /// Behind decompression.
    pub(super) offset: u64,
    /// What stands before the offset.
    #[serde(default)]
    pub(super) seam: Print,
    /// Where the file was, behind all links.
    #[serde(default)]
    pub(super) path: PathBuf,
    /// Files that were read to their end, the oldest first.
    pub(super) done: Vec<Done>,
}

/// A file that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    #[serde(flatten)]
    pub(super) print: Print,
    #[serde(default)]
    pub(super) node: Option<Node>,
    /// How much of it there was, behind decompression.
    #[serde(default)]
    pub(super) length: Option<u64>,
}

/// What is still to be read of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// From this offset on.
    From(u64),
    /// Nothing.
    Nothing,
}

impl Done {
    /// What is left of a file, if it is this one or a copy of it. A file may begin like another one: clients choose much
    /// of what stands in an event.
    pub(super) fn left_of(&self, file: &Candidate, look: &Look) -> Option<Unread> {
        if !look.fits(&self.print) {
            return None;
        }
        let Some(length) = self.length else { return Some(Unread::Nothing) };
        match (look.length, self.node == Some(file.node)) {
            (Length::Plain(now), true) if now > length => Some(Unread::From(length)),
            (Length::Plain(now), true) if now < length => None,
            (_, true) => Some(Unread::Nothing),
            (copy, false) => copy.fits(length).then_some(Unread::Nothing),
        }
    }
}
