//! With which credential a request was made, and what authenticators know of the user (`user.extra`).

use std::ops::ControlFlow;

use super::json::{Doc, Kind, Raw};
use super::view::{Event, Slot};
use super::walk::Node;

/// Where `user.extra` tells credentials apart (Kubernetes 1.32 and later).
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// A key of `user.extra`.
pub(crate) enum ExtraKey<'k> {
    /// One of those that service accounts have, where there are no others: its number there.
    Usual(u8),
    /// Any, as it stands.
    Other(&'k [u8]),
}

/// What service accounts have in `user.extra`, in the order in which the API server writes it.
const USUAL: [&str; 5] = [
    CREDENTIAL_ID,
    "authentication.kubernetes.io/node-name",
    "authentication.kubernetes.io/node-uid",
    "authentication.kubernetes.io/pod-name",
    "authentication.kubernetes.io/pod-uid",
];

/// The values of what service accounts have, by its number.
pub(super) type UsualExtra = [Option<Raw>; USUAL.len()];

/// The members of the object that starts at `start`, and the object as a whole, if it has no others and stands as the API
/// server writes it.
#[inline]
pub(super) fn usual_extra(doc: Doc<'_>, start: usize) -> Option<(UsualExtra, Raw)> {
    let mut members = doc.members_in_order(Raw { start, end: start });
    let found = [
        members.take(b"\"authentication.kubernetes.io/credential-id\":"),
        members.take(b"\"authentication.kubernetes.io/node-name\":"),
        members.take(b"\"authentication.kubernetes.io/node-uid\":"),
        members.take(b"\"authentication.kubernetes.io/pod-name\":"),
        members.take(b"\"authentication.kubernetes.io/pod-uid\":"),
    ];
    let mut rest = members.rest();
    rest.next().is_none().then(|| (found, Raw { start, end: rest.end() }))
}

#[cfg(test)]
impl ExtraKey<'_> {
    /// The key itself.
    pub(crate) fn name(&self) -> &[u8] {
        match self {
            ExtraKey::Usual(number) => USUAL[usize::from(*number)].as_bytes(),
            ExtraKey::Other(name) => name,
        }
    }
}

impl<'a> Event<'a> {
    /// `user.extra` `authentication.kubernetes.io/credential-id`, as it stands.
    pub(super) fn credential(&self) -> Option<Raw> {
        *self.kept.credential.get_or_init(|| self.of_header(|| self.find_credential()))
    }

    fn find_credential(&self) -> Option<Raw> {
        if !self.has_duplicate_keys() {
            if let Some([credential, ..]) = self.located.usual_extra {
                return credential;
            }
            let extra = self.extra_raw().filter(|raw| self.doc.kind(*raw) == Kind::Object)?;
            return self.find_member(extra, CREDENTIAL_ID);
        }
        let mut found = None;
        for user in self.objects(Slot::User) {
            let extra = self.member(user, "extra").filter(|raw| self.doc.kind(*raw) == Kind::Object);
            found = extra.and_then(|raw| self.member(raw, CREDENTIAL_ID)).or(found);
        }
        found
    }

    /// The member of `user.extra` with this key, if there is one; `None` if the general way must say, because another key
    /// might be a part of it.
    pub(crate) fn extra_value(&self, key: &str) -> Option<Option<Raw>> {
        if self.has_duplicate_keys() || !self.located.plain_user {
            return None;
        }
        let Some(extra) = self.extra_raw() else { return Some(None) };
        if self.doc.kind(extra) != Kind::Object {
            return None;
        }
        let mut found = None;
        for member in self.doc.members(extra) {
            let (name, value) = member.ok()?;
            let name = self.doc.name(name).ok()?;
            if *name == *key.as_bytes() {
                found = Some(value);
            } else if key.as_bytes().starts_with(&name) {
                return None;
            }
        }
        Some(found)
    }

    /// Shows `visit` the members of `user.extra`. Whether they are well-formed.
    pub(crate) fn each_extra(&self, visit: &mut impl FnMut(ExtraKey<'_>, Raw)) -> bool {
        let (found, plain) = match &self.located.usual_extra {
            Some(usual) => {
                let all = (0u8..).zip(usual).filter_map(|(number, value)| Some((number, (*value)?)));
                all.for_each(|(number, value)| visit(ExtraKey::Usual(number), value));
                (usual[0], true)
            }
            None => {
                let Some(extra) = self.extra_raw().filter(|raw| self.doc.kind(*raw) == Kind::Object) else {
                    return true;
                };
                // Walked once for both, unless a key is spelled in an unusual way.
                let (mut found, mut plain) = (None, true);
                for member in self.doc.members(extra) {
                    let Ok((key, value)) = member else { return false };
                    let name = &self.doc.text[key.start + 1..key.end - 1];
                    visit(ExtraKey::Other(name), value);
                    plain &= !self.doc.structure.has_backslash(key.start + 1..key.end - 1);
                    if name == CREDENTIAL_ID.as_bytes() {
                        found = Some(value);
                    }
                }
                (found, plain)
            }
        };
        if plain && !self.has_duplicate_keys() {
            let _ = self.kept.credential.set(found);
            if let Some(list) = found.filter(|list| self.doc.is_list_of_one(*list))
                && let Some(id) = self.doc.plain(Raw { start: list.start + 1, end: list.end - 1 })
            {
                let _ = self.kept.single_credential.set(Some(Some(id)));
            }
        }
        true
    }

    /// The kind of the credential, by the text before its `=`; if there is more than one, all of them as they stand.
    pub(crate) fn credential_kind(&self) -> &'a [u8] {
        match self.single_credential() {
            Some(None) => b"\xff",
            Some(Some(id)) => memchr::memchr(b'=', id.as_bytes()).map_or(id, |at| &id[..=at]).as_bytes(),
            None => self.credential().map_or(&[], |raw| self.doc.bytes(raw)),
        }
    }

    /// The credential's id if there is one at most; `None` if there are several.
    pub fn single_credential(&self) -> Option<Option<&'a str>> {
        *self.kept.single_credential.get_or_init(|| self.of_header(|| self.find_single_credential()))
    }

    fn find_single_credential(&self) -> Option<Option<&'a str>> {
        let Some(raw) = self.credential() else { return Some(None) };
        let (mut count, mut text) = (0, None);
        let _ = self.scalars(Node::Json(raw), &mut |node| {
            count += 1;
            text = if let Node::Json(raw) = node { self.text(raw) } else { None };
            if count < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        match (count, text) {
            (0, _) => Some(None),
            (1, Some(text)) => Some(Some(text)),
            _ => None,
        }
    }
}
