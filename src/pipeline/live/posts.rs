//! What was posted to the webhook: worked on like a block of a file, and answered when it is stored.

use std::time::Instant;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Live, LiveError};
use crate::normalize;
use crate::source::Batch;
use crate::source::webhook::{Answer, Posted};

/// How many bodies are worked on between two commits, at most.
const POSTS_PER_COMMIT: usize = 32;

/// A body that is worked on, and its answer when that is stored.
pub(super) type Owed = (Posted, Answer);

impl Live<'_> {
    /// Makes the streams that posted events belong to.
    pub(super) fn open_posts(&mut self) -> Result<(), LiveError> {
        if self.plan.once {
            self.plan.posts.clear();
        }
        for posts in self.plan.posts.clone() {
            let at = self.stream(&posts.name, &posts.cluster, posts.lateness_us, None)?;
            self.post_streams.push(at);
        }
        Ok(())
    }

    /// Works on what was posted. False if there was nothing.
    pub(super) fn take_posts(&mut self) -> bool {
        let mut moved = false;
        for number in 0..self.post_streams.len() {
            let (posted, at) = (self.plan.posts[number].posted.clone(), self.post_streams[number]);
            for one in posted.try_iter().take(POSTS_PER_COMMIT) {
                moved = true;
                self.take_post(one, at);
            }
        }
        moved
    }

    fn take_post(&mut self, mut posted: Posted, at: usize) {
        let stream = &mut self.streams[at];
        let batch =
            Batch { source: stream.id, cluster: stream.cluster, bytes: posted.take_bytes(), ..Batch::default() };
        stream.idle_since = Instant::now();
        stream.moved = true;
        let events = self.take(at, &batch);
        let answer = if events > 0 || is_list(&batch.bytes) { Answer::Stored } else { Answer::NotEvents };
        self.owed.push((posted, answer));
    }

    /// What was worked on is stored.
    pub(super) fn answer_posts(&mut self) {
        self.owed.drain(..).for_each(|(posted, answer)| posted.answer(answer));
    }

    /// Nothing can be stored: everybody who waits is told to come again.
    pub(super) fn refuse_posts(&mut self) {
        let waiting = self.plan.posts.iter().flat_map(|posts| posts.posted.try_iter());
        let owed = self.owed.drain(..).map(|(posted, _)| posted);
        owed.chain(waiting).for_each(|posted| posted.answer(Answer::Unavailable));
    }
}

/// Whether a body is an EventList, though none of its items is an event. An API server that is refused drops all of them.
fn is_list(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct List {
        #[serde(rename = "items")]
        _items: Option<Vec<IgnoredAny>>,
        kind: String,
    }
    // Whatever is broken behind its beginning, it is one.
    normalize::is_list(body) || serde_json::from_slice::<List>(body).is_ok_and(|list| list.kind == "EventList")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_list_without_events() {
        for (body, is) in [
            (r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[]}"#, true),
            (r#"{"kind":"EventList","items":null}"#, true),
            (r#"{"kind":"EventList","items":[{"odd":1},7]}"#, true),
            (r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"auditID":nonsense}]}"#, true),
            (r#"{"kind":"PodList","items":[]}"#, false),
            (r#"{"kind":"EventList","items":3}"#, false),
            (r#" {"apiVersion": "audit.k8s.io/v1", "kind": "EventList", "items": [{"auditID": "a"#, true),
            ("[]", false),
            ("", false),
        ] {
            assert_eq!(is_list(body.as_bytes()), is, "{body}");
        }
        assert!(!is_list("[".repeat(1_000_000).as_bytes()));
    }
}
