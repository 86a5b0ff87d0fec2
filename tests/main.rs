//! Integration tests: one binary, so that it is linked once.
#![allow(clippy::unwrap_used)]

mod differential;
mod replay;
mod rules;
mod samples;
mod support;
mod windows;
