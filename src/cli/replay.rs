//! `auditwatch replay`: logs in, alerts out.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Args;
use clap::builder::FalseyValueParser;

use super::engine::{self, Engine, Settings};
use super::exit::{Exit, Outcome};
use super::progress::Bar;
use super::{color, rule_files, site_file, summary};
use crate::alert::{Names, SourceName};
use crate::config::{ClusterFrom, Site, duration_us, size_bytes};
use crate::engine::matches::ClusterId;
use crate::pipeline::{self, Located, Observer, Plan, Progress, Summary};
use crate::rules::pack::Pack;
use crate::rules::{Level, RuleSet};
use crate::sink::dead_letter::DeadLetter;
use crate::sink::table::TableStyle;
use crate::sink::{Format, Output};
use crate::source::discover::{Discovery, discover, total_bytes};
use crate::source::replay::{LONE_BLOCK_BYTES, Limits, SHARED_BLOCK_BYTES};
use crate::source::{Input, InputKind};

/// More threads than this only cost.
const WORKERS_MAX: usize = 256;
/// Shortest limit for a record: lines of real logs are up to a few MB, and anything below this hides events.
const RECORD_BYTES_MIN: usize = 64 * 1024;

/// Search audit logs for attacks and mistakes, offline.
///
/// Reads audit.k8s.io JSON lines and EventLists, plain, gzip or zstd (by content), and prints alerts to standard output:
/// a table on a terminal, JSON lines otherwise. Inputs that overlap in time are read side by side as one stream, so the
/// files of three API servers give the alerts of the whole control plane, in whatever order they are named.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 alerts at or above --fail-on; 2 bad rules; 3 bad usage or configuration; 4 events were lost, or
anything was unreadable and --strict was given (the first that applies of 3, 2, 4, 1, 0).

Examples:
  auditwatch replay /var/log/kubernetes/audit
  auditwatch replay --min-level medium 'logs/*/audit*.gz' --cluster-from 'path:logs/([^/]+)/'
  kubectl logs -n kube-system kube-apiserver-0 | auditwatch replay --format json - | jq .message")]
pub struct ReplayArgs {
    /// What to read; - is standard input.
    ///
    /// A folder is read recursively: files with .log, .jsonl or .json in their names, rotated and compressed ones too.
    #[arg(value_name = "FILE|DIR|GLOB|-")]
    inputs: Vec<String>,

    /// Use these rules instead of the built-in detections.
    ///
    /// A file, or a folder whose .yml and .yaml files are read recursively. May be repeated; in the environment, paths
    /// are separated by colons.
    #[arg(long, value_name = "DIR|FILE", env = "AUDITWATCH_RULES", value_delimiter = ':')]
    rules: Vec<PathBuf>,

    /// Use these rules as well. May be repeated.
    #[arg(long, value_name = "DIR|FILE", env = "AUDITWATCH_ADD_RULES", value_delimiter = ':')]
    add_rules: Vec<PathBuf>,

    /// Only rules of these packs give alerts: core (level low and above), extended (all), pss-restricted, compliance. The
    /// others still feed correlations.
    #[arg(long, value_name = "PACK", value_parser = rule_files::packs(), value_delimiter = ',')]
    pack: Vec<Pack>,

    /// Lists of this site that rules refer to: YAML, names to lists of strings.
    ///
    /// The list trusted_proxies (addresses and networks) says whose X-Forwarded-For to believe.
    #[arg(long, value_name = "FILE", env = "AUDITWATCH_SITE")]
    site: Option<PathBuf>,

    /// Threads that match events [default: one per CPU]. The alerts do not depend on it.
    #[arg(long, value_name = "N", env = "AUDITWATCH_WORKERS")]
    workers: Option<NonZeroUsize>,

    /// How far out of order events may be and still count in windows.
    #[arg(long, value_name = "DURATION", env = "AUDITWATCH_LATENESS", default_value = "10s", value_parser = duration_us)]
    lateness: i64,

    /// Shape of the alerts [default: table on a terminal, else json].
    #[arg(long, value_name = "FORMAT", env = "AUDITWATCH_FORMAT")]
    format: Option<FormatArg>,

    /// Print only alerts of this level and above.
    #[arg(long, value_name = "LEVEL", env = "AUDITWATCH_MIN_LEVEL", default_value = "informational")]
    min_level: LevelArg,

    /// Exit with 1 if there is an alert of this level or above.
    #[arg(long, value_name = "LEVEL", env = "AUDITWATCH_FAIL_ON")]
    fail_on: Option<LevelArg>,

    /// Exit with 4 if anything was unreadable, too large or cut off.
    #[arg(long, env = "AUDITWATCH_STRICT", value_parser = FalseyValueParser::new())]
    strict: bool,

