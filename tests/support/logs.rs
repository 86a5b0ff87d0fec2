//! Logs for tests: the repository's samples as lines, and events made up from a seed.

use std::fs;
use std::io::Read;
use std::path::Path;

use auditwatch::event::time::format_micros;
use serde_json::{Value, json};

use super::root;
pub use crate::generate::support::Random;

/// 2026-11-23T12:00:00Z in microseconds.
pub const START_US: i64 = 1_795_435_200_000_000;

impl Random {
    /// Any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for n in (1..items.len()).rev() {
            items.swap(n, self.below(n + 1));
        }
    }
}

/// The lines of a sample log, decompressed, each with its newline.
pub fn sample(name: &str) -> Vec<String> {
    let bytes = fs::read(root().join("sample-logs").join(name)).unwrap();
    let mut text = String::new();
    if name.ends_with(".gz") {
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    text.split_inclusive('\n').map(str::to_owned).collect()
}

/// The log of `sample-logs/three-servers` as one, in the order of the files.
pub fn three_servers() -> Vec<String> {
    ["api-0.log.gz", "api-1.log", "api-2.log"].iter().flat_map(|n| sample(&format!("three-servers/{n}"))).collect()
}

/// An event's time as it is in windows, microseconds.
pub fn time_of(line: &str) -> i64 {
    let event: Value = serde_json::from_str(line).unwrap();
    auditwatch::event::time::parse_micros(event["stageTimestamp"].as_str().unwrap().as_bytes()).unwrap()
}

/// Writes lines to a file.
pub fn write(path: &Path, lines: &[String]) {
    fs::write(path, lines.concat()).unwrap();
}

/// A good event: a person lists all secrets, which is told by itself (SEC-001). Without a newline.
pub fn secrets_listed(audit_id: &str, second: i64) -> Value {
    let time = format_micros(START_US + second * 1_000_000);
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": audit_id,
        "stage": "ResponseComplete", "requestURI": "/api/v1/secrets?limit=500", "verb": "list",
        "user": {"username": "mallory", "groups": ["dev", "system:authenticated"]},
        "sourceIPs": ["203.0.113.9"], "userAgent": "kubectl/v1.36.3 (linux/amd64) kubernetes/0000000",
        "objectRef": {"resource": "secrets", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": time, "stageTimestamp": time,
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
    })
}

/// Events of all kinds, some 100 ms apart: bursts of 401s, secret reads, grants and their use, execs in two stages,
/// deletions, and what is ordinary in between.
pub fn synthetic(seed: u64, count: usize) -> Vec<String> {
    let mut random = Random(seed);
    let mut now = START_US;
    let mut lines = Vec::new();
    while lines.len() < count {
        let user = *random.pick(&["alice", "bob", "oscar", "system:serviceaccount:shop:web", "system:node:n1"]);
        // Now and then one thing is done many times in a row.
        let repeat = if random.below(4) == 0 { 4 + random.below(12) } else { 1 };
        let kind = random.below(8);
        let namespace = *random.pick(&["shop", "payments", "kube-system", "data"]);
        for n in 0..repeat {
            // Never twice the same time: then nothing is left to the order of lines.
            now += 20_000 + random.below(300_000) as i64;
            for event in made(kind, user, namespace, n, now, lines.len(), &mut random) {
                lines.push(format!("{event}\n"));
            }
        }
    }
    lines
}

/// The events of one request.
fn made(kind: usize, user: &str, ns: &str, n: usize, now: i64, at: usize, random: &mut Random) -> Vec<Value> {
    let group = if user.starts_with("system:serviceaccount") { "system:serviceaccounts" } else { "dev" };
    let (verb, resource, name) = match kind {
        0 => ("list", "pods", String::new()),
        1 => ("get", "secrets", format!("secret-{n}")),
        2 => ("create", "clusterrolebindings", format!("grant-{n}")),
        3 => ("get", "pods", format!("web-{n}")),
        4 => ("delete", *random.pick(&["events", "networkpolicies", "secrets"]), format!("x-{n}")),
        5 => ("list", "secrets", String::new()),
        6 => ("get", *random.pick(&["configmaps", "nodes", "pods", "services"]), format!("y-{n}")),
        _ => ("create", "pods", format!("pod-{n}")),
    };
    let exec = kind == 3;
    let code = match kind {
        0 => 401,
        6 => 403,
        3 => 101,
        _ => 200,
    };
    let mut event = secrets_listed(&format!("{:08x}-0000-4000-8000-{at:012}", random.0 as u32), 0);
    let uri = format!("/api/v1/namespaces/{ns}/{resource}/{name}{}", if exec { "/exec?command=sh" } else { "" });
    event["user"] = if code == 401 { json!({}) } else { json!({"username": user, "groups": [group]}) };
    event["level"] = json!(if kind == 2 || kind == 7 { "RequestResponse" } else { "Metadata" });
    event["requestURI"] = json!(uri);
    event["verb"] = json!(verb);
    event["sourceIPs"] = json!([*random.pick(&["203.0.113.9", "198.51.100.7"])]);
    event["objectRef"] = json!({"resource": resource, "namespace": ns, "name": name, "apiVersion": "v1"});
    event["responseStatus"]["code"] = json!(code);
    event["annotations"]["authorization.k8s.io/decision"] = json!(if code == 403 { "forbid" } else { "allow" });
    if exec {
        event["objectRef"]["subresource"] = json!("exec");
    }
    if kind == 2 {
        event["requestObject"] = json!({
            "kind": "ClusterRoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob"}],
        });
    }
    if kind == 7 {
        let container =
            json!({"name": "a", "image": "docker.io/x:1", "securityContext": {"privileged": n.is_multiple_of(2)}});
        event["requestObject"] =
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name}, "spec": {"containers": [container]}});
    }
    let at = |stage: &str, after: i64| {
        let mut event = event.clone();
        event["stage"] = json!(stage);
        event["requestReceivedTimestamp"] = json!(format_micros(now));
        event["stageTimestamp"] = json!(format_micros(now + after));
        event
    };
    match exec {
        true => vec![at("ResponseStarted", 3_000), at("ResponseComplete", 9_000)],
        false => vec![at("ResponseComplete", 3_000)],
    }
}
