//! The state of `temporal_ordered`: for each prefix of the inputs, the chain that starts latest.
//!
//! Chains are compared match by match in event order, the greatest wins: a later start always serves at least as long.
//! A chain of length i can only get greater over time, so that each match simply extends the best chain before it.
//!
//! Equal times satisfy either order, so matches of the newest time are kept apart from the prefixes before them: a
//! prefix may end with any of them, in any order, each used once.

use smallvec::SmallVec;

/// No chain of this length yet.
const NEVER: i64 = i64::MIN;

/// A match of the newest time: its evidence number and the inputs it can stand for.
type Fresh = (u64, SmallVec<[u16; 2]>);

#[derive(Debug)]
pub(super) struct Chain {
    /// Per prefix length - 1: the start of the best chain that ended before `newest`.
    starts: Box<[i64]>,
    /// The evidence of these chains: lengths 1, 2, … one after the other.
    links: Box<[u64]>,
    newest: i64,
    fresh: Vec<Fresh>,
}

impl Chain {
    pub(super) fn new(inputs: usize) -> Self {
        Chain {
            starts: vec![NEVER; inputs].into(),
            links: vec![0; inputs * (inputs + 1) / 2].into(),
            newest: NEVER,
            fresh: Vec::new(),
        }
    }

    /// The newest start of any prefix as seen from `now`, when matches of the same time may still come; [`i64::MIN`] if
    /// there is none.
    pub(super) fn alive(&self, now: i64) -> i64 {
        let begins = |(_, positions): &Fresh| positions.contains(&0);
        if now == self.newest || self.fresh.iter().any(begins) {
            return self.newest;
        }
        self.starts.iter().copied().max().unwrap_or(NEVER)
    }

    /// Takes a match in; times never go back.
    pub(super) fn add(&mut self, time: i64, number: u64, positions: &[u16]) {
        if time != self.newest {
            self.fold();
            self.newest = time;
        }
        // More alternatives for the same inputs than there are inputs are never used; the newest are.
        let alike = self.fresh.iter().filter(|(_, p)| p.as_slice() == positions).count();
        if alike >= self.starts.len()
            && let Some(oldest) = self.fresh.iter().position(|(_, p)| p.as_slice() == positions)
        {
            self.fresh.remove(oldest);
        }
        self.fresh.push((number, SmallVec::from_slice(positions)));
    }

    /// The start of the best whole chain, `None` if there is none.
    pub(super) fn start(&self) -> Option<i64> {
        let all = self.starts.len();
        let start = match self.best(all) {
            Some(0) => self.newest,
            Some(kept) => self.starts[kept - 1],
            None => *self.starts.last()?,
        };
        (start != NEVER).then_some(start)
    }

    /// The evidence of the best whole chain, in its order.
    pub(super) fn evidence(&self) -> Vec<u64> {
        let all = self.starts.len();
        match self.best(all) {
            Some(kept) => self.links(kept).iter().copied().chain(self.assign(kept, all)).collect(),
            None => self.links(all).to_vec(),
        }
    }

    fn links(&self, length: usize) -> &[u64] {
        &self.links[length * length.saturating_sub(1) / 2..][..length]
    }

    /// Folds the matches of the newest time into the prefixes.
    fn fold(&mut self) {
        // Longer prefixes first: they are made from shorter ones as these were before.
        for length in (1..=self.starts.len()).rev() {
            if let Some(kept) = self.best(length) {
                let chain: SmallVec<[u64; 8]> =
                    self.links(kept).iter().copied().chain(self.assign(kept, length)).collect();
                self.starts[length - 1] = if kept == 0 { self.newest } else { self.starts[kept - 1] };
                self.links[length * (length - 1) / 2..][..length].copy_from_slice(&chain);
            }
        }
        self.fresh.clear();
    }

    /// How much of a chain of this length is best taken from before the newest time, the rest being of that time; `None`
    /// if no match of the newest time can end it. The less is kept, the later it starts.
    fn best(&self, length: usize) -> Option<usize> {
        let mut best = None;
        for kept in (0..length).rev() {
            if !self.feasible(kept..length, &[]) {
                break;
            }
            if kept == 0 || self.starts[kept - 1] != NEVER {
                best = Some(kept);
            }
        }
        best
    }

