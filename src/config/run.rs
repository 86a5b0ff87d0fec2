//! The configuration of the daemon: one YAML file, every key with its default here. Unknown keys are refused, because a
//! misspelt one that is passed over in silence is a detection that is not there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use super::{ClusterFrom, ConfigError, duration_us, size_bytes};
use crate::rules::pack::Pack;
pub use http_sink::HttpSink;
pub use kafka::{AlertKey, Distributed, KafkaClusterFrom, KafkaSink, KafkaSource};

mod http_sink;
mod kafka;

/// What `run` does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// How far behind the newest event a match may arrive and still count; microseconds.
    /// 10 s, or 60 s with a webhook, unless said.
    #[serde(default, deserialize_with = "maybe_duration")]
    pub lateness: Option<i64>,
    /// How far ahead of this machine's clock an event's time may be; microseconds, 0 is off.
    #[serde(default = "max_skew_default", deserialize_with = "duration")]
    pub max_skew: i64,
    /// Longest line that is read, in bytes.
    #[serde(default = "max_record_default", deserialize_with = "size")]
    pub max_record: usize,
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
    /// Where what could not be read is kept; nowhere if nothing is said.
    #[serde(default)]
    pub dead_letter: Option<DeadLetterConfig>,
    /// Where metrics and health are told; nowhere if nothing is said.
    #[serde(default)]
    pub admin: Option<AdminConfig>,
}

/// Where what could not be read is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterConfig {
    /// The file.
    pub path: PathBuf,
    /// When it has so many bytes it becomes `PATH.1`, and the one before that is forgotten.
    #[serde(default = "dead_letter_size_default", deserialize_with = "size")]
    pub max_size: usize,
}

/// Where metrics and health are told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Where to listen; this machine only, unless said.
    #[serde(default = "admin_listen_default")]
    pub listen: SocketAddr,
}

/// A source of events.
#[derive(Debug, Clone, Deserialize)]
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
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSource {
    /// Where to listen.
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
    #[serde(default = "max_body_default", deserialize_with = "size")]
    pub max_body: usize,
    /// Name of the cluster, if it is not the one of the whole configuration.
    #[serde(default)]
    pub cluster: Option<String>,
}

/// Certificates and keys, as PEM files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
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
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// Paths and patterns. A path need not be there yet; rotated files are found beside their log.
    pub paths: Vec<String>,
    /// Where a log without a recorded position begins.
    #[serde(default)]
    pub start_at: Start,
    /// Name of the cluster, if it is not the one of the whole configuration.
    #[serde(default)]
    pub cluster: Option<String>,
    /// How the cluster is found in a log's path.
    #[serde(default, deserialize_with = "cluster_from")]
    pub cluster_from: Option<ClusterFrom>,
}

/// Where a log without a recorded position begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the oldest file there is.
    #[default]
    Beginning,
    /// With what is written from now on.
    End,
}

/// Where state is kept.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The file.
    pub path: PathBuf,
    /// How long alerts are kept; microseconds.
    #[serde(default = "retention_default", deserialize_with = "duration")]
    pub retention: i64,
}

/// Where alerts go.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SinkConfig {
    /// Standard output.
    Stdout(StdoutSink),
    /// A file that is added to.
    File(FileSink),
    /// Whatever takes `{"alerts": […]}`.
    Webhook(HttpSink),
    /// Prometheus Alertmanager; the url is that of `/api/v2/alerts`.
    Alertmanager(HttpSink),
    /// A Slack incoming webhook.
    Slack(HttpSink),
    /// A topic of Kafka.
    Kafka(KafkaSink),
}

/// Standard output.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StdoutSink {
    /// The shape.
    #[serde(default)]
    pub format: SinkFormat,
}

/// A file that is added to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSink {
    /// The file.
    pub path: PathBuf,
    /// The shape.
    #[serde(default)]
    pub format: SinkFormat,
}

/// The shape of alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkFormat {
    /// Our own JSON lines.
    #[default]
    Json,
}

