//! The journal: one SQLite file that holds what a daemon must not forget. How far each source was read, what it matched
//! and the alerts made from it are committed together; windows are a fold over the matches and are not stored.
#![allow(clippy::disallowed_methods, reason = "the journal is a file")]

pub mod record;
mod schema;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::rules::Level;

pub use record::{Entry, Mark, Restorer, Stored};

/// How long a reader waits for the writer, and the other way round.
const BUSY: Duration = Duration::from_secs(1);

/// What can be wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be opened or made.
    #[error("store {path}: {source}; its folder must exist and be writable")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The lock beside the file cannot be made.
    #[error("store {path}: cannot lock it: {source}")]
    Lock {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process writes it.
    #[error("store {path}: another auditwatch uses it; stop that one, or give this one a store of its own")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Made by a later version.
    #[error("store: its format is version {found}, this auditwatch knows {known}; use a newer auditwatch")]
    Version {
        /// The file's.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// An entry cannot be read.
    #[error("store: entry {seq} is damaged; restore the file from a backup, or move it away to begin anew")]
    Entry {
        /// Its number.
        seq: i64,
    },
    /// Reading or writing failed.
    #[error("store: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// A source as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRow {
    /// Its row; stays the same as long as the journal lives.
    pub id: u32,
    /// What it is, e.g. `file:/var/log/kubernetes/audit/audit.log`.
    pub key: String,
    /// Name of its cluster.
    pub cluster: String,
    /// Newest event time read, microseconds.
    pub front: Option<i64>,
    /// Whether it had ended, or fallen silent.
    pub ended: bool,
    /// Where to go on; what it says is the source's own matter. Empty if nothing was read.
    pub position: String,
}

/// An alert as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAlert {
    /// Its id; a repeat is dropped by it.
    pub id: String,
    /// Event time, microseconds.
    pub time_us: i64,
    /// The rule's level; stored as 0 (informational) to 4 (critical).
    pub level: Level,
    /// The rule's id.
    pub rule: String,
    /// The rule's short id, or empty.
    pub reference: String,
    /// Who did it.
    pub username: String,
    /// Whether a correlation gave it; not stored by itself.
    pub correlation: bool,
    /// The alert as a line of JSON.
    pub body: String,
}

/// What is committed together.
#[derive(Debug, Default)]
pub struct Commit {
    /// Matches, in the order in which the windows took them.
    pub entries: Vec<Entry>,
    /// Sources that moved.
    pub streams: Vec<StreamRow>,
    /// Clusters' watermarks that moved, microseconds.
    pub watermarks: Vec<(String, i64)>,
    /// Alerts; those whose id is known are dropped.
    pub alerts: Vec<NewAlert>,
    /// How far sinks have got.
    pub delivered: Vec<Delivered>,
}

/// How far a sink has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Its name.
    pub sink: String,
    /// The number of the last alert it has taken.
    pub last: i64,
    /// What it has to remember, if that is not what it was.
    pub state: Option<String>,
}

/// How many bytes of alerts are read at once; one alert may be more.
const ALERT_BYTES_AT_ONCE: usize = 4 << 20;

impl Commit {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        let Commit { entries, streams, watermarks, alerts, delivered } = self;
        entries.is_empty() && streams.is_empty() && watermarks.is_empty() && alerts.is_empty() && delivered.is_empty()
    }

    /// Whether it holds what must not be found a second time by reading again: matches and alerts.
    pub fn is_urgent(&self) -> bool {
        !self.entries.is_empty() || !self.alerts.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Commit::default();
    }
}

/// What is asked of the stored alerts.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Not before this event time, microseconds.
    pub since_us: Option<i64>,
    /// At least this level, 0 to 4.
    pub level_min: u8,
    /// Of this rule: its id or short id.
    pub rule: Option<String>,
    /// By this user.
    pub user: Option<String>,
}

/// An open journal.
pub struct Journal {
    db: Connection,
    /// Held as long as the journal is open.
    _lock: Option<File>,
}

