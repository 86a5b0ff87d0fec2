//! Kafka as the configuration names it, with its secrets; and `auditwatch kafka`.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;

use super::exit::Exit;
use super::log::Say;
use crate::config::run::{
    AlertKey, Distributed, FILE_LATENESS_US, KafkaClient, KafkaClusterFrom, KafkaSink, KafkaSource, RunConfig,
    SinkKind, SourceConfig, Start,
};
use crate::engine::window;
use crate::kafka::Connection;
use crate::kafka::topics::{self, Made, Topic};
use crate::kafka::transactions::Transactions;
use crate::pipeline::distributed;
use crate::pipeline::live::{Group, Sink};
use crate::sink::kafka::{AlertTopic, DeadTopic, Key};
use crate::source::kafka::{Consumer, Settings, StartAt};

/// Kafka: the topics that a configuration needs.
#[derive(Debug, clap::Args)]
pub struct KafkaArgs {
    #[command(subcommand)]
    command: KafkaCommand,
}

#[derive(Debug, clap::Subcommand)]
enum KafkaCommand {
    Topics(TopicsArgs),
}

/// Print the topics that a configuration needs, as arguments of kafka-topics.sh, or create those that are not there.
#[derive(Debug, clap::Args)]
struct TopicsArgs {
    /// Configuration file (YAML).
    #[arg(short, long, value_name = "FILE", env = "AUDITWATCH_CONFIG")]
    config: PathBuf,

    /// Create the topics that are not there; others stay as they are.
    #[arg(long)]
    create: bool,

    /// Partitions of the topics with events.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    partitions: i32,

    /// Partitions of the matches topic (distributed): for good, so rather more than there will be members.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    matches_partitions: i32,

    /// Brokers that hold each record.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=100))]
    replication: i32,
}

/// How long events, alerts and dead letters are kept, days.
const EVENTS_DAYS: u64 = 7;
const ALERTS_DAYS: u64 = 30;
/// What an owner folds when it takes a partition over: the greatest reach, and a day more.
const MATCHES_DAYS: u64 = 2;
const DEAD_DAYS: u64 = 14;

/// Runs the subcommand.
pub fn run(args: &KafkaArgs) -> anyhow::Result<Exit> {
    let KafkaCommand::Topics(args) = &args.command;
    let name = args.config.display().to_string();
    let text = std::fs::read_to_string(&args.config).with_context(|| format!("configuration {name}"))?;
    let config = RunConfig::parse(&args.config, &text)?;
    let mut out = io::stdout().lock();
    for (connection, topics) in wanted(&config, args)? {
        let brokers = &connection.brokers;
        if !args.create {
            for topic in &topics {
                writeln!(out, "# {}", topic.purpose)?;
                writeln!(out, "kafka-topics.sh --bootstrap-server {brokers} --create --if-not-exists {topic}")?;
            }
            continue;
        }
        for (topic, made) in topics.iter().zip(topics::create(&connection, &topics)?) {
            match made {
                Made::Created => writeln!(out, "{}: created", topic.name)?,
                Made::Found => writeln!(out, "{}: is there, and stays as it is", topic.name)?,
            }
        }
    }
    Ok(Exit::Done)
}

/// The topics that are named, by where they are. A regular expression names none.
fn wanted(config: &RunConfig, args: &TopicsArgs) -> anyhow::Result<Vec<(Connection, Vec<Topic>)>> {
    let mut all: Vec<(Connection, Vec<Topic>)> = Vec::new();
    let mut add = |connection: Connection, topic: Topic| {
        let known = all.iter().position(|(known, _)| *known == connection).unwrap_or_else(|| {
            all.push((connection, Vec::new()));
            all.len() - 1
        });
        if !all[known].1.iter().any(|have| have.name == topic.name) {
            all[known].1.push(topic);
        }
    };
    let kept =
        |name: &str, purpose, partitions, days| Topic::kept_for(name, purpose, partitions, args.replication, days);
    for source in &config.sources {
        let SourceConfig::Kafka(source) = source else { continue };
        let connection = connection(&source.client)?;
        for name in source.topics.iter().filter(|name| !name.starts_with('^')) {
            add(connection.clone(), kept(name, "audit events", args.partitions, EVENTS_DAYS));
        }
        if let Some(name) = &source.dead_letter_topic {
            add(connection.clone(), kept(name, "records that could not be read, raw", 1, DEAD_DAYS));
        }
    }
    for sink in &config.sinks {
        let SinkKind::Kafka(sink) = &sink.kind else { continue };
        add(connection(&sink.client)?, kept(&sink.topic, "alerts", 1, ALERTS_DAYS));
    }
    if let (Some(distributed), [SourceConfig::Kafka(source)]) = (&config.distributed, &config.sources[..]) {
        let connection = connection(&source.client)?;
        let matches = kept(&distributed.matches_topic, "matches", args.matches_partitions, MATCHES_DAYS);
        add(connection.clone(), matches);
        add(connection, kept(&distributed.alerts_topic, "alerts", 1, ALERTS_DAYS));
    }
    anyhow::ensure!(!all.is_empty(), "{}: it names no topics of Kafka", args.config.display());
    Ok(all)
}