    /// The evidence for the inputs `kept..length`, all of the newest time: for each the latest that leaves enough for the
    /// others.
    fn assign(&self, kept: usize, length: usize) -> SmallVec<[u64; 4]> {
        let mut used: SmallVec<[usize; 4]> = SmallVec::new();
        for position in kept..length {
            let choice = (0..self.fresh.len()).rev().find(|&candidate| {
                if used.contains(&candidate) || !self.fits(candidate, position) {
                    return false;
                }
                used.push(candidate);
                let feasible = self.feasible(position + 1..length, &used);
                used.pop();
                feasible
            });
            used.extend(choice);
        }
        used.into_iter().map(|index| self.fresh[index].0).collect()
    }

    fn fits(&self, fresh: usize, position: usize) -> bool {
        self.fresh[fresh].1.iter().any(|p| usize::from(*p) == position)
    }

    /// Whether each of these inputs can have a match of the newest time of its own (bipartite matching by augmenting
    /// paths; there are a handful of each).
    fn feasible(&self, positions: std::ops::Range<usize>, used: &[usize]) -> bool {
        let mut taken: SmallVec<[Option<usize>; 8]> = SmallVec::from_elem(None, self.fresh.len());
        positions.into_iter().all(|position| {
            let mut visited: SmallVec<[bool; 8]> = SmallVec::from_elem(false, self.fresh.len());
            for &index in used {
                visited[index] = true;
            }
            self.augment(position, &mut taken, &mut visited)
        })
    }

    fn augment(&self, position: usize, taken: &mut [Option<usize>], visited: &mut [bool]) -> bool {
        for index in 0..self.fresh.len() {
            if visited[index] || !self.fits(index, position) {
                continue;
            }
            visited[index] = true;
            if taken[index].is_none_or(|other| self.augment(other, taken, visited)) {
                taken[index] = Some(position);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds (time, positions) in order; the evidence number is the index.
    fn chain(inputs: usize, matches: &[(i64, &[u16])]) -> (Option<i64>, Vec<u64>) {
        let mut c = Chain::new(inputs);
        for (number, (time, positions)) in (0u64..).zip(matches) {
            c.add(*time, number, positions);
        }
        (c.start(), if c.start().is_some() { c.evidence() } else { Vec::new() })
    }

    #[test]
    fn finds_the_latest_chain() {
        type Table = [(usize, &'static [(i64, &'static [u16])], Option<i64>, &'static [u64])];
        let table: &Table = &[
            (2, &[(1, &[0])], None, &[]),
            (2, &[(1, &[1]), (2, &[0])], None, &[]),
            (2, &[(1, &[0]), (2, &[1])], Some(1), &[0, 1]),
            (2, &[(1, &[0]), (2, &[0]), (3, &[1])], Some(2), &[1, 2]),
            // B is there twice: the later one is told.
            (2, &[(1, &[0]), (2, &[1]), (3, &[1])], Some(1), &[0, 2]),
            // A later A does not spoil a chain that is whole.
            (2, &[(1, &[0]), (2, &[1]), (3, &[0])], Some(1), &[0, 1]),
            // Equal times satisfy either order.
            (2, &[(5, &[1]), (5, &[0])], Some(5), &[1, 0]),
            (3, &[(1, &[0]), (5, &[2]), (5, &[1])], Some(1), &[0, 2, 1]),
            (3, &[(1, &[0]), (5, &[2]), (5, &[1]), (5, &[0])], Some(5), &[3, 2, 1]),
            (3, &[(5, &[2]), (5, &[1]), (6, &[0])], None, &[]),
            // The same rule twice needs two matches.
            (2, &[(5, &[0, 1])], None, &[]),
            (2, &[(5, &[0, 1]), (5, &[0, 1])], Some(5), &[1, 0]),
            (2, &[(5, &[0, 1]), (6, &[0, 1]), (7, &[0, 1])], Some(6), &[1, 2]),
            // The newest would do for both: it must take the place that nothing else can.
            (2, &[(5, &[0]), (5, &[0, 1])], Some(5), &[0, 1]),
            (2, &[(5, &[0, 1]), (5, &[0])], Some(5), &[1, 0]),
            (3, &[(1, &[0]), (2, &[1]), (3, &[0]), (4, &[2])], Some(1), &[0, 1, 3]),
        ];
        for (inputs, matches, start, evidence) in table {
            assert_eq!(chain(*inputs, matches), (*start, evidence.to_vec()), "{matches:?}");
        }
    }

    #[test]
    fn many_matches_at_one_time_stay_few() {
        let mut c = Chain::new(2);
        for number in 0..1000 {
            c.add(1, number, &[0]);
        }
        assert_eq!(c.fresh.len(), 2);
        c.add(1, 1000, &[1]);
        assert_eq!(c.evidence(), [999, 1000]);
    }
}
