//! Registration: a service at an agent, with one check.

mod leftovers;
mod write;

use std::time::Duration;

use fleetward_core::registration::{KeptAlive, Leased, Registry};
use fleetward_core::{Error, ErrorKind, Instance, ServiceName};
use tokio::time::{Instant, timeout};

use crate::ConsulRegistry;
use crate::client::Call;
use crate::codec::{self, Found};
use crate::config::ConsulCheck;
use leftovers::Leftover;
pub(crate) use leftovers::Leftovers;
use write::Registration;

/// A registration at one agent.
#[derive(Clone, Debug)]
pub struct ConsulLease {
    id: String,
    nonce: String,
    agent: usize,
    ttl: Duration,
    service: ServiceName,
    /// Whose registration stands in place of this one and does not say that it is well, since when.
    dead: Option<(String, Instant)>,
}

impl ConsulLease {
    /// The service's id at the agent (`ID`, not its name).
    pub fn service_id(&self) -> &str {
        &self.id
    }

    /// Somebody else has registered the id anew. While that one lives this one stands back; one that
    /// has not said for a whole time to live that it is well does not live.
    fn superseded(&mut self, found: &Found) -> KeptAlive {
        let now = Instant::now();
        let who = found.lease().unwrap_or_default();
        self.dead = match self.dead.take() {
            _ if !found.is_dead() => None,
            Some((known, since)) if known == who => Some((known, since)),
            _ => Some((who.to_owned(), now)),
        };
        let error = |why: &'static str| self.named(Error::new(ErrorKind::Conflict, why));
        match &self.dead {
            Some((_, since)) if now >= *since + self.ttl => KeptAlive::Lost {
                reason: error("the id was registered anew by somebody else, who is gone"),
            },
            _ => KeptAlive::Superseded {
                reason: error("the id was registered anew, by somebody else"),
            },
        }
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
        let body = Registration::new(&self.config, service, instance, ttl).map_err(failed)?;
        let nonce = body.nonce().to_owned();
        let id = codec::service_id(service, instance);
        // Less than a keeper gives it, so that the last agent has its share too.
        let limit = part(ttl).mul_f64(0.9).min(self.config.request_timeout());
        let registered = self.client.anywhere(limit, |agent| self.write(agent, &id, &body)).await;
        let agent = registered.map_err(|error| failed(error).with_context("id", &id))?;
        let service = service.clone();
        let lease = ConsulLease { id, nonce, agent, ttl, service, dead: None };
        Ok(Leased { lease, ttl })
    }

    async fn keep_alive(&self, lease: &mut ConsulLease) -> Result<KeptAlive, Error> {
        let kept = self.keep(lease).await;
        kept.map_err(|error| lease.named(error).with_operation("keep alive"))
    }

    async fn deregister(&self, lease: ConsulLease) -> Result<(), Error> {
        let removed = self.remove(lease.agent, &lease.id, &lease.nonce).await;
        self.clear_up(&lease.id).await;
        self.leftovers.forget(&lease.id);
        removed.map_err(|error| lease.named(error).with_operation("deregister"))
    }
}

impl ConsulRegistry {
    /// Renews; where the agent fails and another one works, the registration is to move.
    async fn keep(&self, lease: &mut ConsulLease) -> Result<KeptAlive, Error> {
        // Less than a keeper waits: its error would not say what ours says.
        let end = Instant::now() + part(lease.ttl).mul_f64(0.9);
        if self.client.agents().len() == 1 {
            return self.renew(lease, end).await;
        }
        // What an agent that hangs takes of the time must leave enough to find another one.
        let part = part(lease.ttl) * 2 / 5;
        let renewed = timeout(part, self.renew(lease, Instant::now() + part.mul_f64(0.9)))
            .await
            .unwrap_or_else(|_| Err(Error::timeout("the Consul agent did not answer in time")));
        let kept = match renewed {
            Ok(kept) => kept,
            Err(error) => {
                use ErrorKind::{InvalidData, Timeout, Unavailable};
                let away = matches!(error.kind(), Unavailable | Timeout | InvalidData);
                let other = timeout(part, self.another_works(lease, end));
                if !away || !other.await.unwrap_or(false) {
                    return Err(error);
                }
                // What may be left at this agent is removed when it is back.
                return Ok(KeptAlive::Lost { reason: lease.named(error) });
            }
        };
        if matches!(kept, KeptAlive::Alive { .. }) {
            self.clear_up(&lease.id).await;
        }
        Ok(kept)
    }

