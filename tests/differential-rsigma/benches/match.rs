//! Lines to matches, beside rsigma-eval 0.23 with the same rules, in the same run:
//! `cargo bench --manifest-path tests/differential-rsigma/Cargo.toml`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a program that measures")]

use std::sync::Arc;

use auditwatch::engine::program::Program;
use auditwatch::rules::{Placeholders, SourceFile, load};
use auditwatch::source::Batch;
use auditwatch::worker::{Worker, WorkerSettings};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rsigma_eval::{Engine, JsonEvent};
use serde_json::Value;

#[path = "../../../benches/support/generate.rs"]
#[allow(dead_code, reason = "the rest is for other programs")]
mod generate;

const LOG_BYTES: usize = 4 << 20;
const SEED: u64 = 42;

fn worker(rules: &str) -> Worker {
    let (set, problems) = load(&[SourceFile::new("bench.yml", rules.to_owned())], &Placeholders::new());
    assert!(problems.is_empty(), "{problems:?}");
    let settings = WorkerSettings { clusters: vec![String::new()].into(), ..WorkerSettings::default() };
    Worker::new(Arc::new(Program::compile(Arc::new(set)).unwrap()), settings)
}

fn engine(rules: &str) -> Engine {
    let mut engine = Engine::new();
    let collection = rsigma_parser::parse_sigma_yaml(rules).unwrap();
    assert!(collection.errors.is_empty(), "{:?}", collection.errors);
    engine.add_collection(&collection).unwrap();
    engine
}

/// How many rules hold on how many events.
fn theirs(engine: &Engine, log: &[u8]) -> usize {
    let lines = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let event: Value = serde_json::from_slice(line).unwrap();
            engine.evaluate(&JsonEvent::borrow(&event)).len()
        })
        .sum()
}

fn matching(c: &mut Criterion) {
    let batch = Batch { bytes: generate::Generator::new(SEED, false).log(LOG_BYTES), ..Batch::default() };
    let mut group = c.benchmark_group("lines to matches");
    group.throughput(Throughput::Bytes(batch.bytes.len() as u64)).sample_size(10);
    for count in [16, 134, 1_000, 5_000] {
        let rules = generate::rules(count, SEED);
        let (mut worker, engine) = (worker(&rules), engine(&rules));
        assert_eq!(worker.process(&batch).matches.len(), theirs(&engine, &batch.bytes), "of {count} rules");
        group.bench_function(format!("{count} rules"), |b| b.iter(|| worker.process(&batch).matches.len()));
        group.bench_function(format!("{count} rules, rsigma-eval"), |b| b.iter(|| theirs(&engine, &batch.bytes)));
    }
    group.finish();
}

criterion_group!(benches, matching);
criterion_main!(benches);
