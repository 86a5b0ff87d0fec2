//! The real core in one thread: a worker and windows over bytes that are already in memory.

use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::engine::matches::Firing;
use crate::engine::program::{CompileError, Program};
use crate::engine::window::{self, Correlator};
use crate::event::site::Site;
use crate::rules::RuleSet;
use crate::source::Batch;
use crate::worker::{BatchResult, Worker, WorkerSettings};

/// Compiled rules, ready to be run over logs.
pub struct Bench {
    program: Arc<Program>,
    worker: WorkerSettings,
    windows: window::Settings,
}

/// What a log gave.
#[derive(Debug)]
pub struct Run {
    /// What fired, in the order of a replay.
    pub firings: Vec<Firing>,
    /// The rules that held for some event, ascending.
    pub matched: Vec<u32>,
    /// Everything the worker counted. Its matches are gone: the windows took them.
    pub result: BatchResult,
}

impl Bench {
    /// Compiles the rules. There is one cluster, and its name is empty.
    ///
    /// # Errors
    /// A regular expression that cannot be compiled within its limits.
    pub fn new(rules: Arc<RuleSet>, site: Site) -> Result<Bench, CompileError> {
        let windows = window::Settings { ordered_output: true, ..window::Settings::default() };
        let worker = WorkerSettings {
            site: Arc::new(site),
            clusters: vec![String::new()].into(),
            dedupe_horizon_us: windows.dedupe_horizon_us,
            dedupe_horizon_long_us: windows.dedupe_horizon_long_us,
            skew: None,
            plain: false,
            keyed: Some(RandomState::default()),
            repeats: false,
        };
        Ok(Bench { program: Arc::new(Program::compile(rules)?), worker, windows })
    }

    /// The same without the index, and with all matches, by their requests' identities: every rule is judged on every event.
    pub fn plain(&self) -> Bench {
        self.with(WorkerSettings { plain: true, keyed: None, repeats: true, ..self.worker.clone() })
    }

    /// The same with matches that only repeat what `new_value` correlations were told.
    pub fn with_repeats(&self) -> Bench {
        self.with(WorkerSettings { repeats: true, ..self.worker.clone() })
    }

    fn with(&self, worker: WorkerSettings) -> Bench {
        Bench { program: Arc::clone(&self.program), worker, windows: self.windows.clone() }
    }

    /// The rules.
    pub fn rules(&self) -> &RuleSet {
        &self.program.set
    }

    /// The matches and counts of one block of lines.
    pub fn matches(&self, log: Vec<u8>) -> BatchResult {
        let batch = Batch { bytes: log, last: true, ..Batch::default() };
        Worker::new(Arc::clone(&self.program), self.worker.clone()).process(&batch)
    }

    /// Runs one log to its end.
    pub fn run(&self, log: Vec<u8>) -> Run {
        let mut result = self.matches(log);
        let mut matched: Vec<u32> = result.matches.iter().map(|one| one.rule).collect();
        matched.sort_unstable();
        matched.dedup();
        let (set, captures) = (Arc::clone(&self.program.set), Arc::clone(&self.program.captures));
        let mut windows = Correlator::new(set, captures, self.windows.clone());
        let mut firings = Vec::new();
        windows.add_source(0, 0, result.oldest);
        windows.absorb(0, 0, result.newest, std::mem::take(&mut result.matches), &mut firings);
        windows.finish_source(0, &mut firings);
        windows.finish(&mut firings);
        Run { firings, matched, result }
    }
}