/// The groups to read with.
pub(super) fn groups(config: &RunConfig) -> anyhow::Result<Vec<Group>> {
    let sources = config.sources.iter().filter_map(|source| match source {
        SourceConfig::Kafka(source) => Some(source),
        _ => None,
    });
    sources.map(|source| group(config, source)).collect()
}

fn group(config: &RunConfig, source: &KafkaSource) -> anyhow::Result<Group> {
    let settings = settings(config, source)?;
    let dead =
        source.dead_letter_topic.as_ref().map(|topic| DeadTopic::new(&settings.connection, topic)).transpose()?;
    Ok(Group {
        consumer: Consumer::new(settings)?,
        cluster: config.cluster_of(source.cluster.as_ref()),
        cluster_is_topic: source.cluster_from == Some(KafkaClusterFrom::Topic),
        lateness_us: config.lateness_us(source.lateness, FILE_LATENESS_US),
        dead,
    })
}

/// How a source is read.
fn settings(config: &RunConfig, source: &KafkaSource) -> anyhow::Result<Settings> {
    Ok(Settings {
        connection: connection(&source.client)?,
        topics: source.topics.clone(),
        group: source.group.clone(),
        start: match source.start_at {
            Start::Beginning => StartAt::Beginning,
            Start::End => StartAt::End,
        },
        record_bytes: config.record_bytes_max(),
        whole: None,
        cluster_header: match &source.cluster_from {
            Some(KafkaClusterFrom::Header(name)) => Some(name.clone()),
            _ => None,
        },
    })
}

/// What a member of many does, and the producer of its transactions.
pub(super) fn distributed(
    config: &RunConfig,
    source: &KafkaSource,
    topics: &Distributed,
) -> anyhow::Result<(distributed::Plan, Transactions)> {
    let mut settings = settings(config, source)?;
    let id = format!("{}-{:016x}", source.group, RandomState::new().hash_one(std::process::id()));
    let transactions = Transactions::new(&settings.connection, &id)?;
    // Partitions of a member that was killed are to be served again within 15 s.
    settings.connection.options.entry("session.timeout.ms".to_owned()).or_insert("6000".to_owned());
    settings.topics.push(topics.matches_topic.clone());
    settings.whole = Some(topics.matches_topic.clone());
    let windows = window::Settings {
        lateness_us: config.lateness_us(source.lateness, FILE_LATENESS_US),
        ..window::Settings::default()
    };
    let plan = distributed::Plan {
        consumer: Consumer::new(settings)?,
        matches_topic: topics.matches_topic.clone(),
        alerts_topic: topics.alerts_topic.clone(),
        dead_letter_topic: source.dead_letter_topic.clone(),
        cluster: config.cluster_of(source.cluster.as_ref()),
        cluster_is_topic: source.cluster_from == Some(KafkaClusterFrom::Topic),
        windows,
        max_skew_us: config.max_skew.0,
    };
    Ok((plan, transactions))
}

/// Fills secrets in.
fn connection(client: &KafkaClient) -> anyhow::Result<Connection> {
    let mut options = client.options.clone();
    for (name, file) in &client.options_files {
        let value =
            std::fs::read_to_string(file).with_context(|| format!("options_files: {name}: {}", file.display()))?;
        options.insert(name.clone(), value.trim_end_matches(['\r', '\n']).to_owned());
    }
    for (name, variable) in &client.options_env {
        let value = std::env::var(variable).with_context(|| format!("options_env: {name}: {variable}"))?;
        options.insert(name.clone(), value);
    }
    Ok(Connection { brokers: client.brokers.join(","), options, token_file: client.token_file.clone() })
}

/// A sink that writes alerts to a topic.
pub(super) struct ToKafka {
    name: String,
    topic: AlertTopic,
    say: Say,
}

impl ToKafka {
    /// Reads what the configuration names; nothing is connected yet.
    pub(super) fn open(config: &KafkaSink, name: Option<&str>, say: Say) -> anyhow::Result<ToKafka> {
        let key = match config.key {
            AlertKey::Id => Key::Id,
            AlertKey::Cluster => Key::Cluster,
        };
        let topic = AlertTopic::new(&connection(&config.client)?, &config.topic, key)?;
        let name = name.map_or_else(|| format!("kafka:{}", config.topic), str::to_owned);
        Ok(ToKafka { name, topic, say })
    }
}

impl Sink for ToKafka {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn send(&mut self, alerts: &[(i64, String)]) -> io::Result<()> {
        let ToKafka { name, topic, say } = self;
        topic.send(alerts, &mut |_, why| {
            say.problem(&format!("sink {name}: an alert was refused for good ({why}); it stays in the store"))
        })
    }
}
