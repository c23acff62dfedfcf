//! The simulation itself.

use fastrand::Rng;
use fleetward_core::BoxError;
use fleetward_core::endpoints::{InFlight, Outcome};

use crate::client::Client;
use crate::clock::Clock;
use crate::events::Events;
use crate::server::{CallId, Server};
use crate::{
    Action, Answer, Arrivals, Call, Contender, Failure, MILLISECOND, Nanos, Plan, SECOND, Trace,
};

/// How long after the last call began the run ends, whatever is still under way.
const GRACE: Nanos = 60 * SECOND;

/// How long a probe takes to a server, and its answer back.
const PROBE_ONE_WAY: Nanos = MILLISECOND / 2;

/// Runs a plan with a balancer. The same seed gives the same trace.
///
/// Balancers draw from the thread's generator, which is seeded here; so a run stays on one thread.
///
/// # Errors
/// When the balancer cannot be made, or the system gives no runtime for the clock.
pub fn run(plan: &Plan, contender: &Contender, seed: u64) -> Result<Trace, BoxError> {
    fastrand::seed(seed);
    let mut world = World::new(plan, contender, seed)?;
    while let Some((now, event)) = world.events.next() {
        if now > plan.until.saturating_add(GRACE) {
            break;
        }
        world.now = now;
        world.happen(event)?;
        if world.calling == 0 && world.open == 0 {
            break;
        }
    }
    Ok(world.end())
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A client calls.
    Call { client: usize },
    /// A server finishes something, if the announcement still holds.
    Finish { server: usize, announcement: u32 },
    /// A server answers with an error.
    Fail { call: CallId, refuses: bool },
    /// A client loses patience.
    GiveUp { call: CallId },
    /// A probe reaches a server.
    Probe { client: usize, server: u32 },
    /// Its answer reaches the client.
    Probed { client: usize, server: u32, in_flight: u32, latency: Nanos },
    /// A client's outlier detection looks.
    Detect { client: usize },
    /// The plan's action at this position.
    Act { action: usize },
}

