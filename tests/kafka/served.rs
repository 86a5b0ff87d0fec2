//! Members that come and go, seen from outside: how soon partitions are served again, who waits for whom, and what metrics
//! tell of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::broker::Brokers;
use super::{ONE_RULE, event};
use crate::admin::{address, scrape};
use crate::support::daemon::{Daemon, Running, ids};
use crate::support::kafka::Kafka;

/// Partitions of events.
const PARTITIONS: usize = 12;

/// A member of the group, and where its metrics are.
struct Member {
    _running: Running,
    address: String,
}

impl Member {
    fn start(config: &Daemon) -> Member {
        let mut running = config.start();
        let address = address(&mut running);
        Member { _running: running, address }
    }

    /// How many partitions of a topic it has, as it tells.
    fn has(&self, topic: &str) -> usize {
        of(&scrape(&self.address), "auditwatch_kafka_partitions", topic) as usize
    }
}

/// Waits for what takes a while: members count every 5 s.
fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
    }
}

fn of(found: &BTreeMap<String, f64>, metric: &str, label: &str) -> f64 {
    let series = found.iter().filter(|(name, _)| name.starts_with(metric) && name.contains(&format!("\"{label}\"")));
    series.map(|(_, value)| value).sum()
}

fn config(kafka: &Kafka, lateness: &str) -> Daemon {
    let config = Daemon::with_source("{}");
    let text = format!(
        "sources: [{}]\ndistributed: {{matches_topic: matches, alerts_topic: alerts}}\nlateness: {lateness}\n{ONE_RULE}\n\
         admin: {{listen: '127.0.0.1:0'}}\n",
        kafka.source("[audit]", ", cluster: eu")
    );
    std::fs::write(config.path("run.yaml"), text).unwrap();
    config
}

fn alerts(kafka: &Kafka) -> Vec<Value> {
    kafka.read("alerts").iter().map(|came| serde_json::from_slice(&came.value).unwrap()).collect()
}

/// The numbers of the events that alerts were told of, each told once.
fn told(kafka: &Kafka) -> BTreeSet<String> {
    let alerts = alerts(kafka);
    ids(&alerts);
    alerts.iter().map(|alert| alert["events"][0]["audit_id"].as_str().unwrap().to_owned()).collect()
}

fn named(numbers: std::ops::Range<i64>) -> BTreeSet<String> {
    numbers.map(|n| format!("a-{n}")).collect()
}

/// What members that live are given by the product's own clocks: the group misses a member 6 s after its last sign
/// (`session.timeout.ms`), and tells the others with their next one (3 s); what the dead one had open is given up by the broker
/// when it looks next (every 10 s) after 4 s. So it is 14 s at worst, of which the last needs the kill to come just as
/// the broker has looked and as a transaction has begun.
const SERVED_AGAIN: Duration = Duration::from_secs(15);

#[test]
#[ignore = "needs java and mvn"]
fn a_killed_member_s_partitions_are_served_again_and_what_came_to_both_is_told_once() {
    let Some(brokers) = Brokers::up(1) else { return };
    let kafka = &brokers.kafka;
    let config = config(kafka, "1s");
    // Members are given as many partitions each, whatever they hold: so both have some of events.
    brokers.create_with(&config, PARTITIONS, 1, &["--matches-partitions", "4"]);
    let (one, other) = (Member::start(&config), Member::start(&config));
    wait_for("both have partitions of both topics", || {
        let all = |topic: &str, n: usize| one.has(topic) + other.has(topic) == n;
        let both = |topic: &str| one.has(topic) > 0 && other.has(topic) > 0;
        all("audit", PARTITIONS) && all("matches", 4) && both("audit")
    });
    for member in [&one, &other] {
        assert!(of(&scrape(&member.address), "auditwatch_kafka_rebalances_total", "assigned") >= 1.0);
    }
    // Each request comes to every partition, so to both members.
    let everywhere = |n: i64| (0..PARTITIONS).for_each(|to| kafka.send("audit", to as i32, event(n).as_bytes()));
    (0..40).for_each(everywhere);
    kafka.flush();
    wait_for("what both were given is told", || told(kafka).len() >= 38);
    // It has a transaction open, as often as not.
    (40..60).for_each(everywhere);
    drop(other);
    let killed = Instant::now();
    for n in 60..200 {
        kafka.send("audit", (n % PARTITIONS as i64) as i32, event(n).as_bytes());
    }
    // Every partition goes on, for all before it to be due.
    everywhere(300);
    kafka.flush();
    while !told(kafka).is_superset(&named(0..200)) {
        assert!(killed.elapsed() < SERVED_AGAIN, "not served again: {} of 200", told(kafka).len());
    }
    wait_for("one has all, and has read it", || {
        let lag = of(&scrape(&one.address), "auditwatch_kafka_lag_records", "audit");
        one.has("audit") == PARTITIONS && one.has("matches") == 4 && lag == 0.0
    });
    assert!(told(kafka).is_subset(&(&named(0..200) | &named(300..301))));
}

#[test]
#[ignore = "needs java and mvn"]
fn who_owns_no_matches_does_not_run_ahead_of_the_slowest_either() {
    let Some(brokers) = Brokers::up(1) else { return };
    let kafka = &brokers.kafka;
    // Nothing is idle for as long as this takes.
    let config = config(kafka, "1h");
    brokers.create_with(&config, PARTITIONS, 1, &["--matches-partitions", "1"]);
    let members = [Member::start(&config), Member::start(&config)];
    let owners = || members.iter().filter(|member| member.has("matches") == 1).count();
    wait_for("both have partitions of events, and one has that of matches", || {
        members.iter().all(|member| member.has("audit") > 1) && owners() == 1
    });
    let group_has_read = || -> Vec<i64> { kafka.committed("audit", "aw") };
    let wait_until_read =
        |records: &[i64]| wait_for(&format!("the group has read {records:?}"), || group_has_read() == records);
    let all_at = |n: i64, but: usize| {
        let to = (0..PARTITIONS).filter(|to| *to != but);
        to.for_each(|to| kafka.send("audit", to as i32, event(n).as_bytes()));
        kafka.flush();
    };
    // In turn each is left behind: so at times one of the owner's is, and at times one of the other's.
    let mut read = vec![0; PARTITIONS];
    let mut now = 0;
    for slow in 0..PARTITIONS {
        all_at(now, PARTITIONS);
        read.iter_mut().for_each(|read| *read += 1);
        wait_until_read(&read);
        // More than 10 minutes ahead: that is known when it was read, and nothing more is.
        all_at(now + 700, slow);
        (0..PARTITIONS).filter(|at| *at != slow).for_each(|at| read[at] += 1);
        wait_until_read(&read);
        all_at(now + 1_400, slow);
        let waits = Instant::now() + Duration::from_secs(2);
        while Instant::now() < waits {
            assert_eq!(group_has_read(), read, "somebody runs ahead");
        }
        (0..PARTITIONS).filter(|at| *at != slow).for_each(|at| read[at] += 1);
        kafka.send("audit", slow as i32, event(now + 1_400).as_bytes());
        kafka.flush();
        read[slow] += 1;
        wait_until_read(&read);
        now += 1_400;
    }
    assert_eq!(owners(), 1);
}
