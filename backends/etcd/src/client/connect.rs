//! One connection to one server, logged in if there is a user.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use etcd_client::{KvClient, LeaseClient, WatchClient};
use fleetward_core::{Error, ErrorKind};

use super::failure::{Blame, Failure};
use crate::config::EtcdConfig;

/// A page of a list, or one transaction in a watch, may be this long; tonic's own limit is 4 MiB.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// A connection. It dials when it is first used, and again after it broke; the watches and calls
/// in flight keep it alive when it is given up.
pub(super) struct Link {
    server: usize,
    client: etcd_client::Client,
    /// One caller logs in, the others wait for its token.
    logging_in: tokio::sync::Mutex<()>,
    logins: AtomicU64,
    proven: AtomicBool,
}

impl Link {
    /// The index of the server.
    pub(super) fn server(&self) -> usize {
        self.server
    }

    pub(super) fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn lease(&self) -> LeaseClient {
        self.client.lease_client()
    }

    pub(super) fn watch(&self) -> WatchClient {
        self.client.watch_client().max_decoding_message_size(MAX_MESSAGE)
    }

    /// Whether etcd has ever answered on it.
    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    pub(super) fn proves(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// The number of the current login.
    pub(super) fn login(&self) -> u64 {
        self.logins.load(Ordering::Acquire)
    }

    /// Logs in, if there is a user and nobody has since the login `seen`. The password is read
    /// each time.
    pub(super) async fn log_in(&self, config: &EtcdConfig, seen: u64) -> Result<(), Failure> {
        let Some(user) = config.user() else { return Ok(()) };
        let _turn = self.logging_in.lock().await;
        if self.login() != seen {
            return Ok(());
        }
        let password = user.password.read().await.map_err(Failure::file)?;
        let credentials = (user.name.clone(), password.expose().to_owned());
        let mut client = self.client.clone();
        match client.update_user(Some(credentials)).await.map_err(Failure::from) {
            Ok(()) => {}
            // Go's client goes on too: then nobody needs a login.
            Err(failure) if failure.is_auth_disabled() => {
                client.update_user(None).await.map_err(Failure::from)?;
            }
            Err(failure) => return Err(refused(failure)),
        }
        self.logins.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

/// etcd answers a wrong password, or a user that it does not know, with "invalid argument".
fn refused(failure: Failure) -> Failure {
    match failure.error.kind() {
        ErrorKind::InvalidInput | ErrorKind::Unauthenticated => {
            let why = failure.error;
            let message =
                format!("etcd refused the login ({}); check user and password", why.message());
            let error = Error::new(ErrorKind::Unauthenticated, message).with_source(why);
            Failure { error, blame: Blame::Login, is_transport: false }
        }
        _ => failure,
    }
}

/// Builds a connection without dialling, to find mistakes in the TLS files.
pub(super) async fn check(config: &EtcdConfig, urls: &[String]) -> Result<(), Error> {
    if let Some(user) = config.user() {
        user.password.read().await?;
    }
    let options = options(config).await?;
    for (at, url) in urls.iter().enumerate() {
        build(options.clone(), at, url).await.map_err(|Failure { error, .. }| {
            let message = format!("the connection cannot be set up: {}", error.message());
            Error::invalid_input(message).with_context("endpoint", url).with_source(error)
        })?;
    }
    Ok(())
}

/// Builds a connection to a server; nothing is dialled.
pub(super) async fn open(config: &EtcdConfig, server: usize, url: &str) -> Result<Link, Failure> {
    // The files are read each time: a certificate that was renewed meanwhile is taken.
    let options = options(config).await.map_err(Failure::file)?;
    build(options, server, url).await
}

async fn build(options: ConnectOptions, server: usize, url: &str) -> Result<Link, Failure> {
    let client = etcd_client::Client::connect([url], Some(options)).await?;
    Ok(Link {
        server,
        client,
        logging_in: tokio::sync::Mutex::default(),
        logins: AtomicU64::new(0),
        proven: AtomicBool::new(false),
    })
}

async fn options(config: &EtcdConfig) -> Result<ConnectOptions, Error> {
    let (interval, timeout) = config.keepalive();
    let options = ConnectOptions::new()
        .with_keep_alive(interval, timeout)
        // etcd closes a connection that is probed while nothing goes on over it. A connection that
        // died while it was idle costs the next call its deadline, no more.
        .with_keep_alive_while_idle(false)
        .with_connect_timeout(config.connect_timeout())
        .with_require_leader(config.require_leader());
    if !config.is_tls() {
        return Ok(options);
    }
    let files = config.tls().load().await?;
    let mut tls = match files.ca {
        Some(ca) => TlsOptions::new().ca_certificate(Certificate::from_pem(ca)),
        None => TlsOptions::new().with_enabled_roots(),
    };
    if let Some((certificate, key)) = files.identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    if let Some(domain) = config.tls().domain() {
        tls = tls.domain_name(domain);
    }
    Ok(options.with_tls(tls))
}
