//! What is said of sinks. Secrets are in files or in the environment: nothing of them stands in the configuration but where
//! they are.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::values::{Bytes, Micros, Rate};
use super::RouteConfig;
use super::kafka::KafkaSink;
use crate::sink::http::body::template::is_template;

/// Where alerts go.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SinkConfig {
    /// What the journal, metrics and messages call it. From its type and where it leads unless said; to keep one's place
    /// when that changes, say it.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is.
    #[serde(flatten)]
    pub kind: SinkKind,
    /// Which alerts it is told, and how; the first that fits an alert decides, and what none fits is not told. Everything,
    /// one by one, if nothing is said.
    #[serde(default)]
    pub routes: Vec<RouteConfig>,
    /// How many messages it is sent in how long, at most.
    #[serde(default)]
    pub rate_limit: Option<Rate>,
    /// How many alerts may wait for it. When there are more, the oldest are passed over; they stay in the store.
    #[serde(default = "max_backlog_default")]
    pub max_backlog: u32,
    /// Where alerts go whose content the receiver refuses for good, one a line. They stay in the store in any case.
    #[serde(default)]
    pub dead_letter: Option<PathBuf>,
}

/// Kinds of sinks.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SinkKind {
    /// Standard output.
    Stdout(StdoutSink),
    /// A file that is added to.
    File(FileSink),
    /// RFC 5424 over UDP, TCP or a local socket.
    Syslog(SyslogSink),
    /// Whatever takes a POST: `{"alerts": […]}`, or what a template makes of it.
    Webhook(WebhookSink),
    /// Prometheus Alertmanager; the url is that of `/api/v2/alerts`.
    Alertmanager(HttpConfig),
    /// A Slack incoming webhook.
    Slack(HttpConfig),
    /// A Microsoft Teams webhook (Workflows), told in Adaptive Cards.
    Teams(HttpConfig),
    /// PagerDuty, Events API v2.
    Pagerduty(PagerdutySink),
    /// falcosidekick, told in Falco's JSON.
    Falcosidekick(HttpConfig),
    /// Elasticsearch or OpenSearch, by the bulk API; the alert's id is the document's.
    Elasticsearch(SearchSink),
    /// Grafana Loki; the url is that of `/loki/api/v1/push`.
    Loki(LokiSink),
    /// A topic of Kafka.
    Kafka(KafkaSink),
}

/// Standard output.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct StdoutSink {
    /// The shape.
    #[serde(default)]
    pub format: SinkFormat,
}

/// A file that is added to. It may be renamed or removed at any time: it is made again.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct FileSink {
    /// The file.
    pub path: PathBuf,
    /// The shape.
    #[serde(default)]
    pub format: SinkFormat,
    /// With so many bytes it becomes `PATH.1`, that one `PATH.2` and so on; never, unless said.
    #[serde(default)]
    pub max_size: Option<Bytes>,
    /// How many of those are kept.
    #[serde(default = "keep_default")]
    pub keep: u32,
    /// When what was written must be on the disk.
    #[serde(default)]
    pub fsync: Fsync,
}

/// When what was written must be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// Before an alert counts as told.
    #[default]
    Always,
    /// Once a second.
    Second,
    /// When the system likes. A machine that falls may lose the last ones in the file, not in the store.
    Never,
}

/// The shape of alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SinkFormat {
    /// Our own JSON lines.
    #[default]
    Json,
    /// OCSF Detection Finding.
    Ocsf,
    /// Elastic Common Schema.
    Ecs,
    /// Falco's JSON.
    Falco,
}

/// RFC 5424.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SyslogSink {
    /// `udp://HOST:PORT`, `tcp://HOST:PORT` or `unix:///dev/log`. What is sent by UDP may be lost without a sign.
    pub address: String,
    /// The facility.
    #[serde(default)]
    pub facility: Facility,
    /// The shape of the message.
    #[serde(default)]
    pub format: SinkFormat,
    /// How long it may take.
    #[serde(default = "timeout_default")]
    pub timeout: Micros,
}

/// Facilities of syslog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Facility {
    /// 1.
    User = 1,
    /// 3.
    Daemon = 3,
    /// 4.
    Auth = 4,
    /// 10.
    Authpriv = 10,
    /// 13, the log audit.
    #[default]
    Audit = 13,
    /// 16.
    Local0 = 16,
    /// 17.
    Local1 = 17,
    /// 18.
    Local2 = 18,
    /// 19.
    Local3 = 19,
    /// 20.
    Local4 = 20,
    /// 21.
    Local5 = 21,
    /// 22.
    Local6 = 22,
    /// 23.
    Local7 = 23,
}

