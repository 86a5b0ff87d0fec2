//! Whether to colour what people read.

use std::io::IsTerminal;

/// Whether a stream is a terminal on which colours are welcome (`NO_COLOR`, `TERM=dumb`).
pub fn wanted(stream: &impl IsTerminal) -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
        || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
    stream.is_terminal() && !plain
}
