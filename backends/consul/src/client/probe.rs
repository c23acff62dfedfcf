//! Looking whether an agent is alive, whether it has room, and what it is.

use std::convert::Infallible;
use std::time::Duration;

use futures::future::join_all;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

    /// What answers there, if it is something that is known.
    pub(super) async fn identified(&self, peer: &Peer) -> Option<String> {
        let (url, authority) = (&peer.url, peer.url.authority());
        let mut answer = Vec::new();
        let ask = async {
            let io = self.shared.connector.connect(url).await.ok()?;
            let mut io = TokioIo::new(io);
            let request = format!("GET /version HTTP/1.1\r\nHost: {authority}\r\n\r\n");
            io.write_all(request.as_bytes()).await.ok()?;
            io.take(MAX_ANSWER).read_to_end(&mut answer).await.ok()
        };
        // Who answers may leave the connection open, or reset it; what it has said counts.
        let _read = timeout(MOMENT, ask).await;
        known(&answer, url.is_tls(), &authority)
    }
}

/// What begins to speak like this.
fn known(answer: &[u8], tls: bool, authority: &str) -> Option<String> {
    match answer {
        [0x15, 3, ..] => return Some("TLS: write consuls:// or https://".to_owned()),
        [0, 0, _, 4, ..] => {
            return Some(
                "HTTP/2 only, as gRPC has it; Consul's HTTP API is at port 8500".to_owned(),
            );
        }
        _ => {}
    }
    let text = String::from_utf8_lossy(answer);
    let (_, version) = text.split_once("\"etcdserver\":\"")?;
    let version = version.split('"').next()?.escape_debug();
    let scheme = if tls { "etcds" } else { "etcd" };
    Some(format!("etcd {version}: write {scheme}://{authority}"))
}

const MAX_ANSWER: u64 = 4096;
/// How long what answers may take to say what it is; an error waits for it.
const MOMENT: Duration = Duration::from_millis(300);
/// How long an agent may take to say that it is alive.
const KNOCK: Duration = Duration::from_secs(2);
/// The number of connections that are left to others.
const SPARE: usize = 2;
