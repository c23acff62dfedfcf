//! What a registry is made from, checked before anything is dialled.

mod check;
mod endpoint;
mod from_url;
mod user;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use endpoint::parse_endpoint;
use fleetward_core::Error;
use fleetward_core::registry::{Secret, redact};

pub(crate) use fleetward_backend_common::tls::{Pem, TlsConfig};
pub(crate) use user::{Password, User};

/// Which layout instances are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EtcdCodec {
    /// gRPC's own naming for etcd: `{prefix}/{service}/{address}`, a JSON value. Carries weight,
    /// zone, version, id and metadata.
    #[default]
    Grpc,
    /// The common tutorials and go-kit: `/{schema}/{service}/{address}`, the address as the value.
    /// Carries the address only.
    Plain,
}

impl EtcdCodec {
    const KNOWN: [(&'static str, Self); 2] = [("grpc", Self::Grpc), ("plain", Self::Plain)];
}

impl FromStr for EtcdCodec {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::KNOWN.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, codec)| codec).ok_or_else(|| {
            let known = Self::KNOWN.map(|(name, _)| name).join(", ");
            Error::invalid_input(format!("unknown codec; known codecs are: {known}"))
                .with_context("option", "codec")
        })
    }
}

/// How to reach etcd, and where in it the services stand.
///
/// ```
/// use fleetward_etcd::EtcdConfig;
/// let config = EtcdConfig::new(["10.0.0.1:2379", "10.0.0.2:2379"])
///     .with_user("discovery", "hunter2")
///     .with_ca_file("/etc/etcd/ca.pem")
///     .with_prefix("prod");
/// assert!(config.check().is_ok());
/// assert!(!format!("{config:?}").contains("hunter2"));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct EtcdConfig {
    endpoints: Vec<String>,
    user: Option<User>,
    tls: TlsConfig,
    dangerous_plaintext_credentials: bool,
    codec: EtcdCodec,
    prefix: String,
    schema: Option<String>,
    connect_timeout: Duration,
    request_timeout: Duration,
    keepalive: Duration,
    keepalive_timeout: Duration,
    page_size: u32,
    require_leader: bool,
}

