//! What a match takes with it out of the event: the excerpt for alerts and the captured values for correlations. This
//! is where secrets are cut out.

use std::ops::ControlFlow;

use smallvec::SmallVec;

use super::condition::{look_up_all, scalar_text};
use super::matches::{CaptureId, Captures, Excerpt, SourceId, Value};
use crate::event::identity::hash128;
use crate::event::path::Field;
use crate::event::redact;
use crate::event::view::Event;

/// Most values of one captured field that a match carries; the rest is counted.
pub const VALUES_MAX: usize = 64;

/// Longest captured value that is shown, in bytes.
const SHOWN_MAX: usize = 256;

/// Most groups of an actor that an alert lists.
const GROUPS_MAX: usize = 64;

/// What an alert tells of the event.
pub fn excerpt(event: &Event<'_>, time: Option<i64>, source: SourceId, offset: u64) -> Excerpt {
    let shown = |text: &str| -> Box<str> { redact::text(text).into() };
    let maybe = |text: Option<&str>| text.map(shown);
    let mut groups = Vec::new();
    let _ = event.actor_groups(&mut |node| {
        if let Some(group) = scalar_text(event, node) {
            groups.push(shown(group));
        }
        if groups.len() < GROUPS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    Excerpt {
        audit_id: shown(event.audit_id().unwrap_or("")),
        time: time.unwrap_or(0),
        verb: shown(event.verb().unwrap_or("")),
        resource: shown(event.resource().unwrap_or("")),
        api_group: maybe(event.api_group()),
        subresource: maybe(event.subresource()),
        namespace: maybe(event.namespace()),
        name: maybe(event.name()),
        uri: shown(event.uri().unwrap_or("")),
        username: shown(event.actor_username().unwrap_or("")),
        groups,
        impersonated_by: if event.impersonated() { maybe(event.username()) } else { None },
        client_ip: maybe(event.client_ip()),
        user_agent: maybe(event.user_agent()),
        code: event.code(),
        decision: maybe(event.decision()),
        source,
        offset,
    }
}

/// The values of the captured fields; how many values beyond the limit were left out is added to `cut`.
pub fn captures(event: &Event<'_>, fields: &[Field], wanted: &[CaptureId], cut: &mut u64) -> Captures {
    let mut all = Vec::with_capacity(wanted.len());
    for &id in wanted {
        let field = &fields[id as usize];
        let secret =
            redact::is_secret_field(event.resource().unwrap_or(""), event.subresource().unwrap_or(""), &field.name);
        let mut values: SmallVec<[Value; 1]> = SmallVec::new();
        look_up_all(field, event, &mut |text| {
            if values.len() < VALUES_MAX {
                values.push(value(text, secret));
            } else {
                *cut += 1;
            }
        });
        all.push((id, values));
    }
    Captures(all)
}

fn value(text: &str, secret: bool) -> Value {
    let hash = hash128([text.as_bytes()]);
    if secret {
        return Value { hash, text: redact::REDACTED.into() };
    }
    let shown = redact::text(text);
    let mut end = shown.len().min(SHOWN_MAX);
    while !shown.is_char_boundary(end) {
        end -= 1;
    }
    Value { hash, text: shown[..end].into() }
}
