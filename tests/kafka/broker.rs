//! Against Apache Kafka itself: `cargo test --test all kafka::broker -- --ignored`. Needs java and mvn; `kafka.sh` brings
//! the brokers up.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{event, replayed, scatter};
use crate::support::daemon::{Daemon, by_id, ids};
use crate::support::kafka::Kafka;
use crate::support::logs::synthetic;
use crate::support::{auditwatch, ran, root};

/// What `kafka.sh` ends with when it cannot fetch what it needs.
const NOT_TO_BE_HAD: i32 = 77;

/// Brokers that end when this is dropped.
pub struct Brokers {
    pub dir: tempfile::TempDir,
    pub kafka: Kafka,
    /// The first of their ports.
    pub port: u16,
}

impl Brokers {
    /// None, with a clear word, where they cannot be brought up.
    pub fn up(n: usize) -> Option<Brokers> {
        Brokers::up_with(n, |_| None)
    }

    /// With the PEM file of a server that listens with TLS, too, if `keys` makes one in this folder.
    pub fn up_with(n: usize, keys: impl Fn(&Path) -> Option<PathBuf>) -> Option<Brokers> {
        for tool in ["java", "mvn"] {
            if Command::new(tool).arg("-version").output().is_err() {
                let _ = writeln!(std::io::stderr(), "SKIPPED: Apache Kafka needs {tool}, which is not installed");
                return None;
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(4 * n);
        let mut up = script();
        up.arg("up").arg(dir.path()).arg(n.to_string()).arg(port.to_string()).args(keys(dir.path()));
        let output = up.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code() == Some(NOT_TO_BE_HAD) {
            let _ = writeln!(std::io::stderr(), "SKIPPED: Apache Kafka's packages cannot be fetched: {err}");
            return None;
        }
        assert!(output.status.success(), "{err}");
        let brokers = String::from_utf8(output.stdout).unwrap();
        Some(Brokers { dir, kafka: Kafka::at(brokers.trim()), port })
    }

    pub fn does(&self, what: &str, broker: usize) {
        assert!(script().arg(what).arg(self.dir.path()).arg(broker.to_string()).status().unwrap().success(), "{what}");
    }

    /// Creates the topics of a configuration.
    pub fn create(&self, daemon: &Daemon, partitions: usize, replication: usize) {
        self.create_with(daemon, partitions, replication, &[]);
    }

    /// The same with more arguments.
    pub fn create_with(&self, daemon: &Daemon, partitions: usize, replication: usize, more: &[&str]) {
        let (partitions, replication) = (partitions.to_string(), replication.to_string());
        let args = ["kafka", "topics", "--create", "--partitions", &partitions, "--replication", &replication, "-c"];
        // Brokers that listen may have other things to do first.
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let ran = ran(auditwatch().args(args).arg(daemon.path("run.yaml")).args(more));
            if ran.code == Some(0) {
                return;
            }
            assert!(Instant::now() < until, "{}", ran.err);
        }
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        let _ = script().arg("down").arg(self.dir.path()).status();
    }
}

fn script() -> Command {
    let mut command = Command::new("bash");
    command.arg(root().join("tests/kafka/kafka.sh"));
    command
}

/// The first of so many ports in a row that nobody listens on.
fn free_ports(n: usize) -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let all: Result<Vec<_>, _> =
            (0..n as u16).map(|at| TcpListener::bind(("127.0.0.1", first.checked_add(at).unwrap_or(1)))).collect();
        if all.is_ok() {
            return first;
        }
    }
}

