//! TLS to upstreams: the machine's trusted roots, read once and only when they are needed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How TLS is spoken to one upstream.
pub(super) struct Tls {
    name: ServerName<'static>,
    authorities_file: Option<PathBuf>,
    http2: bool,
    connector: OnceCell<TlsConnector>,
}

impl Tls {
    pub(super) fn new(name: ServerName<'static>, authorities_file: Option<PathBuf>, http2: bool) -> Self {
        Self { name, authorities_file, http2, connector: OnceCell::new() }
    }

    /// The stream, and whether HTTP/2 was agreed on.
    pub(super) async fn connect(&self, tcp: TcpStream) -> io::Result<(TlsStream<TcpStream>, bool)> {
        let connector = self.connector.get_or_try_init(|| self.connector()).await?;
        let stream = connector.connect(self.name.clone(), tcp).await?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((stream, http2))
    }

    async fn connector(&self) -> io::Result<TlsConnector> {
        let (file, http2) = (self.authorities_file.clone(), self.http2);
        // Reading a hundred certificates takes milliseconds that calls would wait for.
        let config = tokio::task::spawn_blocking(move || config(file.as_deref(), http2)).await.map_err(io::Error::other)??;
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn config(authorities_file: Option<&Path>, http2: bool) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = authorities_file {
        for certificate in CertificateDer::pem_file_iter(file).map_err(io::Error::other)? {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
    }
    if roots.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no trusted certificate authorities were found"));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    if http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(config)
}
