//! Connections to the agents: TCP that notices when it is cut, TLS where it is asked for, and a
//! deadline over both.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fleetward_core::{BoxError, Error, ErrorKind};
use http::Uri;
use hyper::rt::{Read, Write};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
#[cfg(unix)]
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::time::timeout;
use tower_service::Service;

use crate::config::{AgentUrl, ConsulConfig};

/// A connection that HTTP can be spoken over.
pub(super) trait Io: Read + Write + Unpin + Send {}

impl<T: Read + Write + Unpin + Send> Io for T {}

#[derive(Clone)]
pub(super) struct Connector {
    config: Arc<ConsulConfig>,
    tcp: HttpConnector,
    /// What the system trusts, where that is asked for; it takes a while to read.
    system: Option<Arc<RootCertStore>>,
}

impl Connector {
    pub(super) async fn new(config: Arc<ConsulConfig>) -> Result<Self, Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(config.connect_timeout()));
        tcp.set_keepalive(Some(Duration::from_secs(4)));
        tcp.set_keepalive_interval(Some(Duration::from_secs(1)));
        tcp.set_keepalive_retries(Some(3));
        let system = if config.is_tls() { system_roots(&config).await? } else { None };
        let connector = Self { config, tcp, system };
        if connector.config.is_tls() {
            connector.tls().await?;
        }
        Ok(connector)
    }

    /// The files are read for each connection: a certificate that was renewed meanwhile is taken.
    async fn tls(&self) -> Result<ClientConfig, Error> {
        let files = self.config.tls().load().await?;
        let roots = match (&self.system, files.ca) {
            (Some(system), None) => system.clone(),
            (_, pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("ca", &pem.unwrap_or_default())? {
                    roots.add(certificate).map_err(|why| unusable("ca", &why))?;
                }
                Arc::new(roots)
            }
        };
        // Named, for a program may have compiled in other providers beside this one.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| {
                Error::new(ErrorKind::Unsupported, "no usable version of TLS").with_source(why)
            })?
            .with_root_certificates(roots);
        let Some((certificate, key)) = files.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates("cert", &certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| {
            Error::invalid_input("there is no private key in it").with_context("option", "key")
        })?;
        builder.with_client_auth_cert(chain, key).map_err(|why| unusable("cert", &why))
    }

    /// Connects to an agent, within the time that connecting may take.
    pub(super) async fn connect(&self, agent: &AgentUrl) -> Result<Box<dyn Io>, BoxError> {
        timeout(self.config.connect_timeout(), self.open(agent)).await.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "connecting took too long").into())
        })
    }

    async fn open(&self, agent: &AgentUrl) -> Result<Box<dyn Io>, BoxError> {
        #[cfg(unix)]
        if let Some(socket) = agent.socket() {
            return Ok(Box::new(TokioIo::new(UnixStream::connect(socket).await?)));
        }
        let uri: Uri = agent.origin().parse()?;
        let mut tcp = self.tcp.clone();
        if !self.config.is_tls() {
            return Ok(Box::new(tcp.call(uri).await?));
        }
        let tls = self.tls().await?;
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
        let builder = match self.config.tls().domain() {
            Some(domain) => {
                let name = ServerName::try_from(domain.to_owned())?;
                builder.with_server_name_resolver(FixedServerNameResolver::new(name))
            }
            None => builder,
        };
        Ok(Box::new(builder.enable_http1().wrap_connector(tcp).call(uri).await?))
    }
}

async fn system_roots(config: &ConsulConfig) -> Result<Option<Arc<RootCertStore>>, Error> {
    if config.tls().load().await?.ca.is_some() {
        return Ok(None);
    }
    let read = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(read.map(|read| read.certs).unwrap_or_default());
    if roots.is_empty() {
        return Err(Error::invalid_input(
            "this machine has no certificate authorities to trust; give a CA (ca=…)",
        ));
    }
    Ok(Some(Arc::new(roots)))
}

fn certificates(option: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.map_err(|why| unusable(option, &why))
}

fn unusable(option: &'static str, why: &dyn std::fmt::Display) -> Error {
    Error::invalid_input(format!("the certificate cannot be used: {why}"))
        .with_context("option", option)
}
