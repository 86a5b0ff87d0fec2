//! What leaves the matching stage: owned, small values. A match is one rule that held for one request.

use std::borrow::Cow;
use std::sync::Arc;

pub use super::trace::{Captured, Trace};
pub use crate::event::{ClusterId, SourceId, Stage};

/// The identity of a request (DESIGN: request identity): the first 16 bytes of a BLAKE3 over its length-prefixed parts.
pub type Identity = [u8; 16];

/// Index of a captured field in [`super::CaptureTable`].
pub type CaptureId = u32;

/// A value that a correlation groups by or counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// What is compared: the first 16 bytes of the BLAKE3 of the whole raw value, or a short value or a token's id itself.
    pub hash: u128,
    /// The value as it may be shown: redacted, at most 256 bytes.
    pub text: Arc<str>,
}

/// One rule held for one event of a request.
#[derive(Debug, Clone)]
pub struct Match {
    /// Index into [`crate::rules::RuleSet::rules`].
    pub rule: u32,
    /// Event time in microseconds since the Unix epoch; `None` for an event without any time.
    pub time: Option<i64>,
    /// Newest event time of the same batch before this event, if any.
    pub newest_before: Option<i64>,
    /// Whose request it was.
    pub who: Who,
    /// At which stage.
    pub stage: Stage,
    /// Which cluster.
    pub cluster: ClusterId,
    /// Whether the request is long-running (watch, exec …), so that it is remembered longer.
    pub long_running: bool,
    /// What an alert may have to tell of the event, and the values for the correlations that read its rules.
    pub trace: Trace,
}

/// Whose request a match is of.
#[derive(Debug, Clone, Copy)]
pub enum Who {
    /// This one's.
    Known(Identity),
    /// The one whose identity the trace tells when somebody asks: few do, and BLAKE3 costs as much as all else that is kept
    /// of an event. Other requests have another hash: it is seeded at random, so that nobody can write two that collide.
    Keyed(u64),
}

impl Match {
    /// The identity of its request.
    pub fn identity(&self) -> Identity {
        match self.who {
            Who::Known(identity) => identity,
            Who::Keyed(_) => self.trace.identity(),
        }
    }

    /// Whether both are of the same request.
    pub(crate) fn is_of_request_of(&self, other: &Match) -> bool {
        match (self.who, other.who) {
            (Who::Keyed(one), Who::Keyed(other)) => one == other,
            _ => self.identity() == other.identity(),
        }
    }
}

/// What an alert tells of an event: redacted, every text bounded. The journal stores it; new fields go to its end.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Excerpt<'a> {
    /// `auditID`.
    pub audit_id: Cow<'a, str>,
    /// Event time in microseconds since the Unix epoch, as used in windows (0 if unknown).
    pub time: i64,
    /// Verb.
    pub verb: Cow<'a, str>,
    /// `objectRef.resource`, empty if there is none.
    pub resource: Cow<'a, str>,
    /// `objectRef.apiGroup`.
    pub api_group: Option<Cow<'a, str>>,
    /// `objectRef.subresource`.
    pub subresource: Option<Cow<'a, str>>,
    /// `objectRef.namespace`.
    pub namespace: Option<Cow<'a, str>>,
    /// `objectRef.name`.
    pub name: Option<Cow<'a, str>>,
    /// `requestURI`.
    pub uri: Cow<'a, str>,
    /// The effective username (`k8s.actor.username`).
    pub username: Cow<'a, str>,
    /// The effective groups.
    pub groups: Vec<Cow<'a, str>>,
    /// The authenticated user behind an impersonation.
    pub impersonated_by: Option<Cow<'a, str>>,
    /// `k8s.clientIP`.
    pub client_ip: Option<Cow<'a, str>>,
    /// `userAgent`.
    pub user_agent: Option<Cow<'a, str>>,
    /// `responseStatus.code`.
    pub code: Option<i64>,
    /// `k8s.decision`.
    pub decision: Option<Cow<'a, str>>,
    /// Index of the input it came from.
    pub source: SourceId,
    /// Byte offset of its document in the input (after decompression).
    pub offset: u64,
}

impl Excerpt<'_> {
    /// The same, on its own.
    pub fn into_owned(self) -> Excerpt<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Excerpt {
            audit_id: own(self.audit_id),
            time: self.time,
            verb: own(self.verb),
            resource: own(self.resource),
            api_group: self.api_group.map(own),
            subresource: self.subresource.map(own),
            namespace: self.namespace.map(own),
            name: self.name.map(own),
            uri: own(self.uri),
            username: own(self.username),
            groups: self.groups.into_iter().map(own).collect(),
            impersonated_by: self.impersonated_by.map(own),
            client_ip: self.client_ip.map(own),
            user_agent: self.user_agent.map(own),
            code: self.code,
            decision: self.decision.map(own),
            source: self.source,
            offset: self.offset,
        }
    }
}

/// A rule or a correlation fired: what an alert is made from.
#[derive(Debug, Clone)]
pub struct Firing {
    /// What fired.
    pub origin: Origin,
    /// Event time of the deciding match, microseconds.
    pub time: i64,
    /// Request identity of the deciding match.
    pub identity: Identity,
    /// Cluster of the deciding match.
    pub cluster: ClusterId,
    /// The deciding event.
    pub trace: Trace,
    /// For a correlation: the group's names and values, in the order of `group-by`.
    pub group: Vec<(String, Value)>,
    /// Matches (or distinct values) counted; 1 for a rule.
    pub count: u64,
    /// For a correlation: times of the oldest and the newest match counted.
    pub window: Option<(i64, i64)>,
    /// The events that made it fire, the deciding one last, at most 100.
    pub events: Vec<Trace>,
    /// Whether evidence was evicted before the alert.
    pub evidence_truncated: bool,
    /// Whether the match was late (only rules: a late match never enters windows by default).
    pub late: bool,
}

/// Who fired. Rules sort before correlations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Index into [`crate::rules::RuleSet::rules`].
    Rule(u32),
    /// Index into [`crate::rules::RuleSet::correlations`].
    Correlation(u32),
}
