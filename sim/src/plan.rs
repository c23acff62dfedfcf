//! What is simulated: servers, clients, and what befalls them.

use crate::{Nanos, ServiceTime};

/// A whole experiment, apart from the balancer.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The servers; each is known by its position.
    pub servers: Vec<ServerPlan>,
    /// The clients. Each has a balancer and statistics of its own.
    pub clients: Vec<ClientPlan>,
    /// When the last call may begin.
    pub until: Nanos,
    /// After what time a client gives a call up; without it, it waits. The server works on.
    pub patience: Option<Nanos>,
    /// How many different things calls ask for, each as often as any other; 0 is 1.
    pub operations: u32,
    /// What happens when.
    pub actions: Vec<(Nanos, Action)>,
}

impl Plan {
    /// Adds something that happens.
    pub fn act(&mut self, at: Nanos, action: Action) {
        self.actions.push((at, action));
    }
}

/// One server.
#[derive(Clone, Debug)]
pub struct ServerPlan {
    /// The work in a call.
    pub service: ServiceTime,
    /// How many calls it works on at once; others wait in line, first come, first served.
    pub slots: usize,
    /// Where it stands.
    pub zone: Option<&'static str>,
    /// What the registry says of its size.
    pub weight: u32,
    /// Whether clients know it from the beginning.
    pub present: bool,
    /// What it is like at first.
    pub cold: Option<Cold>,
}

impl ServerPlan {
    /// A server that works on any number of calls at once.
    pub fn unlimited(service: ServiceTime) -> Self {
        Self { service, slots: usize::MAX, zone: None, weight: 1, present: true, cold: None }
    }

    /// A server that works on `slots` calls at once.
    pub fn with_slots(service: ServiceTime, slots: usize) -> Self {
        Self { slots, ..Self::unlimited(service) }
    }
}

/// A server whose first calls take longer, because its caches are empty.
#[derive(Clone, Copy, Debug)]
pub struct Cold {
    /// How many calls.
    pub calls: u32,
    /// How many times as long the first one takes; it falls in a line to 1.
    pub factor: f64,
}

/// One client.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// When it begins to call.
    pub start: Nanos,
    /// When it calls.
    pub arrivals: Arrivals,
    /// Where it stands.
    pub zone: Option<&'static str>,
}

/// When a client calls.
#[derive(Clone, Copy, Debug)]
pub enum Arrivals {
    /// At random, so many a second on average, whether or not earlier calls were answered.
    Poisson(f64),
    /// At fixed intervals, whether or not earlier calls were answered.
    Every(Nanos),
    /// A number at a time; the next one begins when one ends.
    Closed {
        /// Under way at any time.
        at_once: u32,
        /// In all.
        calls: u32,
    },
}

/// Something that happens to the server at a position.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// New calls are other work than before.
    Serve(usize, ServiceTime),
    /// Works so many times as fast as speed 1, at what is under way as well. At 0 it hangs.
    Speed(usize, f64),
    /// Fails calls, or stops to.
    Fail(usize, Option<Failure>),
    /// Clients learn that it is gone; it finishes what it has.
    Leave(usize),
    /// Clients learn that it is there; it is cold, and they know nothing of it.
    Join(usize),
}

/// A server that answers with an error.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Which part of the calls.
    pub probability: f64,
    /// How soon. Takes none of the server's slots.
    pub after: Nanos,
    /// Whether it is an error that may be the caller's fault.
    pub refuses: bool,
}
