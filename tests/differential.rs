//! The index only leaves out what cannot match: with and without it, the same matches, counts and alerts.

use std::sync::{Arc, LazyLock};

use auditwatch::engine::matches::Firing;
use auditwatch::event::site::Site;
use auditwatch::rules::{Placeholders, SourceFile, load};
use auditwatch::ruletest::Bench;
use auditwatch::worker::BatchResult;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::rules::detections;
use crate::support::logs::{sample, synthetic, three_servers};

/// The built-in detections, with lists, so that rules with `|expand` have something to match.
fn bench() -> Bench {
    let lists = [
        ("break_glass", "alice"),
        ("bad_networks", "127.66.0.0/16"),
        ("trusted_registries", "registry.lab.example/"),
        ("namespaces", "shop"),
    ];
    let lists: Placeholders = lists.iter().map(|(name, value)| ((*name).into(), vec![(*value).into()])).collect();
    let (rules, _) = load(&detections(), &lists);
    Bench::new(Arc::new(rules), Site::default()).unwrap()
}

static INDEXED: LazyLock<Bench> = LazyLock::new(bench);
/// With every match, since which of the repeats are left out is not the index's doing.
static WHOLE: LazyLock<Bench> = LazyLock::new(|| INDEXED.with_repeats());
static PLAIN: LazyLock<Bench> = LazyLock::new(|| INDEXED.plain());

fn samples() -> Vec<String> {
    let names =
        ["failed-logins.log", "secret-harvest.log", "cluster-admin.log", "full-attack.log.gz", "quiet-day.log.gz"];
    let mut lines: Vec<String> = names.iter().flat_map(|name| sample(name)).collect();
    lines.extend(three_servers());
    lines.extend(synthetic(5, 500));
    lines
}

/// Real events, parsed.
static EVENTS: LazyLock<Vec<Map<String, Value>>> = LazyLock::new(|| {
    let events = samples().into_iter().map(|line| serde_json::from_str(&line).unwrap());
    events.collect()
});

/// Everything that the matching of a log gave, comparable.
fn seen(result: &BatchResult, bench: &Bench) -> Vec<String> {
    let matches = result.matches.iter().map(|one| {
        let title = &bench.rules().rules[one.rule as usize].meta.title;
        format!("{title}: {:?} {:?} {:?} {:?} {:?}", one.time, one.identity(), one.stage, one.newest_before, one.trace)
    });
    let mut seen: Vec<String> = matches.collect();
    seen.push(format!("{:?}", result.counts));
    seen.push(format!("{:?}", result.problems));
    seen
}

/// What users are told of firings.
fn told(firings: &[Firing]) -> Vec<String> {
    let told = |f: &Firing| {
        let (alert, events) = (f.trace.excerpt(), f.events.iter().map(|trace| trace.excerpt()).collect::<Vec<_>>());
        format!(
            "{:?} {} {:x?} {:?} {} {:?} {alert:?} {events:?}",
            f.origin, f.time, f.identity, f.group, f.count, f.window
        )
    };
    firings.iter().map(told).collect()
}

fn same(log: &str) {
    same_by(log, &WHOLE, &PLAIN);
}

fn same_by(log: &str, whole: &Bench, plain: &Bench) {
    let indexed = seen(&whole.matches(log.as_bytes().to_vec()), whole);
    let plain = seen(&plain.matches(log.as_bytes().to_vec()), plain);
    for (a, b) in indexed.iter().zip(&plain) {
        assert_eq!(a, b, "\n{log}");
    }
    assert_eq!(indexed.len(), plain.len(), "\n{log}");
}

#[test]
fn real_logs_give_the_same_matches_and_alerts() {
    let log = samples().concat();
    let [indexed, whole, plain] = [&INDEXED, &WHOLE, &PLAIN].map(|bench| bench.run(log.clone().into_bytes()).firings);
    assert_eq!(format!("{whole:?}"), format!("{plain:?}"));
    // A trace that several matches share has no values that only those left out asked for; nothing told shows them.
    assert_eq!(told(&indexed), told(&plain));
    assert!(indexed.len() > 100, "{}", indexed.len());
    same(&log);
}

