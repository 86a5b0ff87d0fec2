//! Elastic Common Schema: an alert as a document that Kibana's security views understand.

use serde_json::{Value, json};

use super::techniques;
use crate::alert::Alert;
use crate::rules::Level;

/// The version of the schema whose fields are used.
const VERSION: &str = "8.17.0";

/// One alert as an ECS document.
pub fn render(alert: &Alert) -> Value {
    let actor = &alert.actor;
    let target = &alert.target;
    let (mut techniques, subs): (Vec<String>, Vec<Option<String>>) = techniques(alert).unzip();
    techniques.dedup();
    let subs: Vec<String> = subs.into_iter().flatten().collect();
    // ECS: `user` is who authenticated, `user.effective` the identity that was taken.
    let user = match &actor.impersonated_by {
        Some(by) => json!({"name": by, "effective": {"name": actor.username}}),
        None => json!({"name": actor.username}),
    };
    let mut out = json!({
        "@timestamp": alert.time,
        "message": alert.message,
        "ecs": {"version": VERSION},
        "tags": alert.rule.tags,
        "event": {
            "kind": "alert",
            "category": ["intrusion_detection"],
            "type": ["info"],
            "id": alert.id,
            "module": "auditwatch",
            "dataset": "auditwatch.alert",
            "provider": "kube-apiserver",
            "action": target.verb,
            "outcome": outcome(alert.outcome.code),
            "severity": severity(alert.rule.level),
        },
        "rule": {"uuid": alert.rule.id, "id": alert.rule.reference.as_ref().unwrap_or(&alert.rule.id),
                 "name": alert.rule.title, "ruleset": "auditwatch"},
        "user": user,
        "url": {"original": target.uri},
        "orchestrator": {"type": "kubernetes"},
        "observer": {"vendor": "auditwatch", "product": "auditwatch", "version": env!("CARGO_PKG_VERSION")},
        "auditwatch": {"kind": alert.kind, "level": alert.rule.level, "count": alert.count, "group": alert.group,
                       "window": alert.window, "groups": actor.groups, "decision": alert.outcome.decision,
                       "events": alert.events, "source": alert.source},
    });
    if let Some(code) = alert.outcome.code {
        out["http"] = json!({"response": {"status_code": code}});
    }
    // A field of type `ip` refuses anything else.
    if let Some(ip) = actor.client_ip.as_ref().filter(|ip| ip.parse::<std::net::IpAddr>().is_ok()) {
        out["source"] = json!({"ip": ip});
    }
    if let Some(agent) = &actor.user_agent {
        out["user_agent"] = json!({"original": agent});
    }
    if !techniques.is_empty() {
        out["threat"] = json!({"framework": "MITRE ATT&CK", "technique": {"id": techniques}});
        if !subs.is_empty() {
            out["threat"]["technique"]["subtechnique"] = json!({ "id": subs });
        }
    }
    if !alert.cluster.is_empty() {
        out["orchestrator"]["cluster"] = json!({"name": alert.cluster});
    }
    if let Some(namespace) = &target.namespace {
        out["orchestrator"]["namespace"] = json!(namespace);
    }
    if let Some(resource) = &target.resource {
        out["orchestrator"]["resource"] = json!({"type": resource, "name": target.name.as_deref().unwrap_or("")});
    }
    out
}

fn outcome(code: Option<i64>) -> &'static str {
    match code {
        Some(..400) => "success",
        Some(_) => "failure",
        None => "unknown",
    }
}

/// Elastic's own risk scores for its levels.
fn severity(level: Level) -> u8 {
    match level {
        Level::Informational => 1,
        Level::Low => 21,
        Level::Medium => 47,
        Level::High => 73,
        Level::Critical => 99,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::tests::alert_of_rule;

    #[test]
    fn is_an_ecs_alert() {
        let mut alert = alert_of_rule();
        alert.actor.impersonated_by = Some("bob".into());
        let value = render(&alert);
        assert_eq!(value["event"]["kind"], "alert");
        assert_eq!(value["event"]["severity"], 73);
        assert_eq!((&value["user"]["name"], &value["user"]["effective"]["name"]), (&json!("bob"), &json!("alice")));
        assert_eq!(value["threat"]["technique"], json!({"id": ["T1552"], "subtechnique": {"id": ["T1552.007"]}}));
        assert_eq!(value["source"]["ip"], "10.0.0.7");
        alert.actor.client_ip = Some("not an address".into());
        assert!(render(&alert).get("source").is_none());
    }
}
