//! The configuration of the daemon: every key with its default and its meaning stands here and in the files below, and
//! nowhere else; the schema and docs/configuration.md are made of it. Unknown keys are refused, because a misspelt one that
//! is passed over in silence is a detection that is not there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::layers::{Layers, Tree};
use super::values::{Bytes, Micros, Scalar};
use super::{ClusterFrom, ConfigError, Problems, schema};
use crate::rules::pack::Pack;
pub use kafka::{AlertKey, Distributed, KafkaClient, KafkaClusterFrom, KafkaSink, KafkaSource};
pub use route::{MatchConfig, OverrideConfig, RouteConfig, SilenceConfig};
pub use sinks::{
    Facility, FileSink, Fsync, HttpConfig, LokiSink, PagerdutySink, SearchSink, SinkConfig, SinkFormat, SinkKind,
    StdoutSink, SyslogSink, WebhookSink,
};

mod kafka;
mod route;
mod sinks;

/// What `run` does.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct RunConfig {
    /// Name of the cluster; sources may name another.
    #[serde(default)]
    pub cluster: String,
    /// Rule files and folders; empty: the built-in detections.
    #[serde(default)]
    pub rules: Vec<PathBuf>,
    /// Rule files and folders besides those.
    #[serde(default)]
    pub add_rules: Vec<PathBuf>,
    /// Only rules of these packs give alerts; empty: all.
    #[serde(default)]
    pub packs: Vec<Pack>,
    /// What is particular to the site.
    #[serde(default)]
    pub site: Option<PathBuf>,
    /// How far behind the newest event a match may arrive and still count.
    /// Unless said, 10 s for files and 60 s for webhooks; sources may have their own.
    #[serde(default)]
    pub lateness: Option<Micros>,
    /// How far ahead of this machine's clock an event's time may be; 0 is off.
    #[serde(default = "max_skew_default")]
    pub max_skew: Micros,
    /// Longest line that is read, in bytes.
    #[serde(default = "max_record_default")]
    pub max_record: Bytes,
    /// Where events come from; at least one.
    pub sources: Vec<SourceConfig>,
    /// Where state is kept; not with `distributed`.
    #[serde(default)]
    pub store: StoreConfig,
    /// Whether this is a member of many, with state in Kafka.
    #[serde(default)]
    pub distributed: Option<Distributed>,
    /// Where alerts go; standard output if nothing is said.
    #[serde(default = "sinks_default")]
    pub sinks: Vec<SinkConfig>,
    /// What sinks are not told, for a time or for good. It is stored all the same.
    #[serde(default)]
    pub silences: Vec<SilenceConfig>,
    /// Levels, thresholds and timespans of rules, without editing them; later entries win.
    #[serde(default)]
    pub overrides: Vec<OverrideConfig>,
    /// Where what could not be read is kept; nowhere if nothing is said.
    #[serde(default)]
    pub dead_letter: Option<DeadLetterConfig>,
    /// Where metrics and health are told; nowhere if nothing is said.
    #[serde(default)]
    pub admin: Option<AdminConfig>,
    /// The shape of what is said on standard error.
    #[serde(default)]
    pub log_format: LogFormat,
    /// Whether rules, site, sinks, routes, silences and overrides are read again when their files change. SIGHUP does it in
    /// any case.
    #[serde(default = "yes")]
    pub reload_on_change: bool,
}

/// The shape of what is said on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where what could not be read is kept.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct DeadLetterConfig {
    /// The file.
    pub path: PathBuf,
    /// When it has so many bytes it becomes `PATH.1`, and the one before that is forgotten.
    #[serde(default = "dead_letter_size_default")]
    pub max_size: Bytes,
}

/// Where metrics and health are told.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct AdminConfig {
    /// Where to listen; this machine only, unless said.
    #[serde(default = "admin_listen_default")]
    #[schemars(schema_with = "address_schema")]
    pub listen: SocketAddr,
}

/// A source of events.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SourceConfig {
    /// Log files that are being written.
    File(FileSource),
    /// What an API server posts.
    Webhook(WebhookSource),
    /// Topics of Kafka.
    Kafka(KafkaSource),
}

/// What an API server posts.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct WebhookSource {
    /// Where to listen.
    #[schemars(schema_with = "address_schema")]
    pub listen: SocketAddr,
    /// Certificates.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// A file with the token that a client must bear.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Whether to listen beyond this machine without TLS, or without knowing the client.
    #[serde(default)]
    pub insecure: bool,
    /// Largest body, in bytes.
    #[serde(default = "max_body_default")]
    pub max_body: Bytes,
    /// How long a client may take to send a request's headers, and its body.
    #[serde(default = "timeout_default")]
    pub timeout: Micros,
    /// How far behind the newest event a match may arrive and still count.
    #[serde(default)]
    pub lateness: Option<Micros>,
    /// Name of the cluster, if it is not the one of the whole configuration.
    #[serde(default)]
    pub cluster: Option<String>,
}

