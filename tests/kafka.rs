//! Kafka, by its real protocol: librdkafka's mock cluster answers in this process. What is read from topics is told as a
//! replay tells it, whatever happens to the daemon and to its partitions.

mod broker;
mod members;
mod secure;
mod served;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::daemon::{Daemon, by_id, ids};
use crate::support::kafka::{Came, Kafka};
use crate::support::logs::{self, Random, secrets_listed, synthetic, three_servers};
use crate::support::{auditwatch, ran, replay};

fn replayed(lines: &[String]) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    logs::write(&dir.path().join("whole.log"), lines);
    replay(&[], [dir.path().join("whole.log")])
}

/// Sends lines to any partitions, each partition in order.
fn scatter(kafka: &Kafka, topic: &str, partitions: usize, lines: &[String], seed: u64) {
    let mut random = Random(seed);
    for line in lines {
        kafka.send(topic, random.below(partitions) as i32, line.trim_end().as_bytes());
    }
    kafka.flush();
}

/// With all rules, one event may be told more than once.
const ONE_RULE: &str = "rules: [detections/secrets/secrets-listed.yml]";

fn event(n: i64) -> String {
    secrets_listed(&format!("a-{n}"), n).to_string()
}

#[test]
fn once_tells_what_a_replay_tells_and_tells_it_once() {
    let lines = synthetic(11, 4_000);
    let expected = by_id(replayed(&lines));
    let kafka = Kafka::mock(&[("audit", 6)]);
    let daemon = Daemon::with_source(&kafka.source("[audit]", ""));
    let mut told = Vec::new();
    for (n, part) in lines.chunks(lines.len() / 3 + 1).enumerate() {
        scatter(&kafka, "audit", 6, part, n as u64);
        told.extend(daemon.once().alerts());
    }
    ids(&told);
    assert_eq!(by_id(daemon.stored(&[])), expected);
    assert_eq!(daemon.once().alerts().len(), 0, "told twice");
    let source = &told[0]["source"];
    assert_eq!(source["kind"], "kafka");
    assert!(source["name"].as_str().unwrap().starts_with("audit/"), "{source}");
}

#[test]
fn topics_by_pattern_are_clusters_of_their_own() {
    let mut lines = three_servers();
    lines.sort_by_key(|line| logs::time_of(line));
    let kafka = Kafka::mock(&[("audit-eu", 2), ("audit-us", 2), ("other", 1)]);
    scatter(&kafka, "audit-eu", 2, &lines, 1);
    scatter(&kafka, "audit-us", 2, &lines, 2);
    kafka.send("other", 0, b"no event");
    kafka.flush();
    let daemon = Daemon::with_source(&kafka.source("[\"^audit-.*\"]", ", cluster_from: topic"));
    let told = daemon.once().alerts();
    for cluster in ["audit-eu", "audit-us"] {
        let dir = tempfile::tempdir().unwrap();
        logs::write(&dir.path().join("whole.log"), &lines);
        let expected = replay(&["--cluster", cluster], [dir.path().join("whole.log")]);
        let of_cluster = told.iter().filter(|alert| alert["cluster"] == cluster).cloned().collect();
        assert_eq!(by_id(of_cluster), by_id(expected), "{cluster}");
    }
    assert!(told.iter().all(|alert| alert["cluster"] != "other"));
}

#[test]
fn clusters_by_header_are_kept_apart_and_come_back() {
    let mut lines = three_servers();
    lines.sort_by_key(|line| logs::time_of(line));
    let kafka = Kafka::mock(&[("audit", 3)]);
    let daemon = Daemon::with_source(&kafka.source("[audit]", ", cluster_from: \"header:cluster\""));
    let (mut random, mut of) = (Random(5), [Vec::new(), Vec::new()]);
    for part in lines.chunks(lines.len() / 4 + 1) {
        for line in part {
            let cluster = random.below(2);
            of[cluster].push(line.clone());
            let header = [("cluster", ["eu", "us"][cluster])];
            kafka.send_with("audit", random.below(3) as i32, line.trim_end().as_bytes(), &header);
        }
        kafka.flush();
        daemon.once().alerts();
    }
    let stored = daemon.stored(&[]);
    for (cluster, lines) in ["eu", "us"].iter().zip(of) {
        let dir = tempfile::tempdir().unwrap();
        logs::write(&dir.path().join("whole.log"), &lines);
        let expected = replay(&["--cluster", cluster], [dir.path().join("whole.log")]);
        let of_cluster = stored.iter().filter(|alert| alert["cluster"] == *cluster).cloned().collect();
        assert_eq!(by_id(of_cluster), by_id(expected), "{cluster}");
    }
}

