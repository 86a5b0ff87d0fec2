//! The dead letter: documents that could not be read, raw. It may hold secrets, so only its owner may read it.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::Engine;
use serde_json::json;

use crate::pipeline::Located;

/// An open dead-letter file: one JSON object a line.
pub struct DeadLetter(BufWriter<File>);

impl DeadLetter {
    /// Creates the file, or empties it, with mode 0600.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        // The mode above is for new files only. A device such as /dev/stderr stays as it is.
        if file.metadata()?.is_file() {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(DeadLetter(BufWriter::new(file)))
    }

    /// Writes one document; `raw` is missing for one that was too large to be kept.
    pub fn write(&mut self, input: &str, at: &Located, raw: Option<&[u8]>) -> io::Result<()> {
        let mut line = json!({"input": input, "line": at.line, "offset": at.offset, "why": at.why});
        match raw.map(|raw| (raw, std::str::from_utf8(raw))) {
            Some((_, Ok(text))) => line["raw"] = json!(text),
            Some((raw, Err(_))) => {
                line["raw_base64"] = json!(base64::engine::general_purpose::STANDARD.encode(raw));
            }
            None => {}
        }
        writeln!(self.0, "{line}")
    }

    /// Writes what is still buffered.
    pub fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::ProblemKind;

    #[test]
    fn holds_raw_documents_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead.jsonl");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mut dead = DeadLetter::create(&path).unwrap();
        let at = Located { line: 3, offset: 99, kind: ProblemKind::Unreadable, why: "no JSON".into() };
        dead.write("a.log", &at, Some(b"klog \"line\"")).unwrap();
        dead.write("a.log", &at, Some(b"\xff\xfe")).unwrap();
        dead.write("a.log", &at, None).unwrap();
        dead.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"input\":\"a.log\",\"line\":3,\"offset\":99,\"why\":\"no JSON\",\"raw\":\"klog \\\"line\\\"\"}\n\
             {\"input\":\"a.log\",\"line\":3,\"offset\":99,\"why\":\"no JSON\",\"raw_base64\":\"//4=\"}\n\
             {\"input\":\"a.log\",\"line\":3,\"offset\":99,\"why\":\"no JSON\"}\n"
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