impl Journal {
    /// Opens a journal to write to, and makes it if it is not there. Only one process may.
    ///
    /// # Errors
    /// The file cannot be opened, is in use, or is no journal.
    pub fn open(path: &Path) -> Result<Journal, JournalError> {
        let lock_path = PathBuf::from(format!("{}.lock", path.display()));
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock_path);
        let lock = lock.map_err(|source| JournalError::Lock { path: lock_path.clone(), source })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(JournalError::Lock { path: lock_path, source }),
        }
        // SQLite makes files that everybody may read; what happened in a cluster is not everybody's business.
        let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        drop(made);
        let open = |source| JournalError::Open { path: path.to_owned(), source };
        let mut db = Connection::open(path).map_err(open)?;
        db.busy_timeout(BUSY)?;
        schema::prepare(&mut db)?;
        Ok(Journal { db, _lock: Some(lock) })
    }

    /// Opens a journal to read alerts from, beside the process that writes it.
    ///
    /// # Errors
    /// The file is not there or is no journal.
    pub fn open_to_read(path: &Path) -> Result<Journal, JournalError> {
        let open = |source| JournalError::Open { path: path.to_owned(), source };
        // Not read-only: in WAL mode a reader may have to make the shared index beside the file.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)
            .or_else(|_| Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY))
            .map_err(open)?;
        db.busy_timeout(BUSY)?;
        schema::check(&db)?;
        Ok(Journal { db, _lock: None })
    }

    /// The row of a source, made if it is new.
    pub fn stream(&mut self, key: &str, cluster: &str) -> Result<StreamRow, JournalError> {
        self.db.execute(
            "INSERT OR IGNORE INTO streams(key, cluster, ended, position) VALUES (?1, ?2, 0, '')",
            params![key, cluster],
        )?;
        let row = self.db.query_row(&format!("{STREAMS} WHERE key = ?1"), [key], stream_row)?;
        Ok(StreamRow { cluster: cluster.to_owned(), ..row })
    }

    /// All sources that were ever read.
    pub fn streams(&self) -> Result<Vec<StreamRow>, JournalError> {
        let mut found = self.db.prepare(&format!("{STREAMS} ORDER BY id"))?;
        let rows = found.query_map([], stream_row)?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// The watermark of each cluster, microseconds.
    pub fn watermarks(&self) -> Result<Vec<(String, i64)>, JournalError> {
        let mut found = self.db.prepare("SELECT cluster, time_us FROM watermarks ORDER BY cluster")?;
        let rows = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// Hands out all entries in their order.
    pub fn entries(&self, mut take: impl FnMut(Entry)) -> Result<(), JournalError> {
        let mut found = self.db.prepare("SELECT seq, body FROM entries ORDER BY seq")?;
        let mut rows = found.query([])?;
        while let Some(row) = rows.next()? {
            take(Entry::decode(row.get_ref(1)?.as_blob().unwrap_or_default(), row.get(0)?)?);
        }
        Ok(())
    }

    /// Commits everything, or nothing. Returns which of the alerts were new, by their places in
    /// `work`, each with its number.
    ///
    /// # Errors
    /// The disk is full or broken; the same may be tried again later.
    pub fn commit(&mut self, work: &Commit, now_us: i64) -> Result<Vec<(usize, i64)>, JournalError> {
        let transaction = self.db.transaction()?;
        let mut told = Vec::new();
        {
            let mut add =
                transaction.prepare_cached("INSERT INTO entries(newest_us, body, cluster) VALUES (?1, ?2, ?3)")?;
            for entry in &work.entries {
                add.execute(params![entry.newest_time(), entry.encode(), entry.cluster])?;
            }
            let mut move_to = transaction.prepare_cached(
                "UPDATE streams SET cluster = ?2, front = ?3, ended = ?4, position = ?5 WHERE id = ?1",
            )?;
            for s in &work.streams {
                move_to.execute(params![s.id, s.cluster, s.front, s.ended, s.position])?;
            }
            let mut mark = transaction.prepare_cached(
                "INSERT INTO watermarks(cluster, time_us) VALUES (?1, ?2)
                 ON CONFLICT(cluster) DO UPDATE SET time_us = max(time_us, excluded.time_us)",
            )?;
            for (cluster, time) in &work.watermarks {
                mark.execute(params![cluster, time])?;
            }
            let mut tell = transaction.prepare_cached(
                "INSERT INTO alerts(id, time_us, stored_us, level, rule, reference, username, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT(id) DO NOTHING",
            )?;
            for (at, a) in work.alerts.iter().enumerate() {
                let values = params![a.id, a.time_us, now_us, a.level as u8, a.rule, a.reference, a.username, a.body];
                if tell.execute(values)? > 0 {
                    told.push((at, transaction.last_insert_rowid()));
                }
            }
            let mut deliver = transaction
                .prepare_cached("UPDATE sinks SET delivered = ?2, state = coalesce(?3, state) WHERE name = ?1")?;
            for Delivered { sink, last, state } in &work.delivered {
                deliver.execute(params![sink, last, state])?;
            }
        }
        transaction.commit()?;
        Ok(told)
    }

    /// Bytes on disk, with the write-ahead log; 0 if they cannot be told.
    pub fn bytes(&self) -> u64 {
        let size = |path: String| std::fs::metadata(path).map_or(0, |file| file.len());
        self.db.path().map_or(0, |path| size(path.to_owned()) + size(format!("{path}-wal")))
    }

    /// Forgets each cluster's matches with an event time before the one that is told of it, and alerts stored before
    /// `alerts_us` (microseconds). Alerts that a sink has not taken yet stay. At most some thousand of each go at once, so
    /// that nobody waits long. Returns how many went.
    ///
    /// # Errors
    /// The disk is full or broken; the same may be tried again later.
    pub fn prune<'c>(
        &mut self,
        clusters: impl IntoIterator<Item = (&'c str, i64)>,
        alerts_us: i64,
    ) -> Result<usize, JournalError> {
        let mut gone = 0;
        for (cluster, entries_us) in clusters {
            // The oldest entries only: a fold begins somewhere and then misses nothing.
            gone += self.db.execute(
                "DELETE FROM entries WHERE seq IN (SELECT seq FROM entries WHERE cluster = ?1 AND newest_us < ?2
                    AND seq < coalesce((SELECT min(seq) FROM entries WHERE cluster = ?1 AND newest_us >= ?2),
                        (SELECT max(seq) FROM entries WHERE cluster = ?1))
                    ORDER BY seq LIMIT 5000)",
                params![cluster, entries_us],
            )?;
        }
        gone += self.db.execute(
            "DELETE FROM alerts WHERE seq IN (SELECT seq FROM alerts WHERE stored_us < ?1
                AND seq <= coalesce((SELECT min(delivered) FROM sinks), 0) ORDER BY seq LIMIT 5000)",
            [alerts_us],
        )?;
        Ok(gone)
    }

    /// The number of the last alert that a sink has taken, and what it remembers. A sink that is new begins with what
    /// comes from now on.
    pub fn sink(&mut self, name: &str) -> Result<(i64, String), JournalError> {
        self.db.execute(
            "INSERT OR IGNORE INTO sinks(name, delivered) VALUES (?1, coalesce((SELECT max(seq) FROM alerts), 0))",
            [name],
        )?;
        let known = "SELECT delivered, state FROM sinks WHERE name = ?1";
        Ok(self.db.query_row(known, [name], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }

    /// The number of the newest alert; 0 if there is none.
    pub fn newest_alert(&self) -> Result<i64, JournalError> {
        let mut found = self.db.prepare_cached("SELECT coalesce(max(seq), 0) FROM alerts")?;
        Ok(found.query_row([], |row| row.get(0))?)
    }

    /// Forgets sinks that are no longer configured: they would hold back old alerts for ever.
    pub fn keep_sinks(&mut self, names: &[String]) -> Result<(), JournalError> {
        let mut found = self.db.prepare("SELECT name FROM sinks")?;
        let known: Vec<String> = found.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for gone in known.iter().filter(|name| !names.contains(name)) {
            self.db.execute("DELETE FROM sinks WHERE name = ?1", [gone])?;
        }
        Ok(())
    }

    /// Alerts behind number `seq`, with their numbers, at most `max` and some megabytes.
    pub fn alerts_after(&self, seq: i64, max: u32) -> Result<Vec<(i64, String)>, JournalError> {
        let mut found = self.db.prepare_cached("SELECT seq, body FROM alerts WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
        let mut rows = found.query(params![seq, max])?;
        let (mut alerts, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()?.filter(|_| bytes < ALERT_BYTES_AT_ONCE) {
            let line: String = row.get(1)?;
            bytes += line.len();
            alerts.push((row.get(0)?, line));
        }
        Ok(alerts)
    }

    /// Hands out the alerts that answer a query, in the order of event time; `take` returns false to stop.
    pub fn query(&self, query: &Query, mut take: impl FnMut(&str) -> bool) -> Result<(), JournalError> {
        let mut found = self.db.prepare(
            "SELECT body FROM alerts WHERE time_us >= ?1 AND level >= ?2
               AND (?3 IS NULL OR rule = ?3 OR reference = ?3 COLLATE NOCASE) AND (?4 IS NULL OR username = ?4)
             ORDER BY time_us, id",
        )?;
        let since = query.since_us.unwrap_or(i64::MIN);
        let mut rows = found.query(params![since, query.level_min, query.rule, query.user])?;
        while let Some(row) = rows.next()? {
            if !take(row.get_ref(0)?.as_str().unwrap_or_default()) {
                break;
            }
        }
        Ok(())
    }

    /// Whether an alert of this id is stored.
    pub fn knows(&self, id: &str) -> Result<bool, JournalError> {
        let found = self.db.query_row("SELECT 1 FROM alerts WHERE id = ?1", [id], |_| Ok(())).optional()?;
        Ok(found.is_some())
    }
}

const STREAMS: &str = "SELECT id, key, cluster, front, ended, position FROM streams";

fn stream_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<StreamRow> {
    Ok(StreamRow {
        id: row.get(0)?,
        key: row.get(1)?,
        cluster: row.get(2)?,
        front: row.get(3)?,
        ended: row.get(4)?,
        position: row.get(5)?,
    })
}

#[cfg(test)]
mod tests;
