//! The command line: one file per subcommand. stdout is data, stderr is for people.
#![allow(clippy::disallowed_methods, reason = "the command line is where files, clock, environment and terminal enter")]

mod alerts;
mod check;
mod color;
mod engine;
mod exit;
mod explain;
mod fields;
mod kafka;
mod log;
mod prepare;
mod progress;
mod reload;
mod replay;
mod rule_files;
mod rules;
mod run;
mod sinks;
mod site_file;
mod summary;
mod test;
mod webhook;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub use exit::{Exit, Outcome};

/// Finds attacks and mistakes in Kubernetes audit logs.
#[derive(Debug, Parser)]
#[command(name = "auditwatch", version, about, propagate_version = true, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Replay(Box<replay::ReplayArgs>),
    Run(run::RunArgs),
    Alerts(alerts::AlertsArgs),
    Webhook(webhook::WebhookArgs),
    Kafka(kafka::KafkaArgs),
    Check(check::CheckArgs),
    Test(test::TestArgs),
    Fields(fields::FieldsArgs),
    Rules(rules::RulesArgs),
    Explain(explain::ExplainArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell, e.g. bash, zsh, fish.
        shell: clap_complete::Shell,
    },
}

/// Runs the command line; what it returns is the process's exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let exit = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => dispatch(arguments.command),
        Err(error) => {
            // Help and version are answers, not errors.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            exit
        }
    };
    ExitCode::from(exit as u8)
}

fn dispatch(command: Command) -> Exit {
    let result = match command {
        Command::Replay(arguments) => replay::run(*arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Alerts(arguments) => alerts::run(&arguments),
        Command::Webhook(arguments) => webhook::run(&arguments),
        Command::Kafka(arguments) => kafka::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Fields(arguments) => fields::run(&arguments),
        Command::Rules(arguments) => rules::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "auditwatch", &mut script);
            io::stdout().lock().write_all(&script).map(|()| Exit::Done).map_err(Into::into)
        }
    };
    result.unwrap_or_else(|error| {
        if exit::is_broken_pipe(&error) {
            return Exit::Done;
        }
        let text = chain(&error);
        let _ = writeln!(io::stderr().lock(), "auditwatch: {}", crate::sink::text::printable(&text));
        Exit::of(&error)
    })
}

/// An error with its causes; a cause that the text before it tells already is not told twice.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        _ if text.contains(&cause) => text,
        _ => format!("{text}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = std::io::Error::other("disk on fire");
        let error = anyhow::Error::from(crate::pipeline::PipelineError::DeadLetter(cause)).context("replay");
        assert_eq!(chain(&error), "replay: cannot write dead letters: disk on fire");
    }
}
