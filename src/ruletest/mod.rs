//! Tests of rules: `.test.yml` files, each beside the rule file it speaks of, run through the real worker and windows.
//!
//! A test is a short log written by hand: events with everything left out that does not matter ([`events`] fills it in),
//! and what its rule file should make of them. Pure, like the core it runs.

pub mod bench;
mod events;
mod file;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

pub use bench::Bench;
pub use file::parse;
pub use verdict::Expect;

use crate::engine::program::CompileError;
use crate::event::site::Site;
use crate::rules::{Diagnostic, Meta, Placeholders, RuleSet, Severity, SourceFile, load};

/// A test file, read.
#[derive(Debug, Clone, PartialEq)]
pub struct TestFile {
    /// Its name as given.
    pub name: String,
    /// The tests in the order written.
    pub tests: Vec<Test>,
}

/// One test.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// What it shows.
    pub name: String,
    /// Line in its file.
    pub line: u32,
    /// Lists for `|expand`: the file's, and the test's own.
    pub site: Placeholders,
    /// Complete audit events in the order written.
    pub events: Vec<Value>,
    /// What its rule file should make of them.
    pub expect: Expect,
}

/// A test file, or one place in it, that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct TestError {
    /// Line, from 1; 0 if the problem is not at one place.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

/// How one test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The test's file.
    pub file: String,
    /// Where in the file.
    pub line: u32,
    /// The test's name.
    pub name: String,
    /// Why it failed, for people; several lines. `None`: it passed.
    pub failure: Option<String>,
    /// Ids of the rules and correlations of its rule file that held or fired in it, ascending.
    pub fired: Vec<String>,
}

/// A rule or correlation that no test made fire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untested {
    /// Its file.
    pub file: String,
    /// Where in the file.
    pub line: u32,
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
}

/// Rules that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Some documents have errors; all of them are told.
    #[error("{} of the rules cannot be read", .0.len())]
    Load(Vec<Diagnostic>),
    /// A regular expression is too large.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// Runs test files against one set of rule files.
pub struct Runner<'a> {
    files: &'a [SourceFile],
    /// Compiled rules by the site lists they were read with: few tests have lists.
    benches: BTreeMap<Placeholders, Bench>,
}

impl<'a> Runner<'a> {
    /// A runner for these rule files.
    ///
    /// # Errors
    /// Rules that cannot be read or compiled.
    pub fn new(files: &'a [SourceFile]) -> Result<Self, RulesError> {
        let mut runner = Runner { files, benches: BTreeMap::new() };
        runner.bench(&Placeholders::new())?;
        Ok(runner)
    }

    /// Runs all tests of a file. `rules` is the name of the rule file they speak of.
    ///
    /// # Errors
    /// Rules that cannot be read or compiled with a test's lists.
    pub fn run(&mut self, rules: &str, file: &TestFile) -> Result<Vec<Verdict>, RulesError> {
        let verdicts = file.tests.iter().map(|test| {
            let bench = self.bench(&test.site)?;
            let known = bench.rules().rules.iter().any(|rule| rule.meta.file == rules);
            let known = known || bench.rules().correlations.iter().any(|one| one.meta.file == rules);
            let (failure, fired) = match known {
                true => verdict::judge(bench, rules, test),
                false => (Some(format!("there are no rules in {rules}")), Vec::new()),
            };
            Ok(Verdict { file: file.name.clone(), line: test.line, name: test.name.clone(), failure, fired })
        });
        verdicts.collect()
    }

    /// The rules and correlations of these files that none of the verdicts saw fire, by place; and how many there are in
    /// all. Correlations that only feed others are left out.
    ///
    /// # Errors
    /// Rules that cannot be read or compiled.
    pub fn untested(
        &mut self,
        files: &BTreeSet<String>,
        verdicts: &[Verdict],
    ) -> Result<(Vec<Untested>, usize), RulesError> {
        let set = self.bench(&Placeholders::new())?.rules();
        let fired: BTreeSet<&str> = verdicts.iter().flat_map(|verdict| &verdict.fired).map(String::as_str).collect();
        let correlations = set.correlations.iter().filter(|one| one.alerts).map(|one| &one.meta);
        let metas: Vec<&Arc<Meta>> = set.rules.iter().map(|rule| &rule.meta).chain(correlations).collect();
        let under_test: Vec<&&Arc<Meta>> = metas.iter().filter(|meta| files.contains(&meta.file)).collect();
        let untested = under_test.iter().filter(|meta| !fired.contains(meta.id.as_str())).map(|meta| Untested {
            file: meta.file.clone(),
            line: meta.span.line,
            id: meta.id.clone(),
            title: meta.title.clone(),
        });
        let mut untested: Vec<Untested> = untested.collect();
        untested.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Ok((untested, under_test.len()))
    }

    fn bench(&mut self, lists: &Placeholders) -> Result<&Bench, RulesError> {
        if !self.benches.contains_key(lists) {
            let rules = read(self.files, lists)?;
            let networks = lists.get("trusted_proxies").into_iter().flatten();
            let trusted_proxies = networks.filter_map(|network| network.parse().ok()).collect();
            self.benches.insert(lists.clone(), Bench::new(Arc::new(rules), Site { trusted_proxies })?);
        }
        Ok(&self.benches[lists])
    }
}

/// Reads rule files; warnings are not told here.
fn read(files: &[SourceFile], lists: &Placeholders) -> Result<RuleSet, RulesError> {
    let (rules, mut diagnostics) = load(files, lists);
    diagnostics.retain(|one| one.severity == Severity::Error);
    match diagnostics.is_empty() {
        true => Ok(rules),
        false => Err(RulesError::Load(diagnostics)),
    }
}

/// The rule file that a test file speaks of: `a.test.yml` is about `a.yml`. `None`: it is no test file by its name.
pub fn rule_file_of(test_file: &str) -> Option<String> {
    ["yml", "yaml"].iter().find_map(|ending| {
        let stem = test_file.strip_suffix(&format!(".test.{ending}"))?;
        Some(format!("{stem}.{ending}"))
    })
}

#[cfg(test)]
mod tests;