/// A receiver by HTTP.
#[derive(Clone, Deserialize, JsonSchema)]
pub struct HttpConfig {
    /// Where to post.
    #[serde(default)]
    pub url: Option<String>,
    /// A file with the url, where knowing it is enough to post.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// A variable of the environment with the url.
    #[serde(default)]
    pub url_env: Option<String>,
    /// Further headers. For a webhook they may hold templates.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A file with a bearer token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// A variable of the environment with a bearer token.
    #[serde(default)]
    pub token_env: Option<String>,
    /// The user of basic authentication.
    #[serde(default)]
    pub user: Option<String>,
    /// A file with that user's password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// A variable of the environment with that user's password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// A file with the key of `X-Auditwatch-Signature`, an HMAC-SHA256 of the body.
    #[serde(default)]
    pub signing_key_file: Option<PathBuf>,
    /// A variable of the environment with that key.
    #[serde(default)]
    pub signing_key_env: Option<String>,
    /// Certificates of the authorities to trust (PEM), in place of the system's; or the server's own.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long a request may take.
    #[serde(default = "timeout_default")]
    pub timeout: Micros,
}

/// Whatever takes a POST.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct WebhookSink {
    /// Where, and as whom.
    #[serde(flatten)]
    pub http: HttpConfig,
    /// The shape of alerts in the body.
    #[serde(default)]
    pub format: SinkFormat,
    /// The body, a Jinja template over `alerts` (a list) and `alert` (its first), e.g. `{"text": {{ alert.message | tojson }}}`.
    #[serde(default)]
    pub template: Option<String>,
    /// A file with that template.
    #[serde(default)]
    pub template_file: Option<PathBuf>,
    /// What the body is.
    #[serde(default = "content_type_default")]
    pub content_type: String,
    /// How many alerts go into one request, at most. 50, or 1 with a template, unless said.
    #[serde(default)]
    pub batch: Option<u32>,
}

/// PagerDuty.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct PagerdutySink {
    /// Where, and as whom. The url is that of the Events API unless said.
    #[serde(flatten)]
    pub http: HttpConfig,
    /// A file with the integration's routing key.
    #[serde(default)]
    pub routing_key_file: Option<PathBuf>,
    /// A variable of the environment with it.
    #[serde(default)]
    pub routing_key_env: Option<String>,
}

/// Elasticsearch or OpenSearch.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SearchSink {
    /// Where, and as whom; the url without `/_bulk`.
    #[serde(flatten)]
    pub http: HttpConfig,
    /// The index or data stream.
    #[serde(default = "index_default")]
    pub index: String,
    /// The shape of documents.
    #[serde(default = "ecs")]
    pub format: SinkFormat,
}

/// Grafana Loki.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct LokiSink {
    /// Where, and as whom. A tenant is told with the header X-Scope-OrgID.
    #[serde(flatten)]
    pub http: HttpConfig,
    /// Labels besides `job`, `level` and `cluster`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The shape of lines.
    #[serde(default)]
    pub format: SinkFormat,
}

