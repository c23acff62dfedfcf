//! etcd.

use std::time::Duration;

use fleetward::{Instance, RegistryHandle};
use fleetward_testkit::servers::{Etcd, Server};

use super::latency::Writes;
use super::{cold, idle, latency, version};
use crate::error::Result;
use crate::measure::Effort;
use crate::rows::whole_call::servers::EchoProcess;
use crate::section::{Section, Table, Target};

const KEY: &str = "pick/10.0.0.1:80";
const VALUE: &str = r#"{"Op":0,"Addr":"10.0.0.1:80","Metadata":null}"#;

pub(crate) async fn measure(
    effort: &Effort,
    latencies: &mut Table,
    idle: &mut Table,
    cold: &mut Table,
    section: &mut Section,
) -> Result<()> {
    let Some(etcd) = Etcd::start_or_skip().await else {
        section.skipped.push("etcd: there is none here (scripts/servers fetches it)".to_owned());
        return Ok(());
    };
    let registry = open(&etcd).await?;
    let mut writes = Puts(etcd_client::Client::connect([etcd.endpoint()], None).await?);
    let rounds = if effort.brief { 3 } else { 200 };
    let found = latency::measure(registry.service("pick")?, &mut writes, rounds).await?;
    let name = version::of(Server::Etcd).unwrap_or_else(|| "etcd".to_owned());
    latencies.push(found.row(&name));
    section.beside.push(found.beside("etcd"));
    section.targets.push(Target::at_most("etcd put to first pick, p99", 20.0, found.p99(), "ms"));

    let (share, time) = idle::measure(&registry, effort).await?;
    idle.push([name.clone(), time, format!("{share:.3} %")]);
    section.targets.push(Target::at_most("100 idle services on etcd, of a core", 1.0, share, "%"));
    drop(registry);
    section.versions.push(name);

    let server = EchoProcess::start()?;
    let url = format!("etcd://{}/echo", etcd.endpoint());
    let instance = Instance::new(server.address)?;
    let registration = open(&etcd).await?.register("echo", instance).await?;
    cold.push(cold::measure(&url, if effort.brief { 2 } else { 30 }).await?);
    registration.deregister().await?;
    Ok(())
}

/// By its configuration, so that no URL's handle is shared with it.
async fn open(etcd: &Etcd) -> Result<RegistryHandle> {
    let config = fleetward::etcd::EtcdConfig::new([etcd.endpoint()]);
    Ok(RegistryHandle::new(fleetward::etcd::EtcdRegistry::connect(config).await?))
}

/// Writes as gRPC's naming package does.
struct Puts(etcd_client::Client);

impl Writes for Puts {
    async fn write(&mut self) -> Result<()> {
        self.0.put(KEY, VALUE, None).await?;
        Ok(())
    }

    async fn delete(&mut self) -> Result<()> {
        self.0.delete(KEY, None).await?;
        Ok(())
    }

    /// Longer than the reflector keeps snapshots apart.
    fn quiet(&self) -> Duration {
        Duration::from_millis(60)
    }
}
