//! `auditwatch explain`: why a rule did or did not match.

mod correlation;

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use super::exit::Exit;
use super::{rule_files, site_file};
use crate::engine::condition::Verdict;
use crate::engine::explain::{Part, explain};
use crate::event::Stage;
use crate::event::redact;
use crate::event::site::Site;
use crate::event::time::format_micros;
use crate::event::view::Event;
use crate::normalize::{self, Context, Place, ProblemKind, Scratch, Sink};
use crate::rules::{self, Meta, Rule, RuleSet, SourceFile, suggest};
use crate::sink::text::printable;
use crate::source::{InputKind, decode};

/// Explain why a rule did or did not match.
///
/// The condition is told as a tree: each part with its verdict (+ holds, - does not, ? cannot be told, because a body was
/// not logged) and the values that were found. Without a line, the events that come closest are explained. For a
/// correlation, the matches it reads are told in event order with their groups, and what fired.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 it matched or fired; 1 it did not; 2 bad rules; 3 bad usage.

Examples:
  auditwatch explain --rule SEC-002 audit.log:17
  auditwatch explain --rule 'Secrets listed' audit.log.gz
  auditwatch explain --rule my_rule --add-rules my-rules/ audit.log --format json")]
pub struct ExplainArgs {
    /// The rule or correlation: its id, `ref`, name or title.
    #[arg(long, value_name = "RULE")]
    rule: String,

    /// A log, and the line of it to explain.
    #[arg(value_name = "FILE[:LINE]")]
    log: String,

    /// Use these rules instead of the built-in detections. May be repeated.
    #[arg(long, value_name = "DIR|FILE", env = "AUDITWATCH_RULES", value_delimiter = ':')]
    rules: Vec<PathBuf>,

    /// Use these rules as well. May be repeated.
    #[arg(long, value_name = "DIR|FILE", env = "AUDITWATCH_ADD_RULES", value_delimiter = ':')]
    add_rules: Vec<PathBuf>,

    /// Lists of this site that rules refer to: YAML, names to lists of strings.
    #[arg(long, value_name = "FILE", env = "AUDITWATCH_SITE")]
    site: Option<PathBuf>,

    /// Explain at most so many events.
    #[arg(long, value_name = "N", default_value_t = 3)]
    limit: usize,

    /// Shape of the output.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: ExplainFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ExplainFormat {
    /// A tree, for people.
    Text,
    /// One JSON object.
    Json,
}

/// A log is read whole; more than this is for `replay`.
const LOG_BYTES_MAX: u64 = 512 << 20;

/// Runs the subcommand.
pub fn run(args: &ExplainArgs) -> anyhow::Result<Exit> {
    let site = site_file::read(args.site.as_deref())?;
    let files = rule_files::collect(&args.rules, &args.add_rules)?;
    let files: Vec<SourceFile> = files
        .into_iter()
        .map(|file| SourceFile { name: file.name, text: file.text, documents: file.documents })
        .collect();
    let (set, problems) = rules::load(&files, &site.lists);
    let facts = Site { trusted_proxies: site.trusted_proxies };
    let (name, line) = place(&args.log);
    let mut out = io::stdout().lock();
    if let Some(index) = set.correlations.iter().position(|one| is_named(&one.meta, &args.rule)) {
        if let Some(line) = line {
            bail!("a correlation is explained over a whole log: leave out `:{line}`");
        }
        let log = read(&name)?;
        let told = correlation::tell(Arc::new(set), index, log, facts)?;
        match args.format {
            ExplainFormat::Text => told.text(&mut out)?,
            ExplainFormat::Json => writeln!(out, "{:#}", told.json())?,
        }
        return Ok(if told.fired() { Exit::Done } else { Exit::Alerts });
    }
    let Some(rule) = set.rules.iter().find(|rule| is_named(&rule.meta, &args.rule)) else {
        if let Some(problem) = problems.first() {
            let text = files.iter().find(|file| file.name == problem.file).map(|file| file.text.as_str());
            let _ = writeln!(io::stderr().lock(), "{}", problem.render(text));
        }
        bail!("--rule: {}", unknown(&set, &args.rule));
    };
    let log = read(&name)?;
    let mut found = Found { rule, line, events: Vec::new(), judged: 0, held: 0 };
    let context = Context { site: &facts, cluster: "" };
    normalize::scan(&log, context, &mut Scratch::default(), &mut found);
    if found.judged == 0 {
        bail!("{}: there is no audit event{}", name, line.map_or(String::new(), |line| format!(" on line {line}")));
    }
    let told = found.closest(args.limit);
    match args.format {
        ExplainFormat::Text => text(&mut out, &name, &found, told)?,
        ExplainFormat::Json => writeln!(out, "{:#}", as_json(&name, &found, told))?,
    }
    out.flush()?;
    Ok(if found.held > 0 { Exit::Done } else { Exit::Alerts })
}