/// What is read of a header counts as far as it can be read, whoever asks first: a list of addresses that breaks off, a
/// text with an escape that is none of JSON's.
#[test]
fn flaws_of_a_header_leave_nobody_in_doubt() {
    let whole = r#"["203.0.113.9"]"#;
    for (addresses, namespace, counted) in [(r#"["203.0.113.9"*a]"#, "kube-system", 0), (whole, r"kube-syst\am", 1)] {
        let head = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"02298569-0000-4000-8000-000000000119","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/kube-system/pods/web-4/exec?command=sh","verb":"get","user":{"username":"alice","groups":["dev"]}"#;
        let tail = r#""responseStatus":{"metadata":{},"code":101},"requestReceivedTimestamp":"2026-11-23T12:00:16.335298Z","stageTimestamp":"2026-11-23T12:00:16.344298Z","annotations":{"authorization.k8s.io/decision":"allow"}}"#;
        let event = format!(
            r#"{head},"sourceIPs":{addresses},"userAgent":"kubectl/v1.36.3","objectRef":{{"resource":"pods","namespace":"{namespace}","name":"web-4","apiVersion":"v1","subresource":"exec"}},{tail}"#
        );
        same(&event);
        assert_eq!(WHOLE.matches(event.into_bytes()).counts.malformed_body, counted);
    }
}

/// Rules by the hundred that ask one field for parts of what stands in it: where a field is searched for the words of all.
fn many_rules() -> String {
    let fields = [
        ("objectRef.name", "/objectRef/name"),
        ("requestURI", "/requestURI"),
        ("user.username", "/user/username"),
        ("userAgent", "/userAgent"),
        ("objectRef.namespace", "/objectRef/namespace"),
        ("requestObject.metadata.name", "/requestObject/metadata/name"),
        ("k8s.containers.image", "/requestObject/spec/containers/0/image"),
    ];
    let (mut rules, mut turn) = (String::new(), 0);
    for (field, pointer) in fields {
        let values: std::collections::BTreeSet<&str> =
            EVENTS.iter().filter_map(|event| pointed(event, pointer)?.as_str()).collect();
        for value in values.into_iter().take(120) {
            turn += 1;
            let middle = value.chars().skip(turn % 3).take(6).collect::<String>();
            let (how, text) = match turn % 5 {
                0 => ("", value.to_owned()),
                1 => ("|startswith", value.chars().take(5).collect()),
                2 => ("|endswith|cased", value.chars().skip(value.chars().count().saturating_sub(4)).collect()),
                3 => ("|contains", middle.to_uppercase()),
                _ => ("|contains|cased", middle),
            };
            let also = [
                "",
                "\n    verb: [get, create, update, patch]",
                "\n    responseObject.metadata.name|contains: a",
                "\n    objectRef.resource: pods\n    stage: [ResponseComplete, RequestReceived]",
            ];
            let also = also[turn % also.len()];
            rules += &format!(
                "---\ntitle: Rule {turn}\nid: 00000000-0000-4000-8000-{turn:012}\nlogsource: {{product: kubernetes, service: audit}}\n\
                 level: low\ndetection:\n  selection:\n    {field}{how}: {}{also}\n  condition: selection\n",
                json!(text)
            );
        }
    }
    rules
}

fn pointed<'e>(event: &'e Map<String, Value>, pointer: &str) -> Option<&'e Value> {
    let (first, rest) = pointer[1..].split_once('/').unwrap_or((&pointer[1..], ""));
    let value = event.get(first)?;
    if rest.is_empty() { Some(value) } else { value.pointer(&format!("/{rest}")) }
}

#[test]
fn many_rules_of_one_field_give_the_same_matches() {
    let (rules, problems) = load(&[SourceFile::new("many.yml", many_rules())], &Placeholders::new());
    assert!(problems.is_empty() && rules.rules.len() > 300, "{} {problems:?}", rules.rules.len());
    let bench = Bench::new(Arc::new(rules), Site::default()).unwrap();
    let (whole, plain) = (bench.with_repeats(), bench.plain());
    let log = samples().concat();
    same_by(&log, &whole, &plain);
    // Letters that fold to others, and bodies that were not logged.
    same_by(&log.replace("kube", "\u{212a}ube").replace("\"level\":\"Request", "\"level\":\"Metadata"), &whole, &plain);
    // Bodies that were not logged, of which a deed says all, and patches, which say nothing of what they leave as it is.
    let patches = log.replace("\"verb\":\"create\"", "\"verb\":\"patch\"");
    for log in [
        log.replace("\"level\":\"RequestResponse\"", "\"level\":\"Request\"").replace("\"responseObject\"", "\"none\""),
        log.replace("RequestResponse\"", "Metadata\"").replace("Object\":{\"", "None\":{\""),
        // Before there is an outcome only those are judged that name the stage.
        log.replace("RequestResponse\"", "Metadata\"")
            .replace("Object\":{\"", "None\":{\"")
            .replace("Complete\"", "Received\"")
            .replace("ResponseReceived", "RequestReceived"),
        patches.replace("\"metadata\":{\"name\"", "\"metadata\":{\"generateName\""),
        patches.replace("\"requestObject\":{", "\"responseObject\":{},\"requestObject\":{"),
        patches,
    ] {
        same_by(&log, &whole, &plain);
        assert!(whole.matches(log.into_bytes()).counts.unknown.iter().sum::<u64>() > 0);
    }
    assert!(whole.matches(log.into_bytes()).matches.len() > 10_000);
}