#[test]
#[ignore = "needs java and mvn"]
fn one_broker_gives_what_a_replay_gives() {
    let Some(brokers) = Brokers::up(1) else { return };
    let lines = synthetic(21, 6_000);
    let source = brokers.kafka.source("[audit]", ", dead_letter_topic: dead");
    let daemon = Daemon::with_source(&source);
    daemon.configure(
        &source,
        &format!("sinks: [{{type: stdout}}, {{type: kafka, brokers: [\"{}\"], topic: alerts}}]", brokers.kafka.brokers),
    );
    brokers.create(&daemon, 6, 1);
    let (first, rest) = lines.split_at(3_000);
    scatter(&brokers.kafka, "audit", 6, first, 1);
    brokers.kafka.send("audit", 0, &vec![b'x'; 20_000_000]);
    brokers.kafka.send("audit", 0, b"no json");
    // Nor is this an envelope of events, whatever it holds; and behind all of it there are events.
    brokers.kafka.send("audit", 0, b"{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"items\":[]}");
    scatter(&brokers.kafka, "audit", 6, rest, 2);
    let told = daemon.once();
    assert!(told.err.contains("1 too large"), "{}", told.err);
    assert_eq!(by_id(told.alerts()), by_id(replayed(&lines)));
    assert_eq!(daemon.once().alerts().len(), 0, "told twice");
    let topic = brokers.kafka.read("alerts");
    let alerts: Vec<_> = topic.iter().map(|came| serde_json::from_slice(&came.value).unwrap()).collect();
    assert_eq!(by_id(alerts), by_id(told.alerts()));
    let dead = brokers.kafka.read("dead");
    let why: BTreeSet<String> = dead.iter().map(|came| format!("{:?}", came.headers)).collect();
    let all = ["too large: 20000000 bytes", "no audit event"];
    assert!(dead.len() == 3 && all.iter().all(|part| why.iter().any(|why| why.contains(part))), "{why:?}");
}

#[test]
#[ignore = "needs java and mvn"]
fn three_brokers_one_of_which_goes_and_comes() {
    let Some(brokers) = Brokers::up(3) else { return };
    let source = brokers.kafka.source("[audit]", "");
    let daemon = Daemon::with_source(&source);
    daemon.configure(&source, "rules: [detections/secrets/secrets-listed.yml]\nlateness: 0");
    brokers.create(&daemon, 6, 3);
    let mut running = daemon.start();
    let mut sent = 0;
    let mut some = |brokers: &Brokers, running: &mut crate::support::daemon::Running| {
        for _ in 0..12 {
            brokers.kafka.send("audit", sent % 6, event(i64::from(sent)).as_bytes());
            sent += 1;
        }
        brokers.kafka.flush();
        (0..12).map(|_| running.next_alert()).collect::<Vec<_>>()
    };
    let mut told = some(&brokers, &mut running);
    for broker in 1..=3 {
        brokers.does(if broker == 2 { "stop" } else { "kill" }, broker);
        told.extend(some(&brokers, &mut running));
        brokers.does("start", broker);
        told.extend(some(&brokers, &mut running));
    }
    assert_eq!(ids(&told).len(), sent as usize);
    // A second member takes some of the partitions, and is killed: they are served again within 15 s.
    let second = Daemon::with_source(&source);
    second.configure(&source, "rules: [detections/secrets/secrets-listed.yml]\nlateness: 0");
    let mut other = second.start();
    let until = Instant::now() + Duration::from_secs(60);
    let mut n = 1_000;
    loop {
        for partition in 0..6 {
            brokers.kafka.send("audit", partition, event(n).as_bytes());
            n += 1;
        }
        brokers.kafka.flush();
        if !second.stored(&[]).is_empty() {
            break;
        }
        assert!(Instant::now() < until, "the second member is given nothing");
    }
    other.next_alert();
    drop(other);
    let killed = Instant::now();
    let known = |daemon: &Daemon| ids(&daemon.stored(&[]));
    for partition in 0..6 {
        brokers.kafka.send("audit", partition, event(n + i64::from(partition)).as_bytes());
    }
    brokers.kafka.flush();
    let mine = |daemon: &Daemon| {
        let stored = daemon.stored(&[]);
        (n..n + 6).filter(|n| stored.iter().any(|a| a["events"][0]["audit_id"] == format!("a-{n}"))).count()
    };
    while mine(&daemon) < 6 {
        assert!(killed.elapsed() < Duration::from_secs(15), "not served again: {} of 6", mine(&daemon));
    }
    let all: std::collections::BTreeSet<String> = known(&daemon).union(&known(&second)).cloned().collect();
    assert_eq!(all.len() as i64, i64::from(sent) + n + 6 - 1_000);
}
