//! Integration tests: one binary, so that it is linked once.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types, clippy::print_stderr)]

mod admin;
mod config;
mod crash;
mod differential;
mod disk;
mod distributed;
mod envelopes;
mod fuzz;
mod generate;
mod hostile;
mod kafka;
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
mod ways;
mod webhook;
mod windows;
