//! What is said of Kafka: sources, sinks, and how brokers are spoken to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::values::{Micros, Scalar};
use super::{SinkConfig, SinkKind, SourceConfig, Start};

/// Settings of librdkafka that are ours to decide, and what to write in their place.
const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "say brokers"),
    ("metadata.broker.list", "say brokers"),
    ("group.id", "say group"),
    ("auto.offset.reset", "say start_at"),
    ("enable.auto.commit", "offsets are committed when what they gave is stored"),
    ("auto.commit.enable", "offsets are committed when what they gave is stored"),
    ("auto.commit.interval.ms", "offsets are committed when what they gave is stored"),
    ("enable.auto.offset.store", "offsets are committed when what they gave is stored"),
    ("enable.partition.eof", "the ends of partitions decide when they are idle"),
    ("partition.assignment.strategy", "it is cooperative-sticky"),
    ("group.protocol", "it is classic"),
    ("isolation.level", "it is read_committed"),
    ("statistics.interval.ms", "lags are counted from it"),
    ("enable.idempotence", "producers are idempotent"),
    ("transactional.id", "it is made from the instance"),
    ("acks", "a record counts when all replicas in sync have it"),
    ("request.required.acks", "a record counts when all replicas in sync have it"),
    ("sasl.oauthbearer.method", "say token_file"),
];

/// librdkafka's own settings, by name.
type Options = BTreeMap<String, String>;

/// How brokers are reached.
#[derive(Clone, Deserialize, JsonSchema)]
pub struct KafkaClient {
    /// Brokers to ask first, each `host:port`.
    pub brokers: Vec<String>,
    /// librdkafka's own settings.
    #[serde(default, deserialize_with = "options")]
    #[schemars(schema_with = "options_schema")]
    pub options: Options,
    /// The same, each with a file that holds its value: for secrets.
    #[serde(default)]
    pub options_files: BTreeMap<String, PathBuf>,
    /// The same, each with the name of an environment variable that holds its value.
    #[serde(default)]
    pub options_env: Options,
    /// A file with the token of SASL OAUTHBEARER (a JWT); read again before it ends.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

/// Topics of Kafka with audit events.
#[derive(Clone, Deserialize, JsonSchema)]
pub struct KafkaSource {
    /// Which brokers, and how they are spoken to.
    #[serde(flatten)]
    pub client: KafkaClient,
    /// Topics; one that begins with `^` is a regular expression.
    pub topics: Vec<String>,
    /// The consumer group.
    #[serde(default = "group_default")]
    pub group: String,
    /// Where a partition begins of which nothing is recorded.
    #[serde(default)]
    pub start_at: Start,
    /// Name of the cluster, if it is not the one of the whole configuration.
    #[serde(default)]
    pub cluster: Option<String>,
    /// How the cluster of a record is found.
    #[serde(default, deserialize_with = "cluster_from")]
    #[schemars(schema_with = "cluster_from_schema")]
    pub cluster_from: Option<KafkaClusterFrom>,
    /// How far behind the newest event a match may arrive and still count.
    #[serde(default)]
    pub lateness: Option<Micros>,
    /// A topic for records that could not be read.
    #[serde(default)]
    pub dead_letter_topic: Option<String>,
}

/// A topic for alerts.
#[derive(Clone, Deserialize, JsonSchema)]
pub struct KafkaSink {
    /// Which brokers, and how they are spoken to.
    #[serde(flatten)]
    pub client: KafkaClient,
    /// The topic.
    pub topic: String,
    /// What a record's key is, and so its partition.
    #[serde(default)]
    pub key: AlertKey,
}

/// A member of many: matches and alerts in topics, and no state on this machine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Distributed {
    /// The topic of matches. Its number of partitions is for good: a change takes a new topic.
    pub matches_topic: String,
    /// The topic of alerts.
    pub alerts_topic: String,
}

impl Distributed {
    pub(super) fn check(&self, sources: &[SourceConfig], sinks: &[SinkConfig]) -> Result<(), String> {
        let [SourceConfig::Kafka(source)] = sources else {
            return Err("distributed: it takes one source, of type kafka".to_owned());
        };
        if !matches!(sinks, [SinkConfig { kind: SinkKind::Stdout(_), .. }]) {
            return Err("distributed: alerts go to alerts_topic; sinks are not told, leave them out".to_owned());
        }
        let ours = [&self.matches_topic, &self.alerts_topic];
        if ours.iter().any(|topic| topic.is_empty()) || self.matches_topic == self.alerts_topic {
            return Err("distributed: it needs a matches_topic and an alerts_topic, two topics".to_owned());
        }
        for topic in &source.topics {
            let pattern = topic.starts_with('^').then(|| regex::Regex::new(topic).ok()).flatten();
            let reads = |ours: &str| pattern.as_ref().map_or(topic == ours, |pattern| pattern.is_match(ours));
            if let Some(own) = ours.iter().find(|own| reads(own)) {
                return Err(format!("distributed: sources.topics holds {own}, which is written to"));
            }
        }
        Ok(())
    }
}

/// The key of an alert's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertKey {
    /// The alert's id: a topic that is compacted keeps each once.
    #[default]
    Id,
    /// The cluster: the alerts of one stay in their order.
    Cluster,
}

/// How the cluster of a record is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KafkaClusterFrom {
    /// It is the topic's name.
    Topic,
    /// It is the value of this header.
    Header(String),
}

