//! The daemon: what it tells is what a replay tells, whatever happens to it and to the logs it follows.

use std::fs;

use crate::support::daemon::{Daemon, by_id, ids};
use crate::support::logs::{self, sample, synthetic, three_servers};
use crate::support::replay;

fn replayed(lines: &[String]) -> Vec<serde_json::Value> {
    let dir = tempfile::tempdir().unwrap();
    logs::write(&dir.path().join("whole.log"), lines);
    replay(&[], [dir.path().join("whole.log")])
}

#[test]
fn once_tells_what_a_replay_tells_and_tells_it_once() {
    for (name, lines) in [
        ("failed-logins", sample("failed-logins.log")),
        ("full-attack", sample("full-attack.log.gz")),
        ("synthetic", synthetic(7, 3_000)),
    ] {
        let daemon = Daemon::new("");
        // Everything in the future of an old sample has passed; without its last newline.
        daemon.append(lines.concat().trim_end());
        let first = daemon.once();
        assert_eq!(by_id(first.alerts()), by_id(replayed(&lines)), "{name}");
        assert_eq!(daemon.once().alerts().len(), 0, "{name}: told twice");
        assert_eq!(by_id(daemon.stored(&[])), by_id(replayed(&lines)), "{name}");
    }
}

#[test]
fn once_in_pieces_is_once_in_one() {
    let mut lines = three_servers();
    lines.sort_by_key(|line| logs::time_of(line));
    let daemon = Daemon::new("");
    let mut told = Vec::new();
    for (n, part) in lines.chunks(lines.len() / 7 + 1).enumerate() {
        daemon.append(&part.concat());
        if n % 3 == 2 {
            daemon.rotate(n);
        }
        told.extend(daemon.once().alerts());
    }
    ids(&told);
    assert_eq!(by_id(daemon.stored(&[])), by_id(replayed(&lines)));
}

#[test]
fn clusters_of_envelopes_come_back_after_a_restart() {
    let mut lines = three_servers();
    lines.sort_by_key(|line| logs::time_of(line));
    let loki = |(n, line): (usize, &String)| {
        let cluster = ["a", "b"][n / 5 % 2];
        let values = ["1", line.trim_end()];
        serde_json::json!({"streams": [{"stream": {"cluster": cluster}, "values": [values]}]}).to_string() + "\n"
    };
    let lines: Vec<String> = lines.iter().enumerate().map(loki).collect();
    let expected = replayed(&lines);
    assert!(["a", "b"].iter().all(|name| expected.iter().any(|alert| alert["cluster"] == *name)));
    let daemon = Daemon::new("");
    for part in lines.chunks(lines.len() / 5 + 1) {
        daemon.append(&part.concat());
        daemon.once();
    }
    assert_eq!(by_id(daemon.stored(&[])), by_id(expected));
}

#[test]
fn stored_alerts_answer_questions() {
    let daemon = Daemon::new("");
    daemon.append(&synthetic(3, 500).concat());
    daemon.once().alerts();
    let all = daemon.stored(&[]);
    let high = daemon.stored(&["--level", "high"]);
    assert!(!high.is_empty() && high.len() < all.len());
    assert!(high.iter().all(|alert| ["high", "critical"].contains(&alert["rule"]["level"].as_str().unwrap())));
    let middle = all[all.len() / 2]["time"].as_str().unwrap();
    let since = daemon.stored(&["--since", middle]);
    assert!(since.len() < all.len() && since.iter().all(|alert| alert["time"].as_str().unwrap() >= middle));
    let user = daemon.stored(&["--user", "oscar"]);
    assert!(!user.is_empty() && user.iter().all(|alert| alert["actor"]["username"] == "oscar"));
    let rule = all[0]["rule"]["id"].as_str().unwrap();
    assert!(daemon.stored(&["--rule", rule]).iter().all(|alert| alert["rule"]["id"] == rule));
    assert!(daemon.stored(&["--since", "1h"]).is_empty() || middle > "2026-11-24");
}

#[test]
fn alerts_go_to_every_sink() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("alerts.jsonl");
    let daemon = Daemon::new(&format!("sinks: [{{type: stdout}}, {{type: file, path: \"{}\"}}]", file.display()));
    daemon.append(&synthetic(3, 300).concat());
    let told = daemon.once();
    told.alerts();
    assert_eq!(fs::read_to_string(&file).unwrap(), told.out);
    // A sink that fails loses nothing: it is told at the next start.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    daemon.append(&synthetic(4, 300).concat());
    let failed = daemon.once();
    assert_eq!(failed.code, Some(4), "{}", failed.err);
    fs::remove_dir(&file).unwrap();
    assert_eq!(daemon.once().out, "");
    assert_eq!(fs::read_to_string(&file).unwrap(), failed.out);
}

