//! The sample logs give the alerts that are expected of them. After a change of rules that is meant:
//! `UPDATE_EXPECTED=1 cargo test --test all samples`, and read the difference.

use std::fs;

use serde_json::{Value, json};

use crate::support::{auditwatch, expect_file, ran, root};

/// The sample logs, and what must fire on each whatever becomes of the rules.
const SAMPLES: [(&str, &str, &[&str]); 7] = [
    ("failed-logins", "failed-logins.log", &["AUTHN-001", "AUTHN-003"]),
    ("token-storm", "token-storm.log.gz", &["AUTHN-001"]),
    ("secret-harvest", "secret-harvest.log", &["SEC-002"]),
    ("cluster-admin", "cluster-admin.log", &["RBAC-001", "RBAC-013"]),
    ("full-attack", "full-attack.log.gz", &["WL-005", "AUTHN-014", "RBAC-001", "RBAC-014", "PSS-B01", "WL-020"]),
    ("quiet-day", "quiet-day.log.gz", &[]),
    ("three-servers", "three-servers", &["AUTHN-003", "SEC-002", "RBAC-001"]),
];

fn alerts(log: &str) -> Vec<Value> {
    ran(auditwatch().args(["replay", "-q", "--format", "json", &format!("sample-logs/{log}")])).alerts()
}

/// What of an alert is expected to stay as it is while rules get better texts and tags.
fn reduced(alert: &Value) -> Value {
    json!({
        "time": alert["time"],
        "level": alert["rule"]["level"],
        "ref": alert["rule"]["ref"],
        "rule": alert["rule"]["id"],
        "actor": alert["actor"]["username"],
        "count": alert["count"],
        "audit_id": alert["events"].as_array().unwrap().last().unwrap()["audit_id"],
    })
}

#[test]
fn each_gives_the_alerts_expected_of_it() {
    for (name, log, must) in SAMPLES {
        let alerts = alerts(log);
        for reference in must {
            assert!(alerts.iter().any(|alert| alert["rule"]["ref"] == *reference), "{log}: no {reference}");
        }
        let lines: String = alerts.iter().map(|alert| format!("{}\n", reduced(alert))).collect();
        expect_file(&format!("sample-logs/expected/{name}.jsonl"), &lines);
    }
}

#[test]
fn a_quiet_day_wakes_nobody() {
    let loud = |alert: &Value| !["informational", "low"].contains(&alert["rule"]["level"].as_str().unwrap());
    assert_eq!(alerts("quiet-day.log.gz").into_iter().filter(loud).collect::<Vec<_>>(), [] as [Value; 0]);
}

#[test]
fn every_sample_is_small_and_told_of() {
    let readme = fs::read_to_string(root().join("sample-logs/README.md")).unwrap();
    for entry in fs::read_dir(root().join("sample-logs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !["README.md", "expected"].contains(&name.as_str()) {
            assert!(SAMPLES.iter().any(|(_, log, _)| *log == name), "{name} is not tested");
            assert!(readme.contains(&format!("`{name}")), "{name} is not in README.md");
        }
    }
    for (_, log, _) in SAMPLES {
        let stats = tempfile::NamedTempFile::new().unwrap();
        let path = format!("sample-logs/{log}");
        let run = ran(auditwatch().args(["replay", "-q", "--strict", &path, "--stats"]).arg(stats.path()));
        assert_eq!(run.code, Some(0), "{log}: {}", run.err);
        let stats: Value = serde_json::from_str(&fs::read_to_string(stats.path()).unwrap()).unwrap();
        assert!((50..500).contains(&stats["events"].as_u64().unwrap()), "{log}: {}", stats["events"]);
    }
}

#[test]
fn replay_prints_what_it_printed() {
    for (format, golden) in [("json", "replay.jsonl"), ("table", "replay.txt")] {
        let run = ran(auditwatch().args(["replay", "sample-logs", "--format", format]));
        assert_eq!(run.code, Some(0), "{}", run.err);
        expect_file(&format!("tests/golden/{golden}"), &run.out);
        // The first line tells how long it took.
        let (first, rest) = run.err.split_once('\n').unwrap();
        assert!(first.contains(" events of ") && first.contains(" in 9 inputs, "), "{first}");
        expect_file("tests/golden/replay.stderr", rest);
    }
}
