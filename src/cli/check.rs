//! `auditwatch check`: every problem of every rule file, with its place and what to do about it.

mod formats;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clap::builder::FalseyValueParser;

use super::exit::{Exit, Outcome};
use super::{color, rule_files, site_file};
use crate::engine::program::Program;
use crate::rules::expr::Span;
use crate::rules::{self, Diagnostic, RuleSet, Severity, SourceFile};

/// Check rules: all problems of all files at once.
///
/// Errors keep a rule from running: `replay` and `run` would stop. Warnings are rules that run, but hardly as they were
/// meant: fields that no audit event has, values that can never match, conditions that never or always hold, selections
/// that are not used. What PATH names takes the place of the built-in detections, as --rules does for `replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 no errors (with --strict, no warnings either); 2 problems; 3 bad usage.

Examples:
  auditwatch check my-rules/
  auditwatch check --add-rules my-rules/            # beside the built-in detections, which they may refer to
  auditwatch check --format github my-rules/        # annotations in a GitHub workflow
  auditwatch check --format sarif my-rules/ > check.sarif")]
pub struct CheckArgs {
    /// Rule files, or folders of them [default: the built-in detections].
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Check these rules as well. May be repeated.
    #[arg(long, value_name = "DIR|FILE", env = "AUDITWATCH_ADD_RULES", value_delimiter = ':')]
    add_rules: Vec<PathBuf>,

    /// Lists of this site that rules refer to: YAML, names to lists of strings.
    #[arg(long, value_name = "FILE", env = "AUDITWATCH_SITE")]
    site: Option<PathBuf>,

    /// Shape of the output.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: CheckFormat,

    /// Fail on warnings as well.
    #[arg(long, env = "AUDITWATCH_STRICT", value_parser = FalseyValueParser::new())]
    strict: bool,

    /// Tell only errors.
    #[arg(short, long, conflicts_with = "strict")]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CheckFormat {
    /// Problems with the source line, for people.
    Text,
    /// One JSON object.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// Workflow commands, for annotations on GitHub.
    Github,
}

/// What was found.
pub(super) struct Checked<'a> {
    /// The files, for their lines.
    pub files: &'a [SourceFile],
    /// What of them could be read.
    pub rules: &'a RuleSet,
    /// What is wrong, in the order of files and places.
    pub problems: &'a [Diagnostic],
}

impl Checked<'_> {
    /// The text of a file.
    fn text(&self, name: &str) -> Option<&str> {
        self.files.iter().find(|file| file.name == name).map(|file| file.text.as_str())
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }
}

/// Runs the subcommand.
pub fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let site = site_file::read(args.site.as_deref())?;
    let files = rule_files::collect(&args.paths, &args.add_rules)?;
    let files: Vec<SourceFile> = files
        .into_iter()
        .map(|file| SourceFile { name: file.name, text: file.text, documents: file.documents })
        .collect();
    let (rules, mut problems) = rules::check(&files, &site.lists);
    let rules = Arc::new(rules);
    problems.extend(compile(Arc::clone(&rules)));
    let failed = problems.iter().any(|problem| problem.severity == Severity::Error || args.strict);
    if args.quiet {
        problems.retain(|problem| problem.severity == Severity::Error);
    }
    let checked = Checked { files: &files, rules: &rules, problems: &problems };
    let mut out = io::stdout().lock();
    match args.format {
        CheckFormat::Text => formats::text(&mut out, &checked, color::wanted(&io::stdout()))?,
        CheckFormat::Json => writeln!(out, "{}", formats::json(&checked))?,
        CheckFormat::Sarif => writeln!(out, "{:#}", formats::sarif(&checked))?,
        CheckFormat::Github => formats::github(&mut out, &checked)?,
    }
    out.flush()?;
    if args.format != CheckFormat::Text && io::stderr().is_terminal() {
        let _ = writeln!(io::stderr().lock(), "{}", formats::summary(&checked));
    }
    Ok(Outcome { bad_rules: failed, ..Default::default() }.exit())
}

/// What only the compiler finds.
fn compile(rules: Arc<RuleSet>) -> Option<Diagnostic> {
    let error = Program::compile(rules).err()?;
    Some(Diagnostic {
        severity: Severity::Error,
        code: "cannot-compile",
        message: format!("rule `{}`: {}", error.title, error.source),
        file: error.file,
        span: Span { line: error.line, column: 1 },
        help: Some("simplify the regular expression".to_owned()),
    })
}
