//! The one place that knows `etcd-client`.
//!
//! Its own balancer keeps picking a dead server, so it is given one server at a time; after a
//! failure the next call gets a new connection, to the next server. It has no deadlines by
//! default, so every call here has one.

mod connect;
mod failure;
mod patience;
mod session;
mod watch;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleetward_core::Error;
use tokio::time::timeout;

use crate::config::EtcdConfig;
use connect::Link;
use failure::{Blame, Failure};
use patience::Patience;
pub(crate) use session::{KeyValue, Session};
pub(crate) use watch::{Event, Response, Watch};

/// A connection to whichever server works. Clones share it.
#[derive(Clone)]
pub(crate) struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    config: EtcdConfig,
    urls: Vec<String>,
    current: Mutex<Current>,
    /// One caller connects, the others wait for its connection.
    connecting: tokio::sync::Mutex<()>,
}

struct Current {
    /// Counts the connections given up: several callers that fail on one connection give it up
    /// once.
    generation: u64,
    /// The index of the server.
    at: usize,
    link: Option<Link>,
}

impl Client {
    /// Reads the TLS files and builds a connection, to find mistakes in them; dials nothing.
    pub(crate) async fn new(config: EtcdConfig) -> Result<Self, Error> {
        let urls = config.urls()?;
        connect::check(&config, &urls).await?;
        // Clients that start together must not all begin at the first server.
        let current = Current { generation: 0, at: fastrand::usize(..urls.len()), link: None };
        let (current, connecting) = (Mutex::new(current), tokio::sync::Mutex::default());
        Ok(Self { shared: Arc::new(Shared { config, urls, current, connecting }) })
    }

    /// The current connection, or a new one.
    pub(crate) async fn session(&self) -> Result<Session, Error> {
        if let Some(session) = self.connected() {
            return Ok(session);
        }
        let mut tried = self.place();
        let connect = async {
            let _turn = self.shared.connecting.lock().await;
            if let Some(session) = self.connected() {
                return Ok(session);
            }
            let (generation, at) = self.place();
            tried = (generation, at);
            let patience = Patience::begins(self, generation);
            let link = connect::connect(&self.shared.config, &self.shared.urls[at]).await;
            patience.ends();
            let link = link?;
            let mut current = self.current();
            if current.generation == generation {
                current.link = Some(link.clone());
            }
            drop(current);
            Ok(Session::new(self.clone(), link, generation))
        };
        let connected = timeout(self.request_timeout(), connect).await;
        connected.unwrap_or_else(|_| Err(Failure::timeout())).map_err(|failure| {
            let (generation, at) = tried;
            self.give_up(generation, failure.blame);
            failure.error.with_operation("connect").with_context("endpoint", &self.urls()[at])
        })
    }

    pub(crate) fn urls(&self) -> &[String] {
        &self.shared.urls
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.shared.config.request_timeout()
    }

    fn connected(&self) -> Option<Session> {
        let current = self.current();
        let link = current.link.clone()?;
        Some(Session::new(self.clone(), link, current.generation))
    }

    fn place(&self) -> (u64, usize) {
        let current = self.current();
        (current.generation, current.at)
    }

    /// Makes the next call connect anew, unless somebody has seen to that already.
    fn give_up(&self, generation: u64, blame: Blame) {
        let mut current = self.current();
        if blame == Blame::Nobody || current.generation != generation {
            return;
        }
        current.generation += 1;
        current.link = None;
        if blame == Blame::Server {
            current.at = (current.at + 1) % self.shared.urls.len();
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Nothing in here panics half way.
        self.shared.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
    async fn a_failure_seen_by_many_rotates_once() {
        let client = client().await;
        let (generation, at) = client.place();
        for _ in 0..10 {
            client.give_up(generation, Blame::Server);
        }
        assert_eq!(client.place(), (generation + 1, (at + 1) % 3));
    }

    #[tokio::test]
    async fn a_refusal_keeps_the_connection_and_a_stale_login_the_server() {
        let client = client().await;
        let first = client.session().await.unwrap();
        let (generation, at) = client.place();
        client.give_up(generation, Blame::Nobody);
        assert!(client.connected().is_some());
        client.give_up(generation, Blame::Login);
        assert_eq!(client.place(), (generation + 1, at));
        assert!(client.connected().is_none());
        drop(first);
    }

    #[tokio::test]
    async fn clients_begin_at_different_servers() {
        let mut begun = std::collections::BTreeSet::new();
        for _ in 0..100 {
            begun.insert(client().await.place().1);
        }
        assert_eq!(begun.len(), 3);
    }
}
