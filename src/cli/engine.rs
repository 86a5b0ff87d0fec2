//! The one place where the command line meets the engine: rules are loaded, workers and windows are made.

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::rule_files::{self, RuleFile};
use crate::config::Site;
use crate::engine::matches::{ClusterId, Firing, Match, SourceId};
use crate::engine::program::{CompileError, Program};
use crate::engine::window::{self, Correlator};
use crate::pipeline::{Analyzer, Windows, distributed, live};
use crate::rules::{self, RuleSet, Severity, SourceFile, strings};
use crate::source::Batch;
use crate::worker::{BatchResult, Worker, WorkerSettings};

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

/// Loads rule files; every problem of every file is told.
pub fn load(files: Vec<RuleFile>, site: &Site) -> Loaded {
    let files: Vec<SourceFile> = files
        .into_iter()
        .map(|file| SourceFile { name: file.name, text: file.text, documents: file.documents })
        .collect();
    let (rules, diagnostics) = rules::load(&files, &site.lists);
    let mut loaded = Loaded { rules, ..Loaded::default() };
    for diagnostic in diagnostics {
        let text = files.iter().find(|file| file.name == diagnostic.file).map(|file| file.text.as_str());
        let list = match diagnostic.severity {
            Severity::Error => &mut loaded.errors,
            Severity::Warning => &mut loaded.warnings,
        };
        list.push(diagnostic.render(text));
    }
    loaded.warnings.extend(unasked(&files, site));
    loaded
}

/// Lists of the site that nobody asks for, neither these rules nor those that are compiled in: a misspelt name would
/// leave what it exempts not exempt, and nobody would know why.
fn unasked(files: &[SourceFile], site: &Site) -> Vec<String> {
    if site.lists.is_empty() {
        return Vec::new();
    }
    let built_in = rule_files::built_in_texts().map(|text| -> &str { text });
    let texts = files.iter().map(|file| file.text.as_str()).chain(built_in);
    let mut asked: BTreeSet<&str> = texts.flat_map(strings::placeholders).collect();
    asked.insert("trusted_proxies");
    let tell = |name: &String| match rules::suggest(name, asked.iter().copied()) {
        Some(meant) => format!("site: {name}: no rule asks for this list; did you mean `{meant}`?"),
        None => format!("site: {name}: no rule asks for this list"),
    };
    site.lists.keys().filter(|name| !asked.contains(name.as_str())).map(tell).collect()
}

/// The compiled rules, from which workers and windows are made.
pub struct Engine {
    program: Arc<Program>,
    worker: WorkerSettings,
    windows: window::Settings,
    /// Tells the requests of a replay apart.
    seed: RandomState,
}

impl Engine {
    /// Compiles the rules.
    ///
    /// # Errors
    /// A regular expression that cannot be compiled within its limits.
    pub fn new(rules: Arc<RuleSet>, settings: Settings) -> Result<Self, CompileError> {
        let windows =
            window::Settings { lateness_us: settings.lateness_us, ordered_output: true, ..window::Settings::default() };
        let site = crate::event::site::Site { trusted_proxies: settings.site.trusted_proxies };
        let worker = WorkerSettings {
            site: Arc::new(site),
            clusters: settings.clusters.into(),
            skew: settings.time_max.map(|time| (time, time)),
            ..WorkerSettings::default()
        };
        Ok(Engine { program: Arc::new(Program::compile(rules)?), worker, windows, seed: RandomState::default() })
    }

    /// The engine of a live run, whose alerts leave as soon as their cluster's watermark lets them.
    pub fn live(self) -> live::Core {
        let (rules, captures) = (Arc::clone(&self.program.set), Arc::clone(&self.program.captures));
        let settings = window::Settings { ordered_output: false, ..self.windows };
        let windows = Correlator::new(Arc::clone(&rules), Arc::clone(&captures), settings);
        live::Core { rules, captures, worker: Worker::new(self.program, self.worker), windows }
    }

    /// The engine of a member of many: its owners make windows of their own.
    pub fn distributed(self) -> distributed::Core {
        let (rules, captures) = (Arc::clone(&self.program.set), Arc::clone(&self.program.captures));
        let worker = move || Worker::new(Arc::clone(&self.program), self.worker.clone());
        distributed::Core { rules, captures, worker: Box::new(worker) }
    }

    /// A worker for one thread of a replay, whose matches are written down for nobody.
    pub fn worker(&self) -> impl Analyzer + use<> {
        let settings = WorkerSettings { keyed: Some(self.seed.clone()), ..self.worker.clone() };
        Worker::new(Arc::clone(&self.program), settings)
    }

    /// The windows.
    pub fn windows(&self) -> Box<dyn Windows> {
        let (set, captures) = (Arc::clone(&self.program.set), Arc::clone(&self.program.captures));
        Box::new(Correlator::new(set, captures, self.windows.clone()))
    }
}

impl Analyzer for Worker {
    fn process(&mut self, batch: &Batch) -> BatchResult {
        Worker::process(self, batch)
    }
}

impl Windows for Correlator {
    fn add_source(&mut self, source: SourceId, cluster: ClusterId, first_time: Option<i64>) {
        Correlator::add_source(self, source, cluster, first_time);
    }

    fn absorb(
        &mut self,
        source: SourceId,
        cluster: ClusterId,
        newest: Option<i64>,
        matches: Vec<Match>,
        out: &mut Vec<Firing>,
    ) {
        Correlator::absorb(self, source, cluster, newest, matches, out);
    }

    fn pass_over(&mut self, source: SourceId, cluster: ClusterId, newest: Option<i64>, out: &mut Vec<Firing>) {
        Correlator::pass_over(self, source, cluster, newest, out);
    }

    fn finish_source(&mut self, source: SourceId, out: &mut Vec<Firing>) {
        Correlator::finish_source(self, source, out);
    }

    fn finish(&mut self, out: &mut Vec<Firing>) {
        Correlator::finish(self, out);
    }

    fn late(&self) -> u64 {
        self.stats().late
    }

    fn stats(&self) -> serde_json::Value {
        let stats = Correlator::stats(self);
        serde_json::json!({
            "matches": stats.matches,
            "duplicate_matches": stats.duplicate_matches,
            "late": stats.late,
            "late_across": stats.late_across,
            "missing_group": stats.missing_group.iter().sum::<u64>(),
            "fanout_cut": stats.fanout_cut,
            "keys_saturated": stats.keys_saturated.iter().sum::<u64>(),
            "numbers_cut": stats.numbers_cut,
            "reorder_forced": stats.reorder_forced,
            "output_forced": stats.output_forced,
            "dedupe_evicted": stats.dedupe_evicted,
            "evidence_evicted": stats.evidence_evicted,
            "live_keys": stats.live_keys.iter().sum::<u64>(),
        })
    }
}
