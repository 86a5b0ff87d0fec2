//! The alert: what a user reads when a rule or a correlation fired. Pure: a firing and names in, a value out.

mod line;

pub use line::Lines;

use std::borrow::Cow;
use std::sync::Arc;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use crate::engine::matches::{ClusterId, Excerpt, Firing, Origin, SourceId, Trace};
use crate::event::identity::hash128;
use crate::event::time::{format_micros, parse_micros};
use crate::rules::expr::Span;
use crate::rules::{CorrelationKind, Level, Meta, RuleSet};

/// What numbers in a firing stand for.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The rules that ran.
    pub rules: &'a RuleSet,
    /// Cluster names by [`ClusterId`].
    pub clusters: &'a [String],
    /// Inputs by [`SourceId`].
    pub sources: &'a [SourceName],
}

/// What an alert calls an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceName {
    /// `file`, `stdin`, `webhook`, `kafka`.
    pub kind: &'static str,
    /// Path, `-`, or topic.
    pub name: String,
}

/// One alert. Its JSON is an outside contract: fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The same wherever and however often the same thing is found: 32 hex digits.
    pub id: String,
    /// Event time of the deciding event, RFC 3339 with microseconds.
    pub time: String,
    /// A rule's alert or a correlation's.
    pub kind: Kind,
    /// What fired.
    #[serde(serialize_with = "rule_info", deserialize_with = "meta_of")]
    pub rule: Arc<Meta>,
    /// One readable line.
    pub message: String,
    /// The cluster; empty if it is not known.
    pub cluster: String,
    /// Who did it.
    pub actor: Actor,
    /// To what.
    pub target: Target,
    /// With what result.
    pub outcome: Outcome,
    /// For a correlation: the values of its `group-by`.
    pub group: Option<Group>,
    /// Matches (or distinct values) counted; 1 for a rule.
    pub count: u64,
    /// For a correlation: from the oldest to the newest match counted.
    pub window: Option<Window>,
    /// The requests that made it fire, the deciding one last, at most 100.
    pub events: Vec<EventInfo>,
    /// Where the deciding event stands.
    pub source: SourceInfo,
    /// Whether older evidence is missing from `events` (left out if not).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub evidence_truncated: bool,
    /// Whether the event came after the watermark had passed it (left out if not).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    /// The alerts that one message tells together (left out if it tells one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grouped: Option<Grouped>,
    /// Event time in microseconds, for sinks.
    #[serde(skip)]
    pub time_us: i64,
}

/// What a message about several alerts says of them; the alert around it is the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grouped {
    /// In what they agree.
    pub by: Group,
    /// How many they are.
    pub count: u64,
    /// Event time of the first.
    pub from: String,
    /// Event time of the last.
    pub to: String,
}

/// Who fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One event was enough.
    Rule,
    /// Several matches together.
    Correlation,
}

/// What an alert tells of the rule or correlation that fired.
#[derive(Serialize)]
struct RuleInfo<'a> {
    id: &'a str,
    #[serde(rename = "ref")]
    reference: Option<&'a str>,
    title: &'a str,
    level: Level,
    tags: &'a [String],
}

/// The same, read again.
fn meta_of<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Meta>, D::Error> {
    #[derive(Deserialize)]
    struct Told {
        id: String,
        #[serde(rename = "ref")]
        reference: Option<String>,
        title: String,
        level: Level,
        tags: Vec<String>,
    }
    let Told { id, reference, title, level, tags } = Told::deserialize(from)?;
    Ok(Arc::new(Meta {
        id,
        reference,
        name: None,
        title,
        description: String::new(),
        level,
        tags,
        false_positives: Vec::new(),
        references: Vec::new(),
        file: String::new(),
        span: Span::default(),
    }))
}

impl RuleInfo<'_> {
    fn of(meta: &Meta) -> RuleInfo<'_> {
        let Meta { id, reference, title, level, tags, .. } = meta;
        RuleInfo { id, reference: reference.as_deref(), title, level: *level, tags }
    }
}

fn rule_info<S: Serializer>(meta: &Meta, serializer: S) -> Result<S::Ok, S::Error> {
    RuleInfo::of(meta).serialize(serializer)
}

