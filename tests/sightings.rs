//! What `new_value` correlations tell does not depend on which repeats the workers and the window stage leave out: however the
//! events are cut, shuffled within the lateness and spread over workers, it is what the plain path tells.

use std::fmt::Write;
use std::sync::Arc;

use auditwatch::engine::CaptureTable;
use auditwatch::engine::matches::Firing;
use auditwatch::engine::program::Program;
use auditwatch::engine::window::{Correlator, Settings, WindowStats};
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
---
title: Counted request
name: counted
status: test
logsource: {product: kubernetes, service: audit}
level: informational
detection:
  selection: {verb: [get, list]}
  condition: selection
---
title: New group
name: new_group
status: test
level: low
correlation:
  type: new_value
  rules: [counted]
  group-by: [user.username]
  timespan: 2d
  learning: 1d
  condition: {field: user.groups}
---
title: Requests
name: requests
status: test
level: low
correlation:
  type: event_count
  rules: [counted]
  group-by: [user.username]
  timespan: 5m
  condition: {gte: 12}
";

fn rules() -> Arc<RuleSet> {
    let (set, report) = load(&[SourceFile::new("rules.yml", RULES)], &Default::default());
    assert_eq!((set.rules.len(), set.correlations.len()), (3, 4), "{report:?}");
    Arc::new(set)
}

/// One event of a program with these groups.
fn line(id: &str, at: DateTime<Utc>, stage: &str, (user, groups): (usize, &str), rest: &str) -> String {
    let at = at.format("%Y-%m-%dT%H:%M:%S%.6fZ");
    let mut line = String::new();
    write!(line, r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"{id}","stage":"{stage}","requestURI":"/api","user":{{"username":"system:serviceaccount:a:s{user}","groups":[{groups}]}},{rest},"responseStatus":{{"code":200}},"requestReceivedTimestamp":"{at}","stageTimestamp":"{at}"}}"#).unwrap();
    line.push('\n');
    line
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
        // The order in which groups stand is not always the same.
        let groups = *random.pick(&[r#""a","b""#, r#""b","a""#, r#""a""#, r#""a","a","b""#, ""]);
        let groups = if rare > 7 { format!(r#""x{rare}","a""#) } else { groups.to_owned() };
        let second = if random.below(30) == 0 { r#","10.0.9.9""# } else { "" };
        for again in 0..=random.below(4) {
            let at = base + Duration::seconds(3 * random.below(4) as i64);
            let stage = random.pick(&["ResponseStarted", "ResponseComplete"]);
            let rest = format!(
                r#""verb":"{verb}","sourceIPs":["10.0.0.{rare}"{second}],"objectRef":{{"resource":"r{resource}"}}"#
            );
            let line = line(&format!("{n}-{again}"), at, stage, (user, &groups), &rest);
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

/// How a log is run.
#[derive(Clone, Copy)]
struct Way {
    workers: usize,
    /// Whether the workers tell everything, by the plain path.
    plain: bool,
    /// What the window stage does.
    windows: (bool, usize),
}

/// Cuts the log at random, and gives the pieces to the workers in turn; what windows have counted after each.
fn run(lines: &[String], way: Way, random: &mut Random) -> (Vec<String>, Vec<WindowStats>, u64) {
    let Way { workers, plain, windows: (repeats, keys_max) } = way;
    let set = rules();
    let program = Arc::new(Program::compile(set.clone()).unwrap());
    let settings =
        WorkerSettings { plain, repeats: plain, clusters: vec![String::new()].into(), ..WorkerSettings::default() };
    let mut workers: Vec<Worker> = (0..workers).map(|_| Worker::new(program.clone(), settings.clone())).collect();
    let captures = Arc::new(CaptureTable::new(&set));
    let settings = Settings { ordered_output: true, repeats, keys_max, ..Settings::default() };
    let mut windows = Correlator::new(set, captures, settings);
    let (mut firings, mut repeated, mut rest, mut turn, mut counted) = (Vec::new(), 0, lines, 0, Vec::new());
    windows.add_source(0, 0, None);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(1 + random.below(200)));
        let batch = Batch { bytes: now.concat().into_bytes(), last: later.is_empty(), ..Batch::default() };
        let count = workers.len();
        let result = workers[turn % count].process(&batch);
        repeated += result.counts.repeated;
        windows.absorb(0, 0, result.newest, result.matches, &mut firings);
        counted.push(windows.stats().clone());
        (rest, turn) = (later, turn + 1);
    }
    windows.finish_source(0, &mut firings);
    windows.finish(&mut firings);
    counted.push(windows.stats().clone());
    (told(&firings), counted, repeated)
}

#[test]
fn repeats_that_are_left_out_change_nothing() {
    for seed in 1..=6u64 {
        let mut random = Random(seed);
        let lines = log(&mut random);
        let all = Way { workers: 1, plain: true, windows: (true, usize::MAX) };
        let (expected, ..) = run(&lines, all, &mut random);
        assert!(expected.len() > 10, "seed {seed}: {expected:?}");
        for workers in [1, 2, 5] {
            let few = Way { workers, plain: false, windows: (false, usize::MAX) };
            let (got, _, repeated) = run(&lines, few, &mut random);
            assert!(repeated > 500, "seed {seed}: only {repeated} were left out");
            assert_eq!(got, expected, "seed {seed}, {workers} workers");
        }
    }
}

/// What windows tell and count of everything that there is.
fn windows_of(lines: &[String], repeats: bool, keys_max: usize, seed: u64) -> (Vec<String>, Vec<WindowStats>) {
    let (told, counted, _) =
        run(lines, Way { workers: 1, plain: true, windows: (repeats, keys_max) }, &mut Random(seed));
    (told, counted)
}

/// A group of three days ago is forgotten by a match that tells nothing new.
#[test]
fn a_repeat_that_is_due_to_sweep_is_not_left_out() {
    // Both times of the last day are in one quantum.
    let start: DateTime<Utc> = "2026-01-01T00:01:40Z".parse().unwrap();
    let day = start + Duration::days(3);
    let rest = r#""verb":"get","sourceIPs":["10.0.0.1"],"objectRef":{"resource":"r"}"#;
    let lines = [(start, 1), (day - Duration::seconds(20), 0), (day + Duration::seconds(20), 0)]
        .map(|(at, user)| line(&at.to_string(), at, "ResponseComplete", (user, r#""a""#), rest));
    let [expected, got] = [true, false].map(|repeats| windows_of(&lines, repeats, usize::MAX, 1).1.pop().unwrap());
    assert_eq!(expected.live_keys[3], 1, "the first group is forgotten");
    assert_eq!(got, expected);
}

/// What the window stage leaves out by itself shows in no counter either, be there room for all groups or not.
#[test]
fn what_windows_leave_out_is_not_seen() {
    for (seed, keys_max) in (1..=12u64).zip([usize::MAX, 4, 3].into_iter().cycle()) {
        let lines = log(&mut Random(seed));
        let [expected, got] = [true, false].map(|repeats| windows_of(&lines, repeats, keys_max, seed));
        let saturated: u64 = expected.1.iter().flat_map(|counted| &counted.keys_saturated).sum();
        assert_eq!(saturated > 0, keys_max < 5, "seed {seed}");
        assert!(expected.0.iter().any(|told| told.contains(r#", "x8"]"#)), "seed {seed}: no new group");
        assert!(got == expected, "seed {seed}, room for {keys_max}");
    }
}
