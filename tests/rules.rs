//! The built-in detections against their own tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use auditwatch::rules::{Level, Meta, Placeholders, SourceFile};
use auditwatch::ruletest::{self, Runner, TestFile};

/// All YAML files of `detections/`, named as the compiled-in ones are.
pub fn detections() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut todo = vec![root.join("detections")];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|ending| ending == "yml") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.push(SourceFile::new(name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

/// The test files with the names of their rule files; those that cannot be read are told in `wrong`.
fn test_files(files: &[SourceFile], wrong: &mut Vec<String>) -> Vec<(String, TestFile)> {
    let tests = files.iter().filter_map(|file| Some((ruletest::rule_file_of(&file.name)?, file)));
    let mut read = |file: &SourceFile| {
        ruletest::parse(&file.name, &file.text).map_err(|error| wrong.push(format!("{}:{error}", file.name))).ok()
    };
    tests.filter_map(|(rules, file)| Some((rules, read(file)?))).collect()
}

#[test]
fn every_detection_passes_its_tests() {
    let files = detections();
    let mut runner = Runner::new(&files).unwrap_or_else(|error| panic!("{error:#?}"));
    let mut failures = Vec::new();
    for (rules, tests) in test_files(&files, &mut failures) {
        for verdict in runner.run(&rules, &tests).unwrap_or_else(|error| panic!("{rules}: {error:#?}")) {
            if let Some(why) = verdict.failure {
                failures.push(format!("{}:{}: {}\n{why}", verdict.file, verdict.line, verdict.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} tests failed:\n\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_detection_has_a_test_that_fires_and_two_that_are_silent() {
    let files = detections();
    let mut missing = Vec::new();
    let tests = test_files(&files, &mut missing);
    let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    for name in names.iter().filter(|name| !name.ends_with(".test.yml") && !name.contains("/exemptions/")) {
        let Some((_, file)) = tests.iter().find(|(rules, _)| rules == name) else {
            missing.push(format!("{name}: no test file"));
            continue;
        };
        let silent = |test: &&ruletest::Test| test.expect.exactly == Some(0);
        let silents = file.tests.iter().filter(silent).count();
        if silents == file.tests.len() {
            missing.push(format!("{}: no test that fires", file.name));
        }
        if silents < 2 {
            missing.push(format!("{}: {silents} silent tests, not two", file.name));
        }
    }
    for (rules, file) in &tests {
        if !names.contains(rules.as_str()) {
            missing.push(format!("{}: no {rules}", file.name));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Rules that alert, and rules that only feed others, each fire in a test of their own file.
#[test]
fn every_rule_fires_in_a_test_of_its_file() {
    let files = detections();
    let mut runner = Runner::new(&files).unwrap_or_else(|error| panic!("{error:#?}"));
    let mut wrong = Vec::new();
    let mut verdicts = Vec::new();
    for (rules, tests) in test_files(&files, &mut wrong) {
        verdicts.extend(runner.run(&rules, &tests).unwrap_or_else(|error| panic!("{rules}: {error:#?}")));
    }
    let names = files.iter().map(|file| file.name.clone()).filter(|name| !name.contains("/exemptions/")).collect();
    let (untested, _) = runner.untested(&names, &verdicts).unwrap();
    wrong.extend(untested.iter().map(|one| format!("{}:{}: {}", one.file, one.line, one.title)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a person on call needs of an alert: what happened, why it matters and what to look at next, where to read on,
/// what else it may be, and which techniques and controls it belongs to.
#[test]
fn every_alert_says_what_is_needed() {
    let (rules, _) = auditwatch::rules::load(&detections(), &Placeholders::new());
    let correlations = rules.correlations.iter().filter(|one| one.alerts).map(|one| &one.meta);
    let alerting = rules.rules.iter().filter(|rule| rule.alerts).map(|rule| &rule.meta).chain(correlations);
    let mut wrong: Vec<String> = alerting.flat_map(|meta| lacking(meta)).collect();
    wrong.sort();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What an alert's texts lack. Records for reports need no technique: some are of maintenance.
fn lacking(meta: &Meta) -> Vec<String> {
    let is_control = |tag: &String| CONTROLS.iter().any(|control| tag.starts_with(control));
    let technique = meta.tags.iter().any(|tag| tag.starts_with("attack.t"));
    let checks = [
        (meta.reference.is_some(), "a ref"),
        (meta.name.is_some(), "a name"),
        (meta.description.len() >= DESCRIPTION_MIN, "a description that says what to do"),
        (meta.description.lines().all(|line| line.chars().count() <= LINE_MAX), "shorter lines"),
        (!meta.references.is_empty(), "a reference"),
        (meta.references.iter().all(|link| link.starts_with("https://")), "references that are links"),
        (!meta.false_positives.is_empty(), "false positives"),
        (meta.tags.iter().any(is_control), "a control"),
        (technique || meta.level == Level::Informational, "a technique"),
    ];
    let place = format!("{}:{}: {}", meta.file, meta.span.line, meta.title);
    checks.iter().filter(|(holds, _)| !holds).map(|(_, what)| format!("{place}: lacks {what}")).collect()
}

/// Shorter than this a description leaves something out.
const DESCRIPTION_MIN: usize = 150;
/// The longest line of a description, in characters.
const LINE_MAX: usize = 160;
/// How tags of controls begin.
const CONTROLS: [&str; 5] = ["cis.", "nist.", "iso27001.", "soc2.", "pci."];
