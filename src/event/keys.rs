//! Marks of keys, and which keys stand anywhere in an object: most of what rules ask for is not there, and these say so
//! without a look at the keys.
//!
//! Invariant: they err on one side only. What is there is never said to be missing.

/// Marks that there are; a pod's spec has some hundred different keys.
const MARKS: u16 = 2048;

/// The mark of a key, by its part before the first dot: a key that is the start of a path, up to a dot, has the mark of that
/// path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u16);

impl Mark {
    /// Of a key that cannot be read.
    pub const ANY: Mark = Mark(u16::MAX);

    /// Beside the mark: whether the key holds a dot.
    const DOTTED: u16 = MARKS;

    /// From a few bytes and the length: fields of Kubernetes' objects differ in these.
    #[inline]
    pub fn of(key: &[u8]) -> Mark {
        let length = key.iter().position(|byte| *byte == b'.').unwrap_or(key.len());
        let at = |place: usize| key[..length].get(place).map_or(0, |byte| u64::from(*byte));
        let front = at(0) | at(1) << 8 | at(length / 2) << 16;
        let back = at(length.wrapping_sub(1)) | at(length.wrapping_sub(2)) << 8;
        let mixed = (front | back << 24 | (length as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let dotted = if length < key.len() { Mark::DOTTED } else { 0 };
        Mark((mixed >> 53) as u16 | dotted)
    }

    /// Whether a key with this mark may be the one with the other.
    #[inline]
    pub fn may_be(self, other: Mark) -> bool {
        (self.0 ^ other.0) & (MARKS - 1) == 0 || self == Mark::ANY
    }

    /// One of 64 bits for the mark; all of them for any.
    #[inline]
    pub fn bit(self) -> u64 {
        if self == Mark::ANY { u64::MAX } else { 1 << (self.0 % 64) }
    }
}

/// The keys of an object and of all objects in it: a Bloom filter.
#[derive(Debug)]
pub struct KeySet([u64; MARKS as usize / 64]);

impl Default for KeySet {
    fn default() -> Self {
        KeySet([0; MARKS as usize / 64])
    }
}

/// The marks of a path's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked(Box<[u16]>);

impl Asked {
    /// Of the parts of a path: of each what stands between its dots.
    pub fn of<'p>(parts: impl Iterator<Item = &'p str>) -> Asked {
        let segments = parts.flat_map(|part| part.split('.')).filter(|segment| !segment.is_empty());
        Asked(segments.map(|segment| Mark::of(segment.as_bytes()).0).collect())
    }

    /// The keys of both paths.
    pub fn and(&self, other: &Asked) -> Asked {
        Asked(self.0.iter().chain(&other.0).copied().collect())
    }
}

impl KeySet {
    /// Adds a key by its mark; `key` gives it, unescaped, if it holds dots: a path then goes through it in several segments.
    /// `None` if it cannot be read.
    pub fn add<K: AsRef<[u8]>>(&mut self, mark: Mark, key: impl FnOnce() -> Option<K>) -> Option<()> {
        if mark == Mark::ANY {
            return None;
        }
        if mark.0 & Mark::DOTTED == 0 {
            self.set(mark);
            return Some(());
        }
        let key = key()?;
        let segments = key.as_ref().split(|byte| *byte == b'.').filter(|segment| !segment.is_empty());
        segments.for_each(|segment| self.set(Mark::of(segment)));
        Some(())
    }

    fn set(&mut self, mark: Mark) {
        let place = mark.0 & (MARKS - 1);
        self.0[usize::from(place) / 64] |= 1 << (place % 64);
    }

    /// Whether all keys of the path may be there.
    pub fn may_hold(&self, asked: &Asked) -> bool {
        asked.0.iter().all(|mark| self.0[usize::from(*mark) / 64] >> (mark % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_keys_and_few_others() {
        let mut keys = KeySet::default();
        let there = ["containers", "securityContext", "runAsUser", "a.b/c", "hostPath", "x", "env."];
        for key in there {
            assert!(keys.add(Mark::of(key.as_bytes()), || Some(key)).is_some());
        }
        for (path, may) in [
            ("containers.securityContext.runAsUser", true),
            ("a.b/c", true),
            ("env.x", true),
            ("", true),
            ("runAsGroup", false),
            ("containers.securityContext.procMount", false),
            ("hostPID", false),
            ("volumes.hostPath", false),
        ] {
            assert_eq!(keys.may_hold(&Asked::of(std::iter::once(path))), may, "{path}");
        }
        assert!(keys.add(Mark::ANY, || Some("x")).is_none());
    }

    #[test]
    fn a_key_may_be_what_starts_like_it() {
        let may = |key: &str, run: &str| Mark::of(key.as_bytes()).may_be(Mark::of(run.as_bytes()));
        assert!(may("a", "a.b") && may("a.b", "a") && may("a.b/c", "a.b/c.d") && !may("labels", "annotations"));
        assert!(Mark::ANY.may_be(Mark::of(b"x")) && Mark::ANY.bit() & Mark::of(b"x").bit() != 0);
    }
}
