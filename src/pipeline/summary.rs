//! What a run counted, and where the documents stand that were no events.

use serde_json::{Map, Value, json};

use crate::rules::RuleSet;
use crate::sink::Tally;
use crate::source::Batch;
use crate::worker::{BatchResult, Counts, Problem, ProblemKind};

/// Places remembered per input and list.
const LOCATED_PER_INPUT_MAX: usize = 1_000;
/// Places remembered in a whole run.
const LOCATED_MAX: usize = 100_000;

/// Where a document stands and what is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Line in the input, from 1.
    pub line: u64,
    /// Byte offset in the input, after decompression.
    pub offset: u64,
    /// How it was counted.
    pub kind: ProblemKind,
    /// What is said of it, for people.
    pub why: String,
}

/// What was counted in one input.
#[derive(Debug, Clone, Default)]
pub struct InputSummary {
    /// Path or `-`.
    pub name: String,
    /// Bytes after decompression.
    pub bytes: u64,
    /// Lines, skipped ones included.
    pub lines: u64,
    /// Events.
    pub events: u64,
    /// Documents that could not be read: the first of them, and how many more there were.
    pub unreadable: (Vec<Located>, u64),
    /// Everything else worth a word: too large, several documents on a line, duplicate keys …
    pub notes: (Vec<Located>, u64),
    /// Why it ended before its end.
    pub broken: Option<String>,
}

/// What a run counted.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Sums over all batches; `unreadable` and `too_large` hold what stands in the inputs' lists.
    pub counts: Counts,
    /// Requests seen (stages of one request count once).
    pub requests: u64,
    /// Events whose request and stage had been seen before.
    pub duplicates: u64,
    /// Matches that came too late for their windows.
    pub late: u64,
    /// Matches of rules, before requests are merged.
    pub matches: u64,
    /// Inputs that ended before their end.
    pub broken: u64,
    /// Inputs, among the broken, that the machine could not open or read.
    pub lost: u64,
    /// What was told.
    pub alerts: Tally,
    /// Counters of the windows.
    pub windows: Value,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Per input, in the order of the inputs.
    pub inputs: Vec<InputSummary>,
    located: usize,
}

impl Summary {
    /// Nothing counted yet.
    pub fn new(names: Vec<String>) -> Self {
        let inputs = names.into_iter().map(|name| InputSummary { name, ..Default::default() }).collect();
        Summary { inputs, windows: Value::Null, ..Default::default() }
    }

    /// Adds a batch and what came of it. `dead` is told of each document that could not be read.
    pub fn add(&mut self, batch: &Batch, result: &BatchResult, mut dead: impl FnMut(&str, &Located, Option<&[u8]>)) {
        let input = &mut self.inputs[batch.source as usize];
        for skipped in &batch.oversized {
            input.lines += 1;
            let why = format!("too large: a line of {} bytes was skipped", skipped.bytes);
            let at = Located { line: input.lines, offset: skipped.offset, kind: ProblemKind::TooLarge, why };
            dead(&input.name, &at, None);
            keep(&mut input.notes, &mut self.located, at);
        }
        for problem in &result.problems {
            let Problem { line, offset, kind, why, .. } = problem;
            let at = Located { line: input.lines + line + 1, offset: *offset, kind: *kind, why: why.clone() };
            let unreadable = *kind == ProblemKind::Unreadable;
            if unreadable || *kind == ProblemKind::TooLarge {
                let raw = batch.bytes.get(problem.range.clone()).filter(|raw| !raw.is_empty());
                dead(&input.name, &at, raw);
            }
            keep(if unreadable { &mut input.unreadable } else { &mut input.notes }, &mut self.located, at);
        }
        let skipped = batch.oversized.len() as u64;
        let end = batch.offset + batch.bytes.len() as u64;
        // The worker counts what it is given; the bytes of skipped lines show in the offsets only.
        let skipped_bytes = (end - input.bytes).saturating_sub(result.counts.bytes);
        input.bytes = end;
        input.lines += result.counts.lines;
        input.events += result.counts.events;
        self.counts.add(&result.counts);
        self.counts.bytes += skipped_bytes;
        self.counts.lines += skipped;
        self.counts.too_large += skipped;
        self.matches += result.matches.len() as u64 + result.counts.repeated;
        if let Some(why) = &batch.broken {
            input.broken = Some(why.clone());
            self.broken += 1;
            self.lost += u64::from(batch.lost);
        }
    }

    /// Whether any document or any rest of an input could not be understood.
    pub fn incomplete(&self) -> bool {
        self.counts.unreadable + self.counts.too_large + self.broken > 0
    }

    /// The object of `--stats` (DESIGN §9); fields are only ever added.
    pub fn to_json(&self, rules: &RuleSet) -> Value {
        let c = &self.counts;
        let unknown: Map<String, Value> = c
            .unknown
            .iter()
            .zip(&rules.rules)
            .filter(|(n, _)| **n > 0)
            .map(|(n, rule)| (rule.meta.id.clone(), json!(n)))
            .collect();
        let [informational, low, medium, high, critical] = self.alerts.by_level;
        let [received, started, complete, panicked, other] = c.by_stage;
        json!({
            "bytes": c.bytes, "lines": c.lines, "events": c.events,
            "requests": self.requests, "duplicates": self.duplicates,
            "unreadable": c.unreadable, "too_large": c.too_large, "not_audit": c.not_audit,
            "malformed_body": c.malformed_body, "untimed": c.untimed, "late": self.late, "matches": self.matches,
            "alerts": {"informational": informational, "low": low, "medium": medium, "high": high, "critical": critical},
            "by_rule": self.alerts.by_rule, "unknown": unknown, "seconds": self.seconds,
            "inputs": self.inputs.iter().map(InputSummary::to_json).collect::<Vec<_>>(),
            "duplicate_keys": c.duplicate_keys, "expired_stage": c.expired_stage, "fanout_cut": c.fanout_cut,
            "below_min_level": self.alerts.below_min_level, "broken": self.broken,
            "by_stage": {"RequestReceived": received, "ResponseStarted": started, "ResponseComplete": complete,
                         "Panic": panicked, "other": other},
            "windows": self.windows,
        })
    }
}

impl InputSummary {
    fn to_json(&self) -> Value {
        let place = |at: &Located| json!({"line": at.line, "offset": at.offset, "why": at.why});
        let mut out = json!({
            "name": self.name, "bytes": self.bytes, "events": self.events,
            "unreadable": self.unreadable.0.iter().map(place).collect::<Vec<_>>(),
            "lines": self.lines,
        });
        if self.unreadable.1 > 0 {
            out["omitted"] = json!(self.unreadable.1);
        }
        if !self.notes.0.is_empty() || self.notes.1 > 0 {
            let note = |at: &Located| {
                let mut note = place(at);
                note["kind"] = json!(kind_name(at.kind));
                note
            };
            out["notes"] = self.notes.0.iter().map(note).collect();
            out["notes_omitted"] = json!(self.notes.1);
        }
        if let Some(why) = &self.broken {
            out["broken"] = json!(why);
        }
        out
    }
}

fn kind_name(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Unreadable => "unreadable",
        ProblemKind::TooLarge => "too_large",
        ProblemKind::Layout => "layout",
        ProblemKind::MalformedBody => "malformed_body",
        ProblemKind::DuplicateKey => "duplicate_key",
    }
}

fn keep((list, omitted): &mut (Vec<Located>, u64), total: &mut usize, at: Located) {
    if list.len() < LOCATED_PER_INPUT_MAX && *total < LOCATED_MAX {
        list.push(at);
        *total += 1;
    } else {
        *omitted += 1;
    }
}
