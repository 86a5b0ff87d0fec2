//! Sinks as the configuration tells them, with their secrets read from files and the environment.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::kafka::ToKafka;
use super::log::Say;
use crate::config::run::{
    Fsync, HttpConfig, MatchConfig, RouteConfig, RunConfig, SilenceConfig, SinkConfig, SinkFormat, SinkKind,
    WebhookSink,
};
use crate::pipeline::live::{Outlet, RateLimit, Sink};
use crate::sink::Format;
use crate::sink::file::{AlertFile, Sync, Turn};
use crate::sink::http::Poster;
use crate::sink::http::body::template::{Template, is_template};
use crate::sink::http::body::{PAGERDUTY, Receiver};
use crate::sink::http::client::{Client, Settings};
use crate::sink::route::{Matcher, Route, Silence};
use crate::sink::shape::shaped;
use crate::sink::syslog::{Syslog, Target};

/// Opens all sinks; nothing is connected yet. `told` is the configuration as it was put together.
pub(super) fn open(config: &RunConfig, told: &Value, say: Say) -> anyhow::Result<Vec<Outlet>> {
    let mut names = BTreeSet::new();
    let mut outlets = Vec::new();
    for (at, sink) in config.sinks.iter().enumerate() {
        let mut secrets = Secrets::default();
        let opened = one(sink, &mut secrets, say)?;
        let name = opened.name();
        anyhow::ensure!(names.insert(name.clone()), "sinks: {name} stands there twice; give each a name of its own");
        let for_it = |silence: &&SilenceConfig| silence.sinks.is_empty() || silence.sinks.contains(&name);
        let silences: Vec<&SilenceConfig> = config.silences.iter().filter(for_it).collect();
        outlets.push(Outlet {
            routes: sink.routes.iter().map(route).collect(),
            silences: silences.iter().map(|silence| silenced(silence)).collect(),
            rate: sink
                .rate_limit
                .map(|rate| RateLimit { count: rate.count, per: Duration::from_micros(rate.per_us.unsigned_abs()) }),
            backlog_max: i64::from(sink.max_backlog),
            settings: format!("{:?} {silences:?} {}", told.get("sinks").and_then(|sinks| sinks.get(at)), secrets.seen),
            sink: opened,
        });
    }
    for silence in &config.silences {
        let unknown = silence.sinks.iter().find(|name| !names.contains(*name));
        anyhow::ensure!(unknown.is_none(), "silences: there is no sink {:?}", unknown.map_or("", |name| name));
    }
    Ok(outlets)
}

/// Reads secrets and other files, and remembers a hash of them: what changed in one is a changed sink.
#[derive(Default)]
struct Secrets {
    seen: String,
}

impl Secrets {
    /// A text in a file, without the newline at its end, or in the environment.
    fn read(&mut self, file: &Option<std::path::PathBuf>, variable: &Option<String>) -> anyhow::Result<Option<String>> {
        let found = match (file, variable) {
            (Some(file), _) => secret(file)?,
            (None, Some(name)) => {
                let value = std::env::var(name).with_context(|| format!("sinks: variable {name}"))?;
                anyhow::ensure!(!value.trim().is_empty(), "sinks: variable {name}: it is empty");
                value.trim().to_owned()
            }
            (None, None) => return Ok(None),
        };
        self.seen += &digest(&found);
        Ok(Some(found))
    }

    /// What a file holds.
    fn content(&mut self, file: &Path) -> anyhow::Result<Vec<u8>> {
        let found = std::fs::read(file).with_context(|| format!("sinks: {}", file.display()))?;
        self.seen += &digest(&found);
        Ok(found)
    }
}

