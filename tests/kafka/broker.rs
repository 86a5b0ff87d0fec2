//! Against Apache Kafka itself: `cargo test --test all kafka::broker -- --ignored`. Needs java and mvn; `kafka.sh` brings
//! the brokers up.

use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use super::{event, replayed, scatter};
use crate::support::daemon::{Daemon, by_id, ids};
use crate::support::kafka::Kafka;
use crate::support::logs::synthetic;
use crate::support::{auditwatch, ran, root};

/// Brokers that end when this is dropped.
struct Brokers {
    dir: tempfile::TempDir,
    kafka: Kafka,
}

impl Brokers {
    /// None, with a clear word, where they cannot be brought up.
    fn up(n: usize) -> Option<Brokers> {
        for tool in ["java", "mvn"] {
            if Command::new(tool).arg("-version").output().is_err() {
                let _ = writeln!(std::io::stderr(), "SKIPPED: Apache Kafka needs {tool}, which is not installed");
                return None;
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(2 * n);
        let output = script().arg("up").arg(dir.path()).arg(n.to_string()).arg(port.to_string()).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{err}");
        let brokers = String::from_utf8(output.stdout).unwrap();
        Some(Brokers { dir, kafka: Kafka::at(brokers.trim()) })
    }

    fn does(&self, what: &str, broker: usize) {
        assert!(script().arg(what).arg(self.dir.path()).arg(broker.to_string()).status().unwrap().success(), "{what}");
    }

    /// Creates the topics of a configuration.
    fn create(&self, daemon: &Daemon, partitions: usize, replication: usize) {
        let (partitions, replication) = (partitions.to_string(), replication.to_string());
        let args = ["kafka", "topics", "--create", "--partitions", &partitions, "--replication", &replication, "-c"];
        let ran = ran(auditwatch().args(args).arg(daemon.path("run.yaml")));
        assert_eq!(ran.code, Some(0), "{}", ran.err);
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

/// Members of many on one machine, each with a configuration of its own kind.
struct Members {
    config: Daemon,
    running: Vec<std::process::Child>,
}

impl Members {
    fn start(&mut self) {
        let log = std::fs::File::options().append(true).create(true).open(self.config.path("members.log")).unwrap();
        let mut command = self.config.command();
        self.running.push(command.stdout(std::process::Stdio::null()).stderr(log).spawn().unwrap());
    }

    fn kill(&mut self, at: usize) {
        let mut member = self.running.remove(at);
        member.kill().unwrap();
        member.wait().unwrap();
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.config.path("members.log")).unwrap_or_default()
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        while !self.running.is_empty() {
            self.kill(0);
        }
    }
}

/// What is done to members and brokers while events are sent.
enum Does {
    Kill,
    Start,
    /// Stops a broker and starts it again.
    Broker(usize),
}

/// The alerts topic holds the alerts of one replay, each once.
fn members(brokers: &Brokers, seed: u64, replication: usize, first: usize, then: &[Does]) {
    let lines = synthetic(seed, 5_000);
    let names = [format!("audit-{seed}"), format!("matches-{seed}"), format!("alerts-{seed}")];
    let [audit, matches, alerts] = &names;
    let config = Daemon::with_source("{}");
    let source = brokers.kafka.source(&format!("[{audit}]"), "").replace("group: aw", &format!("group: aw-{seed}"));
    let topics = format!("distributed: {{matches_topic: {matches}, alerts_topic: {alerts}}}");
    std::fs::write(config.path("run.yaml"), format!("sources: [{source}]\n{topics}\nlateness: 1s\n")).unwrap();
    brokers.create(&config, 6, replication);
    let mut members = Members { config, running: Vec::new() };
    (0..first).for_each(|_| members.start());
    for (n, part) in lines.chunks(lines.len() / (then.len() + 1) + 1).enumerate() {
        scatter(&brokers.kafka, audit, 6, part, seed + n as u64);
        // Some are delivered twice, to whatever partition.
        scatter(&brokers.kafka, audit, 6, &part[part.len() - 30..], 99);
        match then.get(n) {
            Some(Does::Kill) => members.kill(0),
            Some(Does::Start) => members.start(),
            Some(Does::Broker(broker)) => {
                brokers.does("stop", *broker);
                brokers.does("start", *broker);
            }
            None => {}
        }
    }
    let dir = tempfile::tempdir().unwrap();
    crate::support::logs::write(&dir.path().join("whole.log"), &lines);
    let expected = crate::support::replay(&["--lateness", "1s"], [dir.path().join("whole.log")]);
    let until = std::time::Instant::now() + Duration::from_secs(180);
    let told = loop {
        let came = brokers.kafka.read(alerts);
        let told: Vec<serde_json::Value> =
            came.iter().map(|came| serde_json::from_slice(&came.value).unwrap()).collect();
        if told.len() >= expected.len() {
            break told;
        }
        let said = || members.said();
        assert!(std::time::Instant::now() < until, "{} of {} alerts: {}", told.len(), expected.len(), said());
    };
    ids(&told);
    assert_eq!(by_id(told), by_id(expected), "{}", members.said());
}

#[test]
#[ignore = "needs java and mvn"]
fn members_on_one_broker() {
    let Some(brokers) = Brokers::up(1) else { return };
    members(&brokers, 31, 1, 1, &[]);
    members(&brokers, 32, 1, 2, &[Does::Kill, Does::Start, Does::Start, Does::Kill]);
    members(&brokers, 33, 1, 2, &[Does::Broker(1), Does::Start]);
}

#[test]
#[ignore = "needs java and mvn"]
fn members_on_three_brokers() {
    let Some(brokers) = Brokers::up(3) else { return };
    members(&brokers, 41, 3, 4, &[Does::Kill, Does::Broker(2), Does::Kill, Does::Start, Does::Broker(1), Does::Start]);
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
    scatter(&brokers.kafka, "audit", 6, &lines, 1);
    brokers.kafka.send("audit", 0, &vec![b'x'; 20_000_000]);
    brokers.kafka.send("audit", 0, b"no json");
    brokers.kafka.flush();
    let told = daemon.once();
    assert!(told.err.contains("1 too large"), "{}", told.err);
    assert_eq!(by_id(told.alerts()), by_id(replayed(&lines)));
    assert_eq!(daemon.once().alerts().len(), 0, "told twice");
    let topic = brokers.kafka.read("alerts");
    let alerts: Vec<_> = topic.iter().map(|came| serde_json::from_slice(&came.value).unwrap()).collect();
    assert_eq!(by_id(alerts), by_id(told.alerts()));
    assert_eq!(brokers.kafka.read("dead").len(), 2);
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
    let until = std::time::Instant::now() + Duration::from_secs(60);
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
        assert!(std::time::Instant::now() < until, "the second member is given nothing");
    }
    other.next_alert();
    drop(other);
    let killed = std::time::Instant::now();
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
