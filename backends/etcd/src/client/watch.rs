//! The stream of a watch, message by message. What the messages mean is the source's business.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::PbWatchResponse;
use etcd_client::{WatchOptions, WatchRequestSender, WatchResponseStream};
use fleetward_core::Error;
use tokio::time::Instant;

use super::connect::Link;
use super::failure::Failure;
use super::{Client, KeyValue};

/// An open stream of watches. Dropping it resets the stream, upon which etcd forgets them.
pub(crate) struct Watch {
    client: Client,
    at: usize,
    /// Held, for its end is the end of the stream.
    requests: Option<Requests>,
    responses: WatchResponseStream,
    /// When the last message came.
    heard: Instant,
}

/// What to watch.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// The number of the watch on its stream; 0: etcd chooses it.
    pub(crate) id: i64,
    pub(crate) from: Vec<u8>,
    /// Up to this key and without it; empty: `from` alone.
    pub(crate) end: Vec<u8>,
    /// From this revision on.
    pub(crate) revision: i64,
}

impl Watched {
    /// With progress notifications, as a sign of life, and in fragments, so that a large
    /// transaction does not exceed what a message may hold.
    fn options(&self) -> WatchOptions {
        let options = WatchOptions::new()
            .with_watch_id(self.id)
            .with_start_revision(self.revision)
            .with_progress_notify()
            .with_fragment();
        if self.end.is_empty() { options } else { options.with_range(self.end.clone()) }
    }
}

/// One message. A logical response may come in several, all but the last marked `fragment`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
    /// Which watch of the stream it is for; -1 in a refusal to begin one.
    pub(crate) watch: i64,
    /// 0 in some messages, so never a place to go on from.
    pub(crate) revision: i64,
    pub(crate) cluster: u64,
    pub(crate) created: bool,
    /// Why the server ended the watch, if it did.
    pub(crate) canceled: Option<String>,
    /// Not 0: what was asked for has been compacted.
    pub(crate) compact_revision: i64,
    pub(crate) fragment: bool,
    pub(crate) events: Vec<Event>,
}

/// One change, with the revision that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A key was written.
    Put(KeyValue, i64),
    /// A key is gone. Nothing else of it is known.
    Delete(Vec<u8>, i64),
}

impl Client {
    /// Opens a stream with one watch, and gives the first message, which says that the watch stands. One that etcd
    /// refuses to begin is an error, unless it is for compaction.
    pub(crate) async fn watch(&self, watched: &Watched) -> Result<(Watch, Response), Error> {
        let opened = self.call("watch", async |link: Arc<Link>| {
            let stream = link.watch().watch(watched.from.clone(), Some(watched.options())).await?;
            let (requests, mut responses) = stream.split();
            let message = responses.message().await?.ok_or_else(Failure::ended)?;
            let first = Response::from(message.0);
            match &first.canceled {
                Some(reason) if first.compact_revision == 0 => {
                    Err(Failure::refused_in_stream(reason))
                }
                _ => Ok((link.server(), requests, responses, first)),
            }
        });
        let (at, requests, responses, first) = opened.await?;
        let requests = Some(Requests(requests));
        let (client, heard) = (self.clone(), Instant::now());
        Ok((Watch { client, at, requests, responses, heard }, first))
    }
}

impl Watch {
    /// The next message, however long it takes: a server that is gone is noticed by the keepalive
    /// of the connection, upon which the stream fails.
    pub(crate) async fn next(&mut self) -> Result<Response, Error> {
        let failure = match self.responses.message().await {
            Ok(Some(message)) => {
                self.heard = Instant::now();
                return Ok(message.0.into());
            }
            Ok(None) => Failure::ended(),
            Err(why) => why.into(),
        };
        let (interval, _) = self.client.shared.config.keepalive();
        let probed = failure.is_transport && is_after_a_probe(self.heard.elapsed(), interval);
        Err(self.failed(if probed { failure.after_a_probe() } else { failure }))
    }

    /// Where to ask for more watches; the stream ends with it. Given out once.
    pub(crate) fn requests(&mut self) -> Option<Requests> {
        self.requests.take()
    }

    /// The error of a watch that the server ended.
    pub(crate) fn refused(&self, reason: &str) -> Error {
        self.failed(Failure::refused_in_stream(reason))
    }

    fn failed(&self, failure: Failure) -> Error {
        self.client.stream_failed(self.at, failure).with_operation("watch")
    }
}

/// etcd forgives two probes that it takes for too many, and closes the connection a second after
/// the one that it does not forgive. Each is sent an interval after the answer to the one before.
fn is_after_a_probe(silence: Duration, interval: Duration) -> bool {
    let into = Duration::from_nanos((silence.as_nanos() % interval.as_nanos().max(1)) as u64);
    silence >= interval * 3 && into < Duration::from_secs(2)
}

/// Where further watches are asked for on the stream of a [`Watch`].
pub(crate) struct Requests(WatchRequestSender);

impl Requests {
    /// Begins another watch; its first message says whether it stands. Cancel safe.
    pub(crate) async fn begin(&mut self, watched: &Watched) -> Result<(), Error> {
        let sent = self.0.watch(watched.from.clone(), Some(watched.options())).await;
        sent.map_err(|why| Failure::from(why).error)
    }

    /// Ends one of the watches of the stream. Cancel safe.
    pub(crate) async fn end(&mut self, watch: i64) -> Result<(), Error> {
        self.0.cancel(watch).await.map_err(|why| Failure::from(why).error)
    }
}

impl Event {
    pub(crate) fn revision(&self) -> i64 {
        match self {
            Self::Put(_, revision) | Self::Delete(_, revision) => *revision,
        }
    }
}

impl From<PbWatchResponse> for Response {
    fn from(message: PbWatchResponse) -> Self {
        let (revision, cluster) =
            message.header.map_or((0, 0), |header| (header.revision, header.cluster_id));
        let events = message.events.into_iter().filter_map(|event| {
            let kv = event.kv?;
            // By number: the client's own accessor panics at a kind that it does not know.
            match event.r#type {
                0 => {
                    let (revision, lease) = (kv.mod_revision, kv.lease);
                    Some(Event::Put(
                        KeyValue { key: kv.key, value: kv.value, lease, revision },
                        revision,
                    ))
                }
                1 => Some(Event::Delete(kv.key, kv.mod_revision)),
                _ => None,
            }
        });
        Self {
            watch: message.watch_id,
            revision,
            cluster,
            created: message.created,
            canceled: message.canceled.then_some(message.cancel_reason),
            compact_revision: message.compact_revision,
            fragment: message.fragment,
            events: events.collect(),
        }
    }
}
