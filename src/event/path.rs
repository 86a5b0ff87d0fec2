//! Field names as rules write them, resolved once to where the engine looks.

use super::keys::Asked;
use super::view::Slot;

/// A dotted path below a value. A run of unquoted segments stays together, because a map key may itself hold dots: at
/// each object the longest key that fits is taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path(pub Vec<Part>);

/// One part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Segments joined by dots, split by whatever keys the objects have.
    Run(Box<str>),
    /// A quoted key, taken whole.
    Key(Box<str>),
}

impl Path {
    /// Reads `a.b."c.d/e".f`.
    pub fn parse(text: &str) -> Path {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(quoted) = rest.strip_prefix('"')
                && let Some(close) = quoted.find('"')
            {
                parts.push(Part::Key(quoted[..close].into()));
                rest = quoted[close + 1..].trim_start_matches('.');
                continue;
            }
            let end = rest.find(".\"").unwrap_or(rest.len());
            parts.push(Part::Run(rest[..end].into()));
            rest = rest[end..].trim_start_matches('.');
        }
        Path(parts)
    }
}

/// A derived field (`k8s.*`): Kubernetes knowledge that rules should not have to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Derived {
    Object,
    PodSpec,
    Containers,
    PodAnnotations,
    ActorUsername,
    ActorGroups,
    ActorSubjects,
    ActorKind,
    Cluster,
    Provider,
    GrantedSubjects,
    ClientIp,
    Decision,
    LongRunning,
    ObjectName,
    DryRun,
    CredentialId,
    ExecCommand,
    ExecContainer,
    CommandLine,
    UserAgentProduct,
    Outcome,
    AuditIdIsUuid,
}

/// Fields that the view has at hand without a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Fast {
    Verb,
    Resource,
    Subresource,
    Namespace,
    Name,
    ApiGroup,
    Code,
    Username,
    RequestUri,
    UserAgent,
}

/// Where a field begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Root {
    /// At hand.
    Fast(Fast),
    /// A top-level member of the event.
    Slot(Slot),
    /// A derived field.
    Derived(Derived),
    /// The event as a whole (a member that audit.k8s.io/v1 does not have).
    Event,
    /// The member that an array block is bound to.
    Member,
    /// Every scalar of the event (a keyword).
    Anything,
}

/// A field, ready to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name as written.
    pub name: Box<str>,
    /// Where it begins.
    pub root: Root,
    /// The rest.
    pub path: Path,
    /// The keys of the rest.
    pub asked: Asked,
}

/// Derived fields and their names, longest names first where one is the prefix of another.
pub const DERIVED: &[(&str, Derived)] = &[
    ("k8s.object", Derived::Object),
    ("k8s.podSpec", Derived::PodSpec),
    ("k8s.containers", Derived::Containers),
    ("k8s.podAnnotations", Derived::PodAnnotations),
    ("k8s.actor.username", Derived::ActorUsername),
    ("k8s.actor.groups", Derived::ActorGroups),
    ("k8s.actor.subjects", Derived::ActorSubjects),
    ("k8s.actor.kind", Derived::ActorKind),
    ("k8s.cluster", Derived::Cluster),
    ("k8s.provider", Derived::Provider),
    ("k8s.grantedSubjects", Derived::GrantedSubjects),
    ("k8s.clientIP", Derived::ClientIp),
    ("k8s.decision", Derived::Decision),
    ("k8s.longRunning", Derived::LongRunning),
    ("k8s.objectName", Derived::ObjectName),
    ("k8s.dryRun", Derived::DryRun),
    ("k8s.credentialID", Derived::CredentialId),
    ("k8s.exec.command", Derived::ExecCommand),
    ("k8s.exec.container", Derived::ExecContainer),
    ("k8s.commandLine", Derived::CommandLine),
    ("k8s.userAgent.product", Derived::UserAgentProduct),
    ("k8s.outcome", Derived::Outcome),
    ("k8s.auditID.isUUID", Derived::AuditIdIsUuid),
];

const FAST: &[(&str, Fast)] = &[
    ("verb", Fast::Verb),
    ("objectRef.resource", Fast::Resource),
    ("objectRef.subresource", Fast::Subresource),
    ("objectRef.namespace", Fast::Namespace),
    ("objectRef.name", Fast::Name),
    ("objectRef.apiGroup", Fast::ApiGroup),
    ("responseStatus.code", Fast::Code),
    ("user.username", Fast::Username),
    ("requestURI", Fast::RequestUri),
    ("userAgent", Fast::UserAgent),
];

impl Field {
    /// A field of the event.
    pub fn parse(name: &str) -> Field {
        let field = |root, rest: &str| Field::below(name, root, rest);
        if let Some((_, fast)) = FAST.iter().find(|(known, _)| *known == name) {
            return field(Root::Fast(*fast), "");
        }
        for (known, derived) in DERIVED {
            if let Some(rest) = name.strip_prefix(known)
                && (rest.is_empty() || rest.starts_with('.'))
            {
                return field(Root::Derived(*derived), rest.trim_start_matches('.'));
            }
        }
        let (head, rest) = name.split_once('.').unwrap_or((name, ""));
        match Slot::of(head.as_bytes()) {
            Some(slot) => field(Root::Slot(slot), rest),
            None => field(Root::Event, name),
        }
    }

    fn below(name: &str, root: Root, rest: &str) -> Field {
        let path = Path::parse(rest);
        let asked = Asked::of(path.0.iter().map(|part| match part {
            Part::Run(text) | Part::Key(text) => &**text,
        }));
        Field { name: name.into(), root, path, asked }
    }

    /// A field of an array's member; empty for the member itself.
    pub fn of_member(name: &str) -> Field {
        Field::below(name, Root::Member, name)
    }

    /// Any scalar of the event.
    pub fn anything() -> Field {
        Field::below("", Root::Anything, "")
    }

    /// Whether the field is read from the pod's spec and nothing else.
    pub fn is_of_pod_spec(&self) -> bool {
        matches!(self.root, Root::Derived(Derived::PodSpec | Derived::Containers))
    }

    /// Whether a look at the field may have to read a body.
    pub fn reads_body(&self) -> bool {
        matches!(
            self.root,
            Root::Slot(Slot::RequestObject | Slot::ResponseObject)
                | Root::Derived(
                    Derived::Object
                        | Derived::PodSpec
                        | Derived::Containers
                        | Derived::PodAnnotations
                        | Derived::GrantedSubjects
                        | Derived::ObjectName
                        | Derived::DryRun
                )
                | Root::Anything
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_names() {
        for (name, root, parts) in [
            ("verb", Root::Fast(Fast::Verb), vec![]),
            ("objectRef.resource", Root::Fast(Fast::Resource), vec![]),
            ("objectRef.uid", Root::Slot(Slot::ObjectRef), vec![Part::Run("uid".into())]),
            (
                "annotations.authorization.k8s.io/decision",
                Root::Slot(Slot::Annotations),
                vec![Part::Run("authorization.k8s.io/decision".into())],
            ),
            (
                "annotations.\"a.b/c\".d",
                Root::Slot(Slot::Annotations),
                vec![Part::Key("a.b/c".into()), Part::Run("d".into())],
            ),
            ("k8s.object.spec", Root::Derived(Derived::Object), vec![Part::Run("spec".into())]),
            ("k8s.objectName", Root::Derived(Derived::ObjectName), vec![]),
            ("something.else", Root::Event, vec![Part::Run("something.else".into())]),
        ] {
            let field = Field::parse(name);
            assert_eq!((field.root, field.path.0), (root, parts), "{name}");
        }
    }
}
