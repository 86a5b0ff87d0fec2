//! Arguments in, exit code out.

/// Matches are made by the workers and dropped by the windows' thread: an allocator that is good at that saves about a
/// tenth of a replay's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    auditwatch::cli::run(std::env::args_os())
}