    /// Name of the cluster the logs come from.
    #[arg(long, value_name = "NAME", env = "AUDITWATCH_CLUSTER", default_value = "")]
    cluster: String,

    /// Find the cluster in an input's path: the first group of the expression, or what it matches.
    ///
    /// Inputs without a match belong to --cluster. Clusters never mix in windows.
    #[arg(long, value_name = "path:REGEX", env = "AUDITWATCH_CLUSTER_FROM", value_parser = ClusterFrom::parse)]
    cluster_from: Option<ClusterFrom>,

    /// Events later than now plus this are taken for ones with a wrong clock; 0 is off.
    #[arg(long, value_name = "DURATION", env = "AUDITWATCH_MAX_SKEW", default_value = "0", value_parser = duration_us)]
    max_skew: i64,

    /// Longest line (or document over several lines) that is read; longer ones are counted and passed over.
    #[arg(long, value_name = "SIZE", env = "AUDITWATCH_MAX_RECORD", default_value = "16MiB", value_parser = size_bytes)]
    max_record: usize,

    /// Write counts and the places of unreadable lines to this file, as one JSON object.
    #[arg(long, value_name = "FILE", env = "AUDITWATCH_STATS")]
    stats: Option<PathBuf>,

    /// Write unreadable documents to this file, raw, one JSON object a line. It may hold secrets; its mode is 0600.
    #[arg(long, value_name = "FILE", env = "AUDITWATCH_DEAD_LETTER")]
    dead_letter: Option<PathBuf>,

    /// Show no progress bar.
    #[arg(long, env = "AUDITWATCH_NO_PROGRESS", value_parser = FalseyValueParser::new())]
    no_progress: bool,

    /// Say more at the end: every unreadable line and every skipped file.
    #[arg(short, long, env = "AUDITWATCH_VERBOSE", value_parser = FalseyValueParser::new(), conflicts_with = "quiet")]
    verbose: bool,

