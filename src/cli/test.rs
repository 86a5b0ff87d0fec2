//! `auditwatch test`: rule tests, told as cargo tells its own.

mod junit;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::rule_files::{self, RuleFile};
use crate::rules::{SourceFile, yaml};
use crate::ruletest::{self, RulesError, Runner, Untested, Verdict};
use crate::sink::text::printable;

/// Run the tests of rules: every RULE.test.yml beside a RULE.yml.
///
/// A test holds events and says what the rules beside it should make of them. The built-in detections and their filters
/// are loaded as well; one that has the id of a rule under test gives way to it. Without a path, the built-in
/// detections are tested. Rules that no test makes fire are told at the end.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 all passed; 1 some failed, or with --require-tests some rules have no test; 2 bad rules; 3 bad usage.

Examples:
  auditwatch test
  auditwatch test my-rules/
  auditwatch test my-rules/ --require-tests --junit report.xml
  auditwatch test my-rules/secrets-listed.yml --format json")]
pub struct TestArgs {
    /// Rule files, test files, or folders with both.
    #[arg(value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,

    /// Use these rules instead of the built-in detections, besides those under test. May be repeated.
    #[arg(long, value_name = "DIR|FILE", env = "AUDITWATCH_RULES", value_delimiter = ':')]
    rules: Vec<PathBuf>,

    /// Shape of the output.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: TestFormat,

    /// Write a JUnit report to this file as well.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,

    /// Fail if there are rules that no test makes fire.
    #[arg(long)]
    require_tests: bool,

    /// Tell only of tests that failed.
    #[arg(short, long)]
    quiet: bool,
}

/// What a run of tests gave.
struct Report {
    /// Test files.
    files: usize,
    verdicts: Vec<Verdict>,
    /// Rules that no test made fire.
    untested: Vec<Untested>,
    /// Rules and correlations under test.
    rules: usize,
    started: Instant,
}