/// Certificates and keys, as PEM files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct TlsConfig {
    /// The certificate.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// The authority of clients' certificates.
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,
}

/// Log files that are being written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct FileSource {
    /// Paths and patterns. A path need not be there yet; rotated files are found beside their log.
    pub paths: Vec<String>,
    /// Where a log without a recorded position begins.
    #[serde(default)]
    pub start_at: Start,
    /// How far behind the newest event a match may arrive and still count.
    #[serde(default)]
    pub lateness: Option<Micros>,
    /// Name of the cluster, if it is not the one of the whole configuration.
    #[serde(default)]
    pub cluster: Option<String>,
    /// How the cluster is found in a log's path.
    #[serde(default, deserialize_with = "cluster_from")]
    #[schemars(schema_with = "cluster_from_schema")]
    pub cluster_from: Option<ClusterFrom>,
}

/// Where a log without a recorded position begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the oldest file there is.
    #[default]
    Beginning,
    /// With what is written from now on.
    End,
}

/// Where state is kept.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct StoreConfig {
    /// The file.
    pub path: PathBuf,
    /// How long alerts are kept.
    #[serde(default = "retention_default")]
    pub retention: Micros,
}

impl RunConfig {
    /// Reads a configuration. Relative paths are taken from where the program runs.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and the key that may have been meant.
    pub fn parse(file: &Path, text: &str) -> Result<RunConfig, ConfigError> {
        Self::layered(file, text, &Layers::default()).map(|(config, _)| config)
    }

    /// The same with what flags and the environment say. Gives what was put together as well.
    ///
    /// # Errors
    /// As above.
    pub fn layered(file: &Path, text: &str, layers: &Layers) -> Result<(RunConfig, Value), ConfigError> {
        let tree = Tree::read(file, text, layers);
        let failed = |list| ConfigError::Run(Problems { list, text: text.to_owned() });
        let (tree, mut problems) = tree.map_err(failed)?;
        problems.extend(schema::check(tree.value()).into_iter().map(|problem| tree.locate(problem)));
        if !problems.is_empty() {
            return Err(failed(problems));
        }
        // What is left is told without its place: the schema knows all but relations.
        let one = |what: String| failed(vec![tree.locate(schema::Problem::of_all(what))]);
        let config: RunConfig = serde_json::from_value(tree.value().clone()).map_err(|error| one(error.to_string()))?;
        let told: Vec<_> = config.relations().into_iter().map(|problem| tree.locate(problem)).collect();
        match told.is_empty() {
            true => Ok((config, tree.into_value())),
            false => Err(failed(told)),
        }
    }

    /// What is wrong between keys.
    fn relations(&self) -> Vec<schema::Problem> {
        let mut found = Vec::new();
        if self.sources.is_empty() {
            let what = "name at least one, e.g. {type: file, paths: [audit.log]}";
            found.push(schema::Problem::at(["sources"], what));
        }
        let mut listening = BTreeSet::new();
        for (at, source) in self.sources.iter().enumerate() {
            if let SourceConfig::Webhook(webhook) = source
                && !listening.insert(webhook.listen)
            {
                let what =
                    format!("another webhook listens on {}; one is enough, for it takes any path", webhook.listen);
                found.push(schema::Problem::at(["sources", &at.to_string(), "listen"], &what));
            }
        }
        let mut groups = BTreeSet::new();
        for (at, source) in self.sources.iter().enumerate() {
            if let SourceConfig::Kafka(kafka) = source
                && !groups.insert(&kafka.group)
            {
                let what = format!("another kafka source has the group {}; give each a group of its own", kafka.group);
                found.push(schema::Problem::at(["sources", &at.to_string(), "group"], &what));
            }
        }
        match &self.distributed {
            Some(distributed) => {
                let told = distributed.check(&self.sources, &self.sinks).err();
                found.extend(told.map(|what| schema::Problem::at(["distributed"], &what)));
            }
            None if self.store.path.as_os_str().is_empty() => {
                found.push(schema::Problem::at(["store"], "say where state is kept, e.g. store: {path: state.db}"));
            }
            None => {}
        }
        for (at, source) in self.sources.iter().enumerate() {
            found.extend(source.check().err().map(|what| schema::Problem::at(["sources", &at.to_string()], &what)));
        }
        for (at, sink) in self.sinks.iter().enumerate() {
            found.extend(sink.check().err().map(|what| schema::Problem::at(["sinks", &at.to_string()], &what)));
        }
        for (at, _) in self.overrides.iter().enumerate().filter(|(_, one)| one.rules.is_empty()) {
            found.push(schema::Problem::at(["overrides", &at.to_string(), "rules"], "name at least one rule"));
        }
        let nought = |one: &OverrideConfig| one.threshold == Some(0) || one.timespan == Some(Micros(0));
        for (at, _) in self.overrides.iter().enumerate().filter(|(_, one)| nought(one)) {
            let what = "threshold and timespan must be more than 0";
            found.push(schema::Problem::at(["overrides", &at.to_string()], what));
        }
        found
    }

