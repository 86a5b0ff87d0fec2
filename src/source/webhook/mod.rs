//! The API server's audit webhook backend: `POST` of an EventList, at any path. A body is answered when what it matched
//! is stored, and at once when there is no room: a receiver that lets it wait makes the API server keep its events in memory.
//!
//! Requests become [`Posted`] bodies on a bounded channel; whoever takes one owes it an answer.

mod keys;
mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::timeout;

use super::decode::gunzip;
use keys::{KeyFiles, Keys};
pub use tls::TlsFiles;

/// Connections at once, at most; further ones are closed.
const CONNECTIONS_MAX: usize = 256;
/// Bodies that wait to be worked on, at most.
const QUEUE_MAX: usize = 64;
/// How often it is told that connections are closed.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Notes that wait to be told, at most.
const NOTES_MAX: usize = 16;
/// Memory of all bodies together, in KiB, beside one of the largest size.
const BODIES_KIB_MAX: usize = 64 * 1024;
/// How much of a body that is refused is read all the same, in bytes: whoever still writes does not hear the answer.
const REFUSED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long an answer is waited for. The API server gives up after 30 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(25);

/// How to listen.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where.
    pub listen: SocketAddr,
    /// Certificates; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// A file with the token that a client must bear.
    pub token_file: Option<PathBuf>,
    /// Largest body, in bytes, before and after it is unpacked.
    pub body_bytes_max: usize,
    /// How long a client may take for a handshake, and to send a body.
    pub patience: Duration,
}

