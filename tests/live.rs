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
fn what_is_wrong_ends_with_3() {
    let daemon = Daemon::new("latenes: 3s");
    let ran = daemon.once();
    assert_eq!(ran.code, Some(3));
    assert!(ran.err.contains("did you mean `lateness`"), "{}", ran.err);
}
