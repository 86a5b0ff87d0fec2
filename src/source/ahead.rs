//! Decompresses in a thread of its own, a few chunks ahead of whoever reads: decoding costs about as much as analyzing
//! what comes out of it.

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Bytes handed over at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that a thread may be ahead.
const CHUNKS_MAX: usize = 3;
/// Decoded bytes from which on an input is worth a thread: most inputs are opened for a look at their first time only.
const WORTH_BYTES: usize = 1024 * 1024;

/// Threads that decode now, in the whole process.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// A chunk; an empty one is the end.
type Chunk = io::Result<Vec<u8>>;

/// A reader whose bytes come from a thread once there are many of them, as long as there is a processor for it.
pub(super) struct Ahead {
    from: From,
    /// Bytes read without a thread.
    read: usize,
}

enum From {
    Here(Box<dyn Read + Send>),
    Thread(Handed),
}

/// What a thread hands over.
struct Handed {
    chunks: Receiver<Chunk>,
    spent: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Ahead {
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Ahead {
        Ahead { from: From::Here(reader), read: 0 }
    }

    /// Moves the reader to a thread, if there is a processor for one.
    fn move_to_thread(&mut self) {
        let Some(permit) = Permit::get() else { return };
        let (chunk_tx, chunks) = bounded(CHUNKS_MAX);
        let (spent, spent_rx) = bounded::<Vec<u8>>(CHUNKS_MAX + 1);
        let handed = From::Thread(Handed { chunks, spent, chunk: Vec::new(), at: 0 });
        let (reader_tx, reader_rx) = bounded(1);
        let decode = move || {
            let _permit = permit;
            if let Ok(reader) = reader_rx.recv() {
                decode(reader, &chunk_tx, &spent_rx);
            }
        };
        // Without a thread it goes on here.
        if thread::Builder::new().name("decoder".to_owned()).spawn(decode).is_ok()
            && let From::Here(reader) = std::mem::replace(&mut self.from, handed)
        {
            let _ = reader_tx.try_send(reader);
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let From::Here(_) = self.from
            && self.read >= WORTH_BYTES
        {
            self.move_to_thread();
        }
        match &mut self.from {
            From::Here(reader) => {
                let n = reader.read(buf)?;
                self.read += n;
                Ok(n)
            }
            From::Thread(handed) => handed.read(buf),
        }
    }
}

impl Read for Handed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            let spent = std::mem::take(&mut self.chunk);
            self.at = 0;
            let _ = self.spent.try_send(spent);
            self.chunk = match self.chunks.recv() {
                Ok(chunk) => chunk?,
                Err(_) => return Err(io::Error::other("the decoder's thread has died")),
            };
        }
        let n = buf.len().min(self.chunk.len() - self.at);
        buf[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// Decodes until the end, an error, or nobody is there to take it. The end is told for as long as somebody asks.
fn decode(mut reader: Box<dyn Read + Send>, chunks: &Sender<Chunk>, spent: &Receiver<Vec<u8>>) {
    loop {
        let mut chunk = spent.try_recv().unwrap_or_default();
        chunk.clear();
        chunk.reserve_exact(CHUNK_BYTES);
        let result = reader.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
        let ended = chunk.is_empty();
        // What came before an error is good.
        if (!ended || result.is_ok()) && chunks.send(Ok(chunk)).is_err() {
            return;
        }
        if let Err(error) = result {
            let _ = chunks.send(Err(error));
            return;
        }
        if ended {
            while chunks.send(Ok(Vec::new())).is_ok() {}
            return;
        }
    }
}

/// The right to one thread, while it lives.
struct Permit;

impl Permit {
    fn get() -> Option<Permit> {
        let most = thread::available_parallelism().map_or(1, usize::from);
        // One processor has nothing to gain.
        let free = |threads| (threads < most && most > 1).then_some(threads + 1);
        THREADS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok().map(|_| Permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes, and after them the end or an error.
    struct Source {
        bytes: io::Cursor<Vec<u8>>,
        fails: bool,
    }

    impl Read for Source {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            // As a decoder does: less than was asked for.
            let most = buf.len().min(10_007);
            match self.bytes.read(&mut buf[..most])? {
                0 if self.fails => Err(io::ErrorKind::InvalidData.into()),
                n => Ok(n),
            }
        }
    }

    fn text(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|n| (n * 7 + n / 251) as u8).collect()
    }

    #[test]
    fn gives_what_there_is_and_then_the_end_or_the_error() {
        for bytes in [0, 1, WORTH_BYTES - 1, WORTH_BYTES, WORTH_BYTES + 1, WORTH_BYTES + 3 * CHUNK_BYTES, 5 << 20] {
            for fails in [false, true] {
                for step in [1 << 12, 300_001] {
                    let whole = text(bytes);
                    let source = Source { bytes: io::Cursor::new(whole.clone()), fails };
                    let mut ahead = Ahead::new(Box::new(source));
                    let (mut got, mut buf) = (Vec::new(), vec![0; step]);
                    let end = loop {
                        match ahead.read(&mut buf) {
                            Ok(0) => break None,
                            Ok(n) => got.extend_from_slice(&buf[..n]),
                            Err(error) => break Some(error.kind()),
                        }
                    };
                    assert!(got == whole, "{bytes} {fails} {step}: {} came", got.len());
                    assert_eq!(end, fails.then_some(io::ErrorKind::InvalidData), "{bytes} {step}");
                    if !fails {
                        assert_eq!(ahead.read(&mut buf).unwrap(), 0, "an end stays one");
                    }
                }
            }
        }
    }

    #[test]
    fn a_thread_ends_when_nobody_reads_and_is_not_needed() {
        let endless = || Box::new(io::repeat(b'x'));
        let mut many: Vec<Ahead> = (0..20).map(|_| Ahead::new(endless())).collect();
        let mut buf = vec![0; WORTH_BYTES];
        for ahead in &mut many {
            for _ in 0..3 {
                ahead.read_exact(&mut buf).unwrap();
                assert!(buf.iter().all(|byte| *byte == b'x'));
            }
        }
        let most = thread::available_parallelism().map_or(1, usize::from);
        let threads = many.iter().filter(|ahead| matches!(ahead.from, From::Thread(_))).count();
        assert!(threads <= most, "{threads}");
        drop(many);
        // Other tests have threads as well, but those of this one end, or this loop never does.
        while THREADS.load(Ordering::Relaxed) > most / 2 {
            thread::yield_now();
        }
    }
}
