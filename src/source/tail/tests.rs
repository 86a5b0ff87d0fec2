use std::fs::{self, OpenOptions};
use std::io::Write;

use super::*;

struct Log {
    dir: tempfile::TempDir,
    tail: Tail,
    got: String,
}

const LIMITS: Limits = Limits { block_bytes: 64, record_bytes: 200 };

/// A line that is longer than what the beginnings of files have in common.
fn line(n: u32) -> String {
    format!("{{\"auditID\":\"{n:08}\",\"stage\":\"ResponseComplete\"}}\n")
}

fn lines(of: std::ops::Range<u32>) -> String {
    of.map(line).collect()
}

impl Log {
    fn new() -> Log {
        Log::starting(StartAt::Beginning, "")
    }

    fn starting(start: StartAt, before: &str) -> Log {
        let dir = tempfile::tempdir().unwrap();
        if !before.is_empty() {
            fs::write(dir.path().join("audit.log"), before).unwrap();
        }
        let tail = Tail::new(&dir.path().join("audit.log"), start, "", LIMITS);
        Log { dir, tail, got: String::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, text: &str) {
        let file = OpenOptions::new().append(true).create(true).open(self.path("audit.log"));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, to: &str) {
        fs::rename(self.path("audit.log"), self.path(to)).unwrap();
    }

    fn compress(&self, name: &str) {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&fs::read(self.path(name)).unwrap()).unwrap();
        fs::write(self.path(&format!("{name}.gz")), gz.finish().unwrap()).unwrap();
        fs::remove_file(self.path(name)).unwrap();
    }

    fn read(&mut self) -> &mut Self {
        while let Some(block) = self.tail.next_block(Vec::new(), false) {
            self.got += std::str::from_utf8(&block.bytes).unwrap();
        }
        self
    }

    fn restart(&mut self) {
        self.tail = Tail::new(&self.path("audit.log"), StartAt::Beginning, &self.tail.position(), LIMITS);
    }

    fn notes(&mut self) -> String {
        self.tail.take_notes().join("\n")
    }
}

const OLD: &str = "audit-2026-11-23T10-00-00.000.log";
const NEWER: &str = "audit-2026-11-23T11-00-00.000.log";

#[test]
fn never_gives_half_a_line() {
    let mut log = Log::new();
    log.read();
    let whole = lines(0..3);
    for (n, byte) in whole.char_indices() {
        log.append(&byte.to_string());
        log.read();
        let until = whole[..=n].rfind('\n').map_or(0, |newline| newline + 1);
        assert_eq!(log.got, whole[..until]);
    }
    log.append("{\"half\":");
    log.read();
    assert_eq!(log.got, whole);
    let rest = log.tail.next_block(Vec::new(), true).unwrap();
    assert_eq!(rest.bytes, b"{\"half\":");
}

#[test]
fn follows_renamed_files() {
    for restarts in [false, true] {
        for compressed in [false, true] {
            let mut log = Log::new();
            log.append(&lines(0..5));
            log.read().append(&lines(5..7));
            log.rename(OLD);
            log.append(&lines(7..9));
            log.rename(NEWER);
            log.append(&lines(9..12));
            if compressed {
                log.compress(OLD);
            }
            if restarts {
                log.restart();
            }
            assert_eq!(log.read().got, lines(0..12), "restarts {restarts}, compressed {compressed}");
            assert_eq!(log.notes(), "");
            log.restart();
            assert_eq!(log.read().got, lines(0..12), "nothing twice");
        }
    }
}

#[test]
fn follows_numbered_files() {
    let mut log = Log::new();
    log.append(&lines(0..5));
    log.read();
    for n in 1..6 {
        if n > 1 {
            log.compress("audit.log.1");
            fs::rename(log.path("audit.log.1.gz"), log.path("audit.log.2.gz")).unwrap();
        }
        log.append(&lines(5 * n..5 * n + 2));
        log.rename("audit.log.1");
        log.append(&lines(5 * n + 2..5 * n + 5));
        if n % 2 == 0 {
            log.restart();
        }
        assert_eq!(log.read().got, lines(0..5 * n + 5), "rotation {n}");
    }
    assert_eq!(log.notes(), "");
}

