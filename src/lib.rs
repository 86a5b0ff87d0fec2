//! auditwatch.
#![cfg_attr(test, allow(clippy::unwrap_used))]
pub mod alert;
pub mod cli;
pub mod config;
pub mod engine;
pub mod event;
pub mod normalize;
pub mod pipeline;
pub mod rules;
pub mod ruletest;
pub mod sink;
pub mod source;
pub mod worker;
