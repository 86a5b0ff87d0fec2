//! `auditwatch test`: rule tests, told as cargo tells its own.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::rule_files::{self, RuleFile};
use crate::rules::{SourceFile, yaml};
use crate::ruletest::{self, RulesError, Runner, Verdict};
use crate::sink::text::printable;

/// Run the tests of rules: every RULE.test.yml beside a RULE.yml.
///
/// A test holds events and says what the rules beside it should make of them. The built-in detections and their filters
/// are loaded as well; one that has the id of a rule under test gives way to it. Without a path, the built-in
/// detections are tested.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 all passed; 1 some failed; 2 bad rules; 3 bad usage.

Examples:
  auditwatch test
  auditwatch test my-rules/
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

    /// Tell only of tests that failed.
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum TestFormat {
    /// A line per test, and the reasons of those that failed.
    Text,
    /// One JSON object.
    Json,
}

/// Runs the subcommand.
pub fn run(args: &TestArgs) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let tests = match args.paths.is_empty() {
        true => rule_files::built_in_tests(),
        false => rule_files::collect_tests(&args.paths)?,
    };
    let rules = rules_for(&tests, args)?;
    let mut runner = match Runner::new(&rules) {
        Ok(runner) => runner,
        Err(error) => return Ok(bad_rules(&error, &rules)),
    };
    let mut verdicts = Vec::new();
    for test in &tests {
        let Some(rule_file) = ruletest::rule_file_of(&test.name) else {
            bail!("{}: a test file is named RULE.test.yml, after the rule file beside it", test.name);
        };
        let file = match ruletest::parse(&test.name, &test.text) {
            Ok(file) => file,
            Err(error) => {
                let (line, failure) = (error.line, Some(format!("{}:{error}\n", test.name)));
                verdicts.push(Verdict { file: test.name.clone(), line, name: "the file can be read".into(), failure });
                continue;
            }
        };
        match runner.run(&rule_file, &file) {
            Ok(some) => verdicts.extend(some),
            Err(error) => return Ok(bad_rules(&error, &rules)),
        }
    }
    let mut out = io::stdout().lock();
    match args.format {
        TestFormat::Text => text(&mut out, &verdicts, tests.len(), args.quiet, started)?,
        TestFormat::Json => write_json(&mut out, &verdicts, args.quiet)?,
    }
    out.flush()?;
    let failed = verdicts.iter().any(|verdict| verdict.failure.is_some());
    Ok(if failed { Exit::Alerts } else { Exit::Done })
}

/// The rules beside the tests, and all others that run with them.
fn rules_for(tests: &[RuleFile], args: &TestArgs) -> anyhow::Result<Vec<SourceFile>> {
    let mut files = rule_files::collect(&args.rules, &[])?;
    if !args.paths.is_empty() {
        let beside = tests.iter().filter_map(|test| ruletest::rule_file_of(&test.name)).map(PathBuf::from);
        let beside: Vec<PathBuf> = beside.filter(|path| path.is_file()).collect();
        let folders = args.paths.iter().filter(|path| path.is_dir()).cloned();
        let paths: Vec<PathBuf> = folders.chain(beside).collect();
        let under_test = if paths.is_empty() { Vec::new() } else { rule_files::collect(&paths, &[])? };
        let ids: Vec<String> = under_test.iter().flat_map(|file| ids(&file.text)).collect();
        files.retain(|file| !ids_overlap(&file.text, &ids) && under_test.iter().all(|other| other.name != file.name));
        files.extend(under_test);
        files.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(files
        .into_iter()
        .map(|file| SourceFile { name: file.name, text: file.text, documents: file.documents })
        .collect())
}

fn ids_overlap(text: &str, others: &[String]) -> bool {
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

fn text(out: &mut dyn Write, verdicts: &[Verdict], files: usize, quiet: bool, started: Instant) -> io::Result<()> {
    if !quiet {
        writeln!(out, "running {} tests of {files} files", verdicts.len())?;
        for verdict in verdicts {
            let result = if verdict.failure.is_some() { "FAILED" } else { "ok" };
            writeln!(out, "test {}: {} ... {result}", printable(&verdict.file), printable(&verdict.name))?;
        }
    }
    let failures: Vec<(&Verdict, &String)> =
        verdicts.iter().filter_map(|verdict| Some((verdict, verdict.failure.as_ref()?))).collect();
    for (verdict, why) in &failures {
        writeln!(out, "\n---- {}:{}: {} ----", printable(&verdict.file), verdict.line, printable(&verdict.name))?;
        why.lines().try_for_each(|line| writeln!(out, "{}", printable(line)))?;
    }
    let (passed, failed) = (verdicts.len() - failures.len(), failures.len());
    let word = if failed == 0 { "ok" } else { "FAILED" };
    let seconds = started.elapsed().as_secs_f64();
    writeln!(out, "\ntest result: {word}. {passed} passed; {failed} failed; finished in {seconds:.2}s")
}

fn write_json(out: &mut dyn Write, verdicts: &[Verdict], quiet: bool) -> io::Result<()> {
    let failed = verdicts.iter().filter(|verdict| verdict.failure.is_some()).count();
    let told = verdicts.iter().filter(|verdict| !quiet || verdict.failure.is_some());
    let tests: Vec<_> = told
        .map(|verdict| {
            let Verdict { file, line, name, failure } = verdict;
            json!({"file": file, "line": line, "name": name, "ok": failure.is_none(), "why": failure})
        })
        .collect();
    let document = json!({"passed": verdicts.len() - failed, "failed": failed, "tests": tests});
    writeln!(out, "{document}")
}