#[test]
fn poisonous_records_are_counted_put_aside_and_block_nothing() {
    let kafka = Kafka::mock(&[("audit", 1), ("dead", 1)]);
    let huge = vec![b'x'; 200_000];
    let torn = event(2)[..200].to_owned();
    let pretty = "{\n\"kind\": \"Event\",\n\"auditID\": \"x\",\n";
    kafka.send("audit", 0, event(0).as_bytes());
    for poison in
        [b"no json".as_slice(), b"{\"kind\":\"Pod\"}", torn.as_bytes(), &huge, b"\xff\xfe", b"", pretty.as_bytes()]
    {
        kafka.send("audit", 0, poison);
    }
    kafka.send("audit", 0, event(1).as_bytes());
    kafka.flush();
    let source = kafka.source("[audit]", ", dead_letter_topic: dead");
    let daemon = Daemon::with_source(&source);
    daemon.configure(&source, &format!("{ONE_RULE}\nmax_record: 64KiB"));
    let ran = daemon.once();
    let told: Vec<String> =
        ran.alerts().iter().map(|a| a["events"][0]["audit_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, ["a-0", "a-1"]);
    assert_eq!(ran.alerts()[1]["source"]["position"], "8", "the offset of its record");
    let dead = kafka.read("dead");
    let offset = |letter: &Came| letter.headers.iter().find(|(name, _)| name == "auditwatch-offset").unwrap().1.clone();
    let offsets: BTreeSet<String> = dead.iter().map(offset).collect();
    assert_eq!(offsets, ["1", "2", "3", "4", "5", "7"].map(str::to_owned).into(), "{:?}", ran.err);
    let first = dead.iter().find(|letter| offset(letter) == "1").unwrap();
    assert_eq!((first.value.as_slice(), first.key.as_str()), (b"no json".as_slice(), "audit/0"));
    assert!(ran.err.contains("1 too large"), "{}", ran.err);
}

#[test]
fn alerts_go_to_a_topic_by_id() {
    let lines = synthetic(3, 600);
    let kafka = Kafka::mock(&[("audit", 2), ("alerts", 2)]);
    let source = kafka.source("[audit]", "");
    let daemon = Daemon::with_source(&source);
    daemon.configure(
        &source,
        &format!("sinks: [{{type: stdout}}, {{type: kafka, brokers: [\"{}\"], topic: alerts}}]", kafka.brokers),
    );
    scatter(&kafka, "audit", 2, &lines, 1);
    let told = daemon.once().alerts();
    let came = kafka.read("alerts");
    let alerts: Vec<Value> = came.iter().map(|came| serde_json::from_slice(&came.value).unwrap()).collect();
    assert!(came.iter().zip(&alerts).all(|(came, alert)| alert["id"] == came.key.as_str()));
    assert_eq!(by_id(alerts), by_id(told));
}

#[test]
fn what_is_wrong_is_told_before_anything_runs() {
    let kafka = Kafka::mock(&[("audit", 1)]);
    for (more, topics, code, said) in [
        (", options: {no.such.option: 1}", "[audit]", 3, "no.such.option"),
        (", options: {group.id: x}", "[audit]", 3, "say group"),
        (", options_files: {sasl.password: /nowhere/x}", "[audit]", 3, "/nowhere/x"),
        ("", "[missing]", 4, "topic missing is not there"),
    ] {
        let daemon = Daemon::with_source(&kafka.source(topics, more));
        let ran = daemon.once();
        assert_eq!(ran.code, Some(code), "{more}: {}", ran.err);
        assert!(ran.err.contains(said), "{more}: {}", ran.err);
    }
}

#[test]
fn topics_are_printed_and_created() {
    let kafka = Kafka::mock(&[("audit", 1)]);
    let source = kafka.source("[audit, \"^x\"]", ", dead_letter_topic: dead");
    let daemon = Daemon::with_source(&source);
    daemon.configure(&source, &format!("sinks: [{{type: kafka, brokers: [\"{}\"], topic: alerts}}]", kafka.brokers));
    let printed = ran(auditwatch().args(["kafka", "topics", "-c"]).arg(daemon.path("run.yaml")));
    for part in ["--topic audit --partitions 12", "--topic dead", "--topic alerts", "min.insync.replicas=2"] {
        assert!(printed.out.contains(part), "{part}: {} {}", printed.out, printed.err);
    }
    assert!(!printed.out.contains("^x"));
}

#[test]
fn a_daemon_goes_on_where_it_was_and_tells_the_group() {
    let kafka = Kafka::mock(&[("audit", 2)]);
    let source = kafka.source("[audit]", "");
    let daemon = Daemon::with_source(&source);
    daemon.configure(&source, &format!("{ONE_RULE}\nlateness: 0"));
    let mut told = BTreeSet::new();
    // What a sink took just before it was killed may come again, with the same id.
    let next = |running: &mut crate::support::daemon::Running, told: &mut BTreeSet<String>| loop {
        let alert = running.next_alert();
        if told.insert(alert["id"].to_string()) {
            return alert["events"][0]["audit_id"].as_str().unwrap().to_owned();
        }
    };
    for n in 0..3 {
        // Killed each time: what was read is not read again, what came meanwhile is.
        kafka.send("audit", n % 2, event(i64::from(n)).as_bytes());
        kafka.flush();
        let mut running = daemon.start();
        assert_eq!(next(&mut running, &mut told), format!("a-{n}"));
        kafka.send("audit", 1, event(10 + i64::from(n)).as_bytes());
        kafka.flush();
        assert_eq!(next(&mut running, &mut told), format!("a-{}", 10 + n));
    }
    assert_eq!(daemon.stored(&[]).len(), 6);
}

#[test]
fn metrics_tell_of_partitions_of_what_is_not_read_and_of_the_group() {
    let kafka = Kafka::mock(&[("audit", 3)]);
    let source = kafka.source("[audit]", "");
    let daemon = Daemon::with_source(&source);
    // Nothing is idle, and no partition is read far ahead of another.
    daemon.configure(&source, &format!("{ONE_RULE}\nlateness: 1m\nadmin: {{listen: '127.0.0.1:0'}}"));
    (0..3).for_each(|to| kafka.send("audit", to, event(0).as_bytes()));
    kafka.flush();
    let mut running = daemon.start();
    let address = crate::admin::address(&mut running);
    // Where each of them stands is known before one has more.
    let at_start = |found: &std::collections::BTreeMap<String, f64>| {
        found.keys().filter(|name| name.starts_with("auditwatch_source_lag_seconds{source=\"audit/")).count() == 3
    };
    crate::admin::scrape_until(&address, at_start);
    for n in [600, 1_200] {
        [0, 2].into_iter().for_each(|to| kafka.send("audit", to, event(n).as_bytes()));
        kafka.flush();
    }
    // Too much for a block.
    let many: Vec<String> = (1_300..1_300 + 5_000).map(event).collect();
    many.iter().for_each(|event| kafka.send("audit", 0, event.as_bytes()));
    kafka.flush();
    let of = |found: &std::collections::BTreeMap<String, f64>, name: &str| found.get(name).copied().unwrap_or(-1.0);
    let lag = "auditwatch_kafka_lag_records{topic=\"audit\"}";
    let found = crate::admin::scrape_until(&address, |found| of(found, lag) > 0.0);
    assert_eq!(of(&found, "auditwatch_kafka_partitions{topic=\"audit\"}"), 3.0);
    assert!(of(&found, "auditwatch_kafka_rebalances_total{change=\"assigned\"}") >= 1.0, "{found:#?}");
    assert!(of(&found, lag) <= 5_007.0, "{found:#?}");
    // The slowest goes on, and so do all.
    kafka.send("audit", 1, event(8_000).as_bytes());
    kafka.flush();
    crate::admin::scrape_until(&address, |found| of(found, lag) == 0.0);
}