/// A log's name and the line in it. A file whose name ends so is a file.
fn place(log: &str) -> (String, Option<u64>) {
    let split = log.rsplit_once(':').and_then(|(name, line)| Some((name.to_owned(), line.parse().ok()?)));
    match split {
        Some((name, line)) if !Path::new(log).exists() => (name, Some(line)),
        _ => (log.to_owned(), None),
    }
}

fn read(name: &str) -> anyhow::Result<Vec<u8>> {
    let path = PathBuf::from(name);
    fs::metadata(&path).with_context(|| name.to_owned())?;
    let opened = decode::open(&InputKind::Path(path), &Arc::new(AtomicU64::new(0))).with_context(|| name.to_owned())?;
    let mut log = Vec::new();
    opened.reader.take(LOG_BYTES_MAX + 1).read_to_end(&mut log).with_context(|| name.to_owned())?;
    if log.len() as u64 > LOG_BYTES_MAX {
        bail!("{name}: larger than {} MiB; cut out the part to explain", LOG_BYTES_MAX >> 20);
    }
    Ok(log)
}

fn is_named(meta: &Meta, name: &str) -> bool {
    let also = [meta.reference.as_deref(), meta.name.as_deref()];
    meta.id == name || meta.title.eq_ignore_ascii_case(name) || also.contains(&Some(name))
}

fn unknown(set: &RuleSet, name: &str) -> String {
    let metas = set.rules.iter().map(|rule| &rule.meta).chain(set.correlations.iter().map(|one| &one.meta));
    let names = metas.flat_map(|meta| {
        [Some(meta.id.as_str()), meta.reference.as_deref(), meta.name.as_deref(), Some(meta.title.as_str())]
    });
    match suggest(name, names.flatten()) {
        Some(near) => format!("no rule is called `{name}`; did you mean `{near}`?"),
        None => format!("no rule has the id, ref, name or title `{name}`"),
    }
}

/// An event with its explanation.
struct Explained {
    line: u64,
    what: String,
    /// Why the rule is not judged at this stage at all.
    skipped: Option<&'static str>,
    part: Part,
}

/// What a scan of the log found.
struct Found<'a> {
    rule: &'a Rule,
    /// The only line wanted.
    line: Option<u64>,
    /// What came closest so far.
    events: Vec<Explained>,
    judged: u64,
    held: u64,
}

impl Found<'_> {
    /// The events that come closest, the closest first, else in the order of the log.
    fn closest(&mut self, limit: usize) -> Vec<Explained> {
        self.events.sort_by_key(|event| (std::cmp::Reverse(closeness(event)), event.line));
        self.events.truncate(limit);
        std::mem::take(&mut self.events)
    }
}

/// Held before unknown before false, then by how many tests held.
fn closeness(event: &Explained) -> (u8, usize) {
    let rank = match (event.skipped, event.part.verdict) {
        (None, Some(Verdict::True)) => 2,
        (None, Some(Verdict::Unknown)) => 1,
        _ => 0,
    };
    let (held, all) = event.part.tally();
    (rank, held * 1000 / all.max(1))
}

/// Events kept while the log is read; what is further away than these is forgotten.
const KEPT_MAX: usize = 1000;