    /// The cluster of a source: its own name for it, or that of the whole.
    pub fn cluster_of(&self, own: Option<&String>) -> String {
        own.unwrap_or(&self.cluster).clone()
    }

    /// The longest line that is read, in bytes.
    pub fn record_bytes_max(&self) -> usize {
        self.max_record.0.max(RECORD_BYTES_MIN)
    }

    /// How far behind the newest event a match of a source may arrive, microseconds: as the source says, as all of them do, or
    /// as its kind does.
    pub fn lateness_us(&self, own: Option<Micros>, of_kind: i64) -> i64 {
        own.or(self.lateness).map_or(of_kind, |lateness| lateness.0)
    }

    /// The greatest of all sources, microseconds.
    pub fn lateness_max_us(&self) -> i64 {
        let each = self.sources.iter().map(|source| match source {
            SourceConfig::File(file) => self.lateness_us(file.lateness, FILE_LATENESS_US),
            SourceConfig::Kafka(kafka) => self.lateness_us(kafka.lateness, FILE_LATENESS_US),
            SourceConfig::Webhook(webhook) => self.lateness_us(webhook.lateness, WEBHOOK_LATENESS_US),
        });
        each.max().unwrap_or(FILE_LATENESS_US)
    }
}

/// A record limit below this would cut off every event.
const RECORD_BYTES_MIN: usize = 4096;

/// How late matches of files may be unless said, microseconds.
pub const FILE_LATENESS_US: i64 = 10_000_000;

/// The same of webhooks, whose batches come late.
pub const WEBHOOK_LATENESS_US: i64 = 60_000_000;

impl SourceConfig {
    fn check(&self) -> Result<(), String> {
        match self {
            SourceConfig::File(source) if source.paths.is_empty() => {
                Err("a file source needs paths, e.g. paths: [audit.log]".to_owned())
            }
            SourceConfig::Webhook(source) if !source.listen.ip().is_loopback() && !source.insecure => {
                let knows =
                    source.token_file.is_some() || source.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
                match (&source.tls, knows) {
                    (Some(_), true) => Ok(()),
                    _ => Err(format!(
                        "the webhook on {} needs tls, and tls.client_ca_file or token_file, so that nobody but \
                         the API server is heard; or insecure: true",
                        source.listen
                    )),
                }
            }
            SourceConfig::Kafka(source) => source.check(),
            _ => Ok(()),
        }
    }
}

fn yes() -> bool {
    true
}

fn max_body_default() -> Bytes {
    Bytes(32 << 20)
}

fn timeout_default() -> Micros {
    Micros(20_000_000)
}

fn dead_letter_size_default() -> Bytes {
    Bytes(100 << 20)
}

fn admin_listen_default() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9090))
}

fn max_skew_default() -> Micros {
    Micros(300_000_000)
}

fn max_record_default() -> Bytes {
    Bytes(16 << 20)
}

fn retention_default() -> Micros {
    Micros(30 * 86_400_000_000)
}

fn sinks_default() -> Vec<SinkConfig> {
    vec![SinkConfig::stdout()]
}

fn cluster_from<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ClusterFrom>, D::Error> {
    ClusterFrom::parse(&from.deserialize_any(Scalar)?).map(Some).map_err(serde::de::Error::custom)
}

fn address_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let pattern = r"^(\[[0-9A-Fa-f:.]+\]|[0-9.]+):[0-9]{1,5}$";
    schemars::json_schema!({"type": "string", "format": super::values::ADDRESS, "pattern": pattern})
}

