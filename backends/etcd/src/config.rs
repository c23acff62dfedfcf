//! What a registry is made from, checked before anything is dialled.

mod from_url;
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use fleetward_core::{Address, Error, Host, Secret};

pub(crate) use tls::{Pem, TlsConfig};

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
                .with_context("codec", name)
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
    user: Option<(String, Secret)>,
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
    /// `https://host:port`, which switches TLS on. Several are members of one cluster.
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
        self.user = Some((name.into(), Secret::new(password)));
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

    /// How long one request may take; a login, a renewal and a registration are one, two and two.
    /// Default 5 s.
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

    /// Checks everything that can be checked without files and network.
    /// [`connect`](crate::EtcdRegistry::connect) does it too.
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput), with what to change.
    pub fn check(&self) -> Result<(), Error> {
        if self.endpoints.is_empty() {
            return Err(Error::invalid_input(
                "no etcd endpoint is given; give at least one host:port, as in etcd://127.0.0.1:2379",
            ));
        }
        for endpoint in &self.endpoints {
            parse_endpoint(endpoint)?;
        }
        self.tls.check(self.is_tls())?;
        self.check_credentials()?;
        check_path("prefix", &self.prefix)?;
        check_path("schema", self.schema())?;
        if self.schema().is_empty() {
            return Err(Error::invalid_input("the schema is empty; leave it out for the default"));
        }
        let given = self.schema.as_deref().filter(|_| !self.prefix.is_empty());
        if self.codec == EtcdCodec::Plain && given.is_some_and(|given| given != self.prefix) {
            return Err(Error::invalid_input(
                "schema and prefix (or the URL's path) differ; the plain codec has one of them",
            ));
        }
        self.check_numbers()
    }

    fn check_credentials(&self) -> Result<(), Error> {
        let Some((name, _)) = &self.user else { return Ok(()) };
        if name.is_empty() {
            return Err(Error::invalid_input("the user's name is empty"));
        }
        match self.exposed_endpoint() {
            Some(endpoint) if !self.dangerous_plaintext_credentials => Err(Error::invalid_input(
                "the password would be sent without TLS; switch TLS on (etcds://), or allow it with dangerous_plaintext_credentials=true",
            )
            .with_context("endpoint", endpoint)),
            _ => Ok(()),
        }
    }

    /// An endpoint that gets the password in the clear, over a network.
    pub(crate) fn exposed_endpoint(&self) -> Option<&str> {
        if self.user.is_none() || self.is_tls() {
            return None;
        }
        let remote = |endpoint: &&String| match parse_endpoint(endpoint) {
            Ok((_, address)) => match address.host() {
                Host::Ip(ip) => !ip.to_canonical().is_loopback(),
                Host::Name(name) => !name.eq_ignore_ascii_case("localhost"),
            },
            Err(_) => false,
        };
        self.endpoints.iter().find(remote).map(String::as_str)
    }

    fn check_numbers(&self) -> Result<(), Error> {
        if self.connect_timeout.is_zero() || self.request_timeout.is_zero() {
            return Err(Error::invalid_input("a timeout is longer than 0"));
        }
        if self.keepalive < MIN_KEEPALIVE {
            return Err(Error::invalid_input(
                "keepalive is at least 5s, for etcd closes connections that are probed more often",
            ));
        }
        if self.keepalive_timeout.is_zero() {
            return Err(Error::invalid_input("the keepalive timeout is longer than 0"));
        }
        if self.page_size == 0 {
            return Err(Error::invalid_input("page_size is at least 1"));
        }
        Ok(())
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

    pub(crate) fn user(&self) -> Option<(&str, &Secret)> {
        self.user.as_ref().map(|(name, password)| (name.as_str(), password))
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
            .field("endpoints", &self.endpoints)
            .field("user", &self.user)
            .field("tls", &self.is_tls())
            .field("codec", &self.codec)
            .field("prefix", &self.prefix)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

const DEFAULT_SCHEMA: &str = "fleetward";

/// etcd's own minimum (`--grpc-keepalive-min-time`).
const MIN_KEEPALIVE: Duration = Duration::from_secs(5);

/// Whether the endpoint asks for TLS, and its address.
fn parse_endpoint(endpoint: &str) -> Result<(bool, Address), Error> {
    let address: Address = endpoint.parse().map_err(|error: Error| {
        // A user's name and password may stand in what was taken for an address.
        let shown = endpoint.rsplit('@').next().unwrap_or_default();
        Error::invalid_input(format!("not an etcd endpoint: {}", error.message()))
            .with_context("endpoint", shown)
    })?;
    match address.scheme() {
        None | Some("http") => Ok((false, address)),
        Some("https") => Ok((true, address)),
        Some(_) => Err(Error::invalid_input("an etcd endpoint is host:port, http:// or https://")
            .with_context("endpoint", endpoint)),
    }
}

/// A part of a key: no empty, `.` or `..` segment inside, and nothing that a log would trip over.
fn check_path(name: &'static str, path: &str) -> Result<(), Error> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let bad_segment = |segment: &str| matches!(segment, "" | "." | "..");
    let bad = path.chars().any(char::is_control)
        || path.len() > 512
        || (!path.is_empty() && inner.split('/').any(bad_segment));
    if bad {
        return Err(Error::invalid_input(format!(
            "the {name} has an empty, '.' or '..' segment, a control character or more than 512 bytes",
        ))
        .with_context(name, path));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(config: EtcdConfig) -> String {
        config.check().expect_err("it is wrong").to_string()
    }

    #[test]
    fn says_what_is_wrong() {
        let good = || EtcdConfig::new(["127.0.0.1:2379"]);
        assert!(good().check().is_ok());
        assert!(message(EtcdConfig::new([""; 0])).contains("no etcd endpoint"));
        assert!(message(EtcdConfig::new(["localhost"])).contains("port is missing"));
        assert!(message(EtcdConfig::new(["ftp://h:1"])).contains("http://"));
        assert!(message(good().with_page_size(0)).contains("page_size"));
        assert!(message(good().with_prefix("a//b")).contains("prefix"));
        assert!(message(good().with_schema("")).contains("schema"));
        assert!(message(good().with_request_timeout(Duration::ZERO)).contains("timeout"));
        let second = Duration::from_secs(1);
        assert!(message(good().with_keepalive(second, second)).contains("at least 5s"));
        let plain = good().with_codec(EtcdCodec::Plain).with_prefix("a");
        assert_eq!(plain.schema(), "a");
        assert!(message(plain.with_schema("b")).contains("differ"));
    }

    #[test]
    fn a_password_needs_tls_or_loopback_or_a_dangerous_word() {
        let at = |endpoint: &str| EtcdConfig::new([endpoint]).with_user("root", "canary");
        for fine in ["127.0.0.1:2379", "[::1]:2379", "localhost:2379", "https://10.0.0.1:2379"] {
            assert!(at(fine).check().is_ok(), "{fine}");
            assert!(at(fine).exposed_endpoint().is_none());
        }
        let plaintext = at("10.0.0.1:2379");
        assert!(message(plaintext.clone()).contains("dangerous_plaintext_credentials=true"));
        assert!(message(at("http://10.0.0.1:2379")).contains("without TLS"));
        assert!(plaintext.clone().with_tls(true).check().is_ok());
        let allowed = plaintext.with_dangerous_plaintext_credentials(true);
        assert!(allowed.check().is_ok() && allowed.exposed_endpoint().is_some());
    }

    #[test]
    fn tls_is_never_switched_off_by_accident() {
        let good = || EtcdConfig::new(["https://h:1", "h:2"]);
        assert_eq!(good().urls().unwrap(), ["https://h:1", "https://h:2"]);
        assert!(EtcdConfig::new(["h:1"]).with_ca_file("ca.pem").is_tls());
        assert!(EtcdConfig::new(["h:1"]).with_domain("etcd.internal").is_tls());
        assert!(message(good().with_tls(false)).contains("tls"));
        assert!(!EtcdConfig::new(["h:1"]).with_tls(false).is_tls());
    }

    #[test]
    fn no_secret_is_printed() {
        let config = EtcdConfig::new(["root:canary@h:1"]).with_user("root", "canary");
        assert!(!message(config).contains("canary"));
        let config = EtcdConfig::new(["h:1"]).with_user("root", "canary");
        assert!(!format!("{config:?} {:?}", config.check()).contains("canary"));
    }
}