fn one(config: &SinkConfig, secrets: &mut Secrets, say: Say) -> anyhow::Result<Box<dyn Sink>> {
    let name = |own: String| config.name.clone().unwrap_or(own);
    let dead_letter = || config.dead_letter.clone().map(AlertFile::new);
    let http = |http: &HttpConfig, receiver: Receiver, secrets: &mut Secrets| -> anyhow::Result<Box<dyn Sink>> {
        let (settings, name) = settings(http, &receiver, config.name.as_ref(), secrets)?;
        Ok(Box::new(ToHttp {
            client: Client::new(&settings).with_context(|| format!("sinks: {name}"))?,
            poster: Poster::new(receiver),
            dead_letter: dead_letter(),
            name,
            say,
        }))
    };
    Ok(match &config.kind {
        SinkKind::Stdout(sink) => Box::new(Stdout { name: name("stdout".to_owned()), format: format(sink.format) }),
        SinkKind::File(sink) => {
            let sync = match sink.fsync {
                Fsync::Always => Sync::Always,
                Fsync::Second => Sync::Second,
                Fsync::Never => Sync::Never,
            };
            let turn = sink.max_size.map(|size| Turn { bytes: size.0 as u64, keep: sink.keep });
            Box::new(ToFile {
                name: name(format!("file:{}", sink.path.display())),
                format: format(sink.format),
                file: AlertFile::with(sink.path.clone(), sync, turn),
            })
        }
        SinkKind::Kafka(sink) => {
            for file in sink.client.options_files.values() {
                secrets.content(file)?;
            }
            Box::new(ToKafka::open(sink, config.name.as_deref(), say)?)
        }
        SinkKind::Syslog(sink) => {
            // What the address may be was checked with the configuration.
            let target = Target::parse(&sink.address).context("sinks: syslog: address")?;
            let timeout = Duration::from_micros(sink.timeout.0.unsigned_abs());
            let syslog = Syslog::new(target, sink.facility as u8, format(sink.format), timeout);
            Box::new(ToSyslog { name: name(format!("syslog:{}", sink.address)), syslog })
        }
        SinkKind::Webhook(sink) => {
            let receiver = webhook(sink, secrets)?;
            http(&sink.http, receiver, secrets)?
        }
        SinkKind::Alertmanager(sink) => http(sink, Receiver::Alertmanager, secrets)?,
        SinkKind::Slack(sink) => http(sink, Receiver::Slack, secrets)?,
        SinkKind::Teams(sink) => http(sink, Receiver::Teams, secrets)?,
        SinkKind::Pagerduty(sink) => {
            let routing_key = secrets.read(&sink.routing_key_file, &sink.routing_key_env)?.unwrap_or_default();
            http(&sink.http, Receiver::Pagerduty { routing_key }, secrets)?
        }
        SinkKind::Falcosidekick(sink) => http(sink, Receiver::Falcosidekick, secrets)?,
        SinkKind::Elasticsearch(sink) => {
            let receiver = Receiver::Elasticsearch { index: sink.index.clone(), format: format(sink.format) };
            http(&sink.http, receiver, secrets)?
        }
        SinkKind::Loki(sink) => {
            let labels = sink.labels.clone().into_iter().collect();
            http(&sink.http, Receiver::Loki { labels, format: format(sink.format) }, secrets)?
        }
    })
}

fn webhook(sink: &WebhookSink, secrets: &mut Secrets) -> anyhow::Result<Receiver> {
    let text = match (&sink.template, &sink.template_file) {
        (Some(text), _) => Some(text.clone()),
        (None, Some(file)) => {
            Some(String::from_utf8(secrets.content(file)?).with_context(|| format!("sinks: {}", file.display()))?)
        }
        (None, None) => None,
    };
    let headers: Vec<(String, String)> = sink.http.headers.clone().into_iter().collect();
    let any = text.is_some() || headers.iter().any(|(_, value)| is_template(value));
    let template = any.then(|| Template::new(text.as_deref(), &headers)).transpose().context("sinks: webhook")?;
    let usual = if template.is_some() { 1 } else { 50 };
    let batch = sink.batch.map_or(usual, |batch| batch as usize);
    Ok(Receiver::Webhook { format: format(sink.format), template, content_type: sink.content_type.clone(), batch })
}

