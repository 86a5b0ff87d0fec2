//! What must hold for any input. The fuzz targets beside this file ask it of what libFuzzer makes up, tests/fuzz.rs of real
//! logs and rules that it changes from a seed; each says where the repository is, as `super::root`.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use auditwatch::engine::program::Program;
use auditwatch::event::site::Site;
use auditwatch::rules::{Placeholders, RuleSet, SourceFile, load, source_lines};
use auditwatch::ruletest::Bench;

/// The files of `detections/`, in the order of their names; tests of rules are not among them.
pub static DETECTIONS: LazyLock<Vec<SourceFile>> = LazyLock::new(|| {
    let mut files = Vec::new();
    let mut todo: Vec<PathBuf> = vec![super::root().join("detections")];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).expect("the repository is here") {
            let path = entry.expect("it can be read").path();
            let name = path.to_string_lossy().into_owned();
            if path.is_dir() {
                todo.push(path);
            } else if name.ends_with(".yml") && !name.ends_with(".test.yml") {
                files.push(SourceFile::new(name, fs::read_to_string(path).expect("it can be read")));
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
});

static FAST: LazyLock<Bench> = LazyLock::new(|| {
    let (rules, _) = load(&DETECTIONS, &Placeholders::new());
    Bench::new(Arc::new(rules), Site::default()).expect("the detections compile").with_repeats()
});
static PLAIN: LazyLock<Bench> = LazyLock::new(|| FAST.plain());
static NO_RULES: LazyLock<Bench> =
    LazyLock::new(|| Bench::new(Arc::new(RuleSet::default()), Site::default()).expect("no rules compile"));

/// Any bytes as a log: the fast path and the plain one give the same matches, counts and places. Tokens inside a body are
/// looked at only when a rule reads them, and the plain path reads more: it may see more bodies that are malformed.
pub fn differential(data: &[u8]) {
    let [fast, plain] = [&FAST, &PLAIN].map(|bench| {
        let mut result = bench.matches(data.to_vec());
        let malformed = std::mem::take(&mut result.counts.malformed_body);
        let matches =
            result.matches.iter().map(|m| (m.rule, m.time, m.identity(), m.stage, m.newest_before, m.long_running));
        let matches: Vec<_> = matches.collect();
        (malformed, (matches, result.counts, result.problems, result.newest, result.oldest, result.seen))
    });
    assert!(fast.0 <= plain.0, "{} malformed bodies, {} by the plain path", fast.0, plain.0);
    assert_eq!(fast.1, plain.1);
}

/// Any text as a rule file: it is read, or it is told what is wrong with it, at a place that the file has; and what was
/// read can be compiled, or that is told too.
pub fn rules(text: &str) {
    let (rules, problems) = load(&[SourceFile::new("fuzz.yml", text)], &Placeholders::new());
    for problem in problems {
        assert!(!problem.message.is_empty());
        assert!(problem.span.line as usize <= source_lines(text).count() + 1, "{problem:?}");
    }
    let _ = Program::compile(Arc::new(rules));
}

/// Any bytes as a log, without rules: every line is counted, every event has a fingerprint, and what is no event has a
/// place within the log.
pub fn envelopes(data: &[u8]) {
    let result = NO_RULES.matches(data.to_vec());
    let newlines = data.iter().filter(|byte| **byte == b'\n').count() as u64;
    let lines = newlines + u64::from(data.last().is_some_and(|byte| *byte != b'\n'));
    assert_eq!(result.counts.lines, lines);
    assert_eq!(result.counts.events, result.seen.len() as u64);
    for problem in &result.problems {
        assert!(problem.range.end <= data.len() && problem.line < lines, "{problem:?} of {lines} lines");
    }
}
