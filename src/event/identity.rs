//! Who a request is (DESIGN §4): a hash over everything that tells two requests apart, because the client chooses the
//! `Audit-ID` and could hide one request behind another's.

use std::hash::{BuildHasher, Hasher};

use sha2::block_api::compress256;

use super::view::{Event, Slot};

impl Event<'_> {
    /// The request's identity: cluster, auditID, requestReceivedTimestamp (µs, or 0), user.username, verb, requestURI,
    /// each length-prefixed and whole; the first 16 bytes of their SHA-256.
    pub fn identity(&self) -> [u8; 16] {
        let mut digits = [0; 20];
        let received = decimal(self.received().unwrap_or(0), &mut digits);
        let parts = [self.cluster(), self.audit_id().unwrap_or("")];
        let more = [self.username().unwrap_or(""), self.verb().unwrap_or(""), self.uri().unwrap_or("")];
        let parts = parts.iter().map(|part| part.as_bytes());
        let more = more.iter().map(|part| part.as_bytes());
        hash128(parts.chain([received]).chain(more)).to_be_bytes()
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

/// A time as decimal digits; times are never negative.
fn decimal(time: i64, digits: &mut [u8; 20]) -> &[u8] {
    let (mut rest, mut at) = (time.unsigned_abs(), digits.len());
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &digits[at..];
        }
    }
}

/// The first 16 bytes of the SHA-256 of the parts, each prefixed with its length.
pub fn hash128<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> u128 {
    let mut sha = Sha::new();
    for part in parts {
        sha.update(&(part.len() as u64).to_be_bytes());
        sha.update(part);
    }
    sha.first_half()
}

/// Bytes of a message that are gathered before they are compressed: most messages are shorter, and are then compressed in
/// one go.
const GATHERED: usize = 6 * 64;

/// SHA-256 for short messages: every match hashes a few of them, and what lies around the compression costs as much.
struct Sha {
    state: [u32; 8],
    gathered: [u8; GATHERED],
    filled: usize,
    bytes: u64,
}

impl Sha {
    #[inline(always)]
    fn new() -> Self {
        // The initial state is the standard's.
        let state =
            [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
        Sha { state, gathered: [0; GATHERED], filled: 0, bytes: 0 }
    }

    #[inline(always)]
    fn update(&mut self, mut part: &[u8]) {
        self.bytes += part.len() as u64;
        while let Some((now, later)) = part.split_at_checked(GATHERED - self.filled) {
            self.gathered[self.filled..].copy_from_slice(now);
            compress256(&mut self.state, self.gathered.as_chunks().0);
            (self.filled, part) = (0, later);
        }
        self.gathered[self.filled..self.filled + part.len()].copy_from_slice(part);
        self.filled += part.len();
    }

    /// Ends the message as the standard says: a one bit, zeros, and the length in bits at the end of a block.
    #[inline(always)]
    fn first_half(mut self) -> u128 {
        // There is room for one byte, for a full buffer is compressed at once; the length may need a block more.
        let end = (self.filled + 1 + 8).next_multiple_of(64);
        self.gathered[self.filled] = 0x80;
        if end > GATHERED {
            self.gathered[self.filled + 1..].fill(0);
            compress256(&mut self.state, self.gathered.as_chunks().0);
            self.gathered[..56].fill(0);
            self.gathered[56..64].copy_from_slice(&(self.bytes * 8).to_be_bytes());
            compress256(&mut self.state, &self.gathered.as_chunks().0[..1]);
        } else {
            self.gathered[self.filled + 1..end - 8].fill(0);
            self.gathered[end - 8..end].copy_from_slice(&(self.bytes * 8).to_be_bytes());
            compress256(&mut self.state, &self.gathered.as_chunks().0[..end / 64]);
        }
        self.state[..4].iter().fold(0, |half, word| half << 32 | u128::from(*word))
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::super::walk::testing::with_event;
    use super::*;

    /// Messages of all lengths around the block's and the buffer's, in parts of all lengths.
    #[test]
    fn hashes_as_sha2_does() {
        let text: Vec<u8> = (0..=255).cycle().take(2 * GATHERED).collect();
        for first in 0..140 {
            for second in
                [0, 1, 7, 8, 39, 40, 41, 47, 48, 49, 64, 111, 112, 200, 300, 350, 359, 360, 367, 368, 400, 700]
            {
                let parts = [&text[..first], &text[..second]];
                let mut sha = Sha256::new();
                parts.iter().for_each(|part| {
                    sha.update((part.len() as u64).to_be_bytes());
                    sha.update(part);
                });
                let expected: [u8; 16] = sha.finalize()[..16].try_into().unwrap();
                assert_eq!(hash128(parts).to_be_bytes(), expected, "{first} {second}");
            }
        }
    }

    #[test]
    fn writes_times_as_decimals() {
        for time in [0, 7, 10, 1_795_462_229_041_592, i64::MAX] {
            assert_eq!(decimal(time, &mut [0; 20]), time.to_string().as_bytes());
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
