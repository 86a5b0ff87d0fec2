//! What was found at places of a text: a few dozen per event, asked for hundreds of times.

use std::cell::{OnceCell, RefCell};

use bumpalo::Bump;
use bumpalo::collections::Vec;

/// How many places of an event are remembered; others are looked at anew each time.
const PLACES_MAX: usize = 100;

/// Slots of the table: more than twice as many as places, so that a look into it is short.
const SLOTS: usize = 256;

/// Values by where they stand. Nothing is set up for an event of which nothing is asked.
pub(super) struct Places<'a, T>(OnceCell<&'a RefCell<Table<'a, T>>>);

struct Table<'a, T> {
    /// The number of the value that belongs here, and one; 0 for none.
    slots: [u8; SLOTS],
    values: Vec<'a, (usize, T)>,
}

impl<T> Default for Places<'_, T> {
    fn default() -> Self {
        Places(OnceCell::new())
    }
}

impl<'a, T: Copy> Places<'a, T> {
    /// What was put at `place`.
    #[inline]
    pub(super) fn get(&self, place: usize) -> Option<T> {
        let table = self.0.get()?.borrow();
        let found = table.values.get(table.slot(place).1?)?;
        Some(found.1)
    }

    /// Remembers a value, if there is room. Nothing was put at `place` before.
    pub(super) fn put(&self, place: usize, value: T, arena: &'a Bump) {
        let empty = || arena.alloc(RefCell::new(Table { slots: [0; SLOTS], values: Vec::new_in(arena) }));
        let mut table = self.0.get_or_init(|| empty()).borrow_mut();
        let slot = table.slot(place).0;
        if table.values.len() < PLACES_MAX {
            table.values.push((place, value));
            table.slots[slot] = table.values.len() as u8;
        }
    }
}

impl<T> Table<'_, T> {
    /// The slot of a place, and the number of its value if it has one. Most of the slots are free, so there is an end.
    #[inline]
    fn slot(&self, place: usize) -> (usize, Option<usize>) {
        // Places are some bytes apart, at no regular distance; the multiplication spreads those that are near each other.
        let mut slot = (place.wrapping_mul(0x9e37_79b1) >> 16) % SLOTS;
        loop {
            match usize::from(self.slots[slot]).checked_sub(1) {
                None => return (slot, None),
                Some(number) if self.values[number].0 == place => return (slot, Some(number)),
                Some(_) => slot = (slot + 1) % SLOTS,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn gives_back_what_was_put(places in prop::collection::btree_set(0usize..5000, 0..150), others in prop::collection::vec(0usize..5000, 50)) {
            let arena = Bump::new();
            let known = Places::default();
            let mut order: std::vec::Vec<usize> = places.iter().copied().collect();
            order.sort_by_key(|place| place.wrapping_mul(2_654_435_761) % 1000);
            for place in &order {
                prop_assert_eq!(known.get(*place), None);
                known.put(*place, place + 1, &arena);
            }
            for (number, place) in order.iter().enumerate() {
                prop_assert_eq!(known.get(*place), (number < PLACES_MAX).then_some(place + 1));
            }
            for other in others.iter().filter(|other| !places.contains(other)) {
                prop_assert_eq!(known.get(*other), None);
            }
        }
    }
}
