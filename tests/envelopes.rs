//! Whatever envelopes an event travels in, rules see the event that was sent: every field of the catalogue reads the same,
//! and so does the whole document.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::LazyLock;

use auditwatch::engine::lookup::look_up_all;
use auditwatch::event::catalogue::FIELDS;
use auditwatch::event::path::Field;
use auditwatch::event::site::Site;
use auditwatch::event::view::Event;
use auditwatch::normalize::{Context, Place, ProblemKind, Scratch, Sink, scan};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::support::logs::sample;

/// What rules see of an event.
#[derive(Debug, PartialEq)]
struct Seen {
    whole: Value,
    fields: BTreeMap<&'static str, Vec<String>>,
}

#[derive(Default)]
struct Log {
    seen: Vec<Seen>,
    problems: Vec<String>,
}

/// What an envelope tells, and the event does not.
const TOLD: [&str; 2] = ["k8s.cluster", "k8s.provider"];

static PARSED: LazyLock<Vec<(&str, Field)>> = LazyLock::new(|| {
    let fields = FIELDS.iter().filter(|field| !TOLD.contains(&field.name));
    fields.map(|field| (field.name, Field::parse(field.name))).collect()
});

impl Sink for Log {
    fn event(&mut self, event: &Event<'_>, _: Place) {
        let mut fields = BTreeMap::new();
        for (name, field) in PARSED.iter() {
            let mut values = Vec::new();
            look_up_all(field, event, &mut |text| values.push(text.to_owned()));
            fields.insert(*name, values);
        }
        let whole = serde_json::from_slice(event.doc().bytes(event.raw())).unwrap();
        self.seen.push(Seen { whole, fields });
    }

    fn problem(&mut self, kind: ProblemKind, place: Place, why: String) {
        self.problems.push(format!("{}: {kind:?} {why}", place.line));
    }

    fn not_audit(&mut self, place: Place) {
        self.problems.push(format!("{}: no event", place.line));
    }
}

fn read(block: &str) -> Log {
    let (site, mut log) = (Site::default(), Log::default());
    scan(block.as_bytes(), Context { site: &site, cluster: "" }, &mut Scratch::default(), &mut log);
    log
}

fn packed(text: &str) -> String {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    STANDARD.encode(gzip.finish().unwrap())
}

/// Puts an envelope around a document, as its carrier does.
type Wrap = fn(&str) -> String;

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn subscription(text: &str) -> String {
    json!({"messageType": "DATA_MESSAGE", "owner": "111122223333", "logGroup": "/aws/eks/shop/cluster",
           "logStream": "kube-apiserver-audit-0a1b", "subscriptionFilters": ["f"],
           "logEvents": [{"id": "3", "timestamp": 1_772_359_200_004_u64, "message": text}]})
    .to_string()
}

/// Envelopes that may stand around others.
const WRAPS: &[(&str, Wrap)] = &[
    ("EventList", |text| {
        json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": [value(text)]})
            .to_string()
    }),
    ("CloudWatch", subscription),
    ("Lambda", |text| json!({"awslogs": {"data": packed(&subscription(text))}}).to_string()),
    ("Firehose", |text| json!({"requestId": "r", "records": [{"data": packed(&subscription(text))}]}).to_string()),
    ("AKS", |text| {
        json!({"time": "2026-03-01T10:00:00Z", "category": "kube-audit", "resourceId": "/SUBSCRIPTIONS/0/SHOP",
               "properties": {"log": text, "pod": "kube-apiserver-0"}})
        .to_string()
    }),
    ("Event Hubs", |text| {
        json!({"records": [{"category": "kube-audit-admin", "resourceId": "/x/SHOP", "properties": {"log": value(text)}}]})
            .to_string()
    }),
    ("Fluent Bit", |text| json!({"date": 1_772_359_200.004, "log": text, "kubernetes": {"host": "m0"}}).to_string()),
    ("Filebeat", |text| json!({"@timestamp": "x", "log": {"offset": 3}, "message": text}).to_string()),
    ("Vector", |text| json!({"file": "a.log", "message": text, "source_type": "file"}).to_string()),
    ("ECS", |text| json!({"event": {"dataset": "kubernetes.audit_logs", "original": text}}).to_string()),
    ("Elastic", |text| json!({"_index": "i", "_source": {"message": text}}).to_string()),
    ("Splunk", |text| json!({"time": 1.5, "sourcetype": "_json", "event": value(text)}).to_string()),
    ("Loki", |text| json!({"streams": [{"stream": {"cluster": "shop"}, "values": [["1", text]]}]}).to_string()),
    ("OpenTelemetry", |text| {
        json!({"resourceLogs": [{"resource": {"attributes": []},
               "scopeLogs": [{"logRecords": [{"body": {"stringValue": text}}]}]}]})
        .to_string()
    }),
    ("CloudEvents", |text| json!({"specversion": "1.0", "id": "1", "data": value(text)}).to_string()),
    ("CloudEvents in base64", |text| {
        json!({"specversion": "1.0", "id": "1", "data_base64": STANDARD.encode(text)}).to_string()
    }),
    ("journald", |text| json!({"__REALTIME_TIMESTAMP": "1", "MESSAGE": text}).to_string()),
    ("docker", |text| json!({"log": format!("{text}\n"), "stream": "stdout", "time": "x"}).to_string()),
];

