//! One audit event as rules see it.

mod actor;
pub mod catalogue;
pub(crate) mod credential;
pub mod derived;
pub mod escapes;
mod exec;
mod header;
pub mod identity;
pub mod json;
pub mod keys;
mod lanes;
pub mod path;
mod places;
mod pod;
pub mod redact;
pub mod site;
pub mod structure;
pub mod time;
pub mod uri;
pub mod view;
pub mod walk;

use std::borrow::Cow;

/// The case folding of Sigma's case-insensitive comparison: Unicode lower case, character by character.
pub fn fold(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            text.chars().flat_map(char::to_lowercase).collect()
        })
    }
}

/// Index of a cluster in the run's table of cluster names.
pub type ClusterId = u32;

/// Index of an input (a file, a partition …) in the run's table of inputs.
pub type SourceId = u32;

/// The stage of an event, in the order in which the API server passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The request has been received.
    RequestReceived,
    /// The response's headers are sent (long-running requests and failed authentications only).
    ResponseStarted,
    /// The response is complete.
    ResponseComplete,
    /// The handler panicked.
    Panic,
    /// Anything else.
    Other,
}
