//! `auditwatch run`: the daemon.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;

use super::engine::{self, Engine, Settings};
use super::exit::{Exit, Outcome};
use super::http_sink::ToHttp;
use super::kafka::{self, ToKafka};
use super::{rule_files, site_file};
use crate::admin;
use crate::config::run::{
    DeadLetterConfig, Distributed, FileSource, KafkaSource, RunConfig, SinkConfig, SourceConfig, Start,
};
use crate::event::time::format_micros;
use crate::journal::Journal;
use crate::pipeline::distributed::Member;
use crate::pipeline::live::{Follow, Live, Outlets, Plan, Posts, Report, Sink, Watched};
use crate::sink::dead_letter::DeadLetter;
use crate::sink::file::AlertFile;
use crate::sink::http::body::Receiver;
use crate::sink::text::printable;
use crate::source::replay::{BLOCK_BYTES, Limits};
use crate::source::tail::StartAt;
use crate::source::webhook;
use crate::worker::Counts;

/// Follow audit logs and tell alerts as they happen.
///
/// Positions, matches and alerts are kept in one file; after a crash nothing is lost and nothing is told twice.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Configuration file (YAML).
    #[arg(short, long, value_name = "FILE", env = "AUDITWATCH_CONFIG")]
    config: PathBuf,

    /// Read what is there to its end, tell what is due, and stop.
    #[arg(long)]
    once: bool,
}

/// Runs the subcommand.
pub fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let name = args.config.display().to_string();
    let text = std::fs::read_to_string(&args.config).with_context(|| format!("configuration {name}"))?;
    let config = RunConfig::parse(&args.config, &text)?;
    let site = site_file::read(config.site.as_deref())?;
    let mut loaded = engine::load(rule_files::collect(&config.rules, &config.add_rules)?, &site);
    loaded.rules.narrow(&config.packs);
    for message in loaded.errors.iter().chain(&loaded.warnings) {
        let _ = writeln!(io::stderr().lock(), "{message}");
    }
    if !loaded.errors.is_empty() {
        return Ok(Outcome { bad_rules: true, ..Default::default() }.exit());
    }
    let follow = follow(&config)?;
    let settings = Settings { clusters: Vec::new(), site, lateness_us: config.lateness_us(), time_max: None };
    let engine = Engine::new(Arc::new(loaded.rules), settings)?;
    if let (Some(topics), [SourceConfig::Kafka(source)]) = (&config.distributed, &config.sources[..]) {
        anyhow::ensure!(!args.once, "--once: a member of many has no end; leave distributed out, or --once");
        return distributed(&config, source, topics, engine);
    }
    let core = engine.live();
    let journal = Journal::open(&config.store.path)?;
    let posts = if args.once { None } else { posts(&config)? };
    let plan = Plan {
        follow,
        posts,
        groups: kafka::groups(&config)?,
        limits: Limits { block_bytes: BLOCK_BYTES, record_bytes: config.max_record.max(RECORD_BYTES_MIN) },
        lateness_us: config.lateness_us(),
        max_skew_us: config.max_skew,
        retention_us: config.store.retention,
        once: args.once,
    };
    let stop = stop_on_signals()?;
    let watched = watched(&config, args.once)?;
    let mut log = say;
    let dead = config.dead_letter.as_ref().map(open_dead_letter).transpose()?;
    let live = Live::new(plan, core, journal, Outlets { sinks: sinks(&config)?, dead, watched }, &mut log)?;
    say("ready");
    let report = live.run(&stop)?;
    say(&told(&report));
    Ok(Outcome { lost: args.once && report.broken > 0, ..Default::default() }.exit())
}

/// Runs as a member of many.
fn distributed(config: &RunConfig, source: &KafkaSource, topics: &Distributed, engine: Engine) -> anyhow::Result<Exit> {
    if topics.state_topic.is_some() {
        say("distributed: state_topic is not used: state reaches back as far as the matches topic is kept");
    }
    let (plan, transactions) = kafka::distributed(config, source, topics)?;
    let stop = stop_on_signals()?;
    let watched = watched(config, false)?;
    let mut log = say;
    let member = Member::new(plan, engine.distributed(), transactions, watched, &mut log)?;
    say("ready");
    let report = member.run(&stop)?;
    let Counts { events, lines, .. } = report.counts;
    say(&format!(
        "{events} events in {lines} lines, {} alerts, {} transactions given up",
        report.alerts, report.aborted
    ));
    Ok(Exit::Done)
}

fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("signals")?;
    }
    Ok(stop)
}

