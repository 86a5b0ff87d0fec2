//! Members of many, as processes: whatever happens to them and to the brokers, the alerts topic holds the alerts of one
//! replay, each once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use auditwatch::distributed::Record;
use serde_json::Value;

use super::broker::Brokers;
use super::{event, scatter};
use crate::support::daemon::{Daemon, by_id, ids};
use crate::support::kafka::Kafka;
use crate::support::logs::{self, synthetic};

/// Partitions of events.
const PARTITIONS: usize = 6;

/// Members on one machine, all with one configuration.
struct Members {
    config: Daemon,
    running: Vec<std::process::Child>,
    started: usize,
}

impl Members {
    fn start(&mut self) {
        self.started += 1;
        let log = std::fs::File::create(self.config.path(&format!("member-{:02}.log", self.started))).unwrap();
        let mut command = self.config.command();
        self.running.push(command.stdout(std::process::Stdio::null()).stderr(log).spawn().unwrap());
    }

    fn kill(&mut self, at: usize) {
        let mut member = self.running.remove(at);
        member.kill().unwrap();
        member.wait().unwrap();
    }

    fn said(&self) -> String {
        let log = |member: usize| {
            let said = std::fs::read_to_string(self.config.path(&format!("member-{member:02}.log")));
            format!("member {member}:\n{}", said.unwrap_or_default())
        };
        (1..=self.started).map(log).collect()
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

/// How the end of the events is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// Nothing comes for twice the lateness.
    Silent,
    /// Every partition goes on, much later.
    Later,
}

/// A run: its topics, and what happens in it.
struct Run<'r> {
    seed: u64,
    first: usize,
    then: &'r [Does],
    ends: Ends,
}

impl Run<'_> {
    fn name(&self, of: &str) -> String {
        format!("{of}-{}", self.seed)
    }

    /// Time enough for a broker to go and come, where one does: what a partition brings after that is late, by design.
    fn lateness(&self) -> &'static str {
        if self.ends == Ends::Silent { "1s" } else { "60s" }
    }

    fn config(&self, kafka: &Kafka) -> Daemon {
        let config = Daemon::with_source("{}");
        let more = format!(", dead_letter_topic: {}, cluster: eu", self.name("dead"));
        let source = kafka.source(&format!("[{}]", self.name("audit")), &more);
        let source = source.replace("group: aw", &self.name("group: aw"));
        let topics = format!(
            "distributed: {{matches_topic: {}, alerts_topic: {}}}\nlateness: {}\nmax_record: 1MiB",
            self.name("matches"),
            self.name("alerts"),
            self.lateness()
        );
        std::fs::write(config.path("run.yaml"), format!("sources: [{source}]\n{topics}\n")).unwrap();
        config
    }

    fn run(&self, brokers: &Brokers, config: Daemon) {
        let kafka = &brokers.kafka;
        let mut lines = synthetic(self.seed, 3_000);
        let audit = self.name("audit");
        let mut members = Members { config, running: Vec::new(), started: 0 };
        (0..self.first).for_each(|_| members.start());
        let poison = [b"no json".as_slice(), b"{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}", &[b'x'; 2_000_000]];
        for (n, part) in lines.chunks(lines.len() / (self.then.len() + 1) + 1).enumerate() {
            scatter(kafka, &audit, PARTITIONS, part, self.seed + n as u64);
            // Some are delivered twice, to whatever partition.
            scatter(kafka, &audit, PARTITIONS, &part[part.len() - 30..], 99);
            kafka.send(&audit, n as i32 % 6, poison[n % poison.len()]);
            match self.then.get(n) {
                Some(Does::Kill) => members.kill(0),
                Some(Does::Start) => members.start(),
                Some(Does::Broker(broker)) => {
                    brokers.does("stop", *broker);
                    brokers.does("start", *broker);
                }
                None => {}
            }
        }
        if self.ends == Ends::Later {
            lines.push(ordinary(3_600));
            (0..PARTITIONS).for_each(|partition| kafka.send(&audit, partition as i32, ordinary(3_600).as_bytes()));
        }
        kafka.flush();
        self.compare(kafka, &lines, &members);
        let poisoned = (self.then.len() + 1).min(poison.len());
        assert!(kafka.read(&self.name("dead")).len() >= poisoned, "{}", members.said());
    }

    /// The alerts topic holds the alerts of one replay, each once.
    fn compare(&self, kafka: &Kafka, lines: &[String], members: &Members) {
        let dir = tempfile::tempdir().unwrap();
        logs::write(&dir.path().join("whole.log"), lines);
        let args = ["--lateness", self.lateness(), "--cluster", "eu"];
        let expected = crate::support::replay(&args, [dir.path().join("whole.log")]);
        assert!(expected.len() > 1_000);
        // Before anything that goes on much later could be taken for idle.
        let until = Instant::now() + Duration::from_secs(100);
        let told = loop {
            let came = kafka.read(&self.name("alerts"));
            let told: Vec<Value> = came.iter().map(|came| serde_json::from_slice(&came.value).unwrap()).collect();
            if told.len() >= expected.len() {
                break told;
            }
            let missing = || {
                let told = ids(&told);
                let missing = expected.iter().filter(|alert| !told.contains(alert["id"].as_str().unwrap()));
                missing.map(|alert| format!("{} {}\n", alert["time"], alert["rule"]["title"])).collect::<String>()
            };
            let (all, found) = (expected.len(), told.len());
            let seen = || format!("{}{}{}", missing(), members.said(), self.state(kafka));
            assert!(Instant::now() < until, "{found} of {all} alerts; missing:\n{}", seen());
        };
        ids(&told);
        assert_eq!(by_id(told), by_id(expected), "{}", members.said());
    }
}

