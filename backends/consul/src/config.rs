//! What a registry is made from, checked before anything is dialled.

mod agent;
mod check;
mod checks;
mod credentials;
mod environment;
mod from_url;
mod query;
mod variables;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use fleetward_core::Error;
use fleetward_core::registry::{Secret, redact};

pub(crate) use agent::AgentUrl;
pub use check::ConsulCheck;
pub(crate) use credentials::Credentials;
use credentials::{Kept, User};
pub(crate) use fleetward_backend_common::tls::{Pem, TlsConfig};
pub use query::Consistency;
pub(crate) use query::Query;
use variables::Environment;

/// How to reach Consul, what to ask it for, and how to be registered in it.
///
/// ```
/// use fleetward_consul::ConsulConfig;
/// let config = ConsulConfig::new(["https://127.0.0.1:8501"])
///     .with_token("hunter2")
///     .with_ca_file("/etc/consul/ca.pem")
///     .with_tag("blue")
///     .with_datacenter("eu-1");
/// assert!(config.check().is_ok());
/// assert!(!format!("{config:?}").contains("hunter2"));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct ConsulConfig {
    agents: Vec<String>,
    base: String,
    credentials: Credentials,
    tls: TlsConfig,
    dangerous_plaintext_credentials: bool,
    query: Query,
    wait: Duration,
    connect_timeout: Duration,
    request_timeout: Duration,
    silence: Duration,
    check: ConsulCheck,
    deregister_after: Duration,
    tags: Vec<String>,
}

impl ConsulConfig {
    /// The defaults, with these agents: `host`, `host:port`, `http://host:port/base`,
    /// `https://host:port/base`, which switches TLS on, or `unix:///path/of/a/socket`. Without a
    /// scheme the port is 8500, or 8501 with TLS; with one it is the scheme's. The first agent that
    /// works is used, so the local one stands first; all belong to one datacenter.
    pub fn new<A: Into<String>>(agents: impl IntoIterator<Item = A>) -> Self {
        Self {
            agents: agents.into_iter().map(Into::into).collect(),
            base: String::new(),
            credentials: Credentials::default(),
            tls: TlsConfig::default(),
            dangerous_plaintext_credentials: false,
            query: Query::default(),
            wait: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(5),
            silence: Duration::from_secs(5),
            check: ConsulCheck::default(),
            deregister_after: MIN_DEREGISTER_AFTER,
            tags: Vec::new(),
        }
    }

