//! A daemon for tests: its configuration, its log and its store in one folder.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::{Ran, auditwatch, ran};

/// A folder with a configuration; the log is `audit.log` in it.
pub struct Daemon {
    pub dir: tempfile::TempDir,
}

impl Daemon {
    /// Follows `audit.log`, tells standard output. `more` is added to the configuration.
    pub fn new(more: &str) -> Daemon {
        let daemon = Daemon { dir: tempfile::tempdir().unwrap() };
        let log = daemon.path("audit*.log");
        daemon.configure(&format!("{{type: file, paths: [\"{}\"]}}", log.display()), more);
        daemon
    }

    /// With another source, in the flow style of YAML.
    pub fn with_source(source: &str) -> Daemon {
        let daemon = Daemon { dir: tempfile::tempdir().unwrap() };
        daemon.configure(source, "");
        daemon
    }

    pub fn configure(&self, source: &str, more: &str) {
        let store = self.path("state.db");
        let text = format!("sources: [{source}]\nstore: {{path: \"{}\"}}\n{more}\n", store.display());
        fs::write(self.path("run.yaml"), text).unwrap();
    }

    /// Runs it until the guard is dropped.
    pub fn start(&self) -> Running {
        self.start_with(&[])
    }

    /// The same with variables of the environment.
    pub fn start_with(&self, environment: &[(&str, &str)]) -> Running {
        let mut child = self
            .command()
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut running = Running { child, err, out, said: String::new() };
        running.wait_for("ready");
        running
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn append(&self, text: &str) {
        self.append_bytes(text.as_bytes());
    }

    pub fn append_bytes(&self, bytes: &[u8]) {
        let log = OpenOptions::new().append(true).create(true).open(self.path("audit.log"));
        log.unwrap().write_all(bytes).unwrap();
    }

    /// Waits until the store knows that all of the log, which has so many bytes with its rotated files, was read.
    pub fn wait_until_read(&self, bytes: usize) {
        let store = rusqlite::Connection::open(self.path("state.db")).unwrap();
        store.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
        let read = || -> u64 {
            // Nothing of it may be stored yet.
            let found = store.query_row("SELECT position FROM streams", [], |row| row.get::<_, String>(0));
            let position: Value = serde_json::from_str(&found.unwrap_or_default()).unwrap_or_default();
            let done = position["done"].as_array().cloned().unwrap_or_default();
            let lengths = done.iter().filter_map(|done| done["length"].as_u64());
            lengths.sum::<u64>() + position["offset"].as_u64().unwrap_or(0)
        };
        let (_held, never) = std::sync::mpsc::channel::<()>();
        while read() < bytes as u64 {
            let _ = never.recv_timeout(std::time::Duration::from_millis(5));
        }
    }

    /// As lumberjack does.
    pub fn rotate(&self, n: usize) {
        let to = self.path(&format!("audit-2026-11-23T{:02}-{:02}-{:02}.000.log", n / 3600, n / 60 % 60, n % 60));
        fs::rename(self.path("audit.log"), to).unwrap();
    }

    pub fn command(&self) -> Command {
        let mut command = auditwatch();
        command.args(["run", "-c"]).arg(self.path("run.yaml"));
        command
    }

    pub fn once(&self) -> Ran {
        ran(self.command().arg("--once"))
    }

    /// The stored alerts.
    pub fn stored(&self, args: &[&str]) -> Vec<Value> {
        let store = self.path("state.db");
        let ran = ran(auditwatch().args(["alerts", "--format", "json"]).args(args).arg("--store").arg(store));
        ran.alerts()
    }
}

/// A daemon that runs; it is killed when this is dropped.
pub struct Running {
    child: Child,
    err: BufReader<ChildStderr>,
    pub out: BufReader<ChildStdout>,
    said: String,
}

impl Running {
    /// Waits until it has said something on standard error; returns the line.
    pub fn wait_for(&mut self, what: &str) -> String {
        loop {
            if let Some(line) = self.said.lines().find(|line| line.contains(what)) {
                return line.to_owned();
            }
            assert!(self.err.read_line(&mut self.said).unwrap() > 0, "ended without {what:?}: {}", self.said);
        }
    }

    /// Waits until it has said it so many times.
    pub fn wait_for_times(&mut self, what: &str, times: usize) {
        while self.said.matches(what).count() < times {
            assert!(self.err.read_line(&mut self.said).unwrap() > 0, "ended without {what:?}: {}", self.said);
        }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop; its exit code, and what it said.
    pub fn stop(mut self) -> (Option<i32>, String) {
        let asked = Command::new("kill").args(["-TERM", &self.id().to_string()]).status().unwrap();
        assert!(asked.success());
        std::io::Read::read_to_string(&mut self.err, &mut self.said).unwrap();
        (self.child.wait().unwrap().code(), std::mem::take(&mut self.said))
    }

    /// The next alert that it tells.
    pub fn next_alert(&mut self) -> Value {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The ids of alerts.
pub fn ids(alerts: &[Value]) -> BTreeSet<String> {
    let ids: BTreeSet<String> = alerts.iter().map(|alert| alert["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), alerts.len(), "an alert twice");
    ids
}

/// Alerts by id, without the one field that may differ.
pub fn by_id(mut alerts: Vec<Value>) -> Vec<Value> {
    alerts.iter_mut().for_each(|alert| drop(alert.as_object_mut().unwrap().remove("source")));
    alerts.sort_by_key(|alert| alert["id"].to_string());
    alerts
}
