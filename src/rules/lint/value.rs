//! Values that a field can never have.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::expr::{Op, StrHow, StrOp};
use super::super::suggest::suggest;
use super::holds::Ready;
use crate::event::catalogue::{FieldInfo, Type, VERBS};

/// Why a value can never match.
pub(super) struct Never {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// What is meant by words that are no verbs of audit events.
const VERBS_MEANT: &[(&str, &str)] = &[
    ("replace", "a replacement is an `update`"),
    ("apply", "an apply is a `patch`, or a `create` if the object is new"),
    ("edit", "an edit is a `patch` or an `update`"),
    ("modify", "a change is a `patch` or an `update`"),
    ("remove", "a removal is a `delete` or a `deletecollection`"),
    ("read", "a read is a `get`, `list` or `watch`"),
    ("write", "a write is a `create`, `update` or `patch`"),
    ("exec", "an exec is a `get` or `create` of the subresource `exec`"),
    ("attach", "an attach is a `get` or `create` of the subresource `attach`"),
    ("portforward", "a port forward is a `get` or `create` of the subresource `portforward`"),
    ("impersonate", "an impersonation is any request with `impersonatedUser`"),
    ("bind", "`bind` is a right in roles; the request is a `create` or `update` of a binding"),
    ("escalate", "`escalate` is a right in roles; the request is a `create` or `update` of a role"),
    ("approve", "an approval is an `update` or `patch` of the subresource `approval`"),
    ("evict", "an eviction is a `create` of the subresource `eviction`"),
    ("scale", "scaling is an `update` or `patch` of the subresource `scale`"),
    ("use", "`use` is a right in roles, no request"),
    ("*", "leave the field out"),
];

/// Singular and kind names of resources that rules are about.
const SINGULAR: &[&str] = &[
    "pod",
    "secret",
    "configmap",
    "service",
    "serviceaccount",
    "node",
    "namespace",
    "event",
    "deployment",
    "daemonset",
    "statefulset",
    "replicaset",
    "replicationcontroller",
    "job",
    "cronjob",
    "role",
    "clusterrole",
    "rolebinding",
    "clusterrolebinding",
    "persistentvolume",
    "persistentvolumeclaim",
    "certificatesigningrequest",
    "tokenreview",
    "customresourcedefinition",
    "mutatingwebhookconfiguration",
    "validatingwebhookconfiguration",
    "lease",
    "endpoint",
];

/// Why none of the operators that one written value stands for can hold for the field; `None` if one may.
pub(super) fn never(field: &FieldInfo, ops: &[Op], written: Option<&str>) -> Option<Never> {
    // An empty placeholder may be filled by the site; what a comparison with another field gives is not known here.
    let judged = |op: &Op| !matches!(op, Op::Never | Op::FieldRef(_) | Op::Exists(_) | Op::Null);
    if ops.is_empty() || !ops.iter().all(judged) {
        return None;
    }
    let written = written.unwrap_or_default();
    let mut first = None;
    for op in ops {
        let why = impossible(field, op, written)?;
        first.get_or_insert(why);
    }
    first
}

fn impossible(field: &FieldInfo, op: &Op, written: &str) -> Option<Never> {
    let name = field.name;
    let shown = format!("`{name}: {written}` can never match");
    match field.kind {
        Type::Words(words) if words == VERBS => verb(op, written),
        Type::Words(words) => (!any(op, words.iter().copied())).then(|| Never {
            message: format!("{shown}: it is {}", listed(words)),
            help: suggest(written, words.iter().copied()).map(|word| format!("did you mean `{word}`?")),
        }),
        Type::Bool => (!any(op, ["true", "false"].into_iter()))
            .then(|| Never { message: format!("{shown}: it is true or false"), help: None }),
        Type::Code => code(field, op, written),
        Type::Number => text_of(op)
            .filter(|text| !text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'e' | b'+')))
            .map(|_| Never { message: format!("{shown}: it is a number"), help: None }),
        Type::Address => address(field, op, written),
        Type::Time => matches!(op, Op::Num(..)).then(|| Never {
            message: format!("{shown}: it is a time, not a number"),
            help: Some(format!("compare a part of it: `{name}|hour|gte: 22`")),
        }),
        Type::Text | Type::Name => text(field, op, written),
        Type::Struct | Type::Map | Type::ListMap | Type::Object => Some(Never {
            message: format!(
                "{shown}: it is {}, not a value",
                if field.many { "a list of objects" } else { "an object" }
            ),
            help: Some(format!("name a member, such as `{}`", member(field))),
        }),
    }
}

/// An example of a path below an object.
fn member(field: &FieldInfo) -> &str {
    field.example.split(['|', ':']).next().unwrap_or(field.example)
}

fn any<'t>(op: &Op, mut texts: impl Iterator<Item = &'t str>) -> bool {
    let ready = Ready::new(op);
    if let Op::Time(..) = op {
        return false;
    }
    texts.any(|text| ready.may_hold(text))
}

fn listed(words: &[&str]) -> String {
    match words {
        [only] => format!("`{only}`"),
        [head @ .., last] => format!("one of {} and {last}", head.join(", ")),
        [] => String::new(),
    }
}

