//! The stream of a watch, message by message. What the messages mean is the source's business.

use etcd_client::proto::PbWatchResponse;
use etcd_client::{WatchOptions, WatchStream};
use fleetward_core::Error;
use tokio::time::timeout;
use tonic::Code;

use super::failure::{Blame, Failure};
use super::{KeyValue, Session};

/// An open watch. Dropping it resets its stream, upon which etcd forgets it.
pub(crate) struct Watch {
    session: Session,
    stream: WatchStream,
}

/// One message. A logical response may come in several, all but the last marked `fragment`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
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

impl Watch {
    /// With progress notifications, as a sign of life, and in fragments, so that a large
    /// transaction does not exceed what a message may hold.
    pub(super) fn options(end: Vec<u8>, revision: i64) -> WatchOptions {
        WatchOptions::new()
            .with_range(end)
            .with_start_revision(revision)
            .with_progress_notify()
            .with_fragment()
    }

    pub(super) fn new(session: Session, stream: WatchStream) -> Self {
        Self { session, stream }
    }

    /// The first message, within the deadline of a request.
    pub(crate) async fn first(&mut self) -> Result<Response, Error> {
        let deadline = self.session.request_timeout();
        match timeout(deadline, self.next()).await {
            Ok(response) => response,
            Err(_) => Err(self.session.failed("watch", Failure::timeout())),
        }
    }

    /// The next message, however long it takes: a server that is gone is noticed by the keepalive
    /// of the connection, upon which the stream fails.
    pub(crate) async fn next(&mut self) -> Result<Response, Error> {
        match self.stream.message().await {
            Ok(Some(message)) => Ok(message.0.into()),
            Ok(None) => Err(self.session.failed("watch", Failure::ended())),
            Err(why) => Err(self.session.failed("watch", why.into())),
        }
    }

    /// The error of a watch that the server ended.
    pub(crate) fn refused(&self, reason: &str) -> Error {
        let reason = if reason.is_empty() { "etcd ended the watch" } else { reason };
        let code = match () {
            () if reason.contains("permission denied") => Code::PermissionDenied,
            () if reason.contains("no leader") => Code::Unavailable,
            () => Code::Unknown,
        };
        let mut failure = Failure::refused(code, reason);
        // etcd says this too to a token that has expired meanwhile: log in again, then it shows.
        if code == Code::PermissionDenied {
            failure.blame = Blame::Login;
        }
        self.session.failed("watch", failure)
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
                    Some(Event::Put(KeyValue { key: kv.key, value: kv.value, lease }, revision))
                }
                1 => Some(Event::Delete(kv.key, kv.mod_revision)),
                _ => None,
            }
        });
        Self {
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
