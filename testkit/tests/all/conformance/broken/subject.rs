//! What the suite is told about it.

use std::time::Duration;

use fleetward_core::discovery::Source;
use fleetward_core::registration::Registry;
use fleetward_core::{Instance, InstanceId, ServiceName};
use fleetward_testkit::conformance::{Capabilities, Capability, Subject};

use super::Broken;

impl Subject for Broken {
    type Backend = Self;

    fn capabilities(&self) -> Capabilities {
        // A busy machine may let a renewal wait for a second.
        Capabilities::new()
            .with_ttl(Duration::from_secs(3))
            .with(Capability::Keys)
            .with(Capability::LoseLease)
            .with(Capability::TellsLoss)
            .with(Capability::RawWrites)
            .with(Capability::KillWatches)
            .with(Capability::Restart)
            .without(Capability::Duplicates, "the table's keys are ids")
            .with_patience(self.patience())
    }

    async fn open(&self) -> Self {
        self.clone()
    }

    async fn keys(&self, service: &ServiceName) -> Vec<String> {
        let listing = self.table.list(service).await.expect("a table can be listed");
        listing.entries.iter().map(|entry| entry.key().to_string()).collect()
    }

    async fn lose_lease(&self, service: &ServiceName, id: &InstanceId) {
        let instance = Instance::new(id.as_str()).expect("the id is the address");
        let ttl = self.capabilities().ttl;
        let taken = self.table.register(service, &instance, ttl).await.expect("it is taken over");
        self.table.deregister(taken.lease).await.expect("it is removed");
    }

    async fn write_raw(&self, service: &ServiceName, key: &str, value: &[u8]) {
        let key = (service.clone(), key.to_owned());
        self.raw.lock().expect("nobody panics with it").insert(key, value.to_owned());
        self.kill_watches().await;
    }

    async fn delete_raw(&self, service: &ServiceName, key: &str) {
        let key = (service.clone(), key.to_owned());
        self.raw.lock().expect("nobody panics with it").remove(&key);
        self.kill_watches().await;
    }

    fn encoded(&self, instance: &Instance) -> Vec<u8> {
        instance.address().to_string().into_bytes()
    }

    async fn kill_watches(&self) {
        self.change(|_| {});
    }

    async fn stop(&self) {
        self.change(|server| server.stopped = true);
    }

    async fn start(&self) {
        self.change(|server| server.stopped = false);
    }
}