fn settings(
    config: &HttpConfig,
    receiver: &Receiver,
    name: Option<&String>,
    secrets: &mut Secrets,
) -> anyhow::Result<(Settings, String)> {
    let mut url = match &config.url {
        Some(url) => url.clone(),
        None => secrets.read(&config.url_file, &config.url_env)?.unwrap_or_else(|| PAGERDUTY.to_owned()),
    };
    let name = name.cloned().unwrap_or_else(|| own_name(receiver.name(), &url));
    if let Receiver::Elasticsearch { .. } = receiver {
        url = format!("{}/_bulk?filter_path=items.*.status,items.*.error.reason", url.trim_end_matches('/'));
    }
    let authorities = config.ca_file.as_ref().map(|file| secrets.content(file).context("ca_file"));
    let token = secrets.read(&config.token_file, &config.token_env)?.map(|token| format!("Bearer {token}"));
    let password = secrets.read(&config.password_file, &config.password_env)?.unwrap_or_default();
    let basic = config.user.as_ref().map(|user| format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
    // Those that hold templates are filled in for each request.
    let plain = config.headers.iter().filter(|(_, value)| !is_template(value));
    let settings = Settings {
        url,
        headers: plain.map(|(name, value)| (name.clone(), value.clone())).collect(),
        authorization: token.or(basic),
        signing_key: secrets.read(&config.signing_key_file, &config.signing_key_env)?.map(String::into_bytes),
        authorities: authorities.transpose()?,
        timeout: Duration::from_micros(config.timeout.0.unsigned_abs()),
    };
    Ok((settings, name))
}

fn format(format: SinkFormat) -> Format {
    match format {
        SinkFormat::Json => Format::Json,
        SinkFormat::Ocsf => Format::Ocsf,
        SinkFormat::Ecs => Format::Ecs,
        SinkFormat::Falco => Format::Falco,
    }
}

fn matcher(config: &MatchConfig) -> Matcher {
    let MatchConfig { min_level, levels, rules, tags, namespaces, users, clusters } = config.clone();
    Matcher { level_min: min_level, levels, rules, tags, namespaces, users, clusters }
}

fn route(config: &RouteConfig) -> Route {
    Route {
        matcher: matcher(&config.matches),
        drop: config.drop,
        group_by: config.group_by.clone(),
        interval_us: config.group_interval.0,
        suppress_us: config.suppress.0,
    }
}

fn silenced(config: &SilenceConfig) -> Silence {
    let at = |time: Option<crate::config::values::Instant>| time.map(|time| time.0);
    Silence { matcher: matcher(&config.matches), from_us: at(config.from), until_us: at(config.until) }
}

struct Stdout {
    name: String,
    format: Format,
}

impl Sink for Stdout {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn send(&mut self, alerts: &[(i64, String)]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for line in lines(alerts, self.format) {
            writeln!(out, "{line}")?;
        }
        out.flush()
    }
}

struct ToFile {
    name: String,
    format: Format,
    file: AlertFile,
}

impl Sink for ToFile {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn send(&mut self, alerts: &[(i64, String)]) -> io::Result<()> {
        let lines: Vec<_> = lines(alerts, self.format).collect();
        self.file.append(lines.iter().map(AsRef::as_ref))
    }
}

/// Alerts in their shape. One that cannot be read is told as it is.
fn lines(alerts: &[(i64, String)], format: Format) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
    alerts.iter().map(move |(_, line)| shaped(line, format).unwrap_or(line.as_str().into()))
}

struct ToSyslog {
    name: String,
    syslog: Syslog,
}

impl Sink for ToSyslog {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn send(&mut self, alerts: &[(i64, String)]) -> io::Result<()> {
        self.syslog.send(alerts)
    }

    fn settled(&self) -> i64 {
        self.syslog.settled()
    }
}

/// Alerts on their way to one receiver.
struct ToHttp {
    name: String,
    poster: Poster,
    client: Client,
    dead_letter: Option<AlertFile>,
    say: Say,
}

impl Sink for ToHttp {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn send(&mut self, alerts: &[(i64, String)]) -> io::Result<()> {
        let ToHttp { name, poster, client, dead_letter, say } = self;
        let mut give_up = |line: &str, why: &str| {
            say.problem(&format!("sink {name}: an alert was refused for good ({why}); it stays in the store"));
            dead_letter.as_mut().map_or(Ok(()), |file| file.append([line]))
        };
        // A pipe that breaks on the way is the receiver's, not ours: it must not end the run.
        let later = |error: io::Error| match error.kind() {
            io::ErrorKind::BrokenPipe => io::Error::other(error.to_string()),
            _ => error,
        };
        poster.send(alerts, &mut |body| client.post(body).map_err(later), &mut give_up)
    }

    fn settled(&self) -> i64 {
        self.poster.settled()
    }

    fn given_up(&self) -> u64 {
        self.poster.given_up
    }
}

/// A text in a file, without the newline at its end.
fn secret(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("sinks: {}", file.display()))?;
    let text = text.trim().to_owned();
    anyhow::ensure!(!text.is_empty(), "sinks: {}: it is empty", file.display());
    Ok(text)
}

/// Tells receivers apart without telling the url.
fn own_name(kind: &str, url: &str) -> String {
    let host = url.split('/').nth(2).unwrap_or_default().rsplit('@').next().unwrap_or_default();
    format!("{kind}:{host}#{}", digest(url))
}

/// Eight hex digits that stand for a text.
fn digest(text: impl AsRef<[u8]>) -> String {
    Sha256::digest(text).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_the_secret() {
        let one = own_name("slack", "https://u:p@hooks.slack.com/services/T0/B0/x");
        assert!(one.starts_with("slack:hooks.slack.com#") && one.len() == 30, "{one}");
        assert_ne!(one, own_name("slack", "https://u:p@hooks.slack.com/services/T0/B0/y"));
    }
}
