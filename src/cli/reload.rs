//! When the configuration is read again: on SIGHUP, and when one of its files changes. It is read and compiled in a thread of
//! its own; what is wrong with it is told, and changes nothing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::Value;

use super::log::Say;
use super::prepare::{self, Prepared};
use super::run::RunArgs;
use crate::config::run::RunConfig;
use crate::metrics::Metrics;
use crate::pipeline::live::Reload;

/// How often it is looked whether there was a signal, or a change.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Files that are looked at, at most; what stands behind them is read again on SIGHUP only.
const FILES_MAX: usize = 10_000;
/// Keys that hold from the next start on.
const AT_START: &[&str] =
    &["sources", "store", "admin", "dead_letter", "max_skew", "max_record", "cluster", "log_format", "lateness"];

/// A flag that SIGHUP sets.
pub(super) fn hangup() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&flag)).context("signals")?;
    Ok(flag)
}

/// Looks, for as long as somebody takes what it finds.
pub(super) fn watch(
    args: RunArgs,
    config: &RunConfig,
    told: Value,
    hangup: Arc<AtomicBool>,
    metrics: Metrics,
    say: Say,
) -> anyhow::Result<Receiver<Reload>> {
    let (to, reloads) = bounded(1);
    let files = prepare::files(&args.config, config, &told);
    let seen = if config.reload_on_change { Some(look(&files)) } else { None };
    let watcher = Watcher { args, told, files, seen, hangup, metrics, say, to };
    thread::Builder::new().name("reload".to_owned()).spawn(move || watcher.run()).context("reload")?;
    Ok(reloads)
}

struct Watcher {
    args: RunArgs,
    /// What was put together at the start.
    told: Value,
    files: Vec<PathBuf>,
    /// How they were when they were read; none if nobody looks.
    seen: Option<u64>,
    hangup: Arc<AtomicBool>,
    metrics: Metrics,
    say: Say,
    to: Sender<Reload>,
}

impl Watcher {
    fn run(mut self) {
        let mut changed = None;
        loop {
            let _ = crossbeam_channel::never::<()>().recv_timeout(LOOK_EVERY);
            let asked = self.hangup.swap(false, Ordering::Relaxed);
            let now = self.seen.map(|_| look(&self.files));
            // A file that is being written is left alone until it is as it was at the look before.
            let settled = now != self.seen && now == changed;
            changed = now;
            if !asked && !settled {
                continue;
            }
            self.seen = now;
            match self.read() {
                Ok(reload) => {
                    if self.to.send(reload).is_err() {
                        return;
                    }
                }
                Err(what) => {
                    self.metrics.reload(false);
                    self.say.problem(&format!("reload: the old configuration stays: {what}"));
                }
            }
        }
    }

    fn read(&mut self) -> Result<Reload, String> {
        let read = prepare::read(&self.args.config, &self.args.layers());
        let prepared = read.map_err(|error| super::chain(&error))?.map_err(|rules| rules.text())?;
        prepared.tell();
        let said = format!("reload: done: {}", prepared.counted());
        let Prepared { config, told, engine, sinks, .. } = prepared;
        let later: Vec<&str> = AT_START.iter().copied().filter(|key| told.get(key) != self.told.get(key)).collect();
        if !later.is_empty() {
            self.say.problem(&format!("reload: {} will hold from the next start on", later.join(", ")));
        }
        self.files = prepare::files(&self.args.config, &config, &told);
        self.seen = config.reload_on_change.then(|| look(&self.files));
        Ok(Reload { core: Box::new(move || engine.live()), sinks, said })
    }
}

/// What files are, in a number: another one if any of them changes, comes or goes.
fn look(files: &[PathBuf]) -> u64 {
    let mut hash = DefaultHasher::new();
    let mut todo: Vec<PathBuf> = files.to_vec();
    let mut looked = 0;
    while let Some(path) = todo.pop() {
        looked += 1;
        if looked > FILES_MAX {
            break;
        }
        look_at(&path, &mut hash);
        // A folder's files; a link to a folder could lead back here.
        if path.is_dir() && (files.contains(&path) || !path.is_symlink()) {
            let mut inner: Vec<PathBuf> =
                std::fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()).collect();
            inner.sort();
            todo.extend(inner);
        }
    }
    hash.finish()
}

fn look_at(path: &Path, hash: &mut DefaultHasher) {
    path.hash(hash);
    // A link is followed: Kubernetes changes a mounted ConfigMap by turning one.
    match std::fs::metadata(path) {
        Ok(found) => (found.ino(), found.mtime(), found.mtime_nsec(), found.len()).hash(hash),
        Err(_) => 0.hash(hash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_sees_what_changes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rules/a/b.yml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let files = [dir.path().join("rules"), dir.path().join("link"), dir.path().join("missing")];
        let mut seen = vec![look(&files)];
        assert_eq!(look(&files), seen[0]);
        let steps: [&dyn Fn(); 5] = [
            &|| std::fs::write(&file, "a").unwrap(),
            &|| std::fs::write(&file, "ab").unwrap(),
            &|| std::os::unix::fs::symlink(&file, &files[1]).unwrap(),
            &|| std::fs::write(&files[2], "").unwrap(),
            &|| std::fs::remove_file(&file).unwrap(),
        ];
        for step in steps {
            step();
            let now = look(&files);
            assert!(!seen.contains(&now), "{}", seen.len());
            seen.push(now);
        }
    }
}
