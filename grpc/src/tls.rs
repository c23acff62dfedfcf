//! TLS to the instances.

use std::fmt;
use std::io;
use std::sync::Arc;

use fleetward_core::model::Host;
use fleetward_core::{Address, Error, ErrorKind};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::connection::unavailable;

/// How the instances prove who they are, and this client to them. Needs the feature `tls`.
///
/// All of it is configuration: nothing that a registry says has a part in it. The server's
/// certificate must be for [the domain](Self::with_domain), or where none is set for the instance's
/// own host.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fleetward_grpc::ClientTls;
/// let tls = ClientTls::with_ca(&std::fs::read("ca.pem")?)?.with_domain("greeter.internal")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ClientTls {
    connector: TlsConnector,
    domain: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Trusts the certificate authorities in `ca_pem`, and no others.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it holds no certificate.
    pub fn with_ca(ca_pem: &[u8]) -> Result<Self, Error> {
        Ok(Self::from_config(builder(ca_pem)?.with_no_client_auth()))
    }

    /// Trusts `ca_pem` and shows the servers a certificate of its own (mTLS).
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if a PEM holds not what it should, or the key is
    /// not the certificate's.
    pub fn with_ca_and_identity(
        ca_pem: &[u8],
        certificate_pem: &[u8],
        key_pem: &[u8],
    ) -> Result<Self, Error> {
        let chain = certificates(certificate_pem)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem)
            .map_err(|_| Error::invalid_input("the PEM holds no private key"))?;
        let config = builder(ca_pem)?.with_client_auth_cert(chain, key).map_err(|error| {
            Error::invalid_input("the client certificate does not work").with_source(error)
        })?;
        Ok(Self::from_config(config))
    }

    /// Takes a configuration of rustls as it is, but for ALPN: HTTP/2 is all that is offered.
    pub fn from_config(mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self { connector: TlsConnector::from(Arc::new(config)), domain: None }
    }

    /// Sets the name that every server's certificate must be for, and that is sent as SNI.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it is neither a DNS name nor an IP address.
    pub fn with_domain(mut self, domain: &str) -> Result<Self, Error> {
        self.domain = Some(server_name(domain)?);
        Ok(self)
    }

    pub(crate) async fn connect(
        &self,
        address: &Address,
        tcp: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let name = match (&self.domain, address.host()) {
            (Some(domain), _) => domain.clone(),
            (None, Host::Ip(ip)) => ServerName::from(*ip),
            (None, Host::Name(name)) => server_name(name)?,
        };
        let stream = self
            .connector
            .connect(name, tcp)
            .await
            .map_err(|error| unavailable(handshake_failed(&error), error))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the server did not agree to HTTP/2 (ALPN h2): is it the instance's gRPC port?",
            ));
        }
        Ok(stream)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("domain", &self.domain).finish_non_exhaustive()
    }
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn builder(ca_pem: &[u8]) -> Result<Builder, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem)? {
        roots.add(certificate).map_err(|error| {
            Error::invalid_input("a certificate authority cannot be read").with_source(error)
        })?;
    }
    // Named, for a program may have compiled in other providers beside this one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            Error::new(ErrorKind::Unsupported, "no usable version of TLS").with_source(error)
        })?;
    Ok(builder.with_root_certificates(roots))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Error::invalid_input("the PEM holds no certificate")),
    }
}

/// What the failure means, where it is one of the protocol.
fn handshake_failed(error: &io::Error) -> &'static str {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidMessage(_)) => {
            "the server does not speak TLS: take the channel's TLS settings away, or the server's port for TLS"
        }
        Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)) => {
            "the server speaks TLS, but not HTTP/2 over it (ALPN h2): is it the instance's gRPC port?"
        }
        None if matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
        ) =>
        {
            "the server closed the connection in the TLS handshake: does it speak TLS?"
        }
        _ => "the TLS handshake failed",
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| Error::invalid_input("a TLS domain is a DNS name or an IP address"))
}
