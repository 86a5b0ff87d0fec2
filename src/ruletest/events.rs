//! Makes whole audit events of what a test says of them.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::event::time::{format_micros, parse_micros};

/// When tests begin: a Monday noon, 2026-11-23T12:00:00Z, in microseconds.
const START_US: i64 = 1_795_435_200_000_000;

/// Bodies, in which `null` is a value of its own: in a merge patch it deletes.
const BODIES: [&str; 2] = ["requestObject", "responseObject"];

/// Lays an event over the base: maps are merged, everything else is replaced. A `null` takes away what the base has.
pub(super) fn merge(base: Value, over: &Value) -> Value {
    merge_at(base, over, false)
}

fn merge_at(base: Value, over: &Value, in_body: bool) -> Value {
    let (mut base, over) = match (base, over) {
        (Value::Object(base), Value::Object(over)) => (base, over),
        (Value::Null, Value::Object(over)) if !in_body => (Map::new(), over),
        (base, Value::Null) if !in_body => return base,
        (_, over) => return over.clone(),
    };
    for (key, value) in over {
        let in_body = in_body || BODIES.contains(&key.as_str());
        let had = base.shift_remove(key);
        match (had, value) {
            (None, Value::Null) if in_body => drop(base.insert(key.clone(), Value::Null)),
            (Some(_), Value::Null) if in_body => {}
            // Remembered at the top, so that it is not filled in again; dropped when the event is complete.
            (_, Value::Null) => drop(base.insert(key.clone(), Value::Null)),
            (Some(had), value) => drop(base.insert(key.clone(), merge_at(had, value, in_body))),
            (None, value) => drop(base.insert(key.clone(), value.clone())),
        }
    }
    Value::Object(base)
}

/// The event with `{n}` in its texts (and keys) replaced by the repetition's number, from 0.
pub(super) fn numbered(value: &Value, n: usize) -> Value {
    let text = |text: &str| text.replace("{n}", &n.to_string());
    match value {
        Value::String(s) => Value::String(text(s)),
        Value::Array(items) => items.iter().map(|item| numbered(item, n)).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(key, value)| (text(key), numbered(value, n))).collect())
        }
        other => other.clone(),
    }
}

/// Time and identity as a test goes on.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// Microseconds since the start.
    elapsed: i64,
    /// Events so far.
    count: usize,
    /// Stages of requests whose `auditID` a test gave, with the time they were received.
    requests: HashMap<String, Vec<(String, i64)>>,
}

impl Clock {
    /// Lets time pass.
    pub(super) fn pass(&mut self, micros: i64) {
        self.elapsed += micros;
    }

    /// Fills in what the event does not say. It happens `step` after the one before it.
    pub(super) fn fill(&mut self, mut event: Map<String, Value>, step: i64) -> Value {
        self.count += 1;
        if self.count > 1 {
            self.elapsed += step;
        }
        let now = START_US + self.elapsed;
        let unauthenticated = event.get("responseStatus").and_then(|status| status.get("code")) == Some(&json!(401));
        let user = match unauthenticated {
            // The API server knows nobody then.
            true => json!({}),
            false => json!({"username": "alice", "groups": ["system:authenticated"]}),
        };
        let defaults = [
            ("kind", json!("Event")),
            ("apiVersion", json!("audit.k8s.io/v1")),
            ("level", json!("RequestResponse")),
            ("auditID", json!(format!("7e57ab1e-0000-4000-8000-{:012}", self.count))),
            ("stage", json!("ResponseComplete")),
            ("user", user),
            ("sourceIPs", json!(["192.0.2.10"])),
        ];
        for (key, value) in defaults {
            event.entry(key).or_insert(value);
        }
        let uri = uri(&event);
        event.entry("requestURI").or_insert(uri.into());
        if event["stage"] != "RequestReceived" {
            status(&mut event);
        }
        let received = self.received(&event, now);
        event.entry("requestReceivedTimestamp").or_insert(format_micros(received).into());
        event.entry("stageTimestamp").or_insert(format_micros(now).into());
        without_nulls(&mut event);
        Value::Object(event)
    }

    /// Two stages with one `auditID` are one request, which was received once.
    fn received(&mut self, event: &Map<String, Value>, now: i64) -> i64 {
        let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let time = parse_micros(text("requestReceivedTimestamp").as_bytes()).unwrap_or(now);
        let stage = text("stage");
        let stages = self.requests.entry(text("auditID")).or_default();
        let other = stages.first().filter(|_| stages.iter().all(|(seen, _)| *seen != stage));
        let time = other.map_or(time, |(_, received)| *received);
        stages.push((stage, time));
        time
    }
}

/// An outcome is success unless the test says otherwise.
fn status(event: &mut Map<String, Value>) {
    match event.get_mut("responseStatus") {
        None => drop(event.insert("responseStatus".into(), json!({"metadata": {}, "code": 200}))),
        Some(Value::Object(status)) => drop(status.entry("code").or_insert(json!(200))),
        Some(_) => {}
    }
}

/// The address of the object, as a client asks for it.
fn uri(event: &Map<String, Value>) -> String {
    let Some(Value::Object(object)) = event.get("objectRef") else { return "/".to_owned() };
    let part = |key: &str| object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let version = part("apiVersion").unwrap_or("v1");
    let mut uri = match part("apiGroup") {
        Some(group) => format!("/apis/{group}/{version}"),
        None => format!("/api/{version}"),
    };
    let (resource, verb) = (part("resource"), event.get("verb").and_then(Value::as_str));
    if let Some(namespace) = part("namespace").filter(|_| resource != Some("namespaces")) {
        uri += &format!("/namespaces/{namespace}");
    }
    // A new object's name stands in the body only.
    let named = verb != Some("create") || part("subresource").is_some();
    let name = part("name").filter(|_| named);
    for part in [resource, name, part("subresource")].into_iter().flatten() {
        uri += &format!("/{part}");
    }
    if verb == Some("watch") {
        uri += "?watch=true";
    }
    uri
}

/// Takes away the members that a test took away, but leaves bodies alone.
fn without_nulls(members: &mut Map<String, Value>) {
    members.retain(|_, value| !value.is_null());
    for (_, value) in members.iter_mut().filter(|(key, _)| !BODIES.contains(&key.as_str())) {
        if let Value::Object(members) = value {
            without_nulls(members);
        }
    }
}
