//! TLS and SASL, as Apache Kafka speaks them.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;

use super::broker::Brokers;
use super::{replayed, scatter};
use crate::support::daemon::{Daemon, by_id};
use crate::support::logs::synthetic;
use crate::support::{auditwatch, ran};

/// The key and certificate of a server on 127.0.0.1, for Kafka in one file; beside it `ca.pem`, for those who ask it.
fn keys(dir: &Path) -> Option<PathBuf> {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(dir.join("ca.pem"), certificate.pem()).unwrap();
    let file = dir.join("server.pem");
    fs::write(&file, key.serialize_pem() + &certificate.pem()).unwrap();
    Some(file)
}

/// A token as brokers take it that were not told whom to trust.
fn token(subject: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let claims = serde_json::json!({
        "sub": subject, "iat": now.as_secs(), "exp": (now + Duration::from_secs(3600)).as_secs(),
    });
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part("{\"alg\":\"none\"}"), part(&claims.to_string()))
}

#[test]
#[ignore = "needs java and mvn"]
fn brokers_that_ask_who_is_there() {
    let Some(brokers) = Brokers::up_with(1, keys) else { return };
    let (dir, port) = (brokers.dir.path(), brokers.port);
    fs::write(dir.join("password"), "secret\n").unwrap();
    fs::write(dir.join("wrong"), "guess\n").unwrap();
    fs::write(dir.join("token"), token("reader")).unwrap();
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    fs::write(dir.join("other.pem"), other.cert.pem()).unwrap();
    // Each reads from the beginning.
    let groups = Cell::new(0);
    let config = |protocol: &str, ca: &str, sasl: &str| {
        let at = if protocol == "ssl" { port + 3 } else { port + 2 };
        let file = |name: &str| dir.join(name).display().to_string();
        let sasl = sasl.replace("DIR/", &file(""));
        let client = format!(
            "brokers: [\"127.0.0.1:{at}\"], options: {{security.protocol: {protocol}, ssl.ca.location: \"{}\"{sasl}",
            file(ca)
        );
        let daemon = Daemon::with_source("{}");
        daemon.configure(
            &format!("{{type: kafka, {client}, topics: [audit], group: aw{}}}", groups.replace(groups.get() + 1)),
            &format!("sinks: [{{type: stdout}}, {{type: kafka, {client}, topic: alerts}}]"),
        );
        daemon
    };
    let password = |mechanism: &str, file: &str| {
        format!(
            ", sasl.mechanism: {mechanism}, sasl.username: reader}}, options_files: {{sasl.password: \"DIR/{file}\"}}"
        )
    };
    let bearer = ", sasl.mechanism: OAUTHBEARER}, token_file: \"DIR/token\"".to_owned();
    let lines = synthetic(51, 300);
    let expected = by_id(replayed(&lines));
    // What creates topics is a client, too.
    for name in [&password("PLAIN", "password"), &bearer] {
        brokers.create(&config("sasl_ssl", "ca.pem", name), 2, 1);
    }
    let unnamed = config("sasl_ssl", "ca.pem", &bearer.replace("DIR/token", "DIR/nowhere"));
    let refused = ran(auditwatch().args(["kafka", "topics", "--create", "-c"]).arg(unnamed.path("run.yaml")));
    assert!(refused.code != Some(0) && refused.err.contains("nowhere"), "{}", refused.err);
    scatter(&brokers.kafka, "audit", 2, &lines, 1);
    let known = [
        ("ssl", "}".to_owned()),
        ("sasl_ssl", password("PLAIN", "password")),
        ("sasl_ssl", password("SCRAM-SHA-256", "password")),
        ("sasl_ssl", password("SCRAM-SHA-512", "password")),
        ("sasl_ssl", bearer),
    ];
    for (protocol, sasl) in &known {
        let ran = config(protocol, "ca.pem", sasl).once();
        assert_eq!(ran.code, Some(0), "{sasl}: {}", ran.err);
        assert_eq!(by_id(ran.alerts()), expected, "{sasl}: {}", ran.err);
    }
    assert_eq!(brokers.kafka.read("alerts").len(), known.len() * expected.len());
    for (ca, file, said) in [("ca.pem", "wrong", "uthenti"), ("other.pem", "password", "ertificate")] {
        let ran = config("sasl_ssl", ca, &password("SCRAM-SHA-512", file)).once();
        assert_eq!((ran.code, ran.out.as_str()), (Some(4), ""), "{}", ran.err);
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
        assert!(!ran.err.contains("guess"), "{}", ran.err);
    }
    // Nothing is told to those who ask without a name.
    let plain = config("plaintext", "ca.pem", "}").once();
    assert_eq!(plain.code, Some(4), "{}", plain.err);
}