/// The effective identity behind the deciding event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Actor {
    /// The impersonated user if there is one, else the authenticated one.
    pub username: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// The authenticated user behind an impersonation.
    pub impersonated_by: Option<String>,
    /// `k8s.clientIP`.
    pub client_ip: Option<String>,
    /// The client's own word.
    pub user_agent: Option<String>,
}

/// What the deciding event acted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Verb.
    pub verb: String,
    /// Resource; none for a request of another URI.
    pub resource: Option<String>,
    /// Subresource.
    pub subresource: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// Request URI.
    pub uri: String,
}

/// How the deciding request ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// HTTP status.
    pub code: Option<i64>,
    /// What the authorizer said: `allow` or `forbid`.
    pub decision: Option<String>,
}

/// The group of a correlation: names and values in the order of `group-by`.
#[derive(Debug, Clone, PartialEq)]
pub struct Group(pub Vec<(String, String)>);

/// From the oldest to the newest match counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Time of the oldest.
    pub from: String,
    /// Time of the newest.
    pub to: String,
}

/// One request of an alert's evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventInfo {
    /// `auditID`.
    pub audit_id: String,
    /// Event time.
    pub time: String,
    /// Verb.
    pub verb: String,
    /// Resource.
    pub resource: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// HTTP status.
    pub code: Option<i64>,
}

/// Where the deciding event stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// `file`, `stdin` …
    pub kind: String,
    /// Path, `-` …
    pub name: String,
    /// For a file: the byte offset of the document, after decompression.
    pub position: String,
}

impl Alert {
    /// Tells a firing in words.
    pub fn new(firing: &Firing, names: &Names<'_>) -> Self {
        let deciding = firing.trace.excerpt();
        let correlation = matches!(firing.origin, Origin::Correlation(_));
        // The deciding event stands among the events, as a rule.
        let of_event = |trace: &Trace| match *trace == firing.trace {
            true => event(&deciding),
            false => event(&trace.excerpt()),
        };
        let (events, message) = (firing.events.iter().map(of_event).collect(), message(firing, &deciding, names.rules));
        let source = source(names, deciding.source, deciding.offset);
        let (actor, target, outcome) = who_what_how(deciding);
        Alert {
            id: id(firing, names),
            time: format_micros(firing.time),
            kind: if correlation { Kind::Correlation } else { Kind::Rule },
            rule: Arc::clone(meta(firing.origin, names.rules)),
            message,
            cluster: cluster(names, firing.cluster).to_owned(),
            actor,
            target,
            outcome,
            group: correlation
                .then(|| Group(firing.group.iter().map(|(n, v)| (n.clone(), v.text.to_string())).collect())),
            count: firing.count,
            window: firing.window.map(|(from, to)| Window { from: format_micros(from), to: format_micros(to) }),
            events,
            source,
            evidence_truncated: firing.evidence_truncated,
            late: firing.late,
            grouped: None,
            time_us: firing.time,
        }
    }

    /// Reads an alert as it was stored. What is known of its rule is what the alert tells.
    ///
    /// # Errors
    /// It is no alert.
    pub fn parse(line: &str) -> Result<Alert, serde_json::Error> {
        let mut alert: Alert = serde_json::from_str(line)?;
        alert.time_us = parse_micros(alert.time.as_bytes()).unwrap_or_default();
        Ok(alert)
    }
}

impl<'de> Deserialize<'de> for Group {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Group;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Group, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Group(pairs))
            }
        }
        from.deserialize_map(Pairs)
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// What is known about who fired.
pub fn meta(origin: Origin, rules: &RuleSet) -> &Arc<Meta> {
    match origin {
        Origin::Rule(index) => &rules.rules[index as usize].meta,
        Origin::Correlation(index) => &rules.correlations[index as usize].meta,
    }
}

fn cluster<'a>(names: &Names<'a>, id: ClusterId) -> &'a str {
    names.clusters.get(id as usize).map_or("", String::as_str)
}

fn source(names: &Names<'_>, id: SourceId, offset: u64) -> SourceInfo {
    let known = names.sources.get(id as usize);
    SourceInfo {
        kind: known.map_or("", |s| s.kind).to_owned(),
        name: known.map_or("", |s| &s.name).to_owned(),
        position: offset.to_string(),
    }
}

