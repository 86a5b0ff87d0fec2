//! The dead letter: documents that could not be read, raw. It may hold secrets, so only its owner may read it.
#![allow(clippy::disallowed_methods, reason = "a sink writes")]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use serde_json::json;

/// An open dead-letter file: one JSON object a line.
#[derive(Debug)]
pub struct DeadLetter {
    file: BufWriter<File>,
    path: PathBuf,
    /// Bytes in it.
    bytes: usize,
    /// When it has so many it becomes `PATH.1`.
    bytes_max: usize,
}

impl DeadLetter {
    /// Creates the file, or empties it, with mode 0600.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::open(OpenOptions::new().write(true).create(true).truncate(true), path, usize::MAX)
    }

    /// Adds to the file, which is made with mode 0600 if it is not there. With `bytes_max` bytes it becomes `PATH.1`,
    /// and the one before that is forgotten.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(path: &Path, bytes_max: usize) -> io::Result<Self> {
        Self::open(OpenOptions::new().append(true).create(true), path, bytes_max)
    }

    fn open(how: &mut OpenOptions, path: &Path, bytes_max: usize) -> io::Result<Self> {
        let file = how.mode(0o600).open(path)?;
        let metadata = file.metadata()?;
        // The mode above is for new files only. A device such as /dev/stderr stays as it is.
        if metadata.is_file() {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        let bytes = metadata.len() as usize;
        Ok(DeadLetter { file: BufWriter::new(file), path: path.to_owned(), bytes, bytes_max })
    }

    /// Writes one document: the input's name, the line where it is known, the offset in the input; `raw` is missing for
    /// one that was too large to be kept.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(
        &mut self,
        input: &str,
        line: Option<u64>,
        offset: u64,
        why: &str,
        raw: Option<&[u8]>,
    ) -> io::Result<()> {
        let mut told = json!({"input": input});
        if let Some(line) = line {
            told["line"] = json!(line);
        }
        told["offset"] = json!(offset);
        told["why"] = json!(why);
        match raw.map(|raw| (raw, std::str::from_utf8(raw))) {
            Some((_, Ok(text))) => told["raw"] = json!(text),
            Some((raw, Err(_))) => {
                told["raw_base64"] = json!(base64::engine::general_purpose::STANDARD.encode(raw));
            }
            None => {}
        }
        let told = format!("{told}\n");
        if self.bytes > 0 && self.bytes.saturating_add(told.len()) > self.bytes_max {
            self.turn_over()?;
        }
        self.file.write_all(told.as_bytes())?;
        self.bytes += told.len();
        Ok(())
    }

    fn turn_over(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        fs::rename(&self.path, old)?;
        *self = Self::append(&self.path, self.bytes_max)?;
        Ok(())
    }

    /// Writes what is still buffered.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_raw_documents_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead.jsonl");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mut dead = DeadLetter::create(&path).unwrap();
        dead.write("a.log", Some(3), 99, "no JSON", Some(b"klog \"line\"")).unwrap();
        dead.write("a.log", Some(3), 99, "no JSON", Some(b"\xff\xfe")).unwrap();
        dead.write("a.log", None, 99, "no JSON", None).unwrap();
        dead.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"input\":\"a.log\",\"line\":3,\"offset\":99,\"why\":\"no JSON\",\"raw\":\"klog \\\"line\\\"\"}\n\
             {\"input\":\"a.log\",\"line\":3,\"offset\":99,\"why\":\"no JSON\",\"raw_base64\":\"//4=\"}\n\
             {\"input\":\"a.log\",\"offset\":99,\"why\":\"no JSON\"}\n"
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn takes_no_more_than_twice_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead.jsonl");
        let write = |from: u64, to: u64| {
            let mut dead = DeadLetter::append(&path, 1000).unwrap();
            (from..to).for_each(|n| dead.write("a.log", None, n, "no JSON", Some(b"raw")).unwrap());
            dead.flush().unwrap();
        };
        write(0, 50);
        write(50, 100);
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        let (old, new) = (text(&dir.path().join("dead.jsonl.1")), text(&path));
        assert!(old.len() <= 1000 && new.len() <= 1000 && old.len() > 900, "{} {}", old.len(), new.len());
        // The newest are there, none is missing in between.
        let all = old + &new;
        let offsets: Vec<u64> = all
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["offset"].as_u64().unwrap())
            .collect();
        assert_eq!(offsets, (100 - offsets.len() as u64..100).collect::<Vec<_>>());
    }
}
