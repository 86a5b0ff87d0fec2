//! The logs that are followed: found by path and pattern, each a stream of batches.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::super::CLUSTERS_MAX;
use super::feed::Feed;
use super::kafka;
use super::{DISCOVER_EVERY, Follow, Grade, Live, LiveError, Plan};
use crate::alert::SourceName;
use crate::engine::matches::{ClusterId, SourceId};
use crate::journal::StreamRow;
use crate::source::Batch;
use crate::source::tail::{StartAt, Tail};

/// How many logs are followed at most: each holds an open file.
const STREAMS_MAX: usize = 512;

/// What a journal calls a log.
const KEY: &str = "file:";

/// A log that is followed.
pub(super) struct Stream {
    pub(super) id: SourceId,
    key: String,
    pub(super) cluster: ClusterId,
    /// None for one whose events are posted.
    tail: Option<Tail>,
    /// For a partition of Kafka.
    pub(super) feed: Option<Feed>,
    /// For what a partition tells of another cluster: the partition's stream.
    pub(super) parent: Option<SourceId>,
    /// Newest event time read.
    pub(super) front: Option<i64>,
    /// Time of its first event, before anything was read.
    pub(super) first: Option<i64>,
    /// Newest event time of everything in it, of other clusters too.
    pub(super) read_to: Option<i64>,
    /// Whether it holds no watermark.
    pub(super) ended: bool,
    /// How far behind its newest event a match may be, microseconds.
    pub(super) lateness_us: i64,
    /// Since when there was nothing to read.
    pub(super) idle_since: Instant,
    /// Whether the journal does not know all of this yet.
    pub(super) moved: bool,
    buffer: Vec<u8>,
}

impl Stream {
    /// Where it holds the watermark of its cluster, without the lateness.
    pub(super) fn known_front(&self) -> Option<i64> {
        self.front.max(self.first)
    }

    /// How far it was read, whatever cluster that was of: for the order of reading.
    pub(super) fn reach(&self) -> Option<i64> {
        self.known_front().max(self.read_to)
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Whether there is more of it that did not come yet.
    pub(super) fn is_awaited(&self, once: bool) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.is_awaited(once))
    }

    /// The next batch, if there is something to read, and the cluster that it names.
    pub(super) fn read(&mut self, to_the_end: bool) -> Option<(Batch, Option<String>)> {
        if let Some(feed) = &mut self.feed {
            let (batch, cluster) = feed.read(std::mem::take(&mut self.buffer), to_the_end)?;
            self.moved = true;
            return Some((Batch { source: self.id, cluster: self.cluster, ..batch }, cluster));
        }
        let block = self.tail.as_mut()?.next_block(std::mem::take(&mut self.buffer), to_the_end)?;
        self.idle_since = Instant::now();
        self.moved = true;
        let batch = Batch {
            source: self.id,
            cluster: self.cluster,
            offset: block.offset,
            bytes: block.bytes,
            oversized: block.oversized,
            goes_on: block.goes_on,
            lost: block.broken.as_ref().is_some_and(|broken| broken.lost),
            broken: block.broken.map(|broken| broken.why),
            ..Batch::default()
        };
        Some((batch, None))
    }

    /// Takes a batch's memory back.
    pub(super) fn reuse(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() <= 4 * crate::source::replay::BLOCK_BYTES {
            self.buffer = buffer;
        }
    }

    /// Whether its file is not there or cannot be read.
    pub(super) fn is_unreadable(&self) -> bool {
        self.tail.as_ref().is_some_and(Tail::is_failing)
    }

    pub(super) fn take_notes(&mut self) -> Vec<String> {
        self.tail.as_mut().map(Tail::take_notes).unwrap_or_default()
    }

    /// What the journal keeps of it.
    pub(super) fn row(&self, clusters: &[String]) -> StreamRow {
        StreamRow {
            id: self.id,
            key: self.key.clone(),
            cluster: clusters[self.cluster as usize].clone(),
            front: self.front,
            ended: self.ended,
            position: match &self.feed {
                Some(feed) => feed.position(),
                None => self.tail.as_ref().map(Tail::position).unwrap_or_default(),
            },
        }
    }
}