#[test]
fn a_log_that_was_moved_away_may_still_be_written_to() {
    let mut log = Log::new();
    let mut writer = OpenOptions::new().append(true).create(true).open(log.path("audit.log")).unwrap();
    writer.write_all(lines(0..2).as_bytes()).unwrap();
    log.read().rename(OLD);
    writer.write_all(&lines(2..3).as_bytes()[..10]).unwrap();
    assert_eq!(log.read().got, lines(0..2));
    writer.write_all(&lines(2..3).as_bytes()[10..]).unwrap();
    assert_eq!(log.read().got, lines(0..3));
    fs::write(log.path("audit.log"), "").unwrap();
    writer.write_all(lines(3..4).as_bytes()).unwrap();
    assert_eq!(log.read().got, lines(0..4));
    log.append(&lines(4..6));
    assert_eq!(log.read().got, lines(0..6));
}

#[test]
fn follows_a_truncated_log_and_its_copy() {
    for restarts in [false, true] {
        let mut log = Log::new();
        log.append(&lines(0..5));
        log.read().append(&lines(5..7));
        fs::copy(log.path("audit.log"), log.path("audit.log.1")).unwrap();
        fs::write(log.path("audit.log"), lines(7..20)).unwrap();
        if restarts {
            log.restart();
        }
        assert_eq!(log.read().got, lines(0..20));
        assert_eq!(log.notes(), "");
        fs::write(log.path("audit.log"), "").unwrap();
        assert_eq!(log.read().got, lines(0..20));
        assert!(log.notes().contains("truncated without a copy"));
        log.append(&lines(20..21));
        assert_eq!(log.read().got, lines(0..21));
    }
}

#[test]
fn a_log_may_come_late_and_go() {
    let mut log = Log::new();
    assert_eq!(log.read().got, "");
    log.append(&lines(0..2));
    assert_eq!(log.read().got, lines(0..2));
    fs::remove_file(log.path("audit.log")).unwrap();
    log.restart();
    assert_eq!(log.read().got, lines(0..2));
    assert!(log.notes().contains("waiting for it"));
    log.append(&lines(2..4));
    assert_eq!(log.read().got, lines(0..4));
    assert!(log.notes().contains("is gone"));
}

#[test]
fn begins_at_the_end_if_asked_to() {
    let mut log = Log::starting(StartAt::End, &(lines(0..5) + "{\"half"));
    assert_eq!(log.read().got, "");
    log.append("\":1}\n");
    assert_eq!(log.read().got, "{\"half\":1}\n");
    log.restart();
    log.append(&lines(6..8));
    assert_eq!(log.read().got, "{\"half\":1}\n".to_owned() + &lines(6..8));
}

#[test]
fn a_symlink_may_lead_elsewhere() {
    let mut log = Log::new();
    for n in 0..3 {
        fs::write(log.path(&format!("pod-{n}")), lines(n * 5..n * 5 + 5)).unwrap();
        let _ = fs::remove_file(log.path("audit.log"));
        std::os::unix::fs::symlink(log.path(&format!("pod-{n}")), log.path("audit.log")).unwrap();
        assert_eq!(log.read().got, lines(0..n * 5 + 5));
    }
}

#[test]
fn passes_over_a_line_that_is_too_long() {
    let mut log = Log::new();
    log.append(&line(1));
    log.read();
    for _ in 0..50 {
        log.append(&"x".repeat(77));
        assert_eq!(log.read().got, line(1));
    }
    log.append(&("\n".to_owned() + &line(2)));
    let block = log.tail.next_block(Vec::new(), false).unwrap();
    let skipped: Vec<_> = block.oversized.iter().map(|o| (o.offset, o.bytes)).collect();
    assert_eq!(skipped, [(line(1).len() as u64, 50 * 77)]);
    assert_eq!(block.bytes, line(2).as_bytes());
}
