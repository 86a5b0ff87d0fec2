//! The daemon is killed at any instant while its log is written and rotated; what is stored in the end is what an
//! undisturbed replay tells: nothing lost, nothing twice.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use crate::support::daemon::{Daemon, by_id, ids};
use crate::support::logs::{self, Random, synthetic};
use crate::support::replay;

#[test]
fn killed_at_any_instant() {
    killed(1, 8, 4_000);
}

/// Minutes: `cargo test --test all crash -- --ignored`
#[test]
#[ignore = "takes minutes"]
fn killed_hundreds_of_times() {
    for seed in 10..20 {
        killed(seed, 40, 20_000);
    }
}

/// Waits without a clock of its own.
fn wait(ms: usize) {
    let (_held, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(Duration::from_millis(ms as u64));
}

fn next_line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "it has ended");
    line
}

fn killed(seed: u64, kills: usize, events: usize) {
    let lines = synthetic(seed, events);
    let daemon = Daemon::new("");
    let log = daemon.path("whole.txt");
    logs::write(&log, &lines);
    let expected = replay(&[], [&log]);
    fs::remove_file(&log).unwrap();

    let mut random = Random(seed);
    let text = lines.concat();
    let (mut written, mut rotations) = (0, 0);
    for kill in 0..kills {
        let mut child = daemon.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // Killing it while it reads its rules would prove little.
        let mut said = BufReader::new(child.stderr.take().unwrap());
        while !next_line(&mut said).ends_with("ready\n") {}
        let until = if kill + 1 == kills { text.len() } else { text.len() * (kill + 1) / kills };
        while written < until {
            // Mostly some lines, and some part of the next.
            let next = (written + 1 + random.below(text.len() / kills / 3)).min(until);
            daemon.append(&text[written..next]);
            written = next;
            if random.below(6) == 0 {
                // A writer rotates between lines.
                let end = written + text[written..].find('\n').map_or(0, |newline| newline + 1);
                daemon.append(&text[written..end]);
                written = end;
                daemon.rotate(rotations);
                rotations += 1;
            }
            if random.below(3) == 0 {
                wait(random.below(30));
            }
        }
        wait(random.below(120));
        // One of them at least is killed when it has stored something, however busy the machine is.
        while kill == kills / 2 && daemon.stored(&[]).is_empty() {
            wait(10);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let said: Vec<String> = said.lines().map(Result::unwrap).collect();
        let trouble: Vec<_> = said.iter().filter(|line| !line.contains("not there")).collect();
        assert!(trouble.is_empty(), "seed {seed}, kill {kill}: {trouble:?}");
    }
    let last = daemon.once();
    assert_eq!(last.code, Some(0), "{}", last.err);
    let stored = daemon.stored(&[]);
    let (stored_ids, expected_ids) = (ids(&stored), ids(&expected));
    let lost: Vec<_> = expected_ids.difference(&stored_ids).collect();
    let invented: Vec<_> = stored_ids.difference(&expected_ids).collect();
    assert!(lost.is_empty() && invented.is_empty(), "seed {seed}: lost {lost:?}, invented {invented:?}");
    let counts = |alerts: Vec<serde_json::Value>| -> Vec<String> {
        by_id(alerts).iter().map(|alert| format!("{} {} {}", alert["id"], alert["count"], alert["window"])).collect()
    };
    assert_eq!(counts(stored), counts(expected), "seed {seed}");
}
