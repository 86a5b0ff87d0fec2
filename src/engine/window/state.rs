//! The state of one group of one correlation: exact, and no more than it takes.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use super::chain::Chain;
use super::numbers::Numbers;
use super::plan::{Kind, Plan};
use crate::engine::sightings::last_moment;
use crate::rules::Needed;

/// No such time. Far enough back that every span since then is over.
const NEVER: i64 = i64::MIN;

/// When something was last seen: its time and its evidence number.
type Slot = (i64, u64);

/// What a match tells one of its groups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fed<'f> {
    pub(super) time: i64,
    /// Its evidence number.
    pub(super) number: u64,
    /// The inputs of the correlation, by position, that the match stands for in this group.
    pub(super) positions: &'f [u16],
    /// The counted values (a tuple of fields is one value): hashes, or numbers in thousandths.
    pub(super) tuples: &'f [u128],
}

/// A group's state. A condition is judged at each of its matches.
///
/// Most groups never see a second match inside the timespan (think of one per credential), or few, and those are too few for
/// most conditions: such a group is on no heap. It becomes whole when it has to remember more, and stays so.
#[derive(Debug)]
pub(super) enum Group {
    Few(Few),
    Whole(Box<Whole>),
}

/// The only match inside the timespan; where matches are counted, the last one of up to three. Too few, or the group were
/// whole.
#[derive(Debug)]
pub(super) struct Few {
    /// The value counted (in two parts: an `u128` would be aligned to 16 bytes), if values are. If matches are, those before
    /// this one, the later first, as [`pack`] has them.
    value: [u64; 2],
    time: i64,
    /// Its evidence number and one; never 0, so that no byte is needed to tell the variants apart.
    number: NonZeroU64,
}

/// The whole state of a group.
#[derive(Debug)]
pub(super) struct Whole {
    /// When the condition last held.
    last_held: i64,
    /// When it was last told.
    last_fired: i64,
    /// Time of the oldest match counted when the condition began to hold.
    episode_from: i64,
    /// Matches since then.
    episode_matches: u64,
    shape: Shape,
}

/// What the types of correlations keep.
#[derive(Debug)]
enum Shape {
    /// The last matches inside the timespan, at most `cap`.
    Events(VecDeque<Slot>),
    /// The distinct values seen last inside the timespan, at most `cap`, oldest first.
    Values(Vec<(u128, Slot)>),
    /// The numbers inside the timespan.
    Numbers(Box<Numbers>),
    /// Per input, its last match.
    All(Box<[Slot]>),
    Ordered(Box<Chain>),
}

/// A group fires.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Matches, values or inputs that made it fire.
    pub(super) count: u64,
    /// Time of the oldest of them.
    pub(super) from: i64,
    /// Evidence of what made it fire, without order, perhaps with repeats.
    pub(super) evidence: Vec<u64>,
}

impl Group {
    /// No state; it holds on to nothing.
    pub(super) fn nothing() -> Self {
        Group::Few(Few { value: [0; 2], time: NEVER, number: NonZeroU64::MIN })
    }

    /// The state after a first match, and the verdict on it. Before it come those of an order that waited for it: evidence
    /// numbers and positions.
    pub(super) fn first<'e>(
        plan: &Plan,
        fed: Fed<'_>,
        early: impl Iterator<Item = (u64, &'e [u16])>,
    ) -> (Self, Option<Verdict>) {
        let Fed { time, number, .. } = fed;
        if let Some(one) = Few::of(plan, fed) {
            return (Group::Few(one), None);
        }
        if let Kind::New { .. } = plan.kind {
            return (Group::Few(Few::sighted(plan, time)), Some(Verdict::of_one(time, number)));
        }
        let mut whole = Whole::new(plan);
        if let Shape::Ordered(chain) = &mut whole.shape {
            early.for_each(|(number, positions)| chain.add(time, number, positions));
        }
        let verdict = whole.feed(plan, fed);
        (Group::Whole(Box::new(whole)), verdict)
    }