fn cluster_from_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "format": super::values::CLUSTER_FROM, "pattern": "^path:"})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RunConfig, String> {
        RunConfig::parse(Path::new("a.yaml"), text).map_err(|error| error.to_string())
    }

    const SMALL: &str = "sources: [{type: file, paths: [a.log]}]\nstore: {path: s.db}\n";

    #[test]
    fn what_is_not_said_has_a_default() {
        let config = parse(SMALL).unwrap();
        assert_eq!(
            (config.lateness_max_us(), config.max_skew.0, config.max_record.0),
            (10_000_000, 300_000_000, 16 << 20)
        );
        assert_eq!(config.store.retention.0, 30 * 86_400_000_000);
        assert!(matches!(config.sinks[..], [SinkConfig { kind: SinkKind::Stdout(_), .. }]));
        assert!(matches!(&config.sources[0], SourceConfig::File(file) if file.start_at == Start::Beginning));
        let more = format!("{SMALL}lateness: 0\nmax_skew: 1h\nmax_record: 1MiB\nsinks: []\ncluster: eu\n");
        let config = parse(&more).unwrap();
        assert_eq!((config.lateness_max_us(), config.max_skew.0, config.max_record.0), (0, 3_600_000_000, 1 << 20));
        assert!(config.sinks.is_empty() && config.cluster == "eu" && config.admin.is_none());
        let several = "store: {path: s.db}\nsources: [{type: file, paths: [a], lateness: 3s},
            {type: webhook, listen: '127.0.0.1:1'}, {type: webhook, listen: '127.0.0.1:2', lateness: 5s}]\n";
        let config = parse(several).unwrap();
        assert_eq!((config.lateness_max_us(), config.lateness_us(None, 7)), (60_000_000, 7));
        let config = parse(&format!("{several}lateness: 4s")).unwrap();
        assert_eq!((config.lateness_max_us(), config.lateness_us(None, 7)), (5_000_000, 4_000_000));
        let admin = parse(&format!("{SMALL}admin: {{}}")).unwrap().admin.unwrap();
        assert_eq!(admin.listen.to_string(), "127.0.0.1:9090");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, said) in [
            (format!("{SMALL}latenes: 3s"), "a.yaml:3:1: error[unknown-key]: `latenes`: there is no such key"),
            (format!("{SMALL}latenes: 3s"), "did you mean `lateness`?"),
            (format!("{SMALL}zebra: 3s"), "`zebra`: there is no such key"),
            (format!("{SMALL}lateness: soon"), "is not a duration"),
            (
                format!("{SMALL}admin: {{listen: here}}"),
                "a.yaml:3:17: error[value]: `admin.listen`: \"here\" is not a socket",
            ),
            ("store: {path: s.db}\nsources: [{type: fil, paths: [a]}]".to_owned(), "did you mean `file`?"),
            ("store: {path: s.db}\nsources: [{type: file, path: [a]}]".to_owned(), "did you mean `paths`?"),
            ("store: {path: s.db}\nsources: [{type: file, paths: a}]".to_owned(), "a list"),
            ("store: {path: s.db}\nsources: []".to_owned(), "name at least one"),
            ("store: {path: s.db}\nsources: [{type: file, paths: []}]".to_owned(), "needs paths"),
            ("store: {path: s.db}\nsources: [{type: webhook, listen: '0.0.0.0:9443'}]".to_owned(), "needs tls"),
            ("store: {path: s.db}\nsources: [{type: webhook, listen: here}]".to_owned(), "socket address"),
            ("sources: [{type: file, paths: [a]}]".to_owned(), "say where state is kept"),
            (
                "store: {path: s.db}\nsources: [{type: kafka, brokers: [a], topics: [b], topics2: [a]}]".to_owned(),
                "did you mean `topics`?",
            ),
            (format!("{SMALL}sinks: [{{type: file}}]"), "`sinks[0].path` is missing"),
            (format!("{SMALL}sinks: [{{path: a}}]"), "`sinks[0].type` is missing"),
            (format!("{SMALL}sinks: [{{type: webhok}}]"), "did you mean `webhook`?"),
            (format!("{SMALL}sinks: [{{type: slack}}]"), "needs url, url_file or url_env"),
            (format!("{SMALL}sinks: [{{type: slack, url: a, url_file: b}}]"), "only one of"),
            (format!("{SMALL}sinks: [{{type: webhook, url: a, timeout: 0}}]"), "timeout"),
            (format!("{SMALL}sinks: [{{type: webhook, url: a, urls: b}}]"), "did you mean `url`?"),
            (format!("{SMALL}cluster: a\ncluster: b"), "a.yaml:4"),
            ("{".to_owned(), "a.yaml"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(said) && error.starts_with("a.yaml"), "{text}: {error}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let error =
            parse("sources: [{type: file, pathz: [a]}]\nstore: {path: s.db, retention: long}\nzebra: 1").unwrap_err();
        assert_eq!(error.matches("error[").count(), 4, "{error}");
    }
}