impl Live<'_> {
    /// Looks for logs that were not there before.
    pub(super) fn discover(&mut self) -> Result<(), LiveError> {
        if self.discovered_at.is_some_and(|at| at.elapsed() < DISCOVER_EVERY) {
            return Ok(());
        }
        self.discovered_at = Some(Instant::now());
        let known = self.streams.len();
        let found = self.follow_all();
        // All are announced before any is read, so that none is late because another was read first.
        for stream in &mut self.streams[known..] {
            if let (None, Some(tail)) = (stream.front, &mut stream.tail) {
                let believed = self.clock.now_us + self.plan.max_skew_us;
                stream.first = tail.peek_first_time().filter(|first| *first <= believed);
                self.core.windows.add_source(stream.id, stream.cluster, stream.first);
            }
        }
        self.tell_notes();
        if found.is_ok() && !self.plan.once {
            self.let_go();
        }
        match found {
            // A log cannot be followed before the store knows it: it is found again at the next look.
            Err(LiveError::Journal(error)) if !self.plan.once => self.store_fails(&error),
            Err(error) => return Err(error),
            Ok(()) if self.streams.len() > known => self.store_works(),
            Ok(()) => {}
        }
        Ok(())
    }

    /// Sources that the journal knows and nobody reads any more hold no watermark.
    fn let_go(&mut self) {
        for id in std::mem::take(&mut self.restored) {
            if self.streams.iter().all(|stream| stream.id != id) {
                self.core.windows.finish_source(id, &mut self.firings);
            }
        }
        self.store_firings();
    }

    fn follow_all(&mut self) -> Result<(), LiveError> {
        for number in 0..self.plan.follow.len() {
            let follow = self.plan.follow[number].clone();
            for base in bases(&follow.paths) {
                self.follow(&follow, &base)?;
            }
        }
        Ok(())
    }

    fn follow(&mut self, follow: &Follow, base: &Path) -> Result<(), LiveError> {
        let key = format!("{KEY}{}", base.display());
        let logs = self.streams.iter().filter(|stream| stream.tail.is_some()).count();
        if self.streams.iter().any(|stream| stream.key == key) || logs >= STREAMS_MAX {
            return Ok(());
        }
        let path = base.to_string_lossy();
        let cluster = follow.cluster_from.as_ref().and_then(|from| from.find(&path)).unwrap_or(&follow.cluster);
        self.stream(&key, cluster, follow.lateness_us, Some((base, follow.start)))?;
        if logs + 1 == STREAMS_MAX {
            (self.log)(
                Grade::Problem,
                &format!("{STREAMS_MAX} logs are followed, further ones are not: name fewer with sources.paths"),
            );
        }
        Ok(())
    }

    /// Adds a stream; returns its place.
    pub(super) fn stream(
        &mut self,
        key: &str,
        cluster: &str,
        lateness_us: i64,
        log: Option<(&Path, StartAt)>,
    ) -> Result<usize, LiveError> {
        let row = self.journal.stream(key, cluster)?;
        self.core.windows.set_lateness(row.id, lateness_us);
        let cluster = self.cluster(cluster);
        self.name(&row);
        self.streams.push(Stream {
            id: row.id,
            key: row.key,
            cluster,
            tail: log.map(|(base, start)| Tail::new(base, start, &row.position, self.plan.limits)),
            front: row.front,
            feed: None,
            parent: None,
            first: None,
            read_to: None,
            ended: row.ended,
            lateness_us,
            idle_since: Instant::now(),
            moved: false,
            buffer: Vec::new(),
        });
        Ok(self.streams.len() - 1)
    }

    /// The number of a cluster that an envelope names, unless there are too many.
    pub(super) fn cluster_of(&mut self, name: &str) -> Option<ClusterId> {
        let known = self.clusters.iter().any(|known| known == name);
        (known || self.clusters.len() < CLUSTERS_MAX).then(|| self.cluster(name))
    }

    /// The number of a cluster in this run.
    pub(super) fn cluster(&mut self, name: &str) -> ClusterId {
        if let Some(at) = self.clusters.iter().position(|known| known == name) {
            return at as ClusterId;
        }
        self.clusters.push(name.to_owned());
        self.watermarks.push(None);
        self.core.worker.settings_mut().clusters = self.clusters.clone().into();
        (self.clusters.len() - 1) as ClusterId
    }

    /// Remembers what alerts call a source.
    pub(super) fn name(&mut self, row: &StreamRow) {
        let at = row.id as usize;
        if self.names.len() <= at {
            self.names.resize(at + 1, SourceName { kind: "", name: String::new() });
        }
        let of_webhook = || row.key.strip_prefix("webhook:").map(|address| ("webhook", address));
        let of_kafka = || kafka::name_of(&row.key).map(|name| ("kafka", name));
        let of_log = row.key.strip_prefix(KEY).map(|path| ("file", path));
        let (kind, name) = of_log.or_else(of_webhook).or_else(of_kafka).unwrap_or(("", row.key.as_str()));
        self.names[at] = SourceName { kind, name: name.to_owned() };
    }
}

