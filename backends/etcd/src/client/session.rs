//! The calls, on one connection.

use std::time::Duration;

use etcd_client::{GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse};
use fleetward_core::{Error, ErrorKind};
use tokio::time::timeout;

use super::connect::Link;
use super::failure::Failure;
use super::patience::Patience;
use super::{Client, Watch};

/// A connection for some calls in a row. A call that fails by the server's fault, or by the way to
/// it, makes the next session go elsewhere.
#[derive(Clone)]
pub(crate) struct Session {
    client: Client,
    link: Link,
    generation: u64,
}

/// A part of a list.
pub(crate) struct Page {
    pub(crate) entries: Vec<KeyValue>,
    /// Whether there is more after the last key.
    pub(crate) more: bool,
    /// The revision of the store when it answered.
    pub(crate) revision: i64,
    /// Which cluster answered.
    pub(crate) cluster: u64,
}

/// A key as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// 0: none.
    pub(crate) lease: i64,
}

impl Session {
    pub(super) fn new(client: Client, link: Link, generation: u64) -> Self {
        Self { client, link, generation }
    }

    /// Up to `limit` keys from `from` on, up to `end` and without it; as of `revision`, or now if
    /// that is 0.
    pub(crate) async fn range(
        &self,
        from: Vec<u8>,
        end: Vec<u8>,
        limit: u32,
        revision: i64,
    ) -> Result<Page, Error> {
        let options =
            GetOptions::new().with_range(end).with_limit(limit.into()).with_revision(revision);
        let mut kv = self.link.kv.clone();
        let mut found = self.call("list", async move { kv.get(from, Some(options)).await }).await?;
        let (revision, cluster) =
            found.header().map_or((0, 0), |header| (header.revision(), header.cluster_id()));
        let more = found.more();
        let entries = found.take_kvs().into_iter().map(KeyValue::from).collect();
        Ok(Page { entries, more, revision, cluster })
    }

    /// One key, as the majority has it.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<KeyValue>, Error> {
        let (mut kv, key) = (self.link.kv.clone(), key.to_owned());
        let mut found = self.call("get", async move { kv.get(key, None).await }).await?;
        Ok(found.take_kvs().pop().map(KeyValue::from))
    }

    /// Writes a key under a lease, and says what stands there then.
    pub(crate) async fn put(
        &self,
        key: &str,
        value: Vec<u8>,
        lease: i64,
    ) -> Result<Option<KeyValue>, Error> {
        let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
        let transaction = Txn::new().and_then([put, TxnOp::get(key, None)]);
        let mut kv = self.link.kv.clone();
        let done = self.call("register", async move { kv.txn(transaction).await }).await?;
        Ok(done.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(mut found) => found.take_kvs().pop().map(KeyValue::from),
            _ => None,
        }))
    }

    /// A new lease: its id and how many seconds it lives, which may be more than asked for.
    pub(crate) async fn grant(&self, seconds: i64) -> Result<(i64, i64), Error> {
        let mut lease = self.link.lease.clone();
        let granted = self.call("grant", async move { lease.grant(seconds, None).await }).await?;
        Ok((granted.id(), granted.ttl()))
    }

    /// Renews a lease once. `false`: there is no such lease (any more).
    pub(crate) async fn renew(&self, id: i64) -> Result<bool, Error> {
        let mut lease = self.link.lease.clone();
        let renewed = self.call("renew", async move {
            match lease.keep_alive(id).await {
                // The first answer has been read by now; dropping the pair ends the stream.
                Ok(_) => Ok(true),
                // What it makes of an answer with TTL 0, which is etcd's way to say so.
                Err(etcd_client::Error::LeaseKeepAliveError(_)) => Ok(false),
                Err(why) => Err(why),
            }
        });
        match renewed.await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            other => other,
        }
    }

    /// Ends a lease and with it the keys that are attached to it. One that is not there is fine.
    pub(crate) async fn revoke(&self, id: i64) -> Result<(), Error> {
        let mut lease = self.link.lease.clone();
        match self.call("revoke", async move { lease.revoke(id).await }).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map(drop),
        }
    }

    /// Watches the keys from `from` up to `end` and without it, from `revision` on.
    pub(crate) async fn watch(
        self,
        from: Vec<u8>,
        end: Vec<u8>,
        revision: i64,
    ) -> Result<Watch, Error> {
        let mut watch = self.link.watch.clone();
        let options = Watch::options(end, revision);
        let opened = async move { watch.watch(from, Some(options)).await };
        let stream = self.call("watch", opened).await?;
        Ok(Watch::new(self, stream))
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.client.request_timeout()
    }

    /// Runs one call with a deadline.
    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, etcd_client::Error>> + Send,
    ) -> Result<T, Error> {
        let patience = Patience::begins(&self.client, self.generation);
        let answer = timeout(self.request_timeout(), call).await;
        patience.ends();
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why)) => Err(self.failed(operation, why.into())),
            Err(_) => Err(self.failed(operation, Failure::timeout())),
        }
    }

    /// Names the failure and sees to it that the next session is another one, where that helps.
    pub(super) fn failed(&self, operation: &'static str, failure: Failure) -> Error {
        self.client.give_up(self.generation, failure.blame);
        failure.error.with_operation(operation).with_context("endpoint", &self.link.url)
    }
}

impl From<etcd_client::KeyValue> for KeyValue {
    fn from(found: etcd_client::KeyValue) -> Self {
        let lease = found.lease();
        let (key, value) = found.into_key_value();
        Self { key, value, lease }
    }
}
