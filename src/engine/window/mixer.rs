//! One key for several values that are hashes already.
//!
//! Whoever chooses the values must not find two tuples with one key, and a hash that withstands that without a secret costs
//! more than all else that a window does. With one, NH does (Black, Halevi, Krawczyk, Krovetz and Rogaway, "UMAC: Fast and
//! Secure Message Authentication", CRYPTO 1999): each pair of words is added to a pair of secret ones and multiplied, and
//! the products are added up. Two tuples of one length collide with a probability of 2^-64 at most.

use std::hash::{BuildHasher, RandomState};

/// The secret of one run; keys mean nothing beyond it.
#[derive(Debug)]
pub(super) struct Mixer(Box<[[u64; 2]]>);

impl Mixer {
    /// For tuples of so many values at most, and a number beside them.
    pub(super) fn new(values_max: usize) -> Mixer {
        let random = RandomState::new();
        Mixer((0..=values_max).map(|place| [0, 1].map(|half| random.hash_one((place, half)))).collect())
    }

    /// The key of a tuple. Values beyond the limit do not count.
    #[inline]
    pub(super) fn key(&self, beside: u64, values: impl Iterator<Item = u128>) -> u128 {
        let parts = std::iter::once(u128::from(beside)).chain(values);
        parts.zip(&self.0).fold(0, |sum: u128, (part, [low, high])| {
            let (low, high) = (low.wrapping_add(part as u64), high.wrapping_add((part >> 64) as u64));
            sum.wrapping_add(u128::from(low) * u128::from(high))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_differs_has_another_key() {
        let mixer = Mixer::new(3);
        let values = [0, 1, 2, u128::MAX, 1 << 64, u128::MAX - 1, 0xdead_beef << 60];
        let mut keys = std::collections::BTreeSet::new();
        let mut count = 0;
        for beside in [0, 1, u64::MAX] {
            for (a, b, c) in values.iter().flat_map(|a| values.iter().flat_map(move |b| values.map(|c| (*a, *b, c)))) {
                count += 1;
                keys.insert(mixer.key(beside, [a, b, c].into_iter()));
                assert_eq!(mixer.key(beside, [a, b, c].into_iter()), mixer.key(beside, [a, b, c].into_iter()));
            }
        }
        assert_eq!(keys.len(), count);
        assert_ne!(mixer.key(7, [1, 2].into_iter()), Mixer::new(3).key(7, [1, 2].into_iter()));
    }
}
