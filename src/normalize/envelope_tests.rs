//! What becomes of every kind of envelope.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::event::site::Site;
use crate::event::view::{Event, Slot};
use crate::normalize::{Context, Place, ProblemKind, Scratch, Sink, scan};

#[derive(Default)]
struct Log(Vec<String>);

impl Sink for Log {
    fn event(&mut self, event: &Event<'_>, place: Place) {
        let (id, verb) = (event.audit_id().unwrap_or("-"), event.verb().unwrap_or("-"));
        self.0.push(format!(
            "{}:{id} {verb} {}{}",
            place.line,
            event.cluster(),
            event.provider().map_or(String::new(), |by| format!("@{by}"))
        ));
    }

    fn problem(&mut self, kind: ProblemKind, place: Place, why: String) {
        self.0.push(format!("{}:{kind:?} {why}", place.line));
    }

    fn not_audit(&mut self, place: Place) {
        self.0.push(format!("{}:other", place.line));
    }
}

fn check(block: impl AsRef<[u8]>, expected: &[&str]) {
    let block = block.as_ref();
    let mut log = Log::default();
    let site = Site::default();
    scan(block, Context { site: &site, cluster: "own" }, &mut Scratch::default(), &mut log);
    assert_eq!(log.0, expected, "{}", String::from_utf8_lossy(&block[..block.len().min(500)]));
}

/// Something of each event.
struct Each<T, F>(Vec<T>, F);

impl<T, F: Fn(&Event<'_>) -> T> Sink for Each<T, F> {
    fn event(&mut self, event: &Event<'_>, _: Place) {
        self.0.push((self.1)(event));
    }

    fn problem(&mut self, _: ProblemKind, _: Place, _: String) {}

    fn not_audit(&mut self, _: Place) {}
}

fn of_each<T>(block: &str, what: impl Fn(&Event<'_>) -> T) -> Vec<T> {
    let (site, mut each) = (Site::default(), Each(Vec::new(), what));
    scan(block.as_bytes(), Context { site: &site, cluster: "" }, &mut Scratch::default(), &mut each);
    each.0
}

fn event(id: &str) -> String {
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"{id}","stage":"ResponseComplete","verb":"get","requestURI":"/a?b\u0026c"}}"#
    )
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn subscription(messages: &[&str]) -> Value {
    let events = messages.iter().map(|text| json!({"id": "3", "timestamp": 1_772_359_200_004_u64, "message": text}));
    json!({"messageType": "DATA_MESSAGE", "owner": "111122223333", "logGroup": "/aws/eks/shop/cluster",
           "logStream": "kube-apiserver-audit-0a1b", "subscriptionFilters": ["f"], "logEvents": events.collect::<Vec<_>>()})
}

