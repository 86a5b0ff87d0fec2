//! `auditwatch run`: the daemon.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;

use super::engine::Engine;
use super::exit::{Exit, Outcome};
use super::kafka;
use super::log::Say;
use super::prepare::{self, Prepared};
use super::reload;
use crate::admin;
use crate::config::layers::Layers;
use crate::config::run::{
    DeadLetterConfig, Distributed, FILE_LATENESS_US, FileSource, KafkaSource, LogFormat, RunConfig, SourceConfig,
    Start, WEBHOOK_LATENESS_US, WebhookSource,
};
use crate::journal::Journal;
use crate::pipeline::distributed::Member;
use crate::pipeline::live::{Follow, Live, Outlets, Plan, Posts, Report, Watched};
use crate::sink::dead_letter::DeadLetter;
use crate::source::replay::{BLOCK_BYTES, Limits};
use crate::source::tail::StartAt;
use crate::source::webhook;
use crate::worker::Counts;

/// Follow audit logs and tell alerts as they happen.
///
/// Positions, matches and alerts are kept in one file; after a crash nothing is lost and nothing is told twice. Every key of
/// the configuration can be said by a flag (--set) and in the environment (AUDITWATCH_STORE_PATH for store.path) as well;
/// a flag wins over the environment, which wins over the file. docs/configuration.md tells all keys.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
SIGHUP reads rules, site, sinks, routes, silences and overrides again, as a change of their files does.

Examples:
  auditwatch run -c auditwatch.yaml
  auditwatch run -c auditwatch.yaml --set lateness=30s --set sinks.0.url=https://hooks.example/audit
  AUDITWATCH_STORE_PATH=/var/lib/auditwatch/state.db auditwatch run -c auditwatch.yaml")]
pub struct RunArgs {
    /// Configuration file (YAML).
    #[arg(short, long, value_name = "FILE", env = "AUDITWATCH_CONFIG")]
    pub(super) config: PathBuf,

    /// Say a key of the configuration here: keys within others and numbers of items after dots, the value as YAML. May be
    /// repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,

    /// The shape of what is said on standard error.
    #[arg(long, value_name = "FORMAT")]
    pub(super) log_format: Option<LogFormat>,

    /// Read what is there to its end, tell what is due, and stop.
    #[arg(long)]
    once: bool,
}

impl RunArgs {
    /// What flags and the environment say of the configuration.
    pub(super) fn layers(&self) -> Layers {
        let mut flags = self.set.clone();
        flags.extend(self.log_format.map(|format| match format {
            LogFormat::Text => "log_format=text".to_owned(),
            LogFormat::Json => "log_format=json".to_owned(),
        }));
        prepare::layers(flags)
    }
}

/// Runs the subcommand.
pub fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    // From now on, so that a signal that comes early ends nothing.
    let hangup = reload::hangup()?;
    let prepared = match prepare::read(&args.config, &args.layers())? {
        Ok(prepared) => prepared,
        Err(rules) => {
            rules.tell();
            return Ok(Outcome { bad_rules: true, ..Default::default() }.exit());
        }
    };
    let say = prepared.say;
    prepared.tell();
    let Prepared { config, told, engine, sinks, .. } = prepared;
    let follow = follow(&config)?;
    if let (Some(topics), [SourceConfig::Kafka(source)]) = (&config.distributed, &config.sources[..]) {
        anyhow::ensure!(!args.once, "--once: a member of many has no end; leave distributed out, or --once");
        return distributed(&config, source, topics, engine, say);
    }
    let core = engine.live();
    let journal = Journal::open(&config.store.path)?;
    let posts = if args.once { Vec::new() } else { posts(&config, say)? };
    let watched = Watched::default();
    let reloads =
        (!args.once).then(|| reload::watch(args.clone(), &config, told, hangup, watched.metrics.clone(), say));
    let plan = Plan {
        follow,
        posts,
        groups: kafka::groups(&config)?,
        limits: Limits { block_bytes: BLOCK_BYTES, record_bytes: config.record_bytes_max() },
        lateness_max_us: config.lateness_max_us(),
        max_skew_us: config.max_skew.0,
        retention_us: config.store.retention.0,
        once: args.once,
        reloads: reloads.transpose()?,
    };
    let stop = stop_on_signals()?;
    tell_admin(&config, &watched, args.once, say)?;
    let mut log = |grade, text: &str| say.graded(grade, text);
    let dead = config.dead_letter.as_ref().map(open_dead_letter).transpose()?;
    let live = Live::new(plan, core, journal, Outlets { sinks, dead, watched }, &mut log)?;
    say.info("ready");
    let report = live.run(&stop)?;
    say.info(&summary(&report));
    Ok(Outcome { lost: args.once && report.broken > 0, ..Default::default() }.exit())
}

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
            cluster: config.cluster_of(source.cluster.as_ref()),
            cluster_from: source.cluster_from.clone(),
            lateness_us: config.lateness_us(source.lateness, FILE_LATENESS_US),
        })
    };
    let files = config.sources.iter().filter_map(|source| match source {
        SourceConfig::File(file) => Some(file),
        SourceConfig::Webhook(_) | SourceConfig::Kafka(_) => None,
    });
    files.map(follow).collect()
}

