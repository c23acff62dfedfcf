//! The one place that knows `etcd-client`.
//!
//! Its own balancer keeps picking a dead server, so it is given one server at a time, and core's
//! `Rotation` says which. It has no deadlines by default, so every request here has one. It logs in
//! again for one of etcd's reasons only, so that is done here too.

mod connect;
mod diagnosis;
mod failure;
mod requests;
mod watch;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleetward_backend_common::rotation::{Failed, Rotation};
use fleetward_core::Error;
use tokio::time::Instant;

use crate::config::EtcdConfig;
use connect::Link;
use failure::{Blame, Failure};
pub(crate) use requests::KeyValue;
pub(crate) use watch::{Event, Requests, Response, Watch, Watched};

/// A connection to whichever server works. Clones share it.
#[derive(Clone)]
pub(crate) struct Client {
    shared: Arc<ClientParts>,
}

struct ClientParts {
    config: EtcdConfig,
    rotation: Rotation,
    servers: Vec<Server>,
}

#[derive(Default)]
struct Server {
    link: Mutex<Option<Arc<Link>>>,
    /// One caller connects, the others wait for its connection.
    connecting: tokio::sync::Mutex<()>,
}

impl Client {
    /// Reads the TLS files and builds a connection, to find mistakes in them; dials nothing.
    pub(crate) async fn new(config: EtcdConfig) -> Result<Self, Error> {
        let urls = config.urls()?;
        connect::check(&config, &urls).await?;
        let servers = urls.iter().map(|_| Server::default()).collect();
        // Clients that start together must not all begin at the first server.
        let first = fastrand::usize(..urls.len());
        let rotation = Rotation::new("endpoint", urls, first);
        Ok(Self { shared: Arc::new(ClientParts { config, rotation, servers }) })
    }

    pub(crate) fn urls(&self) -> &[String] {
        self.shared.rotation.servers()
    }

    fn request_timeout(&self) -> Duration {
        self.shared.config.request_timeout()
    }

    /// Makes one request of whichever server works, within one deadline. The request may be made
    /// several times, and of two servers at once, so it must come to the same each time.
    async fn call<T, F>(
        &self,
        operation: &'static str,
        request: impl Fn(Arc<Link>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let request = &request;
        let answer = self
            .shared
            .rotation
            .call(self.request_timeout(), |server| self.attempt(server, request));
        answer.await.map_err(|error| error.with_operation(operation))
    }

    async fn attempt<T, F>(&self, at: usize, request: impl Fn(Arc<Link>) -> F) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let waiting = Waiting { client: self, at, since: Instant::now() };
        let outcome = self.on_link(at, request).await;
        std::mem::forget(waiting);
        outcome.map_err(|failure| match failure.blame {
            Blame::Nobody | Blame::Login => Failed::Here(failure.error),
            Blame::Cluster => Failed::Later(failure.error),
            Blame::Server => {
                self.disconnect(at);
                Failed::Elsewhere(failure.error)
            }
        })
    }

    /// Makes the request of this server. If it is refused for the login's sake, logs in again and
    /// makes it once more.
    async fn on_link<T, F>(&self, at: usize, request: impl Fn(Arc<Link>) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let config = &self.shared.config;
        let link = self.link(at).await?;
        let login = link.login();
        let answer = match request(link.clone()).await {
            Err(failure) if failure.blame == Blame::Login && config.user().is_some() => {
                tracing::debug!(error = %failure.error, "logging in to etcd again");
                link.log_in(config, login).await?;
                request(link.clone()).await
            }
            answer => answer,
        };
        match answer {
            Err(failure) if failure.is_transport && !link.is_proven() => {
                Err(diagnosis::explain(failure, &self.urls()[at]).await)
            }
            Err(failure) if failure.is_transport => Err(failure),
            answered => {
                link.proves();
                answered
            }
        }
    }

    /// The connection to a server, logged in if there is a user.
    async fn link(&self, at: usize) -> Result<Arc<Link>, Failure> {
        if let Some(link) = self.slot(at).clone() {
            return Ok(link);
        }
        let _turn = self.shared.servers[at].connecting.lock().await;
        if let Some(link) = self.slot(at).clone() {
            return Ok(link);
        }
        let (config, url) = (&self.shared.config, &self.urls()[at]);
        let link = Arc::new(connect::open(config, at, url).await?);
        if let Err(failure) = link.log_in(config, link.login()).await {
            return Err(match failure.is_transport {
                true => diagnosis::explain(failure, url).await,
                false => failure,
            });
        }
        *self.slot(at) = Some(link.clone());
        Ok(link)
    }

    /// A stream on this server failed: the next request goes elsewhere if that helps.
    fn stream_failed(&self, at: usize, failure: Failure) -> Error {
        if matches!(failure.blame, Blame::Server | Blame::Cluster) {
            self.disconnect(at);
            self.shared.rotation.leave(at);
        }
        failure.error.with_context("endpoint", &self.urls()[at])
    }

    /// Calls and watches in flight keep the connection for themselves.
    fn disconnect(&self, at: usize) {
        *self.slot(at) = None;
    }

    fn slot(&self, at: usize) -> MutexGuard<'_, Option<Arc<Link>>> {
        // Nothing in here panics half way.
        self.shared.servers[at].link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops with an attempt that is cut off, by its deadline or by its caller's.
struct Waiting<'a> {
    client: &'a Client,
    at: usize,
    since: Instant,
}

impl Drop for Waiting<'_> {
    /// A connection over which nothing came may be dead: the next attempt dials.
    fn drop(&mut self) {
        let share = self.client.request_timeout() / self.client.urls().len().max(1) as u32;
        if self.since.elapsed() >= SUSPICIOUS.min(share / 2) {
            self.client.disconnect(self.at);
        }
    }
}

/// A wait that is cut off sooner says nothing about the server.
const SUSPICIOUS: Duration = Duration::from_millis(500);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("urls", &self.urls()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn client() -> Client {
        Client::new(EtcdConfig::new(["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"])).await.unwrap()
    }

    #[tokio::test]
    async fn a_refusal_keeps_the_connection_and_a_failure_makes_a_new_one() {
        let client = client().await;
        let first = client.link(0).await.unwrap();
        let refused = || Failure::refused(tonic::Code::PermissionDenied, "permission denied");
        let outcome = client.attempt(0, |_| async { Err::<(), _>(refused()) }).await;
        assert!(matches!(outcome, Err(Failed::Here(_))));
        assert!(Arc::ptr_eq(&first, &client.link(0).await.unwrap()));
        let outcome = client.attempt(0, |_| async { Err::<(), _>(Failure::ended()) }).await;
        assert!(matches!(outcome, Err(Failed::Elsewhere(_))));
        assert!(!Arc::ptr_eq(&first, &client.link(0).await.unwrap()));
    }

    #[tokio::test]
    async fn a_call_that_is_cut_off_drops_a_silent_connection() {
        let client = client().await;
        let first = client.link(0).await.unwrap();
        let silent = |_: Arc<Link>| std::future::pending::<Result<(), Failure>>();
        let cut_off = tokio::time::timeout(Duration::from_secs(1), client.attempt(0, silent)).await;
        assert!(cut_off.is_err());
        assert!(!Arc::ptr_eq(&first, &client.link(0).await.unwrap()));
    }

    #[tokio::test]
    async fn clients_begin_at_different_servers() {
        let mut begun = std::collections::BTreeSet::new();
        for _ in 0..100 {
            begun.insert(client().await.shared.rotation.current());
        }
        assert_eq!(begun.len(), 3);
    }
}
