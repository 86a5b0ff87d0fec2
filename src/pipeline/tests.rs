#![allow(clippy::disallowed_types, reason = "tests look into what the pipeline writes while it runs")]

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::alert::tests::{firing_of_rule, rules};
use crate::alert::{Names, SourceName};
use crate::rules::Level;
use crate::sink::Format;
use crate::worker::{Problem, ProblemKind};

/// Stands in for the matcher: every line `N` is a match with time N, `!` is unreadable, `panic` is a bug.
struct Toy<'a> {
    batches: &'a AtomicUsize,
}

impl Analyzer for Toy<'_> {
    fn process(&mut self, batch: &Batch) -> BatchResult {
        self.batches.fetch_add(1, Ordering::Relaxed);
        let mut result = BatchResult { seq: batch.seq, ..Default::default() };
        let counts = &mut result.counts;
        counts.bytes = batch.bytes.len() as u64;
        let mut at = 0;
        for line in batch.bytes.split_inclusive(|b| *b == b'\n') {
            let text = std::str::from_utf8(line.trim_ascii()).unwrap();
            assert_ne!(text, "panic", "a bug in the matcher");
            match text.parse::<i64>() {
                Ok(time) => {
                    counts.events += 1;
                    result.seen.push((time as u64) << 4 | 2);
                    result.newest = result.newest.max(Some(time));
                }
                Err(_) => {
                    counts.unreadable += 1;
                    let range = at..at + text.len();
                    let offset = batch.offset + at as u64;
                    let (line, kind) = (counts.lines, ProblemKind::Unreadable);
                    result.problems.push(Problem { line, offset, range, kind, why: "no number".into() });
                }
            }
            counts.lines += 1;
            at += line.len();
        }
        result
    }
}

/// Stands in for the windows: fires once per batch, with the newest time, and notes what it was told.
#[derive(Default)]
struct Noting {
    told: Vec<String>,
}

impl Windows for Noting {
    fn add_source(&mut self, source: SourceId, cluster: ClusterId, _first_time: Option<i64>) {
        self.told.push(format!("add {source} {cluster}"));
    }

    fn absorb(&mut self, source: SourceId, _: ClusterId, newest: Option<i64>, _: Vec<Match>, out: &mut Vec<Firing>) {
        self.told.push(format!("absorb {source} {newest:?}"));
        out.extend(newest.map(|time| Firing { time, ..firing_of_rule() }));
    }

    fn pass_over(&mut self, source: SourceId, cluster: ClusterId, _: Option<i64>, _out: &mut Vec<Firing>) {
        self.told.push(format!("pass over {source} {cluster}"));
    }

    fn finish_source(&mut self, source: SourceId, _out: &mut Vec<Firing>) {
        self.told.push(format!("end {source}"));
    }

    fn finish(&mut self, _out: &mut Vec<Firing>) {
        self.told.push("end".into());
    }

    fn late(&self) -> u64 {
        0
    }

    fn stats(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

#[derive(Default)]
struct Dead(Vec<String>);

impl Observer for Dead {
    fn dead_letter(&mut self, input: &str, at: &Located, raw: Option<&[u8]>) -> io::Result<()> {
        let name = Path::new(input).file_name().unwrap().to_string_lossy();
        let raw = raw.map(String::from_utf8_lossy);
        self.0.push(format!("{name}:{}@{} {raw:?}", at.line, at.offset));
        Ok(())
    }
}

struct Ran {
    result: Result<Summary, PipelineError>,
    told: Vec<String>,
    out: String,
    dead: Vec<String>,
}

/// A writer that can be read afterwards, and that fails after so many bytes.
struct Shared<'a>(&'a Mutex<Vec<u8>>, usize);

impl io::Write for Shared<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut out = self.0.lock().unwrap();
        if out.len() + buf.len() > self.1 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        out.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn run(files: &[(&str, String)], workers: usize, limits: Limits, out_max: usize) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let mut inputs = Vec::new();
    let mut sources = Vec::new();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
        inputs.push((Input::path(dir.path().join(name)), 0));
        sources.push(SourceName { kind: "file", name: (*name).to_owned() });
    }
    let rules = rules();
    let names = Names { rules: &rules, clusters: &["prod".to_owned()], sources: &sources };
    let written = Mutex::new(Vec::new());
    let mut output = Output::new(names, Format::Json, Level::Informational, Box::new(Shared(&written, out_max)));
    let (mut windows, mut dead, batches) = (Noting::default(), Dead::default(), AtomicUsize::new(0));
    let plan = Plan { inputs, workers, limits, time_max: None };
    let result = replay(plan, || Toy { batches: &batches }, &mut windows, &mut output, &mut dead);
    drop(output);
    let out = String::from_utf8(written.into_inner().unwrap()).unwrap();
    Ran { result, told: windows.told, out, dead: dead.0 }
}

const SMALL: Limits = Limits { block_bytes: 32, record_bytes: 200 };

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("{n}\n")).collect()
}