    /// Say nothing on standard error but errors.
    #[arg(short, long, env = "AUDITWATCH_QUIET", value_parser = FalseyValueParser::new())]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum FormatArg {
    /// Readable columns.
    Table,
    /// auditwatch's own JSON lines.
    Json,
    /// OCSF Detection Finding, JSON lines.
    Ocsf,
    /// Elastic Common Schema, JSON lines.
    Ecs,
    /// Falco's JSON output.
    Falco,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum LevelArg {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl From<LevelArg> for Level {
    fn from(level: LevelArg) -> Level {
        match level {
            LevelArg::Informational => Level::Informational,
            LevelArg::Low => Level::Low,
            LevelArg::Medium => Level::Medium,
            LevelArg::High => Level::High,
            LevelArg::Critical => Level::Critical,
        }
    }
}

/// Runs the subcommand. Whatever can be wrong with what was typed is found before the first byte is read.
pub fn run(args: ReplayArgs) -> anyhow::Result<Exit> {
    let found = discover(&args.inputs)?;
    let site = site_file::read(args.site.as_deref())?;
    let files = rule_files::collect(&args.rules, &args.add_rules)?;
    let dead = args
        .dead_letter
        .as_ref()
        .map(|path| DeadLetter::create(path).with_context(|| format!("--dead-letter {}", path.display())));
    let dead = dead.transpose()?;
    let stats =
        args.stats.as_ref().map(|path| File::create(path).with_context(|| format!("--stats {}", path.display())));
    let stats = stats.transpose()?;
    let mut loaded = engine::load(files, &site);
    loaded.rules.narrow(&args.pack);
    let shown = if args.quiet { &[][..] } else { &loaded.warnings[..] };
    for message in loaded.errors.iter().chain(shown) {
        let _ = writeln!(io::stderr().lock(), "{message}");
    }
    if !loaded.errors.is_empty() {
        return Ok(Outcome { bad_rules: true, ..Default::default() }.exit());
    }
    let rules = Arc::new(loaded.rules);
    let summary = analyze(&args, &found, site, rules.clone(), dead)?;
    if let Some(mut file) = stats {
        writeln!(file, "{}", summary.to_json(&rules)).context("--stats: cannot write")?;
    }
    if !args.quiet {
        let _ = summary::write(&mut io::stderr().lock(), &summary, &rules, &found.skipped, args.verbose);
    }
    let fail_on = args.fail_on.map(Level::from);
    Ok(Outcome {
        lost: summary.lost > 0 || args.strict && summary.incomplete(),
        alerts: fail_on.is_some_and(|level| summary.alerts.worst >= Some(level)),
        ..Default::default()
    }
    .exit())
}

fn analyze(
    args: &ReplayArgs,
    found: &Discovery,
    site: Site,
    rules: Arc<RuleSet>,
    dead: Option<DeadLetter>,
) -> anyhow::Result<Summary> {
    let (inputs, clusters) = with_clusters(&found.inputs, &args.cluster, args.cluster_from.as_ref());
    let sources: Vec<SourceName> = found.inputs.iter().map(source_name).collect();
    let time_max = time_max(args.max_skew);
    let settings = Settings { clusters, site, lateness_us: args.lateness, time_max };
    let clusters = settings.clusters.clone();
    let engine = Engine::new(rules.clone(), settings)?;
    let progress = io::stderr().is_terminal() && !args.no_progress && !args.quiet;
    let bar = Bar::new(if progress { total_bytes(&found.inputs) } else { None }, progress);
    let names = Names { rules: &rules, clusters: &clusters, sources: &sources };
    let writer = Box::new(bar.writer(io::stdout()));
    let mut output = Output::new(names, format(args.format), args.min_level.into(), writer);
    let workers = args.workers.or_else(|| std::thread::available_parallelism().ok());
    let workers = workers.map_or(1, NonZeroUsize::get).min(WORKERS_MAX);
    let block_bytes = if workers == 1 { LONE_BLOCK_BYTES } else { SHARED_BLOCK_BYTES };
    let plan = Plan {
        inputs,
        workers,
        limits: Limits { block_bytes, record_bytes: args.max_record.max(RECORD_BYTES_MIN) },
        time_max,
    };
    let mut people = People { bar, dead };
    let mut windows = engine.windows();
    let result = pipeline::replay(plan, || engine.worker(), windows.as_mut(), &mut output, &mut people);
    people.bar.finish();
    // The process is about to end: what takes time to be freed is left to the system.
    std::mem::forget((windows, engine));
    let summary = result?;
    if let Some(mut dead) = people.dead {
        dead.flush().context("--dead-letter: cannot write")?;
    }
    Ok(summary)
}

/// The progress bar and the dead letter.
struct People {
    bar: Bar,
    dead: Option<DeadLetter>,
}

impl Observer for People {
    fn progress(&mut self, progress: Progress) {
        self.bar.update(progress);
    }

    fn dead_letter(&mut self, input: &str, at: &Located, raw: Option<&[u8]>) -> io::Result<()> {
        self.dead.as_mut().map_or(Ok(()), |dead| dead.write(input, Some(at.line), at.offset, &at.why, raw))
    }
}

fn source_name(input: &Input) -> SourceName {
    let kind = match input.kind {
        InputKind::Stdin => "stdin",
        InputKind::Path(_) => "file",
    };
    SourceName { kind, name: input.name.clone() }
}

/// Numbers the clusters in the order in which inputs name them.
fn with_clusters(
    inputs: &[Input],
    cluster: &str,
    from: Option<&ClusterFrom>,
) -> (Vec<(Input, ClusterId)>, Vec<String>) {
    let mut names: Vec<String> = Vec::new();
    let mut ids: HashMap<String, ClusterId> = HashMap::new();
    let numbered = inputs.iter().map(|input| {
        let name = from.and_then(|from| from.find(&input.name)).unwrap_or(cluster);
        let id = *ids.entry(name.to_owned()).or_insert_with(|| {
            names.push(name.to_owned());
            (names.len() - 1) as ClusterId
        });
        (input.clone(), id)
    });
    (numbered.collect(), names)
}

/// The latest event time that is believed, microseconds.
fn time_max(max_skew_us: i64) -> Option<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_micros() as i64;
    (max_skew_us > 0).then(|| now.saturating_add(max_skew_us))
}

fn format(wanted: Option<FormatArg>) -> Format {
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    match wanted {
        Some(FormatArg::Json) => Format::Json,
        Some(FormatArg::Ocsf) => Format::Ocsf,
        Some(FormatArg::Ecs) => Format::Ecs,
        Some(FormatArg::Falco) => Format::Falco,
        None if !terminal => Format::Json,
        Some(FormatArg::Table) | None => {
            let size = if terminal { terminal_size::terminal_size_of(&stdout) } else { None };
            let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
            let width = size.map(|(width, _)| width.0.into()).or(columns).unwrap_or(TableStyle::WIDTH_DEFAULT);
            Format::Table(TableStyle { width, color: color::wanted(&stdout) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_of_one_cluster_share_its_number() {
        let inputs: Vec<_> = ["logs/b/1.log", "logs/a/1.log", "other.log", "logs/b/2.log"].map(Input::path).into();
        let from = ClusterFrom::parse("path:logs/([^/]+)/").unwrap();
        let (numbered, names) = with_clusters(&inputs, "dflt", Some(&from));
        assert_eq!(numbered.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [0, 1, 2, 0]);
        assert_eq!(names, ["b", "a", "dflt"]);
        assert_eq!(with_clusters(&inputs, "", None).1, [""]);
    }

    #[test]
    fn skew_is_off_in_a_replay_unless_asked_for() {
        assert_eq!(time_max(0), None);
        assert!(time_max(1).is_some());
    }
}
