//! This machine's clock, as events are held against it.

/// How far a clock may go back without a word, microseconds: it is put right all the time.
const UNSAID_US: i64 = 1_000_000;

/// The latest time that the clock has shown. It does not go back with the clock: then events of now would be events of the
/// future, be given an earlier time, and be late for windows.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// Microseconds since the epoch.
    pub(super) now_us: i64,
    /// How far the clock is behind it, microseconds.
    pub(super) behind_us: i64,
}

impl Clock {
    /// Takes what the clock shows. Returns what people should know.
    pub(super) fn advance(&mut self, shown_us: i64) -> Option<String> {
        let was_behind = self.behind_us > UNSAID_US;
        self.behind_us = self.now_us.saturating_sub(shown_us).max(0);
        self.now_us = self.now_us.max(shown_us);
        match (was_behind, self.behind_us > UNSAID_US) {
            (false, true) => Some(format!(
                "clock: it went back by {} s; events are held against the time it had shown until it shows that again",
                self.behind_us / 1_000_000
            )),
            (true, false) => Some("clock: it shows again the time that it had shown before it went back".to_owned()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_not_go_back_with_the_clock() {
        let mut clock = Clock::default();
        let second = 1_000_000;
        for (shown, now, behind, told) in [
            (5_000 * second, 5_000, 0, ""),
            (5_001 * second, 5_001, 0, ""),
            (5_000 * second, 5_001, 1, ""),
            (1_401 * second, 5_001, 3_600, "went back by 3600 s"),
            (1_402 * second, 5_001, 3_599, ""),
            (5_001 * second, 5_001, 0, "shows again"),
            (5_002 * second, 5_002, 0, ""),
        ] {
            let said = clock.advance(shown).unwrap_or_default();
            assert_eq!((clock.now_us, clock.behind_us), (now * second, behind * second), "{shown}");
            assert_eq!(said.is_empty(), told.is_empty(), "{said}");
            assert!(said.contains(told), "{said}");
        }
    }
}
