//! Registration: one lease, with one key attached to it.

mod attempts;
mod own_keys;

use std::sync::OnceLock;
use std::time::Duration;

use fleetward_core::registration::{KeptAlive, Leased, Registry};
use fleetward_core::{Error, ErrorKind, Instance, ServiceName};
use tokio::time::timeout;

use crate::EtcdRegistry;
use crate::codec;
pub(crate) use attempts::Attempts;
pub(crate) use own_keys::OwnKeys;

/// The lease of a registration, and the key that is attached to it.
#[derive(Debug)]
pub struct EtcdLease {
    id: i64,
    key: String,
    ttl: Duration,
    service: ServiceName,
    /// The revision of the store that wrote the key.
    revision: i64,
    /// Made for those who ask whether it is lost.
    guard: OnceLock<own_keys::Guard>,
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
        let mut attempt = self.attempts.begin(&key, value, ttl);
        let id = attempt.lease();
        let written = async {
            if let Some(stale) = attempt.stale() {
                self.client.revoke(stale).await?;
                attempt.stale_ended();
            }
            let seconds = self.client.grant(id, seconds).await?;
            let stands = self.client.put(&key, attempt.value(), id).await?;
            let revision = stands.ok_or_else(|| {
                Error::new(ErrorKind::Other, "the key was written, but does not stand")
            })?;
            Ok((seconds, revision))
        };
        match written.await {
            Ok((seconds, revision)) => {
                attempt.conclude();
                // etcd raises a short one.
                let ttl = Duration::from_secs(u64::try_from(seconds).unwrap_or(1));
                let (service, guard) = (service.clone(), OnceLock::new());
                let lease = EtcdLease { id, key, ttl, service, revision, guard };
                Ok(Leased { lease, ttl })
            }
            Err(error) => {
                if !is_open(&error) {
                    // Nobody will renew it; if it cannot be revoked now, it ends by itself.
                    self.tidy_up(id).await;
                    attempt.conclude();
                }
                Err(failed(error).with_context("key", key))
            }
        }
    }

    async fn lost(&self, lease: &EtcdLease) {
        let begin = || self.own_keys.guard(&lease.key, lease.id, lease.revision);
        lease.guard.get_or_init(begin).reason_to_look(&self.client).await;
    }

    async fn keep_alive(&self, lease: &mut EtcdLease) -> Result<KeptAlive, Error> {
        let result = self.renew_and_look(lease).await;
        result.map_err(|error| lease.named(error).with_operation("keep alive"))
    }

    async fn deregister(&self, lease: EtcdLease) -> Result<(), Error> {
        let result = self.client.revoke(lease.id).await;
        result.map_err(|error| lease.named(error).with_operation("deregister"))
    }
}

impl EtcdRegistry {
    async fn renew_and_look(&self, lease: &EtcdLease) -> Result<KeptAlive, Error> {
        // Both are asked each time. The renewal alone does not tell of a key that was deleted or
        // overwritten, and some servers renew a lease that they have just revoked.
        let renewed = self.client.renew(lease.id).await?;
        let found = self.client.get(&lease.key).await?;
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
                    self.tidy_up(lease.id).await;
                }
                KeptAlive::Lost { reason: lease.named(Error::new(ErrorKind::NotFound, why)) }
            }
        })
    }

    /// Revokes a lease that nobody needs, if that is quickly done.
    async fn tidy_up(&self, lease: i64) {
        match timeout(TIDY_UP, self.client.revoke(lease)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a lease is left to end by itself"),
            Err(_) => {
                tracing::debug!("a lease is left to end by itself: etcd is slow to revoke it");
            }
        }
    }
}

/// Whether what was asked for may still be carried out.
fn is_open(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
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
