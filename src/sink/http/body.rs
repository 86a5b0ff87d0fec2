//! What each receiver is sent: from alerts, as they are stored, to the request; and what its answer means. Pure.

use serde_json::{Map, Value, json};

use super::super::Format;
use super::super::shape::shaped;
use super::{Reply, Verdict, verdict};
use crate::event::time::parse_micros;
use chat::{slack, teams};
use template::Template;

mod chat;
pub mod template;

/// Where PagerDuty takes events.
pub const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// Who takes alerts by HTTP.
#[allow(clippy::large_enum_variant, reason = "there is one for each sink, and none is moved about")]
#[derive(Debug)]
pub enum Receiver {
    /// Anything that takes `{"alerts": […]}`, in this shape and so many at once.
    Webhook {
        /// The shape of alerts.
        format: Format,
        /// What the body and headers are made of.
        template: Option<Template>,
        /// What the body is.
        content_type: String,
        /// Alerts in a request, at most.
        batch: usize,
    },
    /// Prometheus Alertmanager, `/api/v2/alerts`.
    Alertmanager,
    /// A Slack incoming webhook, or what speaks its language.
    Slack,
    /// A Microsoft Teams webhook.
    Teams,
    /// PagerDuty's Events API v2.
    Pagerduty {
        /// The integration's key.
        routing_key: String,
    },
    /// falcosidekick.
    Falcosidekick,
    /// Elasticsearch or OpenSearch, `/_bulk`.
    Elasticsearch {
        /// The index or data stream.
        index: String,
        /// The shape of documents.
        format: Format,
    },
    /// Grafana Loki, `/loki/api/v1/push`.
    Loki {
        /// Labels of every stream.
        labels: Vec<(String, String)>,
        /// The shape of lines.
        format: Format,
    },
}

/// A request: what is posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The content.
    pub bytes: Vec<u8>,
    /// What it is.
    pub content_type: String,
    /// Headers of this request alone.
    pub headers: Vec<(String, String)>,
}

/// What became of one alert of a request, and what was said of it.
pub(super) type Judged = (Verdict, String);

impl Receiver {
    /// Its kind, as the configuration writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Receiver::Webhook { .. } => "webhook",
            Receiver::Alertmanager => "alertmanager",
            Receiver::Slack => "slack",
            Receiver::Teams => "teams",
            Receiver::Pagerduty { .. } => "pagerduty",
            Receiver::Falcosidekick => "falcosidekick",
            Receiver::Elasticsearch { .. } => "elasticsearch",
            Receiver::Loki { .. } => "loki",
        }
    }

    /// How many alerts go into one request, at most.
    pub fn alerts_per_request(&self) -> usize {
        match self {
            Receiver::Webhook { batch, .. } => (*batch).max(1),
            Receiver::Alertmanager | Receiver::Elasticsearch { .. } | Receiver::Loki { .. } => 50,
            // One message for a storm.
            Receiver::Slack | Receiver::Teams => 200,
            // They take one event at a time.
            Receiver::Pagerduty { .. } | Receiver::Falcosidekick => 1,
        }
    }

    /// The request for these lines.
    ///
    /// # Errors
    /// A line is no alert, or the template cannot be filled in with it; says why.
    pub fn request(&self, lines: &[&str]) -> Result<Body, String> {
        let json = |value: Value| Ok(Body::new(value.to_string().into_bytes(), "application/json"));
        let alerts = || -> Result<Vec<Value>, String> { lines.iter().map(|line| value(line)).collect() };
        let in_shape = |format: Format| lines.iter().map(move |line| shaped(line, format));
        match self {
            Receiver::Webhook { format, template, content_type, .. } => {
                let alerts: Result<Vec<Value>, String> = in_shape(*format).map(|line| value(&line?)).collect();
                match template {
                    Some(template) => template.fill(alerts?, content_type),
                    None => Ok(Body::new(json!({ "alerts": alerts? }).to_string().into_bytes(), content_type)),
                }
            }
            Receiver::Alertmanager => json(alerts()?.iter().map(alertmanager).collect()),
            Receiver::Slack => json(slack(&alerts()?)),
            Receiver::Teams => json(teams(&alerts()?)),
            Receiver::Pagerduty { routing_key } => {
                json(alerts()?.first().map_or(json!({}), |one| pagerduty(one, routing_key)))
            }
            Receiver::Falcosidekick => {
                json(in_shape(Format::Falco).next().map_or(Ok(json!({})), |line| value(&line?))?)
            }
            Receiver::Elasticsearch { index, format } => {
                let mut bytes = Vec::new();
                for (line, shaped) in lines.iter().zip(in_shape(*format)) {
                    let action = json!({"create": {"_index": index, "_id": text(&value(line)?, "/id")}});
                    bytes.extend_from_slice(format!("{action}\n{}\n", shaped?).as_bytes());
                }
                Ok(Body::new(bytes, "application/x-ndjson"))
            }
            Receiver::Loki { labels, format } => {
                let lines: Result<Vec<_>, String> = lines
                    .iter()
                    .zip(in_shape(*format))
                    .map(|(line, shaped)| Ok((value(line)?, shaped?.into_owned())))
                    .collect();
                json(loki(&lines?, labels))
            }
        }
    }

    /// What an answer says of each of so many alerts.
    pub(super) fn judge(&self, reply: &Reply, alerts: usize) -> Vec<Judged> {
        let all = || vec![(verdict(reply.status), format!("{}: {}", reply.status, reply.said)); alerts];
        match self {
            Receiver::Elasticsearch { .. } if reply.status == 200 => {
                let items = bulk_items(&reply.body);
                // An answer that tells nothing of each is taken at its word.
                if items.len() == alerts { items } else { all() }
            }
            _ => all(),
        }
    }
}

