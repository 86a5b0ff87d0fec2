//! Short logs against all detections at once: what the rules of peers find, attacks done otherwise than in the rules'
//! own tests, and programs at their lawful work.
//!
//! The files in `tests/scenarios` are written like tests of rules, but read differently, since they speak of all rules:
//! `expect: {ref: "A-001 B-002"}` wants an alert of each of these refs (in `peers-*`, records of level informational count
//! too; elsewhere low and above do), and `expect: silent` wants no alert of level medium or above.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use auditwatch::engine::matches::{Firing, Origin};
use auditwatch::event::site::Site;
use auditwatch::rules::{Level, Meta, Placeholders, Severity, load};
use auditwatch::ruletest::{self, Bench, Test, TestFile};

use crate::rules::detections;

/// The scenario files, by name.
fn scenarios() -> Vec<TestFile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap();
        ruletest::parse(name, &fs::read_to_string(path).unwrap()).unwrap_or_else(|error| panic!("{name}:{error}"))
    };
    files.iter().map(read).collect()
}

/// Benches by the lists of a site: few scenarios have any.
#[derive(Default)]
struct Benches(BTreeMap<Placeholders, Bench>);

impl Benches {
    fn of(&mut self, lists: &Placeholders) -> &Bench {
        self.0.entry(lists.clone()).or_insert_with(|| {
            let (rules, problems) = load(&detections(), lists);
            assert!(problems.iter().all(|one| one.severity != Severity::Error), "{problems:#?}");
            Bench::new(Arc::new(rules), Site::default()).unwrap()
        })
    }
}

fn meta<'b>(bench: &'b Bench, firing: &Firing) -> &'b Meta {
    match firing.origin {
        Origin::Rule(id) => &bench.rules().rules[id as usize].meta,
        Origin::Correlation(id) => &bench.rules().correlations[id as usize].meta,
    }
}

/// What is wrong with what a scenario gave; nothing if it is as it should be.
fn judge(bench: &Bench, file: &str, test: &Test) -> Option<String> {
    let log: String = test.events.iter().map(|event| format!("{event}\n")).collect();
    let run = bench.run(log.into_bytes());
    let metas: Vec<&Meta> = run.firings.iter().map(|firing| meta(bench, firing)).collect();
    let told = |meta: &&Meta| format!("{:?} {} {}", meta.level, meta.reference.as_deref().unwrap_or("-"), meta.title);
    let wrong: Vec<String> = match &test.expect.reference {
        None => metas.iter().filter(|meta| meta.level >= Level::Medium).map(told).collect(),
        Some(wanted) => {
            let least = if file.starts_with("peers-") { Level::Informational } else { Level::Low };
            let counted = metas.iter().filter(|meta| meta.level >= least);
            let refs: BTreeSet<&str> = counted.filter_map(|meta| meta.reference.as_deref()).collect();
            wanted.split(' ').filter(|one| !refs.contains(one)).map(|one| format!("no {one}")).collect()
        }
    };
    let all = metas.iter().map(told).collect::<BTreeSet<_>>();
    (!wrong.is_empty()).then(|| format!("{file}:{}: {}\n  {}\n  of {all:#?}", test.line, test.name, wrong.join("\n  ")))
}

#[test]
fn scenarios_are_judged_as_they_should_be() {
    let (mut benches, mut wrong, mut count) = (Benches::default(), Vec::new(), 0);
    for file in scenarios() {
        for test in &file.tests {
            count += 1;
            wrong.extend(judge(benches.of(&test.site), &file.name, test));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} scenarios:\n\n{}", wrong.len(), wrong.join("\n\n"));
}
