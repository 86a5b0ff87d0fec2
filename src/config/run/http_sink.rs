//! What is said of a sink that is told by HTTP.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use super::duration;

/// A receiver of alerts by HTTP. Secrets are in files: nothing of them stands in the configuration but where they are.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSink {
    /// What the journal and messages call it. From its type, host and a hash of the url unless said; to keep one's place
    /// when the url changes, say it.
    #[serde(default)]
    pub name: Option<String>,
    /// Where to post.
    #[serde(default)]
    pub url: Option<String>,
    /// A file with the url, where knowing it is enough to post.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A file with a bearer token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// A file with the key of `X-Auditwatch-Signature`, an HMAC-SHA256 of the body.
    #[serde(default)]
    pub signing_key_file: Option<PathBuf>,
    /// Certificates of the authorities to trust (PEM), in place of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long a request may take; microseconds.
    #[serde(default = "timeout_default", deserialize_with = "duration")]
    pub timeout: i64,
    /// Where alerts go whose content the receiver refuses for good, one a line. They stay in the store in any case.
    #[serde(default)]
    pub dead_letter: Option<PathBuf>,
}

impl HttpSink {
    pub(super) fn check(&self) -> Result<(), String> {
        match (&self.url, &self.url_file) {
            (None, None) => Err("sinks: an HTTP sink needs url or url_file".to_owned()),
            (Some(_), Some(_)) => Err("sinks: an HTTP sink takes url or url_file, not both".to_owned()),
            _ if self.timeout == 0 => Err("sinks: timeout must be longer than 0, e.g. 10s".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Without what may be secret.
impl fmt::Debug for HttpSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSink").field("name", &self.name).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

fn timeout_default() -> i64 {
    10_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_printed() {
        let sink: HttpSink = serde_saphyr::from_str("{url: 'https://h/secret', headers: {x: secret}}").unwrap();
        assert!(!format!("{sink:?}").contains("secret"));
        assert_eq!(sink.timeout, 10_000_000);
    }
}