/// Opens the webhooks.
fn posts(config: &RunConfig, say: Say) -> anyhow::Result<Vec<Posts>> {
    let webhooks = config.sources.iter().filter_map(|source| match source {
        SourceConfig::Webhook(webhook) => Some(webhook),
        SourceConfig::File(_) | SourceConfig::Kafka(_) => None,
    });
    webhooks.map(|source| open_webhook(source, config, say)).collect()
}

fn open_webhook(source: &WebhookSource, config: &RunConfig, say: Say) -> anyhow::Result<Posts> {
    let settings = webhook::Settings {
        listen: source.listen,
        tls: source.tls.as_ref().map(|tls| webhook::TlsFiles {
            cert: tls.cert_file.clone(),
            key: tls.key_file.clone(),
            client_ca: tls.client_ca_file.clone(),
        }),
        token_file: source.token_file.clone(),
        body_bytes_max: source.max_body.0,
        patience: Duration::from_micros(source.timeout.0.max(1) as u64),
    };
    let open = webhook::start(&settings)?;
    say.info(&format!("webhook: listening on {}", open.address));
    Ok(Posts {
        posted: open.posted,
        answered: open.answered,
        notes: open.notes,
        name: format!("webhook:{}", source.listen),
        cluster: config.cluster_of(source.cluster.as_ref()),
        lateness_us: config.lateness_us(source.lateness, WEBHOOK_LATENESS_US),
    })
}

fn open_dead_letter(config: &DeadLetterConfig) -> anyhow::Result<DeadLetter> {
    DeadLetter::append(&config.path, config.max_size.0)
        .with_context(|| format!("dead_letter: {}", config.path.display()))
}

/// Runs a member of many.
fn distributed(
    config: &RunConfig,
    source: &KafkaSource,
    topics: &Distributed,
    engine: Engine,
    say: Say,
) -> anyhow::Result<Exit> {
    let (plan, transactions) = kafka::distributed(config, source, topics)?;
    let stop = stop_on_signals()?;
    let watched = Watched::default();
    tell_admin(config, &watched, false, say)?;
    let mut log = |grade, text: &str| say.graded(grade, text);
    let member = Member::new(plan, engine.distributed(), transactions, watched, &mut log)?;
    say.info("ready");
    let report = member.run(&stop)?;
    let Counts { events, lines, .. } = report.counts;
    say.info(&format!(
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

fn tell_admin(config: &RunConfig, watched: &Watched, once: bool, say: Say) -> anyhow::Result<()> {
    if let Some(admin) = config.admin.as_ref().filter(|_| !once) {
        let address = admin::start(admin.listen, watched.metrics.clone(), Arc::clone(&watched.health))?;
        say.info(&format!("admin: listening on {address}"));
    }
    Ok(())
}

fn summary(report: &Report) -> String {
    let Report { counts, matches, alerts, late, .. } = report;
    format!(
        "{} events in {} lines ({} unreadable, {} too large, {} no audit events), {matches} matches ({late} late), {alerts} new alerts",
        counts.events, counts.lines, counts.unreadable, counts.too_large, counts.not_audit
    )
}
