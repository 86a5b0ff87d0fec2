//! The admin port: `/metrics`, `/healthz` and `/readyz` over plain HTTP, for Prometheus and the kubelet. Nothing can be
//! changed here, and nothing is told but counts and names of rules, sources and clusters.
#![allow(clippy::disallowed_methods, reason = "a server has a socket, a thread and a clock")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::metrics::Metrics;

/// Connections at once, at most; further ones are closed.
const CONNECTIONS_MAX: usize = 32;
/// How long a client may take for the headers of a request, or to send the next one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// After so long without a sign of life the pipeline is taken for dead.
const ALIVE_WITHIN: Duration = Duration::from_secs(60);

/// How the pipeline is, as it says itself.
#[derive(Debug)]
pub struct Health {
    since: Instant,
    ready: AtomicBool,
    /// Seconds since `since`, of the last sign of life, and one; 0 before the first.
    beat: AtomicU64,
}

impl Default for Health {
    /// Neither ready nor dead.
    fn default() -> Self {
        Health { since: Instant::now(), ready: AtomicBool::new(false), beat: AtomicU64::new(0) }
    }
}

impl Health {
    /// A sign of life; `ready` is whether events are taken and stored.
    pub fn beat(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
        self.beat.store(self.since.elapsed().as_secs() + 1, Ordering::Relaxed);
    }

    fn is_alive(&self) -> bool {
        let beat = self.beat.load(Ordering::Relaxed);
        // Until the first one a journal is folded back, however long that takes.
        beat == 0 || (self.since.elapsed().as_secs() + 1).saturating_sub(beat) < ALIVE_WITHIN.as_secs()
    }

    fn is_ready(&self) -> bool {
        self.is_alive() && self.ready.load(Ordering::Relaxed)
    }
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("admin: cannot listen on {listen}: {source}; choose another address, or leave `admin` out")]
pub struct AdminError {
    /// The address.
    listen: SocketAddr,
    /// Why.
    source: std::io::Error,
}

/// Listens, in a thread of its own, as long as the process lives. Returns where: with the port it was given, if none was
/// asked for.
///
/// # Errors
/// The address is in use or not ours.
pub fn start(listen: SocketAddr, metrics: Metrics, health: Arc<Health>) -> Result<SocketAddr, AdminError> {
    let failed = |source| AdminError { listen, source };
    let listener = std::net::TcpListener::bind(listen).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let serve = move || runtime.block_on(accept(listener, metrics, health));
    thread::Builder::new().name("admin".to_owned()).spawn(serve).map_err(failed)?;
    Ok(address)
}

async fn accept(listener: std::net::TcpListener, metrics: Metrics, health: Arc<Health>) {
    // Made in a runtime, of a socket that does not block: there is nothing that could fail.
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
        let (metrics, health) = (metrics.clone(), Arc::clone(&health));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answered = answer(&request, &metrics, &health);
                async move { Ok::<_, Infallible>(answered) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(16 * 1024);
            // A connection that breaks was the client's to break.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics, health: &Health) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return say(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".into());
    }
    let check = |good: bool| match good {
        true => say(StatusCode::OK, "ok\n".into()),
        false => say(StatusCode::SERVICE_UNAVAILABLE, "not ok\n".into()),
    };
    match request.uri().path() {
        "/metrics" => say(StatusCode::OK, metrics.render().into()),
        "/healthz" | "/livez" => check(health.is_alive()),
        "/readyz" => check(health.is_ready()),
        _ => say(StatusCode::NOT_FOUND, "/metrics, /healthz or /readyz\n".into()),
    }
}

fn say(status: StatusCode, text: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
