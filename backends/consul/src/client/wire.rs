//! One connection to an agent.

use std::time::Duration;

use bytes::Bytes;
use fleetward_core::Error;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use tokio::runtime::{Handle, Id};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::connector::Connector;
use super::failure::Failure;
use crate::config::{AgentUrl, TlsConfig};

/// A connection. It is closed when this is dropped, and some time after it is left idle.
pub(super) struct Wire {
    sender: SendRequest<Full<Bytes>>,
    owner: Owner,
    idle: watch::Sender<bool>,
    task: AbortHandle,
    /// Whether nothing was asked over it yet.
    pub(super) fresh: bool,
}

/// Whose connections are shared: those of all who show and trust the same, on one runtime.
#[derive(Clone, PartialEq)]
pub(super) struct Owner {
    runtime: Id,
    tls: TlsConfig,
}

impl Owner {
    pub(super) fn current(tls: &TlsConfig) -> Self {
        Self { runtime: Handle::current().id(), tls: tls.clone() }
    }
}

impl Wire {
    /// A new connection; `stays` if it is to be kept for as long as the agent keeps it.
    pub(super) async fn open(
        connector: &Connector,
        agent: &AgentUrl,
        owner: Owner,
        stays: bool,
    ) -> Result<Self, Failure> {
        let io = connector.connect(agent).await.map_err(|why| Failure::connecting(&*why))?;
        let (sender, connection) = handshake(io).await.map_err(|why| Failure::http(&why, true))?;
        let (idle, mut is_idle) = watch::channel(false);
        let task = tokio::spawn(async move {
            let unused = async {
                loop {
                    if is_idle.wait_for(|idle| *idle).await.is_err() {
                        return std::future::pending().await;
                    }
                    tokio::select! {
                        _ = is_idle.wait_for(|idle| !*idle) => {}
                        () = sleep(IDLE), if !stays => return,
                    }
                }
            };
            tokio::select! {
                _closed = connection => {}
                () = unused => {}
            }
        });
        Ok(Self { sender, owner, idle, task: task.abort_handle(), fresh: true })
    }

    /// Whether this owner may use it; nothing if it is closed.
    pub(super) fn serves(&self, owner: &Owner) -> Option<bool> {
        (!self.sender.is_closed()).then(|| self.owner == *owner)
    }

    pub(super) fn set_idle(&self, idle: bool) {
        self.idle.send_replace(idle);
    }

    /// Asks, and gives the head of the answer.
    pub(super) async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failure> {
        let fresh = self.fresh;
        let failed = |why: hyper::Error| Failure::http(&why, fresh);
        self.sender.ready().await.map_err(failed)?;
        let response = self.sender.send_request(request).await.map_err(failed)?;
        self.fresh = false;
        Ok(response)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A request without its target.
pub(super) fn unroutable() -> Failure {
    Failure::ours(Error::invalid_input("the request makes no valid URL"))
}

/// How long a connection is kept for the next call.
const IDLE: Duration = Duration::from_secs(60);