impl RunConfig {
    /// Reads a configuration. Relative paths are taken from where the program runs.
    ///
    /// # Errors
    /// What is wrong where, with the key that may have been meant.
    pub fn parse(file: &Path, text: &str) -> Result<RunConfig, ConfigError> {
        let wrong = |what: String| ConfigError::Run { file: file.display().to_string(), what };
        let config: RunConfig = serde_saphyr::from_str(text).map_err(|error| wrong(explain(&error.to_string())))?;
        if config.sources.is_empty() {
            return Err(wrong("sources: name at least one, e.g. {type: file, paths: [audit.log]}".to_owned()));
        }
        if config.sources.iter().filter(|source| matches!(source, SourceConfig::Webhook(_))).count() > 1 {
            return Err(wrong("sources: one webhook is enough: it takes any path".to_owned()));
        }
        config.sources.iter().try_for_each(|source| source.check().map_err(wrong))?;
        let groups = config.sources.iter().filter_map(|source| match source {
            SourceConfig::Kafka(kafka) => Some(&kafka.group),
            _ => None,
        });
        let mut seen = std::collections::BTreeSet::new();
        if let Some(group) = groups.into_iter().find(|group| !seen.insert(*group)) {
            return Err(wrong(format!(
                "sources: two kafka sources have the group {group}; give each a group of its own"
            )));
        }
        config.sinks.iter().try_for_each(|sink| sink.check().map_err(wrong))?;
        match &config.distributed {
            Some(distributed) => distributed.check(&config.sources, &config.sinks).map_err(wrong)?,
            None if config.store.path.as_os_str().is_empty() => {
                return Err(wrong("store: say where state is kept, e.g. store: {path: state.db}".to_owned()));
            }
            None => {}
        }
        Ok(config)
    }
}

impl RunConfig {
    /// How far behind the newest event a match may arrive, microseconds. A webhook's batches come late.
    pub fn lateness_us(&self) -> i64 {
        let posted = self.sources.iter().any(|source| matches!(source, SourceConfig::Webhook(_)));
        self.lateness.unwrap_or(if posted { 60_000_000 } else { 10_000_000 })
    }
}

impl SinkConfig {
    fn check(&self) -> Result<(), String> {
        match self {
            SinkConfig::Stdout(_) | SinkConfig::File(_) => Ok(()),
            SinkConfig::Webhook(sink) | SinkConfig::Alertmanager(sink) | SinkConfig::Slack(sink) => sink.check(),
            SinkConfig::Kafka(sink) => sink.check(),
        }
    }
}

impl SourceConfig {
    fn check(&self) -> Result<(), String> {
        match self {
            SourceConfig::File(source) if source.paths.is_empty() => {
                Err("sources: a file source needs paths, e.g. paths: [audit.log]".to_owned())
            }
            SourceConfig::Webhook(source) if !source.listen.ip().is_loopback() && !source.insecure => {
                let knows =
                    source.token_file.is_some() || source.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
                match (&source.tls, knows) {
                    (Some(_), true) => Ok(()),
                    _ => Err(format!(
                        "sources: the webhook on {} needs tls, and tls.client_ca_file or token_file, so that nobody but \
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

/// Adds what may have been meant to what serde says of a key or a word that it does not know.
fn explain(said: &str) -> String {
    let unknown = said.contains("unknown field") || said.contains("unknown variant");
    let (Some(name), true) = (said.split('`').nth(1), unknown) else { return said.to_owned() };
    let expected = said.lines().next().and_then(|line| line.split_once("expected ")).map_or("", |(_, list)| list);
    let known = expected.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let nearest = known.filter(|known| !known.is_empty()).map(|known| (distance(name, known), known)).min();
    match nearest {
        Some((far, known)) if far <= 1 + name.len() / 4 => format!("{said}; did you mean `{known}`?"),
        _ => said.to_owned(),
    }
}

/// How many letters have to be added, taken away or replaced.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

fn max_body_default() -> usize {
    32 << 20
}

fn dead_letter_size_default() -> usize {
    100 << 20
}

fn admin_listen_default() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9090))
}

fn max_skew_default() -> i64 {
    300_000_000
}

fn max_record_default() -> usize {
    16 << 20
}

fn retention_default() -> i64 {
    30 * 86_400_000_000
}

fn sinks_default() -> Vec<SinkConfig> {
    vec![SinkConfig::Stdout(StdoutSink::default())]
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    duration_us(&text(from)?).map_err(serde::de::Error::custom)
}

fn maybe_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    duration(from).map(Some)
}

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    size_bytes(&text(from)?).map_err(serde::de::Error::custom)
}

fn cluster_from<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ClusterFrom>, D::Error> {
    ClusterFrom::parse(&text(from)?).map(Some).map_err(serde::de::Error::custom)
}

/// A scalar as text: `0` is a number to YAML and a duration to us.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    struct Scalar;
    impl serde::de::Visitor<'_> for Scalar {
        type Value = String;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a text or a number")
        }

