use super::*;

fn alert(n: i64, level: u8, rule: &str, user: &str) -> NewAlert {
    NewAlert {
        correlation: false,
        id: format!("id-{n}"),
        time_us: n,
        level: [Level::Informational, Level::Low, Level::Medium, Level::High, Level::Critical][usize::from(level)],
        rule: rule.to_owned(),
        reference: rule.to_uppercase(),
        username: user.to_owned(),
        body: format!("{{\"n\":{n}}}"),
    }
}

fn entry(newest: i64) -> Entry {
    Entry {
        source: 1,
        cluster: "c".into(),
        marks: Vec::new(),
        watermark: None,
        newest: Some(newest),
        matches: Vec::new(),
    }
}

fn found(journal: &Journal, query: &Query) -> Vec<String> {
    let mut out = Vec::new();
    journal
        .query(query, |body| {
            out.push(body.to_owned());
            true
        })
        .unwrap();
    out
}

#[test]
fn what_was_committed_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let mut journal = Journal::open(&path).unwrap();
    let stream = journal.stream("file:/a", "c").unwrap();
    let moved = StreamRow { front: Some(7), ended: true, position: "{}".into(), ..stream.clone() };
    let work = Commit {
        entries: vec![entry(1), entry(2)],
        streams: vec![moved.clone()],
        watermarks: vec![("c".into(), 5)],
        alerts: vec![alert(1, 3, "r", "alice"), alert(2, 1, "s", "bob"), alert(1, 3, "r", "alice")],
        delivered: Vec::new(),
    };
    assert_eq!(journal.commit(&work, 100).unwrap(), [(0, 1), (1, 2)]);
    assert!(journal.commit(&work, 100).unwrap().is_empty(), "a repeat is dropped by its id");
    let again = Commit { watermarks: vec![("c".into(), 3)], ..Commit::default() };
    journal.commit(&again, 100).unwrap();
    drop(journal);

    let mut journal = Journal::open(&path).unwrap();
    assert_eq!(journal.stream("file:/a", "c").unwrap(), moved);
    assert_eq!(journal.watermarks().unwrap(), [("c".to_owned(), 5)], "a watermark never goes back");
    let mut entries = Vec::new();
    journal.entries(|e| entries.push(e)).unwrap();
    assert_eq!(entries, [entry(1), entry(2), entry(1), entry(2)]);
    assert!(journal.knows("id-1").unwrap() && !journal.knows("id-3").unwrap());
}

#[test]
fn answers_queries() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let mut journal = Journal::open(&path).unwrap();
    let alerts = vec![alert(3, 4, "r", "alice"), alert(1, 0, "s", "bob"), alert(2, 2, "r", "bob")];
    journal.commit(&Commit { alerts, ..Commit::default() }, 0).unwrap();
    let reader = Journal::open_to_read(&path).unwrap();
    let all = Query::default();
    for (query, expected) in [
        (all.clone(), &[1, 2, 3][..]),
        (Query { since_us: Some(2), ..all.clone() }, &[2, 3]),
        (Query { level_min: 3, ..all.clone() }, &[3]),
        (Query { rule: Some("r".into()), ..all.clone() }, &[2, 3]),
        (Query { rule: Some("S".into()), ..all.clone() }, &[1]),
        (Query { user: Some("bob".into()), level_min: 1, ..all.clone() }, &[2]),
    ] {
        let expected: Vec<_> = expected.iter().map(|n| format!("{{\"n\":{n}}}")).collect();
        assert_eq!(found(&reader, &query), expected, "{query:?}");
    }
}

#[test]
fn a_sink_gets_what_it_has_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&dir.path().join("state.db")).unwrap();
    assert_eq!(journal.sink("stdout").unwrap(), (0, String::new()));
    let alerts = (0..3).map(|n| alert(n, 0, "r", "u")).collect();
    journal.commit(&Commit { alerts, ..Commit::default() }, 0).unwrap();
    assert_eq!(journal.alerts_after(0, 2).unwrap().len(), 2);
    journal
        .commit(
            &Commit {
                delivered: vec![Delivered { sink: "stdout".into(), last: 2, state: Some("s".into()) }],
                ..Commit::default()
            },
            0,
        )
        .unwrap();
    assert_eq!(journal.sink("stdout").unwrap(), (2, "s".to_owned()));
    assert_eq!(journal.sink("file").unwrap().0, 3, "a new sink is not told the past");
    // Only what every sink has taken may be forgotten.
    journal.prune([], 10).unwrap();
    assert_eq!(found(&journal, &Query::default()).len(), 1);
    journal.keep_sinks(&["file".into()]).unwrap();
    journal.prune([], 10).unwrap();
    assert_eq!(found(&journal, &Query::default()).len(), 0);
}

#[test]
fn old_entries_are_forgotten_from_the_front() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&dir.path().join("state.db")).unwrap();
    let entries = [5, 9, 6, 20].map(entry).into();
    journal.commit(&Commit { entries, ..Commit::default() }, 0).unwrap();
    assert_eq!(journal.prune([("d", 100), ("c", 9)], 0).unwrap(), 1);
    let left = |journal: &Journal| {
        let mut left = Vec::new();
        journal.entries(|e| left.extend(e.newest)).unwrap();
        left
    };
    assert_eq!(left(&journal), [9, 6, 20]);
    // A cluster that has fallen silent keeps nothing of the others'.
    let quiet = Entry { cluster: "quiet".into(), ..entry(1) };
    journal.commit(&Commit { entries: vec![quiet, entry(30)], ..Commit::default() }, 0).unwrap();
    assert_eq!(journal.prune([("quiet", 0), ("c", 30)], 0).unwrap(), 3);
    assert_eq!(left(&journal), [1, 30]);
}

#[test]
fn a_file_of_the_first_version_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let mut journal = Journal::open(&path).unwrap();
    let alerts = vec![alert(1, 0, "r", "u")];
    journal.commit(&Commit { entries: vec![entry(1), entry(5)], alerts, ..Commit::default() }, 0).unwrap();
    drop(journal);
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "DROP INDEX entries_by_cluster; ALTER TABLE entries DROP COLUMN cluster; ALTER TABLE sinks DROP COLUMN state;
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(db);
    assert_eq!(found(&Journal::open_to_read(&path).unwrap(), &Query::default()).len(), 1);
    let mut journal = Journal::open(&path).unwrap();
    assert_eq!(found(&journal, &Query::default()).len(), 1);
    assert_eq!(journal.prune([("c", 3)], 0).unwrap(), 1);
    drop(journal);
    assert_eq!(found(&Journal::open_to_read(&path).unwrap(), &Query::default()).len(), 1);
}

#[test]
fn refuses_what_is_no_journal_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let journal = Journal::open(&path).unwrap();
    assert!(matches!(Journal::open(&path), Err(JournalError::InUse { .. })));
    drop(journal);
    assert!(Journal::open(&dir.path().join("no/such/folder.db")).is_err());
    assert!(Journal::open_to_read(&dir.path().join("none.db")).is_err());
    let text = dir.path().join("text.db");
    std::fs::write(&text, "not a database, but some text that is long enough to be looked at ".repeat(20)).unwrap();
    assert!(Journal::open(&text).is_err() && Journal::open_to_read(&text).is_err());
    let db = Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    assert!(matches!(Journal::open(&path), Err(JournalError::Version { found: 99, known: 3 })));
}
