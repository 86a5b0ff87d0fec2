//! One audit event as rules see it.

pub mod time;

use std::borrow::Cow;

/// The case folding of Sigma's case-insensitive comparison: Unicode lower case, character by character.
pub fn fold(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.chars().flat_map(char::to_lowercase).collect())
    }
}
