//! How fast each stage is, beside what bounds it, in the same run: `cargo bench --bench speed [-- PATTERN]`.
//! docs/performance.md says how to read it. `WINDOW_KEYS=10000000` adds the windows of ten million keys (some minutes).
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a program that measures")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use auditwatch::engine::matches::Match;
use auditwatch::engine::program::Program;
use auditwatch::engine::window::{self, Correlator};
use auditwatch::event::site::Site;
use auditwatch::event::time::format_micros;
use auditwatch::rules::{Placeholders, RuleSet, SourceFile, load};
use auditwatch::ruletest::Bench;
use auditwatch::source::Batch;
use auditwatch::source::replay::LONE_BLOCK_BYTES;
use auditwatch::worker::{Worker, WorkerSettings};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;

#[path = "support/generate.rs"]
mod generate;

use generate::{Generator, rules};

/// As large as the blocks that a replay reads, many times: caches see what they see in a run.
const LOG_BYTES: usize = 16 << 20;
const BLOCK_BYTES: usize = LONE_BLOCK_BYTES;
const SEED: u64 = 42;

fn compile(text: String) -> Arc<Program> {
    let (set, problems) = load(&[SourceFile::new("bench.yml", text)], &Placeholders::new());
    assert!(problems.is_empty(), "{problems:?}");
    Arc::new(Program::compile(Arc::new(set)).unwrap())
}