#[test]
fn what_could_not_be_read_is_kept() {
    let daemon = Daemon::new("");
    let dead = daemon.path("dead.jsonl");
    let source = format!("{{type: file, paths: [\"{}\"]}}", daemon.path("audit.log").display());
    daemon.configure(&source, &format!("dead_letter: {{path: \"{}\"}}\nmax_record: 8KiB", dead.display()));
    let long = "x".repeat(20_000);
    daemon.append(&format!("no event\n{{\"odd\":1}}\n{long}\n{}\n{{\"torn", logs::secrets_listed("a-1", 1)));
    assert!(!daemon.once().alerts().is_empty());
    daemon.append("\n");
    daemon.once();
    let kept: Vec<serde_json::Value> =
        fs::read_to_string(&dead).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let raw: Vec<_> = kept.iter().map(|one| (one["offset"].as_u64().unwrap(), one["raw"].as_str())).collect();
    let torn = fs::read_to_string(daemon.path("audit.log")).unwrap().find("{\"torn").unwrap() as u64;
    assert_eq!(raw[0], (0, Some("no event")), "{raw:?}");
    assert_eq!(raw[1].0, 19);
    assert_eq!(raw.last(), Some(&(torn, Some("{\"torn"))));
    // That it cannot be kept stops nothing.
    fs::remove_file(&dead).unwrap();
    fs::create_dir(&dead).unwrap();
    assert_eq!(daemon.once().code, Some(3));
}

#[test]
fn what_is_wrong_ends_with_3() {
    let daemon = Daemon::new("latenes: 3s");
    let ran = daemon.once();
    assert_eq!(ran.code, Some(3));
    assert!(ran.err.contains("did you mean `lateness`"), "{}", ran.err);
}

/// With all rules, one event may be told more than once.
const ONE_RULE: &str = "rules: [detections/secrets/secrets-listed.yml]";

#[test]
fn a_rule_tells_at_once_and_a_store_that_is_busy_is_waited_for() {
    let daemon = Daemon::new(ONE_RULE);
    let mut running = daemon.start();
    let event = |n: i64| format!("{}\n", logs::secrets_listed(&format!("a-{n}"), n));
    daemon.append(&event(0));
    assert_eq!(running.next_alert()["events"][0]["audit_id"], "a-0");
    // Nobody can write: no space, a disk that is read-only, or (here) a lock.
    let lock = rusqlite::Connection::open(daemon.path("state.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    daemon.append(&event(1));
    running.wait_for("nothing is read until it can be written");
    daemon.append(&event(2));
    lock.execute_batch("ROLLBACK").unwrap();
    running.wait_for("can be written again");
    for n in 1..3 {
        assert_eq!(running.next_alert()["events"][0]["audit_id"], format!("a-{n}"));
    }
}

#[test]
fn a_clock_that_is_ahead_is_told_and_holds_nothing_up() {
    let daemon = Daemon::new(ONE_RULE);
    let mut running = daemon.start();
    let year = 365 * 86_400;
    daemon.append(&format!("{}\n", logs::secrets_listed("ahead", 50 * year)));
    let alert = running.next_alert();
    assert!(alert["time"].as_str().unwrap() < "2070", "{alert}");
    running.wait_for("later than this machine's clock");
    daemon.append(&format!("{}\n", logs::secrets_listed("right", 0)));
    let alert = running.next_alert();
    assert_eq!((&alert["events"][0]["audit_id"], alert.get("late")), (&"right".into(), None));
}

/// A log that is no longer followed must not hold back what others tell.
#[test]
fn a_source_that_is_gone_holds_nothing_up() {
    let daemon = Daemon::new("");
    let lines = sample("failed-logins.log");
    let source = |name: &str| format!("{{type: file, lateness: 100ms, paths: [\"{}\"]}}", daemon.path(name).display());
    fs::write(daemon.path("old.log"), format!("{}\n", logs::secrets_listed("a", 0))).unwrap();
    daemon.configure(&source("old.log"), "max_skew: 0");
    daemon.start().next_alert();
    daemon.configure(&source("audit.log"), "max_skew: 0");
    let mut running = daemon.start();
    daemon.append(&lines.concat());
    // It waits for the watermark, which goes to the newest event when all have fallen silent.
    while running.next_alert()["kind"] != "correlation" {}
}

/// What is too old is forgotten by runs that end as well.
#[test]
fn alerts_are_kept_as_long_as_is_said() {
    let daemon = Daemon::new(ONE_RULE);
    let event = |n: i64| format!("{}\n", logs::secrets_listed(&format!("a-{n}"), n));
    daemon.append(&event(0));
    assert_eq!(daemon.once().alerts().len(), 1);
    assert_eq!(daemon.stored(&[]).len(), 1);
    let config = fs::read_to_string(daemon.path("run.yaml")).unwrap();
    fs::write(daemon.path("run.yaml"), config.replace("state.db\"}", "state.db\", retention: 0}")).unwrap();
    daemon.append(&event(1));
    assert_eq!(daemon.once().alerts().len(), 1);
    // The last one was not delivered yet when the others were forgotten.
    let stored = daemon.stored(&[]);
    assert!(stored.len() == 1 && stored[0]["events"][0]["audit_id"] == "a-1", "{stored:?}");
}
