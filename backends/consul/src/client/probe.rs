//! Looking whether an agent is alive, whether it has room, and what it is.

use std::convert::Infallible;
use std::time::Duration;

use futures::future::join_all;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use tokio::time::timeout;

use super::call::Call;
use super::failure::Failure;
use super::lane::Errand;
use super::wire::{Owner, Wire};
use super::{Client, Peer};

impl Client {
    /// Asks for next to nothing: any answer is a sign of life, and so is a connection that is
    /// turned away. It needs no permission, and the agent answers by itself.
    pub(super) async fn knock(&self, peer: &Peer) -> Result<(), Failure> {
        let call = Call::knock();
        let lane = &peer.agent.kept;
        let knock = async {
            let place = lane.enter(Errand::Short).await;
            self.exchange(peer, lane, place, &call, &call.path).await
        };
        match timeout(KNOCK, knock).await {
            Ok(Err(failure)) if failure.is_crowded() => {
                peer.agent.queries.crowded();
                Ok(())
            }
            Ok(Err(failure)) if !failure.is_sign_of_life() => Err(failure),
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::silent()),
        }
    }

    /// Looks now and then whether the agent has room for a few connections more, so that a process
    /// that has many learns that another one has none.
    pub(super) async fn survey(&self, peer: &Peer) -> Infallible {
        loop {
            peer.agent.survey_is_due().await;
            let outcomes = join_all((0..SPARE).map(|_| timeout(KNOCK, self.spare(peer)))).await;
            let turned_away = |one: &Result<Result<(), Failure>, _>| matches!(one, Ok(Err(failure)) if failure.is_crowded());
            if outcomes.iter().any(turned_away) {
                peer.agent.queries.crowded();
            } else if outcomes.iter().all(|one| matches!(one, Ok(Ok(())))) {
                peer.agent.queries.roomy();
            }
        }
    }

    /// One more connection, for a moment.
    async fn spare(&self, peer: &Peer) -> Result<(), Failure> {
        let (call, owner) = (Call::knock(), Owner::current(self.shared.config.tls()));
        let wire = Wire::open(&self.shared.connector, &peer.url, owner, false).await?;
        match self.round(peer, wire, &call, &call.path).await {
            Err(failure) if failure.is_crowded() || !failure.is_sign_of_life() => Err(failure),
            _ => Ok(()),
        }
    }

    /// What else may be known to answer there.
    pub(super) async fn identified(&self, peer: &Peer) -> Option<String> {
        let ask = async {
            let owner = Owner::current(self.shared.config.tls());
            let mut wire =
                Wire::open(&self.shared.connector, &peer.url, owner, false).await.ok()?;
            let mut request = Request::new(Full::default());
            *request.method_mut() = Method::GET;
            *request.uri_mut() = "/version".parse().ok()?;
            request.headers_mut().insert(header::HOST, peer.url.authority().parse().ok()?);
            let body = Limited::new(wire.ask(request).await.ok()?.into_body(), 4096);
            let body = body.collect().await.ok()?.to_bytes();
            let known: serde_json::Value = serde_json::from_slice(&body).ok()?;
            let version = known.get("etcdserver")?.as_str()?.escape_debug().to_string();
            let scheme = if peer.url.is_tls() { "etcds" } else { "etcd" };
            Some(format!("etcd {version}: write {scheme}://{}", peer.url.authority()))
        };
        timeout(KNOCK, ask).await.ok()?
    }
}

/// How long an agent may take to say that it is alive.
const KNOCK: Duration = Duration::from_secs(2);
/// So many connections are left to others.
const SPARE: usize = 2;
