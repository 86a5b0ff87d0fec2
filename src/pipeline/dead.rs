//! Records of a topic that gave no event: what is sent to a topic of dead letters, by whomever they were read.

use crate::source::Batch;
use crate::worker::BatchResult;

/// Shows `keep` each of them: its offset, what is wrong with it, and what there is of it.
pub(super) fn each_dead(batch: &Batch, result: &BatchResult, keep: &mut dyn FnMut(u64, &str, &[u8])) {
    let raw = |range: &std::ops::Range<usize>| batch.bytes.get(range.clone()).unwrap_or_default();
    for skipped in &batch.oversized {
        keep(skipped.offset, &format!("too large: {} bytes", skipped.bytes), &[]);
    }
    for problem in result.problems.iter().filter(|problem| problem.is_lost_document()) {
        keep(problem.offset, &problem.why, raw(&problem.range));
    }
    for range in &result.strangers {
        keep(batch.offset_of(range.start), "no audit event", raw(range));
    }
}