/// Opens the admin port, if there is one.
fn watched(config: &RunConfig, once: bool) -> anyhow::Result<Watched> {
    let watched = Watched::default();
    if let Some(admin) = config.admin.as_ref().filter(|_| !once) {
        let address = admin::start(admin.listen, watched.metrics.clone(), Arc::clone(&watched.health))?;
        say(&format!("admin: listening on {address}"));
    }
    Ok(watched)
}

/// A record limit below this would cut off every event.
pub(super) const RECORD_BYTES_MIN: usize = 4096;

fn follow(config: &RunConfig) -> anyhow::Result<Vec<Follow>> {
    let follow = |source: &FileSource| {
        for path in &source.paths {
            glob::Pattern::new(path).with_context(|| format!("sources: paths: {path}"))?;
        }
        Ok(Follow {
            paths: source.paths.clone(),
            start: match source.start_at {
                Start::Beginning => StartAt::Beginning,
                Start::End => StartAt::End,
            },
            cluster: source.cluster.clone().unwrap_or_else(|| config.cluster.clone()),
            cluster_from: source.cluster_from.clone(),
        })
    };
    let files = config.sources.iter().filter_map(|source| match source {
        SourceConfig::File(file) => Some(file),
        SourceConfig::Webhook(_) | SourceConfig::Kafka(_) => None,
    });
    files.map(follow).collect()
}

/// Opens the webhook, if there is one.
fn posts(config: &RunConfig) -> anyhow::Result<Option<Posts>> {
    let found = config.sources.iter().find_map(|source| match source {
        SourceConfig::Webhook(webhook) => Some(webhook),
        SourceConfig::File(_) | SourceConfig::Kafka(_) => None,
    });
    let Some(source) = found else { return Ok(None) };
    let settings = webhook::Settings {
        listen: source.listen,
        tls: source.tls.as_ref().map(|tls| webhook::TlsFiles {
            cert: tls.cert_file.clone(),
            key: tls.key_file.clone(),
            client_ca: tls.client_ca_file.clone(),
        }),
        token_file: source.token_file.clone(),
        body_bytes_max: source.max_body,
    };
    let open = webhook::start(&settings)?;
    say(&format!("webhook: listening on {}", open.address));
    Ok(Some(Posts {
        posted: open.posted,
        answered: open.answered,
        notes: open.notes,
        name: format!("webhook:{}", source.listen),
        cluster: source.cluster.clone().unwrap_or_else(|| config.cluster.clone()),
    }))
}

fn open_dead_letter(config: &DeadLetterConfig) -> anyhow::Result<DeadLetter> {
    DeadLetter::append(&config.path, config.max_size).with_context(|| format!("dead_letter: {}", config.path.display()))
}

fn sinks(config: &RunConfig) -> anyhow::Result<Vec<Box<dyn Sink>>> {
    let mut names = BTreeSet::new();
    let open = |sink: &SinkConfig| {
        let sink: Box<dyn Sink> = match sink {
            SinkConfig::Stdout(_) => Box::new(Stdout),
            SinkConfig::File(file) => Box::new(ToFile {
                name: format!("file:{}", file.path.display()),
                file: AlertFile::new(file.path.clone()),
            }),
            SinkConfig::Webhook(http) => Box::new(ToHttp::open(http, Receiver::Webhook, say)?),
            SinkConfig::Alertmanager(http) => Box::new(ToHttp::open(http, Receiver::Alertmanager, say)?),
            SinkConfig::Slack(http) => Box::new(ToHttp::open(http, Receiver::Slack, say)?),
            SinkConfig::Kafka(kafka) => Box::new(ToKafka::open(kafka, say)?),
        };
        let name = sink.name();
        anyhow::ensure!(names.insert(name.clone()), "sinks: {name} stands there twice; give each a name of its own");
        Ok(sink)
    };
    config.sinks.iter().map(open).collect()
}

struct Stdout;

impl Sink for Stdout {
    fn name(&self) -> String {
        "stdout".to_owned()
    }

    fn send(&mut self, alerts: &[(i64, String)]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for (_, line) in alerts {
            writeln!(out, "{line}")?;
        }
        out.flush()
    }
}

struct ToFile {
    name: String,
    file: AlertFile,
}

impl Sink for ToFile {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn send(&mut self, alerts: &[(i64, String)]) -> io::Result<()> {
        self.file.append(alerts.iter().map(|(_, line)| line.as_str()))
    }
}

/// One line for people, with the time.
fn say(text: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
    let now = format_micros(now);
    let _ = writeln!(io::stderr().lock(), "{now} {}", printable(text));
}

fn told(report: &Report) -> String {
    let Report { counts, matches, alerts, late, .. } = report;
    format!(
        "{} events in {} lines ({} unreadable, {} too large, {} no audit events), {matches} matches ({late} late), {alerts} new alerts",
        counts.events, counts.lines, counts.unreadable, counts.too_large, counts.not_audit
    )
}
