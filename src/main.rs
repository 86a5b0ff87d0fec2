//! Arguments in, exit code out.
#![allow(clippy::disallowed_methods, reason = "the process begins here")]

/// Matches are made by the workers and dropped by the windows' thread: an allocator that is good at that saves about a
/// tenth of a replay's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    auditwatch::cli::run(std::env::args_os())
}