/// The built-in detections.
fn detections() -> RuleSet {
    let mut files = Vec::new();
    let mut todo = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("detections")];
    while let Some(folder) = todo.pop() {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let name = path.to_string_lossy().into_owned();
            if path.is_dir() {
                todo.push(path);
            } else if name.ends_with(".yml") && !name.ends_with(".test.yml") {
                files.push(SourceFile::new(name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    load(&files, &Placeholders::new()).0
}

/// A log in the blocks in which it would be read, cut at newlines.
fn blocks(log: &[u8]) -> Vec<Batch> {
    let mut blocks = Vec::new();
    let mut rest = log;
    while !rest.is_empty() {
        let cut = memchr::memchr(b'\n', &rest[BLOCK_BYTES.min(rest.len()) - 1..]);
        let end = cut.map_or(rest.len(), |at| BLOCK_BYTES.min(rest.len()) + at);
        blocks.push(Batch { seq: blocks.len() as u64, bytes: rest[..end].to_vec(), ..Batch::default() });
        rest = &rest[end..];
    }
    blocks
}

fn settings() -> WorkerSettings {
    WorkerSettings { clusters: vec![String::new()].into(), ..WorkerSettings::default() }
}

/// What serde_json has to be told to read the same members.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "reading them is the work")]
struct Typed<'a> {
    #[serde(borrow)]
    verb: std::borrow::Cow<'a, str>,
    #[serde(rename = "auditID", borrow)]
    audit_id: std::borrow::Cow<'a, str>,
    stage: &'a str,
    #[serde(rename = "requestURI", borrow)]
    request_uri: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    user: &'a serde_json::value::RawValue,
    #[serde(borrow)]
    object_ref: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    response_status: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    request_object: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    response_object: Option<&'a serde_json::value::RawValue>,
    stage_timestamp: &'a str,
}

fn scan_and_normalize(c: &mut Criterion) {
    let log = Generator::new(SEED, false).log(LOG_BYTES);
    let blocks = blocks(&log);
    let mut group = c.benchmark_group("scan");
    group.throughput(Throughput::Bytes(log.len() as u64)).sample_size(20);
    group.bench_function("reference: memchr newlines", |b| b.iter(|| memchr::memchr_iter(b'\n', &log).count()));
    group.bench_function("reference: simdutf8", |b| b.iter(|| simdutf8::basic::from_utf8(&log).is_ok()));
    group.finish();
    let mut group = c.benchmark_group("normalize");
    group.throughput(Throughput::Bytes(log.len() as u64)).sample_size(20);
    group.bench_function("reference: serde_json typed", |b| {
        b.iter(|| {
            for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                black_box(serde_json::from_slice::<Typed<'_>>(line).unwrap());
            }
        });
    });
    let mut worker = Worker::new(compile(String::new()), settings());
    group.bench_function("no rules", |b| b.iter(|| process(&mut worker, &blocks)));
    group.finish();
}

fn process(worker: &mut Worker, blocks: &[Batch]) -> u64 {
    blocks.iter().map(|block| black_box(worker.process(block)).counts.events).sum()
}

fn matching(c: &mut Criterion) {
    for (what, metadata) in [("match", false), ("match, metadata only", true)] {
        let log = Generator::new(SEED, metadata).log(LOG_BYTES);
        let blocks = blocks(&log);
        let mut group = c.benchmark_group(what);
        group.throughput(Throughput::Bytes(log.len() as u64)).sample_size(20);
        let programs = [16, 134, 1_000, 5_000].map(|n| (format!("{n} rules"), compile(rules(n, SEED))));
        let built_in = Arc::new(Program::compile(Arc::new(detections())).unwrap());
        for (name, program) in programs.into_iter().chain([("built-in".to_owned(), built_in)]) {
            let mut worker = Worker::new(program, settings());
            group.bench_function(name, |b| b.iter(|| process(&mut worker, &blocks)));
        }
        group.finish();
    }
}

const COUNTING: &str = "title: Lists\nid: 00000000-0000-4000-8000-000000000001\nname: lists\n\
    logsource: {product: kubernetes, service: audit}\nlevel: low\n\
    detection: {s: {verb: list}, condition: s}\n---\n\
    title: Many\nid: 00000000-0000-4000-8000-000000000002\nlevel: low\n\
    logsource: {product: kubernetes, service: audit}\n\
    correlation: {type: event_count, rules: [lists], group-by: [user.username], timespan: 1d, condition: {gte: 1000}}\n";

/// Matches of ever new requests, of `keys` people in turn.
struct Matches {
    worker: Worker,
    keys: u64,
    made: u64,
}

impl Matches {
    fn next(&mut self, count: u64) -> (Option<i64>, Vec<Match>) {
        let mut log = String::new();
        for n in self.made..self.made + count {
            let (user, time) = (n % self.keys, format_micros(1_795_435_200_000_000 + n as i64 * 100));
            log.push_str(&format!(
                "{{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"Metadata\",\"auditID\":\"{n}\",\"stage\":\
                 \"ResponseComplete\",\"requestURI\":\"/api/v1/secrets\",\"verb\":\"list\",\"user\":{{\"username\":\"u{user}\"}},\
                 \"responseStatus\":{{\"code\":200}},\"requestReceivedTimestamp\":\"{time}\",\"stageTimestamp\":\"{time}\"}}\n"
            ));
        }
        self.made += count;
        let result = self.worker.process(&Batch { bytes: log.into_bytes(), ..Batch::default() });
        assert_eq!(result.matches.len() as u64, count);
        (result.newest, result.matches)
    }
}

fn windows(c: &mut Criterion) {
    const CHUNK: u64 = 10_000;
    let mut group = c.benchmark_group("windows");
    group.throughput(Throughput::Elements(CHUNK)).sample_size(20);
    let more = std::env::var("WINDOW_KEYS").ok().map(|keys| keys.parse().unwrap());
    for keys in [100_000_u64].into_iter().chain(more) {
        let program = compile(COUNTING.to_owned());
        let settings_of = window::Settings { keys_max: 2 * keys as usize, ..window::Settings::default() };
        let mut correlator = Correlator::new(Arc::clone(&program.set), Arc::clone(&program.captures), settings_of);
        let mut matches = Matches { worker: Worker::new(program, settings()), keys, made: 0 };
        let mut fired = Vec::new();
        correlator.add_source(0, 0, None);
        while matches.made < keys {
            let (newest, chunk) = matches.next(CHUNK);
            correlator.absorb(0, 0, newest, chunk, &mut fired);
        }
        group.bench_function(format!("{keys} keys"), |b| {
            b.iter_batched(
                || matches.next(CHUNK),
                |(newest, chunk)| correlator.absorb(0, 0, newest, chunk, &mut fired),
                BatchSize::PerIteration,
            );
        });
        assert_eq!(correlator.stats().keys_saturated.iter().sum::<u64>(), 0);
    }
    group.finish();
}

fn end_to_end(c: &mut Criterion) {
    let log = Generator::new(SEED, false).log(LOG_BYTES);
    let bench = Bench::new(Arc::new(detections()), Site::default()).unwrap();
    let plain = bench.plain();
    let mut group = c.benchmark_group("end to end");
    group.throughput(Throughput::Bytes(log.len() as u64)).sample_size(10);
    group.bench_function("reference: memchr newlines", |b| b.iter(|| memchr::memchr_iter(b'\n', &log).count()));
    for (name, bench) in [("built-in", &bench), ("built-in, plain path", &plain)] {
        group.bench_function(name, |b| {
            b.iter_batched(|| log.clone(), |log| bench.run(log).firings.len(), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, scan_and_normalize, matching, windows, end_to_end);
criterion_main!(benches);
