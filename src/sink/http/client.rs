//! A client for one address: one request, one connection, one time limit. Redirects are not followed.
#![allow(clippy::disallowed_methods, reason = "a client reads the clock, when it is told a date")]

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::Reply;
use super::body::Body;
use super::trust::Trust;

/// Where the signature of a body stands: `sha256=` and the hex digits of its HMAC.
const SIGNATURE: &str = "x-auditwatch-signature";
/// How much of an answer is read.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How much of it is told.
const TOLD_CHARS: usize = 200;

/// Where to send, and as whom.
#[derive(Clone)]
pub struct Settings {
    /// `http://` or `https://`; may itself be a secret and is never told.
    pub url: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// `Authorization`, whole.
    pub authorization: Option<String>,
    /// The key with which bodies are signed.
    pub signing_key: Option<Vec<u8>>,
    /// PEM of the authorities to trust; those of the system without.
    pub authorities: Option<Vec<u8>>,
    /// How long a request may take, from the connection to the end of the answer.
    pub timeout: Duration,
}

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address.
    #[error("the url must begin with http:// or https:// and name a host")]
    Url,
    /// They would be passed over in silence.
    #[error("the url must not hold a user or a password: use token_file, or headers")]
    Credentials,
    /// Not a header.
    #[error("header {0:?}: its name or value is none")]
    Header(String),
    /// No authority can be trusted.
    #[error("certificates of authorities: {0}")]
    Authorities(String),
    /// The operating system has no more of something.
    #[error("cannot start: {0}")]
    Runtime(#[from] io::Error),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A client.
pub struct Client {
    host: String,
    port: u16,
    /// What the server is asked for.
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    signing_key: Option<Vec<u8>>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    timeout: Duration,
    runtime: Runtime,
}

impl Client {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// The settings make no request. What is told does not contain the url.
    pub fn new(settings: &Settings) -> Result<Client, ClientError> {
        let url: Uri = settings.url.parse().map_err(|_| ClientError::Url)?;
        let authority = url.authority().ok_or(ClientError::Url)?;
        if authority.as_str().contains('@') {
            return Err(ClientError::Credentials);
        }
        let secure = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(ClientError::Url),
        };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let tls = secure.then(|| {
            let name = ServerName::try_from(host.clone()).map_err(|_| ClientError::Url)?;
            Ok::<_, ClientError>((connector(settings.authorities.as_deref())?, name))
        });
        let mut headers = vec![
            (HOST, header("host", authority.as_str())?),
            (USER_AGENT, HeaderValue::from_static(concat!("auditwatch/", env!("CARGO_PKG_VERSION")))),
        ];
        if let Some(authorization) = &settings.authorization {
            headers.push((AUTHORIZATION, header("authorization", authorization)?));
        }
        for (name, value) in &settings.headers {
            let known = HeaderName::from_bytes(name.as_bytes()).map_err(|_| ClientError::Header(name.clone()))?;
            headers.retain(|(other, _)| *other != known);
            headers.push((known, header(name, value)?));
        }
        Ok(Client {
            host,
            port: url.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            path: url.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            headers,
            signing_key: settings.signing_key.clone(),
            tls: tls.transpose()?,
            timeout: settings.timeout,
            runtime: Builder::new_current_thread().enable_all().build()?,
        })
    }

    /// Posts a body and waits for the answer.
    ///
    /// # Errors
    /// The server cannot be reached, does not speak HTTP or TLS, or takes too long.
    pub fn post(&self, body: Body) -> io::Result<Reply> {
        let slow = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {:?}", self.timeout));
        // Made inside: a timer belongs to a runtime.
        self.runtime.block_on(async { timeout(self.timeout, self.exchange(body)).await.map_err(slow)? })
    }

    async fn exchange(&self, body: Body) -> io::Result<Reply> {
        let mut stream: Box<dyn Stream> = Box::new(TcpStream::connect((self.host.as_str(), self.port)).await?);
        if let Some((connector, name)) = &self.tls {
            stream = Box::new(connector.connect(name.clone(), stream).await?);
        }
        let request = self.request(body)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let (head, body) = answer.into_parts();
        // What it says is for people; a long or broken answer is cut.
        let said = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        connection.abort();
        let said = said.map(|said| said.to_bytes()).unwrap_or_default();
        let wait = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        Ok(Reply {
            status: head.status.as_u16(),
            retry_after: wait.and_then(|wait| retry_after(wait, SystemTime::now())),
            said: String::from_utf8_lossy(&said).trim().chars().take(TOLD_CHARS).collect(),
            body: said.into(),
        })
    }

    fn request(&self, body: Body) -> io::Result<Request<Full<Bytes>>> {
        let mut request = Request::post(self.path.as_str());
        let own = |name: &HeaderName| body.headers.iter().any(|(other, _)| name.as_str().eq_ignore_ascii_case(other));
        for (name, value) in self.headers.iter().filter(|(name, _)| !own(name)) {
            request = request.header(name, value);
        }
        for (name, value) in &body.headers {
            request = request.header(name, value);
        }
        if !self.headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
            request = request.header(CONTENT_TYPE, &body.content_type);
        }
        if let Some(key) = &self.signing_key {
            request = request.header(SIGNATURE, signature(key, &body.bytes));
        }
        request.body(Full::new(Bytes::from(body.bytes))).map_err(io::Error::other)
    }
}

/// What `Retry-After` says: seconds, or a date.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok().map(|at| at.duration_since(now).unwrap_or_default()),
    }
}

fn header(name: &str, value: &str) -> Result<HeaderValue, ClientError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| ClientError::Header(name.to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn signature(key: &[u8], body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(body);
    let digits = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256={digits}")
}

fn connector(authorities: Option<&[u8]>) -> Result<TlsConnector, ClientError> {
    let wrong = |what: String| ClientError::Authorities(what);
    let mut roots = RootCertStore::empty();
    let mut named = Vec::new();
    match authorities {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                roots.add(certificate.clone()).map_err(|error| wrong(error.to_string()))?;
                named.push(certificate);
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err(wrong("there are none; name a ca_file".to_owned()));
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_safe_default_protocol_versions().map_err(|error| wrong(error.to_string()))?;
    let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let trust = Trust::new(usual.build().map_err(|error| wrong(error.to_string()))?, named);
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(trust)).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_signed() {
        // RFC 4231, test case 2.
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature(b"Jefe", b"what do ya want for nothing?"), expected);
    }

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1983 08:49:37 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn what_makes_no_request_is_told_without_the_url() {
        let settings = |url: &str, header: &str| Settings {
            url: url.to_owned(),
            headers: vec![(header.to_owned(), "x".to_owned())],
            authorization: None,
            signing_key: None,
            authorities: Some(b"none".to_vec()),
            timeout: Duration::from_secs(1),
        };
        for (url, header, said) in [
            ("ftp://host/secret", "a", "must begin with"),
            ("/secret", "a", "must begin with"),
            ("secret", "a", "must begin with"),
            ("https://secret:secret@host/", "a", "must not hold a user"),
            ("http://host/secret", "a b", "header \"a b\""),
            ("https://host/secret", "a", "there are none"),
        ] {
            let error = Client::new(&settings(url, header)).err().unwrap().to_string();
            assert!(error.contains(said) && !error.contains("secret"), "{url}: {error}");
        }
        assert!(Client::new(&settings("http://[::1]:9/secret?x=y", "a")).is_ok());
    }
}
