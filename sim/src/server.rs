//! A machine that works on calls.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::{Cold, Failure, Nanos, SECOND, ServerPlan, ServiceTime};

/// The position of a call in the trace.
pub(crate) type CallId = u32;

/// A queue with a number of slots and a speed that may change at any time.
///
/// All slots run at one speed, so it is enough to keep account of the work that a slot would have
/// done since the beginning: a call ends when that account reaches what it was when the call started
/// plus the call's work, however often the speed changes meanwhile.
#[derive(Debug)]
pub(crate) struct Server {
    service: ServiceTime,
    slots: usize,
    speed: f64,
    failure: Option<Failure>,
    cold: Option<Cold>,
    served_cold: u32,
    /// Work done by a slot that was never idle, in seconds at speed 1, as of `as_of`.
    account: f64,
    as_of: Nanos,
    running: BinaryHeap<Reverse<(Finish, CallId)>>,
    waiting: VecDeque<(CallId, f64)>,
    /// Latencies by how many calls there were: what a probe is answered with.
    seen: Vec<VecDeque<Nanos>>,
    /// When the next completion was announced for, and the number of the announcement.
    announced: Option<Nanos>,
    announcements: u32,
}

/// A reading of the account. Never NaN: work and speeds are finite.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Finish(f64);

/// A nanosecond's rounding must not leave a finished call in its slot.
const ROUNDING: f64 = 1e-8;

impl Server {
    pub(crate) fn new(plan: &ServerPlan) -> Self {
        Self {
            service: plan.service,
            slots: plan.slots.max(1),
            speed: 1.0,
            failure: None,
            cold: plan.cold,
            served_cold: 0,
            account: 0.0,
            as_of: 0,
            running: BinaryHeap::new(),
            waiting: VecDeque::new(),
            seen: Vec::new(),
            announced: None,
            announcements: 0,
        }
    }

    pub(crate) fn set_service(&mut self, service: ServiceTime) {
        self.service = service;
    }

    pub(crate) fn set_speed(&mut self, now: Nanos, speed: f64) {
        self.advance(now);
        self.speed = speed.max(0.0);
    }

    pub(crate) fn set_failure(&mut self, failure: Option<Failure>) {
        self.failure = failure;
    }

    /// Its caches are empty again.
    pub(crate) fn cool_down(&mut self) {
        self.served_cold = 0;
    }

    /// How it fails a call whose luck is `luck`, if it does.
    pub(crate) fn fails(&self, luck: f64) -> Option<Failure> {
        self.failure.filter(|failure| luck < failure.probability)
    }

    /// How many calls it has, waiting or not.
    pub(crate) fn in_flight(&self) -> usize {
        self.running.len() + self.waiting.len()
    }

    /// Takes a call.
    pub(crate) fn take(&mut self, now: Nanos, call: CallId, rng: &mut fastrand::Rng) {
        let mut work = self.service.draw(rng);
        if let Some(Cold { calls, factor }) = self.cold
            && self.served_cold < calls
        {
            let left = 1.0 - f64::from(self.served_cold) / f64::from(calls);
            work *= 1.0 + (factor - 1.0) * left;
            self.served_cold += 1;
        }
        self.advance(now);
        if self.running.len() < self.slots {
            self.start(call, work);
        } else {
            self.waiting.push_back((call, work));
        }
    }

    /// A call that is finished at `now`; ask until there is none.
    pub(crate) fn finished(&mut self, now: Nanos) -> Option<CallId> {
        self.advance(now);
        let Reverse((Finish(at), call)) = *self.running.peek()?;
        if at > self.account + ROUNDING {
            return None;
        }
        self.running.pop();
        if let Some((next, work)) = self.waiting.pop_front() {
            self.start(next, work);
        }
        Some(call)
    }

    /// When a call is finished next, with the announcement's number; nothing where that has been
    /// announced already or no call moves.
    pub(crate) fn announce(&mut self, now: Nanos) -> Option<(Nanos, u32)> {
        let next = self.running.peek().filter(|_| self.speed > 0.0).map(|Reverse((finish, _))| {
            let seconds = (finish.0 - self.account).max(0.0) / self.speed;
            now.saturating_add((seconds * SECOND as f64).ceil() as Nanos)
        });
        if next == self.announced {
            return None;
        }
        self.announced = next;
        self.announcements = self.announcements.wrapping_add(1);
        next.map(|at| (at, self.announcements))
    }