/// Why no webhook could be opened.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The address cannot be listened on.
    #[error("webhook: cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("webhook: {file}: {what}", file = file.display())]
    Tls {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A token cannot be used.
    #[error("webhook: token_file {file}: {what}", file = file.display())]
    Token {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// What was found is stored.
    Stored,
    /// The body is no EventList.
    NotEvents,
    /// It cannot be stored now.
    Unavailable,
}

/// A body that was posted, and to whom an answer is owed. If it is dropped, the client is told to come again.
#[derive(Debug)]
pub struct Posted {
    /// The body.
    pub bytes: Vec<u8>,
    answer: oneshot::Sender<Answer>,
    /// Gives its room back when the answer is sent.
    _room: OwnedSemaphorePermit,
}

impl Posted {
    /// Takes the body away; what remains is to be answered.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Answers the client.
    pub fn answer(self, answer: Answer) {
        // A client that has gone needs none.
        let _ = self.answer.send(answer);
    }
}

/// An open webhook. It listens as long as the process lives.
#[derive(Debug)]
pub struct Webhook {
    /// Where it listens: with the port it was given, if none was asked for.
    pub address: SocketAddr,
    /// What is posted.
    pub posted: Receiver<Posted>,
    /// What was answered.
    pub answered: Arc<Answered>,
    /// What people should know, a line each.
    pub notes: Receiver<String>,
}

/// How often which answer was given.
#[derive(Debug, Default)]
pub struct Answered {
    by_code: [AtomicU64; CODES.len()],
    /// Connections closed because there were too many.
    refused: AtomicU64,
    /// Connections closed because their client was too slow to ask for anything.
    slow: AtomicU64,
}

/// The answers that are counted each for itself.
const CODES: [&str; 9] = ["200", "400", "401", "405", "408", "413", "415", "429", "503"];

impl Answered {
    fn count(&self, status: StatusCode) {
        let of_code = CODES.iter().zip(&self.by_code).find(|(code, _)| **code == status.as_str());
        if let Some((_, count)) = of_code {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Status codes with the number of times they were answered; `closed` for connections that got none because there were
    /// too many, `slow` for those that got none because they did not ask in time.
    pub fn totals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = CODES.iter().zip(&self.by_code).map(|(code, count)| (*code, count.load(Ordering::Relaxed)));
        let others = [("closed", &self.refused), ("slow", &self.slow)];
        all.chain(others.into_iter().map(|(name, count)| (name, count.load(Ordering::Relaxed))))
    }
}

/// Listens, in a thread of its own. Certificates and the token are read again when their files change.
///
/// # Errors
/// The address is in use or not ours, or a certificate or the token cannot be used.
pub fn start(settings: &Settings) -> Result<Webhook, WebhookError> {
    let files = KeyFiles::new(settings);
    // Before they are read: what changes in between is read twice rather than not at all.
    let stamps = files.stamps();
    let (new_keys, keys) = watch::channel(files.read()?);
    let listen = |source| WebhookError::Listen { listen: settings.listen, source };
    let listener = std::net::TcpListener::bind(settings.listen).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(listen)?;
    let (sender, posted) = bounded(QUEUE_MAX);
    let (told, notes) = bounded(NOTES_MAX);
    let bodies = BODIES_KIB_MAX + settings.body_bytes_max / 1024 + 1;
    let door = Arc::new(Door {
        sender,
        room: Arc::new(Semaphore::new(bodies)),
        body_bytes_max: settings.body_bytes_max,
        patience: settings.patience,
        answered: Arc::default(),
        keys,
        told: told.clone(),
        slow_told: Seldom::default(),
    });
    let answered = Arc::clone(&door.answered);
    let serve = move || {
        runtime.spawn(files.follow(stamps, new_keys, told.clone()));
        runtime.block_on(accept(listener, door, told));
    };
    thread::Builder::new().name("webhook".to_owned()).spawn(serve).map_err(listen)?;
    Ok(Webhook { address, posted, answered, notes })
}

/// What every connection needs.
struct Door {
    sender: Sender<Posted>,
    room: Arc<Semaphore>,
    body_bytes_max: usize,
    patience: Duration,
    keys: watch::Receiver<Keys>,
    answered: Arc<Answered>,
    told: Sender<String>,
    slow_told: Seldom,
}

/// Something that is told now and then only, however often it happens.
struct Seldom {
    begun: Instant,
    /// Seconds from the beginning to when it may be told again.
    next: AtomicU64,
}

impl Default for Seldom {
    fn default() -> Self {
        Seldom { begun: Instant::now(), next: AtomicU64::new(0) }
    }
}

impl Seldom {
    fn is_due(&self) -> bool {
        let (now, next) = (self.begun.elapsed().as_secs(), self.next.load(Ordering::Relaxed));
        let due = now >= next;
        if due {
            self.next.store(now + TELL_EVERY.as_secs(), Ordering::Relaxed);
        }
        due
    }
}

async fn accept(listener: std::net::TcpListener, door: Arc<Door>, told: Sender<String>) {
    // Made in a runtime, of a socket that does not block: there is nothing that could fail.
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let refusal_told = Seldom::default();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors, most likely: others will be given back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            door.answered.refused.fetch_add(1, Ordering::Relaxed);
            if refusal_told.is_due() {
                let _ =
                    told.try_send(format!("webhook: {CONNECTIONS_MAX} connections are open, further ones are closed"));
            }
            continue;
        };
        let (door, acceptor) = (Arc::clone(&door), door.keys.borrow().acceptor.clone());
        tokio::spawn(async move {
            connection(stream, acceptor, door).await;
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, acceptor: Option<tls::Acceptor>, door: Arc<Door>) {
    let _ = stream.set_nodelay(true);
    match acceptor {
        None => serve(stream, door).await,
        Some(acceptor) => {
            // Whoever has no certificate is no client of ours.
            match timeout(door.patience, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => serve(stream, door).await,
                Ok(Err(_)) => {}
                Err(_) => {
                    door.answered.slow.fetch_add(1, Ordering::Relaxed);
                    door.tell_slow("its handshake");
                }
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, door: Arc<Door>) {
    let (patience, outer) = (door.patience, Arc::clone(&door));
    let served = Arc::new(AtomicBool::new(false));
    let has_served = Arc::clone(&served);
    let service = service_fn(move |request| {
        let (door, served) = (Arc::clone(&door), Arc::clone(&served));
        async move {
            let response = door.answer(request).await;
            door.answered.count(response.status());
            served.store(true, Ordering::Relaxed);
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(64 * 1024);
    // A connection that breaks was the client's to break. One that was kept for a further request may be closed.
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await
        && error.is_timeout()
        && !has_served.load(Ordering::Relaxed)
    {
        outer.answered.slow.fetch_add(1, Ordering::Relaxed);
        outer.tell_slow("a request's headers");
    }
}

impl Door {
    /// A client is too slow: it holds what others could use, but not for long.
    fn tell_slow(&self, what: &str) {
        if self.slow_told.is_due() {
            let seconds = self.patience.as_secs_f64();
            let _ = self
                .told
                .try_send(format!("webhook: a client took more than {seconds} s for {what}, and was sent away"));
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if !self.is_known(&request) {
            return say(StatusCode::UNAUTHORIZED, "a bearer token is needed\n");
        }
        if request.method() != Method::POST {
            return say(StatusCode::METHOD_NOT_ALLOWED, "POST an audit.k8s.io EventList\n");
        }
        let packed = match request.headers().get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
            None | Some(b"identity") => false,
            Some(b"gzip" | b"x-gzip") => true,
            Some(_) => return say(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bodies are sent as they are, or as gzip\n"),
        };
        let declared = request.body().size_hint().exact().map_or(self.body_bytes_max, |bytes| bytes as usize);
        // Whoever asks before it sends a body hears the answer without sending it.
        let asks = request.headers().contains_key(EXPECT);
        let mut incoming = request.into_body();
        if declared > self.body_bytes_max {
            return if asks { too_large() } else { self.refuse(incoming).await };
        }
        // Nobody can tell what a packed body becomes.
        let declared = if packed { self.body_bytes_max } else { declared };
        let room = Arc::clone(&self.room).try_acquire_many_owned((declared / 1024 + 1) as u32);
        let Ok(room) = room else { return busy() };
        let body = Limited::new(&mut incoming, self.body_bytes_max).collect();
        let bytes = match timeout(self.patience, body).await {
            Ok(Ok(body)) if packed => match gunzip(&body.to_bytes(), self.body_bytes_max) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return too_large(),
                Err(_) => return say(StatusCode::BAD_REQUEST, "the body is no gzip\n"),
            },
            Ok(Ok(body)) => body.to_bytes().to_vec(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return self.refuse(incoming).await,
            Ok(Err(_)) => return say(StatusCode::BAD_REQUEST, "the body is cut off\n"),
            Err(_) => {
                self.tell_slow("a body");
                return say(StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n");
            }
        };
        let (answer, answered) = oneshot::channel();
        match self.sender.try_send(Posted { bytes, answer, _room: room }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return busy(),
            Err(TrySendError::Disconnected(_)) => return unavailable(),
        }
        match timeout(ANSWER_TIMEOUT, answered).await {
            Ok(Ok(Answer::Stored)) => say(StatusCode::OK, ""),
            Ok(Ok(Answer::NotEvents)) => say(StatusCode::BAD_REQUEST, "not an audit.k8s.io EventList\n"),
            Ok(Ok(Answer::Unavailable) | Err(_)) | Err(_) => unavailable(),
        }
    }

    /// Answers a body that is too large, when its sender has sent it or enough of it.
    async fn refuse(&self, mut body: Incoming) -> Response<Full<Bytes>> {
        let pass_over = async {
            let mut passed = 0;
            while let Some(Ok(frame)) = body.frame().await {
                passed += frame.data_ref().map_or(0, Bytes::len);
                if passed > REFUSED_BYTES_MAX {
                    break;
                }
            }
        };
        let _ = timeout(self.patience, pass_over).await;
        too_large()
    }

    /// Whether the client bears the token. Digests are compared, so that time says nothing of the token.
    fn is_known(&self, request: &Request<Incoming>) -> bool {
        let Some(expected) = self.keys.borrow().token else { return true };
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("");
        let token = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        token.is_some_and(|(_, token)| <[u8; 32]>::from(Sha256::digest(token.trim())) == expected)
    }
}

fn say(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain"));
    response
}

fn too_large() -> Response<Full<Bytes>> {
    say(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than max_body\n")
}

fn again(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = say(status, text);
    response.headers_mut().insert(RETRY_AFTER, hyper::header::HeaderValue::from_static("1"));
    response
}

fn busy() -> Response<Full<Bytes>> {
    again(StatusCode::TOO_MANY_REQUESTS, "too much at once\n")
}

fn unavailable() -> Response<Full<Bytes>> {
    again(StatusCode::SERVICE_UNAVAILABLE, "cannot be stored now\n")
}
