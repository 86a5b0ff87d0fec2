//! auditwatch.
#![cfg_attr(test, allow(clippy::unwrap_used))]
pub mod engine;
pub mod event;
pub mod normalize;
pub mod rules;
pub mod source;
pub mod worker;