struct World<'a> {
    plan: &'a Plan,
    clock: Clock,
    now: Nanos,
    events: Events<Event>,
    servers: Vec<Server>,
    clients: Vec<Client>,
    /// The instances that are there, as clients know them.
    present: Vec<bool>,
    /// When each client calls.
    arrivals: Vec<Rng>,
    begun: Vec<u32>,
    /// How many clients call still.
    calling: usize,
    /// How many calls have not ended for their client.
    open: usize,
    /// What is in a call, and how lucky it is.
    work: Rng,
    /// By the call's id, until it ends for its client.
    under_way: Vec<Option<InFlight>>,
    trace: Trace,
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan, contender: &Contender, seed: u64) -> Result<Self, BoxError> {
        let rng = |stream: u64| Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stream);
        let mut world = Self {
            plan,
            clock: Clock::new()?,
            now: 0,
            events: Events::new(),
            servers: plan.servers.iter().map(Server::new).collect(),
            clients: Vec::new(),
            present: plan.servers.iter().map(|server| server.present).collect(),
            arrivals: (1u64..).take(plan.clients.len()).map(rng).collect(),
            begun: vec![0; plan.clients.len()],
            calling: plan.clients.len(),
            open: 0,
            work: rng(0),
            under_way: Vec::new(),
            trace: Trace { servers: plan.servers.len(), ..Trace::default() },
        };
        for (client, its) in plan.clients.iter().enumerate() {
            let now = world.clock.at(0);
            let mut made = Client::new(contender, its.zone, seed ^ client as u64, now)?;
            for (server, its) in plan.servers.iter().enumerate().filter(|(_, its)| its.present) {
                world.clock.standing_at(0, || made.join(server, its))?;
            }
            made.publish();
            world.clients.push(made);
            world.watch(client);
            let (first, at_once) = match its.arrivals {
                Arrivals::Closed { at_once, .. } => (its.start, at_once),
                _ => (world.next_call(client, its.start), 1),
            };
            for _ in 0..at_once {
                world.events.add(first, Event::Call { client });
            }
        }
        for (action, (at, _)) in plan.actions.iter().enumerate() {
            world.events.add(*at, Event::Act { action });
        }
        Ok(world)
    }

    fn happen(&mut self, event: Event) -> Result<(), BoxError> {
        match event {
            Event::Call { client } => self.call(client),
            Event::Finish { server, announcement } => {
                if self.servers[server].is_due(announcement) {
                    while let Some(call) = self.servers[server].finished(self.now) {
                        let Call { start, in_line, .. } = self.trace.calls[call as usize];
                        self.servers[server].note(in_line, self.now - start);
                        self.close(call, Answer::Good);
                    }
                    self.announce(server);
                }
            }
            Event::Fail { call, refuses } => {
                self.close(call, if refuses { Answer::Refused } else { Answer::Failed });
            }
            Event::GiveUp { call } => self.close(call, Answer::GivenUp),
            Event::Probe { client, server } => {
                let at = &self.servers[server as usize];
                let (in_flight, latency) = (at.in_flight() as u32, at.expected());
                let answer = Event::Probed { client, server, in_flight, latency };
                self.events.add(self.now + PROBE_ONE_WAY, answer);
            }
            Event::Probed { client, server, in_flight, latency } => {
                self.clients[client].probed(server, in_flight, latency, self.clock.at(self.now));
            }
            Event::Detect { client } => {
                let now = self.clock.at(self.now);
                self.trace.ejections += self.clients[client].detect(now);
                self.watch(client);
            }
            Event::Act { action } => self.act(self.plan.actions[action].1)?,
        }
        Ok(())
    }

    /// When a client that calls at its own pace calls next.
    fn next_call(&mut self, client: usize, now: Nanos) -> Nanos {
        match self.plan.clients[client].arrivals {
            Arrivals::Poisson(per_second) => {
                let wait = -(1.0 - self.arrivals[client].f64()).ln() / per_second;
                now.saturating_add((wait * SECOND as f64) as Nanos)
            }
            Arrivals::Every(interval) => now.saturating_add(interval.max(1)),
            Arrivals::Closed { .. } => now,
        }
    }

    fn call(&mut self, client: usize) {
        match self.plan.clients[client].arrivals {
            Arrivals::Closed { calls, .. } => {
                if self.begun[client] == calls {
                    return;
                }
                self.begun[client] += 1;
                self.calling -= usize::from(self.begun[client] == calls);
            }
            _ if self.now >= self.plan.until => {
                self.calling -= 1;
                return;
            }
            _ => {
                let next = self.next_call(client, self.now);
                self.events.add(next, Event::Call { client });
            }
        }
        let luck = self.work.f64();
        let operation = match self.plan.operations {
            0 | 1 => 0,
            several => self.work.u32(..several),
        };
        let now = self.clock.at(self.now);
        let Some((server, in_flight)) = self.clients[client].pick(operation, now) else {
            self.trace.refused += 1;
            return;
        };
        let at = &mut self.servers[server as usize];
        let call = self.trace.calls.len() as CallId;
        self.trace.calls.push(Call {
            start: self.now,
            took: 0,
            client: client as u32,
            server,
            in_line: at.in_flight() as u32 + 1,
            answer: Answer::Open,
        });
        self.under_way.push(Some(in_flight));
        self.open += 1;
        if let Some(Failure { after, refuses, .. }) = at.fails(luck) {
            self.events.add(self.now + after, Event::Fail { call, refuses });
        } else {
            at.take(self.now, call, &mut self.work);
            self.announce(server as usize);
        }
        if let Some(patience) = self.plan.patience {
            self.events.add(self.now + patience, Event::GiveUp { call });
        }
        for server in self.clients[client].probes() {
            self.trace.probes += 1;
            self.events.add(self.now + PROBE_ONE_WAY, Event::Probe { client, server });
        }
    }

    /// Has outlier detection look when it wants to next.
    fn watch(&mut self, client: usize) {
        if let Some(wake) = self.clients[client].next_wake() {
            let at = self.clock.since_start(wake).max(self.now + 1);
            self.events.add(at, Event::Detect { client });
        }
    }

    fn announce(&mut self, server: usize) {
        if let Some((at, announcement)) = self.servers[server].announce(self.now) {
            self.events.add(at, Event::Finish { server, announcement });
        }
    }

    /// A call ends for its client, unless it has already.
    fn close(&mut self, call: CallId, answer: Answer) {
        let Some(in_flight) = self.under_way[call as usize].take() else { return };
        self.open -= 1;
        let now = self.clock.at(self.now);
        match answer {
            Answer::Good => in_flight.finish_at(Outcome::Success, now),
            Answer::Failed => in_flight.finish_at(Outcome::FAILURE, now),
            Answer::Refused => in_flight.finish_at(Outcome::Refused, now),
            Answer::GivenUp | Answer::Open => in_flight.give_up_at(now),
        }
        let its = &mut self.trace.calls[call as usize];
        (its.took, its.answer) = (self.now - its.start, answer);
        let client = its.client as usize;
        self.trace.ejections += self.clients[client].ended(answer != Answer::Good, now);
        if let Arrivals::Closed { .. } = self.plan.clients[client].arrivals {
            self.events.add(self.now, Event::Call { client });
        }
    }

    fn act(&mut self, action: Action) -> Result<(), BoxError> {
        match action {
            Action::Serve(server, service) => self.servers[server].set_service(service),
            Action::Speed(server, speed) => {
                self.servers[server].set_speed(self.now, speed);
                self.announce(server);
            }
            Action::Fail(server, failure) => self.servers[server].set_failure(failure),
            Action::Leave(server) => {
                self.present[server] = false;
                for client in &mut self.clients {
                    client.leave(server);
                    client.publish();
                }
            }
            Action::Join(server) => {
                self.servers[server].cool_down();
                if !std::mem::replace(&mut self.present[server], true) {
                    let its = &self.plan.servers[server];
                    for client in &mut self.clients {
                        self.clock.standing_at(self.now, || client.join(server, its))?;
                        client.publish();
                    }
                }
            }
        }
        Ok(())
    }

    fn end(mut self) -> Trace {
        let end = self.now;
        for (call, in_flight) in self.under_way.drain(..).enumerate() {
            if let Some(in_flight) = in_flight {
                in_flight.give_up_at(self.clock.at(end));
                self.trace.calls[call].took = end - self.trace.calls[call].start;
            }
        }
        self.trace
    }
}