        fn visit_str<E>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_bool<E>(self, truth: bool) -> Result<String, E> {
            Ok(truth.to_string())
        }

        fn visit_u64<E>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_i64<E>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }
    from.deserialize_any(Scalar)
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
        assert_eq!((config.lateness_us(), config.max_skew, config.max_record), (10_000_000, 300_000_000, 16 << 20));
        assert_eq!(config.store.retention, 30 * 86_400_000_000);
        assert!(matches!(config.sinks[..], [SinkConfig::Stdout(_)]));
        assert!(matches!(&config.sources[0], SourceConfig::File(file) if file.start_at == Start::Beginning));
        let more = format!("{SMALL}lateness: 0\nmax_skew: 1h\nmax_record: 1MiB\nsinks: []\ncluster: eu\n");
        let config = parse(&more).unwrap();
        assert_eq!((config.lateness_us(), config.max_skew, config.max_record), (0, 3_600_000_000, 1 << 20));
        assert!(config.sinks.is_empty() && config.cluster == "eu" && config.admin.is_none());
        let admin = parse(&format!("{SMALL}admin: {{}}")).unwrap().admin.unwrap();
        assert_eq!(admin.listen.to_string(), "127.0.0.1:9090");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, said) in [
            (format!("{SMALL}latenes: 3s"), "did you mean `lateness`?"),
            (format!("{SMALL}zebra: 3s"), "unknown field `zebra`"),
            (format!("{SMALL}lateness: soon"), "is not a duration"),
            ("store: {path: s.db}\nsources: [{type: fil, paths: [a]}]".to_owned(), "did you mean `file`?"),
            ("store: {path: s.db}\nsources: [{type: file, path: [a]}]".to_owned(), "did you mean `paths`?"),
            ("store: {path: s.db}\nsources: []".to_owned(), "name at least one"),
            ("store: {path: s.db}\nsources: [{type: file, paths: []}]".to_owned(), "needs paths"),
            ("store: {path: s.db}\nsources: [{type: webhook, listen: '0.0.0.0:9443'}]".to_owned(), "needs tls"),
            ("store: {path: s.db}\nsources: [{type: webhook, listen: here}]".to_owned(), "socket address"),
            ("sources: [{type: file, paths: [a]}]".to_owned(), "store"),
            (format!("{SMALL}sinks: [{{type: file}}]"), "path"),
            (format!("{SMALL}sinks: [{{type: webhok}}]"), "did you mean `webhook`?"),
            (format!("{SMALL}sinks: [{{type: slack}}]"), "needs url or url_file"),
            (format!("{SMALL}sinks: [{{type: slack, url: a, url_file: b}}]"), "not both"),
            (format!("{SMALL}sinks: [{{type: webhook, url: a, timeout: 0}}]"), "timeout"),
            (format!("{SMALL}sinks: [{{type: webhook, url: a, urls: b}}]"), "did you mean `url`?"),
            ("{".to_owned(), "a.yaml"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(said) && error.starts_with("a.yaml: "), "{text}: {error}");
        }
    }
}
