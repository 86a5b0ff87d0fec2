//! A sink that is told by HTTP, with its secrets read from their files.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::config::run::HttpSink;
use crate::pipeline::live::Sink;
use crate::sink::file::AlertFile;
use crate::sink::http::Poster;
use crate::sink::http::body::Receiver;
use crate::sink::http::client::{Client, Settings};

/// Tells people something; one line.
type Say = fn(&str);

/// Alerts on their way to one receiver.
pub(super) struct ToHttp {
    name: String,
    poster: Poster,
    client: Client,
    dead_letter: Option<AlertFile>,
    say: Say,
}

impl ToHttp {
    /// Reads what the configuration names; nothing is connected yet.
    pub(super) fn open(config: &HttpSink, receiver: Receiver, say: Say) -> anyhow::Result<ToHttp> {
        let secret = |file: &Option<_>| file.as_deref().map(secret).transpose();
        let url = match &config.url {
            Some(url) => url.clone(),
            None => secret(&config.url_file)?.unwrap_or_default(),
        };
        let name = config.name.clone().unwrap_or_else(|| name(receiver, &url));
        let authorities = config
            .ca_file
            .as_ref()
            .map(|file| std::fs::read(file).with_context(|| format!("sinks: ca_file {}", file.display())));
        let settings = Settings {
            url,
            headers: config.headers.clone().into_iter().collect(),
            token: secret(&config.token_file)?,
            signing_key: secret(&config.signing_key_file)?.map(String::into_bytes),
            authorities: authorities.transpose()?,
            timeout: Duration::from_micros(config.timeout.unsigned_abs()),
        };
        Ok(ToHttp {
            client: Client::new(&settings).with_context(|| format!("sinks: {name}"))?,
            poster: Poster::new(receiver),
            dead_letter: config.dead_letter.clone().map(AlertFile::new),
            name,
            say,
        })
    }
}

impl Sink for ToHttp {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn send(&mut self, alerts: &[(i64, String)]) -> io::Result<()> {
        let ToHttp { name, poster, client, dead_letter, say } = self;
        let mut give_up = |line: &str, why: &str| {
            say(&format!("sink {name}: an alert was refused for good ({why}); it stays in the store"));
            dead_letter.as_mut().map_or(Ok(()), |file| file.append([line]))
        };
        // A pipe that breaks on the way is the receiver's, not ours: it must not end the run.
        let later = |error: io::Error| match error.kind() {
            io::ErrorKind::BrokenPipe => io::Error::other(error.to_string()),
            _ => error,
        };
        poster.send(alerts, &mut |body| client.post(body).map_err(later), &mut give_up)
    }
}

/// A text in a file, without the newline at its end.
fn secret(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("sinks: {}", file.display()))?;
    let text = text.trim().to_owned();
    anyhow::ensure!(!text.is_empty(), "sinks: {}: it is empty", file.display());
    Ok(text)
}

/// Tells receivers apart without telling the url.
fn name(receiver: Receiver, url: &str) -> String {
    let host = url.split('/').nth(2).unwrap_or_default().rsplit('@').next().unwrap_or_default();
    let hash: String = Sha256::digest(url).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{host}#{hash}", format!("{receiver:?}").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_the_secret() {
        let one = name(Receiver::Slack, "https://u:p@hooks.slack.com/services/T0/B0/x");
        assert!(one.starts_with("slack:hooks.slack.com#") && one.len() == 30, "{one}");
        assert_ne!(one, name(Receiver::Slack, "https://u:p@hooks.slack.com/services/T0/B0/y"));
    }
}
