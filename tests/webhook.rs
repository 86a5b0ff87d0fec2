//! The audit webhook: what is posted is stored before it is answered, and nobody but the API server is heard.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

use crate::support::daemon::{Daemon, Running, by_id, ids};
use crate::support::logs::{self, synthetic};
use crate::support::replay;

const PLAIN: &str = "{type: webhook, listen: '127.0.0.1:0', max_body: 1MiB}";

/// The same with room for any list.
pub const PLAIN_ANY_SIZE: &str = "{type: webhook, listen: '127.0.0.1:0'}";

pub fn address(running: &mut Running) -> String {
    running.wait_for("listening on").rsplit(' ').next().unwrap().to_owned()
}

/// One request on a connection of its own: the status, and the whole answer.
fn request(mut stream: impl Read + Write, method: &str, headers: &str, body: &[u8]) -> (u16, String) {
    let head = format!(
        "{method} /any/path HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    // A server that refuses a body may close before it has read it.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

pub fn post(address: &str, body: &str) -> (u16, String) {
    request(TcpStream::connect(address).unwrap(), "POST", "Content-Type: application/json\r\n", body.as_bytes())
}

pub fn list(events: &[Value]) -> String {
    json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": events}).to_string()
}

#[test]
fn what_is_answered_is_stored() {
    let lines = synthetic(5, 1_500);
    let daemon = Daemon::with_source(PLAIN);
    let log = daemon.path("whole.txt");
    logs::write(&log, &lines);
    let expected = replay(&["--lateness", "60s"], [&log]);
    let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for part in events.chunks(events.len() / 4 + 1) {
        let mut running = daemon.start();
        let address = address(&mut running);
        for batch in part.chunks(100) {
            assert_eq!(post(&address, &list(batch)).0, 200);
        }
        // Killed right after the answer.
        drop(running);
        let rules = expected.iter().filter(|alert| {
            let told = alert["events"][0]["audit_id"].as_str().unwrap();
            alert["kind"] == "rule" && part.iter().any(|event| event["auditID"] == told)
        });
        let rules: Vec<Value> = rules.cloned().collect();
        let stored = ids(&daemon.stored(&[]));
        assert!(!rules.is_empty() && ids(&rules).is_subset(&stored));
    }
    assert_eq!(daemon.once().code, Some(0));
    let ids_of = |alerts: Vec<Value>| ids(&by_id(alerts));
    assert_eq!(ids_of(daemon.stored(&[])), ids_of(expected));
}

#[test]
fn says_what_is_wrong_with_a_request() {
    let daemon = Daemon::with_source(PLAIN);
    let mut running = daemon.start();
    let address = address(&mut running);
    let good = logs::secrets_listed("a", 0);
    let torn = list(std::slice::from_ref(&good));
    let torn = torn[..torn.len() - 2].to_owned() + ",{\"auditID\": nonsense}]}";
    for (body, status) in [
        (list(&[]), 200),
        (list(&[json!({"odd": 1}), good.clone()]), 200),
        (list(&[json!({"odd": 1})]), 200),
        (torn, 200),
        (list(&[good.clone(), good.clone()])[..good.to_string().len() + 150].to_owned(), 200),
        (list(std::slice::from_ref(&good)).replace("\":", "\": ")[..150].to_owned(), 200),
        ("[]".to_owned(), 400),
        ("not JSON".to_owned(), 400),
        (String::new(), 400),
        ("[".repeat(500_000), 400),
        ("x".repeat(1 << 21), 413),
    ] {
        assert_eq!(post(&address, &body).0, status, "{}", &body[..body.len().min(300)]);
    }
    assert_eq!(request(TcpStream::connect(&address).unwrap(), "GET", "", b"").0, 405);
    // A client that hears nothing before it has sent everything hears of a body that is far too large as well.
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(stream, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", 20 << 20).unwrap();
    stream.write_all(&vec![b'x'; 20 << 20]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // Connections that say nothing do not keep others out.
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(&address).unwrap()).collect();
    assert_eq!(post(&address, &list(&[good])).0, 200);
    drop(silent);
}

#[test]
fn a_flood_of_connections_is_told_and_passes() {
    let daemon = Daemon::with_source(PLAIN);
    daemon.configure(PLAIN, "admin: {listen: '127.0.0.1:0'}");
    let mut running = daemon.start();
    let admin = running.wait_for("admin: listening on").rsplit(' ').next().unwrap().to_owned();
    let address = running.wait_for("webhook: listening on").rsplit(' ').next().unwrap().to_owned();
    // Ten thousand, of which some hundreds at a time are open on our side too: the limit of open files may be low.
    let mut open = std::collections::VecDeque::new();
    for _ in 0..10_000 {
        open.push_back(TcpStream::connect(&address).unwrap());
        if open.len() > 600 {
            open.pop_front();
        }
    }
    running.wait_for("connections are open, further ones are closed");
    // The admin port has its own, and tells.
    let closed = |text: &str| -> f64 {
        let line = text.lines().find(|line| line.contains("webhook_answers_total{code=\"closed\"}"));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |count| count.parse().unwrap())
    };
    let scrape = || request(TcpStream::connect(&admin).unwrap(), "GET /metrics HTTP/1.1\r\nX:", "", b"").1;
    assert!((0..10_000).any(|_| closed(&scrape()) > 100.0));
    drop(open);
    let body = list(&[logs::secrets_listed("a", 0)]);
    assert!((0..10_000).any(|_| post(&address, &body).0 == 200));
}

#[test]
fn slow_clients_are_sent_away_and_told_of() {
    let daemon = Daemon::with_source(PLAIN);
    let source = PLAIN.replace('}', ", timeout: 1s}");
    daemon.configure(&source, "admin: {listen: '127.0.0.1:0'}");
    let mut running = daemon.start();
    let admin = running.wait_for("admin: listening on").rsplit(' ').next().unwrap().to_owned();
    let address = running.wait_for("webhook: listening on").rsplit(' ').next().unwrap().to_owned();
    let started = |text: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    // Whoever has been served may be silent: the API server keeps its connections.
    let empty = list(&[]);
    let mut kept = started(&format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{empty}", empty.len()));
    let mut first = [0; 12];
    kept.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let mut in_headers = started("POST / HTTP/1.1\r\nHost: x\r\n");
    let mut in_body = started("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
    let mut in_chunks = started("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"kin\r\n");
    // Meanwhile others are heard.
    assert_eq!(post(&address, &list(&[logs::secrets_listed("a", 0)])).0, 200);
    let answer = |stream: &mut TcpStream| {
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    answer(&mut kept);
    assert!(!answer(&mut in_headers).contains(" 200 "));
    assert!(answer(&mut in_body).starts_with("HTTP/1.1 408"));
    assert!(answer(&mut in_chunks).starts_with("HTTP/1.1 408"));
    running.wait_for("webhook: a client took more than 1 s");
    let counted = |name: &str| {
        let text = crate::admin::get(&admin, "GET /metrics").1;
        let line = text.lines().find(|line| line.contains(&format!("webhook_answers_total{{code=\"{name}\"}}")));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    assert!((0..10_000).any(|_| counted("408") == 2.0 && counted("slow") >= 1.0));
    assert_eq!(counted("slow"), 1.0);
}

#[test]
fn bodies_may_come_in_chunks_and_packed() {
    let daemon = Daemon::with_source(PLAIN);
    let mut running = daemon.start();
    let address = address(&mut running);
    let pack = |text: &str| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let body = list(&[logs::secrets_listed("a", 0)]);
    let send = |headers: &str, body: &[u8]| request(TcpStream::connect(&address).unwrap(), "POST", headers, body).0;
    let gzip = "Content-Encoding: gzip\r\n";
    for (headers, body, status) in [
        (gzip, pack(&body), 200),
        (gzip, pack(&"x".repeat(2 << 20)), 413),
        (gzip, b"no gzip".to_vec(), 400),
        ("Content-Encoding: br\r\n", body.clone().into_bytes(), 415),
        ("Content-Encoding: identity\r\n", body.clone().into_bytes(), 200),
    ] {
        assert_eq!(send(headers, &body), status, "{headers}");
    }
    let chunked = |chunks: &[&str]| {
        let mut stream = TcpStream::connect(&address).unwrap();
        let head = "POST /a/b?c HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        let text: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
        let _ = stream.write_all(format!("{head}{text}0\r\n\r\n").as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).unwrap_or(0)
    };
    let v1beta1 = body.replace("audit.k8s.io/v1\"", "audit.k8s.io/v1beta1\"").replace("\"a\"", "\"b\"");
    assert_eq!(chunked(&[&v1beta1[..10], &v1beta1[10..]]), 200);
    assert_eq!(chunked(&[&"x".repeat(600_000), &"x".repeat(600_000)]), 413);
    let stored = daemon.stored(&["--rule", "SEC-001"]);
    assert_eq!(stored.len(), 2, "{stored:?}");
}

/// Each has its own cluster and lateness; what one takes is no matter of the other's.
#[test]
fn there_may_be_several_webhooks() {
    let daemon = Daemon::with_source(PLAIN);
    let source = |listen: &str, cluster: &str| {
        format!("{{type: webhook, listen: '{listen}:0', cluster: {cluster}, lateness: 30s}}")
    };
    daemon.configure(&[source("127.0.0.1", "east"), source("127.0.0.2", "west")].join(", "), "");
    let mut running = daemon.start();
    let east = running.wait_for("listening on 127.0.0.1").rsplit(' ').next().unwrap().to_owned();
    let west = running.wait_for("listening on 127.0.0.2").rsplit(' ').next().unwrap().to_owned();
    for address in [&east, &west] {
        assert_eq!(post(address, &list(&[logs::secrets_listed("a", 0)])).0, 200);
    }
    let mut clusters: Vec<String> = daemon
        .stored(&["--rule", "SEC-001"])
        .iter()
        .map(|alert| alert["cluster"].as_str().unwrap().to_owned())
        .collect();
    clusters.sort();
    assert_eq!(clusters, ["east", "west"]);
}

#[test]
fn unreadable_items_are_kept_and_their_neighbours_read() {
    let daemon = Daemon::with_source(PLAIN);
    let dead = daemon.path("dead.jsonl");
    daemon.configure(PLAIN, &format!("dead_letter: {{path: \"{}\"}}", dead.display()));
    let mut running = daemon.start();
    let address = address(&mut running);
    let body = list(&[json!(7), json!({"odd": 1}), logs::secrets_listed("a", 0), json!("x"), json!(null)]);
    assert_eq!(post(&address, &body).0, 200);
    assert_eq!(daemon.stored(&["--rule", "SEC-001"]).len(), 1);
    let kept = std::fs::read_to_string(dead).unwrap();
    let raw: Vec<Value> =
        kept.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["raw"].clone()).collect();
    assert_eq!(raw, ["7", "{\"odd\":1}", "\"x\"", "null"]);
}

#[test]
fn a_store_that_cannot_be_written_sends_clients_away() {
    let daemon = Daemon::with_source(PLAIN);
    let mut running = daemon.start();
    let address = address(&mut running);
    let lock = rusqlite::Connection::open(daemon.path("state.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (status, answer) = post(&address, &list(&[logs::secrets_listed("a", 0)]));
    assert!(status == 503 && answer.to_lowercase().contains("retry-after: 1"), "{answer}");
    lock.execute_batch("ROLLBACK").unwrap();
    running.wait_for("can be written again");
    assert_eq!(post(&address, &list(&[logs::secrets_listed("a", 0)])).0, 200);
    let stored = daemon.stored(&["--rule", "SEC-001"]);
    assert_eq!(stored.len(), 1);
}

#[test]
fn a_client_needs_its_token() {
    let daemon = Daemon::with_source(PLAIN);
    std::fs::write(daemon.path("token"), "s3cret\n").unwrap();
    let token = daemon.path("token");
    daemon.configure(&PLAIN.replace('}', &format!(", token_file: \"{}\"}}", token.display())), "");
    let mut running = daemon.start();
    let address = address(&mut running);
    let body = list(&[logs::secrets_listed("a", 0)]);
    for (header, status) in [
        ("", 401),
        ("Authorization: Bearer other\r\n", 401),
        ("Authorization: Basic s3cret\r\n", 401),
        ("authorization: bearer s3cret\r\n", 200),
    ] {
        let stream = TcpStream::connect(&address).unwrap();
        assert_eq!(request(stream, "POST", header, body.as_bytes()).0, status, "{header}");
    }
    // A token that is renewed needs no restart; one that is none leaves the old one in force.
    let with = |token: &str| {
        let stream = TcpStream::connect(&address).unwrap();
        request(stream, "POST", &format!("Authorization: Bearer {token}\r\n"), body.as_bytes()).0
    };
    std::fs::write(daemon.path("new"), "n3w\n").unwrap();
    std::fs::rename(daemon.path("new"), daemon.path("token")).unwrap();
    running.wait_for("token were read again");
    assert_eq!((with("n3w"), with("s3cret")), (200, 401));
    std::fs::write(daemon.path("token"), "\n").unwrap();
    running.wait_for("it is empty; put the token into it; what was in force stays so");
    assert_eq!((with("n3w"), with("")), (200, 401));
}

/// A certificate of the authority's that has expired, and one that is nobody's.
fn unwelcome(issuer: &rcgen::Issuer<'_, rcgen::KeyPair>) -> [(rcgen::Certificate, rcgen::KeyPair); 2] {
    let keys = [rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap()];
    let params = rcgen::CertificateParams::new(["apiserver".to_owned()]).unwrap();
    let mut old = params.clone();
    old.not_before = rcgen::date_time_ymd(2020, 1, 1);
    old.not_after = rcgen::date_time_ymd(2020, 1, 2);
    let certificates = [old.signed_by(&keys[0], issuer).unwrap(), params.self_signed(&keys[1]).unwrap()];
    let [expired, own] = certificates;
    let [first, second] = keys;
    [(expired, first), (own, second)]
}

#[test]
fn a_client_needs_its_certificate() {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let issued = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        (rcgen::CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap(), key)
    };
    let daemon = Daemon::with_source(PLAIN);
    let (server, server_key) = issued("localhost");
    std::fs::write(daemon.path("tls.crt"), server.pem()).unwrap();
    std::fs::write(daemon.path("tls.key"), server_key.serialize_pem()).unwrap();
    let (renewed, renewed_key) = issued("localhost");
    std::fs::write(daemon.path("ca.crt"), authority_pem.pem()).unwrap();
    let path = |name: &str| daemon.path(name).display().to_string();
    let tls = format!(
        "cert_file: \"{}\", key_file: \"{}\", client_ca_file: \"{}\"",
        path("tls.crt"),
        path("tls.key"),
        path("ca.crt")
    );
    daemon.configure(&PLAIN.replace('}', &format!(", tls: {{{tls}}}}}")), "");
    let mut running = daemon.start();
    let address = address(&mut running);

    let connect_as = |certificate: Option<(rcgen::Certificate, rcgen::KeyPair)>| {
        let mut roots = RootCertStore::empty();
        roots.add(authority_pem.der().clone()).unwrap();
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        let config = match certificate {
            Some((client, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                config.with_client_auth_cert(vec![client.der().clone()], key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(client, TcpStream::connect(&address).unwrap())
    };
    let connect = |certificate: bool| connect_as(certificate.then(|| issued("apiserver")));
    let body = list(&[logs::secrets_listed("a", 0)]);
    assert_eq!(request(connect(true), "POST", "", body.as_bytes()).0, 200);
    assert_eq!(request(connect(false), "POST", "", body.as_bytes()).0, 0);
    for certificate in unwelcome(&issuer) {
        assert_eq!(request(connect_as(Some(certificate)), "POST", "", body.as_bytes()).0, 0);
    }
    assert_eq!(post(&address, &body).0, 0, "plain HTTP");

    // Renewed one after the other: the pair that does not fit leaves the old one in force.
    let shown = || {
        let mut stream = connect(true);
        stream.conn.complete_io(&mut stream.sock).unwrap();
        stream.conn.peer_certificates().unwrap()[0].clone()
    };
    assert_eq!(&shown(), server.der());
    std::fs::write(daemon.path("tls.crt"), renewed.pem()).unwrap();
    running.wait_for("what was in force stays so");
    assert_eq!(&shown(), server.der());
    std::fs::write(daemon.path("tls.key"), renewed_key.serialize_pem()).unwrap();
    running.wait_for("certificates and token were read again");
    assert_eq!(&shown(), renewed.der());
    assert_eq!(request(connect(true), "POST", "", body.as_bytes()).0, 200);
}
