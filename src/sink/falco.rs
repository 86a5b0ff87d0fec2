//! Falco's JSON output, as falcosidekick and its many targets read it. Field names are those of Falco's k8saudit plugin.

use serde_json::{Map, Value, json};

use crate::alert::Alert;
use crate::rules::Level;

/// One alert in Falco's shape.
pub fn render(alert: &Alert) -> Value {
    let actor = &alert.actor;
    let target = &alert.target;
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            fields.insert(name.to_owned(), value);
        }
    };
    let deciding = alert.events.last();
    put("ka.auditid", json!(deciding.map(|e| &e.audit_id)));
    // Falco's ka.user is who authenticated; an impersonated identity is apart.
    put("ka.user.name", json!(actor.impersonated_by.as_ref().unwrap_or(&actor.username)));
    put("ka.impuser.name", json!(actor.impersonated_by.as_ref().map(|_| &actor.username)));
    put("ka.user.groups", json!(actor.groups.join(",")));
    put("ka.verb", json!(target.verb));
    put("ka.uri", json!(target.uri));
    put("ka.target.resource", json!(target.resource));
    put("ka.target.subresource", json!(target.subresource));
    put("ka.target.namespace", json!(target.namespace));
    put("ka.target.name", json!(target.name));
    put("ka.response.code", json!(alert.outcome.code.map(|c| c.to_string())));
    put("ka.auth.decision", json!(alert.outcome.decision));
    put("ka.sourceips", json!(actor.client_ip));
    put("ka.useragent", json!(actor.user_agent));
    put("ka.cluster.name", json!((!alert.cluster.is_empty()).then_some(&alert.cluster)));
    put("auditwatch.id", json!(alert.id));
    put("auditwatch.ref", json!(alert.rule.reference));
    put("auditwatch.count", json!(alert.count));
    json!({
        "uuid": uuid(&alert.id),
        "output": format!("{}: {} {}", clock(&alert.time), priority(alert.rule.level), alert.message),
        "priority": priority(alert.rule.level),
        "rule": alert.rule.title,
        "source": "k8s_audit",
        "tags": alert.rule.tags,
        "time": nanoseconds(&alert.time),
        "output_fields": fields,
    })
}

/// Falco's priorities are syslog's.
fn priority(level: Level) -> &'static str {
    match level {
        Level::Informational => "Informational",
        Level::Low => "Notice",
        Level::Medium => "Warning",
        Level::High => "Error",
        Level::Critical => "Critical",
    }
}

/// The time of day, as Falco begins its output lines.
fn clock(time: &str) -> String {
    let nanoseconds = nanoseconds(time);
    nanoseconds.split_once('T').map_or("", |(_, clock)| clock.trim_end_matches('Z')).to_owned()
}

/// Falco writes nanoseconds.
fn nanoseconds(time: &str) -> String {
    match time.strip_suffix('Z') {
        Some(micros) => format!("{micros}000Z"),
        None => time.to_owned(),
    }
}

/// 32 hex digits with a UUID's hyphens.
fn uuid(id: &str) -> String {
    match (id.get(..8), id.get(8..12), id.get(12..16), id.get(16..20), id.get(20..)) {
        (Some(a), Some(b), Some(c), Some(d), Some(e)) => [a, b, c, d, e].join("-"),
        _ => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::tests::alert_of_rule;

    #[test]
    fn speaks_falco() {
        let mut alert = alert_of_rule();
        let value = render(&alert);
        assert_eq!(value["priority"], "Error");
        assert_eq!(value["time"], "2026-11-23T19:30:29.041592000Z");
        assert!(value["output"].as_str().unwrap().starts_with("19:30:29.041592000: Error Secrets listed"), "{value}");
        assert_eq!(value["output_fields"]["ka.user.name"], "alice");
        assert!(value["output_fields"].get("ka.impuser.name").is_none());
        assert_eq!(value["uuid"].as_str().unwrap().len(), 36);
        alert.actor.impersonated_by = Some("bob".into());
        let value = render(&alert);
        assert_eq!(value["output_fields"]["ka.user.name"], "bob");
        assert_eq!(value["output_fields"]["ka.impuser.name"], "alice");
    }
}
