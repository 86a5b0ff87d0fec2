//! Integration tests.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod tidy;
mod windows;