impl Body {
    fn new(bytes: Vec<u8>, content_type: &str) -> Body {
        Body { bytes, content_type: content_type.to_owned(), headers: Vec::new() }
    }
}

fn value(line: &str) -> Result<Value, String> {
    serde_json::from_str(line).map_err(|_| "the stored alert is no JSON".to_owned())
}

/// A text below an alert, or nothing.
fn text<'a>(alert: &'a Value, pointer: &str) -> &'a str {
    alert.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The id is a label: two findings are never one. It has no end, so that an old finding is not resolved on arrival.
fn alertmanager(alert: &Value) -> Value {
    let name = match text(alert, "/rule/ref") {
        "" => text(alert, "/rule/title"),
        reference => reference,
    };
    let labels = [
        ("alertname", name),
        ("severity", text(alert, "/rule/level")),
        ("cluster", text(alert, "/cluster")),
        ("namespace", text(alert, "/target/namespace")),
        ("username", text(alert, "/actor/username")),
        ("auditwatch_id", text(alert, "/id")),
    ];
    // Alertmanager takes an empty label for none.
    let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
    let labels: Map<String, Value> = labels.map(|(name, value)| (name.to_owned(), value.into())).collect();
    json!({
        "labels": labels,
        "annotations": {
            "summary": text(alert, "/rule/title"),
            "description": text(alert, "/message"),
            "time": text(alert, "/time"),
        },
    })
}

/// A summary of more is refused.
const SUMMARY_CHARS: usize = 1024;

/// What was grouped is one incident: its key is the group, not the alert.
fn pagerduty(alert: &Value, routing_key: &str) -> Value {
    let severity = match text(alert, "/rule/level") {
        "critical" => "critical",
        "high" => "error",
        "medium" => "warning",
        _ => "info",
    };
    let source = match text(alert, "/cluster") {
        "" => "kubernetes",
        cluster => cluster,
    };
    let key = match alert.pointer("/grouped/by") {
        Some(by) => by.to_string(),
        None => text(alert, "/id").to_owned(),
    };
    json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": key.chars().take(255).collect::<String>(),
        "client": "auditwatch",
        "payload": {
            "summary": text(alert, "/message").chars().take(SUMMARY_CHARS).collect::<String>(),
            "source": source,
            "severity": severity,
            "timestamp": text(alert, "/time"),
            "component": "kube-apiserver",
            "group": text(alert, "/target/namespace"),
            "class": text(alert, "/rule/ref"),
            "custom_details": alert,
        },
    })
}

/// One stream for each set of labels; the labels are few, whatever an alert says.
fn loki(lines: &[(Value, String)], labels: &[(String, String)]) -> Value {
    let mut streams: Vec<(Map<String, Value>, Vec<Value>)> = Vec::new();
    for (alert, line) in lines {
        let own = [("job", "auditwatch"), ("level", text(alert, "/rule/level")), ("cluster", text(alert, "/cluster"))];
        let own = own.into_iter().filter(|(_, value)| !value.is_empty());
        let mut stream: Map<String, Value> = own.map(|(name, value)| (name.to_owned(), value.into())).collect();
        stream.extend(labels.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
        let nanoseconds = parse_micros(text(alert, "/time").as_bytes()).unwrap_or_default().saturating_mul(1000);
        let entry = json!([nanoseconds.to_string(), line]);
        match streams.iter_mut().find(|(known, _)| *known == stream) {
            Some((_, entries)) => entries.push(entry),
            None => streams.push((stream, vec![entry])),
        }
    }
    let streams: Vec<Value> =
        streams.into_iter().map(|(stream, values)| json!({"stream": stream, "values": values})).collect();
    json!({ "streams": streams })
}

/// What a bulk answer says of each document. One that is there already was taken before.
fn bulk_items(body: &[u8]) -> Vec<Judged> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let items = answer.get("items").and_then(Value::as_array).into_iter().flatten();
    let judged = items.map(|item| {
        let done = item.get("create").or_else(|| item.get("index")).unwrap_or(&Value::Null);
        let status = done.get("status").and_then(Value::as_u64).unwrap_or_default();
        let why = done.pointer("/error/reason").and_then(Value::as_str).unwrap_or_default();
        let verdict = if status == 409 { Verdict::Taken } else { verdict(u16::try_from(status).unwrap_or_default()) };
        (verdict, format!("{status}: {why}"))
    });
    judged.collect()
}

#[cfg(test)]
mod tests;
