//! Arguments in, exit code out.
#![allow(clippy::disallowed_methods, reason = "the process begins here")]

fn main() -> std::process::ExitCode {
    auditwatch::cli::run(std::env::args_os())
}
