//! Writing a registration without undoing what an operator has set.
//!
//! Consul has a way to replace all checks of a service, but maintenance is a check like any other,
//! so that way would end it. So what stands is looked at first, and only checks that are
//! certainly no longer wanted are removed. That look also shows whether it is Consul that answers.

use std::time::Duration;

use fleetward_core::{Error, Instance, ServiceName};

use crate::ConsulRegistry;
use crate::client::{Call, Failure};
use crate::codec::{self, Checks, Found};
use crate::config::{ConsulCheck, ConsulConfig};

/// What is to be written, the same at every agent.
pub(super) struct Registration {
    nonce: String,
    /// It registers when it serves; otherwise it would be critical until the first check.
    passing: Vec<u8>,
    /// Where maintenance is to be set before anybody sees it.
    critical: Vec<u8>,
}

impl Registration {
    pub(super) fn new(
        config: &ConsulConfig,
        service: &ServiceName,
        instance: &Instance,
        ttl: Duration,
    ) -> Result<Self, Error> {
        let nonce = format!("{:016x}", fastrand::u64(..));
        let body = |status| {
            let body = codec::Registration::new(config, service, instance, &nonce, ttl, status)?;
            serde_json::to_vec(&body).map_err(|why| Error::invalid_input(why.to_string()))
        };
        let (passing, critical) = (body("passing")?, body("critical")?);
        Ok(Self { nonce, passing, critical })
    }

    /// Tells this registration from the next one.
    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }
}

impl ConsulRegistry {
    /// Registers at this agent, and gives it back.
    pub(super) async fn write(
        &self,
        agent: usize,
        id: &str,
        body: &Registration,
    ) -> Result<usize, Failure> {
        let found = match self.client.attempt(agent, &self.look(id)).await {
            Ok(answer) => Found::parse(&answer.body).map_err(Failure::unreadable)?,
            Err(failure) if failure.is_not_found() => Found::default(),
            Err(failure) => return Err(failure),
        };
        if found.stands() {
            self.remove_stale_checks(agent, id, found.lease().is_none()).await?;
        }
        let kept = self.leftovers.maintenance(id).filter(|_| found.maintenance().is_none());
        // Before it is sent: where no answer comes, the agent may have it.
        self.leftovers.moved_to(id, agent, &body.nonce);
        self.leftovers.doubt(id, &body.nonce);
        let path = self.client.path("agent/service/register", &[]);
        let text = if kept.is_some() { &body.critical } else { &body.passing };
        self.client.attempt(agent, &Call::put(path, text.clone())).await?;
        if let Some(reason) = &kept {
            let path = format!("agent/service/maintenance/{id}");
            let path = self.client.path(&path, &[("enable", "true"), ("reason", reason)]);
            self.client.attempt(agent, &Call::put(path, Vec::new())).await?;
        }
        // Consul keeps the status of a check that it knows.
        let heartbeats = *self.config.health_check() == ConsulCheck::Ttl;
        if heartbeats && (found.stands() || kept.is_some()) {
            self.client.attempt(agent, &self.pass(id)).await?;
        }
        self.leftovers.trust(id, &body.nonce);
        Ok(agent)
    }

    async fn remove_stale_checks(
        &self,
        agent: usize,
        id: &str,
        foreign: bool,
    ) -> Result<(), Failure> {
        let filter = format!("ServiceID == \"{id}\"");
        let path = self.client.path("agent/checks", &[("filter", &filter)]);
        let answer = self.client.attempt(agent, &Call::get(path)).await?;
        let checks = Checks::parse(&answer.body, id).map_err(Failure::unreadable)?;
        let own = format!("service:{id}");
        for check in checks.stale(&own, self.config.health_check().kind(), foreign) {
            let path = self.client.path(&format!("agent/check/deregister/{}", segment(check)), &[]);
            match self.client.attempt(agent, &Call::put(path, Vec::new())).await {
                Err(failure) if !failure.is_not_found() => return Err(failure),
                _ => {}
            }
        }
        Ok(())
    }

    /// Looks at what stands under an id.
    pub(super) fn look(&self, id: &str) -> Call {
        Call::get_health(self.client.path(&format!("agent/health/service/id/{id}"), &[]))
    }

    /// A heartbeat.
    pub(super) fn pass(&self, id: &str) -> Call {
        Call::put(self.client.path(&format!("agent/check/pass/service:{id}"), &[]), Vec::new())
    }
}

/// Others choose the ids of their checks as they like.
fn segment(text: &str) -> percent_encoding::PercentEncode<'_> {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}
