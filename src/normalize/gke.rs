//! Cloud Logging's audit record becomes an event, as far as it goes: groups, stages, levels and queries are not in it. What
//! follows from the rest of it is said: a service account's groups from its name, the level from the bodies there are.

use super::object::Object;
use crate::event::json::Kind;

/// The event that a record tells of, as JSON; `None` if it does not say what was done.
///
/// Put together from texts, not parsed into a tree: bodies may be as deep as they like.
pub fn event(entry: Object<'_>, payload: Object<'_>) -> Option<String> {
    let method = payload.text("methodName")?;
    let path = payload.text("resourceName").unwrap_or_default();
    let place = Place::of(&method, &path);
    let long = matches!(place.subresource, Some("exec" | "attach" | "portforward"));
    let mut out = String::from(r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1""#);
    let mut put = |name: &str, value: &str| {
        for part in [",\"", name, "\":", value] {
            out.push_str(part);
        }
    };
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let level = match (payload.has("request"), payload.has("response")) {
        (_, true) => "\"RequestResponse\"",
        (true, false) => "\"Request\"",
        (false, false) => "\"Metadata\"",
    };
    put("level", level);
    put("auditID", &text(&entry.text("insertId").unwrap_or_default()));
    put("stage", if long { "\"ResponseStarted\"" } else { "\"ResponseComplete\"" });
    put("requestURI", &text(&place.uri(&path)));
    put("verb", &text(place.verb));
    if let Some(email) = payload.object("authenticationInfo").and_then(|info| info.text("principalEmail")) {
        put("user", &user(&email).to_string());
    }
    if let Some(caller) = payload.object("requestMetadata") {
        if let Some(ip) = caller.text("callerIp").or_else(|| caller.text("callerIP")) {
            put("sourceIPs", &format!("[{}]", text(&ip)));
        }
        if let Some(agent) = caller.text("callerSuppliedUserAgent") {
            put("userAgent", &text(&agent));
        }
    }
    if place.resource.is_some() {
        put("objectRef", &place.object_ref().to_string());
    }
    put("responseStatus", &status(payload));
    for (theirs, ours) in [("request", "requestObject"), ("response", "responseObject")] {
        let body = payload.get(theirs).and_then(|raw| std::str::from_utf8(payload.bytes(raw)).ok());
        body.into_iter().for_each(|body| put(ours, body));
    }
    if let Some(time) = entry.text("timestamp") {
        put("stageTimestamp", &text(&time));
    }
    put("annotations", &annotations(entry, payload));
    out.push('}');
    Some(out)
}

/// Who it was. The API server itself gives a service account its groups.
fn user(name: &str) -> serde_json::Value {
    let account = name.strip_prefix("system:serviceaccount:").and_then(|account| account.split_once(':'));
    let Some((namespace, _)) = account else { return serde_json::json!({"username": name}) };
    let own = format!("system:serviceaccounts:{namespace}");
    serde_json::json!({"username": name, "groups": ["system:serviceaccounts", own, "system:authenticated"]})
}

/// The answer's code, from that of gRPC; success of any kind is 200.
fn status(payload: Object<'_>) -> String {
    let told = payload.object("status");
    let code = told.and_then(|status| {
        let raw = status.get("code")?;
        std::str::from_utf8(status.bytes(raw)).ok()?.parse::<u8>().ok()
    });
    let code = match code.unwrap_or(0) {
        0 => 200,
        3 | 9 | 11 => 400,
        16 => 401,
        7 => 403,
        5 => 404,
        6 | 10 => 409,
        8 => 429,
        12 => 501,
        14 => 503,
        4 => 504,
        _ => 500,
    };
    let message = told.and_then(|status| status.text("message"));
    serde_json::json!({"code": code, "message": message.as_deref()}).to_string()
}

/// The entry's labels are the event's annotations; who granted it stands elsewhere if not in them.
fn annotations(entry: Object<'_>, payload: Object<'_>) -> String {
    const DECISION: &str = "authorization.k8s.io/decision";
    let labels = entry.object("labels");
    if let Some(labels) = labels.filter(|labels| labels.has(DECISION)) {
        return String::from_utf8_lossy(labels.bytes(labels.raw)).into_owned();
    }
    let granted = payload.array("authorizationInfo").into_iter().filter_map(|raw| payload.object_of(raw));
    let granted = granted.filter_map(|info| info.get("granted")).find(|raw| payload.doc.kind(*raw) == Kind::Bool);
    let decision = granted.map(|raw| if payload.bytes(raw) == b"true" { "allow" } else { "forbid" });
    let own = decision.map_or(String::new(), |decision| format!("\"{DECISION}\":\"{decision}\""));
    let labels =
        labels.map_or_else(String::new, |labels| String::from_utf8_lossy(labels.bytes(labels.raw)).into_owned());
    let rest = labels.trim_start_matches('{').trim_end_matches('}').trim();
    let comma = if own.is_empty() || rest.is_empty() { "" } else { "," };
    format!("{{{own}{comma}{rest}}}")
}

/// What a method's and a resource's name tell together.
#[derive(Debug, Default, PartialEq)]
struct Place<'t> {
    verb: &'t str,
    group: &'t str,
    version: &'t str,
    namespace: Option<&'t str>,
    resource: Option<&'t str>,
    name: Option<&'t str>,
    subresource: Option<&'t str>,
}

impl<'t> Place<'t> {
    fn of(method: &'t str, path: &'t str) -> Place<'t> {
        let method = method.strip_prefix("io.k8s.").unwrap_or(method);
        let (what, verb) = method.rsplit_once('.').unwrap_or(("", method));
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let (false, Some(group), Some(version)) = (what.is_empty(), parts.next(), parts.next()) else {
            return Place { verb, ..Place::default() };
        };
        let names: Vec<&str> = parts.collect();
        // A namespace is a resource too: the method tells which of the two is meant.
        let named = |resource: &str| what.split('.').any(|part| part == resource);
        let (namespace, rest) = match names[..] {
            ["namespaces", namespace, ref rest @ ..] if !rest.is_empty() && !named("namespaces") => {
                (Some(namespace), rest)
            }
            _ => (None, &names[..]),
        };
        let at = |n: usize| rest.get(n).copied();
        let namespace = namespace.or_else(|| at(1).filter(|_| at(0) == Some("namespaces")));
        let subresource = at(2).or_else(|| {
            // Some records name the subresource in the method only.
            let words = what.rsplit_once(at(0)?)?.1.strip_prefix('.')?;
            (!words.is_empty()).then_some(words)
        });
        let group = if group == "core" { "" } else { group };
        Place { verb, group, version, namespace, resource: at(0), name: at(1), subresource }
    }

    /// The request's path, without the query, which is lost.
    fn uri(&self, path: &str) -> String {
        match (self.resource, self.group) {
            (None, _) => format!("/{path}"),
            (Some(_), "") => format!("/api/{}", path.strip_prefix("core/").unwrap_or(path)),
            (Some(_), _) => format!("/apis/{path}"),
        }
    }

    fn object_ref(&self) -> serde_json::Value {
        let mut out = serde_json::Map::new();
        let group = Some(self.group).filter(|group| !group.is_empty());
        for (name, value) in [
            ("resource", self.resource),
            ("namespace", self.namespace),
            ("name", self.name),
            ("apiGroup", group),
            ("apiVersion", Some(self.version)),
            ("subresource", self.subresource),
        ] {
            value.into_iter().for_each(|value| drop(out.insert(name.to_owned(), value.into())));
        }
        out.into()
    }
}
