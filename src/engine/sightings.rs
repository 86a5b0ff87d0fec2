//! Sightings: matches that only tell `new_value` correlations what is there. Programs do the same things day after day,
//! so nearly all of them repeat what was told a moment ago, and need not leave the worker.
//!
//! Invariant: what a window stage makes of the sightings is the same whether repeats are left out or not. It remembers
//! a value by the [quantum](quantum) of time in which it was seen last, so a second sighting within one changes nothing,
//! unless it is the earlier of the two.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

use super::lookup::look_up_all;
use super::program::Program;
use crate::event::view::Event;
use crate::rules::{CorrelationKind, Input, RuleSet};

/// Timespans below this (a day, microseconds) are exact: within one, a request's later stage may count anew.
const SPAN_MIN: i64 = 24 * 3600 * 1_000_000;

/// Quanta in a timespan.
const QUANTA: i64 = 256;

/// How many sightings a worker remembers (16 bytes each); one that is forgotten is told again.
const KEPT: usize = 8192;

/// How finely a `new_value` correlation of this timespan remembers when a value was seen last; 0 is exactly. Microseconds.
pub(crate) fn quantum(timespan: i64) -> i64 {
    if timespan < SPAN_MIN { 0 } else { timespan / QUANTA }
}

/// The last moment of the quantum that `time` is in.
pub(crate) fn last_moment(time: i64, quantum: i64) -> i64 {
    match quantum {
        0 => time,
        _ => time.div_euclid(quantum).saturating_mul(quantum).saturating_add(quantum - 1),
    }
}

/// Per rule: the quantum within which its matches repeat each other (microseconds), or 0 if each is needed.
pub fn quanta(set: &RuleSet) -> Vec<i64> {
    let mut quanta: Vec<Option<i64>> = vec![None; set.rules.len()];
    for correlation in &set.correlations {
        let fine = match correlation.kind {
            CorrelationKind::NewValue { .. } => quantum(correlation.timespan_us),
            _ => 0,
        };
        for input in &correlation.inputs {
            if let Input::Rule(rule) = *input {
                quanta[rule] = Some(quanta[rule].map_or(fine, |have| common(have, fine)));
            }
        }
    }
    let of_rule = |(rule, quantum): (usize, Option<i64>)| match set.rules[rule].alerts {
        true => 0,
        false => quantum.unwrap_or(0),
    };
    quanta.into_iter().enumerate().map(of_rule).collect()
}

/// A quantum that divides both: what repeats within it repeats for each.
fn common(a: i64, b: i64) -> i64 {
    match (a, b) {
        (0, _) | (_, 0) => 0,
        (a, b) if a % b == 0 => b,
        (a, b) => common(b, a % b),
    }
}

/// What one worker has told.
#[derive(Debug, Default)]
pub struct Sightings {
    seed: RandomState,
    /// By the key's last bits.
    told: Vec<Told>,
}

/// A sighting that left the worker.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// Hash of rule, cluster and values, and of the quantum it is in.
    key: u64,
    /// Its time.
    time: i64,
}

impl Sightings {
    /// Whether the rule's match of this event at `time` tells nothing that was not told; if not, it is remembered.
    pub fn is_repeat(&mut self, program: &Program, rule: u32, event: &Event<'_>, time: Option<i64>) -> bool {
        let quantum = program.quanta[rule as usize];
        if quantum == 0 {
            return false;
        }
        let Some(time) = time else { return false };
        let Some(key) = self.key(program, rule, last_moment(time, quantum), event) else { return false };
        if self.told.is_empty() {
            // No time is later than that of a place that nobody took.
            self.told.resize(KEPT, Told { key: 0, time: i64::MAX });
        }
        let place = &mut self.told[key as usize % KEPT];
        if place.key == key && time > place.time {
            return true;
        }
        *place = Told { key, time };
        false
    }

    /// A hash of what windows read of the match, and of the quantum that ends with `until`; `None` if it is more or less than
    /// one value a field.
    fn key(&self, program: &Program, rule: u32, until: i64, event: &Event<'_>) -> Option<u64> {
        let mut hasher = self.seed.build_hasher();
        hasher.write_u32(rule);
        hasher.write_i64(until);
        hasher.write(event.cluster().as_bytes());
        for &id in &program.captures.per_rule[rule as usize] {
            let mut values = 0;
            look_up_all(&program.capture_fields[id as usize], event, &mut |text| {
                values += 1;
                hasher.write_usize(text.len());
                hasher.write(text.as_bytes());
            });
            if values != 1 {
                return None;
            }
        }
        Some(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quanta_follow_each_other_without_a_gap() {
        assert_eq!((quantum(SPAN_MIN - 1), quantum(SPAN_MIN)), (0, SPAN_MIN / QUANTA));
        for (time, quantum, last) in
            [(0, 10, 9), (9, 10, 9), (10, 10, 19), (-1, 10, -1), (-11, 10, -11), (-10, 10, -1), (7, 0, 7), (7, 1, 7)]
        {
            assert_eq!(last_moment(time, quantum), last, "{time} {quantum}");
        }
        assert_eq!([common(30, 14), common(60, 30), common(0, 5), common(5, 0)], [2, 30, 0, 0]);
    }
}
