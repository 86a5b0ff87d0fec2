//! What `new_value` correlations tell does not depend on which repeats the workers leave out: however the events are cut,
//! shuffled within the lateness and spread over workers, it is what the plain path tells.

use std::fmt::Write;
use std::sync::Arc;

use auditwatch::engine::CaptureTable;
use auditwatch::engine::matches::Firing;
use auditwatch::engine::program::Program;
use auditwatch::engine::window::{Correlator, Settings};
use auditwatch::rules::{RuleSet, SourceFile, load};
use auditwatch::source::Batch;
use auditwatch::worker::{Worker, WorkerSettings};
use chrono::{DateTime, Duration, Utc};

use crate::support::logs::Random;

const RULES: &str = "
title: Request
name: request
status: test
logsource: {product: kubernetes, service: audit}
level: informational
detection:
  selection: {user.username|startswith: 'system:serviceaccount:'}
  condition: selection
---
title: Watch
name: watching
status: test
logsource: {product: kubernetes, service: audit}
level: informational
detection:
  selection: {verb: watch}
  condition: selection
---
title: New behaviour
name: new_behaviour
status: test
level: low
correlation:
  type: new_value
  rules: [request]
  group-by: [user.username]
  timespan: 3d
  learning: 5d
  condition: {field: [verb, objectRef.resource]}
---
title: New address
name: new_address
status: test
level: low
correlation:
  type: new_value
  rules: [request, watching]
  group-by: [user.username]
  timespan: 2d
  learning: 1h
  condition: {field: sourceIPs}
";

fn rules() -> Arc<RuleSet> {
    let (set, report) = load(&[SourceFile::new("rules.yml", RULES)], &Default::default());
    assert_eq!((set.rules.len(), set.correlations.len()), (2, 2), "{report:?}");
    Arc::new(set)
}

/// Forty days of three programs, busy for some minutes at about the same time of each day, so that spans end within a
/// quantum; the lines are out of order by a few seconds.
fn log(random: &mut Random) -> Vec<String> {
    let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut lines = Vec::new();
    for n in 0..1200 {
        let base = start + Duration::days(n / 30) + Duration::seconds(40 * (n % 30));
        let rare = if random.below(10) == 0 { 1 + random.below(9) } else { 0 };
        let user = random.below(3);
        let verb = *random.pick(&["get", "list", "watch"]);
        let resource = random.below(2) + rare;
        let second = if random.below(30) == 0 { r#","10.0.9.9""# } else { "" };
        for again in 0..=random.below(4) {
            let at = (base + Duration::seconds(3 * random.below(4) as i64)).format("%Y-%m-%dT%H:%M:%S%.6fZ");
            let stage = random.pick(&["ResponseStarted", "ResponseComplete"]);
            let mut line = String::new();
            write!(line, r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"{n}-{again}","stage":"{stage}","requestURI":"/api","verb":"{verb}","user":{{"username":"system:serviceaccount:a:s{user}"}},"sourceIPs":["10.0.0.{rare}"{second}],"objectRef":{{"resource":"r{resource}"}},"responseStatus":{{"code":200}},"requestReceivedTimestamp":"{at}","stageTimestamp":"{at}"}}"#).unwrap();
            line.push('\n');
            // Delivered twice.
            lines.extend((random.below(10) == 0).then(|| line.clone()));
            lines.push(line);
        }
    }
    lines
}

/// What identifies a firing, and what it tells.
fn told(firings: &[Firing]) -> Vec<String> {
    let told = |f: &Firing| {
        let group: Vec<_> = f.group.iter().map(|(_, value)| &*value.text).collect();
        format!("{:?} {} {:x?} {group:?} {} {:?}", f.origin, f.time, f.identity, f.count, f.trace.excerpt().audit_id)
    };
    firings.iter().map(told).collect()
}

/// Cuts the log at random, and gives the pieces to the workers in turn.
fn run(lines: &[String], workers: usize, plain: bool, random: &mut Random) -> (Vec<String>, u64) {
    let set = rules();
    let program = Arc::new(Program::compile(set.clone()).unwrap());
    let settings =
        WorkerSettings { plain, repeats: plain, clusters: vec![String::new()].into(), ..WorkerSettings::default() };
    let mut workers: Vec<Worker> = (0..workers).map(|_| Worker::new(program.clone(), settings.clone())).collect();
    let captures = Arc::new(CaptureTable::new(&set));
    let mut windows = Correlator::new(set, captures, Settings { ordered_output: true, ..Settings::default() });
    let (mut firings, mut repeated, mut rest, mut turn) = (Vec::new(), 0, lines, 0);
    windows.add_source(0, 0, None);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(1 + random.below(200)));
        let batch = Batch { bytes: now.concat().into_bytes(), last: later.is_empty(), ..Batch::default() };
        let count = workers.len();
        let result = workers[turn % count].process(&batch);
        repeated += result.counts.repeated;
        windows.absorb(0, 0, result.newest, result.matches, &mut firings);
        (rest, turn) = (later, turn + 1);
    }
    windows.finish_source(0, &mut firings);
    windows.finish(&mut firings);
    (told(&firings), repeated)
}

#[test]
fn repeats_that_are_left_out_change_nothing() {
    for seed in 1..=6u64 {
        let mut random = Random(seed);
        let lines = log(&mut random);
        let (expected, _) = run(&lines, 1, true, &mut random);
        assert!(expected.len() > 10, "seed {seed}: {expected:?}");
        for workers in [1, 2, 5] {
            let (got, repeated) = run(&lines, workers, false, &mut random);
            assert!(repeated > 500, "seed {seed}: only {repeated} were left out");
            assert_eq!(got, expected, "seed {seed}, {workers} workers");
        }
    }
}