#[test]
fn eks() {
    let (a, b) = (event("a"), event("b"));
    let whole = subscription(&[&a, &b]).to_string();
    check(&whole, &["0:a get shop@eks", "0:b get shop@eks"]);
    check(
        whole.repeat(2),
        &[
            "0:a get shop@eks",
            "0:b get shop@eks",
            "0:a get shop@eks",
            "0:b get shop@eks",
            "0:Layout 2 documents on one line",
        ],
    );
    let packed = STANDARD.encode(gzip(whole.as_bytes()));
    check(json!({"awslogs": {"data": packed}}).to_string(), &["0:a get shop@eks", "0:b get shop@eks"]);
    check(
        json!({"requestId": "r", "records": [{"data": packed}]}).to_string(),
        &["0:a get shop@eks", "0:b get shop@eks"],
    );
    check(json!({"Records": [{"kinesis": {"data": packed}}]}).to_string(), &["0:a get shop@eks", "0:b get shop@eks"]);
    check(r#"{"messageType":"CONTROL_MESSAGE","logEvents":[]}"#, &["0:other"]);
    // What is broken or another's hides no neighbour.
    check(
        subscription(&[&format!("{}[Truncated...]", &a[..60]), "I0301 10:00:00.0 1 x.go:1] y", &b]).to_string(),
        &["0:Unreadable in an envelope: cut off by its carrier", "0:other", "0:b get shop@eks"],
    );
    // What a cut event says before the cut, it says.
    let cut = |event: &str| format!("{}[Truncated...]", &event[..event.len() - 5]);
    check(subscription(&[&cut(&a), &b]).to_string(), &["0:a get shop@eks", "0:b get shop@eks"]);
    check(format!("2026-03-01T10:00:00.004Z {}\n{b}\n", cut(&a)), &["0:a get own", "1:b get own"]);
    check(json!({"events": [{"logStreamName": "s", "timestamp": 1, "message": a}]}).to_string(), &["0:a get own"]);
    let stream = "kube-apiserver-audit-0a1b";
    check(
        json!({"events": [{"logStreamName": stream, "timestamp": 1, "message": a}]}).to_string(),
        &["0:a get own@eks"],
    );
    check(format!("2026-03-01T10:00:00.004Z {a}\n"), &["0:a get own"]);
}

#[test]
fn gke() {
    let record = r#"{"insertId":"a1","logName":"projects/p/logs/cloudaudit.googleapis.com%2Factivity","timestamp":"2026-03-01T10:00:00.0042Z","resource":{"type":"k8s_cluster","labels":{"project_id":"p","location":"europe-west1","cluster_name":"shop"}},"labels":{"authorization.k8s.io/decision":"allow"},"protoPayload":{"@type":"type.googleapis.com/google.cloud.audit.AuditLog","serviceName":"k8s.io","methodName":"io.k8s.core.v1.pods.create","resourceName":"core/v1/namespaces/shop/pods/web","authenticationInfo":{"principalEmail":"ann@example.com"},"requestMetadata":{"callerIp":"192.0.2.7","callerSuppliedUserAgent":"kubectl/v1.34.0"},"status":{}}}"#;
    check(record, &["0:a1 create shop@gke"]);
    check(format!("[{record},{record}]"), &["0:a1 create shop@gke", "0:a1 create shop@gke"]);
    check(record.replace("\"k8s.io\"", "\"container.googleapis.com\""), &["0:other"]);
    check(record.replace("methodName", "m"), &["0:Unreadable in an envelope: a GKE record without methodName"]);
    let push = json!({"message": {"data": STANDARD.encode(record), "messageId": "1"}, "subscription": "s"});
    check(push.to_string(), &["0:a1 create shop@gke"]);
}

/// What a record does not say, but what follows from it.
#[test]
fn gke_tells_what_follows() {
    let record = |user: &str, bodies: &str| {
        format!(
            r#"{{"protoPayload":{{"serviceName":"k8s.io","methodName":"io.k8s.core.v1.pods.patch","resourceName":"core/v1/namespaces/a/pods/b","authenticationInfo":{{"principalEmail":"{user}"}}{bodies}}},"insertId":"x"}}"#
        )
    };
    let told = |event: &Event<'_>| {
        let groups = event.groups_raw().map_or(&b""[..], |raw| event.doc().bytes(raw));
        let dropped = [Slot::RequestObject, Slot::ResponseObject].map(|slot| event.body_dropped(slot));
        (String::from_utf8_lossy(groups).into_owned(), event.level().unwrap_or("-").to_owned(), dropped)
    };
    let account = r#"["system:serviceaccounts","system:serviceaccounts:flux","system:authenticated"]"#;
    for (user, bodies, expected) in [
        ("system:serviceaccount:flux:kustomize", "", (account, "Metadata", [true, true])),
        ("ann@example.org", r#","request":{"a":1}"#, ("", "Request", [false, true])),
        ("ann@example.org", r#","request":{"a":1},"response":{}"#, ("", "RequestResponse", [false, false])),
    ] {
        let (groups, level, dropped) = expected;
        assert_eq!(of_each(&record(user, bodies), told), [(groups.to_owned(), level.to_owned(), dropped)], "{bodies}");
    }
}

#[test]
fn aks() {
    let record = |category: &str, log: Value| {
        json!({"time": "2026-03-01T10:00:00.004300000Z", "category": category,
               "operationName": "Microsoft.ContainerService/managedClusters/diagnosticLogs/Read",
               "resourceId": "/SUBSCRIPTIONS/0/RESOURCEGROUPS/RG/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/SHOP",
               "properties": {"log": log, "pod": "kube-apiserver-0", "stream": "stdout", "containerID": "c0"}})
    };
    let a = event("a");
    check(record("kube-audit", a.as_str().into()).to_string(), &["0:a get shop@aks"]);
    check(record("kube-audit-admin", serde_json::from_str(&a).unwrap()).to_string(), &["0:a get shop@aks"]);
    check(
        json!({"records": [record("kube-apiserver", "I0301 x".into()), record("kube-audit", a.as_str().into())]})
            .to_string(),
        &["0:other", "0:a get shop@aks"],
    );
    check(json!({"Category": "kube-audit", "log_s": a, "ResourceId": "/x/SHOP"}).to_string(), &["0:a get shop@aks"]);
    // Its proxy stands between.
    for (ips, client) in [
        (r#"["192.0.2.7","172.31.5.1"]"#, "192.0.2.7"),
        (r#"["172.31.5.1"]"#, "172.31.5.1"),
        (r#"["192.0.2.7","10.1.1.1"]"#, "10.1.1.1"),
    ] {
        let event = a.replace("\"verb\"", &format!("\"sourceIPs\":{ips},\"verb\""));
        let clients = of_each(&record("kube-audit", event.into()).to_string(), |e| e.client_ip().map(str::to_owned));
        assert_eq!(clients, [Some(client.to_owned())]);
    }
}

#[test]
fn shippers() {
    let a = event("a");
    let object: Value = serde_json::from_str(&a).unwrap();
    for (record, cluster) in [
        (json!({"date": 1_772_359_200.004_3, "log": a}), "own"),
        (json!({"log": format!("{a}\n"), "stream": "stdout", "time": "2026-03-01T10:00:00.0043Z"}), "own"),
        (json!({"log": a, "stream": "stdout", "kubernetes": {"host": "m0"}}), "own"),
        (json!({"log": format!("2026-03-01T10:00:00.0043Z stdout F {a}")}), "own"),
        (json!({"file": "audit.log", "host": "m0", "message": a, "source_type": "file"}), "own"),
        (json!({"@timestamp": "x", "message": object}), "own"),
        (json!({"@timestamp": "x", "log": {"offset": 7, "file": {"path": "a"}}, "message": a}), "own"),
        (json!({"log": {"level": "info"}, "message": object}), "own"),
        (json!({"event": {"kind": "event"}, "aws": {"eks": {"audit": object}}}), "own"),
        (json!({"azure": {"platformlogs": {"properties": {"log": object}}}}), "own"),
        (json!({"event": {"dataset": "kubernetes.audit_logs", "original": a}, "kubernetes": {"audit": {}}}), "own"),
        (json!({"event": {"dataset": "kubernetes.audit_logs"}, "kubernetes": {"audit": object}}), "own"),
        (json!({"_index": "i", "_id": "1", "_source": {"message": a}}), "own"),
        (json!({"took": 1, "hits": {"hits": [{"_index": "i", "_source": {"message": a}}]}}), "own"),
        (json!({"time": 1_772_359_200.004, "host": "m0", "sourcetype": "_json", "event": object}), "own"),
        (json!({"preview": false, "result": {"_raw": a}}), "own"),
        (json!({"streams": [{"stream": {"cluster": "shop"}, "values": [["1772359200004200000", a]]}]}), "shop"),
        (json!({"labels": {"cluster": "shop"}, "line": a, "timestamp": "x"}), "shop"),
        (json!({"data": {"resultType": "streams", "result": [{"stream": {}, "values": [["1", a]]}]}}), "own"),
        (json!({"__REALTIME_TIMESTAMP": "1772359200004300", "MESSAGE": a}), "own"),
        (json!({"specversion": "1.0", "id": "1", "data": object}), "own"),
        (json!({"specversion": "1.0", "id": "1", "data_base64": STANDARD.encode(&a)}), "own"),
        (json!({"schema": {}, "payload": a}), "own"),
        (
            json!({"resourceLogs": [{"resource": {"attributes": [{"key": "k8s.cluster.name", "value": {"stringValue": "shop"}}]},
                   "scopeLogs": [{"logRecords": [{"body": {"stringValue": a}}]}]}]}),
            "shop",
        ),
        (json!({"message": json!({"log": a}).to_string()}), "own"),
        (json!({"@timestamp": "x", "event.original": a, "event.dataset": "kubernetes.audit_logs"}), "own"),
        (json!({"__REALTIME_TIMESTAMP": "1", "MESSAGE": a.as_bytes()}), "own"),
        (json!({"file": "audit.log", "host": "m0", "parsed": object}), "own"),
        (json!({"stream": "stdout", "log_processed": object, "log": {"offset": 3}}), "own"),
        (json!({"tag": "k8s", "line_text": a}), "own"),
    ] {
        let expected = format!("0:a get {cluster}");
        check(record.to_string(), &[&expected]);
        check(format!("[{record}]"), &[&expected]);
        check(format!("<14>1 2026-03-01T10:00:00.0043Z m0 k - - - {record}"), &[&expected]);
    }
    check(
        json!({"log": "", "stream": "stdout", "log_processed": {"auditID": "a", "verb": "get"}}).to_string(),
        &["0:a get own"],
    );
    check(r#"{"log":"I0301 10:00:00.0 1 x.go:1] y","stream":"stderr"}"#, &["0:other"]);
    check(json!({"log": &a[3..]}).to_string(), &["0:Unreadable in an envelope: does not start with a JSON object"]);
    check(json!({"message": {"a": 1}}).to_string(), &["0:other"]);
}

#[test]
fn openshift() {
    let record = |log: &str, id: &str| {
        format!(
            r#"{{"@timestamp":"2026-03-01T10:00:00.0043Z","hostname":"master-0","log_type":"audit","log_source":"{log}","k8s_audit_level":"Metadata","level":"default","openshift":{{"cluster_id":"c-1","sequence":1}},"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"{id}","stage":"ResponseComplete","verb":"get"}}"#
        )
    };
    let a = record("kubeAPI", "a");
    check(&a, &["0:a get c-1@openshift"]);
    check(format!("[{a},{}]", event("b")), &["0:a get c-1@openshift", "0:b get own"]);
    check(json!({"message": a}).to_string(), &["0:a get c-1@openshift"]);
    check(format!("2026-03-01T10:00:00.0043Z stdout F {a}"), &["0:a get c-1@openshift"]);
    check(
        r#"{"log_type":"audit","log_source":"auditd","message":"type=SYSCALL msg=audit(1:2): x","openshift":{"cluster_id":"c-1"}}"#,
        &["0:other"],
    );
    check(format!("master-0 {}", event("b")), &["0:b get own"]);
    // The audit level is what rules see, not the log level that stands in its place.
    let level = |event: &Event<'_>| event.slot(Slot::Level).and_then(|raw| event.text(raw)).map(str::to_owned);
    assert_eq!(of_each(&a, level), [Some("Metadata".to_owned())]);
    assert_eq!(of_each(&json!({"message": a}).to_string(), level), [Some("Metadata".to_owned())]);
}

#[test]
fn lines_within_texts_and_the_legacy_format() {
    let a = event("a");
    let quoted = Value::from(a.as_str()).to_string();
    check(&quoted, &["0:a get own"]);
    check(format!("[{quoted},[{a}],\"x\"]"), &["0:a get own", "0:a get own", "0:other"]);
    check(json!({"payload": quoted}).to_string(), &["0:a get own"]);
    check(
        r#"2026-03-01T10:00:00.000001Z AUDIT: id="a" stage="ResponseComplete" ip="<unknown>" method="get" user="<none>" groups="<none>" as="<self>" asgroups="<lookup>" user-agent="" namespace="<none>" uri="/healthz" response="200""#,
        &["0:a get own"],
    );
    check(format!("2026-03-01T10:00:00.0043+00:00 m0 audit[3]: {a}"), &["0:a get own"]);
}

/// Events without a time of their own have that of their carrier.
#[test]
fn the_carriers_time_stands_in() {
    let at = 1_772_359_200_004_000;
    let time = "2026-03-01T10:00:00.004Z";
    let a = event("a");
    for (block, expected) in [
        (a.clone(), None),
        (a.replace("\"verb\"", &format!("\"timestamp\":\"{time}\",\"verb\"")), Some(at)),
        (subscription(&[&a]).to_string(), Some(at)),
        (subscription(&[&format!("{}[Truncated...]", &a[..a.len() - 5])]).to_string(), Some(at)),
        (json!({"category": "kube-audit", "time": time, "properties": {"log": a}}).to_string(), Some(at)),
        (json!({"log": format!("{a}\n"), "stream": "stdout", "time": time}).to_string(), Some(at)),
        (format!("{time} {}[Truncated...]", &a[..a.len() - 5]), Some(at)),
    ] {
        assert_eq!(of_each(&block, |event| event.time()), [expected], "{block}");
    }
}

#[test]
fn lines_that_a_runtime_cut_are_joined() {
    let (a, b) = (event("a"), event("b"));
    let cri = |stream: &str, tag: &str, text: &str| format!("2026-03-01T10:00:00.0043Z {stream} {tag} {text}\n");
    let docker = |text: &str, stream: &str| format!("{}\n", json!({"log": text, "stream": stream, "time": "x"}));
    let end = "0:Unreadable the last part of a cut line is missing";
    check(cri("stdout", "F", &a) + &cri("stdout", "F", "I0301 x"), &["0:a get own", "1:other"]);
    for cut in [1, 20, 50, a.len() - 1] {
        let (left, right) = a.split_at(cut);
        check(
            [cri("stdout", "P", left), cri("stderr", "F", &b), cri("stdout", "F", right)].concat(),
            &["1:b get own", "0:a get own"],
        );
        check(
            [docker(left, "stdout"), docker(&format!("{b}\n"), "stderr"), docker(&format!("{right}\n"), "stdout")]
                .concat(),
            &["1:b get own", "0:a get own"],
        );
        check(cri("stdout", "P", left) + &cri("stdout", "F", &b), &[end, "0:b get own"]);
        check(cri("stdout", "P", left), &[end]);
        check(docker(left, "stdout"), &[end]);
    }
}

/// Elasticsearch's integration writes other keys, and Loki's queries another order.
#[test]
fn what_carriers_turn_round_is_turned_back() {
    let audit = json!({"auditID": "a", "stage": "ResponseComplete", "verb": "get", "requestURI": "/a_k8s_io/b",
        "annotations": {"authorization_k8s_io/decision": "allow", "pod-security_kubernetes_io/enforce-policy": "x", "k8s_io/deprecated": "true"}});
    let document = json!({"event": {"dataset": "kubernetes.audit_logs"}, "kubernetes": {"audit": audit}}).to_string();
    let told = |event: &Event<'_>| [event.decision(), event.uri()].map(|text| text.unwrap_or("-").to_owned());
    assert_eq!(of_each(&document, told), [["allow".to_owned(), "/a_k8s_io/b".to_owned()]]);
    let keys = |event: &Event<'_>| String::from_utf8_lossy(event.slot_bytes(Slot::Annotations)).into_owned();
    assert!(of_each(&document, keys)[0].contains("\"k8s.io/deprecated\":\"true\""));
    let (a, b) = (event("a"), event("b"));
    let answer = |first: &str, second: &str| {
        json!({"data": {"resultType": "streams", "result": [{"stream": {}, "values": [[first, a], [second, b]]}]}})
            .to_string()
    };
    check(answer("2", "1"), &["0:b get own", "0:a get own"]);
    check(answer("1", "2"), &["0:a get own", "0:b get own"]);
}

#[test]
fn depth_and_size_are_bounded() {
    let mut nested = event("a");
    for depth in 1..10 {
        nested = json!({"log": nested}).to_string();
        match depth {
            ..=6 => check(&nested, &["0:a get own"]),
            _ => check(&nested, &["0:Unreadable envelopes stand more than 6 deep in each other"]),
        }
    }
    let bomb = STANDARD.encode(gzip(&vec![b' '; 65 << 20]));
    let (a, over) = (event("a"), "0:TooLarge in an envelope: unpacks to more than 64 MiB");
    check(json!({"records": [{"data": bomb}, {"message": a}]}).to_string(), &[over, "0:a get own"]);
    let deep = format!("{{\"log\":{}1{}}}", "{\"log\":".repeat(100_000), "}".repeat(100_000));
    check(deep, &["0:Unreadable envelopes stand more than 6 deep in each other"]);
    let arrays = format!("{{\"log\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    check(arrays, &["0:Unreadable envelopes stand more than 6 deep in each other"]);
}
