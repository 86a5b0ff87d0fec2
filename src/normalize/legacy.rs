//! The API server's legacy text format (`--audit-log-format=legacy`) becomes an event, as far as it goes: one address, no
//! bodies, no annotations; what was asked for is read from the URI.

use serde_json::{Map, Value, json};

/// The event of a line such as `2026-03-01T10:00:00.000001Z AUDIT: id="…" stage="ResponseComplete" …`, as JSON; `None` if
/// it is none.
pub fn event(line: &[u8]) -> Option<String> {
    let (time, mut rest) = std::str::from_utf8(line).ok()?.split_once(" AUDIT: id=")?;
    let (id, behind) = unquote(rest)?;
    let mut told: Vec<(&str, String)> = vec![("id", id)];
    rest = behind;
    while let Some((name, value)) = rest.trim_start().split_once('=') {
        let (value, behind) = unquote(value)?;
        told.push((name, value));
        rest = behind;
    }
    let get = |name: &str| told.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
    let known = |name: &str| get(name).filter(|value| !value.starts_with('<'));
    let person = |name: &str, groups: &str| {
        let groups = known(groups).map(list);
        known(name).map(|name| json!({"username": name, "groups": groups}))
    };
    let code: Option<u16> = known("response").and_then(|code| code.parse().ok());
    let mut event = Map::new();
    let members: [(&str, Value); 13] = [
        ("kind", "Event".into()),
        ("apiVersion", "audit.k8s.io/v1".into()),
        ("level", "Metadata".into()),
        ("auditID", get("id").into()),
        ("stage", get("stage").into()),
        ("requestURI", get("uri").into()),
        ("verb", get("method").into()),
        ("user", person("user", "groups").into()),
        ("impersonatedUser", person("as", "asgroups").into()),
        ("sourceIPs", known("ip").map(|ip| json!([ip])).into()),
        ("userAgent", get("user-agent").into()),
        ("objectRef", get("uri").and_then(object_of).into()),
        ("responseStatus", code.map(|code| json!({"code": code})).into()),
    ];
    for (name, value) in members {
        if !value.is_null() {
            event.insert(name.to_owned(), value);
        }
    }
    event.insert("requestReceivedTimestamp".to_owned(), time.into());
    Some(Value::from(event).to_string())
}

/// A text in quotes as Go writes it, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut out = Vec::new();
    let mut at = text.strip_prefix('"')?;
    loop {
        let stop = at.find(['"', '\\'])?;
        out.extend_from_slice(&at.as_bytes()[..stop]);
        let escaped = at[stop..].strip_prefix('\\');
        let Some(escaped) = escaped else { return Some((String::from_utf8_lossy(&out).into_owned(), &at[stop + 1..])) };
        let kind = escaped.chars().next()?;
        let digits = match kind {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        let behind = &escaped[kind.len_utf8()..];
        let number = u32::from_str_radix(behind.get(..digits)?, 16).unwrap_or(0);
        match kind {
            'x' => out.push(number as u8),
            'u' | 'U' => out.extend_from_slice(char::from_u32(number).unwrap_or('\u{fffd}').to_string().as_bytes()),
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            'r' => out.push(b'\r'),
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'v' => out.push(11),
            other => out.extend_from_slice(other.to_string().as_bytes()),
        }
        at = &behind[digits..];
    }
}

/// Quoted texts with commas between them.
fn list(mut text: &str) -> Vec<String> {
    let mut out = Vec::new();
    while let Some((one, behind)) = unquote(text) {
        out.push(one);
        text = behind.strip_prefix(',').unwrap_or(behind);
    }
    out
}

/// What a URI of the API asks for.
fn object_of(uri: &str) -> Option<Value> {
    let path = uri.split('?').next().unwrap_or_default();
    let mut parts = path.split('/').filter(|part| !part.is_empty()).map(decoded);
    let group = match parts.next()?.as_str() {
        "api" => None,
        "apis" => Some(parts.next()?),
        _ => return None,
    };
    let version = parts.next()?;
    let names: Vec<String> = parts.filter(|part| part != "watch").collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (namespace, rest) = match names[..] {
        ["namespaces", namespace, "status" | "finalize", ..] | ["namespaces", namespace] => {
            (Some(namespace), &names[..])
        }
        ["namespaces", namespace, ref rest @ ..] => (Some(namespace), rest),
        _ => (None, &names[..]),
    };
    let resource = rest.first()?;
    let mut out = Map::new();
    for (name, value) in [
        ("resource", Some(*resource)),
        ("namespace", namespace),
        ("name", rest.get(1).copied()),
        ("apiGroup", group.as_deref()),
        ("apiVersion", Some(&*version)),
        ("subresource", rest.get(2).copied()),
    ] {
        value.into_iter().for_each(|value| drop(out.insert(name.to_owned(), value.into())));
    }
    Some(out.into())
}

/// A part of a path without its percent signs, as the API server takes it.
fn decoded(part: &str) -> String {
    let (mut out, bytes, mut at) = (Vec::new(), part.as_bytes(), 0);
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| part.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_there_is() {
        let line = r#"2026-03-01T10:00:00.000001Z AUDIT: id="a" stage="ResponseComplete" ip="192.0.2.7" method="get" user="an\"n\xc3\xa9" groups="\"g,1\",\"h\"" as="<self>" asgroups="<lookup>" user-agent="kube\tctl" namespace="shop" uri="/api/v1/namespaces/shop/%73ecrets/db?x=1" response="200""#;
        let read: Value = serde_json::from_str(&event(line.as_bytes()).unwrap()).unwrap();
        let expected = json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "a",
            "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/shop/%73ecrets/db?x=1", "verb": "get",
            "user": {"username": "an\"né", "groups": ["g,1", "h"]}, "sourceIPs": ["192.0.2.7"], "userAgent": "kube\tctl",
            "objectRef": {"resource": "secrets", "namespace": "shop", "name": "db", "apiVersion": "v1"},
            "responseStatus": {"code": 200}, "requestReceivedTimestamp": "2026-03-01T10:00:00.000001Z"});
        assert_eq!(read, expected);
        for cut in 0..line.len() {
            let _ = event(&line.as_bytes()[..cut]);
        }
        assert_eq!(event(b"2026-03-01T10:00:00Z {\"kind\":\"Event\"}"), None);
    }

    #[test]
    fn a_uri_tells_what_was_asked_for() {
        for (uri, expected) in [
            ("/api/v1/namespaces/x", r#"{"apiVersion":"v1","name":"x","namespace":"x","resource":"namespaces"}"#),
            ("/api/v1/nodes", r#"{"apiVersion":"v1","resource":"nodes"}"#),
            (
                "/apis/apps/v1/namespaces/n/deployments/d/scale",
                r#"{"apiGroup":"apps","apiVersion":"v1","name":"d","namespace":"n","resource":"deployments","subresource":"scale"}"#,
            ),
            ("/healthz", "null"),
            ("/api", "null"),
        ] {
            let expected: Value = serde_json::from_str(expected).unwrap();
            assert_eq!(Value::from(object_of(uri)), expected, "{uri}");
        }
    }
}