/// What may stand before a line.
const PREFIXES: [&str; 4] = [
    "",
    "2026-03-01T10:00:00.0043Z stdout F ",
    "<14>1 2026-03-01T10:00:00.0043Z m0 kube-apiserver - - - ",
    "Mar  1 10:00:00 m0 kube-apiserver[1]: ",
];

/// Lines of real logs.
static LINES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let names = ["failed-logins.log", "full-attack.log.gz"];
    names.iter().flat_map(|name| sample(name)).map(|line| line.trim_end().to_owned()).collect()
});

/// Text that carriers have to escape, and text that looks like what they add.
fn odd_text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,12}",
        select(
            &["\"", "\\", "\\u0041", "\n", "\u{0}", "\u{2028}", "é→𝄞", "}{", "stdout F ", "<14>1 ", "{\"log\":\"x\"}"]
                [..]
        )
        .prop_map(str::to_owned),
    ]
}

/// A real event with some texts replaced and some members added.
fn event() -> impl Strategy<Value = String> {
    let change =
        (select(&["/verb", "/user/username", "/userAgent", "/objectRef/name", "/requestURI", "/x"][..]), odd_text());
    (
        0..LINES.len(),
        prop::collection::vec(change, 0..4),
        prop::collection::vec(any::<i32>().prop_map(|n| f64::from(n) / 8.0), 0..3),
    )
        .prop_map(|(line, changes, numbers)| {
            let mut event = value(&LINES[line]);
            for (pointer, text) in changes {
                match event.pointer_mut(pointer) {
                    Some(place) => *place = text.into(),
                    None => event["annotations"][&text] = text.clone().into(),
                }
            }
            // Numbers that `serde_json`, which wraps them, writes as it has read them.
            if !numbers.is_empty() {
                event["requestObject"] =
                    json!({"kind": "Odd", "numbers": numbers, "spec": {"log": "{}", "message": "x"}});
            }
            event.to_string()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn envelopes_change_nothing_that_rules_see(
        event in event(),
        wraps in prop::collection::vec(select(WRAPS), 1..3),
        prefix in select(&PREFIXES[..]),
    ) {
        // A list of lists is nothing that anybody sends.
        prop_assume!(wraps.iter().any(|(name, _)| *name != "EventList") || wraps.len() == 1);
        let plain = read(&event);
        prop_assert_eq!((plain.seen.len(), plain.problems.len()), (1, 0), "{:?} {}", plain.problems, event);
        let wrapped = wraps.iter().fold(event.clone(), |text, (_, wrap)| wrap(&text));
        let names: Vec<&str> = wraps.iter().map(|(name, _)| *name).collect();
        let got = read(&format!("{prefix}{wrapped}\n"));
        prop_assert_eq!(&got.problems, &Vec::<String>::new(), "{:?} {:?}", names, prefix);
        prop_assert_eq!(got.seen, plain.seen, "{:?} {:?}", names, prefix);
    }
}

/// Each envelope by itself, around every line of the samples.
#[test]
fn every_envelope_carries_every_real_event() {
    for line in LINES.iter().step_by(7) {
        let plain = read(line);
        for (name, wrap) in WRAPS {
            let got = read(&wrap(line));
            assert!(got.problems.is_empty(), "{name}: {:?} {line}", got.problems);
            assert_eq!(got.seen, plain.seen, "{name}: {line}");
        }
    }
}
