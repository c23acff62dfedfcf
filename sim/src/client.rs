//! One caller: its balancer, and what it knows of the servers.

use std::sync::Arc;

use fleetward_core::balancing::{PickContext, Prepared, ReadySet, begin_call};
use fleetward_core::endpoints::{FeedbackConfig, InFlight, Member, Operation};
use fleetward_core::outlier::OutlierDetector;
use fleetward_core::{Balancer, BoxError, Instance};
use tokio::time::Instant;

use crate::{Contender, Made, Prequal, ServerPlan};

/// A client of the servers, as [`Balanced`](fleetward_core::Balanced) is one, without the network.
///
/// Statistics, sets and picks are the real ones; what is done here is what the endpointer does, that
/// is to keep the set, and to have it prepared whenever it changes.
#[derive(Debug)]
pub(crate) struct Client {
    balancer: Arc<dyn Balancer>,
    prober: Option<Arc<Prequal>>,
    detector: Option<OutlierDetector>,
    feedback: FeedbackConfig,
    /// By the server's position; nothing for one that is not known.
    members: Vec<Option<Member>>,
    ready: Vec<Member>,
    /// The server behind each member of `ready`.
    servers: Vec<u32>,
    not_ready: Vec<Member>,
    prepared: Option<Prepared>,
}

impl Client {
    pub(crate) fn new(
        contender: &Contender,
        zone: Option<&str>,
        seed: u64,
        now: Instant,
    ) -> Result<Self, BoxError> {
        let Made { balancer, prober } = contender.make(zone)?;
        let detection = contender.outlier_detection();
        Ok(Self {
            balancer,
            prober,
            detector: detection.map(|config| OutlierDetector::new(config, seed, now)),
            feedback: contender.feedback(),
            members: Vec::new(),
            ready: Vec::new(),
            servers: Vec::new(),
            not_ready: Vec::new(),
            prepared: None,
        })
    }

    /// Learns of a server, which is new to it.
    pub(crate) fn join(&mut self, server: usize, its: &ServerPlan) -> Result<(), BoxError> {
        if self.members.len() <= server {
            self.members.resize(server + 1, None);
        }
        // Sets are sorted by id; with zeros in front that is the servers' order.
        let address = format!("10.0.{}.{}:80", server / 256, server % 256);
        let mut instance = Instance::new(address.as_str())?.with_id(&format!("{server:05}"))?;
        instance = instance.with_weight(its.weight);
        if let Some(zone) = its.zone {
            instance = instance.with_zone(zone);
        }
        let member = match self.members.iter().flatten().next() {
            Some(another) => another.detached_beside(instance),
            None => Member::detached_with(instance, self.feedback.clone()),
        };
        if let Some(detector) = &mut self.detector {
            detector.add(&member);
        }
        self.members[server] = Some(member);
        Ok(())
    }

    /// Learns that a server is gone.
    pub(crate) fn leave(&mut self, server: usize) {
        let member = self.members.get_mut(server).and_then(Option::take);
        if let (Some(detector), Some(member)) = (&mut self.detector, member) {
            detector.remove(member.instance().id());
        }
    }

    /// When outlier detection wants to look next.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.detector.as_ref()?.next_wake()
    }

    /// Outlier detection looks. How many servers it ejects.
    pub(crate) fn detect(&mut self, now: Instant) -> usize {
        let Some(detector) = &mut self.detector else { return 0 };
        let before = detector.ejected();
        let changed = detector.run(now);
        let ejected = detector.ejected().saturating_sub(before);
        if changed {
            self.publish();
        }
        ejected
    }

    /// A call has ended, on which outlier detection may have been waiting: a failure may be one too
    /// many in a row, and any end may be that of the call that tries an ejected server.
    pub(crate) fn ended(&mut self, failed: bool, now: Instant) -> usize {
        let waits = |detector: &OutlierDetector| failed || detector.ejected() > 0;
        if self.detector.as_ref().is_some_and(waits) { self.detect(now) } else { 0 }
    }

    /// Builds the ready set anew: those that are healthy, or all if fewer than half are.
    pub(crate) fn publish(&mut self) {
        let known = || self.members.iter().enumerate().filter_map(|(i, m)| Some((i, m.as_ref()?)));
        let healthy = known().filter(|(_, member)| member.is_healthy()).count();
        let panicking = healthy * 2 < known().count();
        let ready: Vec<_> = known().filter(|(_, m)| panicking || m.is_healthy()).collect();
        let not_ready = known().filter(|(_, m)| !panicking && !m.is_healthy());
        let not_ready = not_ready.map(|(_, member)| member.clone()).collect();
        let servers = ready.iter().map(|(server, _)| *server as u32).collect();
        let ready = ready.into_iter().map(|(_, member)| member.clone()).collect();
        (self.ready, self.servers, self.not_ready) = (ready, servers, not_ready);
        self.prepared = self.balancer.prepare(&self.set());
    }

    /// Picks a server for a call that begins now and asks for `operation`.
    pub(crate) fn pick(&self, operation: u32, now: Instant) -> Option<(u32, InFlight)> {
        let set = self.set().with_prepared(self.prepared.as_ref());
        let operation = Operation::named(&operation.to_le_bytes());
        let context = PickContext::new().with_now(now).with_operation(operation);
        let (position, in_flight) = begin_call(&*self.balancer, &set, &context)?;
        Some((*self.servers.get(position)?, in_flight))
    }

    /// Which servers to probe after a call.
    pub(crate) fn probes(&self) -> Vec<u32> {
        let Some(prober) = &self.prober else { return Vec::new() };
        let targets = prober.targets(self.ready.len());
        targets.into_iter().filter_map(|at| self.servers.get(at).copied()).collect()
    }

    /// A server has answered a probe.
    pub(crate) fn probed(&self, server: u32, in_flight: u32, latency: u64, now: Instant) {
        let member = self.members.get(server as usize).and_then(Option::as_ref);
        if let (Some(prober), Some(member)) = (&self.prober, member) {
            prober.answered(member.instance().id(), in_flight, latency, now);
        }
    }

    fn set(&self) -> ReadySet<'_> {
        ReadySet::new(&self.ready).with_not_ready(&self.not_ready)
    }
}
