//! The built-in detections against their own tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use auditwatch::rules::SourceFile;
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
fn every_detection_has_a_test_that_fires_and_one_that_is_silent() {
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
        if silents == 0 {
            missing.push(format!("{}: no silent test", file.name));
        }
    }
    for (rules, file) in &tests {
        if !names.contains(rules.as_str()) {
            missing.push(format!("{}: no {rules}", file.name));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
