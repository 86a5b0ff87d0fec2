//! The tables, and which version of them a file has.

use rusqlite::{Connection, TransactionBehavior, params};

use super::{Entry, JournalError};

/// Turns the tables of one version into those of the next.
type Step = fn(&Connection) -> Result<(), JournalError>;

/// What turns each version of the tables below into the next one, from the first on. Files keep theirs as `user_version`.
const STEPS: [Step; 2] = [tell_clusters, remember_states];

const VERSION: i64 = STEPS.len() as i64 + 1;

const TABLES: &str = "
CREATE TABLE streams(
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, cluster TEXT NOT NULL,
    front INTEGER, ended INTEGER NOT NULL, position TEXT NOT NULL) STRICT;
CREATE TABLE watermarks(cluster TEXT PRIMARY KEY, time_us INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE entries(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, newest_us INTEGER NOT NULL, body BLOB NOT NULL,
    cluster TEXT NOT NULL DEFAULT '') STRICT;
CREATE INDEX entries_by_cluster ON entries(cluster, newest_us);
CREATE TABLE alerts(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, time_us INTEGER NOT NULL,
    stored_us INTEGER NOT NULL, level INTEGER NOT NULL, rule TEXT NOT NULL, reference TEXT NOT NULL,
    username TEXT NOT NULL, body TEXT NOT NULL) STRICT;
CREATE INDEX alerts_by_time ON alerts(time_us);
CREATE TABLE sinks(
    name TEXT PRIMARY KEY, delivered INTEGER NOT NULL, state TEXT NOT NULL DEFAULT '') STRICT, WITHOUT ROWID;
";

/// Makes the tables in a new file, and sets how it is written: a commit is on the disk when it returns.
pub(super) fn prepare(db: &mut Connection) -> Result<(), JournalError> {
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // A log that has grown is cut again, so that one large commit does not hold its space for ever.
    db.pragma_update(None, "journal_size_limit", 16 << 20)?;
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found == 0 {
        transaction.execute_batch(TABLES)?;
    }
    for (_, step) in (1..).zip(STEPS).filter(|(from, _)| (1..=*from).contains(&found)) {
        step(&transaction)?;
    }
    if found < VERSION {
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()?;
    check(db)
}

/// From version 1 to 2: whose an entry is stands beside it.
fn tell_clusters(db: &Connection) -> Result<(), JournalError> {
    db.execute_batch(
        "ALTER TABLE entries ADD COLUMN cluster TEXT NOT NULL DEFAULT '';
         CREATE INDEX entries_by_cluster ON entries(cluster, newest_us);",
    )?;
    let mut found = db.prepare("SELECT seq, body FROM entries")?;
    let mut rows = found.query([])?;
    let mut tell = db.prepare("UPDATE entries SET cluster = ?2 WHERE seq = ?1")?;
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        let entry = Entry::decode(row.get_ref(1)?.as_blob().unwrap_or_default(), seq)?;
        tell.execute(params![seq, entry.cluster])?;
    }
    Ok(())
}

/// From version 2 to 3: what a sink has to remember stands beside how far it has got.
fn remember_states(db: &Connection) -> Result<(), JournalError> {
    Ok(db.execute_batch("ALTER TABLE sinks ADD COLUMN state TEXT NOT NULL DEFAULT ''")?)
}

/// Whether the file is one that this program understands; alerts are the same in all versions there were.
pub(super) fn check(db: &Connection) -> Result<(), JournalError> {
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if (1..=VERSION).contains(&found) { Ok(()) } else { Err(JournalError::Version { found, known: VERSION }) }
}
