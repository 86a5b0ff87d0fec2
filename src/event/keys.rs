//! Which keys stand anywhere in an object: a Bloom filter, so that one look at an object answers for all the paths that
//! lead nowhere in it.
//!
//! Invariant: it errs on one side only. A path that leads somewhere is never said to be missing.

/// Places in a set (bits); a pod's spec has some hundred different keys.
const PLACES: usize = 1024;

/// The keys of an object and of all objects in it.
#[derive(Debug)]
pub struct KeySet([u64; PLACES / 64]);

impl Default for KeySet {
    fn default() -> Self {
        KeySet([0; PLACES / 64])
    }
}

/// The places of a path's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked(Box<[u16]>);

impl Asked {
    /// Of a path as written, quotes around keys included.
    pub fn of(path: &str) -> Asked {
        let segments = path.split(['.', '"']).filter(|segment| !segment.is_empty());
        Asked(segments.flat_map(|segment| places(segment.as_bytes())).collect())
    }
}

impl KeySet {
    /// Adds a key, unescaped. A key may hold dots, and a path then goes through it in several segments.
    pub fn add(&mut self, key: &[u8]) {
        for segment in key.split(|byte| matches!(byte, b'.' | b'"')).filter(|segment| !segment.is_empty()) {
            for place in places(segment) {
                self.0[usize::from(place) / 64] |= 1 << (place % 64);
            }
        }
    }

    /// Whether all keys of the path may be there.
    pub fn may_hold(&self, asked: &Asked) -> bool {
        asked.0.iter().all(|place| self.0[usize::from(*place) / 64] >> (place % 64) & 1 == 1)
    }
}

/// Two places, from a few bytes of the key and its length: fields of Kubernetes' objects differ in these.
#[inline]
fn places(segment: &[u8]) -> [u16; 2] {
    let length = segment.len();
    let at = |place: usize| segment.get(place).map_or(0, |byte| u64::from(*byte));
    let front = at(0) | at(1) << 8 | at(2) << 16 | at(length / 2) << 24;
    let back = at(length.wrapping_sub(1)) | at(length.wrapping_sub(2)) << 8 | at(length.wrapping_sub(3)) << 16;
    let mixed = (front | back << 32 | (length as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    [(mixed >> 54) as u16, (mixed >> 44) as u16 & (PLACES as u16 - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_keys_and_few_others() {
        let mut keys = KeySet::default();
        let there = ["containers", "securityContext", "runAsUser", "a.b/c", "hostPath", "x"];
        there.iter().for_each(|key| keys.add(key.as_bytes()));
        for (path, may) in [
            ("containers.securityContext.runAsUser", true),
            ("a.b/c", true),
            ("\"a.b/c\".x", true),
            ("", true),
            ("runAsGroup", false),
            ("containers.securityContext.procMount", false),
            ("hostPID", false),
            ("volumes.hostPath", false),
        ] {
            assert_eq!(keys.may_hold(&Asked::of(path)), may, "{path}");
        }
    }
}