    /// Takes a match in and judges the condition. Times never go back.
    pub(super) fn feed(&mut self, plan: &Plan, fed: Fed<'_>) -> Option<Verdict> {
        if let Group::Few(before) = self {
            if let Kind::New { .. } = plan.kind {
                let Fed { time, number, .. } = fed;
                let forgotten = time.saturating_sub(before.time) > plan.timespan;
                *before = Few::sighted(plan, time);
                return forgotten.then(|| Verdict::of_one(time, number));
            }
            let few = match plan.kind {
                Kind::Events => before.and(plan, fed),
                _ => Few::of(plan, fed).filter(|one| one.replaces(before, plan)),
            };
            if let Some(few) = few {
                *before = few;
                return None;
            }
            *self = Group::Whole(Box::new(before.whole(plan)));
        }
        match self {
            Group::Whole(whole) => whole.feed(plan, fed),
            Group::Few(_) => None,
        }
    }

    /// The numbers it holds, if it holds any.
    pub(super) fn numbers(&mut self) -> Option<&mut Numbers> {
        match self {
            Group::Whole(whole) => match &mut whole.shape {
                Shape::Numbers(numbers) => Some(numbers),
                _ => None,
            },
            Group::Few(_) => None,
        }
    }

    /// From when on this state is as good as none, as seen from `now`.
    pub(super) fn over_from(&self, plan: &Plan, now: i64) -> i64 {
        match self {
            Group::Few(one) => behind(one.time, plan.timespan),
            Group::Whole(whole) => whole.over_from(plan, now),
        }
    }
}

impl Verdict {
    /// One match by itself.
    pub(super) fn of_one(time: i64, number: u64) -> Self {
        Verdict { count: 1, from: time, evidence: vec![number] }
    }
}

impl Few {
    fn at(time: i64, number: u64) -> Few {
        Few { value: [0; 2], time, number: NonZeroU64::MIN.saturating_add(number) }
    }

    /// A value that came up; its evidence is needed only at once.
    fn sighted(plan: &Plan, time: i64) -> Few {
        Few::at(last_moment(time, plan.quantum), 0)
    }

    /// A match by itself, if it is too few by itself.
    fn of(plan: &Plan, fed: Fed<'_>) -> Option<Few> {
        let value = match (&plan.kind, fed.tuples) {
            (Kind::Events, _) => 0,
            (Kind::Values, [only]) => *only,
            _ => return None,
        };
        plan.one_is_too_few
            .then(|| Few { value: [value as u64, (value >> 64) as u64], ..Few::at(fed.time, fed.number) })
    }

    /// Whether nothing is left of the value before this one: it is over, or the same.
    fn replaces(&self, before: &Few, plan: &Plan) -> bool {
        self.time.saturating_sub(before.time) > plan.timespan || self.value == before.value
    }

    /// One more match where matches are counted, if there is room, and all inside the timespan are still too few.
    fn and(&self, plan: &Plan, fed: Fed<'_>) -> Option<Few> {
        let (mut few, mut count) = (Few::at(fed.time, fed.number), 1);
        for slot in self.slots().take_while(|slot| fed.time.saturating_sub(slot.0) <= plan.timespan) {
            *few.value.get_mut(count - 1)? = pack(slot, (fed.time, fed.number))?;
            count += 1;
        }
        (count <= plan.cap && !plan.holds(count)).then_some(few)
    }

    fn last(&self) -> Slot {
        (self.time, self.number.get() - 1)
    }

    /// The matches, where matches are counted: the last one first.
    fn slots(&self) -> impl Iterator<Item = Slot> {
        let last = self.last();
        std::iter::once(last).chain(self.value.into_iter().map_while(move |packed| unpack(packed, last)))
    }

    /// The same as whole state. How many matches there were is asked only once a condition has held.
    fn whole(&self, plan: &Plan) -> Whole {
        let mut whole = Whole::new(plan);
        match &mut whole.shape {
            Shape::Events(slots) => self.slots().for_each(|slot| slots.push_front(slot)),
            Shape::Values(values) => {
                let [low, high] = self.value;
                values.push((u128::from(high) << 64 | u128::from(low), self.last()));
            }
            Shape::Numbers(_) | Shape::All(_) | Shape::Ordered(_) => {}
        }
        whole
    }
}

