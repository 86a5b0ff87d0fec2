//! Disks that are full or cannot be written: nothing is lost, it is told, and it passes without a restart. A disk of its own
//! takes the right to mount one; where that is missing the tests say so and pass.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::daemon::Daemon;
use crate::support::logs;

/// With all rules, one event may be told more than once.
const ONE_RULE: &str = "rules: [detections/secrets/secrets-listed.yml]";

/// A small disk in memory.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn mount(options: &str) -> Option<Disk> {
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).output();
        if !made.is_ok_and(|made| made.status.success()) {
            eprintln!("SKIPPED: no right to mount a disk for this test");
            return None;
        }
        Some(Disk { dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Leaves no byte free; the file that does it.
    fn fill(&self) -> PathBuf {
        let path = self.path("filler");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[b'x'; 4096]).is_ok() {}
        while file.write_all(b"x").is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.dir.path()).output();
    }
}

fn configure(daemon: &Daemon, store: &Path, more: &str) {
    let log = daemon.path("audit.log");
    let text = format!(
        "sources: [{{type: file, paths: [\"{}\"]}}]\nstore: {{path: \"{}\"}}\n{ONE_RULE}\n{more}\n",
        log.display(),
        store.display()
    );
    fs::write(daemon.path("run.yaml"), text).unwrap();
}

fn event(n: i64) -> String {
    format!("{}\n", logs::secrets_listed(&format!("a-{n}"), n))
}

#[test]
fn a_full_disk_is_waited_for() {
    let Some(disk) = Disk::mount("size=2m") else { return };
    let daemon = Daemon::new("");
    configure(&daemon, &disk.path("state.db"), "admin: {listen: '127.0.0.1:0'}");
    let mut running = daemon.start();
    let admin = running.wait_for("admin: listening on").rsplit(' ').next().unwrap().to_owned();
    daemon.append(&event(0));
    assert_eq!(running.next_alert()["events"][0]["audit_id"], "a-0");
    let filler = disk.fill();
    // More than what is left in pages that the store has already.
    daemon.append(&(1..300).map(event).collect::<String>());
    let said = running.wait_for("nothing is read until it can be written");
    assert!(said.contains("full"), "{said}");
    let failed = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("auditwatch_store_commits_total{outcome=\"failed\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    assert!((0..10_000).any(|_| failed(&crate::admin::get(&admin, "GET /metrics").1) >= 1.0));
    assert!((0..10_000).any(|_| crate::admin::get(&admin, "GET /readyz").0 == 503));
    daemon.append(&event(300));
    fs::remove_file(filler).unwrap();
    running.wait_for("can be written again");
    let told: Vec<String> =
        (1..=300).map(|_| running.next_alert()["events"][0]["audit_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, (1..=300).map(|n| format!("a-{n}")).collect::<Vec<_>>());
}

#[test]
fn a_sink_on_a_full_disk_gets_its_alerts_when_there_is_room() {
    let Some(disk) = Disk::mount("size=256k") else { return };
    let daemon = Daemon::new("");
    let alerts = disk.path("alerts.jsonl");
    configure(&daemon, &daemon.path("state.db"), &format!("sinks: [{{type: file, path: \"{}\"}}]", alerts.display()));
    let mut running = daemon.start();
    let filler = disk.fill();
    daemon.append(&(0..20).map(event).collect::<String>());
    running.wait_for("trying again, alerts are stored meanwhile");
    fs::remove_file(filler).unwrap();
    running.wait_for("takes alerts again");
    // What was told is on the disk before that is said.
    let told: Vec<String> = fs::read_to_string(&alerts).unwrap().lines().map(audit_id).collect();
    assert!(!told.is_empty() && told == (0..told.len()).map(|n| format!("a-{n}")).collect::<Vec<_>>(), "{told:?}");
}

fn audit_id(line: &str) -> String {
    let alert: serde_json::Value = serde_json::from_str(line).unwrap();
    alert["events"][0]["audit_id"].as_str().unwrap().to_owned()
}

#[test]
fn a_store_that_cannot_be_written_at_all_is_told_at_the_start() {
    let Some(disk) = Disk::mount("size=1m,ro") else { return };
    let daemon = Daemon::new("");
    configure(&daemon, &disk.path("state.db"), "");
    daemon.append(&event(0));
    let ran = daemon.once();
    assert_eq!(ran.code, Some(3), "{}", ran.err);
    assert!(ran.err.contains("store") && ran.err.contains("Read-only"), "{}", ran.err);
}

#[test]
fn a_log_that_vanishes_is_told_and_waited_for() {
    let daemon = Daemon::new("");
    configure(&daemon, &daemon.path("state.db"), "admin: {listen: '127.0.0.1:0'}");
    let mut running = daemon.start();
    let admin = running.wait_for("admin: listening on").rsplit(' ').next().unwrap().to_owned();
    let failing = |value: &str| {
        let name = format!("auditwatch_source_failing{{source=\"{}\"}} {value}", daemon.path("audit.log").display());
        (0..10_000).any(|_| crate::admin::get(&admin, "GET /metrics").1.lines().any(|line| line == name))
    };
    running.wait_for("is not there yet; waiting for it");
    assert!(failing("1"));
    daemon.append(&event(0));
    assert_eq!(running.next_alert()["events"][0]["audit_id"], "a-0");
    assert!(failing("0"));
    fs::remove_file(daemon.path("audit.log")).unwrap();
    daemon.append(&event(1));
    assert_eq!(running.next_alert()["events"][0]["audit_id"], "a-1");
}
