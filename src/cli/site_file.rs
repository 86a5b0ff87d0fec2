//! The site file of `--site`.

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::config::Site;

/// Reads the site file; without one, the site has no lists.
pub fn read(path: Option<&Path>) -> anyhow::Result<Site> {
    let Some(path) = path else { return Ok(Site::default()) };
    let name = path.display().to_string();
    let text = fs::read_to_string(path).with_context(|| format!("--site {name}"))?;
    Ok(Site::parse(&name, &text)?)
}