    async fn renew(&self, lease: &mut ConsulLease, end: Instant) -> Result<KeptAlive, Error> {
        // Looked at first: a heartbeat must not keep a successor alive that is dead.
        let (standing, found) = self.standing(lease.agent, &lease.id, &lease.nonce, end).await?;
        let lost = |why: &'static str| KeptAlive::Lost {
            reason: lease.named(Error::new(ErrorKind::NotFound, why)),
        };
        match standing {
            Standing::Ours => {}
            Standing::Doubted => return Ok(lost("an earlier attempt arrived late")),
            Standing::Gone => return Ok(lost("the agent does not know the service")),
            Standing::Another => return Ok(lease.superseded(&found)),
        }
        self.leftovers.set_maintenance(&lease.id, found.maintenance().map(str::to_owned));
        let alive = KeptAlive::Alive { ttl: lease.ttl };
        if *self.config.health_check() != ConsulCheck::Ttl {
            return Ok(alive);
        }
        match self.client.send_to(lease.agent, &self.pass(&lease.id), end).await {
            Ok(_) => Ok(alive),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(lost("the agent does not know the service's check"))
            }
            Err(error) => Err(error),
        }
    }

    async fn standing(
        &self,
        agent: usize,
        id: &str,
        nonce: &str,
        end: Instant,
    ) -> Result<(Standing, Found), Error> {
        let answer = match self.client.send_to(agent, &self.look(id), end).await {
            Ok(answer) => answer,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok((Standing::Gone, Found::default()));
            }
            Err(error) => return Err(error),
        };
        let found = Found::parse(&answer.body)?;
        let standing = match found.lease() {
            _ if !found.stands() => Standing::Gone,
            Some(lease) if lease == nonce => Standing::Ours,
            Some(lease) if self.leftovers.is_doubted(id, lease) => Standing::Doubted,
            _ => Standing::Another,
        };
        Ok((standing, found))
    }

    /// Whether an agent other than the lease's could register it. (The lease's own is not the
    /// current one any more: it has just failed.)
    async fn another_works(&self, lease: &ConsulLease, end: Instant) -> bool {
        let count = self.client.agents().len();
        for agent in (1..count).map(|n| (lease.agent + n) % count) {
            if self.client.send_to(agent, &self.look(&lease.id), end).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Removes a registration of ours, and never a successor's.
    async fn remove(&self, agent: usize, id: &str, nonce: &str) -> Result<(), Error> {
        let end = Instant::now() + 2 * self.config.request_timeout();
        match self.standing(agent, id, nonce, end).await?.0 {
            Standing::Gone | Standing::Another => return Ok(()),
            Standing::Ours | Standing::Doubted => {}
        }
        let path = self.client.path(&format!("agent/service/deregister/{id}"), &[]);
        match self.client.send_to(agent, &Call::put(path, Vec::new()), end).await {
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

/// The time that a keeper gives to one operation.
fn part(ttl: Duration) -> Duration {
    (ttl / 3).clamp(MIN_RENEWAL, MAX_RENEWAL)
}

const MIN_RENEWAL: Duration = Duration::from_secs(1);
const MAX_RENEWAL: Duration = Duration::from_secs(5);
const CLEAR_UP: Duration = Duration::from_secs(1);
