//! Which file is it? A name says little about a log that is rotated: the device and inode say it while the file lives,
//! and what stands at its beginning says it when it was copied or compressed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::{InputKind, decode};
use crate::event::identity::hash128;

/// How much of a file's beginning is looked at, in bytes: an audit event is longer than the part that all share.
pub(super) const PRINT_BYTES: usize = 1024;

/// Device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Node {
    pub(super) fn of(found: &fs::Metadata) -> Node {
        Node { device: found.dev(), inode: found.ino() }
    }
}

/// A hash over a file's first bytes, as many as there were.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Print {
    pub(super) bytes: usize,
    hash: String,
}

impl Print {
    pub(super) fn of(head: &[u8]) -> Print {
        let head = &head[..head.len().min(PRINT_BYTES)];
        Print { bytes: head.len(), hash: format!("{:032x}", hash128([head])) }
    }

    /// Whether a file that begins like this may be the one. Nothing can be said of a file that was empty.
    pub(super) fn fits(&self, head: &[u8]) -> bool {
        self.bytes > 0 && head.get(..self.bytes).is_some_and(|same| Print::of(same) == *self)
    }
}

/// The first bytes of an open, uncompressed file.
pub(super) fn head_of(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; PRINT_BYTES];
    let got = read_at(file, &mut head, 0)?;
    head.truncate(got);
    Ok(head)
}

/// Reads until `to` is full or the file ends.
pub(super) fn read_at(file: &File, to: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < to.len() {
        match file.read_at(&mut to[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// The first bytes of a file behind its compression.
pub(super) fn decoded_head(path: &Path) -> io::Result<Vec<u8>> {
    let opened = decode::open(&InputKind::Path(path.to_owned()), &Arc::default())?;
    let mut head = Vec::with_capacity(PRINT_BYTES);
    opened.reader.take(PRINT_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}
