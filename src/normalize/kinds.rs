//! The envelopes there are: how each is known, and what it holds.

use std::borrow::Cow;
use std::sync::Arc;

use super::gke;
use super::object::Object;
use crate::event::json::{Kind, Raw};
use crate::event::time::parse_micros;

/// What an envelope tells of the events in it.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The cluster's name, if an envelope named one.
    pub cluster: Option<Arc<str>>,
    /// Whose managed cluster it is, if an envelope told: `eks`, `gke`, `aks` or `openshift`.
    pub provider: Option<&'static str>,
    /// When the carrier took it, microseconds, if an envelope told: for events without a time of their own.
    pub time: Option<i64>,
}

impl Facts {
    fn named(&self, cluster: Option<&str>) -> Facts {
        let name = cluster.filter(|name| !name.is_empty()).map(Arc::from);
        Facts { cluster: name.or_else(|| self.cluster.clone()), ..self.clone() }
    }

    /// Taken at this time, in milliseconds.
    fn at_millis(&self, object: Object<'_>, raw: Option<Raw>) -> Facts {
        let number = raw.and_then(|raw| std::str::from_utf8(object.bytes(raw)).ok()?.parse::<i64>().ok());
        Facts { time: number.and_then(|millis| millis.checked_mul(1_000)).or(self.time), ..self.clone() }
    }

    /// Taken at a time that is written out.
    fn at_text(&self, text: Option<Cow<'_, str>>) -> Facts {
        Facts { time: text.and_then(|text| parse_micros(text.as_bytes())).or(self.time), ..self.clone() }
    }

    fn of(self, provider: &'static str) -> Facts {
        Facts { provider: Some(provider), ..self }
    }
}

/// One thing inside an envelope.
pub enum Content<'d> {
    /// A value of the same document.
    Value(Raw),
    /// A text that was unescaped or put together.
    Text(Cow<'d, str>),
    /// Bytes in base64.
    Base64(Cow<'d, str>),
    /// Bytes that were written as numbers.
    Bytes(Vec<u8>),
    /// Something that is no audit event.
    Other,
    /// Something that should be an event and is none.
    Broken(&'static str),
}

/// The contents of an envelope, with what is known of each.
type Contents<'d> = Vec<(Content<'d>, Facts)>;

/// Looks into an envelope.
type Open = for<'d> fn(Object<'d>, &Facts) -> Option<Contents<'d>>;

/// In the order in which they are tried: what is told by more, first.
const KINDS: &[Open] = &[cloudwatch, gke_entry, aks, loki, otlp, elastic, records, cloud_event, hec, wrapped];

/// The contents of a known envelope; `None` if it is none.
pub fn contents<'d>(object: Object<'d>, facts: &Facts) -> Option<Contents<'d>> {
    KINDS.iter().find_map(|open| open(object, facts))
}

/// A message of a CloudWatch Logs subscription, and what Lambda puts around it.
fn cloudwatch<'d>(object: Object<'d>, facts: &Facts) -> Option<Contents<'d>> {
    if let Some(data) = object.object("awslogs").and_then(|logs| logs.text("data")) {
        return Some(vec![(Content::Base64(data), facts.clone())]);
    }
    object.text("messageType").filter(|_| object.has("logEvents")).map(|kind| {
        if kind != "DATA_MESSAGE" {
            return Vec::new();
        }
        let group = object.text("logGroup");
        let cluster =
            group.as_deref().and_then(|group| group.strip_prefix("/aws/eks/")).and_then(|rest| rest.split('/').next());
        let facts = match cluster {
            Some(_) => facts.named(cluster).of("eks"),
            None => facts.clone(),
        };
        let events = object.array("logEvents").into_iter();
        let one = |raw| {
            let timestamp = object.object_of(raw).and_then(|item| item.get("timestamp"));
            (inner(object, raw, "message"), facts.at_millis(object, timestamp))
        };
        events.map(one).collect()
    })
}

/// The member of an element, which holds the event as a text or as an object.
fn inner<'d>(object: Object<'d>, raw: Raw, name: &str) -> Content<'d> {
    object.object_of(raw).and_then(|item| item.get(name)).map_or(Content::Other, Content::Value)
}

/// An entry of Cloud Logging with a Kubernetes audit record, and Pub/Sub's push message.
fn gke_entry<'d>(object: Object<'d>, facts: &Facts) -> Option<Contents<'d>> {
    if let Some(payload) = object.object("protoPayload") {
        if payload.text("serviceName").as_deref() != Some("k8s.io") {
            return Some(Vec::new());
        }
        let labels = object.object("resource").and_then(|resource| resource.object("labels"));
        let cluster = labels.and_then(|labels| labels.text("cluster_name"));
        let content = gke::event(object, payload)
            .map_or(Content::Broken("in an envelope: a GKE record without methodName"), |event| {
                Content::Text(event.into())
            });
        return Some(vec![(content, facts.named(cluster.as_deref()).of("gke"))]);
    }
    let data = object.object("message").filter(|_| object.has("subscription"))?.text("data")?;
    Some(vec![(Content::Base64(data), facts.clone())])
}

