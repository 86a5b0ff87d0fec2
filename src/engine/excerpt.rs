//! What a match takes with it out of the event: the excerpt for alerts and the captured values for correlations. This
//! is where secrets are cut out.

use std::ops::ControlFlow;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::condition::{look_up_all, scalar_text};
use super::matches::{CaptureId, Captures, Excerpt, Value};
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

/// What an alert tells of the event; its time and place are for the caller to fill in.
pub fn excerpt(event: &Event<'_>) -> Excerpt {
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
        time: 0,
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
        source: 0,
        offset: 0,
    }
}

/// The values of the captured fields; how many values beyond the limit were left out is added to `cut`.
pub fn captures(
    event: &Event<'_>,
    fields: &[Field],
    wanted: &[CaptureId],
    values_seen: &mut Values,
    cut: &mut u64,
) -> Captures {
    let mut all = Vec::with_capacity(wanted.len());
    for &id in wanted {
        let field = &fields[id as usize];
        let secret =
            redact::is_secret_field(event.resource().unwrap_or(""), event.subresource().unwrap_or(""), &field.name);
        let mut values: SmallVec<[Value; 1]> = SmallVec::new();
        look_up_all(field, event, &mut |text| {
            if values.len() < VALUES_MAX {
                values.push(values_seen.value(text, secret));
            } else {
                *cut += 1;
            }
        });
        all.push((id, values));
    }
    Captures(all)
}

/// Values seen lately: names and addresses come again and again, and hashing and redacting them each time would cost
/// more than everything else about a match.
#[derive(Debug, Default)]
pub struct Values(HashMap<Box<str>, Value, foldhash::fast::RandomState>);

/// How many values are remembered, and how long they may be.
const REMEMBERED_MAX: usize = 4096;
const REMEMBERED_BYTES_MAX: usize = 128;

impl Values {
    fn value(&mut self, text: &str, secret: bool) -> Value {
        if secret || text.len() > REMEMBERED_BYTES_MAX {
            return value(text, secret);
        }
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        let made = value(text, false);
        self.0.insert(text.into(), made.clone());
        made
    }
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
