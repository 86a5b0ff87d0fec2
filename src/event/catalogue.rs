//! The field catalogue: every field that rules may name, what it holds, and which audit level logs it. One table
//! ([`fields::FIELDS`]), for `auditwatch fields` and for the checks of rules.

mod fields;

use super::path::{DERIVED, Derived};
pub use fields::FIELDS;

/// The audit level from which on a field is logged (audit policy `level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuditLevel {
    /// The header only.
    Metadata,
    /// The request's body as well.
    Request,
    /// The response's body as well.
    RequestResponse,
}

impl AuditLevel {
    /// As an audit policy spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            AuditLevel::Metadata => "Metadata",
            AuditLevel::Request => "Request",
            AuditLevel::RequestResponse => "RequestResponse",
        }
    }
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Text that may be empty.
    Text,
    /// Text that is left out rather than empty.
    Name,
    /// One of these texts.
    Words(&'static [&'static str]),
    /// An HTTP status code.
    Code,
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
    /// An RFC 3339 time.
    Time,
    /// An IP address.
    Address,
    /// A map from any key to text.
    Map,
    /// A map from any key to lists of text.
    ListMap,
    /// An object with members of its own that the catalogue lists.
    Struct,
    /// Any JSON below it: a body.
    Object,
}

impl Type {
    /// The type in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Type::Text | Type::Name | Type::Words(_) => "text",
            Type::Code | Type::Number => "number",
            Type::Bool => "boolean",
            Type::Time => "time",
            Type::Address => "address",
            Type::Map => "map of text",
            Type::ListMap => "map of lists",
            Type::Struct => "object",
            Type::Object => "object",
        }
    }

    /// Whether any path may follow.
    pub fn is_open(self) -> bool {
        matches!(self, Type::Map | Type::ListMap | Type::Object)
    }
}

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldInfo {
    /// The path as rules write it.
    pub name: &'static str,
    /// What it holds.
    pub kind: Type,
    /// Whether it holds several of these.
    pub many: bool,
    /// What the audit policy must log.
    pub level: AuditLevel,
    /// What it means, in one sentence.
    pub meaning: &'static str,
    /// A value, or for an object a path below it with one, as a rule writes it.
    pub example: &'static str,
}

impl FieldInfo {
    /// The type as a reader should see it.
    pub fn type_name(&self) -> String {
        match (self.many, self.kind) {
            (false, kind) => kind.as_str().to_owned(),
            (true, Type::Address) => "list of addresses".to_owned(),
            (true, Type::Object) => "list of objects".to_owned(),
            (true, kind) => format!("list of {}", kind.as_str()),
        }
    }

    /// Whether the field is one of ours (`k8s.*`), and which.
    pub fn derived(&self) -> Option<Derived> {
        DERIVED.iter().find(|(name, _)| *name == self.name).map(|(_, derived)| *derived)
    }
}

/// What the catalogue says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is a field.
    Field(&'static FieldInfo),
    /// It lies below this field, which may hold anything.
    Below(&'static FieldInfo),
    /// It lies below this field, which has no members.
    BelowScalar(&'static FieldInfo),
    /// Nothing of that name is in an event.
    Unknown,
}

/// What a path is in the catalogue. Quotes around keys are passed over.
pub fn find(path: &str) -> Known {
    let unquoted;
    let path = match path.contains('"') {
        true => {
            unquoted = path.replace('"', "");
            unquoted.as_str()
        }
        false => path,
    };
    if let Some(field) = exact(path) {
        return Known::Field(field);
    }
    // Keys may hold dots, so every dot may be where the known part ends; the longest known part decides.
    let mut end = path.len();
    while let Some(dot) = path[..end].rfind('.') {
        end = dot;
        if let Some(field) = exact(&path[..dot]) {
            return match field.kind {
                kind if kind.is_open() => Known::Below(field),
                Type::Struct => Known::Unknown,
                _ => Known::BelowScalar(field),
            };
        }
    }
    Known::Unknown
}

fn exact(path: &str) -> Option<&'static FieldInfo> {
    FIELDS.iter().find(|field| field.name == path)
}

/// Verbs that audit events have: of requests for resources, and the methods of other requests in lower case. Requests with
/// odd methods for resources have none.
pub const VERBS: &[&str] = &[
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "proxy",
    "post",
    "put",
    "head",
    "options",
    "trace",
    "connect",
    "propfind",
    "",
];

#[cfg(test)]
mod tests {
    use super::super::path::Field;
    use super::*;

    #[test]
    fn finds_fields_and_what_lies_below() {
        let check = |path: &str, expected: &str| {
            let found = match find(path) {
                Known::Field(field) => format!("field {}", field.name),
                Known::Below(field) => format!("below {}", field.name),
                Known::BelowScalar(field) => format!("below scalar {}", field.name),
                Known::Unknown => "unknown".to_owned(),
            };
            assert_eq!(found, expected, "{path}");
        };
        check("verb", "field verb");
        check("user", "field user");
        check("user.username", "field user.username");
        check("user.name", "unknown");
        check("user.extra.scopes.x", "below user.extra");
        check("verb.x", "below scalar verb");
        check("sourceIPs.0", "below scalar sourceIPs");
        check("annotations.a.b/c", "below annotations");
        check("annotations.\"authorization.k8s.io/decision\"", "field annotations.authorization.k8s.io/decision");
        check("requestObject.spec.containers.image", "below requestObject");
        check("k8s.podSpec.hostNetwork", "below k8s.podSpec");
        check("k8s.object", "field k8s.object");
        check("k8s.objectName", "field k8s.objectName");
        check("k8s.nothing", "unknown");
        check("hostPath", "unknown");
        check("", "unknown");
    }

    #[test]
    fn covers_every_derived_field() {
        for (name, derived) in DERIVED {
            let Known::Field(field) = find(name) else { panic!("{name} is not in the catalogue") };
            assert_eq!(field.derived(), Some(*derived));
        }
        let ours = FIELDS.iter().filter(|field| field.name.starts_with("k8s."));
        assert_eq!(ours.filter(|field| field.derived().is_none()).count(), 0);
    }

    #[test]
    fn names_each_field_once_and_says_what_it_is() {
        for (at, field) in FIELDS.iter().enumerate() {
            assert!(FIELDS[at + 1..].iter().all(|other| other.name != field.name), "{} twice", field.name);
            assert!(!field.meaning.is_empty() && !field.meaning.ends_with('.'), "{}", field.name);
            assert!(!field.example.is_empty(), "{}", field.name);
        }
    }

    /// What the engine may have to read a body for needs more than Metadata, unless the header mostly answers.
    #[test]
    fn levels_agree_with_the_engine() {
        for field in FIELDS {
            let body = Field::parse(field.name).reads_body();
            let header_first = ["k8s.objectName", "k8s.dryRun"].contains(&field.name);
            assert_eq!(field.level > AuditLevel::Metadata, body && !header_first, "{}", field.name);
        }
    }
}
