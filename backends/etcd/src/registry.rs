//! Registration: one lease, with one key attached to it.

use std::time::Duration;

use fleetward_core::{Error, ErrorKind, Instance, KeptAlive, Leased, Registry, ServiceName};
use tokio::time::timeout;

use crate::EtcdRegistry;
use crate::client::Session;
use crate::codec;

/// The lease of a registration, and the key that is attached to it.
#[derive(Debug)]
pub struct EtcdLease {
    id: i64,
    key: String,
    ttl: Duration,
    service: ServiceName,
}

impl EtcdLease {
    /// etcd's id of the lease; etcdctl shows it in hexadecimal.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    fn named(&self, error: Error) -> Error {
        error.with_context("service", &self.service).with_context("key", &self.key)
    }
}

impl Registry for EtcdRegistry {
    type Lease = EtcdLease;

    async fn register(
        &self,
        service: &ServiceName,
        instance: &Instance,
        ttl: Duration,
    ) -> Result<Leased<EtcdLease>, Error> {
        let failed =
            |error: Error| error.with_operation("register").with_context("service", service);
        let (key, value) = codec::write(&*self.codec, service, instance).map_err(failed)?;
        let seconds = whole_seconds(ttl).map_err(failed)?;
        let session = self.client.session().await.map_err(failed)?;
        let (id, seconds) = session.grant(seconds).await.map_err(failed)?;
        // etcd raises a short one.
        let ttl = Duration::from_secs(u64::try_from(seconds).unwrap_or(1));
        let lease = EtcdLease { id, key, ttl, service: service.clone() };
        let written = session.put(&lease.key, value, id).await.and_then(|found| match found {
            Some(found) if found.lease == id => Ok(()),
            _ => Err(Error::new(ErrorKind::Other, "the key was written, but does not stand")),
        });
        match written {
            Ok(()) => Ok(Leased { lease, ttl }),
            Err(error) => {
                // Nobody will renew it; if it cannot be revoked now, it ends by itself.
                tidy_up(&session, id).await;
                Err(failed(error).with_context("key", lease.key))
            }
        }
    }

    async fn keep_alive(&self, lease: &mut EtcdLease) -> Result<KeptAlive, Error> {
        let result = self.renew_and_look(lease).await;
        result.map_err(|error| lease.named(error).with_operation("keep alive"))
    }

    async fn deregister(&self, lease: EtcdLease) -> Result<(), Error> {
        let revoke = || async { self.client.session().await?.revoke(lease.id).await };
        // The lease is given away, so the caller cannot try again: if it was the server's fault,
        // the next one is asked, once. Both fit into the deadline of one request.
        let half = self.client.request_timeout() / 2;
        let result = match timeout(half, revoke()).await {
            Ok(Err(error)) if error.kind() != ErrorKind::Unavailable => Err(error),
            Ok(Ok(())) => Ok(()),
            _ => timeout(half, revoke()).await.unwrap_or_else(|_| {
                Err(Error::timeout(
                    "etcd did not answer in time; the lease is left to end by itself",
                ))
            }),
        };
        result.map_err(|error| lease.named(error).with_operation("deregister"))
    }
}

impl EtcdRegistry {
    async fn renew_and_look(&self, lease: &EtcdLease) -> Result<KeptAlive, Error> {
        let session = self.client.session().await?;
        // Both are asked each time. The renewal alone does not tell of a key that was deleted or
        // overwritten, and some servers renew a lease that they have just revoked.
        let renewed = session.renew(lease.id).await?;
        let found = session.get(&lease.key).await?;
        Ok(match found {
            Some(found) if found.lease == lease.id && renewed => {
                KeptAlive::Alive { ttl: lease.ttl }
            }
            Some(found) if found.lease == lease.id => KeptAlive::Lost {
                reason: lease.named(Error::new(ErrorKind::NotFound, "the lease has ended")),
            },
            Some(found) => {
                let who = match found.lease {
                    0 => "the key was written without a lease, by somebody else".to_owned(),
                    other => format!("the key stands under another lease, {other:x}"),
                };
                KeptAlive::Superseded { reason: lease.named(Error::new(ErrorKind::Conflict, who)) }
            }
            None => {
                let why = if renewed { "the key was deleted" } else { "the lease has ended" };
                if renewed {
                    // Else it would stay next to that of the next registration until it ends.
                    tidy_up(&session, lease.id).await;
                }
                KeptAlive::Lost { reason: lease.named(Error::new(ErrorKind::NotFound, why)) }
            }
        })
    }
}

/// Revokes a lease that nobody needs, if that is quickly done.
async fn tidy_up(session: &Session, lease: i64) {
    match timeout(TIDY_UP, session.revoke(lease)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a lease is left to end by itself"),
        Err(_) => tracing::debug!("a lease is left to end by itself: etcd is slow to revoke it"),
    }
}

const TIDY_UP: Duration = Duration::from_secs(1);

/// A lease lives for whole seconds; never for less than was asked for.
fn whole_seconds(ttl: Duration) -> Result<i64, Error> {
    let seconds = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0));
    if ttl.is_zero() || seconds > MAX_TTL {
        return Err(Error::invalid_input(
            "a time to live is longer than 0 and shorter than 285 years",
        ));
    }
    Ok(seconds as i64)
}

/// etcd's own limit, in seconds.
const MAX_TTL: u64 = 9_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lives_for_whole_seconds() {
        for (millis, seconds) in [(1, 1), (1000, 1), (1001, 2), (15_000, 15)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)).unwrap(), seconds);
        }
        assert!(whole_seconds(Duration::ZERO).is_err());
        assert!(whole_seconds(Duration::MAX).is_err());
    }
}