/// A match by how far it is from a later one, in half the bytes: the high half is how much earlier it was, microseconds and
/// one, the low half how much lower its evidence number is, or higher (those of one time have no order). `None` if that is too far.
fn pack((time, number): Slot, last: Slot) -> Option<u64> {
    let earlier = u32::try_from(last.0.checked_sub(time)?).ok()?.checked_add(1)?;
    let lower = i32::try_from(last.1.wrapping_sub(number) as i64).ok()?;
    Some(u64::from(earlier) << 32 | u64::from(lower as u32))
}

/// The match that was packed, if one was.
fn unpack(packed: u64, last: Slot) -> Option<Slot> {
    let earlier = (packed >> 32).checked_sub(1)?;
    Some((last.0 - earlier as i64, last.1.wrapping_sub(packed as u32 as i32 as u64)))
}

impl Whole {
    fn new(plan: &Plan) -> Self {
        let shape = match &plan.kind {
            // The last two never get here: what comes up is one match, and what ends is kept elsewhere.
            Kind::Events | Kind::New { .. } | Kind::Absence { .. } => Shape::Events(VecDeque::new()),
            Kind::Values => Shape::Values(Vec::new()),
            Kind::Numbers(measure) => Shape::Numbers(Box::new(Numbers::new(*measure))),
            Kind::All(_) => Shape::All(vec![(NEVER, 0); plan.inputs()].into()),
            Kind::Ordered => Shape::Ordered(Box::new(Chain::new(plan.inputs()))),
        };
        Whole { last_held: NEVER, last_fired: NEVER, episode_from: NEVER, episode_matches: 0, shape }
    }

    fn feed(&mut self, plan: &Plan, fed: Fed<'_>) -> Option<Verdict> {
        self.shape.add(plan, fed);
        self.episode_matches += 1;
        let verdict = self.judge(plan, fed.time);
        self.shape.trim(plan);
        verdict
    }

    fn judge(&mut self, plan: &Plan, time: i64) -> Option<Verdict> {
        let (count, from) = self.shape.standing(plan, time)?;
        let begins = time.saturating_sub(self.last_held) > plan.timespan;
        self.last_held = time;
        if begins {
            self.episode_from = from;
            self.episode_matches = count;
        }
        let since_told = time.saturating_sub(self.last_fired);
        if (!begins && since_told < plan.realert) || since_told < plan.suppress {
            return None;
        }
        self.last_fired = time;
        let evidence = self.shape.evidence(plan, time);
        Some(match self.shape {
            // What came in the meantime is no longer kept, but was counted.
            Shape::Events(_) => Verdict { count: self.episode_matches, from: self.episode_from, evidence },
            // Older values may have been forgotten: at least so many.
            Shape::Values(ref values) if !begins && values.len() > plan.cap => {
                Verdict { count: plan.cap as u64, from: values[values.len() - plan.cap].1.0, evidence }
            }
            _ => Verdict { count, from, evidence },
        })
    }

    fn over_from(&self, plan: &Plan, now: i64) -> i64 {
        let last = match &self.shape {
            Shape::Events(slots) => slots.back().map_or(NEVER, |s| s.0),
            Shape::Values(values) => values.last().map_or(NEVER, |v| v.1.0),
            Shape::Numbers(numbers) => numbers.newest().unwrap_or(NEVER),
            Shape::All(slots) => slots.iter().map(|s| s.0).max().unwrap_or(NEVER),
            // Without a start that lives the order begins anew, but an episode may go on.
            Shape::Ordered(chain) => chain.alive(now).max(self.last_held),
        };
        // Whatever holds next begins anew then, so `realert` does not matter.
        behind(last, plan.timespan).max(self.last_fired.saturating_add(plan.suppress))
    }
}

/// The first moment that is more than a timespan later.
pub(super) fn behind(time: i64, timespan: i64) -> i64 {
    time.saturating_add(timespan).saturating_add(1)
}

impl Shape {
    fn add(&mut self, plan: &Plan, fed: Fed<'_>) {
        let Fed { time, number, positions, tuples } = fed;
        let over = |slot: &Slot| time.saturating_sub(slot.0) > plan.timespan;
        match self {
            Shape::Events(slots) => {
                while slots.front().is_some_and(over) {
                    slots.pop_front();
                }
                slots.push_back((time, number));
            }
            Shape::Values(values) => {
                let expired = values.iter().take_while(|(_, slot)| over(slot)).count();
                values.drain(..expired);
                for tuple in tuples {
                    if let Some(have) = values.iter().rposition(|(value, _)| value == tuple) {
                        values.remove(have);
                    }
                    values.push((*tuple, (time, number)));
                }
            }
            Shape::Numbers(numbers) => {
                numbers.expire(time, plan.timespan);
                // As they were put in.
                tuples.iter().for_each(|tuple| numbers.add(time, number, *tuple as i64));
            }
            Shape::All(slots) => {
                for position in positions {
                    slots[usize::from(*position)] = (time, number);
                }
            }
            Shape::Ordered(chain) => chain.add(time, number, positions),
        }
    }

