//! Integration tests.
#![allow(clippy::unwrap_used)]

mod rules;
mod windows;
