//! What a live run waits for.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Live, POLL, POLL_PER_LOG, RETRY_AFTER, deliver};

impl Live<'_> {
    /// Waits until something is posted, a sink is done with what it was given, or it is time to look at the logs.
    pub(super) fn wait(&self) {
        let mut select = crossbeam_channel::Select::new();
        for posts in &self.plan.posts {
            select.recv(&posts.posted);
        }
        for done in self.sinks.iter().filter_map(deliver::Delivery::done) {
            select.recv(done);
        }
        let _ = select.ready_timeout(POLL.max(POLL_PER_LOG * self.streams.len() as u32));
    }

    /// Tries to commit until it can be done, and reads nothing meanwhile.
    pub(super) fn hold_on(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let _ = crossbeam_channel::never::<()>().recv_timeout(RETRY_AFTER);
            self.observe();
            self.refuse_posts();
            if self.commit() {
                return;
            }
        }
    }
}