fn verb(op: &Op, written: &str) -> Option<Never> {
    if any(op, VERBS.iter().copied()) {
        return None;
    }
    let meant = VERBS_MEANT.iter().find(|(word, _)| written.eq_ignore_ascii_case(word)).map(|(_, help)| *help);
    let kubernetes = &VERBS[..8];
    let near = suggest(written, kubernetes.iter().copied()).map(|word| format!("did you mean `{word}`?"));
    let there_are = format!("there are {}", kubernetes.join(", "));
    let help = match meant.map(str::to_owned).or(near) {
        Some(first) => format!("{first}; {there_are}"),
        None => there_are,
    };
    Some(Never { message: format!("verb `{written}` never occurs in audit events"), help: Some(help) })
}

fn code(field: &FieldInfo, op: &Op, written: &str) -> Option<Never> {
    let codes: Vec<String> = (100..600).map(|code: u16| code.to_string()).collect();
    if any(op, codes.iter().map(String::as_str)) {
        return None;
    }
    let shown = format!("`{}: {written}` can never match", field.name);
    let numeric = matches!(op, Op::Num(..)) || written.trim().parse::<f64>().is_ok();
    Some(match numeric {
        true => Never { message: format!("{shown}: status codes are 100 to 599"), help: None },
        false => Never {
            message: format!("{shown}: it is a number"),
            help: Some(match written.to_ascii_lowercase().as_str() {
                "allow" | "allowed" => "the authorizer's decision is `k8s.decision: allow`".to_owned(),
                "deny" | "denied" | "forbid" | "forbidden" => {
                    "the authorizer's decision is `k8s.decision: forbid`".to_owned()
                }
                "success" | "failure" | "error" => "what became of a request is `k8s.outcome`".to_owned(),
                _ => "write a status code such as 200, or `|gte: 400`".to_owned(),
            }),
        },
    })
}

fn address(field: &FieldInfo, op: &Op, written: &str) -> Option<Never> {
    let shown = format!("`{}: {written}` can never match", field.name);
    match op {
        Op::Str(StrOp { how: StrHow::Exact(text), .. }) if text.parse::<IpAddr>().is_err() => Some(Never {
            message: format!("{shown}: it is an IP address"),
            help: text.parse::<IpNet>().ok().map(|_| format!("write `{}|cidr: {written}`", field.name)),
        }),
        Op::Num(..) | Op::Bool(_) | Op::Time(..) => {
            Some(Never { message: format!("{shown}: it is an IP address"), help: None })
        }
        _ => None,
    }
}

fn text(field: &FieldInfo, op: &Op, written: &str) -> Option<Never> {
    let shown = format!("`{}: {written}` can never match", field.name);
    if matches!(op, Op::Time(..)) {
        return Some(Never {
            message: format!("{shown}: it is text, not a time"),
            help: Some("times are `stageTimestamp` and `requestReceivedTimestamp`".to_owned()),
        });
    }
    let exact = text_of(op).filter(|_| matches!(op, Op::Str(StrOp { how: StrHow::Exact(_), .. })))?;
    if exact.is_empty() && field.kind == Type::Name {
        return Some(Never {
            message: format!("`{}: ''` can never match: the field is left out rather than empty", field.name),
            help: Some("write `null`".to_owned()),
        });
    }
    match field.name {
        "objectRef.resource" => resource(exact, written),
        "objectRef.apiGroup" if exact.contains('/') => {
            let (group, version) = exact.split_once('/').unwrap_or((exact, ""));
            Some(Never {
                message: format!("{shown}: the version is no part of the group"),
                help: Some(format!(
                    "write `objectRef.apiGroup: {group}`, and `objectRef.apiVersion: {version}` if it matters"
                )),
            })
        }
        "objectRef.apiGroup" if exact == "core" || exact == "v1" => Some(Never {
            message: format!("{shown}: the core group has no name"),
            help: Some("write `objectRef.apiGroup: null`".to_owned()),
        }),
        _ => None,
    }
}

fn resource(exact: &str, written: &str) -> Option<Never> {
    let shown = format!("`objectRef.resource: {written}` can never match");
    if let Some((resource, subresource)) = exact.split_once('/') {
        return Some(Never {
            message: format!("{shown}: the subresource has a field of its own"),
            help: Some(format!("write `objectRef.resource: {resource}` and `objectRef.subresource: {subresource}`")),
        });
    }
    let lower = exact.to_ascii_lowercase();
    SINGULAR.contains(&lower.as_str()).then(|| Never {
        message: format!("{shown}: resources are plural"),
        help: Some(format!("did you mean `{lower}s`?")),
    })
}

/// The text of a comparison of text, without wildcards.
fn text_of(op: &Op) -> Option<&str> {
    match op {
        Op::Str(StrOp {
            how: StrHow::Exact(text) | StrHow::Prefix(text) | StrHow::Suffix(text) | StrHow::Contains(text),
            ..
        }) => Some(text),
        _ => None,
    }
}
