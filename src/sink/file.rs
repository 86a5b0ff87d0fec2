//! Alerts as lines of JSON, to a file or to standard output.
#![allow(clippy::disallowed_methods, reason = "a sink writes")]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// A file that alerts are added to. It may be renamed or removed at any time: it is made again.
#[derive(Debug)]
pub struct AlertFile {
    path: PathBuf,
    file: Option<File>,
}

impl AlertFile {
    /// Nothing is opened yet.
    pub fn new(path: PathBuf) -> Self {
        AlertFile { path, file: None }
    }

    /// Adds lines and waits until they are on the disk.
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
        let before = file.metadata()?.len();
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
        if written.is_err() {
            // Half a line would spoil the next one. The error that counts is the first.
            let _ = file.set_len(before);
        } else {
            self.file = Some(file);
        }
        written
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
}