/// A hash of what fired, where, and of what: a repeat has the same id everywhere.
fn id(firing: &Firing, names: &Names<'_>) -> String {
    let across = match firing.origin {
        Origin::Correlation(index) => names.rules.correlations[index as usize].across_clusters,
        Origin::Rule(_) => false,
    };
    // A correlation that mixes clusters has one id, whichever cluster the deciding match came from.
    let cluster = if across { "" } else { cluster(names, firing.cluster) };
    let group: Vec<[u8; 16]> = firing.group.iter().map(|(_, value)| value.hash.to_be_bytes()).collect();
    let first = [meta(firing.origin, names.rules).id.as_bytes(), cluster.as_bytes()];
    let parts = first.into_iter().chain(group.iter().map(|hash| &hash[..])).chain([&firing.identity[..]]);
    format!("{:032x}", hash128(parts))
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn who_what_how(e: Excerpt<'_>) -> (Actor, Target, Outcome) {
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    let actor = Actor {
        username: e.username.into(),
        groups: e.groups.into_iter().map(Cow::into_owned).collect(),
        impersonated_by: owned(e.impersonated_by),
        client_ip: owned(e.client_ip),
        user_agent: owned(e.user_agent),
    };
    let target = Target {
        verb: e.verb.into(),
        resource: some(&e.resource).map(str::to_owned),
        subresource: owned(e.subresource),
        namespace: owned(e.namespace),
        name: owned(e.name),
        uri: e.uri.into(),
    };
    (actor, target, Outcome { code: e.code, decision: owned(e.decision) })
}

fn event(e: &Excerpt<'_>) -> EventInfo {
    let owned = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::to_owned);
    EventInfo {
        audit_id: e.audit_id.to_string(),
        time: format_micros(e.time),
        verb: e.verb.to_string(),
        resource: some(&e.resource).map(str::to_owned),
        namespace: owned(&e.namespace),
        name: owned(&e.name),
        code: e.code,
    }
}

/// One readable line: `Secrets listed: alice list secrets in kube-system (200)`.
fn message(firing: &Firing, deciding: &Excerpt<'_>, rules: &RuleSet) -> String {
    let mut out = String::with_capacity(256);
    out += &meta(firing.origin, rules).title;
    out += ": ";
    if let Origin::Correlation(index) = firing.origin {
        let counted = match &rules.correlations[index as usize].kind {
            CorrelationKind::ValueCount(_, fields) => format!("distinct {}", fields.join(" + ")),
            CorrelationKind::EventCount(_) | CorrelationKind::Numbers(..) | CorrelationKind::EventAbsence { .. } => {
                "requests".to_owned()
            }
            CorrelationKind::NewValue { fields, .. } => format!("new {}", fields.join(" + ")),
            CorrelationKind::Temporal(_) | CorrelationKind::TemporalOrdered => "steps".to_owned(),
        };
        out += &format!("{} {counted}", firing.count);
        if let Some((from, to)) = firing.window {
            out += &format!(" within {}", span(to - from));
        }
        let group: Vec<String> = firing.group.iter().map(|(name, value)| format!("{name}={}", value.text)).collect();
        if !group.is_empty() {
            out += &format!(" for {}", group.join(", "));
        }
        out += "; last: ";
    }
    deed(deciding, &mut out);
    out
}

/// Who did what to what: `alice (impersonated by bob) get pods/exec web-0 in shop (101)`.
fn deed(e: &Excerpt<'_>, out: &mut String) {
    let mut say = |parts: &[&str]| parts.iter().for_each(|part| out.push_str(part));
    say(&[if e.username.is_empty() { "(nobody)" } else { &e.username }]);
    if let Some(by) = &e.impersonated_by {
        say(&[" (impersonated by ", by, ")"]);
    }
    if !e.verb.is_empty() {
        say(&[" ", &e.verb]);
    }
    if e.resource.is_empty() {
        say(&[" ", &e.uri]);
    } else {
        say(&[" ", &e.resource]);
        e.subresource.iter().for_each(|sub| say(&["/", sub]));
        e.name.iter().filter(|n| !n.is_empty()).for_each(|name| say(&[" ", name]));
        e.namespace.iter().filter(|n| !n.is_empty()).for_each(|ns| say(&[" in ", ns]));
    }
    e.code.iter().for_each(|code| say(&[" (", &code.to_string(), ")"]));
}

/// A length of time for people, in two units at most.
fn span(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    match seconds {
        0 => format!("{} ms", micros / 1000),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
pub(crate) mod tests;
