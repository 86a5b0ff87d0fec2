//! Exit codes and their precedence (DESIGN §8).

use std::io;

use crate::pipeline::PipelineError;
use crate::pipeline::live::LiveError;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// There were alerts at or above `--fail-on`.
    Alerts = 1,
    /// A rule is wrong.
    Rules = 2,
    /// The configuration or the command line is wrong.
    Usage = 3,
    /// Events were lost, or with `--strict` anything was unreadable.
    Lost = 4,
}

/// What speaks for an exit code.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// Configuration or usage is wrong.
    pub bad_usage: bool,
    /// A rule is wrong.
    pub bad_rules: bool,
    /// Events were lost.
    pub lost: bool,
    /// Alerts at or above `--fail-on` were found.
    pub alerts: bool,
}

impl Outcome {
    /// The first that applies of 3, 2, 4, 1, 0.
    pub fn exit(self) -> Exit {
        if self.bad_usage {
            Exit::Usage
        } else if self.bad_rules {
            Exit::Rules
        } else if self.lost {
            Exit::Lost
        } else if self.alerts {
            Exit::Alerts
        } else {
            Exit::Done
        }
    }
}

impl Exit {
    /// For an error that ended the program: a pipeline that broke off lost events, everything else was asked for wrongly.
    pub fn of(error: &anyhow::Error) -> Exit {
        if error.is::<PipelineError>() || error.is::<LiveError>() { Exit::Lost } else { Exit::Usage }
    }
}

/// Whether the reader of standard output went away, which is no error.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    if let Some(LiveError::Output(error)) = error.downcast_ref() {
        return broken(error);
    }
    match error.downcast_ref::<PipelineError>() {
        Some(PipelineError::Output(error)) => broken(error),
        Some(_) => false,
        None => error.downcast_ref::<io::Error>().is_some_and(broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_applies_of_3_2_4_1_0() {
        for bits in 0..16u8 {
            let [bad_usage, bad_rules, lost, alerts] = [8, 4, 2, 1].map(|bit| bits & bit != 0);
            let code = Outcome { bad_usage, bad_rules, lost, alerts }.exit() as u8;
            let expected = match bits {
                8.. => 3,
                4.. => 2,
                2.. => 4,
                1 => 1,
                0 => 0,
            };
            assert_eq!(code, expected, "{bits:04b}");
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&PipelineError::Output(closed()).into()));
        assert!(is_broken_pipe(&closed().into()));
        assert!(!is_broken_pipe(&PipelineError::DeadLetter(closed()).into()));
        assert_eq!(Exit::of(&PipelineError::DeadLetter(closed()).into()), Exit::Lost);
        assert_eq!(Exit::of(&anyhow::anyhow!("no such file")), Exit::Usage);
    }
}