/// One change of an event.
#[derive(Debug, Clone)]
enum Change {
    /// A top-level member, or one member below it, becomes that of another event.
    Borrow { event: usize, key: usize, below: Option<usize> },
    /// A member goes.
    Remove { key: usize, below: Option<usize> },
    /// A member becomes something it should not be.
    Odd { key: usize, below: Option<usize>, value: Value },
    /// A text changes its case.
    Shout { key: usize, below: Option<usize> },
}

fn change() -> impl Strategy<Value = Change> {
    let place = || (any::<usize>(), prop::option::of(any::<usize>()));
    let odd = prop::sample::select(vec![
        json!(null),
        json!(""),
        json!([]),
        json!({}),
        json!(0),
        json!(true),
        json!("403"),
        json!(403),
        json!(["get", "list"]),
        json!("Secrets"),
        json!("*"),
        json!("system:anonymous"),
    ]);
    prop_oneof![
        6 => (any::<usize>(), place()).prop_map(|(event, (key, below))| Change::Borrow { event, key, below }),
        1 => place().prop_map(|(key, below)| Change::Remove { key, below }),
        2 => (place(), odd).prop_map(|((key, below), value)| Change::Odd { key, below, value }),
        1 => place().prop_map(|(key, below)| Change::Shout { key, below }),
    ]
}

fn nth(members: &Map<String, Value>, n: usize) -> Option<String> {
    members.keys().nth(n % members.len().max(1)).cloned()
}

fn apply(event: &mut Map<String, Value>, change: &Change) -> Option<()> {
    let (key, below) = match change {
        Change::Borrow { event: other, key, below } => {
            let other = &EVENTS[other % EVENTS.len()];
            let key = nth(other, *key)?;
            let value = other[&key].clone();
            let Some((n, Value::Object(members))) = below.zip(Some(&value)).filter(|(_, v)| v.is_object()) else {
                event.insert(key, value);
                return Some(());
            };
            let inner = nth(members, n)?;
            let mine = event.entry(key).or_insert(json!({})).as_object_mut()?;
            mine.insert(inner.clone(), members[&inner].clone());
            return Some(());
        }
        Change::Remove { key, below } | Change::Odd { key, below, .. } | Change::Shout { key, below } => (key, below),
    };
    let key = nth(event, *key)?;
    let (members, key) = match below {
        Some(n) if event[&key].is_object() => {
            let members = event.get_mut(&key)?.as_object_mut()?;
            let inner = nth(members, *n)?;
            (members, inner)
        }
        _ => (event, key),
    };
    match change {
        Change::Odd { value, .. } => drop(members.insert(key, value.clone())),
        Change::Shout { .. } => {
            let text = members.get(&key)?.as_str()?.to_uppercase();
            members.insert(key, text.into());
        }
        _ => drop(members.shift_remove(&key)),
    }
    Some(())
}

/// The same JSON with some characters written as escapes, and members in another order.
fn rewritten(event: &Map<String, Value>, escape: u8, turn: usize) -> String {
    let mut members: Vec<String> =
        event.iter().map(|(key, value)| format!("{}:{value}", Value::String(key.clone()))).collect();
    let len = members.len().max(1);
    members.rotate_left(turn % len);
    let text = format!("{{{}}}\n", members.join(","));
    match escape {
        0 => text,
        // `\u0065` is an e, also in keys; never one that follows a backslash or stands outside a string.
        _ => text
            .split('"')
            .enumerate()
            .map(|(n, part)| if n % 2 == 1 { escaped(part) } else { part.into() })
            .collect::<Vec<_>>()
            .join("\""),
    }
}

fn escaped(text: &str) -> String {
    if text.contains('\\') { text.to_owned() } else { text.replacen('e', "\\u0065", 1) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_events_give_the_same_matches(
        start in any::<usize>(),
        changes in prop::collection::vec(change(), 0..10),
        escape in 0u8..3,
        turn in any::<usize>(),
    ) {
        let mut event = EVENTS[start % EVENTS.len()].clone();
        for change in &changes {
            let _ = apply(&mut event, change);
        }
        // An escaped quotation mark would end the simple split into strings.
        let escape = if Value::Object(event.clone()).to_string().contains("\\\"") { 0 } else { escape };
        same(&rewritten(&event, escape / 2, turn));
    }
}
