//! Prequal, as an experiment.
//!
//! Wydrowski et al., "Load is not what you should balance: Introducing Prequal", NSDI 2024. Clients
//! ask servers how loaded they are, keep the last answers, and choose from them. It needs servers
//! that answer probes, which the other balancers do not; it is here to find out what that would buy.
//! It takes a lock at each pick, which one that calls go through in earnest must not.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleetward_core::balancing::{PickContext, ReadySet};
use fleetward_core::{Balancer, InstanceId};
use tokio::time::Instant;

/// How many answers are kept.
const POOL: usize = 16;
/// How many probes a call sends.
const PROBES: usize = 3;
/// How many answers a call discards, by turns the oldest and the worst.
const REMOVED: usize = 1;
/// How old an answer may be.
const AGE: Duration = Duration::from_secs(1);
/// A server is hot if it has more calls than this part of the last answers said.
const HOT: f64 = 0.84;
/// From how many answers that part is reckoned.
const RECENT: usize = 128;
/// By how much more probes are kept than are used up.
const SURPLUS: f64 = 1.0;

/// Chooses from a pool of answers to probes: the one with the least latency among those that are not
/// hot, or, if all are, the one with the fewest calls.
#[derive(Debug, Default)]
pub struct Prequal {
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    probes: VecDeque<Probe>,
    recent: VecDeque<u32>,
    remove_worst: bool,
}

#[derive(Debug)]
struct Probe {
    server: InstanceId,
    in_flight: u32,
    latency: u64,
    at: Instant,
    uses: u32,
}

impl Prequal {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Positions in a set of `n` to probe after a pick, all different.
    pub(crate) fn targets(&self, n: usize) -> Vec<usize> {
        fastrand::choose_multiple(0..n, PROBES.min(n))
    }

    /// Takes the answer to a probe.
    pub(crate) fn answered(&self, server: &InstanceId, in_flight: u32, latency: u64, at: Instant) {
        let mut pool = self.lock();
        if pool.recent.len() == RECENT {
            pool.recent.pop_front();
        }
        pool.recent.push_back(in_flight);
        if pool.probes.len() == POOL {
            pool.probes.pop_front();
        }
        pool.probes.push_back(Probe { server: server.clone(), in_flight, latency, at, uses: 0 });
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// More calls than this are hot.
    fn hot_above(&self) -> u32 {
        let mut sorted: Vec<_> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        let at = (sorted.len() as f64 * HOT) as usize;
        sorted.get(at).or(sorted.last()).copied().unwrap_or(u32::MAX)
    }

    fn remove_one(&mut self, hot: u32) {
        self.remove_worst = !self.remove_worst;
        let at = if self.remove_worst {
            (0..self.probes.len()).max_by_key(|&at| self.probes[at].rank(hot))
        } else {
            Some(0)
        };
        if let Some(at) = at {
            self.probes.remove(at);
        }
    }
}

impl Probe {
    /// Lower is better.
    fn rank(&self, hot: u32) -> (bool, u64) {
        if self.in_flight > hot { (true, u64::from(self.in_flight)) } else { (false, self.latency) }
    }
}

impl Balancer for Prequal {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        if endpoints.is_empty() {
            return None;
        }
        let mut pool = self.lock();
        let now = context.now();
        pool.probes.retain(|probe| now.saturating_duration_since(probe.at) <= AGE);
        let hot = pool.hot_above();
        let find = |probe: &Probe| {
            endpoints.members().binary_search_by(|m| m.instance().id().cmp(&probe.server)).ok()
        };
        let best = (0..pool.probes.len())
            .filter_map(|at| Some((at, find(&pool.probes[at])?)))
            .min_by_key(|&(at, _)| pool.probes[at].rank(hot));
        let Some((at, position)) = best.filter(|_| pool.probes.len() >= 2) else {
            return Some(fastrand::usize(..endpoints.len()));
        };
        // Our own call is one that the answer did not know of.
        pool.probes[at].in_flight += 1;
        pool.probes[at].uses += 1;
        if pool.probes[at].uses >= uses(endpoints.len()) {
            pool.probes.remove(at);
        }
        for _ in 0..REMOVED {
            pool.remove_one(hot);
        }
        Some(position)
    }
}

/// How often an answer may be used, so that the pool does not run dry. Whole on average: a fraction
/// is the chance of one more.
fn uses(servers: usize) -> u32 {
    let fresh = (1.0 - POOL as f64 / servers as f64) * PROBES as f64 - REMOVED as f64;
    if fresh <= 0.0 {
        return u32::MAX;
    }
    let uses = ((1.0 + SURPLUS) / fresh).max(1.0);
    uses as u32 + u32::from(fastrand::f64() < uses.fract())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetward_core::Instance;
    use fleetward_core::endpoints::Member;

    fn members(n: usize) -> Vec<Member> {
        let id = |at| Instance::new("10.0.0.1:80").unwrap().with_id(&format!("{at:05}")).unwrap();
        (0..n).map(|at| Member::detached(id(at))).collect()
    }

    #[test]
    fn cold_servers_go_by_latency_and_hot_ones_by_calls() {
        let (prequal, members, now) = (Prequal::new(), members(100), Instant::now());
        let answer = |at: usize, in_flight, latency| {
            prequal.answered(members[at].instance().id(), in_flight, latency, now);
        };
        let pick = || prequal.pick(&ReadySet::new(&members), &PickContext::new().with_now(now));
        for _ in 0..100 {
            answer(0, 1, 50);
        }
        answer(1, 9, 1);
        answer(2, 1, 20);
        // 1 is quick, but has more calls than most.
        assert_eq!(pick(), Some(2));
        prequal.lock().probes.clear();
        answer(3, 9, 1);
        answer(4, 8, 70);
        assert_eq!(pick(), Some(4));
    }
}
