//! The admin port: what a scrape tells is what happened.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::daemon::{Daemon, Running};
use crate::support::logs;

/// With all rules, one event may be told more than once.
const CONFIG: &str = "rules: [detections/secrets/secrets-listed.yml]\nadmin: {listen: '127.0.0.1:0'}";
const RULE: &str = "rule=";

pub fn address(running: &mut Running) -> String {
    running.wait_for("admin: listening on").rsplit(' ').next().unwrap().to_owned()
}

/// One request; the status, and the body.
pub fn get(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// Series and their values.
pub fn scrape(address: &str) -> BTreeMap<String, f64> {
    let (status, text) = get(address, "GET /metrics");
    assert_eq!(status, 200);
    let series = text.lines().filter(|line| !line.starts_with('#'));
    series
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.into(), value.parse().unwrap()))
        .collect()
}

/// Scrapes until it holds: counts are brought together twice a second, and lags every five.
pub fn scrape_until(address: &str, holds: impl Fn(&BTreeMap<String, f64>) -> bool) -> BTreeMap<String, f64> {
    for _ in 0..100_000 {
        let found = scrape(address);
        if holds(&found) {
            return found;
        }
    }
    panic!("never: {:#?}", scrape(address));
}

#[test]
fn a_scrape_tells_what_happened() {
    let daemon = Daemon::new(CONFIG);
    let mut running = daemon.start();
    let address = address(&mut running);
    let found = scrape(&address);
    let of = |prefix: &str| -> Vec<f64> {
        found.iter().filter(|(name, _)| name.starts_with(prefix) && name.contains(RULE)).map(|(_, n)| *n).collect()
    };
    // A rule is there before it ever holds.
    let alerts = of("auditwatch_alerts_total");
    assert!(!alerts.is_empty() && alerts.iter().all(|count| *count == 0.0), "{alerts:?}");
    daemon.append(&format!("{}\nno event\n{{\"odd\": 1}}\n", logs::secrets_listed("a-1", 1)));
    running.next_alert();
    let taken =
        |found: &BTreeMap<String, f64>| found.get("auditwatch_sink_alerts_total{sink=\"stdout\"}") == Some(&1.0);
    let found = scrape_until(&address, |found| taken(found) && sum(found, "auditwatch_rule_matches_total") == 1.0);
    assert_eq!(sum(&found, "auditwatch_events_total"), 1.0);
    assert_eq!(sum(&found, "auditwatch_alerts_total"), 1.0);
    for (reason, count) in [("unreadable", 1.0), ("not_audit", 1.0), ("too_large", 0.0)] {
        let log = daemon.path("audit.log");
        let name = format!("auditwatch_records_rejected_total{{reason=\"{reason}\",source=\"{}\"}}", log.display());
        assert_eq!(found.get(&name), Some(&count), "{name} in {found:#?}");
    }
    for name in ["auditwatch_store_bytes", "process_resident_memory_bytes", "auditwatch_clock_seconds"] {
        assert!(found[name] > 0.0, "{name}");
    }
    assert!(sum(&found, "auditwatch_build_info") == 1.0 && sum(&found, "auditwatch_source_newest_event_seconds") > 1e9);
}

fn sum(found: &BTreeMap<String, f64>, family: &str) -> f64 {
    found.iter().filter(|(name, _)| name.split('{').next() == Some(family)).map(|(_, value)| value).sum()
}

#[test]
fn health_follows_the_store() {
    let daemon = Daemon::new(CONFIG);
    let mut running = daemon.start();
    let address = address(&mut running);
    let status = |path: &str| get(&address, &format!("GET {path}")).0;
    scrape_until(&address, |_| status("/readyz") == 200);
    let lock = rusqlite::Connection::open(daemon.path("state.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    daemon.append(&format!("{}\n", logs::secrets_listed("a-1", 1)));
    running.wait_for("nothing is read until it can be written");
    scrape_until(&address, |found| status("/readyz") == 503 && sum(found, "auditwatch_store_commits_total") > 0.0);
    assert_eq!(status("/healthz"), 200);
    lock.execute_batch("ROLLBACK").unwrap();
    running.next_alert();
    scrape_until(&address, |_| status("/readyz") == 200);
    assert_eq!((status("/nowhere"), get(&address, "POST /metrics").0), (404, 405));
}

#[test]
fn an_address_that_is_taken_ends_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let daemon = Daemon::new(&format!("admin: {{listen: '{}'}}", taken.local_addr().unwrap()));
    let ran = crate::support::ran(&mut daemon.command());
    assert_eq!(ran.code, Some(3));
    assert!(ran.err.contains("admin: cannot listen on 127.0.0.1:"), "{}", ran.err);
}
