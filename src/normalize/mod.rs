//! Bytes to audit events: documents are found, envelopes taken off, and everything that is no event is located.
//!
//! A document is a line, as a rule. A line may hold several, and one may go over several lines. Whatever a line holds, it
//! ends up as events, or as a problem with its place: nothing hides an event behind it.

mod documents;
mod envelope;
mod gke;
mod kinds;
mod legacy;
mod multiline;
mod object;
mod other;
mod parts;
mod prefix;
mod torn;
mod truncated;

use bumpalo::Bump;

pub use documents::scan;
pub use torn::is_list;

use crate::event::site::Site;
use crate::event::view::Event;

/// Where a document stands in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line within the block, from 0.
    pub line: u64,
    /// Its bytes within the block.
    pub range: std::ops::Range<usize>,
}

/// How a document that is not an event is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// It could not be read.
    Unreadable,
    /// It was over the size limit.
    TooLarge,
    /// It stands on a line with another document, or over several lines: told, not counted.
    Layout,
    /// A body that a rule asked for was not well-formed: counted as `malformed_body`.
    MalformedBody,
    /// It had a member twice: counted as `duplicate_keys`.
    DuplicateKey,
}

/// What takes the findings of a scan.
pub trait Sink {
    /// An audit event.
    fn event(&mut self, event: &Event<'_>, place: Place);
    /// A document that is none, or a remark on how documents stand.
    fn problem(&mut self, kind: ProblemKind, place: Place, why: String);
    /// A readable document that is no audit event.
    fn not_audit(&mut self, place: Place);
}

/// What a scan needs besides the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Context<'c> {
    /// The site's facts.
    pub site: &'c Site,
    /// The cluster the block's events belong to.
    pub cluster: &'c str,
}

/// Memory that a scan reuses from document to document.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The structural index of the current document.
    pub structure: crate::event::structure::Structure,
    /// Texts that had to be unescaped or put together.
    pub arena: Bump,
}