/// A diagnostic record of AKS, or its row in Log Analytics.
fn aks<'d>(object: Object<'d>, facts: &Facts) -> Option<Contents<'d>> {
    let category = object.text("category").or_else(|| object.text("Category"))?;
    let log = match object.object("properties") {
        Some(properties) => properties.get("log")?,
        None => object.get("log_s")?,
    };
    if !matches!(&*category, "kube-audit" | "kube-audit-admin") {
        return Some(Vec::new());
    }
    let id = object.text("resourceId").or_else(|| object.text("ResourceId"));
    // Azure writes the name in capitals here, whatever it was called: names differ in more than case.
    let cluster = id.as_deref().and_then(|id| id.rsplit('/').next()).map(str::to_ascii_lowercase);
    let facts = facts.at_text(object.text("time").or_else(|| object.text("TimeGenerated")));
    Some(vec![(Content::Value(log), facts.named(cluster.as_deref()).of("aks"))])
}

/// What is pushed to Loki, and what its client writes.
fn loki<'d>(object: Object<'d>, facts: &Facts) -> Option<Contents<'d>> {
    let cluster = |labels: Option<Object<'_>>| labels.and_then(|l| l.text("cluster").map(Cow::into_owned));
    if object.has("line") && object.has("labels") {
        let facts = facts.named(cluster(object.object("labels")).as_deref());
        return object.get("line").map(|line| vec![(Content::Value(line), facts)]);
    }
    let streams = match object.object("data") {
        Some(data) if data.has("resultType") => data.array("result"),
        _ if object.has("streams") => object.array("streams"),
        _ => return None,
    };
    let mut contents = Vec::new();
    for stream in streams.into_iter().filter_map(|raw| object.object_of(raw)) {
        let facts = facts.named(cluster(stream.object("stream")).as_deref());
        let mut values = stream.array("values");
        // A query gives the newest first, and what comes in the order of time is not late.
        let nanos = |raw: Option<&Raw>| object.text_of(*object.elements(*raw?).first()?)?.parse::<u64>().ok();
        if nanos(values.first()) > nanos(values.last()) {
            values.reverse();
        }
        for value in values {
            let line = object.elements(value).get(1).copied();
            contents.push((line.map_or(Content::Other, Content::Value), facts.clone()));
        }
    }
    Some(contents)
}

/// OpenTelemetry's logs as JSON, with the event as the body's text.
fn otlp<'d>(object: Object<'d>, facts: &Facts) -> Option<Contents<'d>> {
    object.get("resourceLogs")?;
    let mut contents = Vec::new();
    for resource in object.array("resourceLogs").into_iter().filter_map(|raw| object.object_of(raw)) {
        let attributes = resource.object("resource").map_or_else(Vec::new, |told| told.array("attributes"));
        let name = attributes.into_iter().filter_map(|raw| object.object_of(raw)).find_map(|attribute| {
            attribute.text("key").filter(|key| key == "k8s.cluster.name")?;
            attribute.object("value")?.text("stringValue")
        });
        let facts = facts.named(name.as_deref());
        for scope in resource.array("scopeLogs").into_iter().filter_map(|raw| object.object_of(raw)) {
            for record in scope.array("logRecords").into_iter().filter_map(|raw| object.object_of(raw)) {
                let body = record.object("body").and_then(|body| body.get("stringValue"));
                contents.push((body.map_or(Content::Other, Content::Value), facts.clone()));
            }
        }
    }
    Some(contents)
}

/// Documents of Elasticsearch: the event as it came if it was kept, else what the integration made of it.
fn elastic<'d>(object: Object<'d>, facts: &Facts) -> Option<Contents<'d>> {
    let one = |raw| Some(vec![(Content::Value(raw), facts.clone())]);
    if let Some(raw) = object.object("event").and_then(|event| event.get("original")) {
        return one(raw);
    }
    if let Some(audit) = object.object("kubernetes").and_then(|k| k.object("audit")) {
        return Some(vec![(with_dots(audit), facts.clone())]);
    }
    let of_provider = [["aws", "eks", "audit"].as_slice(), &["azure", "platformlogs", "properties", "log"]];
    for path in of_provider {
        let (last, first) = path.split_last()?;
        let inner = first.iter().try_fold(object, |object, name| object.object(name));
        if let Some(raw) = inner.and_then(|inner| inner.get(last)) {
            return one(raw);
        }
    }
    if let Some(raw) = object.get("_source").filter(|_| object.has("_index")) {
        return one(raw);
    }
    let hits = object.object("hits")?.array("hits").into_iter();
    Some(hits.map(|raw| (Content::Value(raw), facts.clone())).collect())
}