    /// Shows this ACL token, in a header.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.credentials.token = Some(Kept::Text(Secret::new(token)));
        self
    }

    /// Shows the ACL token in this file. The file is read for each request, so a renewed token is
    /// used without a restart.
    #[must_use]
    pub fn with_token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.credentials.token = Some(Kept::File(path.into()));
        self
    }

    /// Shows this name and password (HTTP's basic authentication), as a proxy in front of Consul
    /// may ask for.
    #[must_use]
    pub fn with_user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        let password = Kept::Text(Secret::new(password));
        self.credentials.user = Some(User { name: name.into(), password });
        self
    }

    /// The same, with the password in this file, which is read for each request.
    #[must_use]
    pub fn with_user_and_file(mut self, name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.credentials.user = Some(User { name: name.into(), password: Kept::File(path.into()) });
        self
    }

    /// Puts this path in front of every request's, as where a proxy serves Consul under one.
    #[must_use]
    pub fn with_base_path(mut self, path: impl Into<String>) -> Self {
        self.base = path.into();
        self
    }

    /// TLS, yes or no, where the other settings do not say it. A CA, a client certificate, a
    /// domain or an `https://` agent switch it on.
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

    /// The name that the agents' certificates must be for, where it is not the agent's host.
    #[must_use]
    pub fn with_domain(mut self, domain: impl Into<String>) -> Self {
        self.tls.domain = Some(domain.into());
        self
    }

    /// Allows sending the token over a connection without TLS to another machine.
    #[must_use]
    pub fn with_dangerous_plaintext_credentials(mut self, allowed: bool) -> Self {
        self.dangerous_plaintext_credentials = allowed;
        self
    }

    /// Whether only instances that pass every check are discovered, their node's included: one
    /// with a warning is not. Default true. Otherwise those with a warning come with the weight for warnings, and critical ones and those in
    /// maintenance with weight 0.
    #[must_use]
    pub fn with_passing(mut self, passing: bool) -> Self {
        self.query.passing = passing;
        self
    }

    /// Discovers only instances with this tag; of several tags an instance must have all.
    #[must_use]
    pub fn with_tag(mut self, tag: impl Into<String>) -> Self {
        self.query.tags.push(tag.into());
        self
    }

    /// Discovers only what this expression of Consul's filter language selects, as in
    /// `Service.Meta.zone == "a"`.
    #[must_use]
    pub fn with_filter(mut self, expression: impl Into<String>) -> Self {
        self.query.filter = Some(expression.into());
        self
    }

    /// Discovers in this datacenter instead of the agent's.
    #[must_use]
    pub fn with_datacenter(mut self, datacenter: impl Into<String>) -> Self {
        self.query.datacenter = Some(datacenter.into());
        self
    }

    /// How fresh what is discovered must be.
    #[must_use]
    pub fn with_consistency(mut self, consistency: Consistency) -> Self {
        self.query.consistency = consistency;
        self
    }

    /// Has Consul sort by the round trip time from this node (`_agent`: the agent's own). The
    /// place in that order is carried as the metadata `consul.rank`, nearest first, from 0.
    #[must_use]
    pub fn with_near(mut self, node: impl Into<String>) -> Self {
        self.query.near = Some(node.into());
        self
    }

    /// The namespace (Consul Enterprise). Not sent unless set.
    #[must_use]
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.query.namespace = Some(namespace.into());
        self
    }

    /// The admin partition (Consul Enterprise). Not sent unless set.
    #[must_use]
    pub fn with_partition(mut self, partition: impl Into<String>) -> Self {
        self.query.partition = Some(partition.into());
        self
    }

    /// Takes the instances' addresses from `TaggedAddresses` under this name, where they have one
    /// (`grpc` for services of kratos that serve HTTP too; `wan`).
    #[must_use]
    pub fn with_tagged_address(mut self, name: impl Into<String>) -> Self {
        self.query.tagged_address = Some(name.into());
        self
    }

    /// How long Consul holds a query back while nothing changes, 1 s to 10 min. Default 60 s.
    #[must_use]
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// How long making a connection may take. Default 3 s.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one request may take, on top of the wait of a query that is held back; a renewal
    /// is two. Default 5 s.
    #[must_use]
    pub fn with_request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// After how long a silence an agent that holds a query back is asked whether it is alive; it
    /// has 2 s to answer. Default 5 s.
    #[must_use]
    pub fn with_silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Who finds out that a registered instance is well. Default: its own heartbeats.
    #[must_use]
    pub fn with_check(mut self, check: ConsulCheck) -> Self {
        self.check = check;
        self
    }

    /// After how long in a critical state Consul removes a registered instance for good, at least
    /// (and by default) 1 min.
    #[must_use]
    pub fn with_deregister_after(mut self, time: Duration) -> Self {
        self.deregister_after = time;
        self
    }

    /// Registers with this tag; may be given several times.
    #[must_use]
    pub fn with_register_tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// With the token of the environment, where no other was given.
    pub(crate) fn with_environment(mut self) -> Self {
        let process = Environment(&variables::process);
        self.credentials = self.credentials.with_token_of(&process);
        self
    }

    /// The agents.
    pub(crate) fn urls(&self) -> Result<Vec<AgentUrl>, Error> {
        let tls = self.is_tls();
        let parse = |(place, agent): (usize, &String)| {
            let url = AgentUrl::parse(agent, tls).and_then(|url| url.with_base(&self.base));
            url.map_err(|error| error.with_context("no.", place + 1))
        };
        self.agents.iter().enumerate().map(parse).collect()
    }

    /// What `Debug` shows of an agent: a user and a password may stand in one that is wrong.
    fn shown(&self, agent: &str) -> String {
        AgentUrl::parse(agent, self.is_tls())
            .map_or_else(|_| redact::length(agent), |url| url.to_string())
    }

    pub(crate) fn is_tls(&self) -> bool {
        let https = |agent: &String| agent.starts_with("https://");
        self.tls.is_on() || self.agents.iter().any(https)
    }

    pub(crate) fn tls(&self) -> &TlsConfig {
        &self.tls
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(crate) fn query(&self) -> &Query {
        &self.query
    }

    pub(crate) fn wait(&self) -> Duration {
        self.wait
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    pub(crate) fn silence(&self) -> Duration {
        self.silence
    }

    pub(crate) fn health_check(&self) -> &ConsulCheck {
        &self.check
    }

    pub(crate) fn deregister_after(&self) -> Duration {
        self.deregister_after
    }

    pub(crate) fn register_tags(&self) -> &[String] {
        &self.tags
    }
}

impl fmt::Debug for ConsulConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsulConfig")
            .field("agents", &self.agents.iter().map(|agent| self.shown(agent)).collect::<Vec<_>>())
            .field("credentials", &self.credentials)
            .field("tls", &self.is_tls())
            .field("query", &self.query)
            .field("wait", &self.wait)
            .field("check", &self.check)
            .field("tags", &self.tags.iter().map(|tag| redact::name(tag)).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Consul's own; it raises what is shorter.
const MIN_DEREGISTER_AFTER: Duration = Duration::from_secs(60);
