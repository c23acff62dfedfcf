//! Writing: register, keep alive, deregister.

use std::sync::Arc;
use std::time::Duration;

use fleetward_core::registration::{KeptAlive, Leased, Registry};
use fleetward_core::{Error, ErrorKind, Instance, ServiceName};
use tokio::time::Instant;

use crate::MemoryRegistry;
use crate::table::{Held, key};

/// What proves that an entry is ours.
#[derive(Debug)]
pub struct MemoryLease {
    service: ServiceName,
    id: Arc<str>,
    number: u64,
    ttl: Duration,
}

impl Registry for MemoryRegistry {
    type Lease = MemoryLease;

    async fn register(
        &self,
        service: &ServiceName,
        instance: &Instance,
        ttl: Duration,
    ) -> Result<Leased<MemoryLease>, Error> {
        let number = self.shared.table().register(service, instance, ttl, Instant::now());
        self.shared.news.send_replace(());
        let (service, id) = (service.clone(), key(instance));
        Ok(Leased { lease: MemoryLease { service, id, number, ttl }, ttl })
    }

    async fn keep_alive(&self, lease: &mut MemoryLease) -> Result<KeptAlive, Error> {
        let now = Instant::now();
        let mut table = self.shared.table();
        Ok(match table.renew(&lease.service, &lease.id, lease.number, lease.ttl, now) {
            Held::Ours => KeptAlive::Alive { ttl: lease.ttl },
            Held::Theirs => KeptAlive::Superseded {
                reason: Error::new(ErrorKind::Conflict, "the entry stands under another lease"),
            },
            Held::Nobodys => {
                KeptAlive::Lost { reason: Error::new(ErrorKind::NotFound, "the entry is gone") }
            }
        })
    }

    async fn deregister(&self, lease: MemoryLease) -> Result<(), Error> {
        let now = Instant::now();
        let held = self.shared.table().deregister(&lease.service, &lease.id, lease.number, now);
        if held == Held::Ours {
            self.shared.news.send_replace(());
        }
        Ok(())
    }
}