    /// Whether an announcement still holds; it is used up.
    pub(crate) fn is_due(&mut self, announcement: u32) -> bool {
        let due = announcement == self.announcements;
        if due {
            self.announced = None;
        }
        due
    }

    /// Takes note of a latency, for probes: of a call that found so many there.
    pub(crate) fn note(&mut self, in_line: u32, took: Nanos) {
        const KEPT: usize = 16;
        let level = in_line as usize;
        if self.seen.len() <= level {
            self.seen.resize_with(level + 1, VecDeque::new);
        }
        let latencies = &mut self.seen[level];
        if latencies.len() == KEPT {
            latencies.pop_front();
        }
        latencies.push_back(took);
    }

    /// What it expects a call to take that came now: the median of the last ones that came when there
    /// were about as many.
    pub(crate) fn expected(&self) -> Nanos {
        let level = self.in_flight() + 1;
        let nearest = (0..self.seen.len())
            .filter(|&at| !self.seen[at].is_empty())
            .min_by_key(|&at| at.abs_diff(level));
        let Some(latencies) = nearest.and_then(|at| self.seen.get(at)) else { return 0 };
        let mut sorted: Vec<_> = latencies.iter().copied().collect();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    }

    fn start(&mut self, call: CallId, work: f64) {
        self.running.push(Reverse((Finish(self.account + work), call)));
    }

    fn advance(&mut self, now: Nanos) {
        let elapsed = now.saturating_sub(self.as_of);
        self.account += elapsed as f64 / SECOND as f64 * self.speed;
        self.as_of = now;
    }
}

impl Eq for Finish {}

impl Ord for Finish {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Finish {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(slots: usize) -> Server {
        Server::new(&ServerPlan::with_slots(ServiceTime::Constant(1000.0), slots))
    }

    #[test]
    fn calls_beyond_the_slots_wait_in_line() {
        let (mut server, mut rng) = (server(2), fastrand::Rng::with_seed(0));
        (0..3).for_each(|call| server.take(0, call, &mut rng));
        let (at, _) = server.announce(0).unwrap();
        assert_eq!(at, SECOND);
        assert_eq!(
            (server.finished(at), server.finished(at), server.finished(at)),
            (Some(0), Some(1), None)
        );
        assert_eq!(server.in_flight(), 1);
        assert!(server.is_due(1));
        assert_eq!(server.announce(at).map(|(at, _)| at), Some(2 * SECOND));
    }

    #[test]
    fn a_change_of_speed_moves_what_is_under_way() {
        let (mut server, mut rng) = (server(1), fastrand::Rng::with_seed(0));
        server.take(0, 7, &mut rng);
        let (_, first) = server.announce(0).unwrap();
        // Half done, then stopped for a second, then at a quarter of the speed.
        server.set_speed(SECOND / 2, 0.0);
        assert_eq!(server.announce(SECOND / 2), None);
        assert!(!server.is_due(first));
        server.set_speed(SECOND * 3 / 2, 0.25);
        let (at, _) = server.announce(SECOND * 3 / 2).unwrap();
        assert_eq!(at, SECOND * 7 / 2);
        assert_eq!(server.finished(at - 1000), None);
        assert_eq!(server.finished(at), Some(7));
    }

    #[test]
    fn a_cold_server_warms_up_call_by_call() {
        let mut plan = ServerPlan::unlimited(ServiceTime::Constant(100.0));
        plan.cold = Some(Cold { calls: 4, factor: 5.0 });
        let (mut server, mut rng) = (Server::new(&plan), fastrand::Rng::with_seed(0));
        let mut took = Vec::new();
        for call in 0..6 {
            let now = u64::from(call) * 10 * SECOND;
            server.take(now, call, &mut rng);
            let (at, _) = server.announce(now).unwrap();
            assert_eq!(server.finished(at), Some(call));
            server.is_due(call + 1);
            took.push((at - now) / crate::MILLISECOND);
        }
        assert_eq!(took, [500, 400, 300, 200, 100, 100]);
    }
}
