//! Which file is it? A name says little about a log that is rotated: the device and inode say it while the file lives,
//! and what stands at its beginning says it when it was copied or compressed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::InputKind;
use super::super::decode::{self, Coding};
use crate::event::identity::hash128;

/// How much of a file's beginning is looked at, in bytes: an audit event is longer than the part that all share.
pub(super) const PRINT_BYTES: usize = 1024;

/// How much before an offset is looked at.
const SEAM_BYTES: usize = 256;

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

/// What stands just before an offset, so that a file which begins like another one is still told from it.
pub(super) fn seam_of(file: &File, offset: u64) -> io::Result<Print> {
    let mut bytes = [0; SEAM_BYTES];
    let bytes = &mut bytes[..usize::try_from(offset).unwrap_or(SEAM_BYTES).min(SEAM_BYTES)];
    let got = read_at(file, bytes, offset - bytes.len() as u64)?;
    Ok(Print::of(&bytes[..got]))
}

/// Whether what stands before `offset` is what stood there; nothing can be said if that is not known.
pub(super) fn is_seam(file: &File, offset: u64, seam: &Print) -> io::Result<bool> {
    Ok(seam.bytes == 0 || seam_of(file, offset)? == *seam)
}

/// How long a file is behind its compression, as far as that can be told without unpacking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Plain(u64),
    /// As gzip's last four bytes have it.
    Modulo(u32),
    Unknown,
}

impl Length {
    /// Whether a copy of a file of so many bytes may be as long.
    pub(super) fn fits(self, bytes: u64) -> bool {
        match self {
            Length::Plain(have) => have == bytes,
            Length::Modulo(have) => have == bytes as u32,
            Length::Unknown => true,
        }
    }
}

/// What a file looks like, without reading all of it.
pub(super) struct Look {
    /// The first bytes behind its compression.
    pub(super) head: Vec<u8>,
    pub(super) length: Length,
    /// Of the whole of `head`.
    pub(super) print: Print,
}

impl Look {
    pub(super) fn at(path: &Path) -> io::Result<Look> {
        let opened = decode::open(&InputKind::Path(path.to_owned()), &Arc::default())?;
        let mut head = Vec::with_capacity(PRINT_BYTES);
        opened.reader.take(PRINT_BYTES as u64).read_to_end(&mut head)?;
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let length = match opened.coding {
            Coding::Plain => Length::Plain(bytes),
            Coding::Gzip => {
                let mut end = [0; 4];
                read_at(&file, &mut end, bytes.saturating_sub(4))?;
                Length::Modulo(u32::from_le_bytes(end))
            }
            Coding::Zstd => Length::Unknown,
        };
        let print = Print::of(&head);
        Ok(Look { head, length, print })
    }

    /// Whether the file begins as `print` says.
    pub(super) fn fits(&self, print: &Print) -> bool {
        if print.bytes == self.print.bytes { *print == self.print && print.bytes > 0 } else { print.fits(&self.head) }
    }
}

/// The first bytes of a file behind its compression.
pub(super) fn decoded_head(path: &Path) -> io::Result<Vec<u8>> {
    Look::at(path).map(|look| look.head)
}
