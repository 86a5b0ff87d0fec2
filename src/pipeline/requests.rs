//! Counts requests and repeated deliveries in bounded memory.

use hashbrown::HashTable;

/// Requests remembered per generation: what fits into 2^18 slots of 8 bytes without growing.
const GENERATION_MAX: usize = (1 << 18) / 8 * 7;

/// The requests seen last: two generations, the older of which is dropped when the younger is full. A repeat that comes
/// more than about 230,000 requests later counts as a new request.
#[derive(Debug, Default)]
pub struct Requests {
    young: HashTable<u64>,
    old: HashTable<u64>,
    /// Requests seen for the first time.
    pub new: u64,
    /// Events whose request and stage were seen before.
    pub duplicates: u64,
}

impl Requests {
    /// Takes the fingerprints of some events: 60 bits of the request's identity, its stage (0 to 4) in the low 4 bits.
    pub fn see(&mut self, fingerprints: &[u64]) {
        for some in fingerprints.chunks(TOGETHER) {
            // Memory is what a look costs, and it need not be waited for one after the other.
            let known =
                |table: &HashTable<u64>, of: &u64| table.find(hash(of >> 4), |entry| entry >> 4 == of >> 4).is_some();
            let seen = some.iter().filter(|of| known(&self.young, of) | known(&self.old, of)).count();
            std::hint::black_box(seen);
            some.iter().for_each(|fingerprint| self.see_one(*fingerprint));
        }
    }

    fn see_one(&mut self, fingerprint: u64) {
        let identity = fingerprint >> 4;
        // `Panic` (3) and anything else (4) share a bit: neither is delivered twice in practice.
        let stage = 1 << (fingerprint & 0xF).min(3);
        let same = |entry: &u64| entry >> 4 == identity;
        if let Some(entry) = self.young.find_mut(hash(identity), same) {
            self.duplicates += u64::from(*entry & stage != 0);
            *entry |= stage;
            return;
        }
        let stages = match self.old.find(hash(identity), same) {
            Some(entry) => {
                self.duplicates += u64::from(entry & stage != 0);
                entry & 0xF
            }
            None => {
                self.new += 1;
                0
            }
        };
        if self.young.len() >= GENERATION_MAX {
            std::mem::swap(&mut self.old, &mut self.young);
            self.young.clear();
        }
        self.young.insert_unique(hash(identity), identity << 4 | stages | stage, |entry| hash(entry >> 4));
    }
}

/// How many are looked for together.
const TOGETHER: usize = 32;

/// The identity is a hash already; hashbrown takes its control byte from the top bits, which a shift by 4 left empty.
fn hash(identity: u64) -> u64 {
    identity | identity << 60
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_requests_and_repeats() {
        let mut seen = Requests::default();
        seen.see(&[0x10, 0x12, 0x20, 0x10, 0x12, 0x30]);
        assert_eq!((seen.new, seen.duplicates), (3, 2));
    }

    #[test]
    fn forgets_the_oldest_only() {
        let mut seen = Requests::default();
        let many = 3 * GENERATION_MAX as u64;
        for i in 0..many {
            seen.see(&[i.wrapping_mul(0x9E37_79B9_7F4A_7C15) << 4]);
        }
        assert!(seen.young.len() <= GENERATION_MAX && seen.old.len() <= GENERATION_MAX);
        assert_eq!((seen.new, seen.duplicates), (many, 0));
        seen.see(&[((many - 5).wrapping_mul(0x9E37_79B9_7F4A_7C15)) << 4]);
        assert_eq!(seen.duplicates, 1);
        seen.see(&[0]);
        assert_eq!(seen.new, many + 1);
    }
}
