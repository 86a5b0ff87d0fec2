//! Opens an input and undoes its compression, by content and as a stream: what a small file unpacks to costs time, never
//! memory.
#![allow(clippy::disallowed_types, reason = "the one place where inputs are decompressed, as bounded streams")]

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::InputKind;
use super::ahead::Ahead;

/// The largest zstd window that is accepted, as a power of two: 128 MiB, which is also the limit of the zstd tool.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Compressed bytes read at once.
const COMPRESSED_CHUNK_BYTES: usize = 64 * 1024;

/// How an input is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Plain,
    /// gzip, one or many members.
    Gzip,
    /// Zstandard, one or many frames.
    Zstd,
}

impl Coding {
    /// By the first bytes of the content.
    fn of(magic: &[u8]) -> Coding {
        match magic {
            [0x1f, 0x8b, ..] => Coding::Gzip,
            // A frame, or a skippable frame (pzstd writes one first).
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Coding::Zstd,
            _ => Coding::Plain,
        }
    }
}

/// An open input.
pub struct Opened {
    /// Its decompressed bytes.
    pub reader: Box<dyn Read + Send>,
    /// How it is stored.
    pub coding: Coding,
}

/// Opens an input from its beginning. Compressed bytes are added to `raw` as they are read; the bytes of a plain
/// input are not (whoever reads them knows their number).
pub fn open(kind: &InputKind, raw: &Arc<AtomicU64>) -> io::Result<Opened> {
    match kind {
        InputKind::Stdin => stream(io::stdin(), raw),
        InputKind::Path(path) => {
            let mut file = File::open(path)?;
            if !file.metadata()?.is_file() {
                return stream(file, raw);
            }
            let magic = magic_of(&mut file)?;
            file.seek(SeekFrom::Start(0))?;
            decoder(Box::new(file), Coding::of(&magic), raw)
        }
    }
}

/// Unpacks gzip to at most `bytes_max` bytes; none if it is more.
///
/// # Errors
/// It is no gzip, or cut off.
pub(super) fn gunzip(packed: &[u8], bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    flate2::bufread::MultiGzDecoder::new(packed).take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= bytes_max).then_some(bytes))
}

/// Opens a plain file at `position`, or any other input with `position` decoded bytes skipped.
pub fn reopen(kind: &InputKind, position: u64, raw: &Arc<AtomicU64>) -> io::Result<Opened> {
    let mut opened = open(kind, raw)?;
    match (opened.coding, kind) {
        (Coding::Plain, InputKind::Path(path)) => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(position))?;
            opened.reader = Box::new(file);
        }
        _ => {
            io::copy(&mut opened.reader.by_ref().take(position), &mut io::sink())?;
        }
    }
    Ok(opened)
}

/// Decodes what can be read only once: the bytes looked at are put back in front.
fn stream(mut reader: impl Read + Send + 'static, raw: &Arc<AtomicU64>) -> io::Result<Opened> {
    let magic = magic_of(&mut reader)?;
    let coding = Coding::of(&magic);
    decoder(Box::new(io::Cursor::new(magic).chain(reader)), coding, raw)
}

fn decoder(reader: Box<dyn Read + Send>, coding: Coding, raw: &Arc<AtomicU64>) -> io::Result<Opened> {
    let counted = |reader| BufReader::with_capacity(COMPRESSED_CHUNK_BYTES, Counted { reader, raw: raw.clone() });
    let reader: Box<dyn Read + Send> = match coding {
        Coding::Plain => reader,
        Coding::Gzip => Box::new(Ahead::new(Box::new(flate2::bufread::MultiGzDecoder::new(counted(reader))))),
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(counted(reader))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(Ahead::new(Box::new(decoder)))
        }
    };
    Ok(Opened { reader, coding })
}

/// The first four bytes, fewer if there are no more.
fn magic_of(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut magic = Vec::with_capacity(4);
    reader.take(4).read_to_end(&mut magic)?;
    Ok(magic)
}

/// Counts what passes, for the progress bar.
struct Counted {
    reader: Box<dyn Read + Send>,
    raw: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buf)?;
        self.raw.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(stored: &[u8]) -> (Coding, Vec<u8>, Option<io::ErrorKind>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(stored).unwrap();
        let raw = Arc::new(AtomicU64::new(0));
        let mut opened = open(&InputKind::Path(file.path().to_owned()), &raw).unwrap();
        let mut out = Vec::new();
        let error = opened.reader.read_to_end(&mut out).err().map(|e| e.kind());
        // What a stream gives must be the same.
        let mut again = Vec::new();
        let mut from_stream = stream(io::Cursor::new(stored.to_vec()), &raw).unwrap();
        let stream_error = from_stream.reader.read_to_end(&mut again).err().map(|e| e.kind());
        assert_eq!((&out, error, opened.coding), (&again, stream_error, from_stream.coding));
        (opened.coding, out, error)
    }

    #[test]
    fn decodes_by_content() {
        let (one, two) = (b"first\n".as_slice(), b"second\n".as_slice());
        let both = [one, two].concat();
        assert_eq!(decode(&both), (Coding::Plain, both.clone(), None));
        assert_eq!(decode(b""), (Coding::Plain, vec![], None));
        assert_eq!(decode(b"{"), (Coding::Plain, b"{".to_vec(), None));
        assert_eq!(decode(&[gzip(one), gzip(two)].concat()), (Coding::Gzip, both.clone(), None));
        let frames = [zstd::encode_all(one, 1).unwrap(), zstd::encode_all(two, 1).unwrap()].concat();
        assert_eq!(decode(&frames), (Coding::Zstd, both.clone(), None));
        let skippable = [b"\x50\x2a\x4d\x18\x02\x00\x00\x00ab".to_vec(), frames].concat();
        assert_eq!(decode(&skippable), (Coding::Zstd, both, None));
    }

    #[test]
    fn a_truncated_stream_gives_what_it_has_and_an_error() {
        let text: Vec<u8> =
            (0..20_000u32).flat_map(|i| format!("{}\n", i.wrapping_mul(2_654_435_761)).into_bytes()).collect();
        for (coding, stored) in [(Coding::Gzip, gzip(&text)), (Coding::Zstd, zstd::encode_all(&text[..], 1).unwrap())] {
            let (found, out, error) = decode(&stored[..stored.len() * 3 / 4]);
            assert_eq!(found, coding);
            assert_eq!(error, Some(io::ErrorKind::UnexpectedEof), "{coding:?}");
            if coding == Coding::Gzip {
                assert!(out.len() > text.len() / 2 && text.starts_with(&out), "{coding:?} {}", out.len());
            }
        }
    }

    #[test]
    fn reopens_where_it_stopped() {
        let text = b"0123456789".to_vec();
        for stored in [text.clone(), gzip(&text), zstd::encode_all(&text[..], 1).unwrap()] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&stored).unwrap();
            let kind = InputKind::Path(file.path().to_owned());
            let mut out = Vec::new();
            reopen(&kind, 4, &Arc::default()).unwrap().reader.read_to_end(&mut out).unwrap();
            assert_eq!(out, b"456789");
        }
    }
}