impl EtcdConfig {
    /// The defaults, with these servers: `host:port`, or `http://host:port`, or
    /// `https://host:port`, which switches TLS on. The port is 2379 if none is given. Several are
    /// members of one cluster.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            user: None,
            tls: TlsConfig::default(),
            dangerous_plaintext_credentials: false,
            codec: EtcdCodec::default(),
            prefix: String::new(),
            schema: None,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(5),
            keepalive: Duration::from_millis(5500),
            keepalive_timeout: Duration::from_millis(1500),
            page_size: 1000,
            require_leader: true,
        }
    }

    /// Logs in as this user.
    #[must_use]
    pub fn with_user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        let password = Password::Text(Secret::new(password));
        self.user = Some(User { name: name.into(), password });
        self
    }

    /// Logs in as this user, with the password in this file. The file is read again at each login,
    /// so a password that was changed is used without a restart. A line end after it is left out.
    #[must_use]
    pub fn with_user_from_file(
        mut self,
        name: impl Into<String>,
        password_file: impl Into<PathBuf>,
    ) -> Self {
        let password = Password::File(password_file.into());
        self.user = Some(User { name: name.into(), password });
        self
    }

    /// TLS, yes or no, where the other settings do not say it. A CA, a client certificate, a
    /// domain or an `https://` endpoint switch it on.
    #[must_use]
    pub fn with_tls(mut self, enabled: bool) -> Self {
        self.tls.enabled = Some(enabled);
        self
    }

    /// Trusts the certificate authorities in this PEM file instead of the system's.
    #[must_use]
    pub fn with_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.ca = Some(Pem::File(path.into()));
        self
    }

    /// Trusts these certificate authorities (PEM) instead of the system's.
    #[must_use]
    pub fn with_ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.ca = Some(Pem::Bytes(pem.into()));
        self
    }

    /// Shows this client certificate (PEM files). The files are read again for each new
    /// connection, so a renewed certificate is used without a restart.
    #[must_use]
    pub fn with_client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.tls.certificate = Some(certificate.into());
        self.tls.key = Some(key.into());
        self
    }

    /// The name that the servers' certificates must be for, where it is not the endpoint's host.
    #[must_use]
    pub fn with_domain(mut self, domain: impl Into<String>) -> Self {
        self.tls.domain = Some(domain.into());
        self
    }

    /// Allows sending the password over a connection without TLS to another machine.
    #[must_use]
    pub fn with_dangerous_plaintext_credentials(mut self, allowed: bool) -> Self {
        self.dangerous_plaintext_credentials = allowed;
        self
    }

    /// The layout of keys and values.
    #[must_use]
    pub fn with_codec(mut self, codec: EtcdCodec) -> Self {
        self.codec = codec;
        self
    }

    /// What stands before the service's name in a key (codec `grpc`); a slash at its end is
    /// dropped, one at its start kept.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        self.prefix = prefix.strip_suffix('/').unwrap_or(&prefix).to_owned();
        self
    }

    /// What stands before the service's name in a key (codec `plain`); without it the prefix, or
    /// `fleetward`.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// How long making a connection may take. Default 3 s.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one request may take; a renewal and a registration are two. Default 5 s. Of several
    /// servers each has an equal share of it: one that hangs costs its share.
    #[must_use]
    pub fn with_request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How often a connection in use is probed, and how long the answer may take: a server that
    /// hangs is noticed after both together. Default 5.5 s and 1.5 s; etcd closes connections that
    /// are probed more often than every 5 s.
    #[must_use]
    pub fn with_keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.keepalive = interval;
        self.keepalive_timeout = timeout;
        self
    }

    /// How many keys one request of a list asks for. Default 1000.
    #[must_use]
    pub fn with_page_size(mut self, keys: u32) -> Self {
        self.page_size = keys;
        self
    }

    /// Whether a server that has lost its cluster's leader is to refuse, so that another one is
    /// asked. Default true.
    #[must_use]
    pub fn with_require_leader(mut self, required: bool) -> Self {
        self.require_leader = required;
        self
    }

    /// The servers as URLs.
    pub(crate) fn urls(&self) -> Result<Vec<String>, Error> {
        let scheme = if self.is_tls() { "https" } else { "http" };
        let urls = self.endpoints.iter().map(|endpoint| {
            parse_endpoint(endpoint)
                .map(|(_, address)| format!("{scheme}://{}", address.authority()))
        });
        urls.collect()
    }

    pub(crate) fn is_tls(&self) -> bool {
        let https = |endpoint: &String| endpoint.starts_with("https://");
        self.tls.is_on() || self.endpoints.iter().any(https)
    }

    pub(crate) fn tls(&self) -> &TlsConfig {
        &self.tls
    }

    pub(crate) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    pub(crate) fn codec(&self) -> EtcdCodec {
        self.codec
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn schema(&self) -> &str {
        match &self.schema {
            Some(schema) => schema,
            None if self.prefix.is_empty() => DEFAULT_SCHEMA,
            None => self.prefix.trim_start_matches('/'),
        }
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    pub(crate) fn keepalive(&self) -> (Duration, Duration) {
        (self.keepalive, self.keepalive_timeout)
    }

    pub(crate) fn page_size(&self) -> u32 {
        self.page_size
    }

    pub(crate) fn require_leader(&self) -> bool {
        self.require_leader
    }
}

impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdConfig")
            .field(
                "endpoints",
                &self
                    .endpoints
                    .iter()
                    .map(|endpoint| endpoint::shown(endpoint))
                    .collect::<Vec<_>>(),
            )
            .field("user", &self.user)
            .field("tls", &self.is_tls())
            .field("codec", &self.codec)
            .field("prefix", &redact::name(&self.prefix))
            .field("schema", &redact::name(self.schema()))
            .finish_non_exhaustive()
    }
}

const DEFAULT_SCHEMA: &str = "fleetward";
