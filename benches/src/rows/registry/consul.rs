//! Consul.

use std::time::Duration;

use fleetward::RegistryHandle;
use fleetward_testkit::servers::{Consul, Server};

use super::latency::Writes;
use super::{idle, latency, version};
use crate::error::Result;
use crate::measure::Effort;
use crate::section::{Section, Table, Target};

pub(crate) async fn measure(
    effort: &Effort,
    latencies: &mut Table,
    idle: &mut Table,
    section: &mut Section,
) -> Result<()> {
    let Some(consul) = Consul::start_or_skip().await else {
        section.skipped.push("Consul: there is none here (scripts/servers fetches it)".to_owned());
        return Ok(());
    };
    let config = fleetward::consul::ConsulConfig::new([consul.endpoint()]);
    let registry = RegistryHandle::new(fleetward::consul::ConsulRegistry::connect(config).await?);
    let rounds = if effort.brief { 2 } else { 60 };
    let mut writes = Registers(&consul);
    let found = latency::measure(registry.service("pick")?, &mut writes, rounds).await?;
    let name = version::of(Server::Consul).unwrap_or_else(|| "Consul".to_owned());
    latencies.push(found.row(&name));
    section.beside.push(found.beside("Consul"));

    let (share, time) = idle::measure(&registry, effort).await?;
    idle.push([name.clone(), time, format!("{share:.3} %")]);
    section.targets.push(Target::at_most(
        "100 idle services on Consul, of a core",
        1.0,
        share,
        "%",
    ));
    section.versions.push(name);
    Ok(())
}

/// Registers at the agent, over a connection of its own each time.
struct Registers<'a>(&'a Consul);

impl Writes for Registers<'_> {
    async fn write(&mut self) -> Result<()> {
        let body = r#"{"ID":"one","Name":"pick","Address":"10.0.0.1","Port":80}"#;
        self.0.put("/v1/agent/service/register", body).await;
        Ok(())
    }

    async fn delete(&mut self) -> Result<()> {
        self.0.put("/v1/agent/service/deregister/one", "").await;
        Ok(())
    }

    /// Longer than it takes until Consul may be asked twice again without a pause.
    fn quiet(&self) -> Duration {
        Duration::from_millis(400)
    }
}