/// The integration writes `_` for the dots in annotations' keys; what belongs to Kubernetes is known.
fn with_dots(audit: Object<'_>) -> Content<'_> {
    let plain = || Content::Value(audit.raw);
    let Some(annotations) = audit.get("annotations") else { return plain() };
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let keys = text(audit.bytes(annotations));
    let dotted = keys.replace("_k8s_io/", ".k8s.io/").replace("_kubernetes_io/", ".kubernetes.io/");
    let dotted = dotted.replace("\"k8s_io/", "\"k8s.io/");
    if dotted == keys {
        return plain();
    }
    let whole = audit.bytes(audit.raw);
    let (start, end) = (annotations.start - audit.raw.start, annotations.end - audit.raw.start);
    Content::Text([text(&whole[..start]), &dotted, text(&whole[end..])].concat().into())
}

/// Records side by side: of an event hub, of Firehose and Kinesis, of `aws logs filter-log-events`.
fn records<'d>(object: Object<'d>, facts: &Facts) -> Option<Contents<'d>> {
    let list = ["records", "Records", "events"]
        .into_iter()
        .find(|name| object.get(name).is_some_and(|raw| object.doc.kind(raw) == Kind::Array))?;
    let content = |raw| {
        let record = object.object_of(raw);
        let data = record.and_then(|record| {
            record.text("data").or_else(|| record.object("kinesis").and_then(|kinesis| kinesis.text("data")))
        });
        let stream = record.and_then(|record| record.text("logStreamName"));
        let facts = match stream.is_some_and(|name| name.starts_with("kube-apiserver-audit-")) {
            true => facts.at_millis(object, record.and_then(|record| record.get("timestamp"))).of("eks"),
            false => facts.clone(),
        };
        (data.map_or(Content::Value(raw), Content::Base64), facts)
    };
    Some(object.array(list).into_iter().map(content).collect())
}

fn cloud_event<'d>(object: Object<'d>, facts: &Facts) -> Option<Contents<'d>> {
    object.get("specversion")?;
    let data = object.get("data").map(Content::Value);
    let data = data.or_else(|| object.text("data_base64").map(Content::Base64));
    Some(data.map(|content| (content, facts.clone())).into_iter().collect())
}

/// Splunk: what is sent to its collector, and what a search gives.
fn hec<'d>(object: Object<'d>, facts: &Facts) -> Option<Contents<'d>> {
    let told = ["time", "sourcetype", "source", "host"].into_iter().any(|name| object.has(name));
    let event = object.get("event").filter(|_| told);
    let raw = event.or_else(|| object.object("result").and_then(|result| result.get("_raw")))?;
    Some(vec![(Content::Value(raw), facts.clone())])
}

/// A record of a log shipper or a runtime: the line is a member of it.
fn wrapped<'d>(object: Object<'d>, facts: &Facts) -> Option<Contents<'d>> {
    let members = ["log", "message", "msg", "MESSAGE", "event.original", "_raw", "payload"].into_iter();
    let members: Vec<Raw> = members.filter_map(|name| object.get(name)).collect();
    // Filebeat tells under `log` where the line stood; Fluent Bit leaves it empty when it has parsed it.
    let is_text = |raw: Raw| object.doc.kind(raw) == Kind::String && object.bytes(raw) != b"\"\"";
    let is_line = |raw: &&Raw| is_text(**raw) || is_event(object, **raw);
    let line = members.iter().find(is_line).copied().or_else(|| elsewhere(object)).or(members.first().copied())?;
    let facts = facts.at_text(object.text("time"));
    match bytes_of(object, line) {
        Some(bytes) => Some(vec![(Content::Bytes(bytes), facts)]),
        None => Some(vec![(Content::Value(line), facts)]),
    }
}

/// Whether a value looks like an event, by itself.
fn is_event(object: Object<'_>, raw: Raw) -> bool {
    object.object_of(raw).is_some_and(|inner| inner.has("auditID") || inner.has("kind"))
}

/// Shippers that parse lines put the event under a name of their user's choice.
fn elsewhere(object: Object<'_>) -> Option<Raw> {
    let is_line = |raw: Raw| match object.doc.kind(raw) {
        Kind::Object => object.object_of(raw).is_some_and(|inner| inner.has("auditID")),
        Kind::String => {
            let bytes = object.bytes(raw);
            bytes.starts_with(b"\"{") && memchr::memmem::find(bytes, b"\\\"auditID\\\"").is_some()
        }
        _ => false,
    };
    object.doc.members(object.raw).map_while(Result::ok).map(|(_, raw)| raw).find(|raw| is_line(*raw))
}

/// A text that journald wrote as the numbers of its bytes, as it does when it is long or no UTF-8.
fn bytes_of(object: Object<'_>, raw: Raw) -> Option<Vec<u8>> {
    let numbers = object.elements(raw);
    let byte = |raw: &Raw| std::str::from_utf8(object.bytes(*raw)).ok()?.parse::<u8>().ok();
    if numbers.is_empty() { None } else { numbers.iter().map(byte).collect() }
}

/// What OpenShift's collector tells beside an event's own members; `None` if it has told nothing.
pub fn beside<'d>(object: Object<'d>) -> Option<(&'static str, Option<Cow<'d, str>>)> {
    let openshift = object.object("openshift");
    if openshift.is_none() && !(object.has("log_source") && object.has("log_type")) {
        return None;
    }
    Some(("openshift", openshift.and_then(|told| told.text("cluster_id")).filter(|id| !id.is_empty())))
}
