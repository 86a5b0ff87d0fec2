//! Names of fields against the catalogue.

use super::super::diagnostic::Report;
use super::super::expr::Span;
use super::super::suggest::suggest;
use crate::event::catalogue::{FIELDS, Known, find};

/// What people write who have another product's field names in mind, or leave the way to a member of the body out.
const MEANT: &[(&str, &str)] = &[
    ("allowPrivilegeEscalation", "k8s.containers.securityContext.allowPrivilegeEscalation"),
    ("capabilities", "k8s.containers.securityContext.capabilities.add"),
    ("clientIP", "k8s.clientIP"),
    ("command", "k8s.exec.command"),
    ("container", "k8s.exec.container"),
    ("containers", "k8s.containers"),
    ("decision", "k8s.decision"),
    ("finalizers", "k8s.object.metadata.finalizers"),
    ("group", "user.groups"),
    ("groups", "user.groups"),
    ("hostIPC", "k8s.podSpec.hostIPC"),
    ("hostNetwork", "k8s.podSpec.hostNetwork"),
    ("hostPID", "k8s.podSpec.hostPID"),
    ("hostPath", "k8s.podSpec.volumes.hostPath.path"),
    ("image", "k8s.containers.image"),
    ("ka.auditid", "auditID"),
    ("ka.auth.decision", "k8s.decision"),
    ("ka.auth.reason", "annotations.authorization.k8s.io/reason"),
    ("ka.impuser.name", "impersonatedUser.username"),
    ("ka.req.pod.host_ipc", "k8s.podSpec.hostIPC"),
    ("ka.req.pod.host_network", "k8s.podSpec.hostNetwork"),
    ("ka.req.pod.host_pid", "k8s.podSpec.hostPID"),
    ("ka.response.code", "responseStatus.code"),
    ("ka.response.reason", "responseStatus.reason"),
    ("ka.sourceips", "sourceIPs"),
    ("ka.stage", "stage"),
    ("ka.target.name", "objectRef.name"),
    ("ka.target.namespace", "objectRef.namespace"),
    ("ka.target.resource", "objectRef.resource"),
    ("ka.target.subresource", "objectRef.subresource"),
    ("ka.uri", "requestURI"),
    ("ka.user.groups", "user.groups"),
    ("ka.user.name", "user.username"),
    ("ka.useragent", "userAgent"),
    ("ka.verb", "verb"),
    ("labels", "k8s.object.metadata.labels"),
    ("name", "objectRef.name"),
    ("namespace", "objectRef.namespace"),
    ("privileged", "k8s.containers.securityContext.privileged"),
    ("reason", "responseStatus.reason"),
    ("resource", "objectRef.resource"),
    ("roleRef", "requestObject.roleRef.name"),
    ("runAsUser", "k8s.containers.securityContext.runAsUser"),
    ("securityContext", "k8s.containers.securityContext"),
    ("serviceAccountName", "k8s.podSpec.serviceAccountName"),
    ("sourceIP", "k8s.clientIP"),
    ("source.ip", "k8s.clientIP"),
    ("spec", "k8s.object.spec"),
    ("subjects", "k8s.grantedSubjects"),
    ("timestamp", "stageTimestamp"),
    ("uri", "requestURI"),
    ("user_agent.original", "userAgent"),
    ("username", "user.username"),
    ("volumes", "k8s.podSpec.volumes"),
];

/// What stores put before the event's own names.
const PREFIXES: &[&str] = &["kubernetes.audit.", "k8s.audit.", "audit.", "event.", "log.", "jevt.value.", "json."];

/// Longer names get no suggestion: each is compared with every field.
const NAME_MAX: usize = 200;

/// Notes a name that no event has; `false` if it is one.
pub(super) fn check(path: &str, span: Span, report: &mut Report) -> bool {
    match find(path) {
        Known::Field(_) | Known::Below(_) => true,
        Known::BelowScalar(field) => {
            let message = format!("`{path}` can never match: `{}` has no members", field.name);
            let help = format!("`{}` is {}; write `{0}`", field.name, with_article(&field.type_name()));
            report.warning_help("unknown-field", span, message, Some(help));
            false
        }
        Known::Unknown => {
            let message = format!("unknown field `{path}`: no audit event has it, so it can never match");
            report.warning_help("unknown-field", span, message, help(path));
            false
        }
    }
}

fn with_article(what: &str) -> String {
    match what.starts_with("text") {
        true => what.to_owned(),
        false if what.starts_with('a') => format!("an {what}"),
        false => format!("a {what}"),
    }
}

fn help(path: &str) -> Option<String> {
    if path.len() > NAME_MAX {
        return None;
    }
    let bare = PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix)).unwrap_or(path);
    if bare != path && !matches!(find(bare), Known::Unknown) {
        return Some(format!("did you mean `{bare}`?"));
    }
    if let Some((_, meant)) = MEANT.iter().find(|(name, _)| name.eq_ignore_ascii_case(bare)) {
        return Some(match meant.starts_with("k8s.") && !matches!(find(meant), Known::Field(_)) {
            true => format!("it stands inside a body: did you mean `{meant}`?"),
            false => format!("did you mean `{meant}`?"),
        });
    }
    // The last part of a path alone, or below the wrong object.
    let last = bare.rsplit('.').next().unwrap_or(bare);
    let ends = |name: &str| name.rsplit('.').next().is_some_and(|end| end.eq_ignore_ascii_case(last));
    let likely = suggest(bare, FIELDS.iter().map(|field| field.name))
        .or_else(|| FIELDS.iter().map(|field| field.name).find(|name| ends(name)));
    if let Some(found) = likely {
        return Some(format!("did you mean `{found}`?"));
    }
    Some("`auditwatch fields` lists what there is".to_owned())
}
