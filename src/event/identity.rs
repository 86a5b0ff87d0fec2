//! Who a request is (DESIGN §4): a hash over everything that tells two requests apart, because the client chooses the
//! `Audit-ID` and could hide one request behind another's.

use std::hash::{BuildHasher, Hasher};

use super::view::{Event, Slot};

impl Event<'_> {
    /// The request's identity: cluster, auditID, requestReceivedTimestamp (µs, or 0), user.username, verb, requestURI,
    /// each length-prefixed and whole; see [`hash128`].
    pub fn identity(&self) -> [u8; 16] {
        self.parts_of_identity().hash()
    }

    pub(crate) fn parts_of_identity(&self) -> Parts<'_> {
        Parts {
            cluster: self.cluster().as_bytes(),
            audit_id: self.audit_id().unwrap_or_default().as_bytes(),
            received: self.received().unwrap_or(0),
            username: self.username().unwrap_or_default().as_bytes(),
            verb: self.verb().unwrap_or_default().as_bytes(),
            uri: self.uri().unwrap_or_default().as_bytes(),
        }
    }

    /// A quick hash of the same parts as they stand in the text, for counting requests only: 60 bits, with the stage in
    /// the low four.
    pub fn fingerprint(&self, seed: &foldhash::fast::FixedState) -> u64 {
        let mut hasher = seed.build_hasher();
        hasher.write(self.slot_bytes(Slot::AuditId));
        hasher.write(self.slot_bytes(Slot::RequestReceivedTimestamp));
        hasher.write(self.username_bytes());
        hasher.write(self.slot_bytes(Slot::Verb));
        hasher.write(self.slot_bytes(Slot::RequestUri));
        hasher.finish() & !0xf | self.stage() as u64
    }
}

/// Everything that tells two requests apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts<'p> {
    pub(crate) cluster: &'p [u8],
    pub(crate) audit_id: &'p [u8],
    /// `requestReceivedTimestamp` in microseconds, or 0.
    pub(crate) received: i64,
    pub(crate) username: &'p [u8],
    pub(crate) verb: &'p [u8],
    pub(crate) uri: &'p [u8],
}

impl Parts<'_> {
    /// The identity; see [`Event::identity`].
    pub(crate) fn hash(&self) -> [u8; 16] {
        let mut digits = itoa::Buffer::new();
        // Times are never negative.
        let received = digits.format(self.received.unsigned_abs()).as_bytes();
        hash128([self.cluster, self.audit_id, received, self.username, self.verb, self.uri]).to_be_bytes()
    }

    /// A quick hash of the same, of which nobody knows more than that two are equal or not if the seed is a secret.
    pub(crate) fn keyed(&self, seed: &impl BuildHasher) -> u64 {
        let mut hasher = seed.build_hasher();
        for part in [self.cluster, self.audit_id, self.username, self.verb, self.uri] {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.write_i64(self.received);
        hasher.finish()
    }

    /// Whether no text is longer than this, in bytes.
    pub(crate) fn fit(&self, longest: usize) -> bool {
        [self.cluster, self.audit_id, self.username, self.verb, self.uri].iter().all(|part| part.len() <= longest)
    }
}

/// Bytes of a message that are gathered before they are hashed: nearly all messages are shorter, and are then hashed in
/// one go.
const GATHERED: usize = 512;

/// A number in as few bytes as it takes (unsigned LEB128), and how many they are.
pub(crate) fn leb128(number: u64) -> ([u8; 10], usize) {
    let (mut bytes, mut rest, mut at) = ([0; 10], number, 0);
    while rest >= 0x80 {
        bytes[at] = rest as u8 | 0x80;
        rest >>= 7;
        at += 1;
    }
    bytes[at] = rest as u8;
    (bytes, at + 1)
}

/// The first 16 bytes of the BLAKE3 of the parts, each prefixed with its length. Nobody can find two texts that collide,
/// and it costs a fraction of SHA-256 where the processor has no instructions for that.
pub fn hash128<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> u128 {
    let mut message = Message { gathered: [0; GATHERED], filled: 0, whole: None };
    for part in parts {
        message.add_length(part.len());
        message.add(part);
    }
    let hash = message.hash();
    u128::from_be_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

/// A message that is being put together.
struct Message {
    gathered: [u8; GATHERED],
    filled: usize,
    /// Once it has become longer than what is gathered.
    whole: Option<blake3::Hasher>,
}

impl Message {
    #[inline(always)]
    fn add_length(&mut self, length: usize) {
        match self.gathered.get_mut(self.filled) {
            Some(room) if length < 0x80 => {
                *room = length as u8;
                self.filled += 1;
            }
            _ => {
                // BLAKE3 is paid for by blocks of 64 bytes.
                let (prefix, bytes) = leb128(length as u64);
                self.add(&prefix[..bytes]);
            }
        }
    }

    #[inline(always)]
    fn add(&mut self, bytes: &[u8]) {
        match self.gathered.get_mut(self.filled..self.filled + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.filled += bytes.len();
            }
            None => self.add_long(bytes),
        }
    }

    #[cold]
    fn add_long(&mut self, bytes: &[u8]) {
        let hasher = self.whole.get_or_insert_with(blake3::Hasher::new);
        hasher.update(&self.gathered[..self.filled]);
        hasher.update(bytes);
        self.filled = 0;
    }

    /// By reference: a hasher is large, and nearly never there.
    fn hash(&mut self) -> blake3::Hash {
        let gathered = &self.gathered[..self.filled];
        match &mut self.whole {
            None => blake3::hash(gathered),
            Some(hasher) => hasher.update(gathered).finalize(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::testing::with_event;
    use super::*;

    /// Messages of all lengths around the buffer's, in parts of all lengths.
    #[test]
    fn hashes_as_blake3_does() {
        let text: Vec<u8> = (0..=255).cycle().take(3 * GATHERED).collect();
        for first in 0..140 {
            for second in [0, 1, 7, 8, 63, 64, 350, 494, 495, 496, 497, 503, 504, 505, 511, 512, 513, 1030] {
                let parts = [&text[..first], &text[..second], &text[..3]];
                let mut whole = blake3::Hasher::new();
                parts.iter().for_each(|part| {
                    let (short, long) = ([part.len() as u8], [part.len() as u8 | 0x80, (part.len() >> 7) as u8]);
                    whole.update(if part.len() < 0x80 { &short } else { &long[..] });
                    whole.update(part);
                });
                let expected = whole.finalize();
                assert_eq!(hash128(parts).to_be_bytes(), expected.as_bytes()[..16], "{first} {second}");
            }
        }
    }

    #[test]
    fn every_part_counts() {
        let base = r#"{"auditID":"a","requestReceivedTimestamp":"2026-11-23T19:30:29.041592Z","user":{"username":"u"},"verb":"get","requestURI":"/x"}"#;
        let id = |text: &str| with_event(text, |event| event.identity());
        for (from, to) in [("\"a\"", "\"b\""), (":29.", ":28."), ("\"u\"", "\"v\""), ("get", "put"), ("/x", "/y")] {
            assert_ne!(id(base), id(&base.replace(from, to)), "{from}");
        }
        assert_eq!(
            id(base),
            id(&base.replace("\"get\"", "\"\\u0067et\"").replace("{\"auditID\"", "{\"stage\":\"Panic\",\"auditID\""))
        );
    }
}