/// What brokers hold, for whoever looks for what is missing.
impl Run<'_> {
    fn state(&self, kafka: &Kafka) -> String {
        let group = self.name("aw");
        let mut all = kafka.members(&group);
        all += &kafka.positions(&self.name("audit"), &group);
        all += &kafka.positions(&self.name("matches"), &group);
        let records = kafka.read_partitions(&self.name("matches"));
        for (partition, records) in records {
            let (mut marks, mut matches) = (BTreeMap::new(), 0);
            for record in records.iter().map(|came| Record::decode(&came.value).unwrap()) {
                match record {
                    Record::Matches { matches: some, .. } => matches += some.len(),
                    Record::Marks { marks: some, .. } => {
                        marks.extend(some.into_iter().map(|mark| (mark.source, (mark.fronts, mark.idle))));
                    }
                }
            }
            let marks: Vec<_> = marks.iter().map(|(source, (fronts, idle))| (source.partition, fronts, idle)).collect();
            all += &format!("matches/{partition}: {} records, {matches} matches, {marks:?}\n", records.len());
        }
        all
    }
}

/// An event of this second that no rule asks for.
fn ordinary(second: i64) -> String {
    let mut event: Value = serde_json::from_str(&event(second)).unwrap();
    event["auditID"] = format!("6f1b0c1e-0000-4000-8000-{second:012}").into();
    event["verb"] = "watch".into();
    event["user"]["username"] = "system:node:n1".into();
    event["objectRef"]["resource"] = "leases".into();
    event["requestURI"] = "/apis/coordination.k8s.io/v1/leases".into();
    format!("{event}\n")
}

/// Runs one after the other, against Apache Kafka.
fn run_all(brokers: &Brokers, replication: usize, runs: &[Run<'_>]) {
    for run in runs {
        let config = run.config(&brokers.kafka);
        brokers.create(&config, PARTITIONS, replication);
        run.run(brokers, config);
    }
}

#[test]
#[ignore = "needs java and mvn"]
fn members_on_one_broker() {
    let Some(brokers) = Brokers::up(1) else { return };
    use Does::{Broker, Kill, Start};
    run_all(
        &brokers,
        1,
        &[
            Run { seed: 31, first: 1, then: &[], ends: Ends::Silent },
            Run { seed: 32, first: 2, then: &[Kill, Start, Broker(1), Start, Kill], ends: Ends::Later },
            Run { seed: 33, first: 1, then: &[Start, Kill, Start, Kill], ends: Ends::Later },
            Run { seed: 34, first: 4, then: &[Kill, Kill, Start, Broker(1), Start], ends: Ends::Later },
        ],
    );
}

#[test]
#[ignore = "needs java and mvn"]
fn members_on_three_brokers() {
    let Some(brokers) = Brokers::up(3) else { return };
    use Does::{Broker, Kill, Start};
    run_all(
        &brokers,
        3,
        &[
            Run { seed: 41, first: 4, then: &[Kill, Broker(2), Kill, Start, Broker(1), Start], ends: Ends::Later },
            Run { seed: 42, first: 1, then: &[Broker(3), Start, Kill, Broker(1)], ends: Ends::Later },
            Run { seed: 43, first: 2, then: &[Broker(2), Kill, Start, Broker(3), Kill, Start], ends: Ends::Later },
        ],
    );
}
