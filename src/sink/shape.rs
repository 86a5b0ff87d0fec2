//! From an alert as it is stored to the line that a sink is told.

use std::borrow::Cow;

use super::Format;
use crate::alert::Alert;

/// One alert, a line of our own JSON, in another shape and without its newline.
///
/// # Errors
/// It is no alert; says why.
pub fn shaped(line: &str, format: Format) -> Result<Cow<'_, str>, String> {
    if format == Format::Json {
        return Ok(Cow::Borrowed(line));
    }
    let alert = Alert::parse(line).map_err(|error| format!("the stored alert cannot be read: {error}"))?;
    let mut out = Vec::new();
    super::render(&mut out, format, &alert).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&out).trim_end().to_owned();
    Ok(Cow::Owned(text))
}
