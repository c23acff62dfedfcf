//! The requests, one function each.

use std::sync::Arc;

use etcd_client::{GetOptions, LeaseGrantOptions, PutOptions, Txn, TxnOp, TxnOpResponse};
use fleetward_core::{Error, ErrorKind};

use super::Client;
use super::connect::Link;
use super::failure::Failure;

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
    /// Of the last write.
    pub(crate) revision: i64,
}

impl Client {
    /// Up to `limit` keys from `from` on, up to `end` and without it; as of `revision`, or now if
    /// that is 0.
    pub(crate) async fn range(
        &self,
        from: &[u8],
        end: &[u8],
        limit: u32,
        revision: i64,
    ) -> Result<Page, Error> {
        let options =
            GetOptions::new().with_range(end).with_limit(limit.into()).with_revision(revision);
        let request = async |link: Arc<Link>| {
            let mut found = link.kv().get(from, Some(options.clone())).await?;
            let header = found.header();
            let (revision, cluster) =
                header.map_or((0, 0), |header| (header.revision(), header.cluster_id()));
            let more = found.more();
            let entries = found.take_kvs().into_iter().map(KeyValue::from).collect();
            Ok(Page { entries, more, revision, cluster })
        };
        self.call("list", request).await
    }

    /// One key, as the majority has it.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<KeyValue>, Error> {
        let request = async |link: Arc<Link>| {
            let mut found = link.kv().get(key, None).await?;
            Ok(found.take_kvs().pop().map(KeyValue::from))
        };
        self.call("get", request).await
    }

    /// Writes a key under a lease, and gives the revision, if that is what stands there then.
    pub(crate) async fn put(
        &self,
        key: &str,
        value: &[u8],
        lease: i64,
    ) -> Result<Option<i64>, Error> {
        let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
        let transaction = Txn::new().and_then([put, TxnOp::get(key, None)]);
        let request = async |link: Arc<Link>| {
            let done = link.kv().txn(transaction.clone()).await?;
            let stands = done.op_responses().into_iter().any(|response| match response {
                TxnOpResponse::Get(mut found) => {
                    found.take_kvs().pop().is_some_and(|found| found.lease() == lease)
                }
                _ => false,
            });
            Ok(stands.then(|| done.header().map_or(0, etcd_client::ResponseHeader::revision)))
        };
        self.call("register", request).await
    }

    /// A lease of this id for so many seconds, or the one that an earlier attempt to grant it has
    /// made, renewed. Says how many seconds it lives, which may be more than asked for.
    pub(crate) async fn grant(&self, id: i64, seconds: i64) -> Result<i64, Error> {
        let granted = self.call("grant", async |link: Arc<Link>| {
            let options = LeaseGrantOptions::new().with_id(id);
            match link.lease().grant(seconds, Some(options)).await.map_err(Failure::from) {
                Ok(granted) => Ok(Some(granted.ttl())),
                Err(failure) if failure.is_lease_known() => Ok(None),
                Err(failure) => Err(failure),
            }
        });
        if let Some(seconds) = granted.await? {
            return Ok(seconds);
        }
        if !self.renew(id).await? {
            let gone = "the lease ended just when it was to be used again";
            return Err(Error::new(ErrorKind::Unavailable, gone).with_operation("grant"));
        }
        let lives = self.call("grant", async |link: Arc<Link>| {
            Ok(link.lease().time_to_live(id, None).await?.granted_ttl())
        });
        lives.await
    }

    /// Renews a lease once. `false`: there is no such lease (any more).
    pub(crate) async fn renew(&self, id: i64) -> Result<bool, Error> {
        let renewed = self.call("renew", async |link: Arc<Link>| {
            match link.lease().keep_alive(id).await {
                // The first answer has been read by now; dropping the pair ends the stream.
                Ok(_) => Ok(true),
                // What it makes of an answer with TTL 0, which is etcd's way to say so.
                Err(etcd_client::Error::LeaseKeepAliveError(_)) => Ok(false),
                Err(why) => Err(why.into()),
            }
        });
        match renewed.await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            other => other,
        }
    }

    /// Ends a lease and with it the keys that are attached to it. One that is not there is fine.
    pub(crate) async fn revoke(&self, id: i64) -> Result<(), Error> {
        let revoked = self.call("revoke", async |link: Arc<Link>| {
            link.lease().revoke(id).await?;
            Ok(())
        });
        match revoked.await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

impl From<etcd_client::KeyValue> for KeyValue {
    fn from(found: etcd_client::KeyValue) -> Self {
        let (lease, revision) = (found.lease(), found.mod_revision());
        let (key, value) = found.into_key_value();
        Self { key, value, lease, revision }
    }
}
