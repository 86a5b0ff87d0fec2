//! Whichever way events come in, the alerts are those of a replay, with the same ids.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::daemon::{Daemon, ids};
use crate::support::logs::{self, Random, sample, three_servers};
use crate::support::replay;
use crate::webhook;

/// The same lateness for all ways, and events of whatever time.
const CONFIG: &str = "lateness: 60s\nmax_skew: 0";

fn check(name: &str, lines: &[String]) {
    let dir = tempfile::tempdir().unwrap();
    logs::write(&dir.path().join("whole.log"), lines);
    let expected = replay(&["--lateness", "60s"], [dir.path().join("whole.log")]);
    let of_rules: Vec<Value> = expected.iter().filter(|alert| alert["kind"] == "rule").cloned().collect();
    let (expected, of_rules) = (ids(&expected), ids(&of_rules));
    type Way = fn(&Daemon, &[String]);
    let ways: [(&str, Way); 3] = [("once", once), ("tail", tail), ("webhook", post)];
    for (way, run) in ways {
        let daemon = Daemon::new(CONFIG);
        run(&daemon, lines);
        if way != "once" {
            // A rule's alert leaves at once.
            let all_told = || of_rules.is_subset(&ids(&daemon.stored(&[])));
            assert!(all_told(), "{name}, {way}: {:?}", of_rules.difference(&ids(&daemon.stored(&[]))));
        }
        assert_eq!(daemon.once().code, Some(0));
        let stored = ids(&daemon.stored(&[]));
        let lost: Vec<_> = expected.difference(&stored).collect();
        let invented: Vec<_> = stored.difference(&expected).collect();
        assert!(lost.is_empty() && invented.is_empty(), "{name}, {way}: lost {lost:?}, invented {invented:?}");
    }
}

/// Read to the end, and again.
fn once(daemon: &Daemon, lines: &[String]) {
    daemon.append(&lines.concat());
    assert_eq!(daemon.once().code, Some(0));
    assert_eq!(daemon.once().out, "");
}

/// Written in pieces that end anywhere, with rotations, and killed when all was read.
fn tail(daemon: &Daemon, lines: &[String]) {
    let running = daemon.start();
    let (text, mut random, mut written) = (lines.concat(), Random(5), 0);
    for rotation in 0.. {
        let next = (written + 1 + random.below(text.len() / 4)).min(text.len());
        let end = next + text.as_bytes()[next..].iter().position(|b| *b == b'\n').map_or(0, |newline| newline + 1);
        for part in [written..next, next..end] {
            daemon.append_bytes(&text.as_bytes()[part]);
        }
        written = end;
        if written == text.len() {
            break;
        }
        daemon.rotate(rotation);
    }
    daemon.wait_until_read(text.len());
    drop(running);
}

/// Posted in lists.
fn post(daemon: &Daemon, lines: &[String]) {
    daemon.configure(webhook::PLAIN_ANY_SIZE, CONFIG);
    let mut running = daemon.start();
    let address = webhook::address(&mut running);
    let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for batch in events.chunks(100) {
        assert_eq!(webhook::post(&address, &webhook::list(batch)).0, 200);
    }
}

#[test]
fn every_way_in_gives_the_ids_of_a_replay() {
    for name in
        ["failed-logins.log", "secret-harvest.log", "cluster-admin.log", "full-attack.log.gz", "token-storm.log.gz"]
    {
        check(name, &sample(name));
    }
    let mut lines = three_servers();
    lines.sort_by_key(|line| logs::time_of(line));
    check("three servers", &lines);
}

/// One input, two clusters, one of which is a day ahead: neither delays nor spoils the other's windows.
#[test]
fn clusters_side_by_side_in_one_input_each_keep_their_time() {
    let wrapped = |cluster: &str, line: &str| {
        let values = ["1", line.trim_end()];
        serde_json::json!({"streams": [{"stream": {"cluster": cluster}, "values": [values]}]}).to_string() + "\n"
    };
    let mut lines = Vec::new();
    for (n, line) in sample("failed-logins.log").iter().enumerate() {
        lines.push(wrapped("a", line));
        if n % 7 == 0 {
            let ahead = logs::secrets_listed(&format!("ahead-{n}"), 86_400 + n as i64);
            lines.push(wrapped("b", &ahead.to_string()));
        }
    }
    check("two clusters", &lines);
    let dir = tempfile::tempdir().unwrap();
    logs::write(&dir.path().join("whole.log"), &lines);
    let of = |cluster: &str, kind: &str| {
        let alerts = replay(&[], [dir.path().join("whole.log")]);
        alerts.iter().filter(|alert| alert["cluster"] == cluster && alert["kind"] == kind).count()
    };
    assert!(of("a", "correlation") > 0 && of("b", "rule") > 0);
}

/// `AUDITWATCH_LOGS=DIR cargo test --test all ways -- --ignored`
#[test]
#[ignore = "reads the logs of a folder that is named in AUDITWATCH_LOGS"]
fn every_way_in_gives_the_ids_of_a_replay_of_a_folder() {
    let dir = PathBuf::from(std::env::var_os("AUDITWATCH_LOGS").expect("AUDITWATCH_LOGS names a folder"));
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().contains(".log"));
    files.sort();
    assert!(!files.is_empty());
    for path in files {
        let mut bytes = fs::read(&path).unwrap();
        if path.extension().is_some_and(|ending| ending == "gz") {
            let mut text = Vec::new();
            flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap();
            bytes = text;
        }
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        if lines.iter().any(|line| serde_json::from_str::<Value>(line).is_err()) {
            eprintln!("{}: left out, not all of its lines are events", path.display());
            continue;
        }
        eprintln!("{}", path.display());
        check(&path.display().to_string(), &lines);
    }
}
