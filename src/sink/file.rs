//! Alerts as lines of JSON, to a file or to standard output.
#![allow(clippy::disallowed_methods, reason = "a sink writes")]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// When what was written must be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// When `append` returns.
    #[default]
    Always,
    /// At most once a second.
    Second,
    /// When the system likes.
    Never,
}

/// How a file is turned over: it becomes `PATH.1`, that one `PATH.2` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// With so many bytes.
    pub bytes: u64,
    /// How many of those are kept.
    pub keep: u32,
}

/// A file that alerts are added to. It may be renamed or removed at any time: it is made again.
#[derive(Debug)]
pub struct AlertFile {
    path: PathBuf,
    sync: Sync,
    turn: Option<Turn>,
    file: Option<File>,
    synced_at: Option<Instant>,
}

impl AlertFile {
    /// Nothing is opened yet. It is never turned over, and always on the disk.
    pub fn new(path: PathBuf) -> Self {
        Self::with(path, Sync::Always, None)
    }

    /// Nothing is opened yet.
    pub fn with(path: PathBuf, sync: Sync, turn: Option<Turn>) -> Self {
        AlertFile { path, sync, turn, file: None, synced_at: None }
    }

    /// Adds lines, and waits until they are on the disk if that is wanted.
    ///
    /// # Errors
    /// They could not be written whole; what was written of them is taken back as far as the disk allows.
    pub fn append<'l>(&mut self, lines: impl IntoIterator<Item = &'l str>) -> io::Result<()> {
        let mut text = String::new();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        let mut file = self.open()?;
        let mut before = file.metadata()?.len();
        if self.turn.is_some_and(|turn| before > 0 && before + text.len() as u64 > turn.bytes) {
            self.turn_over(file)?;
            file = self.open()?;
            before = file.metadata()?.len();
        }
        let due = match self.sync {
            Sync::Always => true,
            Sync::Second => self.synced_at.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)),
            Sync::Never => false,
        };
        let sync = |file: &File| if due { file.sync_data() } else { Ok(()) };
        let written = file.write_all(text.as_bytes()).and_then(|()| sync(&file));
        if written.is_err() {
            // Half a line would spoil the next one. The error that counts is the first.
            let _ = file.set_len(before);
        } else {
            self.file = Some(file);
            self.synced_at = if due { Some(Instant::now()) } else { self.synced_at };
        }
        written
    }

    /// Makes room: the oldest goes, the others move up.
    fn turn_over(&self, file: File) -> io::Result<()> {
        let keep = self.turn.map_or(0, |turn| turn.keep);
        file.sync_data()?;
        drop(file);
        let named = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if keep == 0 {
            return std::fs::remove_file(&self.path);
        }
        for number in (1..keep).rev() {
            match std::fs::rename(named(number), named(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, named(1))
    }

    /// The open file, if its name still stands for it.
    fn open(&mut self) -> io::Result<File> {
        let node = |found: &std::fs::Metadata| (found.dev(), found.ino());
        if let Some(file) = self.file.take()
            && let (Ok(named), Ok(open)) = (std::fs::metadata(&self.path), file.metadata())
            && node(&named) == node(&open)
        {
            return Ok(file);
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path);
        file.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_moved_away_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alerts.jsonl");
        let mut file = AlertFile::new(path.clone());
        file.append(["1", "2"]).unwrap();
        file.append(["3"]).unwrap();
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        file.append(["4"]).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("old")).unwrap(), "1\n2\n3\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "4\n");
        let error = AlertFile::new(dir.path().join("no/folder")).append(["x"]).unwrap_err();
        assert!(error.to_string().contains("no/folder"));
    }

    #[test]
    fn a_file_is_turned_over_and_no_line_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alerts.jsonl");
        for sync in [Sync::Always, Sync::Second, Sync::Never] {
            let mut file = AlertFile::with(path.clone(), sync, Some(Turn { bytes: 10, keep: 2 }));
            for n in 10..20 {
                file.append([format!("{n}").as_str(), "x"]).unwrap();
            }
            let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
            let all = [text("alerts.jsonl.2"), text("alerts.jsonl.1"), text("alerts.jsonl")];
            assert_eq!(all, ["14\nx\n15\nx\n", "16\nx\n17\nx\n", "18\nx\n19\nx\n"], "{sync:?}");
            assert!(!dir.path().join("alerts.jsonl.3").exists());
        }
        // Nothing is kept, and a line that is too long is whole.
        let mut file = AlertFile::with(path.clone(), Sync::Never, Some(Turn { bytes: 3, keep: 0 }));
        file.append(["a line that is too long"]).unwrap();
        file.append(["b"]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "b\n");
    }
}