#[test]
fn the_number_of_workers_changes_nothing() {
    let files = [("a.log", numbers(0..3000)), ("b.log", numbers(3000..5000)), ("empty.log", String::new())];
    let one = run(&files, 1, SMALL, usize::MAX);
    let summary = one.result.unwrap();
    assert_eq!((summary.counts.events, summary.counts.lines, summary.requests), (5000, 5000, 5000));
    assert_eq!(summary.counts.bytes, files.iter().map(|(_, text)| text.len() as u64).sum::<u64>());
    assert_eq!(summary.alerts.by_level, [0, 0, 0, one.out.lines().count() as u64, 0]);
    assert_eq!(one.told.iter().filter(|t| t.starts_with("end")).count(), 4);
    assert_eq!(one.told.last().unwrap(), "end");
    for workers in [2, 8] {
        let many = run(&files, workers, SMALL, usize::MAX);
        assert_eq!((&many.told, &many.out), (&one.told, &one.out), "{workers} workers");
    }
}

#[test]
fn repeats_are_counted() {
    let text = numbers(0..1000);
    let ran = run(&[("a.log", text.clone()), ("b.log", text)], 2, SMALL, usize::MAX);
    let summary = ran.result.unwrap();
    assert_eq!((summary.requests, summary.duplicates), (1000, 1000));
}

#[test]
fn unreadable_lines_are_located_and_kept() {
    let long = "9".repeat(500);
    let text = format!("{}oops\n{long}\n{}two words", numbers(0..40), numbers(40..60));
    let ran = run(&[("a.log", text.clone())], 2, SMALL, usize::MAX);
    let summary = ran.result.unwrap();
    let oops = text.find("oops").unwrap();
    let words = text.find("two words").unwrap();
    assert_eq!(
        ran.dead,
        [
            format!("a.log:41@{oops} Some(\"oops\")"),
            format!("a.log:42@{} None", oops + 5),
            format!("a.log:63@{words} Some(\"two words\")")
        ]
    );
    assert_eq!((summary.counts.unreadable, summary.counts.too_large, summary.counts.lines), (2, 1, 63));
    assert_eq!(summary.counts.bytes, text.len() as u64);
    assert_eq!(summary.inputs[0].bytes, text.len() as u64);
    assert!(summary.incomplete());
    let stats = summary.to_json(&rules());
    let located = &stats["inputs"][0];
    assert_eq!(located["unreadable"][1]["line"], 63);
    assert_eq!(located["notes"][0]["kind"], "too_large");
}

#[test]
fn places_are_bounded_and_what_is_left_out_is_counted() {
    let ran = run(&[("a.log", "x\n".repeat(1500))], 1, SMALL, usize::MAX);
    let stats = ran.result.unwrap().to_json(&rules());
    assert_eq!(stats["unreadable"], 1500);
    assert_eq!(stats["inputs"][0]["unreadable"].as_array().unwrap().len(), 1000);
    assert_eq!(stats["inputs"][0]["omitted"], 500);
}

#[test]
fn a_document_larger_than_everything_in_flight_gets_through() {
    let block = Limits { block_bytes: 16, record_bytes: 100_000 };
    let large = format!("[\n{}1]\n", "1,\n".repeat(2000));
    let ran = run(&[("a.log", format!("1\n{large}2\n"))], 2, block, usize::MAX);
    let summary = ran.result.unwrap();
    assert_eq!((summary.counts.events, summary.counts.lines), (2, 2004));
}

#[test]
fn a_panic_in_a_worker_is_an_error() {
    for workers in [1, 2, 8] {
        let text = format!("{}panic\n{}", numbers(0..2000), numbers(0..2000));
        let ran = run(&[("a.log", text)], workers, SMALL, usize::MAX);
        match ran.result {
            Err(PipelineError::Panic { stage: "matcher", what }) => assert!(what.contains("a bug"), "{what}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_output_that_fails_ends_the_run() {
    let ran = run(&[("a.log", numbers(0..5000))], 2, SMALL, 5000);
    assert!(matches!(ran.result, Err(PipelineError::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe));
}

#[test]
fn an_input_that_cannot_be_opened_is_lost_and_the_rest_is_read() {
    let rules = rules();
    let names = Names { rules: &rules, clusters: &[], sources: &[] };
    let mut output = Output::new(names, Format::Json, Level::Critical, Box::new(io::sink()));
    let (batches, mut windows) = (AtomicUsize::new(0), Noting::default());
    let inputs = vec![(Input::path("/nonexistent/a.log"), 0)];
    let plan = Plan { inputs, workers: 1, limits: SMALL, time_max: None };
    let summary = replay(plan, || Toy { batches: &batches }, &mut windows, &mut output, &mut Dead::default()).unwrap();
    assert_eq!((summary.broken, summary.lost), (1, 1));
    assert!(summary.inputs[0].broken.as_ref().unwrap().contains("cannot be read"));
    assert_eq!(windows.told, ["add 0 0", "absorb 0 None", "end 0", "end"]);
}

#[test]
fn the_stats_have_the_fields_of_the_contract() {
    let mut summary = Summary::new(vec!["a.log".into()]);
    summary.counts.unknown = vec![3];
    let stats = summary.to_json(&rules());
    for field in [
        "bytes",
        "lines",
        "events",
        "requests",
        "duplicates",
        "unreadable",
        "too_large",
        "not_audit",
        "malformed_body",
        "untimed",
        "late",
        "matches",
        "alerts",
        "by_rule",
        "unknown",
        "seconds",
        "inputs",
    ] {
        assert!(!stats[field].is_null(), "{field}");
    }
    assert_eq!(stats["alerts"].as_object().unwrap().len(), 5);
    assert_eq!(stats["unknown"]["6f1c0c6e-0000-4000-8000-000000000001"], 3);
}
