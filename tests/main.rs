//! Integration tests: one binary, so that it is linked once.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

mod admin;
mod crash;
mod differential;
mod distributed;
mod envelopes;
mod hostile;
mod kafka;
mod language;
mod live;
mod redaction;
mod replay;
mod rules;
mod samples;
mod sightings;
mod sinks;
mod support;
mod tidy;
mod webhook;
mod windows;