impl Sink for Found<'_> {
    fn event(&mut self, event: &Event<'_>, place: Place) {
        if self.line.is_some_and(|line| line != place.line + 1) {
            return;
        }
        self.judged += 1;
        // The rule was compiled when it was read, so its parts can be.
        let Ok(part) = explain(&self.rule.condition, event) else { return };
        let skipped = match (self.rule.names_stage, event.stage(), event.code()) {
            (false, Stage::RequestReceived, _) => Some("the rule names no stage, and this one has no outcome yet"),
            (false, _, None) => Some("the rule names no stage, and this event has no status"),
            _ => None,
        };
        self.held += u64::from(skipped.is_none() && part.verdict == Some(Verdict::True));
        self.events.push(Explained { line: place.line + 1, what: deed(event), skipped, part });
        if self.events.len() >= 2 * KEPT_MAX {
            let closest = self.closest(KEPT_MAX);
            self.events = closest;
        }
    }

    fn problem(&mut self, _: ProblemKind, _: Place, _: String) {}

    fn not_audit(&mut self, _: Place) {}
}

fn deed(event: &Event<'_>) -> String {
    let time = event.time().map(format_micros).unwrap_or_default();
    let shown = |text: Option<&str>| redact::text(text.unwrap_or("-")).into_owned();
    let (user, verb) = (shown(event.actor_username()), shown(event.verb()));
    let resource = shown(event.resource().or(event.uri()));
    let code = event.code().map_or(String::new(), |code| format!(" ({code})"));
    format!("{time} {user} {verb} {resource}{code}")
}

fn verdict_name(verdict: Option<Verdict>) -> Value {
    verdict.map_or(Value::Null, |verdict| match verdict {
        Verdict::True => true.into(),
        Verdict::False => false.into(),
        Verdict::Unknown => "unknown".into(),
    })
}

fn text(out: &mut dyn Write, name: &str, found: &Found<'_>, told: Vec<Explained>) -> io::Result<()> {
    let meta = &found.rule.meta;
    writeln!(out, "{} ({}:{})", printable(&meta.title), printable(&meta.file), meta.span.line)?;
    writeln!(out, "holds for {} of {} events", found.held, found.judged)?;
    for event in told {
        writeln!(out, "\n{}:{}: {}", printable(name), event.line, printable(&event.what))?;
        if let Some(why) = event.skipped {
            writeln!(out, "  not judged here: {why}")?;
        }
        tree(out, &event.part, 1)?;
    }
    Ok(())
}

fn tree(out: &mut dyn Write, part: &Part, depth: usize) -> io::Result<()> {
    let mark = match part.verdict {
        Some(Verdict::True) => '+',
        Some(Verdict::False) => '-',
        Some(Verdict::Unknown) => '?',
        None => '·',
    };
    write!(out, "{:indent$}{mark} {}", "", printable(&part.what), indent = depth * 2)?;
    if let Some(values) = &part.values {
        match values.is_empty() {
            true => write!(out, "   found: nothing")?,
            false => write!(out, "   found: {}", printable(&values.join(", ")))?,
        }
        if part.more > 0 {
            write!(out, " and {} more", part.more)?;
        }
    }
    if part.span.line > 0 {
        write!(out, "   [line {}]", part.span.line)?;
    }
    writeln!(out)?;
    part.parts.iter().try_for_each(|part| tree(out, part, depth + 1))
}

fn as_json(name: &str, found: &Found<'_>, told: Vec<Explained>) -> Value {
    let meta = &found.rule.meta;
    let events: Vec<Value> = told
        .iter()
        .map(|event| {
            json!({
                "file": name, "line": event.line, "event": event.what, "not_judged": event.skipped,
                "holds": verdict_name(event.part.verdict), "condition": part_json(&event.part),
            })
        })
        .collect();
    json!({
        "rule": {"id": meta.id, "title": meta.title, "file": meta.file, "line": meta.span.line},
        "events": found.judged, "held": found.held, "explained": events,
    })
}

fn part_json(part: &Part) -> Value {
    let parts: Vec<Value> = part.parts.iter().map(part_json).collect();
    json!({
        "what": part.what, "holds": verdict_name(part.verdict), "found": part.values, "more": part.more,
        "line": part.span.line, "column": part.span.column, "parts": parts,
    })
}
