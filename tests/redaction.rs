//! No secret leaves the process, whatever the format. (The dead letter alone is raw; it is not asked for here.)

use serde_json::{Value, json};

use crate::support::{auditwatch, ran};

const JWT: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2VjcmV0LXNpZ25hdHVyZQ";
const PASSWORD: &str = "aHVudGVyMi1pbi1iYXNlNjQ=";

/// Events of rules that match everything below, with a secret wherever one can stand.
fn events() -> Vec<Value> {
    let event = |n: usize, more: Value| {
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse",
            "auditID": format!("00000000-0000-4000-8000-{n:012}"), "stage": "ResponseComplete", "verb": "create",
            "requestURI": "/x", "user": {"username": "mallory", "groups": ["system:authenticated"]},
            "sourceIPs": ["192.0.2.1"], "userAgent": "kubectl", "objectRef": {"resource": "secrets", "namespace": "shop"},
            "responseStatus": {"code": 201}, "annotations": {"authorization.k8s.io/decision": "allow"},
            "requestReceivedTimestamp": format!("2026-11-23T19:30:{n:02}.000000Z"),
            "stageTimestamp": format!("2026-11-23T19:30:{n:02}.000000Z"),
        });
        let members = more.as_object().unwrap().clone();
        event.as_object_mut().unwrap().extend(members);
        event
    };
    let secret = json!({"kind": "Secret", "data": {"password": PASSWORD}, "stringData": {"p": PASSWORD},
        "metadata": {"name": "db", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": PASSWORD}}});
    let uri = |query: &str| {
        json!({"verb": "get", "requestURI": format!("/api/v1/namespaces/shop/pods/a/exec?{query}"),
        "objectRef": {"resource": "pods", "subresource": "exec", "namespace": "shop", "name": "a"}})
    };
    vec![
        event(1, json!({"requestObject": secret, "responseObject": secret})),
        event(2, uri(&format!("command=curl&command=-H&command=Authorization%3A+Bearer+{JWT}"))),
        event(3, uri(&format!("command=login&command=--token={JWT}"))),
        event(4, json!({"requestURI": format!("/api/v1/secrets?access_token={JWT}")})),
        event(5, json!({"userAgent": format!("curl (Bearer {JWT})")})),
        event(
            6,
            json!({"objectRef": {"resource": "serviceaccounts", "subresource": "token", "name": "sa"},
            "responseObject": {"kind": "TokenRequest", "status": {"token": JWT}}}),
        ),
    ]
}

/// Rules that alert on every event, and a correlation that groups by and counts the very fields that hold secrets.
const RULES: &str = r#"
title: Everything
id: 0b6a9b0e-54c4-4d2c-8a4e-0d6a0b0c0001
name: everything
logsource: {product: kubernetes, service: audit}
level: high
detection:
  selection: {verb: [get, create]}
  condition: selection
---
title: By secrets
id: 0b6a9b0e-54c4-4d2c-8a4e-0d6a0b0c0002
level: high
correlation:
  type: event_count
  rules: [everything]
  group-by: [FIELD]
  timespan: 10m
  condition: {gte: 1}
  generate: true
"#;

#[test]
fn no_format_tells_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let (log, rules, stats) = (folder.path().join("a.log"), folder.path().join("r.yml"), folder.path().join("s.json"));
    // The last line is broken, so that the summary has to tell of a line that holds a token.
    let lines: Vec<String> = events().iter().map(Value::to_string).chain([format!("{{\"token\":\"{JWT}\"")]).collect();
    std::fs::write(&log, lines.join("\n")).unwrap();
    let fields = [
        "requestObject.data.password",
        "requestObject.stringData.p",
        "requestURI",
        "userAgent",
        "responseObject.status.token",
        "k8s.commandLine",
        "k8s.exec.command",
        "requestObject.metadata.annotations.kubectl.kubernetes.io/last-applied-configuration",
    ];
    for field in fields {
        std::fs::write(&rules, RULES.replace("FIELD", field)).unwrap();
        for format in ["table", "json", "ocsf", "ecs", "falco"] {
            let mut command = auditwatch();
            command.args(["replay", "--verbose", "--format", format, "--rules"]).arg(&rules);
            let run = ran(command.arg("--stats").arg(&stats).arg(&log));
            assert_eq!(run.code, Some(0), "{}", run.err);
            assert!(run.out.lines().count() >= 6, "{field} {format}: {}", run.out);
            let told = std::fs::read_to_string(&stats).unwrap();
            for secret in [JWT, PASSWORD, &JWT[40..]] {
                for (where_, text) in [("stdout", &run.out), ("stderr", &run.err), ("stats", &told)] {
                    assert!(!text.contains(secret), "{field} {format} {where_}: {secret} in {text}");
                }
            }
        }
    }
}