impl KafkaSource {
    pub(super) fn check(&self) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("sources: a kafka source needs {what}"));
        if self.topics.is_empty() || self.topics.iter().any(String::is_empty) {
            return wrong("topics, e.g. topics: [audit]");
        }
        for pattern in self.topics.iter().filter(|topic| topic.starts_with('^')) {
            regex::Regex::new(pattern).map_err(|error| format!("sources: topics: {error}"))?;
        }
        if self.group.is_empty() || self.group.contains('#') {
            return wrong("a group with a name that holds no #");
        }
        self.client.check("sources")
    }
}

impl KafkaSink {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.topic.is_empty() {
            return Err("sinks: a kafka sink needs a topic".to_owned());
        }
        self.client.check("sinks")
    }
}

impl KafkaClient {
    /// `part` of the configuration is where it stands.
    fn check(&self, part: &str) -> Result<(), String> {
        let KafkaClient { brokers, options, options_files, options_env, .. } = self;
        if brokers.is_empty() || brokers.iter().any(|broker| broker.is_empty() || broker.contains(',')) {
            return Err(format!("{part}: kafka needs brokers, e.g. brokers: [\"127.0.0.1:9092\"]"));
        }
        let mut seen = BTreeSet::new();
        for name in options.keys().chain(options_files.keys()).chain(options_env.keys()) {
            if let Some((_, why)) = OURS.iter().find(|(ours, _)| ours == name) {
                return Err(format!("{part}: options: {name} is not to be set: {why}"));
            }
            if !seen.insert(name) {
                return Err(format!("{part}: options: {name} stands there twice"));
            }
        }
        Ok(())
    }
}

/// Without what may be secret.
impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KafkaSource { client: KafkaClient { brokers, .. }, topics, group, .. } = self;
        let mut told = f.debug_struct("KafkaSource");
        told.field("brokers", brokers).field("topics", topics).field("group", group).finish_non_exhaustive()
    }
}

/// Without what may be secret.
impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KafkaSink { client: KafkaClient { brokers, .. }, topic, .. } = self;
        f.debug_struct("KafkaSink").field("brokers", brokers).field("topic", topic).finish_non_exhaustive()
    }
}

fn group_default() -> String {
    "auditwatch".to_owned()
}

/// Values may be written as numbers or truths.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    from.deserialize_any(Scalar)
}

fn options_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "additionalProperties": {"type": ["string", "integer", "boolean"]}})
}

fn cluster_from_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string"})
}

fn options<'de, D: Deserializer<'de>>(from: D) -> Result<Options, D::Error> {
    #[derive(Deserialize)]
    struct Value(#[serde(deserialize_with = "text")] String);
    let values = BTreeMap::<String, Value>::deserialize(from)?;
    Ok(values.into_iter().map(|(name, Value(value))| (name, value)).collect())
}

fn cluster_from<'de, D: Deserializer<'de>>(from: D) -> Result<Option<KafkaClusterFrom>, D::Error> {
    let said = text(from)?;
    match said.split_once(':') {
        None if said == "topic" => Ok(Some(KafkaClusterFrom::Topic)),
        Some(("header", name)) if !name.is_empty() => Ok(Some(KafkaClusterFrom::Header(name.to_owned()))),
        _ => Err(serde::de::Error::custom(format!("cluster_from: {said:?} is neither topic nor header:NAME"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(more: &str) -> Result<KafkaSource, String> {
        let text = format!("{{brokers: ['a:9092'], topics: [audit]{more}}}");
        let source: KafkaSource = serde_saphyr::from_str(&text).map_err(|error| error.to_string())?;
        source.check().map(|()| source)
    }

    #[test]
    fn what_is_ours_is_refused_with_what_to_write() {
        let good = source(", options: {socket.keepalive.enable: true, fetch.wait.max.ms: 100}").unwrap();
        assert_eq!(
            (good.client.options["socket.keepalive.enable"].as_str(), good.group.as_str()),
            ("true", "auditwatch")
        );
        assert_eq!(good.client.options["fetch.wait.max.ms"], "100");
        for (more, said) in [
            (", options: {group.id: x}", "say group"),
            (", options_env: {enable.auto.commit: X}", "stored"),
            (", options: {sasl.password: x}, options_files: {sasl.password: 'y'}", "twice"),
            (", cluster_from: path:x", "header:NAME"),
            (", group: ''", "group"),
        ] {
            let error = source(more).unwrap_err();
            assert!(error.contains(said), "{more}: {error}");
        }
        for text in ["{brokers: [], topics: [a]}", "{brokers: ['a,b'], topics: [a]}", "{brokers: [a], topics: ['^(']}"]
        {
            assert!(serde_saphyr::from_str::<KafkaSource>(text).unwrap().check().is_err(), "{text}");
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let told = format!("{:?}", source(", options: {sasl.password: hunter2}").unwrap());
        assert!(!told.contains("hunter2") && told.contains("audit"), "{told}");
        let sink: KafkaSink =
            serde_saphyr::from_str("{brokers: [a], topic: t, options: {sasl.password: hunter2}}").unwrap();
        assert!(!format!("{sink:?}").contains("hunter2") && sink.key == AlertKey::Id);
    }

    #[test]
    fn a_cluster_is_found_by_topic_or_header() {
        assert_eq!(source(", cluster_from: topic").unwrap().cluster_from, Some(KafkaClusterFrom::Topic));
        let header = source(", cluster_from: 'header:cluster'").unwrap().cluster_from;
        assert_eq!(header, Some(KafkaClusterFrom::Header("cluster".to_owned())));
    }
}
