//! `auditwatch check`: every problem of every rule file, or of a daemon's configuration, with its place and what to do
//! about it.

mod formats;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::FalseyValueParser;

use super::exit::{Exit, Outcome};
use super::{color, prepare, rule_files, site_file};
use crate::config::run::RunConfig;
use crate::config::{ConfigError, Problems, schema};
use crate::engine::program::Program;
use crate::rules::expr::Span;
use crate::rules::{self, Diagnostic, RuleSet, Severity, SourceFile};

/// Check rules, or with -c a daemon's configuration and the rules it names: all problems of all files at once.
///
/// Errors keep a rule from running: `replay` and `run` would stop. Warnings are rules that run, but hardly as they were
/// meant: fields that no audit event has, values that can never match, conditions that never or always hold, selections
/// that are not used. What PATH names takes the place of the built-in detections, as --rules does for `replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 no errors (with --strict, no warnings either); 2 problems; 3 bad usage, or a bad configuration.

Examples:
  auditwatch check my-rules/
  auditwatch check --add-rules my-rules/            # beside the built-in detections, which they may refer to
  auditwatch check --format github my-rules/        # annotations in a GitHub workflow
  auditwatch check --format sarif my-rules/ > check.sarif
  auditwatch check -c auditwatch.yaml               # what `auditwatch run` would say before it starts
  auditwatch check --schema > auditwatch.schema.json")]
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

    /// Check this configuration of a daemon, with what it names: rules, site, secrets, templates.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["paths", "add_rules", "site"])]
    config: Option<PathBuf>,

    /// Say a key of that configuration here, as `run` does. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", requires = "config")]
    set: Vec<String>,

    /// Print the JSON schema of a daemon's configuration, and check nothing.
    #[arg(long, conflicts_with_all = ["config", "paths"])]
    schema: bool,

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
    if args.schema {
        writeln!(io::stdout().lock(), "{:#}", schema::schema())?;
        return Ok(Exit::Done);
    }
    match &args.config {
        Some(file) => configuration(args, file),
        None => rule_check(args),
    }
}

/// Checks a configuration; what it names is looked at when it can be read itself.
fn configuration(args: &CheckArgs, file: &Path) -> anyhow::Result<Exit> {
    let layers = prepare::layers(args.set.clone());
    let text = prepare::text(file)?;
    let named = match RunConfig::layered(file, &text, &layers) {
        Ok((config, _)) => config,
        Err(ConfigError::Run(Problems { list, text })) => {
            let files = [SourceFile::new(file.display().to_string(), text)];
            let checked = Checked { files: &files, rules: &RuleSet::default(), problems: &list };
            told(args, &checked)?;
            return Ok(Exit::Usage);
        }
        Err(error) => return Err(error.into()),
    };
    let rules = rule_check(&CheckArgs {
        paths: named.rules,
        add_rules: named.add_rules,
        site: named.site,
        config: None,
        set: Vec::new(),
        ..*args
    })?;
    if rules == Exit::Done
        && let Ok(prepared) = prepare::read(file, &layers)?
    {
        prepared.tell();
        let _ = writeln!(io::stderr().lock(), "{}: good: {}", file.display(), prepared.counted());
    }
    Ok(rules)
}

fn rule_check(args: &CheckArgs) -> anyhow::Result<Exit> {
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
    told(args, &Checked { files: &files, rules: &rules, problems: &problems })?;
    Ok(Outcome { bad_rules: failed, ..Default::default() }.exit())
}

fn told(args: &CheckArgs, checked: &Checked<'_>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match args.format {
        CheckFormat::Text => formats::text(&mut out, checked, color::wanted(&io::stdout()))?,
        CheckFormat::Json => writeln!(out, "{}", formats::json(checked))?,
        CheckFormat::Sarif => writeln!(out, "{:#}", formats::sarif(checked))?,
        CheckFormat::Github => formats::github(&mut out, checked)?,
    }
    out.flush()?;
    if args.format != CheckFormat::Text && io::stderr().is_terminal() {
        let _ = writeln!(io::stderr().lock(), "{}", formats::summary(checked));
    }
    Ok(())
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