impl SinkConfig {
    /// Standard output, in our own shape.
    pub fn stdout() -> SinkConfig {
        SinkConfig {
            name: None,
            kind: SinkKind::Stdout(StdoutSink::default()),
            routes: Vec::new(),
            rate_limit: None,
            max_backlog: max_backlog_default(),
            dead_letter: None,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.routes.iter().try_for_each(RouteConfig::check)?;
        if self.max_backlog == 0 {
            return Err("max_backlog must be more than 0".to_owned());
        }
        match &self.kind {
            SinkKind::Stdout(_) => Ok(()),
            SinkKind::File(file) if file.max_size.is_some_and(|size| size.0 == 0) => {
                Err("max_size must be more than 0, e.g. 100MiB".to_owned())
            }
            SinkKind::File(_) => Ok(()),
            SinkKind::Syslog(syslog) => syslog.check(),
            SinkKind::Kafka(kafka) => kafka.check(),
            SinkKind::Webhook(sink) => {
                one_of(
                    false,
                    &[("template", sink.template.is_some()), ("template_file", sink.template_file.is_some())],
                )?;
                sink.http.check(true, true)
            }
            SinkKind::Pagerduty(sink) => {
                let (file, env) = (sink.routing_key_file.is_some(), sink.routing_key_env.is_some());
                one_of(true, &[("routing_key_file", file), ("routing_key_env", env)])?;
                sink.http.check(false, false)
            }
            SinkKind::Loki(sink) => sink.check(),
            SinkKind::Elasticsearch(SearchSink { http, .. })
            | SinkKind::Alertmanager(http)
            | SinkKind::Slack(http)
            | SinkKind::Teams(http)
            | SinkKind::Falcosidekick(http) => http.check(true, false),
        }
    }
}

impl SyslogSink {
    fn check(&self) -> Result<(), String> {
        match self.address.split_once("://") {
            _ if self.timeout.0 == 0 => Err("timeout must be longer than 0, e.g. 10s".to_owned()),
            Some(("unix", path)) if path.starts_with('/') => Ok(()),
            Some(("udp" | "tcp", host)) if host.contains(':') => Ok(()),
            _ => Err("address must be udp://HOST:PORT, tcp://HOST:PORT or unix:///PATH".to_owned()),
        }
    }
}

impl LokiSink {
    fn check(&self) -> Result<(), String> {
        // Loki refuses the whole request, and with it every alert for good.
        let is_name = |name: &str| {
            name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
                && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
        };
        match self.labels.keys().find(|name| !is_name(name)) {
            Some(name) => Err(format!("labels: {name:?} is no label's name: letters, digits and _, no digit first")),
            None => self.http.check(true, false),
        }
    }
}

impl HttpConfig {
    /// `url`: whether one must be told. `templates`: whether headers may hold them.
    fn check(&self, url: bool, templates: bool) -> Result<(), String> {
        let given = [self.url.is_some(), self.url_file.is_some(), self.url_env.is_some()];
        one_of(url, &[("url", given[0]), ("url_file", given[1]), ("url_env", given[2])])?;
        one_of(false, &[("token_file", self.token_file.is_some()), ("token_env", self.token_env.is_some())])?;
        let password = [self.password_file.is_some(), self.password_env.is_some()];
        one_of(self.user.is_some(), &[("password_file", password[0]), ("password_env", password[1])])?;
        if self.user.is_none() && password.contains(&true) {
            return Err("a password needs user".to_owned());
        }
        one_of(
            false,
            &[("user", self.user.is_some()), ("token_file", self.token_file.is_some() || self.token_env.is_some())],
        )?;
        let filled = self.headers.iter().find(|(_, value)| !templates && is_template(value));
        if let Some((name, _)) = filled {
            return Err(format!("headers: {name}: only those of a webhook may hold templates"));
        }
        let key = [self.signing_key_file.is_some(), self.signing_key_env.is_some()];
        one_of(false, &[("signing_key_file", key[0]), ("signing_key_env", key[1])])?;
        match self.timeout.0 {
            0 => Err("timeout must be longer than 0, e.g. 10s".to_owned()),
            _ => Ok(()),
        }
    }
}

/// At most one of these keys may be there, and one has to be if it is `needed`.
fn one_of(needed: bool, keys: &[(&str, bool)]) -> Result<(), String> {
    let names: Vec<&str> = keys.iter().map(|(name, _)| *name).collect();
    let list = names.join(", ");
    let list = list.rsplit_once(", ").map_or(list.clone(), |(some, last)| format!("{some} or {last}"));
    match keys.iter().filter(|(_, given)| *given).count() {
        0 if needed => Err(format!("it needs {list}")),
        0 | 1 => Ok(()),
        _ => Err(format!("only one of {list} may be said")),
    }
}

/// Without what may be secret.
impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

fn timeout_default() -> Micros {
    Micros(10_000_000)
}

fn max_backlog_default() -> u32 {
    1_000_000
}

fn keep_default() -> u32 {
    5
}

fn content_type_default() -> String {
    "application/json".to_owned()
}

fn index_default() -> String {
    "auditwatch-alerts".to_owned()
}

fn ecs() -> SinkFormat {
    SinkFormat::Ecs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_printed() {
        let sink: SinkConfig =
            serde_json::from_str(r#"{"type": "loki", "url": "https://h/secret", "headers": {"x": "secret"}}"#).unwrap();
        assert!(!format!("{sink:?}").contains("secret"));
        let SinkKind::Loki(loki) = sink.kind else { panic!("no loki") };
        assert_eq!(loki.http.timeout, Micros(10_000_000));
    }

    #[test]
    fn what_a_receiver_would_not_take_is_refused() {
        for (sink, said) in [
            (r#"{"type": "loki", "url": "http://h/", "labels": {"a-b": "c"}}"#, "labels: \"a-b\""),
            (r#"{"type": "loki", "url": "http://h/", "labels": {"2nd": "c"}}"#, "labels: \"2nd\""),
            (r#"{"type": "slack", "url": "http://h/", "headers": {"x": "{{ alert.id }}"}}"#, "headers: x: only those"),
            (r#"{"type": "slack", "url": "http://h/", "password_env": "P"}"#, "a password needs user"),
            (
                r#"{"type": "slack", "url": "http://h/", "user": "u", "password_env": "P", "token_env": "T"}"#,
                "only one of",
            ),
            (r#"{"type": "slack"}"#, "it needs url"),
        ] {
            let wrong = serde_json::from_str::<SinkConfig>(sink).unwrap().check().unwrap_err();
            assert!(wrong.contains(said), "{sink}: {wrong}");
        }
        for sink in [
            r#"{"type": "loki", "url": "http://h/", "labels": {"_a2": "c"}}"#,
            r#"{"type": "webhook", "url": "http://h/", "headers": {"x": "{{ alert.id }}"}}"#,
        ] {
            serde_json::from_str::<SinkConfig>(sink).unwrap().check().unwrap();
        }
    }
}
