//! What the webhook proves itself with and knows its clients by: certificates and a token, read again when their files
//! change, as they do when a mounted secret is renewed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::Sender;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::tls::{self, Acceptor, TlsFiles};
use super::{Settings, WebhookError};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is in force.
#[derive(Clone, Default)]
pub(super) struct Keys {
    pub(super) acceptor: Option<Acceptor>,
    /// The digest of the token that a client must bear.
    pub(super) token: Option<[u8; 32]>,
}

/// The files.
#[derive(Clone)]
pub(super) struct KeyFiles {
    tls: Option<TlsFiles>,
    token: Option<PathBuf>,
}

/// By what a file is known to be another than before: a renewed secret is another inode behind the same path.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

impl KeyFiles {
    pub(super) fn new(settings: &Settings) -> KeyFiles {
        KeyFiles { tls: settings.tls.clone(), token: settings.token_file.clone() }
    }

    /// Reads all of them.
    pub(super) fn read(&self) -> Result<Keys, WebhookError> {
        let acceptor = self.tls.as_ref().map(tls::acceptor).transpose()?;
        let token = self.token.as_deref().map(token).transpose()?;
        Ok(Keys { acceptor, token })
    }

    pub(super) fn stamps(&self) -> Vec<Stamp> {
        let tls = self.tls.iter().flat_map(|tls| [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()]);
        tls.chain([self.token.as_ref()]).map(|file| file.and_then(|file| stamp(file))).collect()
    }

    /// Reads them again whenever one has changed, as long as the process lives. What cannot be read leaves in force what
    /// there was.
    pub(super) async fn follow(self, mut known: Vec<Stamp>, keys: watch::Sender<Keys>, notes: Sender<String>) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        loop {
            every.tick().await;
            let now = self.stamps();
            if now == known {
                continue;
            }
            known = now;
            let note = match self.read() {
                Ok(new) => {
                    let _ = keys.send(new);
                    "webhook: certificates and token were read again".to_owned()
                }
                Err(error) => format!("{error}; what was in force stays so"),
            };
            // Nobody reads them where nobody asked to; then there is nobody to tell.
            let _ = notes.try_send(note);
        }
    }
}

fn stamp(file: &Path) -> Stamp {
    fs::metadata(file).ok().map(|m| (m.dev(), m.ino(), m.mtime(), m.mtime_nsec(), m.len()))
}

fn token(file: &Path) -> Result<[u8; 32], WebhookError> {
    let wrong = |what: String| WebhookError::Token { file: file.to_owned(), what };
    let text = fs::read_to_string(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    match text.trim() {
        "" => Err(wrong("it is empty; put the token into it".to_owned())),
        token => Ok(Sha256::digest(token).into()),
    }
}
