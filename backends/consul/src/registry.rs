//! Registration: a service at an agent, with one check.

mod leftovers;

use std::time::Duration;

use fleetward_core::{Error, ErrorKind, Instance, KeptAlive, Leased, Registry, ServiceName};
use tokio::time::timeout;

use crate::ConsulRegistry;
use crate::client::Call;
use crate::codec::{self, Registered, Registration};
use crate::config::ConsulCheck;
use leftovers::Leftover;
pub(crate) use leftovers::Leftovers;

/// A registration at one agent.
#[derive(Clone, Debug)]
pub struct ConsulLease {
    id: String,
    nonce: String,
    agent: usize,
    ttl: Duration,
    service: ServiceName,
}

impl ConsulLease {
    /// The service's id at the agent (`ID`, not its name).
    pub fn service_id(&self) -> &str {
        &self.id
    }

    fn named(&self, error: Error) -> Error {
        error.with_context("service", &self.service).with_context("id", &self.id)
    }
}

/// What stands at an agent under an id.
enum Standing {
    Ours,
    /// An attempt of ours whose answer never came has overtaken a later one.
    Doubted,
    Gone,
    Another,
}

impl Registry for ConsulRegistry {
    type Lease = ConsulLease;

    async fn register(
        &self,
        service: &ServiceName,
        instance: &Instance,
        ttl: Duration,
    ) -> Result<Leased<ConsulLease>, Error> {
        let failed =
            |error: Error| error.with_operation("register").with_context("service", service);
        let nonce = format!("{:016x}", fastrand::u64(..));
        let body = Registration::new(&self.config, service, instance, &nonce, ttl)
            .and_then(|body| {
                serde_json::to_vec(&body).map_err(|why| Error::invalid_input(why.to_string()))
            })
            .map_err(failed)?;
        let (id, agent) = (codec::service_id(service, instance), self.client.current());
        let path =
            self.client.path("agent/service/register", &[("replace-existing-checks", "true")]);
        // Before it is sent: where no answer comes, the agent may have it.
        self.leftovers.moved_to(&id, agent, &nonce);
        self.leftovers.doubt(&id, &nonce);
        let sent = self.client.send_to(agent, Call::put(path, body)).await;
        sent.map_err(|error| failed(error).with_context("id", &id))?;
        self.leftovers.trust(&id, &nonce);
        let lease = ConsulLease { id, nonce, agent, ttl, service: service.clone() };
        Ok(Leased { lease, ttl })
    }

    async fn keep_alive(&self, lease: &mut ConsulLease) -> Result<KeptAlive, Error> {
        let failed = |error: Error| lease.named(error).with_operation("keep alive");
        if self.client.agents().len() == 1 {
            return self.renew(lease).await.map_err(failed);
        }
        // A renewal has a third of the time to live, at most 5 s; what an agent that hangs takes
        // of it must leave enough to find another one.
        let part = (lease.ttl / 3).clamp(MIN_RENEWAL, MAX_RENEWAL) * 2 / 5;
        let renewed = timeout(part, self.renew(lease))
            .await
            .unwrap_or_else(|_| Err(Error::timeout("the Consul agent did not answer in time")));
        let kept = match renewed {
            Ok(kept) => kept,
            Err(error) => {
                let away = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
                let other = timeout(part, self.client.another_works(lease.agent));
                if !away || !other.await.unwrap_or(false) {
                    return Err(failed(error));
                }
                // What may be left at this agent is removed when it is back.
                return Ok(KeptAlive::Lost { reason: failed(error) });
            }
        };
        if matches!(kept, KeptAlive::Alive { .. }) {
            self.clear_up(&lease.id).await;
        }
        Ok(kept)
    }

    async fn deregister(&self, lease: ConsulLease) -> Result<(), Error> {
        let removed = self.remove(lease.agent, &lease.id, &lease.nonce).await;
        self.clear_up(&lease.id).await;
        self.leftovers.forget(&lease.id);
        removed.map_err(|error| lease.named(error).with_operation("deregister"))
    }
}

impl ConsulRegistry {
    async fn renew(&self, lease: &ConsulLease) -> Result<KeptAlive, Error> {
        let lost = |why: &'static str| KeptAlive::Lost {
            reason: lease.named(Error::new(ErrorKind::NotFound, why)),
        };
        // Looked at first: a heartbeat must not keep a successor alive that is dead.
        match self.standing(lease.agent, &lease.id, &lease.nonce).await? {
            Standing::Ours => {}
            Standing::Doubted => return Ok(lost("an earlier attempt arrived late")),
            Standing::Gone => return Ok(lost("the agent does not know the service")),
            Standing::Another => {
                let why = "the id was registered anew, by somebody else";
                let reason = lease.named(Error::new(ErrorKind::Conflict, why));
                return Ok(KeptAlive::Superseded { reason });
            }
        }
        let alive = KeptAlive::Alive { ttl: lease.ttl };
        if *self.config.health_check() != ConsulCheck::Ttl {
            return Ok(alive);
        }
        let path = self.client.path(&format!("agent/check/pass/service:{}", lease.id), &[]);
        match self.client.send_to(lease.agent, Call::put(path, Vec::new())).await {
            Ok(_) => Ok(alive),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(lost("the agent does not know the service's check"))
            }
            Err(error) => Err(error),
        }
    }

    async fn standing(&self, agent: usize, id: &str, nonce: &str) -> Result<Standing, Error> {
        let path = self.client.path(&format!("agent/service/{id}"), &[]);
        match self.client.send_to(agent, Call::get(path)).await {
            Ok(answer) => match Registered::parse(&answer.body)?.lease() {
                Some(lease) if lease == nonce => Ok(Standing::Ours),
                Some(lease) if self.leftovers.is_doubted(id, lease) => Ok(Standing::Doubted),
                _ => Ok(Standing::Another),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Standing::Gone),
            Err(error) => Err(error),
        }
    }

    /// Removes a registration of ours, and never a successor's.
    async fn remove(&self, agent: usize, id: &str, nonce: &str) -> Result<(), Error> {
        match self.standing(agent, id, nonce).await? {
            Standing::Gone | Standing::Another => return Ok(()),
            Standing::Ours | Standing::Doubted => {}
        }
        let path = self.client.path(&format!("agent/service/deregister/{id}"), &[]);
        match self.client.send_to(agent, Call::put(path, Vec::new())).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes what an instance left behind at agents that it moved away from.
    async fn clear_up(&self, id: &str) {
        for Leftover { agent, nonce } in self.leftovers.of(id) {
            match timeout(CLEAR_UP, self.remove(agent, id, &nonce)).await {
                Ok(Ok(())) => self.leftovers.cleared(id, agent),
                Ok(Err(error)) => {
                    tracing::debug!(%error, id, "a registration at another agent is left");
                }
                Err(_) => tracing::debug!(id, "a registration at another agent is left"),
            }
        }
    }
}

const MIN_RENEWAL: Duration = Duration::from_secs(1);
const MAX_RENEWAL: Duration = Duration::from_secs(5);
const CLEAR_UP: Duration = Duration::from_secs(1);