    /// Forgets what no condition can ask for any more.
    ///
    /// Values may have grown beyond the cap by one match's fan-out; they were judged with all of them, so that the count
    /// of a first firing is exact.
    fn trim(&mut self, plan: &Plan) {
        match self {
            Shape::Events(slots) => {
                while slots.len() > plan.cap {
                    slots.pop_front();
                }
            }
            Shape::Values(values) => {
                let excess = values.len().saturating_sub(plan.cap);
                values.drain(..excess);
            }
            Shape::Numbers(_) | Shape::All(_) | Shape::Ordered(_) => {}
        }
    }

    /// If the condition holds at `time`: how many are counted, and the time of the oldest.
    fn standing(&self, plan: &Plan, time: i64) -> Option<(u64, i64)> {
        let inside = |from: i64| from != NEVER && time.saturating_sub(from) <= plan.timespan;
        match self {
            Shape::Events(slots) => plan.holds(slots.len()).then_some((slots.len() as u64, slots.front()?.0)),
            Shape::Values(values) => plan.holds(values.len()).then_some((values.len() as u64, values.first()?.1.0)),
            Shape::Numbers(numbers) => {
                numbers.holds(plan.bounds()).then_some((numbers.len() as u64, numbers.oldest()?))
            }
            Shape::All(slots) => {
                let seen = |slot: &&Slot| inside(slot.0);
                let count = slots.iter().filter(seen).count();
                let holds = match &plan.kind {
                    Kind::All(Needed::Count(bounds)) => bounds.iter().all(|(cmp, k)| cmp.holds(&(count as i64), k)),
                    Kind::All(Needed::Seen(condition)) => condition.holds(&|place| inside(slots[place].0)),
                    _ => count == slots.len(),
                };
                let oldest = slots.iter().filter(seen).map(|s| s.0).min()?;
                holds.then_some((count as u64, oldest))
            }
            Shape::Ordered(chain) => {
                let start = chain.start()?;
                inside(start).then_some((plan.inputs() as u64, start))
            }
        }
    }

    fn evidence(&self, plan: &Plan, time: i64) -> Vec<u64> {
        match self {
            Shape::Events(slots) => slots.iter().rev().take(plan.need).map(|s| s.1).collect(),
            Shape::Values(values) => values.iter().rev().take(plan.need).map(|v| v.1.1).collect(),
            Shape::Numbers(numbers) => numbers.evidence(plan.need),
            Shape::All(slots) => {
                let inside = |slot: &&Slot| slot.0 != NEVER && time.saturating_sub(slot.0) <= plan.timespan;
                slots.iter().filter(inside).map(|s| s.1).collect()
            }
            Shape::Ordered(chain) => chain.evidence(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// What is near enough is given back as it was.
        #[test]
        fn a_match_is_packed_by_its_distance(
            time in -1_000_000..i64::MAX, number in 0..u64::MAX, earlier in 0..5_000_000_000i64, lower in -3_000_000_000..3_000_000_000i64,
        ) {
            let slot = (time, number);
            let last = (time.saturating_add(earlier), number.wrapping_add(lower as u64));
            let is_near = last.0 - time < i64::from(u32::MAX) && i32::try_from(lower).is_ok();
            let packed = pack(slot, last);
            proptest::prop_assert_eq!(packed.and_then(|packed| unpack(packed, last)), is_near.then_some(slot));
        }
    }

    #[test]
    fn nothing_is_packed_as_nothing() {
        assert_eq!(unpack(0, (5, 5)), None);
        assert_eq!(unpack(pack((5, 5), (5, 5)).unwrap(), (5, 5)), Some((5, 5)));
        assert_eq!(pack((6, 5), (5, 5)), None, "later than the last");
    }
}
