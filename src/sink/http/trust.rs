//! Whom a client believes: servers whose certificate an authority has signed, and those that show a certificate which is
//! itself among those to be trusted. The second is what people have who made one certificate for one server; most tools
//! mark it as an authority's, and it is refused as a server's otherwise.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

/// How the verifier calls an authority's certificate that a server shows as its own. Its dates were good then: they are
/// looked at first.
const AUTHORITY: &str = "CaUsedAsEndEntity";

/// The usual verification, and besides it the certificates that a configuration names.
#[derive(Debug)]
pub(super) struct Trust {
    usual: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// `named` are those that may be a server's own.
    pub(super) fn new(usual: Arc<WebPkiServerVerifier>, named: Vec<CertificateDer<'static>>) -> Trust {
        Trust { usual, named }
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(CertificateError::Other(why)))
                if why.0.to_string() == AUTHORITY && self.named.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_rustls::rustls::{RootCertStore, crypto};

    use super::*;

    /// A certificate that signed itself and may sign others, as `openssl req -x509` makes it.
    fn own() -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(["hooks.example".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn trust(named: &CertificateDer<'static>) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add(named.clone()).unwrap();
        let provider = Arc::new(crypto::ring::default_provider());
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        Trust::new(usual, vec![named.clone()])
    }

    #[test]
    fn a_certificate_that_is_named_is_its_servers() {
        let (named, other) = (own(), own());
        let trust = trust(&named);
        let judge = |certificate: &CertificateDer<'_>, name: &'static str, year: u64| {
            let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600));
            trust.verify_server_cert(certificate, &[], &ServerName::try_from(name).unwrap(), &[], now)
        };
        judge(&named, "hooks.example", 2025).unwrap();
        for (certificate, name, year) in
            [(&named, "elsewhere.example", 2025), (&named, "hooks.example", 2040), (&other, "hooks.example", 2025)]
        {
            assert!(judge(certificate, name, year).is_err(), "{name} {year}");
        }
    }
}
