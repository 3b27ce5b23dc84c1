//! Encrypted connections, with the certificates that the server showed even when it was refused for them.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use paramedic_model::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::certificate;
use crate::error::Failure;

/// Whom to believe.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// The authorities that this system believes.
    System,
    /// Those of a file.
    Authorities(Arc<RootCertStore>),
    Anyone,
}

impl Trust {
    /// Reads the authorities' file, if one is named. The reason is a fragment for `ca_file`.
    pub(crate) fn of(ca_file: Option<&Path>, is_insecure: bool) -> Result<Self, String> {
        if is_insecure {
            return Ok(Self::Anyone);
        }
        let Some(path) = ca_file else { return Ok(Self::System) };
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(path).map_err(|err| format!("{}: {err}", path.display()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|err| format!("{}: {err}", path.display()))?;
            roots.add(certificate).map_err(|err| format!("{}: {err}", path.display()))?;
        }
        if roots.is_empty() {
            return Err(format!("{} holds no certificate", path.display()));
        }
        Ok(Self::Authorities(Arc::new(roots)))
    }

    fn verifier(&self) -> Result<Option<Arc<WebPkiServerVerifier>>, Failure> {
        let roots = match self {
            Self::Anyone => return Ok(None),
            Self::Authorities(roots) => Arc::clone(roots),
            Self::System => Arc::clone(system_roots()),
        };
        let built = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
        built.map(Some).map_err(|err| Failure::of("find certificate authorities on this system", &err))
    }
}

fn system_roots() -> &'static Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    })
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

/// What the server showed of itself.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// When the first of its certificates expires.
    pub(crate) earliest_expiry: Option<Timestamp>,
}

/// Greets a server. What it showed is known even when it is refused.
pub(crate) async fn greet<S>(trust: &Trust, host: &str, stream: S) -> (Result<TlsStream<S>, Failure>, Shown)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shown = Arc::new(Mutex::new(Shown::default()));
    let greeted = try_greet(trust, host, stream, Arc::clone(&shown)).await;
    let shown = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (greeted, shown)
}

async fn try_greet<S>(trust: &Trust, host: &str, stream: S, shown: Arc<Mutex<Shown>>) -> Result<TlsStream<S>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned()).map_err(|err| Failure::of(&format!("greet {host} with TLS"), &err))?;
    // Finding the system's authorities reads files, once.
    let config = config(trust, shown)?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|err| Failure::of(&format!("greet {host} with TLS"), &err))
}

fn config(trust: &Trust, shown: Arc<Mutex<Shown>>) -> Result<Arc<ClientConfig>, Failure> {
    let verifier = Witness { inner: trust.verifier()?, shown };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|err| Failure::of("prepare TLS", &err))?;
    Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()))
}

/// Notes the certificates' dates, then leaves the verdict to the usual verifier.
#[derive(Debug)]
struct Witness {
    /// `None`: everybody is believed.
    inner: Option<Arc<WebPkiServerVerifier>>,
    shown: Arc<Mutex<Shown>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let all = std::iter::once(end_entity).chain(intermediates);
        let earliest = all.filter_map(|certificate| certificate::expiry(certificate)).min();
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).earliest_expiry = earliest;
        match &self.inner {
            Some(inner) => inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A connection to PostgreSQL that becomes encrypted when the server agrees.
#[derive(Debug)]
pub(crate) struct PostgresTls {
    pub(crate) trust: Trust,
    pub(crate) host: String,
}

/// The encrypted connection; PostgreSQL's client asks nothing more of it.
pub(crate) struct PostgresStream<S>(TlsStream<S>);

impl<S> tokio_postgres::tls::TlsConnect<S> for PostgresTls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = PostgresStream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Stream>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let (greeted, _) = greet(&self.trust, &self.host, stream).await;
            greeted.map(PostgresStream).map_err(|failure| io::Error::other(failure.text().to_owned()))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> tokio_postgres::tls::TlsStream for PostgresStream<S> {
    fn channel_binding(&self) -> tokio_postgres::tls::ChannelBinding {
        tokio_postgres::tls::ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for PostgresStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for PostgresStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>, bytes: &[u8]) -> std::task::Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
