//! Arguments in, exit code out.

fn main() -> std::process::ExitCode {
    auditwatch::cli::run(std::env::args_os())
}