/// How late a source of the journal may be, as far as its name tells which of the plan's it is. One that no longer is among
/// them holds as long as any does.
pub(super) fn lateness_of(plan: &Plan, key: &str) -> i64 {
    let named = |follow: &&Follow| {
        let Some(path) = key.strip_prefix(KEY) else { return false };
        let fits = |name: &String| name == path || glob::Pattern::new(name).is_ok_and(|pattern| pattern.matches(path));
        follow.paths.iter().any(fits)
    };
    let follow = plan.follow.iter().find(named).map(|follow| follow.lateness_us);
    let posts = plan.posts.iter().find(|posts| posts.name == key).map(|posts| posts.lateness_us);
    follow.or(posts).unwrap_or(plan.lateness_max_us)
}

/// The logs that paths and patterns stand for; a rotated file stands for its log. Two names of one file are one log.
fn bases(paths: &[String]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for path in paths {
        if !path.contains(['*', '?', '[']) || Path::new(path).exists() {
            found.insert(PathBuf::from(path));
            continue;
        }
        let matching = paths_like(path).filter(|path| path.is_file());
        found.extend(matching.map(|path| Tail::base_of(&path).unwrap_or(path)));
        found.extend(moved_away(Path::new(path)));
    }
    let mut real = BTreeSet::new();
    found.into_iter().filter(|path| real.insert(path.canonicalize().unwrap_or_else(|_| path.clone()))).collect()
}

/// What a pattern matches; it was read when the run began.
fn paths_like(pattern: &str) -> impl Iterator<Item = PathBuf> + use<> {
    glob::glob(pattern).into_iter().flatten().flatten()
}

/// Logs that a pattern matches though there are only rotated files of them now, which it need not match.
fn moved_away(pattern: &Path) -> Vec<PathBuf> {
    let (Some(folders), Some(name)) = (pattern.parent(), pattern.file_name()) else { return Vec::new() };
    let folders = if folders.as_os_str().is_empty() { Path::new(".") } else { folders };
    let Ok(name) = glob::Pattern::new(&name.to_string_lossy()) else { return Vec::new() };
    let files = paths_like(&folders.to_string_lossy()).filter_map(|folder| folder.read_dir().ok()).flatten();
    let logs = files.flatten().filter_map(|file| Tail::base_of(&file.path()));
    logs.filter(|log| log.file_name().is_some_and(|log| name.matches(&log.to_string_lossy()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_file_stands_for_its_log() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["audit.log", "audit-2026-11-23T10-00-00.000.log", "old-2026-11-23T10-00-00.000.log.gz", "b.log"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink(dir.path().join("b.log"), dir.path().join("z.log")).unwrap();
        let pattern = dir.path().join("*.log*").display().to_string();
        let missing = dir.path().join("missing").display().to_string();
        let found = bases(&[pattern, missing]);
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["audit.log", "b.log", "missing", "old.log"]);
    }

    #[test]
    fn a_log_is_followed_while_there_are_only_rotated_files_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a");
        std::fs::create_dir(&below).unwrap();
        for name in ["audit-2026-11-23T10-00-00.000.log.gz", "audit.log.1.gz", "other.log.1", "audit.txt"] {
            std::fs::write(below.join(name), "x").unwrap();
        }
        for pattern in ["a/audit*.log", "*/audit.log", "**/a*.log"] {
            let found = bases(&[dir.path().join(pattern).display().to_string()]);
            assert_eq!(found, BTreeSet::from([below.join("audit.log")]), "{pattern}");
        }
    }
}
