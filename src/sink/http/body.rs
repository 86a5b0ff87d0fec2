//! What each receiver is sent: from alerts, as they are stored, to the body of a request. Pure.

use serde_json::{Map, Value, json};

/// So many alerts are told one by one in a chat message; the rest is a number.
const LINES_IN_CHAT: usize = 10;

/// Who takes alerts by HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// Anything that takes `{"alerts": […]}`.
    Webhook,
    /// Prometheus Alertmanager, `/api/v2/alerts`.
    Alertmanager,
    /// A Slack incoming webhook, or what speaks its language.
    Slack,
}

impl Receiver {
    /// How many alerts go into one request, at most.
    pub fn alerts_per_request(self) -> usize {
        match self {
            Receiver::Webhook | Receiver::Alertmanager => 50,
            // One message for a storm.
            Receiver::Slack => 200,
        }
    }

    /// The body of a request, JSON.
    pub fn body(self, alerts: &[Value]) -> Vec<u8> {
        let body = match self {
            Receiver::Webhook => json!({ "alerts": alerts }),
            Receiver::Alertmanager => alerts.iter().map(alertmanager).collect(),
            Receiver::Slack => slack(alerts),
        };
        body.to_string().into_bytes()
    }
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

fn slack(alerts: &[Value]) -> Value {
    let line = |alert: &Value| {
        let cluster = text(alert, "/cluster");
        let place = if cluster.is_empty() { String::new() } else { format!(" in {}", quiet(cluster)) };
        let (level, title) = (text(alert, "/rule/level"), quiet(text(alert, "/rule/title")));
        format!("*{level}* {title}{place}: {} ({})", quiet(text(alert, "/message")), text(alert, "/time"))
    };
    let mut lines: Vec<String> = alerts.iter().take(LINES_IN_CHAT).map(line).collect();
    if alerts.len() > LINES_IN_CHAT {
        lines.push(format!("and {} more", alerts.len() - LINES_IN_CHAT));
    }
    json!({ "text": lines.join("\n") })
}

/// Text that a client of the cluster chose must not mention a channel, make a link or break the line.
fn quiet(text: &str) -> String {
    let escape = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        c if c.is_control() => " ".to_owned(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(id: &str) -> Value {
        json!({
            "id": id, "time": "2026-11-23T19:30:29.041592Z", "cluster": "eu", "message": "<!channel> a & b\nc",
            "rule": {"id": "u", "ref": "SEC-002", "title": "Secrets read", "level": "high", "tags": []},
            "actor": {"username": "mallory"}, "target": {"namespace": null},
        })
    }

    fn body(receiver: Receiver, alerts: &[Value]) -> Value {
        serde_json::from_slice(&receiver.body(alerts)).unwrap()
    }

    #[test]
    fn each_receiver_is_told_in_its_own_words() {
        for (receiver, expected) in [
            (Receiver::Webhook, json!({"alerts": [alert("1")]})),
            (
                Receiver::Alertmanager,
                json!([{
                    "labels": {"alertname": "SEC-002", "severity": "high", "cluster": "eu", "username": "mallory",
                        "auditwatch_id": "1"},
                    "annotations": {"summary": "Secrets read", "description": "<!channel> a & b\nc",
                        "time": "2026-11-23T19:30:29.041592Z"},
                }]),
            ),
            (
                Receiver::Slack,
                json!({"text": "*high* Secrets read in eu: &lt;!channel&gt; a &amp; b c (2026-11-23T19:30:29.041592Z)"}),
            ),
        ] {
            assert_eq!(body(receiver, &[alert("1")]), expected, "{receiver:?}");
        }
    }

    #[test]
    fn a_storm_is_one_message_with_a_count() {
        let storm: Vec<Value> = (0..150).map(|n| alert(&n.to_string())).collect();
        let told = body(Receiver::Slack, &storm);
        let told = told["text"].as_str().unwrap();
        assert_eq!(told.lines().count(), LINES_IN_CHAT + 1);
        assert!(told.ends_with("\nand 140 more"));
    }

    #[test]
    fn what_is_missing_harms_nobody() {
        for receiver in [Receiver::Webhook, Receiver::Alertmanager, Receiver::Slack] {
            body(receiver, &[json!({}), json!(1), json!({"rule": []})]);
        }
    }
}