impl Report {
    fn failures(&self) -> impl Iterator<Item = (&Verdict, &String)> {
        self.verdicts.iter().filter_map(|verdict| Some((verdict, verdict.failure.as_ref()?)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum TestFormat {
    /// A line per test, and the reasons of those that failed.
    Text,
    /// One JSON object.
    Json,
    /// A JUnit report (XML).
    Junit,
}

/// Runs the subcommand.
pub fn run(args: &TestArgs) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let tests = match args.paths.is_empty() {
        true => rule_files::built_in_tests(),
        false => rule_files::collect_tests(&args.paths)?,
    };
    let (rules, under_test) = rules_for(&tests, args)?;
    let mut runner = match Runner::new(&rules) {
        Ok(runner) => runner,
        Err(error) => return Ok(bad_rules(&error, &rules)),
    };
    let verdicts = match judge(&mut runner, &tests)? {
        Ok(verdicts) => verdicts,
        Err(error) => return Ok(bad_rules(&error, &rules)),
    };
    let (untested, all) = match runner.untested(&under_test, &verdicts) {
        Ok(untested) => untested,
        Err(error) => return Ok(bad_rules(&error, &rules)),
    };
    let report = Report { files: tests.len(), verdicts, untested, rules: all, started };
    if let Some(path) = &args.junit {
        fs::write(path, junit::render(&report)).with_context(|| format!("--junit {}", path.display()))?;
    }
    let mut out = io::stdout().lock();
    match args.format {
        TestFormat::Text => text(&mut out, &report, args.quiet)?,
        TestFormat::Json => write_json(&mut out, &report, args.quiet)?,
        TestFormat::Junit => out.write_all(junit::render(&report).as_bytes())?,
    }
    out.flush()?;
    let failed = report.failures().next().is_some() || args.require_tests && !report.untested.is_empty();
    Ok(if failed { Exit::Alerts } else { Exit::Done })
}

/// Runs all test files. A file that cannot be read is a failed test.
fn judge(runner: &mut Runner<'_>, tests: &[RuleFile]) -> anyhow::Result<Result<Vec<Verdict>, RulesError>> {
    let mut verdicts = Vec::new();
    for test in tests {
        let Some(rule_file) = ruletest::rule_file_of(&test.name) else {
            bail!("{}: a test file is named RULE.test.yml, after the rule file beside it", test.name);
        };
        match ruletest::parse(&test.name, &test.text) {
            Ok(file) => match runner.run(&rule_file, &file) {
                Ok(some) => verdicts.extend(some),
                Err(error) => return Ok(Err(error)),
            },
            Err(error) => verdicts.push(Verdict {
                file: test.name.clone(),
                line: error.line,
                name: "the file can be read".into(),
                failure: Some(format!("{}:{error}\n", test.name)),
                fired: Vec::new(),
            }),
        }
    }
    Ok(Ok(verdicts))
}

/// The rules beside the tests, and all others that run with them; and the names of the files under test.
fn rules_for(tests: &[RuleFile], args: &TestArgs) -> anyhow::Result<(Vec<SourceFile>, BTreeSet<String>)> {
    let mut files = rule_files::collect(&args.rules, &[])?;
    let mut names: BTreeSet<String> = files.iter().map(|file| file.name.clone()).collect();
    if !args.paths.is_empty() {
        let beside = tests.iter().filter_map(|test| ruletest::rule_file_of(&test.name)).map(PathBuf::from);
        let beside: Vec<PathBuf> = beside.filter(|path| path.is_file()).collect();
        // A folder's rules, and a rule named without a test beside it.
        let named = args.paths.iter().filter(|path| path.is_dir() || !rule_files::is_test(path)).cloned();
        let paths: Vec<PathBuf> = named.chain(beside).collect();
        let under_test = if paths.is_empty() { Vec::new() } else { rule_files::collect(&paths, &[])? };
        names = under_test.iter().map(|file| file.name.clone()).collect();
        let ids: BTreeSet<String> = under_test.iter().flat_map(|file| ids(&file.text)).collect();
        files.retain(|file| !ids_overlap(&file.text, &ids) && under_test.iter().all(|other| other.name != file.name));
        files.extend(under_test);
        files.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let source = |file: RuleFile| SourceFile { name: file.name, text: file.text, documents: file.documents };
    Ok((files.into_iter().map(source).collect(), names))
}

fn ids_overlap(text: &str, others: &BTreeSet<String>) -> bool {
    ids(text).iter().any(|id| others.contains(id))
}

fn ids(text: &str) -> Vec<String> {
    let (documents, _) = yaml::parse(text);
    documents.iter().filter_map(|document| Some(document.get("id")?.as_text()?.to_owned())).collect()
}

fn bad_rules(error: &RulesError, rules: &[SourceFile]) -> Exit {
    let mut err = io::stderr().lock();
    if let RulesError::Load(diagnostics) = error {
        for one in diagnostics {
            let text = rules.iter().find(|file| file.name == one.file).map(|file| file.text.as_str());
            let _ = writeln!(err, "{}", one.render(text));
        }
    }
    let _ = writeln!(err, "auditwatch: {}", printable(&error.to_string()));
    Exit::Rules
}

fn text(out: &mut dyn Write, report: &Report, quiet: bool) -> io::Result<()> {
    if !quiet {
        writeln!(out, "running {} tests of {} files", report.verdicts.len(), report.files)?;
        for verdict in &report.verdicts {
            let result = if verdict.failure.is_some() { "FAILED" } else { "ok" };
            writeln!(out, "test {}: {} ... {result}", printable(&verdict.file), printable(&verdict.name))?;
        }
    }
    for (verdict, why) in report.failures() {
        writeln!(out, "\n---- {}:{}: {} ----", printable(&verdict.file), verdict.line, printable(&verdict.name))?;
        why.lines().try_for_each(|line| writeln!(out, "{}", printable(line)))?;
    }
    if !report.untested.is_empty() {
        writeln!(out, "\nrules that no test makes fire: {} of {}", report.untested.len(), report.rules)?;
        for Untested { file, line, title, .. } in &report.untested {
            writeln!(out, "  {}:{line}: {}", printable(file), printable(title))?;
        }
    }
    let failed = report.failures().count();
    let passed = report.verdicts.len() - failed;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    let seconds = report.started.elapsed().as_secs_f64();
    writeln!(out, "\ntest result: {word}. {passed} passed; {failed} failed; finished in {seconds:.2}s")
}

fn write_json(out: &mut dyn Write, report: &Report, quiet: bool) -> io::Result<()> {
    let failed = report.failures().count();
    let told = report.verdicts.iter().filter(|verdict| !quiet || verdict.failure.is_some());
    let tests: Vec<_> = told
        .map(|verdict| {
            let Verdict { file, line, name, failure, .. } = verdict;
            json!({"file": file, "line": line, "name": name, "ok": failure.is_none(), "why": failure})
        })
        .collect();
    let untested: Vec<_> = report
        .untested
        .iter()
        .map(|Untested { file, line, id, title }| json!({"file": file, "line": line, "id": id, "title": title}))
        .collect();
    let passed = report.verdicts.len() - failed;
    let document = json!({
        "passed": passed, "failed": failed, "tests": tests, "rules": report.rules, "untested": untested,
    });
    writeln!(out, "{document}")
}
