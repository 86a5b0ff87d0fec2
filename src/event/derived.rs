//! The derived fields `k8s.*`: what Kubernetes means by an event, so that rules need not know it.

use std::ops::ControlFlow;

use super::actor;
use super::json::{Kind, Raw};
use super::path::{Derived, Path};
use super::uri::Query;
use super::view::{Event, Slot};
use super::walk::{Missing, Node, Visit};

impl<'a> Event<'a> {
    /// Shows `visit` the values of a derived field below `path`, and says what kept it from being sure.
    pub fn derived(&self, field: Derived, path: &Path, visit: &mut Visit<'_, 'a>) -> Missing {
        let mut missing = Missing::default();
        let text = |value: Option<&'a str>, visit: &mut Visit<'_, 'a>| {
            if let Some(value) = value {
                let _ = visit(Node::Text(value));
            }
        };
        match field {
            Derived::Object => missing = self.object(&mut |node| self.walk(node, path, visit)),
            Derived::PodSpec => missing = self.pod_spec(&mut |node| self.walk(node, path, visit)),
            Derived::Containers => missing = self.containers(&mut |node| self.walk(node, path, visit)),
            Derived::PodAnnotations => missing = self.pod_annotations(visit),
            Derived::GrantedSubjects => missing = self.granted_subjects(visit),
            Derived::ActorUsername => text(self.actor_username(), visit),
            Derived::ActorGroups => drop(self.actor_groups(visit)),
            Derived::ActorSubjects => {
                let stopped = self.actor_username().map(|name| visit(Node::Text(name)));
                if stopped != Some(ControlFlow::Break(())) {
                    let _ = self.actor_groups(visit);
                }
            }
            Derived::ActorKind => text(Some(self.actor_kind()), visit),
            Derived::Cluster => text(Some(self.cluster), visit),
            Derived::Provider => text(self.provider, visit),
            Derived::ClientIp => text(self.client_ip(), visit),
            Derived::Decision => text(self.decision(), visit),
            Derived::LongRunning => drop(visit(Node::Bool(self.long_running()))),
            Derived::ObjectName => {
                let (name, lost) = self.object_name();
                missing = lost;
                text(name, visit);
            }
            Derived::DryRun => drop(visit(Node::Bool(self.dry_run()))),
            Derived::CredentialId => {
                if let Some(raw) = self.credential() {
                    let _ = self.scalars(Node::Json(raw), visit);
                }
            }
            Derived::ExecCommand => self.exec_values("command", visit),
            Derived::ExecContainer => self.exec_values("container", visit),
            Derived::CommandLine => text(self.command_line(), visit),
            Derived::UserAgentProduct => {
                text(self.user_agent().map(|agent| agent.split('/').next().unwrap_or(agent)), visit)
            }
            Derived::Outcome => text(Some(self.outcome()), visit),
            Derived::AuditIdIsUuid => text(self.derived_text(field).flatten(), visit),
        }
        missing
    }

    /// The value of a derived field that has one text at most; `None` for the others.
    #[inline]
    pub fn derived_text(&self, field: Derived) -> Option<Option<&'a str>> {
        Some(match field {
            Derived::ActorUsername => self.actor_username(),
            Derived::ActorKind => Some(self.actor_kind()),
            Derived::Cluster => Some(self.cluster),
            Derived::Provider => self.provider,
            Derived::ClientIp => self.client_ip(),
            Derived::Decision => self.decision(),
            Derived::LongRunning => Some(if self.long_running() { "true" } else { "false" }),
            Derived::DryRun => Some(if self.dry_run() { "true" } else { "false" }),
            Derived::AuditIdIsUuid => self.audit_id().map(|id| if is_uuid(id) { "true" } else { "false" }),
            Derived::Outcome => Some(self.outcome()),
            Derived::CredentialId => return self.single_credential(),
            _ => return None,
        })
    }

    /// The impersonated user if there is one, else the authenticated one.
    pub fn actor_username(&self) -> Option<&'a str> {
        *self.kept.actor_username.get_or_init(|| {
            self.of_header(|| match self.objects(Slot::ImpersonatedUser).last() {
                Some(user) => self.member(user, "username").and_then(|raw| self.text(raw)),
                None => self.username(),
            })
        })
    }

    /// Shows `visit` the groups of the effective user.
    pub fn actor_groups(&self, visit: &mut Visit<'_, 'a>) -> ControlFlow<()> {
        let groups = match self.objects(Slot::ImpersonatedUser).last() {
            Some(user) => self.member(user, "groups"),
            None => self.groups_raw(),
        };
        groups.map_or(ControlFlow::Continue(()), |raw| self.scalars(Node::Json(raw), visit))
    }

    /// Shows `visit` the groups of the authenticated user.
    pub fn user_groups(&self, visit: &mut Visit<'_, 'a>) {
        if self.is_merged(Slot::User) {
            self.walk_merged(Slot::User, &Path::parse("groups"), &mut |node| self.scalars(node, visit));
        } else if let Some(raw) = self.groups_raw() {
            let _ = self.scalars(Node::Json(raw), visit);
        }
    }

    /// Shows `take` the keys of all annotations. Whether every rule's annotation would be among them: not if a value is
    /// no text, for a path may lead into it, nor if the annotations are broken.
    pub fn annotation_keys(&self, take: &mut dyn FnMut(&str)) -> bool {
        for annotations in self.objects(Slot::Annotations) {
            for member in self.doc.members(annotations) {
                let Ok((key, value)) = member else { return false };
                if self.doc.kind(value) != Kind::String {
                    return false;
                }
                match self.text(key) {
                    Some(key) => take(key),
                    None => return false,
                }
            }
        }
        true
    }

    /// Whether the request was made in somebody else's name.
    pub fn impersonated(&self) -> bool {
        self.objects(Slot::ImpersonatedUser).next().is_some()
    }

    /// Who acts, in one word (`k8s.actor.kind`).
    pub fn actor_kind(&self) -> &'static str {
        self.kept.actor_kind.get_or_init(|| self.of_header(|| self.kind_of_actor()))
    }

    fn kind_of_actor(&self) -> &'static str {
        actor::kind(self.actor_username().unwrap_or_default())
    }

    /// The rightmost entry of `sourceIPs` that is no trusted proxy: the entries before it can be set by the client.
    pub fn client_ip(&self) -> Option<&'a str> {
        *self.kept.client_ip.get_or_init(|| self.of_header(|| self.rightmost_address()))
    }

    fn rightmost_address(&self) -> Option<&'a str> {
        let raw = self.slot(Slot::SourceIps)?;
        if self.doc.is_list_of_one(raw) {
            // The only one is the client, whatever else it is.
            return self.text(Raw { start: raw.start + 1, end: raw.end - 1 });
        }
        let (mut last, mut client) = (None, None);
        let _ = self.scalars(Node::Json(raw), &mut |node| {
            if let Node::Json(raw) = node
                && let Some(address) = self.text(raw)
            {
                last = Some(address);
                // The provider's own proxy stands in front of AKS's API servers.
                let is_proxy = self.provider == Some("aks") && address.starts_with("172.31.");
                if !is_proxy && !self.site.is_trusted_proxy(address) {
                    client = Some(address);
                }
            }
            ControlFlow::Continue(())
        });
        client.or(last)
    }

    /// The authorizer's decision.
    pub fn decision(&self) -> Option<&'a str> {
        *self.kept.decision.get_or_init(|| self.of_header(|| self.annotation("authorization.k8s.io/decision")))
    }

    fn annotation(&self, key: &str) -> Option<&'a str> {
        let mut found = None;
        for annotations in self.objects(Slot::Annotations) {
            found = self.find_member(annotations, key).or(found);
        }
        self.text(found?)
    }

    fn message(&self) -> Option<&'a str> {
        let status = self.objects(Slot::ResponseStatus).last()?;
        self.text(self.member(status, "message")?)
    }

    /// Whether the API server counts the request as long-running (kube-apiserver: verbs watch and proxy; subresources
    /// attach, exec, proxy, log, portforward).
    pub fn long_running(&self) -> bool {
        matches!(self.verb(), Some("watch" | "proxy"))
            || matches!(self.subresource(), Some("attach" | "exec" | "proxy" | "log" | "portforward"))
    }

    /// Whether nothing was stored: `dryRun=All` in the URI, or `dryRun: [All]` in a delete's body.
    pub fn dry_run(&self) -> bool {
        *self.kept.dry_run.get_or_init(|| self.of_header(|| self.asks_for_dry_run()))
    }

    fn asks_for_dry_run(&self) -> bool {
        let in_uri = self.uri().is_some_and(|uri| {
            uri.contains("dryRun") && Query::of(uri).any(|(key, value)| key == "dryRun" && value == "All")
        });
        if in_uri || !matches!(self.verb(), Some("delete" | "deletecollection")) {
            return in_uri;
        }
        let Some(body) = self.slot(Slot::RequestObject).filter(|raw| self.doc.kind(*raw) == Kind::Object) else {
            return false;
        };
        let mut dry = false;
        if let Some(list) = self.member(body, "dryRun") {
            let _ = self.scalars(Node::Json(list), &mut |node| {
                dry |= matches!(node, Node::Json(raw) if self.doc.bytes(raw) == b"\"All\"");
                ControlFlow::Continue(())
            });
        }
        dry
    }

    /// `objectRef.name`, else `metadata.name` of the request's body, else of the response's.
    fn object_name(&self) -> (Option<&'a str>, Missing) {
        if let Some(name) = self.name().filter(|name| !name.is_empty()) {
            return (Some(name), Missing::default());
        }
        let path = Path::parse("metadata.name");
        for slot in [Slot::RequestObject, Slot::ResponseObject] {
            let Some(raw) = self.slot(slot) else { continue };
            let mut found = None;
            let _ = self.walk(Node::Json(raw), &path, &mut |node| {
                if let Node::Json(raw) = node {
                    found = self.text(raw);
                }
                ControlFlow::Break(())
            });
            if found.is_some_and(|name| !name.is_empty()) {
                return (found, Missing::default());
            }
        }
        (None, Missing { dropped: self.body_dropped(Slot::RequestObject), ..Missing::default() })
    }

    /// What became of the request, in one word.
    pub(crate) fn outcome(&self) -> &'static str {
        self.kept.outcome.get_or_init(|| self.of_header(|| self.what_became()))
    }

    fn what_became(&self) -> &'static str {
        match self.code() {
            None => "none",
            Some(101 | 200..=299) => "success",
            Some(401) => "unauthenticated",
            Some(403) if self.decision() == Some("allow") => "refused",
            Some(403) => "forbidden",
            Some(400 | 422 | 429 | 500) if self.decision() == Some("allow") && self.refused_by_admission() => "refused",
            Some(code) if code >= 400 => "error",
            Some(_) => "none",
        }
    }

    fn refused_by_admission(&self) -> bool {
        const SIGNS: &[&str] = &[
            "admission webhook",
            "ValidatingAdmissionPolicy",
            "violates PodSecurity",
            "failed calling webhook",
            "disruption budget",
            "exceeded quota",
        ];
        self.message().is_some_and(|message| SIGNS.iter().any(|sign| message.contains(sign)))
    }

    /// Whether a body is missing because it was not logged, not because there was none (CATALOGUE F16, §7.1). Reads and
    /// deletions have no body worth the name.
    pub fn body_dropped(&self, slot: Slot) -> bool {
        let kept = match slot {
            Slot::RequestObject => &self.kept.request_dropped,
            _ => &self.kept.response_dropped,
        };
        *kept.get_or_init(|| self.of_header(|| self.was_dropped(slot)))
    }

    fn was_dropped(&self, slot: Slot) -> bool {
        let (request, response) = self.dropped_by_level();
        let by_level = if slot == Slot::RequestObject { request } else { response };
        by_level || self.may_be_dropped(slot) && self.annotation("audit.k8s.io/truncated") == Some("true")
    }

    /// The same of the request's and the response's, as far as it follows from the level and from what was done.
    pub fn dropped_by_level(&self) -> (bool, bool) {
        let (request, response) = match self.level() {
            Some("Metadata") => (matches!(self.verb(), Some("create" | "update" | "patch")), true),
            Some("Request") => (false, true),
            _ => return (false, false),
        };
        let dropped = |below: bool, slot| below && self.may_be_dropped(slot);
        (dropped(request, Slot::RequestObject), dropped(response, Slot::ResponseObject))
    }

    fn may_be_dropped(&self, slot: Slot) -> bool {
        self.slot(slot).is_none_or(|raw| self.doc.kind(raw) == Kind::Null)
            && !matches!(self.subresource(), Some("exec" | "attach" | "portforward" | "proxy" | "log"))
    }

    /// What is stored: the response's object, else the request's. A patch without a response is shown as partial.
    pub(super) fn object(&self, visit: &mut Visit<'_, 'a>) -> Missing {
        let body = |slot| self.slot(slot).filter(|raw: &Raw| self.doc.kind(*raw) != Kind::Null);
        if let Some(raw) = body(Slot::ResponseObject).filter(|raw| !self.is_status(*raw)) {
            let _ = visit(Node::Json(raw));
            return Missing::default();
        }
        match body(Slot::RequestObject) {
            Some(raw) if self.verb() == Some("patch") => {
                if self.doc.kind(raw) == Kind::Array {
                    self.json_patch(raw, visit);
                } else {
                    let _ = visit(Node::Json(raw));
                }
                Missing { partial: true, ..Missing::default() }
            }
            Some(raw) => {
                let _ = visit(Node::Json(raw));
                Missing::default()
            }
            None => Missing { dropped: self.body_dropped(Slot::RequestObject), ..Missing::default() },
        }
    }

    /// Whether [`Derived::Object`] shows a patch: one was sent, and what it led to was not logged.
    pub fn shows_patch(&self) -> bool {
        let body = |slot| self.slot(slot).filter(|raw: &Raw| self.doc.kind(*raw) != Kind::Null);
        self.verb() == Some("patch")
            && body(Slot::ResponseObject).is_none_or(|raw| self.is_status(raw))
            && body(Slot::RequestObject).is_some()
    }

    fn is_status(&self, raw: Raw) -> bool {
        self.doc.kind(raw) == Kind::Object
            && self.member(raw, "kind").is_some_and(|kind| self.doc.bytes(kind) == b"\"Status\"")
    }

    /// Shows what each `add` and `replace` of a JSON Patch would put in its place (RFC 6902).
    fn json_patch(&self, raw: Raw, visit: &mut Visit<'_, 'a>) {
        for operation in self.doc.elements(raw) {
            let Ok(operation) = operation else {
                self.malformed.set(true);
                return;
            };
            if self.doc.kind(operation) != Kind::Object {
                continue;
            }
            let text = |key| self.member(operation, key).and_then(|raw| self.text(raw));
            if !matches!(text("op"), Some("add" | "replace")) {
                continue;
            }
            if let (Some(pointer), Some(value)) = (text("path"), self.member(operation, "value"))
                && visit(Node::Patch { pointer, value }).is_break()
            {
                return;
            }
        }
    }

    /// Usernames and groups that a binding names.
    fn granted_subjects(&self, visit: &mut Visit<'_, 'a>) -> Missing {
        if !matches!(self.resource(), Some("clusterrolebindings" | "rolebindings")) {
            return Missing::default();
        }
        let subjects = Path::parse("subjects");
        self.object(&mut |node| {
            self.walk(node, &subjects, &mut |list| {
                self.each(list, &mut |subject| match self.subject(subject) {
                    Some(name) => visit(Node::Text(name)),
                    None => ControlFlow::Continue(()),
                })
            })
        })
    }

    fn subject(&self, node: Node<'a>) -> Option<&'a str> {
        let (Node::Json(raw) | Node::Patch { pointer: "", value: raw }) = node else { return None };
        if self.doc.kind(raw) != Kind::Object {
            return None;
        }
        let text = |key| self.member(raw, key).and_then(|raw| self.text(raw));
        let name = text("name")?;
        if text("kind") != Some("ServiceAccount") {
            return Some(name);
        }
        let namespace = text("namespace").filter(|ns| !ns.is_empty()).or_else(|| self.namespace()).unwrap_or("");
        Some(bumpalo::format!(in self.arena, "system:serviceaccount:{}:{}", namespace, name).into_bump_str())
    }

    /// Shows `visit` the members of the array field that an array block names.
    pub fn members_of(&self, field: Derived, visit: &mut Visit<'_, 'a>) -> Missing {
        match field {
            Derived::Containers => self.containers(visit),
            _ => self.derived(field, &Path::default(), &mut |node| self.each(node, visit)),
        }
    }
}

