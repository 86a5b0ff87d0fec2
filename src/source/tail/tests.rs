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

/// Between a rotation and the next line there may be no log at all.
#[test]
fn follows_renamed_files_while_there_is_no_log() {
    for compressed in [false, true] {
        let mut log = Log::new();
        log.append(&lines(0..5));
        log.read().append(&lines(5..7));
        log.rename(OLD);
        log.append(&lines(7..9));
        log.rename(NEWER);
        if compressed {
            log.compress(OLD);
            log.compress(NEWER);
        }
        assert_eq!(log.read().got, lines(0..9), "compressed {compressed}");
        log.restart();
        log.append(&lines(9..12));
        assert_eq!(log.read().got, lines(0..12), "compressed {compressed}");
        assert_eq!(log.notes(), "");
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

/// Names change while they are looked at; what is read stays in its order.
#[test]
fn names_may_change_at_any_time() {
    const TURNS: u32 = 80;
    let mut log = Log::new();
    let base = log.path("audit.log");
    let name = |n: usize| base.with_file_name(format!("audit.log.{n}"));
    let writer = {
        let (base, name) = (base.clone(), name);
        move || {
            for turn in 0..TURNS {
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(&base)
                    .unwrap()
                    .write_all(line(turn).as_bytes())
                    .unwrap();
                (1..turn as usize + 1).rev().for_each(|n| drop(fs::rename(name(n), name(n + 1))));
                // As a copy and an empty file, or by a new name.
                if turn % 2 == 0 {
                    fs::copy(&base, name(1)).unwrap();
                    File::options().write(true).truncate(true).open(&base).unwrap();
                } else {
                    fs::rename(&base, name(1)).unwrap();
                }
            }
            fs::write(&base, line(TURNS)).unwrap();
        }
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(writer);
        while !writer.is_finished() {
            log.read();
        }
    });
    let read: Vec<String> = log.read().got.lines().map(|line| line[13..20].to_owned()).collect();
    let expected: Vec<String> = (0..TURNS + 1).map(|turn| format!("{turn:07}")).collect();
    let at = read.iter().zip(&expected).position(|(read, expected)| read != expected);
    assert_eq!((at.map(|at| &read[at..read.len().min(at + 5)]), read.len()), (None, expected.len()));
    assert!(!log.notes().contains("gone"));
}

#[test]
fn another_file_by_the_same_name_is_not_opened() {
    let mut log = Log::new();
    log.append(&lines(0..5));
    log.rename("audit.log.1");
    let seen = siblings::list(&log.path("audit.log"));
    fs::rename(log.path("audit.log.1"), log.path("audit.log.2")).unwrap();
    assert!(!log.tail.open(&seen[0], 0));
    log.append(&lines(5..9));
    log.rename("audit.log.1");
    assert!(!log.tail.open(&seen[0], 0));
    assert_eq!(log.read().got, lines(0..9));
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

#[test]
fn more_rotated_files_than_are_remembered() {
    let mut log = Log::new();
    let count = DONE_MAX as u32 + 20;
    for n in 0..count {
        log.append(&line(n));
        log.rename(&format!("audit-2026-11-23T{:02}-{:02}-{:02}.000.log", n / 3600, n / 60 % 60, n % 60));
    }
    log.append(&line(count));
    assert_eq!(log.read().got, lines(0..count + 1));
    log.restart();
    log.append(&line(count + 1));
    assert_eq!(log.read().got, lines(0..count + 2));
    // Those that are gone are forgotten, so that a position stays short.
    for n in 0..count - 3 {
        let name = format!("audit-2026-11-23T{:02}-{:02}-{:02}.000.log", n / 3600, n / 60 % 60, n % 60);
        fs::remove_file(log.path(&name)).unwrap();
    }
    log.rename("audit-2026-11-23T23-00-00.000.log");
    log.append(&line(count + 2));
    assert_eq!(log.read().got, lines(0..count + 3));
    assert_eq!(log.tail.done.len(), 4);
}

/// A client may send the same request again and again until every file begins with it.
#[test]
fn files_that_begin_alike_are_told_apart() {
    let same = line(7).repeat(40);
    assert!(same.len() > identity::PRINT_BYTES);
    let file = |of: std::ops::Range<u32>| same.clone() + &lines(of);
    for (restarts, compressed) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut log = Log::new();
        log.append(&file(0..5));
        log.read().append(&lines(5..7));
        log.rename(OLD);
        log.append(&file(7..9));
        log.rename(NEWER);
        log.append(&file(9..30));
        if compressed {
            log.compress(OLD);
            log.compress(NEWER);
        }
        if restarts {
            log.restart();
        }
        assert_eq!(log.read().got, file(0..7) + &file(7..9) + &file(9..30), "{restarts} {compressed}");
        log.restart();
        assert_eq!(log.read().got.len(), 3 * same.len() + lines(0..30).len(), "nothing twice");
    }
    for restarts in [false, true] {
        let mut log = Log::new();
        log.append(&file(0..5));
        log.read().append(&lines(5..7));
        fs::copy(log.path("audit.log"), log.path("audit.log.1")).unwrap();
        fs::write(log.path("audit.log"), file(7..20)).unwrap();
        if restarts {
            log.restart();
        }
        assert_eq!(log.read().got, file(0..7) + &file(7..20), "copied and truncated, {restarts}");
        assert_eq!(log.notes(), "");
    }
}

#[test]
fn a_log_that_is_replaced_by_its_copy_goes_on() {
    for restarts in [false, true] {
        let mut log = Log::new();
        log.append(&lines(0..5));
        log.read();
        fs::write(log.path("copy"), lines(0..7) + "{\"half").unwrap();
        fs::rename(log.path("copy"), log.path("audit.log")).unwrap();
        if restarts {
            log.restart();
        }
        assert_eq!(log.read().got, lines(0..7));
        log.append("\":1}\n");
        assert_eq!(log.read().got, lines(0..7) + "{\"half\":1}\n");
        assert_eq!(log.notes(), "");
    }
}

#[test]
fn what_is_written_to_a_rotated_file_after_all_is_read_at_the_next_rotation() {
    let mut log = Log::new();
    log.append(&lines(0..2));
    log.read().rename(OLD);
    log.append(&lines(2..4));
    log.read();
    OpenOptions::new().append(true).open(log.path(OLD)).unwrap().write_all(lines(4..6).as_bytes()).unwrap();
    log.rename(NEWER);
    log.append(&lines(6..8));
    assert_eq!(log.read().got, lines(0..8));
}

#[test]
fn a_link_that_led_elsewhere_while_nobody_looked() {
    let mut log = Log::new();
    for n in 0..3 {
        let pod = format!("pod-{n}.log");
        fs::write(log.path(&pod), lines(n * 5..n * 5 + 3)).unwrap();
        let _ = fs::remove_file(log.path("audit.log"));
        std::os::unix::fs::symlink(log.path(&pod), log.path("audit.log")).unwrap();
        log.read();
        fs::write(log.path(&pod), lines(n * 5..n * 5 + 5)).unwrap();
        log.restart();
    }
    assert_eq!(log.read().got, lines(0..15));
    assert_eq!(log.notes(), "");
}

/// A line of a container runtime: `P` for a part that goes on.
fn cri(stream: &str, tag: &str, text: &str) -> String {
    format!("2026-11-23T10:00:00.1Z {stream} {tag} {text}\n")
}

#[test]
fn a_line_that_a_runtime_cut_is_given_out_in_one() {
    let part = |tag, n| cri("stdout", tag, &format!("{n}"));
    let mut log = Log::new();
    log.append(&(part("F", 0) + &part("P", 1)));
    assert_eq!(log.read().got, part("F", 0));
    // The other stream goes on meanwhile.
    log.append(&(cri("stderr", "F", "x") + &part("P", 2)));
    assert_eq!(log.read().got, part("F", 0));
    log.restart();
    log.append(&part("F", 3));
    let whole = part("F", 0) + &part("P", 1) + &cri("stderr", "F", "x") + &part("P", 2) + &part("F", 3);
    assert_eq!(log.read().got, whole);
    // Its rest may stand in the next file.
    for restarts in [false, true] {
        let mut log = Log::new();
        log.append(&(part("F", 0) + &part("P", 1)));
        log.read().rename("audit.log.20261123-100000");
        log.append(&part("P", 2));
        assert_eq!(log.read().got, part("F", 0), "{restarts}");
        if restarts {
            log.restart();
        }
        log.append(&part("F", 3));
        let block = log.tail.next_block(Vec::new(), false).unwrap();
        assert_eq!(block.bytes, (part("P", 1) + &part("P", 2) + &part("F", 3)).as_bytes(), "{restarts}");
        log.restart();
        assert_eq!(log.read().got, part("F", 0), "nothing twice");
    }
}

#[test]
fn the_rest_of_a_cut_line_is_not_waited_for_without_end() {
    for rotated in [false, true] {
        let mut log = Log::new();
        log.append(&cri("stdout", "P", "1"));
        assert_eq!(log.read().got, "");
        if rotated {
            log.rename("audit.log.20261123-100000");
            log.append(&cri("stdout", "P", "2"));
            log.read();
        }
        log.tail.patience = Duration::ZERO;
        let position = log.tail.position();
        log.tail = Tail::new(&log.path("audit.log"), StartAt::Beginning, &position, LIMITS);
        log.tail.patience = Duration::ZERO;
        let second = if rotated { cri("stdout", "P", "2") } else { String::new() };
        assert_eq!(log.read().got, cri("stdout", "P", "1") + &second);
        // Nor at the end.
        log.append(&cri("stderr", "P", "3"));
        let rest = log.tail.next_block(Vec::new(), true).unwrap();
        assert_eq!(rest.bytes, cri("stderr", "P", "3").as_bytes());
        assert!(log.tail.next_block(Vec::new(), true).is_none());
    }
}
