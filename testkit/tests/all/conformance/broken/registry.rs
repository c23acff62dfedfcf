//! Writing, and what is wrong with it.

use std::time::Duration;

use fleetward_core::discovery::Source;
use fleetward_core::registration::{KeptAlive, Leased, Registry};
use fleetward_core::{Error, Instance, ServiceName};
use fleetward_memory::MemoryLease;

use super::{Broken, Fault};

#[derive(Debug)]
pub(crate) struct BrokenLease {
    lease: MemoryLease,
    service: ServiceName,
    instance: Instance,
    ttl: Duration,
}

impl Registry for Broken {
    type Lease = BrokenLease;

    async fn register(
        &self,
        service: &ServiceName,
        instance: &Instance,
        ttl: Duration,
    ) -> Result<Leased<BrokenLease>, Error> {
        self.answers()?;
        let instance = match self.fault {
            Fault::NewKeyEachTime => {
                let unique = format!("{}-{}", instance.id(), fresh());
                instance.clone().with_id(&unique)?
            }
            _ => instance.clone(),
        };
        if self.is(Fault::RegistersInTwoSteps) {
            self.table.register(service, &instance, FOR_EVER).await?;
            tokio::task::yield_now().await;
        }
        let lives = if self.is(Fault::LeasesForEver) { FOR_EVER } else { ttl };
        let lease = self.table.register(service, &instance, lives).await?.lease;
        Ok(Leased { lease: BrokenLease { lease, service: service.clone(), instance, ttl }, ttl })
    }

    async fn keep_alive(&self, lease: &mut BrokenLease) -> Result<KeptAlive, Error> {
        self.answers()?;
        let alive = Ok(KeptAlive::Alive { ttl: lease.ttl });
        if self.is(Fault::ForgetsToRenew) {
            return alive;
        }
        let kept = self.table.keep_alive(&mut lease.lease).await;
        if self.is(Fault::NeverNoticesLoss) { alive } else { kept }
    }

    async fn lost(&self, lease: &BrokenLease) {
        loop {
            let listing = self.table.list(&lease.service).await.expect("a table can be listed");
            let stands = listing
                .entries
                .iter()
                .any(|entry| entry.readable().any(|found| found.id() == lease.instance.id()));
            if !stands && !self.is(Fault::NeverTellsLoss) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn deregister(&self, mut lease: BrokenLease) -> Result<(), Error> {
        if self.is(Fault::DeregistersNothing) {
            return Ok(());
        }
        if self.is(Fault::RemovesSuccessors) {
            let ttl = lease.ttl;
            let taken = self.table.register(&lease.service, &lease.instance, ttl).await?;
            return self.table.deregister(taken.lease).await;
        }
        if self.is(Fault::GoneIsAnError) {
            let kept = self.table.keep_alive(&mut lease.lease).await?;
            if let KeptAlive::Lost { reason } = kept {
                return Err(reason);
            }
        }
        self.table.deregister(lease.lease).await
    }
}

fn fresh() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

const FOR_EVER: Duration = Duration::from_secs(3600);
