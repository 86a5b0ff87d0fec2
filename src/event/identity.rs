//! Who a request is (DESIGN §4): a hash over everything that tells two requests apart, because the client chooses the
//! `Audit-ID` and could hide one request behind another's.

use std::hash::{BuildHasher, Hasher};

use sha2::{Digest, Sha256};

use super::view::{Event, Slot};

impl Event<'_> {
    /// The request's identity: cluster, auditID, requestReceivedTimestamp (µs, or 0), user.username, verb, requestURI,
    /// each length-prefixed and whole; the first 16 bytes of their SHA-256.
    pub fn identity(&self) -> [u8; 16] {
        let received = self.received().unwrap_or(0).to_string();
        let parts = [
            self.cluster(),
            self.audit_id().unwrap_or(""),
            &received,
            self.username().unwrap_or(""),
            self.verb().unwrap_or(""),
            self.uri().unwrap_or(""),
        ];
        hash128(parts.map(str::as_bytes)).to_be_bytes()
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

/// The first 16 bytes of the SHA-256 of the parts, each prefixed with its length.
pub fn hash128<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> u128 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let digest = hasher.finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    u128::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::super::walk::testing::with_event;

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
