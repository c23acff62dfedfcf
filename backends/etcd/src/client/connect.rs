//! One connection to one server, logged in if there is a user.

use std::sync::Arc;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use etcd_client::{KvClient, LeaseClient, WatchClient};
use fleetward_core::{Error, ErrorKind};

use super::failure::{Blame, Failure};
use crate::config::EtcdConfig;

/// A page of a list, or one transaction in a watch, may be this long; tonic's own limit is 4 MiB.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// A connection. It dials when it is first used, and again after it broke; the watches and calls
/// in flight keep it alive when it is given up.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) kv: KvClient,
    pub(super) lease: LeaseClient,
    pub(super) watch: WatchClient,
    pub(super) url: Arc<str>,
}

/// Builds a connection without dialling, to find mistakes in the TLS files.
pub(super) async fn check(config: &EtcdConfig, urls: &[String]) -> Result<(), Error> {
    let options = options(config).await?;
    for url in urls {
        open(url, options.clone()).await.map_err(|why| {
            let error = Failure::from(why).error;
            Error::invalid_input(format!("the connection cannot be set up: {}", error.message()))
                .with_context("endpoint", url)
                .with_source(error)
        })?;
    }
    Ok(())
}

/// Builds a connection to a server. Where there is a user, this dials and logs in.
pub(super) async fn connect(config: &EtcdConfig, url: &str) -> Result<Link, Failure> {
    // The files are read each time: a certificate that was renewed meanwhile is taken.
    let options = options(config).await.map_err(|error| Failure { error, blame: Blame::Nobody })?;
    let Some((name, password)) = config.user() else {
        return open(url, options).await.map_err(Failure::from);
    };
    let with_user = options.clone().with_user(name, password.expose());
    match open(url, with_user.with_auto_token_refresh(true)).await {
        // Go's client goes on too: then nobody needs a login.
        Err(why) if is_auth_disabled(&why) => open(url, options).await.map_err(Failure::from),
        opened => opened.map_err(|why| {
            let failure = Failure::from(why);
            match failure.error.kind() {
                // etcd answers a wrong password, or a user that it does not know, with
                // "invalid argument".
                ErrorKind::InvalidInput => Failure::login(failure.error),
                _ => failure,
            }
        }),
    }
}

async fn open(url: &str, options: ConnectOptions) -> Result<Link, etcd_client::Error> {
    let client = etcd_client::Client::connect([url], Some(options)).await?;
    Ok(Link {
        kv: client.kv_client().max_decoding_message_size(MAX_MESSAGE),
        lease: client.lease_client(),
        watch: client.watch_client().max_decoding_message_size(MAX_MESSAGE),
        url: url.into(),
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

fn is_auth_disabled(error: &etcd_client::Error) -> bool {
    let etcd_client::Error::GRpcStatus(status) = error else { return false };
    status.message().contains("authentication is not enabled")
}
