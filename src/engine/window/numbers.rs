//! The state of `value_sum`, `value_avg`, `value_median` and `value_percentile`: all numbers inside the timespan.
//!
//! A measure over a sliding window needs each number until it leaves, so this is the one state that grows with what
//! comes; [`super::Settings`] bounds it. Numbers are whole thousandths and measures are compared as fractions: nothing is
//! rounded, so that what was added and taken away leaves no trace.

use std::collections::VecDeque;

use crate::rules::Measure;
use crate::rules::expr::Cmp;

/// A percentile of the whole is so many thousandths of a percent.
const WHOLE: i128 = 100_000;

/// The numbers of one group.
#[derive(Debug)]
pub(super) struct Numbers {
    measure: Measure,
    /// Time, evidence number and thousandths, in the order they came.
    readings: VecDeque<(i64, u64, i64)>,
    sum: i128,
    /// The same numbers, ascending; kept for percentiles only.
    sorted: Vec<i64>,
}

impl Numbers {
    pub(super) fn new(measure: Measure) -> Self {
        Numbers { measure, readings: VecDeque::new(), sum: 0, sorted: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.readings.len()
    }

    pub(super) fn oldest(&self) -> Option<i64> {
        self.readings.front().map(|reading| reading.0)
    }

    pub(super) fn newest(&self) -> Option<i64> {
        self.readings.back().map(|reading| reading.0)
    }

    /// Takes a number in; times never go back.
    pub(super) fn add(&mut self, time: i64, number: u64, thousandths: i64) {
        self.readings.push_back((time, number, thousandths));
        self.sum += i128::from(thousandths);
        if let Measure::Percentile(_) = self.measure {
            let place = self.sorted.partition_point(|have| *have < thousandths);
            self.sorted.insert(place, thousandths);
        }
    }

    /// Forgets what is out of the timespan.
    pub(super) fn expire(&mut self, time: i64, timespan: i64) {
        while self.oldest().is_some_and(|oldest| time.saturating_sub(oldest) > timespan) {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest beyond so many; how many those were.
    pub(super) fn cut(&mut self, most: usize) -> usize {
        let excess = self.len().saturating_sub(most);
        (0..excess).for_each(|_| self.forget_oldest());
        excess
    }

    fn forget_oldest(&mut self) {
        let Some((_, _, thousandths)) = self.readings.pop_front() else { return };
        self.sum -= i128::from(thousandths);
        if let Measure::Percentile(_) = self.measure {
            let place = self.sorted.partition_point(|have| *have < thousandths);
            self.sorted.remove(place);
        }
    }

    /// Whether the measure is within the bounds (in thousandths). Nothing is measured of no numbers.
    pub(super) fn holds(&self, bounds: &[(Cmp, i64)]) -> bool {
        let Some((measured, of)) = self.measured() else { return false };
        bounds.iter().all(|(cmp, bound)| cmp.holds(&measured, &(i128::from(*bound) * of)))
    }

    /// The measure as a fraction: thousandths, and what they are to be divided by.
    fn measured(&self) -> Option<(i128, i128)> {
        let count = i128::try_from(self.len()).ok().filter(|count| *count > 0)?;
        Some(match self.measure {
            Measure::Sum => (self.sum, 1),
            Measure::Avg => (self.sum, count),
            Measure::Percentile(percentile) => {
                let place = i128::from(percentile) * (count - 1);
                let (below, beyond) = (usize::try_from(place / WHOLE).ok()?, place % WHOLE);
                let low = i128::from(*self.sorted.get(below)?);
                let high = self.sorted.get(below + 1).map_or(low, |high| i128::from(*high));
                (low * (WHOLE - beyond) + high * beyond, WHOLE)
            }
        })
    }

    /// The evidence of the newest so many.
    pub(super) fn evidence(&self, most: usize) -> Vec<u64> {
        self.readings.iter().rev().take(most).map(|reading| reading.1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures() {
        let check = |measure, numbers: &[i64], expected: Option<f64>| {
            let mut n = Numbers::new(measure);
            // What came and went before leaves nothing.
            n.add(0, 0, 77_777);
            numbers.iter().for_each(|number| n.add(10, 1, number * 1000));
            n.expire(10, 5);
            let found = n.measured().map(|(measured, of)| measured as f64 / of as f64 / 1000.0);
            assert_eq!(found, expected, "{measure:?} {numbers:?}");
        };
        use Measure::*;
        check(Sum, &[], None);
        check(Sum, &[1, -2, 4], Some(3.0));
        check(Avg, &[1, 2, 4, 4], Some(2.75));
        check(Percentile(50_000), &[9, 1, 5], Some(5.0));
        check(Percentile(50_000), &[9, 1, 5, 6], Some(5.5));
        check(Percentile(0), &[9, 1, 5], Some(1.0));
        check(Percentile(100_000), &[9, 1, 5], Some(9.0));
        check(Percentile(75_000), &[1, 2, 3, 4], Some(3.25));
        check(Percentile(95_000), &[7], Some(7.0));
    }
}