/// Whether the text has the shape of a UUID (RFC 9562), as the API server makes them.
pub(crate) fn is_uuid(text: &str) -> bool {
    let Ok(text) = <&[u8; 36]>::try_from(text.as_bytes()) else { return false };
    // Asked of every event, so all bytes are looked at without a branch between them.
    let is_hex = |byte: u8| byte.wrapping_sub(b'0') < 10 || (byte | 0x20).wrapping_sub(b'a') < 6;
    let odd: u8 = text.iter().map(|byte| u8::from(!is_hex(*byte))).sum();
    odd == 4 && [8, 13, 18, 23].iter().all(|dash| text[*dash] == b'-')
}

/// The number that a UUID is, if it is written as the API server does, in lower case.
pub(crate) fn uuid(text: &[u8]) -> Option<u128> {
    let text: &[u8; 36] = text.try_into().ok()?;
    let dashes = [8, 13, 18, 23].iter().all(|dash| text[*dash] == b'-');
    let four = |at: usize| u64::from(u32::from_be_bytes([text[at], text[at + 1], text[at + 2], text[at + 3]]));
    let eights = [[0, 4], [9, 14], [19, 24], [28, 32]].map(|[high, low]| hex8(four(high) << 32 | four(low)));
    let sound = eights.iter().all(|(_, is_hex)| *is_hex);
    (dashes & sound).then(|| eights.iter().fold(0, |number, (eight, _)| number << 32 | u128::from(*eight)))
}

/// Eight hexadecimal digits as the number they are, all at once, and whether they are such, in lower case.
#[inline]
fn hex8(digits: u64) -> (u32, bool) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Letters have the bit 0x40, and end in 1 to 6.
    let values = (digits & (ONES * 0x0f)) + (digits >> 6 & ONES) * 9;
    // What they would be if they were digits: another byte is not what its value is written as.
    let letters = (values + ONES * 6) >> 4 & ONES;
    let is_hex = values + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'9' - 1) == digits;
    let twos = (values | values >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (twos | twos >> 8) & 0x0000_ffff_0000_ffff;
    ((fours | fours >> 16) as u32, is_hex & (values & (ONES * 0xf0) == 0))
}

#[cfg(test)]
#[path = "derived_tests.rs"]
mod tests;
