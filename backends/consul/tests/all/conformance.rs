//! The conformance suite on a Consul agent.

use std::net::SocketAddr;

use fleetward_consul::{ConsulConfig, ConsulRegistry};
use fleetward_core::{Instance, InstanceId, ServiceName};
use fleetward_testkit::conformance::{Capabilities, Capability, Subject};
use fleetward_testkit::eventually;
use fleetward_testkit::proxy::FaultProxy;
use fleetward_testkit::servers::Consul;
use serde_json::{Value, json};

use crate::support::{SECOND, connect, put, remove};

fleetward_testkit::conformance_tests!(agent);

async fn agent() -> Option<ConsulSubject> {
    let consul = Consul::start_or_skip().await?;
    let proxy = FaultProxy::start(consul.addr()).await;
    Some(ConsulSubject { consul, proxy })
}

struct ConsulSubject {
    consul: Consul,
    /// All clients go through it, so that their watches can be killed.
    proxy: FaultProxy,
}

impl ConsulSubject {
    /// The service's registrations as the agent has them, by their ids.
    async fn registered(&self, service: &ServiceName) -> Vec<(String, Value)> {
        let text = self.consul.get("/v1/agent/services").await;
        let all: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
        all.into_iter().filter(|(_, value)| value["Service"] == service.as_str()).collect()
    }
}

impl Subject for ConsulSubject {
    type Backend = ConsulRegistry;

    fn capabilities(&self) -> Capabilities {
        let hooks = [
            Capability::RawWrites,
            Capability::Keys,
            Capability::LoseLease,
            Capability::KillWatches,
            Capability::Restart,
            Capability::Proxy,
        ];
        hooks
            .into_iter()
            .fold(Capabilities::new(), Capabilities::with)
            .with_weights(0..=65535)
            .with_added_metadata("consul.")
            .with_ttl(2 * SECOND)
            // A connection that is silent while the agent answers others is left with its wait.
            .with_silence(8 * SECOND)
            // An agent sends a check that expired to the servers in its own time.
            .with_expiry_slack(10 * SECOND)
    }

    async fn open(&self) -> ConsulRegistry {
        self.open_at(self.proxy.addr()).await
    }

    fn address(&self) -> SocketAddr {
        self.consul.addr()
    }

    async fn open_at(&self, address: SocketAddr) -> ConsulRegistry {
        connect(ConsulConfig::new([address.to_string()]).with_wait(5 * SECOND)).await
    }

    /// The value is what `encoded` makes. What is not becomes a registration that no client could dial, for
    /// Consul itself refuses what is no registration at all.
    async fn write_raw(&self, service: &ServiceName, key: &str, value: &[u8]) {
        let body = serde_json::from_slice(value);
        let mut body: Value = body.unwrap_or_else(|_| json!({"Address": "no address", "Port": 0}));
        body["ID"] = format!("{service}-{key}").into();
        body["Name"] = service.as_str().into();
        put(&self.consul, &body.to_string()).await;
    }

    async fn delete_raw(&self, service: &ServiceName, key: &str) {
        remove(&self.consul, &format!("{service}-{key}")).await;
    }

    fn encoded(&self, instance: &Instance) -> Vec<u8> {
        let authority = instance.address().authority();
        let (host, port) = authority.rsplit_once(':').expect("host:port");
        let body = json!({
            "Address": host.trim_matches(['[', ']']),
            "Port": port.parse::<u16>().expect("a port"),
            // Without it the id would be that of Consul, with the node's name in front.
            "Meta": {"fleetward_id": instance.id().as_str()},
        });
        body.to_string().into_bytes()
    }

    async fn keys(&self, service: &ServiceName) -> Vec<String> {
        self.registered(service).await.into_iter().map(|(id, _)| id).collect()
    }

    async fn lose_lease(&self, service: &ServiceName, id: &InstanceId) {
        let registered = self.registered(service).await;
        let ours =
            registered.iter().find(|(_, value)| value["Meta"]["fleetward_id"] == id.as_str());
        let (key, _) = ours.expect("it is registered");
        remove(&self.consul, key).await;
        eventually("the agent has told the servers", 5 * SECOND, || async {
            let path = format!("/v1/catalog/service/{service}");
            !self.consul.get(&path).await.contains(key.as_str())
        })
        .await;
    }

    async fn kill_watches(&self) {
        self.proxy.reset();
    }

    async fn stop(&self) {
        self.consul.stop().await;
    }

    async fn start(&self) {
        self.consul.start_again().await;
    }
}
