//! Integration tests: one binary, so that it is linked once.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

mod admin;
mod config;
mod crash;
mod differential;
mod envelopes;
mod hostile;
mod language;
mod live;
mod redaction;
mod replay;
mod rules;
mod samples;
mod scenarios;
mod sightings;
mod sinks;
mod support;
mod tidy;
mod webhook;
mod windows;
