//! The conformance suite on the embedded registry.

use std::time::Duration;

use fleetward_core::discovery::{Entry, Source};
use fleetward_core::registration::{KeptAlive, Registry};
use fleetward_core::{InstanceId, ServiceName};
use fleetward_memory::MemoryRegistry;
use fleetward_testkit::conformance::{CASES, Capabilities, Capability, Subject};

fleetward_testkit::conformance_tests!(memory);

/// What is skipped is known here, so that nothing is by mistake.
#[test]
fn skipped() {
    let capabilities = Memory::default().capabilities();
    let skipped = CASES.iter().filter_map(|case| Some((case.name, case.skipped(&capabilities)?)));
    let skipped: Vec<_> = skipped.map(|(name, _)| name).collect();
    assert_eq!(
        skipped,
        [
            "duplicate",
            "written_by_hand",
            "bad_value_skipped",
            "server_stopped_and_started",
            "connection_cut",
            "connection_reset",
            "connection_half_open",
            "registered_again_after_an_outage",
            "watch_killed",
            "loss_is_told_without_asking",
        ]
    );
}

async fn memory() -> Option<Memory> {
    Some(Memory::default())
}

#[derive(Debug, Default)]
struct Memory(MemoryRegistry);

impl Subject for Memory {
    type Backend = MemoryRegistry;

    fn capabilities(&self) -> Capabilities {
        // A busy machine may let a renewal wait for a second.
        Capabilities::new()
            .with_ttl(Duration::from_secs(3))
            .without(Capability::RawWrites, "a table has no place for what is no instance")
            .without(Capability::Duplicates, "the key is the id")
            .without(Capability::Restart, "there is no server")
            .without(Capability::Proxy, "there is no connection")
            .without(Capability::KillWatches, "a watch ends only when it is too slow")
            .with(Capability::Keys)
            .with(Capability::LoseLease)
    }

    async fn open(&self) -> MemoryRegistry {
        self.0.clone()
    }

    async fn keys(&self, service: &ServiceName) -> Vec<String> {
        let listing = self.0.list(service).await.expect("a table can be listed");
        listing.entries.iter().map(|entry| entry.key().to_string()).collect()
    }

    /// Takes the entry over and ends that.
    async fn lose_lease(&self, service: &ServiceName, id: &InstanceId) {
        let listing = self.0.list(service).await.expect("a table can be listed");
        let mut entries = listing.entries.iter().flat_map(Entry::readable);
        let instance = entries.find(|instance| instance.id() == id).expect("it is registered");
        let ttl = self.capabilities().ttl;
        let mut leased = self.0.register(service, instance, ttl).await.expect("it is taken over");
        let kept = self.0.keep_alive(&mut leased.lease).await.expect("the table answers");
        assert!(matches!(kept, KeptAlive::Alive { .. }));
        self.0.deregister(leased.lease).await.expect("it is removed");
    }
}
