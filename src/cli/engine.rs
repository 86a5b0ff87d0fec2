//! The one place where the command line meets the engine: rules are loaded, workers and windows are made.
//!
//! STAND-INS until `rules::load`, `worker::Worker` and `engine::window::Correlator` are there; see each `TODO(wire)`.

use std::sync::Arc;

use super::rule_files::RuleFile;
use crate::config::Site;
use crate::engine::matches::{ClusterId, Firing, Match, SourceId};
use crate::pipeline::{Analyzer, Windows};
use crate::rules::RuleSet;
use crate::source::Batch;
use crate::worker::{BatchResult, Problem, ProblemKind};

/// Rules with what is to be said about them.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What could be loaded.
    pub rules: RuleSet,
    /// Why not all could; each with file, line and column. The run does not start.
    pub errors: Vec<String>,
    /// What is odd but runs.
    pub warnings: Vec<String>,
}

/// What the engine needs to know besides the rules.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Cluster names by `ClusterId`.
    pub clusters: Vec<String>,
    /// Lists for `|expand`, and trusted proxies.
    pub site: Site,
    /// How far behind the newest event a match may arrive, microseconds.
    pub lateness_us: i64,
    /// Events later than this (microseconds) are given this time; `None`: no limit.
    pub time_max: Option<i64>,
}

/// Loads rule files. TODO(wire): `rules::load(&sources, &placeholders)`, its diagnostics rendered into two lists.
pub fn load(_files: &[RuleFile], _site: &Site) -> Loaded {
    Loaded::default()
}

/// The compiled rules, from which workers and windows are made.
pub struct Engine {
    _rules: Arc<RuleSet>,
    _settings: Settings,
}

impl Engine {
    /// Compiles the rules. TODO(wire): `CaptureTable::new`, `Program::compile`.
    pub fn new(rules: Arc<RuleSet>, settings: Settings) -> Self {
        Engine { _rules: rules, _settings: settings }
    }

    /// A worker for one thread. TODO(wire): `Worker::new(self.program.clone())`, with `impl Analyzer for Worker`.
    pub fn worker(&self) -> impl Analyzer + use<> {
        Counter
    }

    /// The windows. TODO(wire): `Correlator::new(rules, captures, settings)`, with `impl Windows for Correlator`.
    pub fn windows(&self) -> Box<dyn Windows> {
        Box::new(NoWindows)
    }
}

/// Stand-in: counts lines and whether they are JSON; finds nothing.
struct Counter;

impl Analyzer for Counter {
    fn process(&mut self, batch: &Batch) -> BatchResult {
        let mut result =
            BatchResult { seq: batch.seq, source: batch.source, cluster: batch.cluster, ..Default::default() };
        let counts = &mut result.counts;
        counts.bytes = batch.bytes.len() as u64;
        let mut start = 0;
        for line in batch.bytes.split_inclusive(|b| *b == b'\n') {
            let text = line.trim_ascii();
            match serde_json::from_slice::<serde_json::Value>(text) {
                _ if text.is_empty() => {}
                Ok(value) if value.get("auditID").is_some() => counts.events += 1,
                Ok(_) => counts.not_audit += 1,
                Err(error) => {
                    counts.unreadable += 1;
                    result.problems.push(Problem {
                        line: counts.lines,
                        offset: batch.offset + start as u64,
                        range: start..start + line.trim_ascii_end().len(),
                        kind: ProblemKind::Unreadable,
                        why: error.to_string(),
                    });
                }
            }
            counts.lines += 1;
            start += line.len();
        }
        result
    }
}

/// Stand-in: tells nothing.
struct NoWindows;

impl Windows for NoWindows {
    fn add_source(&mut self, _source: SourceId, _cluster: ClusterId, _first_time: Option<i64>) {}

    fn absorb(
        &mut self,
        _source: SourceId,
        _cluster: ClusterId,
        _newest: Option<i64>,
        _matches: Vec<Match>,
        _out: &mut Vec<Firing>,
    ) {
    }

    fn finish_source(&mut self, _source: SourceId, _out: &mut Vec<Firing>) {}

    fn finish(&mut self, _out: &mut Vec<Firing>) {}

    fn late(&self) -> u64 {
        0
    }

    fn stats(&self) -> serde_json::Value {
        serde_json::json!({})
    }
}
