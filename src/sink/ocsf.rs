//! OCSF Detection Finding (class 2004), <https://schema.ocsf.io/classes/detection_finding>.

use serde_json::{Value, json};

use super::techniques;
use crate::alert::{Alert, Kind};
use crate::event::time::parse_micros;
use crate::rules::Level;

/// The version of the schema whose attributes are used.
const VERSION: &str = "1.6.0";

/// One alert as a Detection Finding.
pub fn render(alert: &Alert) -> Value {
    let attack = |(technique, sub): (String, Option<String>)| {
        let sub = sub.map(|uid| json!({ "uid": uid }));
        json!({"technique": {"uid": technique}, "sub_technique": sub})
    };
    let attacks: Vec<Value> = techniques(alert).map(attack).collect();
    // OCSF has no type for a rule over several events; 99 is "other".
    let (type_id, type_name) = match alert.kind {
        Kind::Rule => (1, "Rule"),
        Kind::Correlation => (99, "Correlation"),
    };
    let millis = |time: &str| parse_micros(time.as_bytes()).map(|us| us / 1000);
    let (first, last) = match &alert.window {
        Some(window) => (millis(&window.from), millis(&window.to)),
        None => (Some(alert.time_us / 1000), Some(alert.time_us / 1000)),
    };
    let mut out = json!({
        "activity_id": 1,
        "activity_name": "Create",
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": 2004,
        "class_name": "Detection Finding",
        "type_uid": 200_401,
        "type_name": "Detection Finding: Create",
        "time": alert.time_us / 1000,
        "start_time": first,
        "end_time": last,
        "count": alert.count,
        "severity_id": alert.rule.level as u8 + 1,
        "severity": severity(alert.rule.level),
        "status_id": 1,
        "status": "New",
        "is_alert": true,
        "message": alert.message,
        "metadata": {
            "version": VERSION,
            "uid": alert.id,
            "product": {"name": "auditwatch", "vendor_name": "auditwatch", "version": env!("CARGO_PKG_VERSION")},
            "labels": alert.rule.tags,
        },
        "finding_info": {
            "uid": alert.id,
            "title": alert.rule.title,
            "desc": alert.message,
            "created_time": alert.time_us / 1000,
            "first_seen_time": first,
            "last_seen_time": last,
            "data_sources": ["Kubernetes audit log"],
            "analytic": {
                "uid": alert.rule.id,
                "name": alert.rule.reference.as_ref().unwrap_or(&alert.rule.title),
                "type_id": type_id,
                "type": type_name,
            },
            "attacks": attacks,
        },
        "evidences": [evidence(alert)],
        "unmapped": {"cluster": alert.cluster, "group": alert.group, "events": alert.events, "source": alert.source,
                     "user_agent": alert.actor.user_agent, "decision": alert.outcome.decision},
    });
    if let Some(resource) = &alert.target.resource {
        let target = &alert.target;
        out["resources"] = json!([{"type": resource, "name": target.name, "namespace": target.namespace}]);
    }
    without_null(&mut out);
    out
}

fn evidence(alert: &Alert) -> Value {
    let groups: Vec<Value> = alert.actor.groups.iter().map(|name| json!({"name": name})).collect();
    let mut out = json!({
        "actor": {"user": {"name": alert.actor.username, "groups": groups}},
        "api": {
            "operation": alert.target.verb,
            "request": {"uid": alert.events.last().map_or("", |e| &e.audit_id)},
            "response": {"code": alert.outcome.code},
        },
        "url": {"path": alert.target.uri},
    });
    if let Some(ip) = &alert.actor.client_ip {
        out["src_endpoint"] = json!({"ip": ip});
    }
    if let Some(by) = &alert.actor.impersonated_by {
        out["actor"]["invoked_by"] = json!(by);
    }
    out
}

fn severity(level: Level) -> &'static str {
    match level {
        Level::Informational => "Informational",
        Level::Low => "Low",
        Level::Medium => "Medium",
        Level::High => "High",
        Level::Critical => "Critical",
    }
}

/// OCSF attributes are left out rather than null.
fn without_null(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(without_null);
        }
        Value::Array(list) => list.iter_mut().for_each(without_null),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::tests::{alert_of_correlation, alert_of_rule};

    #[test]
    fn is_a_detection_finding() {
        let value = render(&alert_of_rule());
        assert_eq!(value["class_uid"], 2004);
        assert_eq!(value["type_uid"], 200_401);
        assert_eq!(value["severity_id"], 4);
        assert_eq!(value["time"], 1_795_462_229_041_i64);
        let attack = json!({"technique": {"uid": "T1552"}, "sub_technique": {"uid": "T1552.007"}});
        assert_eq!(value["finding_info"]["attacks"], json!([attack]));
        assert!(!value.to_string().contains("null"), "{value}");
        let value = render(&alert_of_correlation());
        assert_eq!(value["start_time"], 1_795_462_200_000_i64);
        assert_eq!(value["count"], 8);
    }
}
