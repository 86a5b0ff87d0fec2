//! TLS for the webhook: a certificate, its key, and the authority that clients' certificates come from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use super::WebhookError;

/// Takes connections.
pub(super) type Acceptor = TlsAcceptor;

/// Certificates and keys, as PEM files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, with those between it and its authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority of clients' certificates; clients need none without.
    pub client_ca: Option<PathBuf>,
}

pub(super) fn acceptor(files: &TlsFiles) -> Result<Acceptor, WebhookError> {
    let wrong = |file: &Path, what: String| WebhookError::Tls { file: file.to_owned(), what };
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_safe_default_protocol_versions().map_err(|e| wrong(&files.cert, e.to_string()))?;
    let config = match &files.client_ca {
        None => config.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|e| wrong(file, e.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            config.with_client_cert_verifier(verifier.map_err(|e| wrong(file, e.to_string()))?)
        }
    };
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|e| wrong(&files.key, format!("no private key: {e}")))?;
    let config = config.with_single_cert(certificates(&files.cert)?, key);
    Ok(TlsAcceptor::from(Arc::new(config.map_err(|e| wrong(&files.key, e.to_string()))?)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, WebhookError> {
    let wrong = |what: String| WebhookError::Tls { file: file.to_owned(), what };
    let read = CertificateDer::pem_file_iter(file).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    let certificates: Vec<_> = read.collect::<Result<_, _>>().map_err(|e| wrong(format!("no certificate: {e}")))?;
    if certificates.is_empty() { Err(wrong("holds no certificate".to_owned())) } else { Ok(certificates) }
}
